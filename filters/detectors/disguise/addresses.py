"""Addresses whose `@` and dots are written as words, in brackets, or with blanks around; names of hosts made unclickable.

A unit begins with the name before such a sign and ends with the last label behind it. Brackets are a strong sign; the
bare words "at" and "dot" are English, so both are needed, with a name before that is no verb and a label that is no article.
"""

from __future__ import annotations

import re
from typing import Final

from filters.detectors.disguise.decoded import Decoded, Inner, Span, before
from filters.finding import Finding

# A local part has at most 64 characters (RFC 5321 4.5.3.1.1), a label at most 63 (RFC 1035 2.3.4).
_NAME_CHARS_MAX: Final = 64
_PARTS_MAX: Final = 6  # names or labels with written dots between, on each side
# What a name on the left can take with written dots in it: its unit begins no earlier.
REACH_CHARS: Final = 256
SCORE_MIN: Final = 0.5  # presidio's least for a bare host name

_LETTER: Final = r"A-Za-z0-9\u00c0-\u024f"
_NAME: Final = rf"[{_LETTER}+_%.'-]{{1,{_NAME_CHARS_MAX}}}"
_LABEL: Final = rf"[{_LETTER}](?:[{_LETTER}-]|\.(?=[{_LETTER}])){{0,62}}+"
_OPEN: Final = r"[\[({<*_|«]"
_CLOSE: Final = r"[\])}>*_|»]"
_AT_BRACKETS: Final = rf"[ \t]?{_OPEN}[ \t]?(?:(?i:at|ät|a)|[@＠]|艾特)[ \t]?{_CLOSE}[ \t]?"
_AT_WORDS: Final = r"[ \t](?:at|AT)[ \t]|-at-|[ \t]?艾特[ \t]?"
_DOT_BRACKETS: Final = rf"[ \t]?{_OPEN}[ \t]?(?:(?i:dot|punkt|point)|\.|点)[ \t]?{_CLOSE}[ \t]?"
_DOT_WORDS: Final = r"[ \t](?:dot|DOT)[ \t]|-dot-|[ \t]?点[ \t]?"
_DOT_SIGN: Final = r"[ \t]\.[ \t]?|\.[ \t\n](?=(?:com|net|org|cn)(?![A-Za-z]))"
_DOT: Final = rf"(?:{_DOT_BRACKETS}|{_DOT_WORDS})"
_ANY_DOT: Final = rf"(?:{_DOT_BRACKETS}|{_DOT_WORDS}|{_DOT_SIGN})"
_TRIGGER: Final = re.compile(
    rf"(?P<strong>{_AT_BRACKETS})|(?P<word>{_AT_WORDS})(?={_LABEL}{_DOT})|(?P<blank>[ \t\n][@＠﹫][ \t\n]?|[@＠﹫][ \t\n])(?={_LABEL})"
    rf"|(?P<sign>[@＠﹫])(?={_LABEL}{_ANY_DOT})|(?P<host>{_DOT_BRACKETS})|(?P<scheme>(?<![A-Za-z])(?i:hxxps?)(?=:|\[))"
)
_TAIL: Final = re.compile(rf"{_LABEL}(?:{_ANY_DOT}{_LABEL}){{0,{_PARTS_MAX}}}+")
_HOST_TAIL: Final = re.compile(
    rf"(?:\[?:\]?//)?{_LABEL}(?:(?:{_DOT_BRACKETS}|-dot-){_LABEL}){{0,{_PARTS_MAX}}}+(?::[0-9]{{1,5}})?(?:/[!-~]{{0,128}})?"
)
_TAIL_CHARS: Final = 12  # the longest written dot and a character of a label
# The names before a sign, on the reversed text.
_NAMES: Final = re.compile(
    rf"{_NAME}(?:(?:[ \t]?{_CLOSE}[ \t]?(?:(?i:tod|tknup|tniop)|\.|点)[ \t]?{_OPEN}[ \t]?|[ \t](?:tod|TOD)[ \t]|-tod-|[ \t]?点[ \t]?){_NAME}){{0,{_PARTS_MAX}}}"
)
_SPACED: Final = re.compile(
    rf"(?:[{_LETTER}._+-](?:[ ]|\Z)){{3,64}}"
)  # a name one character at a time, reversed or not
_SPACED_OPEN: Final = re.compile(rf"[ ]?(?:[{_LETTER}._+-](?:[ ]|\Z)){{1,64}}")  # one that may still become long enough
_SPACED_TAIL: Final = re.compile(rf"[{_LETTER}](?:[ ][{_LETTER}.-](?![{_LETTER}])){{3,64}}+")
# The end of a text that may be the begin of a sign, or a sign whose label is still being written.
_BEGUN_DOT: Final = rf"[ \t]?(?:{_OPEN}[ \t]?(?:\w{{0,5}}|\.)[ \t]?{_CLOSE}?|d|do|dot|D|DO|DOT|-d?o?t?|点|\.)?[ \t\n]?"
_BEGUN: Final = re.compile(
    rf"(?:[ \t]?{_OPEN}[ \t]?(?:\w{{0,5}}|[@＠.])[ \t]?{_CLOSE}?[ \t]?|[ \t](?:[aA]|at|AT)?|-(?:a|at|d|do|dot)?-?|[ \t]?艾?|[ \t](?:d|do|dot|D|DO|DOT)[ \t]?"
    rf"|(?:{_AT_WORDS}|[ \t\n]?[@＠﹫][ \t\n]?)(?:{_LABEL})?(?:{_BEGUN_DOT}))\Z"
)
_BEGUN_CHARS: Final = 96
# The beginnings of those that no "at" and no `@` comes before, on the reversed view.
_JUST_BEGUN: Final = re.compile(
    rb"[ \t]?[\])}>*_|\"]?[ \t]?(?:[\w\x01\x80-\xff]{0,5}|\.)[ \t]?[\[({<*_|\"]|(?:[aA]|ta|TA)?[ \t]|-?(?:a|ta|d|od|tod)?-|[ \t]?(?i:d|od|tod)[ \t]"
)
_JUST_BEGUN_CHARS: Final = 16
# Those that have one.
_SIGN_AHEAD: Final = re.compile(rb"@|\x02|[ \t-](?:at|AT)[ \t-]")
# Of names as they fold, and of what joins them.
_NAME_BYTES: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+_%.'-\x01"
_BLANKS: Final = frozenset((b" ", b"\t"))
_DOT_ENDS: Final = frozenset((b"t", b"T"))
_CLOSING: Final = frozenset((b"]", b")", b"}", b">", b"*", b"_", b"|", b'"', b"\x02"))
_OPENING: Final = frozenset((b"[", b"(", b"{", b"<"))
_REWRITE: Final = re.compile(
    rf"(?P<at>{_AT_BRACKETS}|{_AT_WORDS}|[ \t\n]?[@＠﹫][ \t\n]?)|(?P<dot>{_ANY_DOT})|(?P<scheme>(?i:hxxps?)(?=:|\[))|(?P<colon>\[:\]|\[:(?=//)|(?<=//)\])"
)
# Words before "at" that name nobody, and words behind it that name no host.
_BEFORE_AT: Final = (
    "look looking looked is are was were be been am me us you him her it them up available find found see saw shop order visit visiting "
    "here there work works working worked meet met arrive arrived stay live lives based hosted located just back over out down not or and "
    "that this one sold good great bad best laugh stare point pointing aim start end stop online everyone people now today"
)
_BEHIND_AT: Final = "the a an this that these those our your my his her their its all any each every no some least most first last once noon night"
_NO_NAME: Final = frozenset(_BEFORE_AT.split())
_NO_HOST: Final = frozenset(_BEHIND_AT.split())


