"""Single characters written otherwise: escapes, invisible characters, marks, other forms, look-alikes.

A unit is a run of characters without a blank, with the groups of digits beside it and a few words behind, in which one
of them stands. What percent, entities and backslashes mean is certain, so what is found in the decoded text counts as
if it had been written so. Look-alikes are read as Latin only in a unit that has an ASCII letter or digit beside one.
"""

from __future__ import annotations

import re
import unicodedata
from html.entities import html5
from typing import Final

from filters.detectors.disguise.decoded import Decoded, Span
from filters.detectors.disguise.numerals import NUMERALS

# Escapes inside escapes are undone this often (our choice: twice encoded is what redirects do, more is an attack on us).
DEPTH_MAX: Final = 2
# How far a unit reaches to the left and to the right of where the trick was seen.
REACH_CHARS: Final = 256
# And over words behind it, which a word that is now read may be about ("my pass​word is ...").
_AFTER_CHARS: Final = 48
_AFTER_WORDS: Final = 3

INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e01ef"
)
_MARKS: Final = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
# Superscripts, subscripts, letterlike signs, Roman numerals, circled and bracketed letters and digits, squared
# abbreviations, ligatures: what has a compatibility form that the view does not read.
_FORMS: Final = (
    "\u00b2\u00b3\u00b9\u2070-\u208e\u2100-\u214f\u2150-\u218b\u2460-\u24ff\u2776-\u2793\u3371-\u33df\ufb00-\ufb06\ufe50-\ufe6b"
    "\U0001f100-\U0001f189"
)
# Letters that are drawn like Latin ones in common typefaces (our choice: the alphabets that browsers warn of in host names).
_LOOK_ALIKES: Final = {
    **dict(zip("АВЕЅІЈКМНОРСТУХҮԚԜЗаеѕіјкморсухһԁԛԝүѵтнвгпиӏЬ", "ABESIJKMHOPCTYXYQW3aesijkmopcyxhdqwyvthbrnnlb", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαβγειικνορτυχω", "ABEZHIKMNOPTYXabyeiiknoptuxw", strict=True)),
    **dict(zip("օսնՕՏԼհցզոյքԱՍ", "ounOSLhgqnjpUU", strict=True)),
    **dict(zip("ɡɑɩʟᴀʙᴄᴅᴇɢʜɪᴊᴋᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢıⅼ", "gaiLABCDEGHIJKMNOPRSTUVWYZil", strict=True)),
}  # fmt: skip
# What unicodedata has no compatibility form for: digits in black or sans-serif circles.
_CIRCLED: Final = {chr(0x2776 + n): str(n + 1) for n in range(9)} | {chr(0x2780 + n): str(n + 1) for n in range(9)} | {chr(0x278A + n): str(n + 1) for n in range(9)} | {"⓿": "0"} | {chr(0x24F5 + n): str(n + 1) for n in range(9)}  # fmt: skip

_LOOK: Final = "".join(_LOOK_ALIKES)
# What borders a unit: blanks, quotes, angle brackets, and characters that no value holds.
_CHUNK_CHAR: Final = (
    rf"(?:[^\s<>\"\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f]|[{NUMERALS}]"
    r"|(?<=[A-Za-z0-9])[。｡](?=[A-Za-z0-9]))"
)
_ESCAPE: Final = (
    r"%[0-9A-Fa-f]{2}|&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,10});"
    r"|\\{1,8}+(?:u\{?[0-9A-Fa-f]{2,6}\}?|x[0-9A-Fa-f]{2})|(?<=\w)=(?:40|2[eE])(?=\w)"
)
ESCAPE: Final = re.compile(_ESCAPE)
# In texts that are not ASCII. A mark counts where it sits on something ASCII: accents of other alphabets are their own.
_OTHERWISE: Final = (
    rf"[{INVISIBLE}{_FORMS}]|(?<=[!-~])[{_MARKS}]"
    rf"|(?<=[A-Za-z0-9@._-])[{_LOOK}]|[{_LOOK}](?=[A-Za-z0-9@])|(?<=[A-Za-z0-9])[。｡](?=[A-Za-z0-9])"
)
OTHERWISE: Final = re.compile(_OTHERWISE)
# What a text has in which that finds something: each of them begins with one class, which is searched for fastest.
_SUSPECT: Final = re.compile(rf"[{INVISIBLE}{_FORMS}{_MARKS}{_LOOK}]")
_STOP: Final = re.compile(r"[。｡][A-Za-z0-9]")


def may_be_otherwise(text: str, start: int) -> bool:
    """False if OTHERWISE finds nothing in text[start:]."""
    return _SUSPECT.search(text, start) is not None or _STOP.search(text, start) is not None


_GROUP: Final = rf"(?:[\d()+.\-/&#;]{{1,24}}|[A-Z0-9{_LOOK}]{{2,6}})"
_TO_LEFT: Final = re.compile(rf"[。｡]?+(?:{_CHUNK_CHAR})*+(?:\s{_GROUP}(?!{_CHUNK_CHAR})){{0,8}}")  # on reversed text
_ALPHANUMERIC: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_CORE: Final = re.compile(rf"(?:{_CHUNK_CHAR})*+")
_GROUPS: Final = re.compile(rf"(?:\s{_GROUP}(?!{_CHUNK_CHAR})){{0,8}}+")
_GROUPS_OPEN: Final = re.compile(rf"(?:\s{_GROUP}){{0,8}}(?:\s(?:[\d()+.\-/&#;]{{0,24}}|[A-Z0-9{_LOOK}]))?[。｡]?\Z")
_WORDS: Final = re.compile(rf"(?:\s(?:{_CHUNK_CHAR}){{1,24}}+){{0,{_AFTER_WORDS}}}")
# Nothing can be found in a text without one of these.
_SECRET: Final = re.compile(r"(?i:pass|pwd|key|token|secret)|密码|口令")
_WORTH: Final = re.compile(
    rf"@|://|\d(?:[^\d]{{0,5}}\d){{5}}|[{NUMERALS}]{{3}}|[A-Za-z0-9+/_-]{{16}}|\.[A-Za-z]{{2}}|{_SECRET.pattern}"
)


def left_of(text: str, place: int) -> int:
    """Where the unit begins that holds text[place:place + 1]: bounded, and decided by the characters between."""
    if 0 < place < len(text) and text[place - 1] in "。｡" and text[place] not in _ALPHANUMERIC:
        return place  # that stop ends a sentence
    low = max(0, place - REACH_CHARS)
    match = _TO_LEFT.match(text[low:place][::-1])
    assert match is not None  # it matches the empty string
    return place - match.end()


def right_of(text: str, place: int, final: bool) -> tuple[int, int] | None:
    """Where the run of characters ends that holds text[place], and where its unit does; None if that is not decided yet."""
    size = len(text)
    high = min(size, place + REACH_CHARS)
    core = _CORE.match(text, place, high)
    assert core is not None
    end = max(core.end(), place + 1)
    if not final and size < place + REACH_CHARS and text[end:] in ("", "。", "｡"):
        return None
    groups = _GROUPS.match(text, end)
    assert groups is not None
    if not final and size - end < REACH_CHARS and _GROUPS_OPEN.match(text, end):
        return None
    stop = groups.end()
    if _SECRET.search(decoded(text[place - min(place, _AFTER_CHARS) : end]).text):
        if not final and size <= end + _AFTER_CHARS:
            return None
        words = _WORDS.match(text, end, end + _AFTER_CHARS)
        stop = max(stop, end if words is None else words.end())
    return end, stop


def is_worth(text: str) -> bool:
    """Whether there can be anything in a decoded text."""
    return _WORTH.search(text) is not None


def decoded(text: str) -> Decoded:
    """The text with all of it undone. Its length is at most that of the source times the longest compatibility form (18)."""
    chars: list[str] = list(text)
    spans: list[Span] = [(n, n + 1) for n in range(len(text))]
    for _ in range(DEPTH_MAX):
        joined = "".join(chars)
        if ESCAPE.search(joined) is None:
            break
        chars, spans = _unescaped(joined, spans)
    latin = _LOOKS.search("".join(chars)) is not None
    return _plain(chars, spans, latin=latin)


_LOOKS: Final = re.compile(rf"[A-Za-z0-9@._-][{_LOOK}]|[{_LOOK}][A-Za-z0-9@]")
_PERCENTS: Final = re.compile(r"(?:[%=][0-9A-Fa-f]{2})+")
_UNITS: Final = re.compile(r"\\+(?:u\{([0-9A-Fa-f]{2,6})\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))")


def _unescaped(text: str, spans: list[Span]) -> tuple[list[str], list[Span]]:
    chars: list[str] = []
    out: list[Span] = []
    at = 0
    high = 0  # the first half of a surrogate pair stands at the end of `chars`
    for match in ESCAPE.finditer(text):
        start, end = match.span()
        if start < at:
            continue
        value, end = _value(text, start, end)
        if not value:
            continue
        chars += text[at:start]
        out += spans[at:start]
        if high and start == at and len(value[0][0]) == 1 and "\udc00" <= value[0][0] <= "\udfff":
            joined = 0x10000 + (high - 0xD800 << 10) + ord(value[0][0]) - 0xDC00
            chars[-1] = chr(joined)
            out[-1] = (out[-1][0], spans[end - 1][1])
        else:
            for char, first, last in value:
                chars.append(char)
                out.append((spans[first][0], spans[last - 1][1]))
        high = ord(chars[-1]) if "\ud800" <= chars[-1] <= "\udbff" else 0
        at = end
    chars += text[at:]
    out += spans[at:]
    return chars, out


def _value(text: str, start: int, end: int) -> tuple[list[tuple[str, int, int]], int]:
    """What the escape at `start` stands for: characters with their places, and where it ends. Empty if nothing."""
    if text[start] in "%=":
        run = _PERCENTS.match(text, start) if text[start] == "%" else None
        end = end if run is None else run.end()
        return _bytes(text, start, end), end
    if text[start] == "&":
        name = text[start + 1 : end]
        if name[0] != "#":
            known = html5.get(name, "")
            return [(char, start, end) for char in known], end
        code = int(name[2:-1], 16) if name[1] in "xX" else int(name[1:-1])
        return ([(chr(code), start, end)] if 0 < code < 0x110000 else []), end
    unit = _UNITS.match(text, start)
    if unit is None:
        return [], end
    code = int(unit[1] or unit[2] or unit[3], 16)
    return ([(chr(code), start, unit.end())] if code < 0x110000 else []), unit.end()


def _bytes(text: str, start: int, end: int) -> list[tuple[str, int, int]]:
    """Percent-encoded bytes as UTF-8, each character with its place; what is no UTF-8 is read as Latin-1."""
    data = bytes(int(text[n + 1 : n + 3], 16) for n in range(start, end, 3))
    out: list[tuple[str, int, int]] = []
    at = 0
    while at < len(data):
        size = 1 if data[at] < 0xC0 else 2 if data[at] < 0xE0 else 3 if data[at] < 0xF0 else 4
        char = data[at : at + size].decode("utf-8", "ignore")
        if len(char) != 1:
            char, size = chr(data[at]), 1
        out.append((char, start + 3 * at, start + 3 * (at + size)))
        at += size
    return out


DROPPED: Final = re.compile(rf"[{INVISIBLE}{_MARKS}]")


def _plain(chars: list[str], spans: list[Span], *, latin: bool) -> Decoded:
    out: list[str] = []
    places: list[Span] = []
    for n, (char, span) in enumerate(zip(chars, spans, strict=True)):
        if char.isascii():
            out.append(char)
            places.append(span)
            continue
        if DROPPED.match(char):
            tag = ord(char) - 0xE0000
            if 0x30 <= tag <= 0x7E:  # tag characters spell ASCII (Unicode 15.1, section 23.9)
                out.append(chr(tag))
                places.append(span)
            elif places:  # what is dropped belongs to the character that it hides or adorns
                places[-1] = (places[-1][0], span[1])
            continue
        form = _CIRCLED.get(char) or (_LOOK_ALIKES.get(char) if latin else None)
        if form is None and char in "。｡" and 0 < n < len(chars) - 1 and (chars[n - 1] + chars[n + 1]).isascii():
            form = "."
        if form is None:
            form = unicodedata.normalize("NFKC", char)
            if not form.isascii():
                form = char
        out += form
        places += [span] * len(form)
    return Decoded("".join(out), places)
