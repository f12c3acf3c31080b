"""What several finders say of one text becomes one list: people by union, and what their errors share taken away.

The networks guess from context, so they call slang, products and the first word of a shout people too. The lexicon
knows which words cannot be one: a guess must hold a word that is a name, or a capitalised word that is unknown.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from filters.finding import Finding
from filters.names.lexicon import GIVEN, ORDINARY, PLACE, SURNAME, Word
from filters.names.wordlists import CORPORATE, INTRODUCED, LOCAL, SUFFIXES, TITLES

_STRETCHED: Final = re.compile(r"(.)\1\1")  # `Sooo`
_DIGIT: Final = re.compile(r"\d")
_NAME: Final = GIVEN | SURNAME
# A guess that no list supports has to be this sure. Below, half of the guesses on social media are wrong.
_UNKNOWN_SCORE_MIN: Final = 0.55
_ORDINARY_SCORE_MIN: Final = 0.95
_PLACE_SCORE_MIN: Final = 0.9
_SMALL_SCORE_MIN: Final = 0.85


def unite(
    text: str, words: Sequence[Word], listed: Sequence[Finding], guessed: Sequence[Finding], parsed: Sequence[Finding]
) -> list[Finding]:
    """One list, sorted, of `listed` (lexicon), `guessed` (Rampart) and `parsed` (spaCy) findings."""
    believed = _Believed(text, words)
    found = [finding for finding in listed if _stands(finding, guessed, parsed)]
    for one, other in ((guessed, parsed), (parsed, guessed)):
        for finding in one:
            agreed = finding.entity == "PERSON" and _met(finding, other)
            if finding.entity == "PERSON" and one is parsed and not agreed and _within(finding, guessed):
                continue
            kept = believed(finding, agreed=agreed)
            if kept is not None:
                found.append(kept)
    return believed.ranked(joined(found))


def _stands(finding: Finding, guessed: Sequence[Finding], parsed: Sequence[Finding]) -> bool:
    """Whether a person of the lists stays one beside what the models say.

    A street or a town that bears a name (`767 Joseph Gateway`) is read as a place by the network that knows addresses,
    and a company (`McCarthy & Stone`) as one by the parser.
    """
    if finding.entity != "PERSON" or _met(finding, guessed):
        return True
    if _within(finding, guessed):
        return False
    # The parser takes many a surname alone for a company: only a longer name of one counts.
    longer = [other for other in parsed if other.end - other.start > finding.end - finding.start]
    return _met(finding, parsed) or not _within(finding, longer)


def _within(finding: Finding, others: Sequence[Finding]) -> bool:
    """Whether a model sees a place or an organization there."""
    return any(
        other.start <= finding.start and finding.end <= other.end and other.entity in {"LOCATION", "ORGANIZATION"}
        for other in others
    )


def _met(finding: Finding, others: Sequence[Finding]) -> bool:
    """Whether another model says the same. Two networks that learned from different texts seldom err together."""
    return any(
        other.entity == finding.entity and other.start < finding.end and finding.start < other.end for other in others
    )


class _Believed:
    """Says of a guess whether it can be right, and takes from it the words that are no part of it."""

    def __init__(self, text: str, words: Sequence[Word]) -> None:
        self._text = text
        self._words = words
        self._starts = [word.start for word in words]
        self._ends = [word.end for word in words]
        lower = sum(word.shape == "l" for word in words)
        upper = sum(word.shape == "U" for word in words)
        self._shouted = upper >= 3 and upper > 2 * lower
        # Every Word Begins With A Capital: then a capital says nothing.
        titled = sum(word.shape == "T" for word in words)
        self._titled = titled >= 5 and titled > 3 * lower
        self._cased = titled + upper > 0

    def __call__(self, finding: Finding, *, agreed: bool) -> Finding | None:
        if finding.entity == "PERSON":
            return self._person(finding, agreed=agreed)
        if finding.entity == "LOCATION":
            return self._location(finding)
        if finding.entity == "ORGANIZATION":
            return self._organization(finding)
        return finding

    def _inside(self, finding: Finding) -> tuple[int, int]:
        """The words that a finding touches: their first index, and the one behind the last."""
        return bisect_right(self._ends, finding.start), bisect_left(self._starts, finding.end)

    def _person(self, finding: Finding, *, agreed: bool) -> Finding | None:
        words = self._words
        if agreed and not any(word.code for word in words[slice(*self._inside(finding))]):
            return finding
        first, last = self._inside(finding)
        while first < last and words[first].low in TITLES and not words[first].flags & _NAME:
            first += 1
        # At its ends a name has no word that is none: `Monday Sarah`, `Sarah said`.
        while first < last and self._foreign(words[first]):
            first += 1
        while last > first and self._foreign(words[last - 1]):
            last -= 1
        inside = words[first:last]
        if not inside or any(word.code for word in inside):
            return None
        if not self._nameable(inside, finding.score, first):
            return None
        start = min(max(finding.start, inside[0].start), inside[0].start)
        return Finding("PERSON", start, inside[-1].end, finding.score)

    @staticmethod
    def _foreign(word: Word) -> bool:
        if word.low in SUFFIXES:
            return False
        return word.flags & (ORDINARY | GIVEN | SURNAME) == ORDINARY

    def _nameable(self, inside: Sequence[Word], score: float, first: int) -> bool:
        """Whether these words can be a person."""
        named = [word for word in inside if word.flags & _NAME]
        sure = [word for word in named if not word.flags & (ORDINARY | PLACE)]
        capital = [word for word in inside if word.shape in "TU" and len(word.low) > 1]
        if inside[-1].low in CORPORATE and not inside[-1].flags & _NAME:
            return False
        if all(word.flags & PLACE and not word.flags & _NAME for word in inside):
            return False
        before = self._words[first - 1].low if first else ""
        if before in TITLES and capital:
            return True
        if not capital:
            if any(word.flags & GIVEN for word in sure) or (len(named) > 1 and named[0].flags & GIVEN):
                return True
            if inside[0].flags & GIVEN and score >= _PLACE_SCORE_MIN:
                return True
            if sure and len(inside) > 1 and len(sure) == len(inside) and score >= _PLACE_SCORE_MIN:
                return True
            if any(word.flags & (ORDINARY | PLACE) for word in inside) or score < _SMALL_SCORE_MIN:
                return False
            return before in INTRODUCED or not self._cased or len(inside) > 1
        if self._shouted or self._titled:
            return bool(sure) and len(named) > 1
        if sure:
            return True
        unknown = [w for w in capital if not w.flags and w.shape == "T" and not _STRETCHED.search(w.low)]
        if unknown:
            return score >= _UNKNOWN_SCORE_MIN
        if first == 0:
            return bool(named) and score >= _ORDINARY_SCORE_MIN
        return bool(named) or score >= _PLACE_SCORE_MIN

    def _location(self, finding: Finding) -> Finding | None:
        words = self._words
        first, last = self._inside(finding)
        inside = words[first:last]
        if _DIGIT.search(self._text, finding.start, finding.end):
            # A house number or a postal code alone is a number that the patterns know better.
            return finding if inside or finding.score >= _PLACE_SCORE_MIN else None
        if not inside or any(word.code for word in inside):
            return None
        if any(word.flags & PLACE and not word.flags & ORDINARY for word in inside):
            return finding
        if inside[-1].low in LOCAL and len(inside) > 1:
            return finding
        if all(word.flags & (ORDINARY | PLACE) == ORDINARY for word in inside):
            return None
        return finding if inside[0].shape != "l" or finding.score >= _PLACE_SCORE_MIN else None

    def ranked(self, findings: Sequence[Finding]) -> list[Finding]:
        """Without the people that are a part of a longer name: `Johns Hopkins University`, `Martin Luther King Drive`."""
        longer = []
        for finding in findings:
            if finding.entity in {"ORGANIZATION", "LOCATION"}:
                first, last = self._inside(finding)
                if last - first > 1 and self._words[last - 1].low in CORPORATE | LOCAL:
                    longer.append(finding)
        return [
            f
            for f in findings
            if f.entity != "PERSON" or not any(o.start <= f.start and f.end <= o.end for o in longer)
        ]

    def _organization(self, finding: Finding) -> Finding | None:
        first, last = self._inside(finding)
        inside = self._words[first:last]
        if not inside or any(word.code for word in inside):
            return None
        return finding if any(word.shape in "TU" for word in inside) else None


def joined(findings: Sequence[Finding]) -> list[Finding]:
    """Overlapping findings of one entity become one."""
    united: list[Finding] = []
    last: dict[str, int] = {}
    for finding in sorted(findings, key=lambda f: (f.start, f.end)):
        index = last.get(finding.entity)
        if index is not None and finding.start < united[index].end:
            known = united[index]
            united[index] = Finding(
                known.entity, known.start, max(known.end, finding.end), max(known.score, finding.score)
            )
        else:
            last[finding.entity] = len(united)
            united.append(finding)
    return united