class Addresses:
    """Finds them from a place in a text on, and says from where on a text to come could change something."""

    def __init__(self, inner: Inner) -> None:
        self._inner = inner

    def look(self, text: str, start: int, final: bool) -> tuple[list[Finding], int, int]:
        """Findings of signs at or behind `start` that are decided, where the next sign is to be looked for, and what is open."""
        found: list[Finding] = []
        at = start
        size = len(text)
        while True:
            sign = _TRIGGER.search(text, at)
            if sign is None:
                return found, at, len(text)
            first, end, spaced = _unit(text, sign)
            if not final and size - max(end, sign.end()) < _TAIL_CHARS:
                return found, sign.start(), min(first, _first(text, sign.start()))
            if first < sign.start() < end or sign["scheme"]:
                found += self._judged(text, first, end, sign, spaced)
            at = max(end, sign.end())

    def _judged(self, text: str, first: int, end: int, sign: re.Match[str], spaced: bool) -> list[Finding]:
        kind = sign.lastgroup
        name = text[first : sign.start()].lower()
        if kind in ("word", "blank") and not spaced:
            if name in _NO_NAME or re.split(r"[\s\[(.]", text[sign.end() : end].lower(), maxsplit=1)[0] in _NO_HOST:
                return []
            # A handle behind a word: "thanks @jane.doe".
            if kind == "blank" and not sign[0][-1].isspace() and not re.search(r"[._0-9+-]", name):
                return []
        form = _rewritten(text, first, end, spaced)
        host = kind in ("host", "scheme")
        kept = []
        for one in self._inner.find(before(text, first), form.text, text[end : end + 1]):
            if one.score < SCORE_MIN or not (
                one.entity == "EMAIL_ADDRESS" or (host and one.entity in ("URL", "IP_ADDRESS"))
            ):
                continue
            if not form.is_plain(text, 0, one.start, one.end):
                kept.append(Finding(one.entity, *form.source(one.start, one.end), one.score))
        return kept


