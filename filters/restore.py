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
from collections.abc import Iterable
from dataclasses import dataclass, field

from filters.finding import PSEUDONYM, Finding, Scanner, Walking
from filters.placeholders import (
    LEADS,
    NONE,
    NUMBER_GAPS,
    NUMBER_SYMBOLS_MIN,
    OPEN,
    REACH_CHARS,
    SPELLED_CHARS_MAX,
    TAG_GAPS,
    WORD,
    WORD_GAPS,
    Match,
    Node,
    Starts,
    Value,
    Walk,
    symbols,
)
from filters.view import fold


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


class Restorer:
    """A snapshot of what may be restored. Safe to share between the channels of one answer."""

    def __init__(self, placeholders: Iterable[Placeholder]) -> None:
        self.restored = 0  # for the record
        self._tags = Node()
        self._words = Node()
        self._numbers = Node()
        self._exact = Node()
        aliases: dict[str, Value | None] = {}
        for placeholder in placeholders:
            text, kind = placeholder.text, placeholder.kind
            own = Value(placeholder.value, placeholder.value)
            if kind is Kind.TAG:
                self._tags.add(symbols(text.strip("<>"), TAG_GAPS), own)
            elif kind is Kind.NUMBER:
                self._add_number(text, own)
            elif kind is Kind.EXACT:
                self._exact.add(symbols(text, frozenset()), own)
            else:
                self._words.add(symbols(text, WORD_GAPS), own)
                if kind is Kind.NAME:
                    for alias, standing in _name_aliases(text, placeholder.value):
                        aliases[alias] = None if alias in aliases else standing
        for alias, found in aliases.items():
            if found is not None:
                self._words.add(alias, found)
        self.starts = Starts(self._tags, (self._words, self._exact, self._numbers))

    def _add_number(self, text: str, value: Value) -> None:
        form = symbols(text, NUMBER_GAPS).translate(_NO_SEPARATORS)
        if len(form) < NUMBER_SYMBOLS_MIN:
            return
        self._numbers.add(form, value)
        if text[0] in LEADS:
            self._numbers.add(text[0] + form, value)
        country, blank, national = text.partition(" ")
        if blank and country.startswith("+"):
            self._add_number(national, value)

    def scanner(self) -> Scanner:
        """A walk through one channel."""
        return _Scanner(self)

    def restore(self, matched: str) -> str | None:
        """The value for what a scanner found; None if it is not, as a whole, a placeholder of this conversation."""
        if not 0 < len(matched) <= REACH_CHARS + SPELLED_CHARS_MAX * 4:
            return None
        found = self.match(matched, fold(matched), 0, final=True, alone=True)
        if not isinstance(found, Match) or found.start != 0 or found.end != len(matched):
            return None
        self.restored += 1
        return found.value.text if "," in matched or "，" in matched else found.value.plain

    def match(self, text: str, view: bytes, at: int, *, final: bool, alone: bool = False) -> Match | int:
        """The longest placeholder that begins at `at`, or none, or `open` where text still to come may decide it.

        `alone`: the text is what was found, without what stood around it.
        """
        walk = Walk(text, view, at, final)
        byte = view[at]
        best: Match | None = None
        before = view[at - 1] if at else 0x20
        if self._tags.next:
            best = walk.tag(self._tags)
            if walk.opened:
                return OPEN
            if best is None:
                best = walk.bare(self._tags, alone) if byte in WORD else walk.parenthesized(self._tags)
        if byte not in WORD or before not in WORD:
            for root, gaps in ((self._words, WORD_GAPS), (self._exact, None)):
                if root.next:
                    best = _longer(best, walk.plain(root, gaps))
            if self._numbers.next:
                best = _longer(best, walk.number(self._numbers))
        if walk.opened:
            return OPEN
        return NONE if best is None else best


class _Scanner(Walking):
    """Placeholders of one channel. `copy.copy` of it is a walk of its own."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._at = 0

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        found: list[Finding] = []
        restorer = self._restorer
        size = len(text)
        at = self._at
        while True:
            at = restorer.starts.next(text, view, at)
            if at >= size:
                break
            match = restorer.match(text, view, at, final=final)
            if isinstance(match, Match):
                found.append(Finding(PSEUDONYM, match.start, match.end, 1.0))
                at = match.end
            elif match == OPEN:
                break
            else:
                at += 1
        self._at = at
        return found


def _longer(first: Match | None, second: Match | None) -> Match | None:
    if first is None or second is None:
        return first or second
    return second if second.end > first.end else first


_NO_SEPARATORS = str.maketrans("", "", " +")


def _name_aliases(text: str, value: str) -> Iterable[tuple[str, Value]]:
    """Other ways in which a name comes back: without its title, and if it has two words, turned round or one alone."""
    words = text.split()
    real = value.split()
    if len(words) != len(real):
        return
    title = next((i for i in range(len(words)) if words[i] != real[i]), 0)
    words, real = words[title:], real[title:]
    if title:
        yield symbols(" ".join(words), WORD_GAPS), Value(" ".join(real), " ".join(real))
    if len(words) != 2:
        return
    first, last = (symbols(word, WORD_GAPS) for word in words)
    yield f"{last} {first}", Value(f"{real[1]}, {real[0]}", f"{real[1]} {real[0]}")
    for own, standing in ((first, real[0]), (last, real[1])):
        if len(own) > 2:  # an initial alone says nothing
            yield own, Value(standing, standing)
