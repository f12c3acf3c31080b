"""Finding a conversation's own placeholders in what a model wrote, however the model wrote them, and their values.

Models change what they are given: `<PERSON_1>` comes back as `<person 1>`, `[Person-1]`, `&lt;PERSON\\_1&gt;` or bare as
`PERSON_1`; a surrogate name with a line break in it, a number with other separators. Every form is read as symbols
(letters in lower case, a blank for any run of separators) and walked through a tree of what the vault issued, so
a placeholder that was never issued is no path in it, and `<PERSON_1>` is none inside `<PERSON_10>`.

A walk begins where a placeholder may begin, looks at no more than REACH_CHARS characters, and depends on nothing to its left
but two characters. The scanner holds text only while the tree has a way on from it (L3), so at most REACH_CHARS and a few (L9).
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from filters.finding import PSEUDONYM, Finding, Scanner
from filters.view import FOREIGN, FOREIGN_LETTER, fold

# The longest stretch of an answer that is read as one placeholder: twice the longest form, for separators. Our choice.
REACH_CHARS: Final = 256
FORM_CHARS_MAX: Final = 128  # longer values get a tag, not a surrogate
# Separators in a row that still count as one gap: a line break with the indent of a list below it, a mark with its escape.
_GAP_CHARS_MAX: Final = 6


class Kind(enum.StrEnum):
    """How a placeholder may be written."""

    TAG = "tag"  # <PERSON_1>, in any brackets
    NAME = "name"  # words; without a title, a first or last name alone, and "Last, First"
    WORDS = "words"  # words or groups of digits, a separator where the form has one
    NUMBER = "number"  # letters and digits, separators anywhere
    EXACT = "exact"  # as it is, but for case: mail addresses, URLs


@dataclass(frozen=True, slots=True)
class Placeholder:
    """What was issued, and the value it stands for."""

    text: str
    value: str = field(repr=False)
    kind: Kind


@dataclass(frozen=True, slots=True, repr=False)
class _Value:
    text: str
    plain: str  # for what was written without a comma


class _Node:
    __slots__ = ("next", "value")

    def __init__(self) -> None:
        self.next: dict[str, _Node] = {}
        self.value: _Value | None = None


class _Match(NamedTuple):
    start: int
    end: int
    value: _Value


_NONE: Final = -1
_OPEN: Final = -2

_WORD: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_\x01")
_LOWER: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz")
_BLANKS: Final = b" \n\r\t"
_TAG_GAPS: Final = frozenset(_BLANKS + b"_-\\*`:#")
_BARE_GAPS: Final = frozenset(b"_\\")
_WORD_GAPS: Final = frozenset(_BLANKS + b"_-\\*`,./'")
_NUMBER_GAPS: Final = frozenset(_BLANKS + b"_-\\./()")
_EDGE_GAPS: Final = frozenset(_BLANKS + b"\\*`/")
_HELD: Final = (ord(FOREIGN), ord(FOREIGN_LETTER))
_LEADS: Final = "+("
_NUMBER_SYMBOLS_MIN: Final = 5  # of a shorter number nobody could tell whether it is one's own

# Opening and closing marks by family, as the view has them or, where it has none, as they are written.
_OPENING: Final = {"<": 0, "[": 1, "{": 2, "〈": 0, "《": 0, "‹": 0, "⟨": 0, "【": 1, "〔": 1, "「": 1}
_CLOSING: Final = ({*">〉》›⟩"}, {*"]】〕」"}, {*"}"})
_OPENING_SPELLED: Final = (b"&lt;", b"&#60;", b"&#x3c;", b"\\u003c")
_CLOSING_SPELLED: Final = (b"&gt;", b"&#62;", b"&#x3e;", b"\\u003e")
_SPELLED_CHARS_MAX: Final = 6

# Characters of scripts that put no blank between words: there a placeholder may begin and end anywhere. They are looked at
# in runs of a bounded length, so that a long run is not matched again from each of its characters.
_RUN: Final = "[\u2e80-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]{1,64}"
_RUN_FIRST: Final = "\u2e80"


def _wide(heads: Iterable[str]) -> str:
    """A character class of these, in full width too."""
    found = set()
    for head in heads:
        found |= {head, chr(ord(head) + 0xFEE0)} if "!" <= head <= "~" else {head}
    return "[" + "".join(re.escape(c) for c in sorted(found)) + "]"


@functools.lru_cache(maxsize=256)
def _starts(bare: frozenset[str], heads: frozenset[str], leads: frozenset[str], runs: bool) -> re.Pattern[str] | None:
    """Where a placeholder may begin. `bare`: first letters of labels, in lower case; empty without tags."""
    ways = []
    if bare:
        ways.append(_wide("<[{&\\") + "|[‹⟨]")
        ways.append("(?<![0-9A-Za-z_$.-])" + _wide(h.upper() for h in bare))
        ways.append(r"(?<=[(（])" + _wide(bare))
    if heads:
        ways.append("(?<![0-9A-Za-z_])" + _wide({h.upper() for h in heads if len(h.upper()) == 1} | heads))
    if leads:
        ways.append(_wide(leads))
    if runs:
        ways.append(_RUN)
    return re.compile("|".join(ways)) if ways else None


def _symbols(form: str, gaps: frozenset[int]) -> list[str]:
    """A form as the walk reads it: characters in lower case, and a blank for each run of separators."""
    symbols: list[str] = []
    for byte, char in zip(fold(form), form, strict=True):
        if byte in gaps:
            if symbols and symbols[-1] != " ":
                symbols.append(" ")
        else:
            symbols.append(char.lower() if byte in _HELD else chr(byte).lower())
    if gaps and symbols and symbols[-1] == " ":
        symbols.pop()
    return symbols


class Restorer:
    """A snapshot of what may be restored. Safe to share between the channels of one answer."""

    def __init__(self, placeholders: Iterable[Placeholder]) -> None:
        self.restored = 0  # for the record
        self._tags = _Node()
        self._words = _Node()
        self._numbers = _Node()
        self._exact = _Node()
        aliases: dict[tuple[str, ...], _Value | None] = {}
        for placeholder in placeholders:
            text, value, kind = placeholder.text, placeholder.value, placeholder.kind
            own = _Value(value, value)
            if kind is Kind.TAG:
                self._add(self._tags, _symbols(text.strip("<>"), _TAG_GAPS), own)
            elif kind is Kind.NUMBER:
                self._add_number(text, own)
            elif kind is Kind.EXACT:
                self._add(self._exact, _symbols(text, frozenset()), own)
            else:
                self._add(self._words, _symbols(text, _WORD_GAPS), own)
                if kind is Kind.NAME:
                    for alias, standing in _name_aliases(text, value):
                        aliases[alias] = None if alias in aliases else standing
        for alias, found in aliases.items():
            if found is not None:
                self._add(self._words, alias, found)
        self._heads = frozenset(_heads(self._words) | _heads(self._exact) | _heads(self._numbers)) - frozenset(_LEADS)
        leads = frozenset(self._numbers.next) & frozenset(_LEADS)
        bare = frozenset(_heads(self._tags))
        self._run_heads = frozenset(h for h in self._heads if h >= _RUN_FIRST)
        if bare:
            self._run_heads |= frozenset(c for c in _OPENING if c >= _RUN_FIRST)
        self.starts = _starts(
            bare, frozenset(h for h in self._heads if h < _RUN_FIRST), leads, runs=bool(self._run_heads)
        )

    @staticmethod
    def _add(node: _Node, symbols: Iterable[str], value: _Value) -> None:
        for symbol in symbols:
            following = node.next.get(symbol)
            if following is None:
                following = node.next[symbol] = _Node()
            node = following
        if node.value is None:
            node.value = value

    def _add_number(self, text: str, value: _Value) -> None:
        symbols = [s for s in _symbols(text, _NUMBER_GAPS) if s not in (" ", "+")]
        if len(symbols) < _NUMBER_SYMBOLS_MIN:
            return
        self._add(self._numbers, symbols, value)
        if text[:1] in ("+", "("):
            self._add(self._numbers, [text[0], *symbols], value)
        country, blank, national = text.partition(" ")
        if blank and country.startswith("+"):
            self._add_number(national, value)

    def scanner(self) -> Scanner:
        """A walk through one channel."""
        return _Scanner(self)

    def restore(self, matched: str) -> str | None:
        """The value for what a scanner found; None if it is not, as a whole, a placeholder of this conversation."""
        if not 0 < len(matched) <= REACH_CHARS + _SPELLED_CHARS_MAX * 4:
            return None
        found = self.match(matched, fold(matched), 0, final=True, alone=True)
        if not isinstance(found, _Match) or found.start != 0 or found.end != len(matched):
            return None
        self.restored += 1
        return found.value.text if "," in matched or "，" in matched else found.value.plain

    def next_start(self, text: str, at: int) -> int:
        """The next place from `at` on where a placeholder may begin, or the end of the text."""
        if self.starts is None:
            return len(text)
        while True:
            found = self.starts.search(text, at)
            if found is None:
                return len(text)
            at, end = found.span()
            if text[at] < _RUN_FIRST or text[at] >= "\uff00":
                return at
            if not self._run_heads.isdisjoint(found[0]):
                while at < end and text[at] not in self._run_heads:
                    at += 1
                if at < end:
                    return at
            at = end

    def match(self, text: str, view: bytes, at: int, *, final: bool, alone: bool = False) -> _Match | int:
        """The longest placeholder that begins at `at`, or none, or `open` where text still to come may decide it.

        `alone`: the text is what was found, without what stood around it.
        """
        walk = _Walk(text, view, at, final)
        byte = view[at]
        best: _Match | None = None
        before = view[at - 1] if at else 0x20
        if self._tags.next:
            best = walk.tag(self._tags)
            if walk.opened:
                return _OPEN
            if best is None and byte in _WORD:
                best = walk.bare(self._tags, alone)
        if byte not in _WORD or before not in _WORD:
            for root, gaps in ((self._words, _WORD_GAPS), (self._exact, None)):
                if root.next:
                    best = _longer(best, walk.plain(root, gaps))
            if self._numbers.next:
                best = _longer(best, walk.number(self._numbers))
        if walk.opened:
            return _OPEN
        return _NONE if best is None else best


class _Walk:
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

    def plain(self, root: _Node, gaps: frozenset[int] | None) -> _Match | None:
        """Words with separators where the form has them; without `gaps`, the form as it is."""
        node = root
        i = self.at
        best: _Match | None = None
        wide = False  # the last symbol is of a script without blanks
        while True:
            if node.value is not None:
                end = i if wide else self._border(i, plural=gaps is not None)
                if end == _OPEN:
                    self.opened = True
                elif end >= 0:
                    best = _Match(self.at, end, node.value)
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

    def number(self, root: _Node) -> _Match | None:
        """Letters and digits with separators anywhere; a `+` or `(` before them if the form begins with it."""
        start = self.at
        lead = chr(self.view[start])
        node = root
        i = start
        best: _Match | None = None
        if lead in _LEADS:
            if lead not in root.next:
                return None
            node = root.next[lead]
            i += 1
        while True:
            if node.value is not None:
                end = self._border(i, plural=False)
                if end == _OPEN:
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
                    best = _Match(first, end, node.value)
            if i >= self.limit:
                self._ran_out(i, node)
                return best
            if self.view[i] in _NUMBER_GAPS and node is not root:
                i = self._gap(i, _NUMBER_GAPS)
                if i >= self.limit:
                    self._ran_out(i, node)
                    return best
            byte = self.view[i]
            following = node.next.get(self.text[i].lower() if byte in _HELD else chr(byte).lower())
            if following is None:
                return best
            node = following
            i += 1

    def tag(self, root: _Node) -> _Match | None:
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
            if spelled == _OPEN:
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
        i = self._gap(i + twice, _TAG_GAPS)
        return self._label(root, i, _TAG_GAPS, lambda j: self._closed(j, family, twice), upper=False)

    def bare(self, root: _Node, alone: bool) -> _Match | None:
        """A label and its number without brackets: in capitals and with underscores; in parentheses in any case."""
        at = self.at
        view = self.view
        if alone:
            return self._label(root, at, _TAG_GAPS, self._bare_border, upper=False)
        if view[at] not in _LOWER:
            if at and (view[at - 1] in _WORD or view[at - 1] in b"$.-"):
                return None
            return self._label(root, at, _BARE_GAPS, self._bare_border, upper=True)
        if at and view[at - 1] == 0x28 and (at < 2 or view[at - 2] not in _WORD):  # behind a word it is a function's
            return self._label(root, at, _BARE_GAPS, self._parenthesis, upper=False)
        return None

    def _label(
        self, root: _Node, i: int, gaps: frozenset[int], behind: Callable[[int], int], *, upper: bool
    ) -> _Match | None:
        node = root
        best: _Match | None = None
        while True:
            if node.value is not None:
                end = behind(i)
                if end == _OPEN:
                    self.opened = True
                elif end >= 0:
                    best = _Match(self.at, end, node.value)
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
            if following is None and gap is not None and gaps is _TAG_GAPS:
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

    def _ran_out(self, i: int, node: _Node) -> None:
        if i >= self.size and not self.final and self.size - self.at < REACH_CHARS and node.next:
            self.opened = True

    def _border(self, i: int, *, plural: bool) -> int:
        """`i`, if what ends there is not part of a longer word; an `s` may follow a name."""
        if i >= self.size:
            return i if self.final else _OPEN
        if self.view[i] not in _WORD:
            return i
        if plural and self.view[i] in b"sS":
            if i + 1 >= self.size:
                return i if self.final else _OPEN
            return i if self.view[i + 1] not in _WORD else _NONE
        return _NONE

    def _bare_border(self, i: int) -> int:
        """The same for a number that nothing closes: 1 is not 1.5."""
        if i < self.size and self.view[i] in b".-":
            if i + 1 >= self.size:
                return i if self.final else _OPEN
            return _NONE if self.view[i + 1] in b"0123456789" else i
        return self._border(i, plural=True)

    def _parenthesis(self, i: int) -> int:
        if i >= self.size:
            return _NONE if self.final else _OPEN
        return i if self.view[i] == 0x29 else _NONE

    def _closed(self, i: int, family: int, twice: bool) -> int:
        """The end of the closing bracket that stands at `i`, separators skipped."""
        last = min(self.size, i + _GAP_CHARS_MAX)
        while True:
            spelled = self._spelled(i, _CLOSING_SPELLED) if family == 0 else 0
            if spelled:
                return _OPEN if spelled == _OPEN else i + spelled
            if i >= self.size:
                return _NONE if self.final else _OPEN
            if i >= last or self.view[i] not in _EDGE_GAPS:
                break
            i += 1
        if not self._closes(i, family):
            return _NONE
        i += 1
        if twice:
            if i >= self.size:
                return _NONE if self.final else _OPEN
            return i + 1 if self._closes(i, family) else _NONE
        return i

    def _closes(self, i: int, family: int) -> bool:
        return (self.text[i] if self.view[i] in _HELD else chr(self.view[i])) in _CLOSING[family]

    def _spelled(self, i: int, ways: tuple[bytes, ...]) -> int:
        """The length of a bracket that is spelled out at `i`; 0 if none is, _OPEN if one may be on its way."""
        if i >= self.size or self.view[i] not in b"&\\":
            return 0
        rest = self.view[i : min(self.size, i + _SPELLED_CHARS_MAX)].lower()
        for way in ways:
            if rest.startswith(way):
                return len(way)
            if not self.final and i + len(rest) == self.size and way.startswith(rest):
                return _OPEN
        return 0


class _Scanner:
    """Placeholders of one channel. `copy.copy` of it is a walk of its own."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._at = 0

    @property
    def at(self) -> int:
        return self._at

    def drop(self, chars: int) -> None:
        self._at -= chars

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        found: list[Finding] = []
        restorer = self._restorer
        size = len(text)
        at = self._at
        while True:
            at = restorer.next_start(text, at)
            if at >= size:
                break
            match = restorer.match(text, view, at, final=final)
            if isinstance(match, _Match):
                found.append(Finding(PSEUDONYM, match.start, match.end, 1.0))
                at = match.end
            elif match == _OPEN:
                break
            else:
                at += 1
        self._at = at
        return found


def _longer(first: _Match | None, second: _Match | None) -> _Match | None:
    if first is None or second is None:
        return first or second
    return second if second.end > first.end else first


def _heads(node: _Node) -> set[str]:
    return set(node.next)


def _name_aliases(text: str, value: str) -> Iterable[tuple[tuple[str, ...], _Value]]:
    """Other ways in which a name comes back: without its title, and if it has two words, turned round or one alone."""
    words = text.split()
    real = value.split()
    if len(words) != len(real):
        return
    title = next((i for i in range(len(words)) if words[i] != real[i]), 0)
    words, real = words[title:], real[title:]
    if title:
        yield tuple(_symbols(" ".join(words), _WORD_GAPS)), _Value(" ".join(real), " ".join(real))
    if len(words) != 2:
        return
    symbols = [_symbols(word, _WORD_GAPS) for word in words]
    yield (*symbols[1], " ", *symbols[0]), _Value(f"{real[1]}, {real[0]}", f"{real[1]} {real[0]}")
    for own, standing in zip(symbols, real, strict=True):
        if len(own) > 2:  # an initial alone says nothing
            yield tuple(own), _Value(standing, standing)
