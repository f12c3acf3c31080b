"""The view that patterns run on: one byte for each code point, so offsets need no map.

ASCII stays. What people write for an ASCII character (full-width forms, other decimal digits, accented Latin letters,
typographic spaces and dashes) becomes that character, so `４１１１` is read as `4111`. Every other character becomes
FOREIGN_LETTER (letters and marks of alphabets written with spaces, which may stand in a mail address) or FOREIGN
(Han, kana, emoji, symbols, lone surrogates): no pattern accepts FOREIGN and it is no word character, so a number beside Chinese has a border.

Folding looks at one code point at a time; a text folds the same however it is cut.
"""

from __future__ import annotations

import codecs
import unicodedata
from typing import Final

FOREIGN_LETTER: Final = "\x01"
FOREIGN: Final = "\x02"
END: Final = b"\n"  # appended to the view when a channel has ended: a separator for every scanner

# Characters that people type for an ASCII one and that have no compatibility decomposition to it.
_BY_HAND: Final = {
    "ß": "s", "ẞ": "S", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "t", "Þ": "T",
    "æ": "a", "Æ": "A", "œ": "o", "Œ": "O", "ı": "i", "ħ": "h", "Ħ": "H", "ŋ": "n", "Ŋ": "N",
    "‘": "'", "’": "'", "‛": "'", "′": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
    # Chinese punctuation borders a number; it is not typed for the ASCII mark.
    "！": FOREIGN, "，": FOREIGN, "：": FOREIGN, "；": FOREIGN, "？": FOREIGN,
    "⁄": "/", "∕": "/", "⁓": "~", "∼": "~", "ー": "-", "−": "-", "‐": "-", "‑": "-",
    # Invisible characters inside a number or an address hide it from patterns; as a hyphen they only separate.
    "\u00ad": "-", "\u200b": "-", "\u200c": "-", "\u200d": "-", "\u2060": "-", "\ufeff": "-", "\u180e": "-",
}  # fmt: skip
# Letters above this code point belong to scripts written without spaces, or to none (our choice: Devanagari starts there).
_ALPHABETS_END: Final = 0x0900
# Memory of the table: 64 Ki entries are at most 8 MB; what does not fit is worked out again.
_MEMO_MAX: Final = 1 << 16


def _fold_one(char: str) -> str:
    by_hand = _BY_HAND.get(char)
    if by_hand is not None:
        return by_hand
    category = unicodedata.category(char)
    sign = plain_sign(char, category)
    if sign is not None:
        return sign
    first = unicodedata.normalize("NFKD", char)[0]
    # Superscripts and circled digits decompose to digits too, but nobody writes card numbers so: letters, full-width only.
    if "!" <= first <= "~" and (category[0] == "L" or "！" <= char <= "～"):
        return first
    return FOREIGN_LETTER if category[0] in "LM" and ord(char) < _ALPHABETS_END else FOREIGN


def plain_sign(char: str, category: str) -> str | None:
    """The ASCII of a digit, a dash or a blank of whatever script; None of any other character. `category`: its Unicode category."""
    if category == "Nd":
        return str(unicodedata.digit(char))
    if category == "Pd":
        return "-"
    if category[0] == "Z":
        return " " if category == "Zs" else "\n"
    return None


class _Table(dict[int, str]):
    def __missing__(self, code: int) -> str:
        # Han and hangul, the bulk of what is not ASCII, need no look at the character database.
        folded = FOREIGN if 0x3400 <= code <= 0x9FFF or 0xAC00 <= code <= 0xDFFF else _fold_one(chr(code))
        if len(self) < _MEMO_MAX:
            self[code] = folded
        return folded


_TABLE: Final = _Table()


def _on_non_ascii(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return error.object[error.start : error.end].translate(_TABLE).encode("ascii"), error.end


codecs.register_error("licet-fold", _on_non_ascii)


def fold(text: str) -> bytes:
    """The view of a text; `len(fold(text)) == len(text)`."""
    return text.encode("ascii", "licet-fold")
