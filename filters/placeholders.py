"""How placeholders may be written: the tree of those that were issued, where one may begin, and the walk that reads it.

A form is read as symbols: letters in lower case as view.py folds them, and a blank for any run of separators. A walk
follows them from one place of a text and looks at no more than REACH_CHARS characters from there. It says which placeholder it
found, and whether the text ended while there was still a way on: then what comes next may decide otherwise.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from filters.view import FOREIGN, FOREIGN_LETTER, fold

# The longest stretch of an answer that is read as one placeholder: twice the longest form, for separators. Our choice.
REACH_CHARS: Final = 256
FORM_CHARS_MAX: Final = 128  # longer values get a tag, not a surrogate
# Separators in a row that still count as one gap: a line break with the indent of a list below it, a mark with its escape.
_GAP_CHARS_MAX: Final = 6


NONE: Final = -1
OPEN: Final = -2

WORD: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_\x01")
_LOWER: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz")
_BLANKS: Final = b" \n\r\t"
TAG_GAPS: Final = frozenset(_BLANKS + b"_-\\*`:#")
_BARE_GAPS: Final = frozenset(b"_\\")
WORD_GAPS: Final = frozenset(_BLANKS + b"_-\\*`,./'")
NUMBER_GAPS: Final = frozenset(_BLANKS + b"_-\\./()")
_EDGE_GAPS: Final = frozenset(_BLANKS + b"\\*`/")
_HELD: Final = (ord(FOREIGN), ord(FOREIGN_LETTER))
LEADS: Final = "+("
NUMBER_SYMBOLS_MIN: Final = 5  # of a shorter number nobody could tell whether it is one's own

# Opening and closing marks by family, as the view has them or, where it has none, as they are written.
_OPENING: Final = {"<": 0, "[": 1, "{": 2, "〈": 0, "《": 0, "‹": 0, "⟨": 0, "【": 1, "〔": 1, "「": 1}
_CLOSING: Final = ({*">〉》›⟩"}, {*"]】〕」"}, {*"}"})
_OPENING_SPELLED: Final = (b"&lt;", b"&#60;", b"&#x3c;", b"\\u003c")
_CLOSING_SPELLED: Final = (b"&gt;", b"&#62;", b"&#x3e;", b"\\u003e")
SPELLED_CHARS_MAX: Final = 6

_WORD_CHARS: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_ALNUM: Final = WORD - frozenset(b"_\x01")
_WORD_CLASS: Final = "0-9A-Za-z_"
_WORD_REST: Final = re.compile(f"[{_WORD_CLASS}]*+")
# Characters of scripts that put no blank between words; looked at in runs of a bounded length, so that a long run is not
# matched again from each of its characters.
_RUN_FIRST: Final = "\u2e80"
_RUN_LAST: Final = "\ud7ff"
_RUN_CLASS: Final = f"{_RUN_FIRST}-{_RUN_LAST}"
_RUN: Final = re.compile(f"[{_RUN_CLASS}]{{1,64}}")
# What separators are, in the symbols of a form.
_RUNS_OF: Final = {
    gaps: re.compile(b"[" + re.escape(bytes(sorted(gaps))) + b"]+") for gaps in (TAG_GAPS, WORD_GAPS, NUMBER_GAPS)
}


@dataclass(frozen=True, slots=True, repr=False)
class Value:
    text: str
    plain: str  # for what was written without a comma


class Node:
    __slots__ = ("next", "value")

    def __init__(self) -> None:
        self.next: dict[str, Node] = {}
        self.value: Value | None = None

    def add(self, form: Iterable[str], value: Value) -> None:
        """Adds a form; one that is there already stays."""
        node = self
        for symbol in form:
            following = node.next.get(symbol)
            if following is None:
                following = node.next[symbol] = Node()
            node = following
        if node.value is None:
            node.value = value


class Match(NamedTuple):
    start: int
    end: int
    value: Value


def symbols(form: str, gaps: frozenset[int]) -> str:
    """A form as the walk reads it: characters in lower case, and a blank for each run of separators."""
    view = fold(form)
    if not gaps:
        pass
    elif form.isascii():
        return _RUNS_OF[gaps].sub(b" ", view).decode("ascii").lower().strip()
    read: list[str] = []
    for byte, char in zip(view, form, strict=True):
        if byte not in gaps:
            read.append(char.lower() if byte in _HELD else chr(byte).lower())
        elif read and read[-1] != " ":
            read.append(" ")
    return "".join(read).rstrip() if gaps else "".join(read)


def _class(chars: Iterable[str]) -> str:
    """The inside of a character class of these."""
    return "".join(re.escape(char) for char in sorted(chars))


def _wide(chars: Iterable[str]) -> set[str]:
    """These, and those of them that have a full-width form in it."""
    return {wide for char in chars for wide in (char, chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char)}


@functools.lru_cache(maxsize=256)
def _skip(heads: frozenset[str], marks: frozenset[str], runs: bool) -> re.Pattern[str]:
    """Matches what no placeholder begins in: whole words with another head, and what is neither word nor mark."""
    words = _class(frozenset(_WORD_CHARS) - heads)
    outside = f"[^{_WORD_CLASS}{_class(marks)}{_RUN_CLASS if runs else ''}]++"
    return re.compile(f"(?:{outside}|[{words}][{_WORD_CLASS}]*+)*+" if words else f"(?:{outside})*+")


class Starts:
    """Where placeholders may begin: at the first symbols of tags, or of the other forms."""

    def __init__(self, tags: Node, others: Iterable[Node]) -> None:
        heads = {head for node in others for head in node.next}
        labels = set(tags.next)
        found = {label.upper() for label in labels}.union(heads, (h.upper() for h in heads if len(h.upper()) == 1))
        marks = {char for char in found if char not in _WORD_CHARS}
        if labels:
            marks |= {*_OPENING, "&", "\\", "("}
        # In scripts that put no blank between words a placeholder may begin and end anywhere.
        self._run_heads = frozenset(mark for mark in marks if _RUN_FIRST <= mark < _RUN_LAST)
        self._runs = any(mark not in _OPENING for mark in self._run_heads)
        if self._runs:
            marks -= self._run_heads
        words = frozenset(found & _WORD_CHARS)
        self._skip = _skip(words, frozenset(_wide(marks | words) - _WORD_CHARS), self._runs)
        # What may stand second, where a letter or digit is first and second, and behind marks.
        self._pairs = frozenset(h + c for node in (tags, *others) for h, after in node.next.items() for c in after.next)
        behind = frozenset(
            "".join(labels).encode("ascii", "ignore") + "".join(labels).upper().encode("ascii", "ignore")
        )
        self._behind: dict[int, frozenset[int]] = {}
        if labels:
            for mark in b"<[{":
                self._behind[mark] = behind | TAG_GAPS | {mark}
            self._behind[ord("&")] = frozenset(b"lL#")
            self._behind[ord("\\")] = frozenset(b"<[{uU" + FOREIGN.encode())
            self._behind[ord("(")] = behind
        if "(" in heads:
            self._behind[ord("(")] = behind | NUMBER_GAPS | WORD
        for head in heads.difference("("):
            self._behind.pop(ord(head), None)

    def next(self, text: str, view: bytes, at: int) -> int:
        """The next place from `at` on where a placeholder may begin, or the end of the text."""
        size = len(text)
        while at < size:
            if at and view[at - 1] in WORD:
                at = _WORD_REST.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty string
            at = self._skip.match(text, at).end()  # type: ignore[union-attr]  # and so does this
            if at >= size:
                break
            if self._runs:
                run = _RUN.match(text, at)
                if run is not None:
                    at, end = run.span()
                    if not self._run_heads.isdisjoint(run[0]):
                        while at < end and text[at] not in self._run_heads:
                            at += 1
                        if at < end:
                            break
                    at = end
                    continue
            if at + 1 == size:
                break
            first, second = view[at], view[at + 1]
            behind = self._behind.get(first)
            if behind is not None:
                if second in behind:
                    break
            elif first not in _ALNUM or second not in _ALNUM or chr(first | 32) + chr(second | 32) in self._pairs:
                break
            at += 1
        return at


class Walk:
    """One place of one text."""

    __slots__ = ("at", "final", "limit", "opened", "size", "text", "view")

    def __init__(self, text: str, view: bytes, at: int, final: bool) -> None:
        self.text = text
        self.view = view
        self.at = at
        self.final = final
        self.size = len(text)
        self.limit = min(self.size, at + REACH_CHARS)
        self.opened = False  # some way on is left at the end of the text

    def plain(self, root: Node, gaps: frozenset[int] | None) -> Match | None:
        """Words with separators where the form has them; without `gaps`, the form as it is."""
        node = root
        i = self.at
        best: Match | None = None
        wide = False  # the last symbol is of a script without blanks
        while True:
            if node.value is not None:
                end = i if wide else self._border(i, plural=gaps is not None)
                if end == OPEN:
                    self.opened = True
                elif end >= 0:
                    best = Match(self.at, end, node.value)
            if i >= self.limit:
                self._ran_out(i, node)
                return best
            byte = self.view[i]
            if gaps is not None and byte in gaps:
                following = node.next.get(" ")
                if following is not None:
                    i = self._gap(i, gaps)
                    node = following
                    continue
                if not wide or byte not in _BLANKS:
                    return best
                i += 1  # one blank between two characters of such a script
                if i >= self.limit:
                    self._ran_out(i, node)
                    return best
                byte = self.view[i]
            symbol = self.text[i].lower() if byte in _HELD else chr(byte).lower()
            following = node.next.get(symbol)
            if following is None:
                return best
            wide = symbol >= _RUN_FIRST
            node = following
            i += 1

    def number(self, root: Node) -> Match | None:
        """Letters and digits with separators anywhere; a `+` or `(` before them if the form begins with it."""
        start = self.at
        lead = chr(self.view[start])
        node = root
        i = start
        best: Match | None = None
        if lead in LEADS:
            if lead not in root.next:
                return None
            node = root.next[lead]
            i += 1
        while True:
            if node.value is not None:
                end = self._border(i, plural=False)
                if end == OPEN:
                    self.opened = True
                elif end >= 0:
                    first = start
                    opening = self.view.count(b"(", start, end) - self.view.count(b")", start, end)
                    if opening > 0 and end >= self.size and not self.final:
                        self.opened = True
                    elif opening > 0 and end < self.size and self.view[end] == 0x29 and lead != "(":
                        end += 1
                    elif opening > 0 and lead == "(":
                        first = start + 1  # the parenthesis is not the number's
                    best = Match(first, end, node.value)
            if i >= self.limit:
                self._ran_out(i, node)
                return best
            if self.view[i] in NUMBER_GAPS and node is not root:
                i = self._gap(i, NUMBER_GAPS)
                if i >= self.limit:
                    self._ran_out(i, node)
                    return best
            byte = self.view[i]
            following = node.next.get(self.text[i].lower() if byte in _HELD else chr(byte).lower())
            if following is None:
                return best
            node = following
            i += 1

    def tag(self, root: Node) -> Match | None:
        """A label and its number in brackets."""
        i = self.at
        if self.view[i] == 0x5C and not self._spelled(i, _OPENING_SPELLED):
            i += 1  # an escaped bracket
            if i >= self.size:
                self.opened |= not self.final
                return None
        first = i
        spelled = self._spelled(i, _OPENING_SPELLED)
        if spelled:
            if spelled == OPEN:
                self.opened = True
                return None
            family = 0
            i += spelled
        else:
            found = _OPENING.get(self.text[i] if self.view[i] in _HELD else chr(self.view[i]))
            if found is None:
                return None
            family = found
            i += 1
        twice = not spelled and i < self.size and self.view[i] == self.view[first] and self.view[i] not in _HELD
        i = self._gap(i + twice, TAG_GAPS)
        return self._label(root, i, TAG_GAPS, lambda j: self._closed(j, family, twice), upper=False)

    def bare(self, root: Node, alone: bool) -> Match | None:
        """A label and its number without brackets, in capitals and with underscores. `alone`: in any way."""
        at = self.at
        if alone:
            return self._label(root, at, TAG_GAPS, self._bare_border, upper=False)
        if at and (self.view[at - 1] in WORD or self.view[at - 1] in b"$.-"):
            return None
        return self._label(root, at, _BARE_GAPS, self._bare_border, upper=True)

    def parenthesized(self, root: Node) -> Match | None:
        """The same in lower case between parentheses, which are not part of it; behind a word they are a function's."""
        at = self.at
        if self.view[at] != 0x28 or (at and self.view[at - 1] in WORD):
            return None
        if at + 1 < self.size and self.view[at + 1] not in _LOWER:
            return None
        found = self._label(root, at + 1, _BARE_GAPS, self._parenthesis, upper=False)
        return None if found is None else Match(at + 1, found.end, found.value)

    def _label(
        self, root: Node, i: int, gaps: frozenset[int], behind: Callable[[int], int], *, upper: bool
    ) -> Match | None:
        node = root
        best: Match | None = None
        while True:
            if node.value is not None:
                end = behind(i)
                if end == OPEN:
                    self.opened = True
                elif end >= 0:
                    best = Match(self.at, end, node.value)
            if i >= self.limit:
                self._ran_out(i, node)
                return best
            byte = self.view[i]
            gap = node.next.get(" ")
            if byte in gaps:
                if gap is None:
                    return best
                i = self._gap(i, gaps)
                node = gap
                continue
            if (upper and byte in _LOWER) or byte == 0x20:
                return best
            symbol = self.text[i].lower() if byte in _HELD else chr(byte).lower()
            following = node.next.get(symbol)
            if following is None and gap is not None and gaps is TAG_GAPS:
                following = gap.next.get(symbol)  # in brackets a separator may be missing
            if following is None:
                return best
            node = following
            i += 1

    def _gap(self, i: int, gaps: frozenset[int]) -> int:
        end = min(self.size, i + _GAP_CHARS_MAX)
        while i < end and self.view[i] in gaps:
            i += 1
        return i

    def _ran_out(self, i: int, node: Node) -> None:
        if i >= self.size and not self.final and self.size - self.at < REACH_CHARS and node.next:
            self.opened = True

    def _border(self, i: int, *, plural: bool) -> int:
        """`i`, if what ends there is not part of a longer word; an `s` may follow a name."""
        if i >= self.size:
            return i if self.final else OPEN
        if self.view[i] not in WORD:
            return i
        if plural and self.view[i] in b"sS":
            if i + 1 >= self.size:
                return i if self.final else OPEN
            return i if self.view[i + 1] not in WORD else NONE
        return NONE

    def _bare_border(self, i: int) -> int:
        """The same for a number that nothing closes: 1 is not 1.5."""
        if i < self.size and self.view[i] in b".-":
            if i + 1 >= self.size:
                return i if self.final else OPEN
            return NONE if self.view[i + 1] in b"0123456789" else i
        return self._border(i, plural=True)

    def _parenthesis(self, i: int) -> int:
        if i >= self.size:
            return NONE if self.final else OPEN
        return i if self.view[i] == 0x29 else NONE

    def _closed(self, i: int, family: int, twice: bool) -> int:
        """The end of the closing bracket that stands at `i`, separators skipped."""
        last = min(self.size, i + _GAP_CHARS_MAX)
        while True:
            spelled = self._spelled(i, _CLOSING_SPELLED) if family == 0 else 0
            if spelled:
                return OPEN if spelled == OPEN else i + spelled
            if i >= self.size:
                return NONE if self.final else OPEN
            if i >= last or self.view[i] not in _EDGE_GAPS:
                break
            i += 1
        if not self._closes(i, family):
            return NONE
        i += 1
        if twice:
            if i >= self.size:
                return NONE if self.final else OPEN
            return i + 1 if self._closes(i, family) else NONE
        return i

    def _closes(self, i: int, family: int) -> bool:
        return (self.text[i] if self.view[i] in _HELD else chr(self.view[i])) in _CLOSING[family]

    def _spelled(self, i: int, ways: tuple[bytes, ...]) -> int:
        """The length of a bracket that is spelled out at `i`; 0 if none is, OPEN if one may be on its way."""
        if i >= self.size or self.view[i] not in b"&\\":
            return 0
        rest = self.view[i : min(self.size, i + SPELLED_CHARS_MAX)].lower()
        for way in ways:
            if rest.startswith(way):
                return len(way)
            if not self.final and i + len(rest) == self.size and way.startswith(rest):
                return OPEN
        return 0
