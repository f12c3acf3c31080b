"""The walk over a channel: cheap gates for what is mostly there, prose, and the three kinds of unit behind them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from filters.detectors.disguise import addresses, characters
from filters.detectors.disguise.addresses import Addresses
from filters.detectors.disguise.decoded import Inner, before
from filters.detectors.disguise.numbers import FIGURES_MIN, HAN_ROW, HANS, SPOKEN_BYTES, SPOKEN_CHARS_MIN, Numbers
from filters.detectors.disguise.numerals import WORDS
from filters.finding import Finding

SCORE_MIN: Final = 0.4  # of what is found in undone escapes: a policy's own least, for what is read as it stands

# A few words, as a stream brings them: no digit, no mark that could be a trick, no word that is a digit or stands for a
# sign ("at" does not where no "dot" can follow), and a letter behind. What is left is at most one word that is being written.
_DIGIT_WORD: Final = (
    rb"(?:zero|oh|nought|naught|one|two|three|four|five|six|seven|eight|nine|double|triple)(?![A-Za-z])"
)
_NO_DOT: Final = rb" (?!(?i:" + _DIGIT_WORD + rb"|at))[A-Za-z]{2,40}+[ \n](?=[A-Za-z])(?!(?i:d|do|dot|at)(?![A-Za-z]))"
_SIGN_WORD: Final = rb"(?i:at(?![A-Za-z])(?!" + _NO_DOT + rb")|dot(?![A-Za-z]))"
_DULL_WORD: Final = (
    rb"(?!(?i:" + _DIGIT_WORD + rb"|hxx)|" + _SIGN_WORD + rb")(?:[A-Za-z]{2,40}+|[AaI](?=[ \n][A-Za-z]{2}))[,.;:!?]?"
)
# The next word must not be, nor begin as, one that stands for a sign.
_DULL: Final = re.compile(
    rb"(?:"
    + _DULL_WORD
    + rb"[ \n]{1,2}(?=[A-Za-z])(?!"
    + _SIGN_WORD
    + rb"|(?i:a|d|do)\Z))*+(?=[A-Za-z]{0,40}[,.;:!?]?[ \n]?\Z)"
)
_DULL_CHARS_MAX: Final = 64  # above it the gates are cheaper
# What a run of characters ends with (and more: some foreign characters belong to it); it is looked at no later than here.
_BREAKS: Final = re.compile(rb"[\x00-\x20\"<>]")
_CHUNK_CHARS_MAX: Final = characters.REACH_CHARS + 128


def _ranges(first: int, last: int, without: frozenset[str]) -> Iterator[tuple[str, str]]:
    at = first
    for code in [*sorted(map(ord, without)), last + 1]:
        if first <= code <= last + 1 and code > at:
            yield chr(at), chr(code - 1)
        at = max(at, code + 1)


# What can be left out of an ASCII text without losing a trick: letters, but for the capital of DOT, and the marks of prose.
_PROSE: Final = bytes(n for n in range(128) if chr(n).isalpha() or chr(n) in " \n\r\t,.;:!?'\"-\x01\x02").replace(
    b"D", b""
)
_SPOKEN: Final = bytes(0x78 if n in SPOKEN_BYTES else 0x2E for n in range(256))
_ROW: Final = b"x" * SPOKEN_CHARS_MIN
_DIGITS: Final = b"0123456789"
_HAN_ROW: Final = re.compile(HAN_ROW)
# Chinese prose, as a stream brings it: nothing that is a digit, a sign or a border of an address.
_NOT_DULL: Final = frozenset(HANS + "艾特点")
_DULL_HAN: Final = re.compile(
    "[" + "".join(f"{a}-{b}" for a, b in _ranges(0x3400, 0x9FFF, _NOT_DULL)) + "，；：！？、“”《》]*+\\Z"
)


class DisguiseScanner:
    """One channel's walk. Each kind keeps the place behind its last unit; `at` is where the earliest open unit begins."""

    def __init__(self, inner: Inner) -> None:
        self._inner = inner
        self._numbers = Numbers(inner)
        self._addresses = Addresses(inner)
        self._at = 0
        self._number_at = 0
        self._address_at = 0
        self._character_at = 0
        self._seen = 0  # what was looked at
        self._chunk = (
            False  # `at` is where it is because of a run of characters that goes on until one of _BREAKS comes
        )
        self._unit = (0, 0)  # the last of characters.py: two tricks in one are one unit

    def __copy__(self) -> DisguiseScanner:
        other = DisguiseScanner.__new__(DisguiseScanner)
        other.__dict__.update(self.__dict__)
        return other

    @property
    def at(self) -> int:
        return self._at

    def drop(self, chars: int) -> None:
        self._at -= chars
        self._number_at -= chars
        self._address_at -= chars
        self._character_at -= chars
        self._seen -= chars
        self._unit = (self._unit[0] - chars, self._unit[1] - chars)

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        at = self._at
        size = len(text)
        if not final:
            # Whatever is written in a run of characters is looked at when it has ended: it is held until then anyway.
            if self._chunk and size - at <= _CHUNK_CHARS_MAX and _BREAKS.search(view, self._seen) is None:
                self._seen = size
                return []
            if size - at <= _DULL_CHARS_MAX:
                dull = _DULL.match(view, at)
                if dull is not None:
                    # Behind a blank the next letter tells that the word before it is over.
                    self._stand(dull.end(), size, chunk=view[-1:] > b"@")
                    return []
                if _DULL_HAN.match(text, at) is not None:
                    self._stand(size, size, chunk=True)
                    return []
        numbers, characters_, addresses_ = _gates(text, view, at)
        found: list[Finding] = []
        number_at = max(self._number_at, at)
        if not numbers:
            # No chain of this text can be long, so an open one begins near its end.
            number_at = max(number_at, size - characters.REACH_CHARS)
        if numbers or not final:
            more, self._number_at = self._numbers.look(text, number_at, final)
            found += more
        open_at = self._number_at if not final else size
        if addresses_:
            more, self._address_at, first = self._addresses.look(text, max(self._address_at, at), final)
            found += more
            open_at = min(open_at, first)
        if characters_:
            more, first = self._characters(text, max(self._character_at, at), final)
            found += more
            open_at = min(open_at, first)
        if final:
            self._stand(max(at, open_at), size, chunk=False)
            return found
        left = max(at, characters.left_of(text, size))
        self._stand(max(at, min(open_at, left, addresses.open_at(text, view))), size, chunk=False)
        self._chunk = self._at == left
        return found

    def _stand(self, at: int, size: int, *, chunk: bool) -> None:
        self._at = at
        self._seen = size
        self._chunk = chunk

    def _characters(self, text: str, start: int, final: bool) -> tuple[list[Finding], int]:
        """Findings in units of characters.py from `start` on, and where the first begins that is not decided."""
        found: list[Finding] = []
        at = start
        escape: re.Match[str] | None = None
        other: re.Match[str] | None = None
        escapes, others = True, not text.isascii()
        while True:
            if escapes and (escape is None or escape.start() < at):
                escape = characters.ESCAPE.search(text, at)
                escapes = escape is not None
            if others and (other is None or other.start() < at):
                other = characters.OTHERWISE.search(text, at)
                others = other is not None
            places = [m.start() for m, any_ in ((escape, escapes), (other, others)) if any_ and m is not None]
            if not places:
                self._character_at = at
                return found, len(text)
            place = min(places)
            ends = characters.right_of(text, place, final)
            first = characters.left_of(text, place)
            if ends is None:
                self._character_at = place
                return found, first
            unit = (first, ends[1])
            if unit != self._unit:
                found += self._undone(text, *unit)
                self._unit = unit
            at = ends[0]

    def _undone(self, text: str, start: int, end: int) -> list[Finding]:
        form = characters.decoded(text[start:end])
        if not characters.is_worth(form.text) or form.text == text[start:end]:
            return []
        left = before(text, start)
        right = text[end : end + 1]
        shift = len(left)
        whole = left + form.text + right
        listed = [f for f in self._inner.find(left, form.text, right) if f.score >= SCORE_MIN]
        for more in (self._numbers.look(whole, shift, True)[0], self._addresses.look(whole, shift, True)[0]):
            for one in more:
                first, last = one.start - shift, one.end - shift
                # What stands there unchanged is found where it stands.
                if last <= len(form.text) and not form.is_plain(text, start, first, last):
                    listed.append(one._replace(start=first, end=last))
        if not listed:
            return []
        # What the patterns read as it stands is theirs to report.
        plain = [
            f._replace(start=f.start + start, end=f.end + start) for f in self._inner.find(left, text[start:end], right)
        ]
        found: dict[Finding, None] = {}
        for one in listed:
            first, last = form.source(one.start, one.end)
            mapped = Finding(one.entity, first + start, last + start, one.score)
            if not any(p.entity == one.entity and _is_same(text, p, mapped) for p in plain):
                found[mapped] = None
        return list(found)


