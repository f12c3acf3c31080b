"""The sets, run over the hardened engine: tables for people, figures for tests and for whoever compares two builds.

`measure` gives a set's figures; GOALS says which of them are promised. A figure's name says which way is better: those in
`AT_MOST` are errors, all others are shares found.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from filters import Action, Engine, Rules
from filters.detectors.impersonation import ClaimDetector, RequestDetector
from filters.detectors.presidio import PresidioPack
from filters.detectors.walk import Pack
from filters.engine import Direction
from tests.quality import business, chinese, english, evasions, secrets
from tests.quality.score import Finder, Found, Sample, Score, Span, score, show, table

# Promised of the full sets. `micro_f2` holds with names on only.
GOALS: Final[Mapping[str, Mapping[str, float]]] = {
    "english": {"structured_recall": 0.97, "structured_precision": 0.95, "phone_recall": 0.93},
    "english+names": {"micro_f2": 0.80},
    "chinese": {"identifier_recall": 0.99, "rich_precision": 0.98},
    "secrets": {"kinds_share": 30 / 32, "false_alarms": 0},
    "business": {"blocked_share": 0.001},
    # Our choice: some tricks of the table can only be undone at the price of false alarms.
    "evasions": {"found_share": 0.85, "invented": 0},
}
AT_MOST: Final = frozenset({"false_alarms", "blocked_share", "invented"})
# Texts of a full run: the sizes that the promises speak of. Of secrets: texts of each kind.
FULL: Final = {"english": 3_000, "chinese": 6_000, "secrets": 28, "business": 10_000, "evasions": 0}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: an engine under the default score, and names if somebody finds them."""

    engine: Engine
    names: Finder | None = None

    def find(self, text: str) -> Sequence[Found]:
        """Findings that would count under a policy that names no score."""
        rules = Rules()
        found: list[Found] = [f for f in self.engine.find(text) if f.score >= rules.min_score]
        return [*found, *self.names(text)] if self.names is not None else found

    def blocks(self, rules: Rules) -> Callable[[Sample], Span | None]:
        """What the rules refuse a message for, as a prompt or as an answer."""

        def check(sample: Sample) -> Span | None:
            directions: tuple[Direction, ...] = ("prompt",) if sample.group == business.SIGNED else ("prompt", "answer")
            for direction in directions:
                blocked = self.engine.examine(sample.text, rules, direction=direction).blocked
                if blocked is not None:
                    return Span(blocked.entity, blocked.start, blocked.end)
            return None

        return check


@dataclass(frozen=True, slots=True)
class Measure:
    """The figures of one set, its table, and its errors, one line each."""

    figures: Mapping[str, float]
    report: str
    errors: tuple[str, ...] = ()


def _errors(result: Score) -> tuple[str, ...]:
    return tuple(show(error) for error in result.errors)


def _english(subject: Subject, count: int) -> Measure:
    # Without names, what only names could find is left out of the table.
    judged = english.JUDGED if subject.names else tuple(e for e in english.JUDGED if e not in english.NAMED)
    result = score(english.samples(count), subject.find, judged, english.TRANSLATE)
    structured = result.micro(english.STRUCTURED)
    phone = result.micro(("PHONE_NUMBER",))
    figures = {
        "structured_recall": structured.recall,
        "structured_precision": structured.precision,
        "phone_recall": phone.recall,
    }
    if subject.names:
        figures["micro_f2"] = result.micro().f2
    return Measure(figures, table(result, f"English, {count} texts", {"structured": english.STRUCTURED}), _errors(result))  # fmt: skip


def _chinese(subject: Subject, count: int) -> Measure:
    made = chinese.samples(count)
    result = score(made, subject.find, chinese.JUDGED)
    rich = score((s for s in made if s.group in chinese.NUMBER_RICH), subject.find, chinese.JUDGED)
    identifiers = result.micro(chinese.IDENTIFIERS)
    figures = {
        "identifier_recall": identifiers.recall,
        "identifier_coverage": identifiers.coverage,
        "context_recall": result.micro(chinese.IN_CONTEXT).recall,
        "rich_precision": rich.micro().precision,
        "precision": result.micro().precision,
    }
    groups = {"identifiers": chinese.IDENTIFIERS, "in context": chinese.IN_CONTEXT}
    report = table(result, f"Chinese, {count} texts", groups)
    labels = Counter(s.group for s in made for label in s.labels if label.entity in chinese.JUDGED)
    missed = Counter(error.sample.group for error in result.errors if error.missed)
    report += "\n  recall by genre: " + ", ".join(f"{g} {1 - missed[g] / n:.3f}" for g, n in sorted(labels.items()))
    report += "\n" + table(rich, "  of them logs, tables, JSON, code and number-rich text", groups)
    return Measure(figures, report, _errors(result))


def _secrets(subject: Subject, each: int) -> Measure:
    made = secrets.samples(each)
    shares = secrets.by_kind(made, subject.find)
    result = score(made, subject.find, secrets.ENTITIES)
    quiet = score(secrets.ordinary(), subject.find, secrets.ENTITIES)
    kinds = secrets.kinds_found(shares)
    alarms = quiet.micro().findings
    lines = [f"Secrets, {each} texts of each kind: {kinds} of {len(shares)} kinds found, {alarms} false alarms"]
    lines += [f"  {'+' if s >= secrets.FOUND_SHARE else '-'} {kind:<20} {s:.2f}" for kind, s in shares.items()]
    figures = {"kinds_share": kinds / len(shares), "covered": result.micro().coverage, "false_alarms": alarms}
    return Measure(figures, "\n".join(lines), _errors(quiet) + _errors(result))


