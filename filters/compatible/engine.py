"""The compatible engine: what presidio-analyzer finds, exactly, in a fraction of its time.

Recognizers match (scan.py; those a user adds in custom.py), each drops what another of its matches contains, context
words raise scores (context.py), and what an equal entity contains with no lower score is dropped. A match that cannot
be decided in bounded time raises UndecidedError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from filters.compatible.context import Context, boosted
from filters.compatible.custom import Custom, parse
from filters.compatible.data import ENGLISH, RECOGNIZERS, load
from filters.compatible.english import English
from filters.compatible.scan import Hit, Scan
from filters.finding import Finding, UndecidedError

CODE_VERSION: Final = 1  # raise when a change of code in this package changes a finding
# Numbers of each plan.
_WARM: Final = (
    "212-555-1234, 1-800-555-0199, 020 8366 1177, 07400 123456, 030 901820, 0151 23456789, 01 42 68 53 00, 06 12 34 56 78, "
    "02-623-4567, 050-234-5678, 098765 43210, 91 98765 43210, (11) 96123-4567, 0800 123 4567, +86 10 6552 9988"
)
Tokens = Literal["none", "blank"]


class Explained(NamedTuple):
    """Why something was found."""

    finding: Finding
    recognizer: str
    pattern: str  # empty for a recognizer without patterns
    score: float  # before context
    context: str | None  # the context word that raised it
    valid: bool | None  # what the recognizer's check said; None without one or without an opinion


class _Recognizer(NamedTuple):
    name: str
    entity: str
    patterns: tuple[str, ...]
    context: tuple[str, ...]


class CompatibleEngine:
    """Presidio's recognizers for English, and those added to them. Safe to share between tasks of one process."""

    def __init__(self, tokens: Tokens, custom: Sequence[Custom]) -> None:
        data, digest = load(RECOGNIZERS)
        self._scan = Scan(data)
        self._recognizers = [
            _Recognizer(
                item["name"],
                item["entity"],
                tuple(p["name"] for p in item["patterns"]),
                tuple(word.lower() for word in item["context"]),
            )
            for item in data["recognizers"]
        ]
        self._custom_from = len(self._recognizers)
        self._custom = tuple(custom)
        self._recognizers += [
            _Recognizer(c.name, c.entity, tuple(p.name for p in c.patterns), c.context) for c in custom
        ]
        self._english: English | None = None
        self.versions: Mapping[str, str] = {"presidio-compatible": f"{CODE_VERSION}+{digest}"}
        if tokens == "blank":
            rules, rules_digest = load(ENGLISH)
            self._english = English(rules)
            self.versions = {**self.versions, "tokens": rules_digest}
        for one in custom:
            self.versions = {**self.versions, f"recognizer {one.name}": one.digest}
        self.entities = frozenset(r.entity for r in self._recognizers)

    @classmethod
    def load(
        cls, *, tokens: Tokens = "none", recognizers: Sequence[str | Path | bytes | Mapping[str, Any]] = ()
    ) -> CompatibleEngine:
        """The engine as presidio would be with its `no_op` engine (`none`), or with blank spaCy tokens (`blank`).

        `recognizers`: presidio's YAML (a path, or its bytes), or a recognizer's definition as a mapping. Raises ValueError
        for one that presidio would not take.
        """
        if tokens not in ("none", "blank"):
            raise ValueError(f"tokens {tokens!r} is not available; use 'none' or 'blank'")
        return cls(tokens, [custom for source in recognizers for custom in parse(source)])

    def warm(self) -> None:
        """Has the phone library build its tables now rather than in the first calls (0.2 s of CPU, measured)."""
        self.find(_WARM)

    def find(self, text: str) -> list[Finding]:
        """All findings in a text, sorted by place. Raises UndecidedError where a bound was hit or a check failed."""
        hits = self._hits(text)
        if not hits:
            return []
        recognizers = self._recognizers
        found = {
            (recognizers[hit.recognizer].entity, hit.start, hit.end, score)
            for hit, score, _ in self._scored(text, hits)
        }
        return [Finding(*one) for one in _outermost(found)]

    def explain(self, text: str) -> list[Explained]:
        """The findings of `find`, each with the match that it came from."""
        source: dict[tuple[str, int, int, float], Explained] = {}
        for hit, score, word in self._scored(text, self._hits(text)):
            recognizer = self._recognizers[hit.recognizer]
            key = (recognizer.entity, hit.start, hit.end, score)
            pattern = recognizer.patterns[hit.pattern] if hit.pattern >= 0 else ""
            source.setdefault(key, Explained(Finding(*key), recognizer.name, pattern, hit.score, word, hit.valid))
        return [source[one] for one in _outermost(source.keys())]

    def _hits(self, text: str) -> list[Hit]:
        try:
            hits = self._scan.hits(text)
        except ValueError as error:
            # A digit of a newer Unicode than this Python's: presidio's own check fails on it.
            raise UndecidedError("a check could not read a digit") from error
        for index, custom in enumerate(self._custom, self._custom_from):
            hits += custom.hits(index, text)
        return hits

    def _scored(self, text: str, hits: Sequence[Hit]) -> Iterable[tuple[Hit, float, str | None]]:
        """What remains of the matches of each recognizer, with the score that context gives it."""
        kept = self._remaining(hits) if len(hits) > 1 else hits
        english = self._english
        if english is None:
            return [(hit, hit.score, None) for hit in kept]
        context = Context(text, english)
        scored: list[tuple[Hit, float, str | None]] = []
        for hit in kept:
            # A score of 1 cannot rise; the word is looked for all the same where it is to be explained.
            words = self._recognizers[hit.recognizer].context
            word = context.word(words, hit.start) if words and hit.score < 1.0 else None
            scored.append((hit, hit.score if word is None else boosted(hit.score), word))
        return scored

    def _remaining(self, hits: Sequence[Hit]) -> list[Hit]:
        """The matches that no other match of their recognizer contains with no lower score, each once."""
        by_recognizer: dict[int, dict[tuple[str, int, int, float], Hit]] = {}
        for hit in hits:
            by_recognizer.setdefault(hit.recognizer, {}).setdefault(("", hit.start, hit.end, hit.score), hit)
        kept: list[Hit] = []
        for recognizer, listed in by_recognizer.items():
            if len(listed) == 1 or recognizer == self._scan.iban:
                kept += listed.values()
            else:
                kept += [listed[one] for one in _outermost(listed.keys())]
        return kept


def _outermost(found: Iterable[tuple[str, int, int, float]]) -> list[tuple[str, int, int, float]]:
    """Drops what another of the same entity contains with no lower score; sorted by place."""
    kept: list[tuple[str, int, int, float]] = []
    open_ones: dict[str, list[tuple[str, int, int, float]]] = {}
    for one in sorted(found, key=lambda f: (f[1], -f[2], -f[3], f[0])):
        entity, start, end, score = one
        still = open_ones.get(entity)
        if still is None:
            open_ones[entity] = [one]
        else:
            if any(other[2] >= end and other[3] >= score and other[1] <= start for other in still):
                continue
            still[:] = [other for other in still if other[2] > start]
            still.append(one)
        kept.append(one)
    return kept