def _is_same(text: str, plain: Finding, mapped: Finding) -> bool:
    """Whether a finding in the text as it stands covers the other, but for invisible characters behind."""
    behind = text[plain.end : mapped.end]
    return plain.start <= mapped.start and not characters.DROPPED.sub("", behind)


def _gates(text: str, view: bytes, at: int) -> tuple[bool, bool, bool]:
    """Whether there can be numbers, characters and addresses written otherwise in text[at:]."""
    numbers = characters_ = addresses_ = False
    if not text.isascii():
        characters_ = characters.may_be_otherwise(text, at)
        numbers = _HAN_ROW.search(text, at) is not None
        addresses_ = text.find("艾特", at) >= 0
    seen = view[at:] if at else view
    marks = seen.translate(None, _PROSE)
    numbers = (
        numbers
        or (len(seen) >= SPOKEN_CHARS_MIN and _has_row(seen))
        or (b"ouble" in seen and _DOUBLE.search(seen) is not None)
    )
    addresses_ = addresses_ or b"dot" in seen
    if marks:
        letters = marks.translate(None, _DIGITS)
        numbers = numbers or len(marks) - len(letters) >= FIGURES_MIN
        characters_ = characters_ or _ESCAPES.search(letters) is not None
        addresses_ = addresses_ or (_SIGNS.search(letters) is not None and _has_sign(seen, letters))
    return numbers, characters_, addresses_