def _business(subject: Subject, count: int) -> Measure:
    strict = Rules(entities=dict.fromkeys(business.BLOCKED, Action.BLOCK))
    result = business.alarms(business.samples(count), subject.find, subject.blocks(strict))
    why = Counter(span.entity for _, span in result.blocked)
    lines = [f"Business, {count} messages: {len(result.blocked)} blocked ({result.share:.2%})"]
    lines.append("  blocked for: " + (", ".join(f"{e} {n}" for e, n in why.most_common()) or "nothing"))
    lines.append("  reported: " + ", ".join(f"{e} {n}" for e, n in result.reported.most_common()))
    errors = (f"  BLOCKED {w.entity:<20} {s.group:<10} {s.text[max(0, w.start - 40) : w.start]!r} [[{s.text[w.start : w.end]!r}]]" for s, w in result.blocked)  # fmt: skip
    return Measure({"blocked_share": result.share}, "\n".join(lines), tuple(errors))


def _evasions(subject: Subject, count: int) -> Measure:
    cases = evasions.CASES[:count] if count else evasions.CASES
    verdicts = [(case, evasions.found(case, subject.find)) for case in cases]
    hits = sum(hit for _, hit in verdicts)
    invented = evasions.invented(subject.find)
    lines = [f"Evasions: {hits} of {len(cases)} found, {len(invented)} invented in {len(evasions.CONTROLS)} controls"]
    lines += [f"  {'+' if hit else '-'} {case.label.entity:<16} {case.name}" for case, hit in verdicts]
    errors = tuple(f"  INVENTED {entity:<18} {text[:100]!r}" for entity, text in invented)
    errors += tuple(f"  MISSED {case.label.entity:<18} {case.text[:100]!r}" for case, hit in verdicts if not hit)
    return Measure({"found_share": hits / len(cases), "invented": len(invented)}, "\n".join(lines), errors)


SETS: Final[Mapping[str, Callable[[Subject, int], Measure]]] = {
    "english": _english,
    "chinese": _chinese,
    "secrets": _secrets,
    "business": _business,
    "evasions": _evasions,
}


def measure(name: str, subject: Subject, count: int | None = None) -> Measure:
    """Runs one set, on `count` texts or in full. Raises FileNotFoundError when its data are not installed."""
    return SETS[name](subject, FULL[name] if count is None else count)


def shortfalls(figures: Mapping[str, float], goals: Mapping[str, float]) -> list[str]:
    """The goals that the figures do not reach, as sentences."""
    short: list[str] = []
    for figure, goal in goals.items():
        value = figures[figure]
        if value > goal if figure in AT_MOST else value < goal:
            short.append(
                f"{figure} is {value:.4g}, promised {'at most' if figure in AT_MOST else 'at least'} {goal:.4g}"
            )
    return short


def goals_of(name: str, subject: Subject) -> dict[str, float]:
    """What is promised of a set, with names if they are on."""
    return dict(GOALS[name]) | (dict(GOALS.get(f"{name}+names", {})) if subject.names else {})


def _named(spec: str) -> Callable[..., object]:
    module, _, name = spec.partition(":")
    return cast("Callable[..., object]", getattr(importlib.import_module(module), name))


def _engine(packs: Sequence[str]) -> Engine:
    """The hardened engine; with packs, theirs is the walk beside presidio's: for those who write one."""
    if not packs:
        return Engine.load(profile="hardened")
    more = [cast("Pack", _named(spec)()) for spec in packs]
    return Engine((PresidioPack(), *more), {"prompt": (RequestDetector(),), "answer": (ClaimDetector(),)})


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables; 1 with --check when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality", description="How well the hardened engine finds.")
    parser.add_argument("--set", action="append", choices=list(SETS), dest="sets", help="one set; may be repeated")
    parser.add_argument("--count", type=int, help="texts of each set instead of the full number")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N errors of each set")
    parser.add_argument("--only", metavar="WORD", help="with --show: only errors with this word in them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--names", metavar="MODE", help="find names too: fast or thorough")
    parser.add_argument("--namer", metavar="MODULE:FUNCTION", help="what makes a finder of names from MODE")
    parser.add_argument(
        "--pack",
        action="append",
        default=[],
        metavar="MODULE:CLASS",
        help="try a pack beside presidio's alone; may be repeated",
    )
    parser.add_argument("--check", action="store_true", help="end with 1 when a goal is missed")
    args = parser.parse_args(argv)
    if args.names and not args.namer:
        parser.error("--names needs --namer MODULE:FUNCTION")
    names = cast("Finder", _named(args.namer)(args.names)) if args.names else None
    subject = Subject(_engine(args.pack), names)
    figures: dict[str, Mapping[str, float]] = {}
    missed = 0
    for name in args.sets or SETS:
        result = measure(name, subject, args.count)
        figures[name] = result.figures
        print(result.report)
        for line in [e for e in result.errors if not args.only or args.only in e][: args.show]:
            print(line)
        for line in shortfalls(result.figures, goals_of(name, subject)):
            missed += 1
            print(f"  goal missed: {line}")
        print(flush=True)
    if args.json:
        args.json.write_text(json.dumps({"figures": figures, "goals": GOALS}, indent=2) + "\n", encoding="utf-8")
    return 1 if args.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
