"""Samples with labelled spans, and how findings are scored against them. Pure functions; offsets are code points.

A label is *found* when a finding of its type (or of an equivalent one, see `canonical`) overlaps it, *seen* when a
finding of any type does, and *covered* when findings of its type leave no character of it uncovered. A finding is
*right* when it overlaps a label of its type. Neither right nor wrong is what overlaps an `ignored` span, and a second reading
of a label that was found under its own type (a QQ number that is a phone number besides).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol


class Found(Protocol):
    """What a finding must have to be scored."""

    @property
    def entity(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


class Span(NamedTuple):
    """text[start:end] is of the type `entity`; what labels are, and the least that a finding is."""

    entity: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One text, what is to be found in it, and the stretches about which the set has no opinion."""

    text: str
    labels: tuple[Span, ...] = ()
    ignored: tuple[Span, ...] = ()
    group: str = ""  # genre or kind, for tables and for those who look at misses


Finder = Callable[[str], Sequence[Found]]

# One thing under two names: a policy that masks either hides the value. Every kind of secret is a secret.
_CANONICAL: Final[Mapping[str, str]] = {
    "PHONE_NUMBER": "CN_MOBILE",
    "CN_LANDLINE": "CN_MOBILE",
    "CREDIT_CARD": "CN_BANK_CARD",
    "PRIVATE_KEY": "SECRET",
    "PASSWORD": "SECRET",
    "CONNECTION_STRING": "SECRET",
    "JWT": "SECRET",
}


def canonical(entity: str) -> str:
    """The name under which equivalent entities are compared."""
    return _CANONICAL.get(entity, entity)


def overlaps(a: Found, b: Found) -> bool:
    """True when they share a character."""
    return a.start < b.end and b.start < a.end


def covers(found: Iterable[Found], start: int, end: int) -> bool:
    """True when the spans together leave no character of [start, end) out."""
    at = start
    for one in sorted(found, key=lambda f: f.start):
        if one.start > at:
            break
        at = max(at, one.end)
    return at >= end


@dataclass(slots=True)
class Counts:
    """Sums for one entity, or for several together."""

    labels: int = 0
    found: int = 0
    seen: int = 0
    covered: int = 0
    findings: int = 0
    right: int = 0

    @property
    def recall(self) -> float:
        """Labels found by a finding of their type; 1 where there are none."""
        return self.found / self.labels if self.labels else 1.0

    @property
    def any_recall(self) -> float:
        """Labels overlapped by a finding of whatever type."""
        return self.seen / self.labels if self.labels else 1.0

    @property
    def coverage(self) -> float:
        """Labels wholly under findings of their type: what a mask would hide without a rest."""
        return self.covered / self.labels if self.labels else 1.0

    @property
    def precision(self) -> float:
        """Findings that overlap a label of their type; 1 where there are none."""
        return self.right / self.findings if self.findings else 1.0

    @property
    def f2(self) -> float:
        """The F measure that weighs recall four times as much as precision."""
        p, r = self.precision, self.recall
        return 5 * p * r / (4 * p + r) if p + r else 0.0

    def add(self, other: Counts) -> None:
        """Adds the sums of another."""
        self.labels += other.labels
        self.found += other.found
        self.seen += other.seen
        self.covered += other.covered
        self.findings += other.findings
        self.right += other.right


@dataclass(frozen=True, slots=True)
class Error:
    """A label that was not found (`missed`), or a finding that is not right."""

    missed: bool
    sample: Sample
    span: Span


@dataclass(frozen=True, slots=True)
class Score:
    """Counts by entity, and every error, in the order of the samples."""

    by_entity: Mapping[str, Counts]
    errors: tuple[Error, ...]

    def micro(self, entities: Iterable[str] | None = None) -> Counts:
        """The sums over some entities with their equivalents, or over all."""
        wanted = None if entities is None else {canonical(entity) for entity in entities}
        total = Counts()
        for entity, counts in self.by_entity.items():
            if wanted is None or canonical(entity) in wanted:
                total.add(counts)
        return total


def score(
    samples: Iterable[Sample],
    find: Finder,
    judged: Iterable[str],
    translate: Mapping[str, str] | None = None,
) -> Score:
    """Scores what `find` says of the samples. Labels and findings outside `judged` do not count.

    `translate` renames findings first, for sets that label more coarsely than the engine. A finding is booked under its
    own entity, or, when it is right, under that of the label, so that recall and precision of a row speak of one thing.
    """
    rename = translate or {}
    wanted = {canonical(entity) for entity in judged}
    table: dict[str, Counts] = {}
    errors: list[Error] = []
    for sample in samples:
        found = [Span(rename.get(f.entity, f.entity), f.start, f.end) for f in find(sample.text)]
        labels = [label for label in sample.labels if canonical(label.entity) in wanted]
        settled: list[Span] = []
        for label in labels:
            counts = table.setdefault(label.entity, Counts())
            touching = [f for f in found if overlaps(f, label)]
            typed = [f for f in touching if canonical(f.entity) == canonical(label.entity)]
            counts.labels += 1
            counts.seen += bool(touching)
            counts.found += bool(typed)
            counts.covered += covers(typed, label.start, label.end)
            if typed:
                settled.append(label)
            else:
                errors.append(Error(True, sample, label))
        for one in sorted(
            {f for f in found if canonical(f.entity) in wanted}, key=lambda f: (f.start, f.end, f.entity)
        ):
            owner = next((k for k in labels if overlaps(k, one) and canonical(k.entity) == canonical(one.entity)), None)
            if owner is None and any(overlaps(one, k) for k in (*settled, *sample.ignored)):
                continue
            counts = table.setdefault(owner.entity if owner else one.entity, Counts())
            counts.findings += 1
            counts.right += owner is not None
            if owner is None:
                errors.append(Error(False, sample, one))
    return Score(table, tuple(errors))


def table(result: Score, title: str, groups: Mapping[str, Iterable[str]] | None = None) -> str:
    """The score as lines for a terminal: one row an entity, then the groups, then all together."""
    lines = [
        title,
        f"  {'entity':<24}{'labels':>8}{'recall':>8}{'any':>7}{'cover':>7}{'found':>8}{'prec':>7}{'F2':>7}",
    ]
    rows = [(entity, result.by_entity[entity]) for entity in sorted(result.by_entity)]
    rows += [(f"= {name}", result.micro(entities)) for name, entities in (groups or {}).items()]
    rows.append(("= all", result.micro()))
    for name, c in rows:
        lines.append(
            f"  {name:<24}{c.labels:>8}{c.recall:>8.3f}{c.any_recall:>7.3f}{c.coverage:>7.3f}"
            f"{c.findings:>8}{c.precision:>7.3f}{c.f2:>7.3f}"
        )
    return "\n".join(lines)


def show(error: Error, around: int = 30) -> str:
    """One error on one line, with what stands around it. The sets hold no real person's values."""
    span, text = error.span, error.sample.text
    left, right = text[max(0, span.start - around) : span.start], text[span.end : span.end + around]
    said = "MISSED" if error.missed else "FALSE "
    return f"  {said} {span.entity:<20} {error.sample.group:<14} {left!r} [[{text[span.start : span.end]!r}]] {right!r}"