def _has_sign(seen: bytes, marks: bytes) -> bool:
    """Whether there can be a sign of addresses.py other than "dot"."""
    if b"@" in marks and _BLANK_SIGN.search(seen) is not None:
        return True
    if b"D" in marks and b"DOT" in seen:
        return True
    if (b"/" in marks or b"[" in marks) and _SCHEME.search(seen) is not None:
        return True
    return _BRACKETED.search(seen) is not None


_BLANK_SIGN: Final = re.compile(rb"[ \t\n]@|@[ \t\n]|[ \t]\.|\.[ \t\n](?:com|net|org|cn)|\x02")
_SCHEME: Final = re.compile(rb"[hH][xX][xX][pP]")
_BRACKETED: Final = re.compile(
    rb"[\[({<*_|\"][ \t]?(?:[@.\x02]|\x02\x02|[aA]|[aA\x01][tT]|(?i:dot|punkt|point))[ \t]?[\])}>*_|\"]"
)


def _has_row(seen: bytes) -> bool:
    """Whether there can be a row of digits in words."""
    letters = seen.translate(_SPOKEN)
    start = letters.find(_ROW)
    while start >= 0:
        end = letters.find(b".", start)
        if _FEW.search((seen[start:end] if end >= 0 else seen[start:]).lower()) is not None:
            return True
        start = letters.find(_ROW, end) if end >= 0 else -1
    return False


_WORDS: Final = b"|".join(word.encode() for word in WORDS)
_DOUBLE: Final = re.compile(rb"ouble(?:[^A-Za-z0-9]|<[^<>]{1,8}>){0,6}(?i:" + _WORDS + rb")")
_FEW: Final = re.compile(rb"[^a-z](?:" + _WORDS + rb")[^a-z]{1,5}(?:" + _WORDS + rb")[^a-z]")
_ESCAPES: Final = re.compile(rb"[%&\\=]")
_SIGNS: Final = re.compile(rb"[@\[({<*_|/D]")