def open_at(text: str, view: bytes) -> int:
    """Where an address may begin that the end of the text belongs to, or whose first sign is still to come.

    What is one with the last characters of the text, without a blank, is not looked for: it is held in any case.
    """
    size = len(text)
    first = size
    if _SIGN_AHEAD.search(view, max(0, size - _BEGUN_CHARS)) is not None:
        begun = _BEGUN.search(text, max(0, size - _BEGUN_CHARS))
        if begun is not None:
            first = _named(text, view, begun.start())
    elif _JUST_BEGUN.match(view[: -_JUST_BEGUN_CHARS - 1 : -1]) is not None:
        begun = _BEGUN.search(text, max(0, size - _JUST_BEGUN_CHARS))
        if begun is not None:
            first = _named(text, view, begun.start())
    return min(first, _named(text, view, size))


def _named(text: str, view: bytes, place: int) -> int:
    """As `_first`, or earlier; most names have nothing in them that is written otherwise."""
    if place < 3 or view[place - 2] == 0x20 or (view[place - 1] == 0x20 and view[place - 3] == 0x20):
        return _first(text, place)  # letters with blanks between
    tail = view[max(0, place - _NAME_CHARS_MAX) : place]
    ahead = tail.rstrip(_NAME_BYTES)
    if len(ahead) == 0 and place > len(tail):
        return _first(text, place)
    joint = ahead[-1:]
    if joint in _BLANKS:
        joint = ahead[-2:-1]
        if joint in _DOT_ENDS:
            return _first(text, place)
    if joint in _CLOSING or (joint in _OPENING and b"_" in tail):
        return _first(text, place)
    return place - len(tail) + len(ahead)


def _first(text: str, place: int) -> int:
    """Where the names begin that end at `place`."""
    left = text[max(0, place - REACH_CHARS) : place][::-1]
    names = _NAMES.match(left)
    spaced = _SPACED_OPEN.match(left)
    return place - max(names.end() if names else 0, spaced.end() if spaced else 0)


def _unit(text: str, sign: re.Match[str]) -> tuple[int, int, bool]:
    """Begin and end of the unit of a sign, and whether it is written one character at a time."""
    start, end = sign.span()
    if sign.lastgroup == "scheme":
        tail = _HOST_TAIL.match(text, end)
        return start, end if tail is None else tail.end(), False
    left = text[max(0, start - REACH_CHARS) : start][::-1]
    if sign.lastgroup == "blank":
        names = _SPACED.match(left)
        tail = _SPACED_TAIL.match(text, end)
        if names is not None and tail is not None:
            return start - len(names[0].rstrip()), tail.end(), True
    names = _NAMES.match(left)
    tail = (_HOST_TAIL if sign.lastgroup == "host" else _TAIL).match(text, end)
    first = start if names is None else start - names.end()
    if sign.lastgroup == "host" and (
        scheme := re.search(r"(?i:h(?:xx|tt)ps?)\[?:\]?//\Z", text[max(0, first - 12) : first])
    ):
        first -= len(scheme[0])
    return first, end if tail is None else tail.end(), False


def _rewritten(text: str, first: int, end: int, spaced: bool) -> Decoded:
    chars: list[str] = []
    spans: list[Span] = []

    def add(value: str, start: int, stop: int) -> None:
        chars.append(value)
        spans.extend([(start, stop)] * len(value))

    at = first
    if spaced:
        for n in range(first, end):
            if not text[n].isspace():
                add(text[n], n, n + 1)
        return Decoded("".join(chars), spans)
    while at < end:
        sign = _REWRITE.match(text, at, end)
        if sign is None or sign.end() == at:
            add(text[at], at, at + 1)
            at += 1
            continue
        value = {"at": "@", "dot": ".", "colon": ":" if ":" in sign[0] else ""}.get(sign.lastgroup or "")
        add("http" + sign[0][4:] if value is None else value, *sign.span())
        at = sign.end()
    return Decoded("".join(chars), spans)
