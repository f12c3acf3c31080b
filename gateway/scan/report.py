"""Findings as a table, as one JSON document, or as SARIF 2.1.0; each is written while the scan goes on.

What is written holds places, entities and scores, and no value. Names of files come from outside: what a terminal would
obey is not printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TextIO
from urllib.parse import quote

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from filters.explain import Explanation
from filters.tags import tags_of
from gateway import __version__
from gateway.printable import printable
from gateway.scan.look import Hit
from gateway.scan.sources import STDIN_NAME, Problem, Skipped

# Problems and what was skipped are written at the end; beyond so many they are only counted.
LISTED_MAX: Final = 1_000
SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_PLACE_CHARS: Final = 40
_ENTITY_CHARS: Final = 24
_ACTION_CHARS: Final = 13
_STYLES: Final = {"block": "red", "mask": "yellow", "pseudonymize": "yellow"}


def _told(hit: Hit) -> dict[str, Any]:
    """What is said of a hit beside its place, as far as it was asked for."""
    told: dict[str, Any] = {}
    if hit.action:
        told["action"] = hit.action
    if hit.mask:
        told["mask"] = hit.mask
    if hit.shown:
        told["shown"] = hit.shown
    if hit.why is not None:
        told["why"] = explained(hit.why)
    return told


@dataclass(slots=True)
class Summary:
    """What a scan came to."""

    profile: str
    detectors: Mapping[str, str]
    policy: str = ""  # name and digest
    files: int = 0
    chars: int = 0
    known: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    skipped_count: int = 0

    @property
    def findings(self) -> int:
        """How many."""
        return self.entities.total()

    def add(self, event: Hit | Problem | Skipped) -> None:
        """Counts one."""
        if isinstance(event, Hit):
            self.entities[event.entity] += 1
            self.actions[event.action] += 1
        elif isinstance(event, Problem):
            self.problem_count += 1
            if len(self.problems) < LISTED_MAX:
                self.problems.append(event)
        else:
            self.skipped_count += 1
            if len(self.skipped) < LISTED_MAX:
                self.skipped.append(event)


class Report(Protocol):
    """One format."""

    def hit(self, hit: Hit) -> None:
        """One finding."""

    def end(self, summary: Summary, exit_code: int) -> None:
        """The scan is over."""


class TableReport:
    """For people: a line for each finding, and the counts."""

    def __init__(self, out: TextIO | None, console: Console | None = None) -> None:
        """`out` None: standard output, with colors where it is a terminal; or a console that somebody has already."""
        self._console = console or Console(file=out, highlight=False, soft_wrap=True)

    def hit(self, hit: Hit) -> None:
        place = f"{printable(hit.file)}:{hit.line}" + (
            f":{hit.column}" if not hit.field else f" {printable(hit.field)}"
        )
        line = Text(f"{place:<{_PLACE_CHARS}}  ")
        line.append(f"{hit.entity:<{_ENTITY_CHARS}}", style=f"bold {_STYLES.get(hit.action, '')}".strip())
        line.append(f"  {hit.score:.2f}")
        if hit.action:
            line.append(f"  {hit.action:<{_ACTION_CHARS}}")
        if hit.shown:
            line.append(f"  {printable(hit.shown)}")
        line.rstrip()
        self._console.print(line)
        if hit.why is not None:
            would = f"; the policy would {hit.action}" if hit.action else ""
            would += f" ({hit.mask})" if hit.mask else ""
            self._console.print(Text(f"    {reason(hit.why)}{would}", style="dim"))

    def end(self, summary: Summary, exit_code: int) -> None:
        if summary.findings:
            table = Table("entity", "findings", box=None, header_style="bold", pad_edge=False)
            table.columns[1].justify = "right"
            for entity, count in summary.entities.most_common():
                table.add_row(entity, f"{count:,}")
            self._console.print()
            self._console.print(table)
            self._console.print()
        parts = [_counted(summary.findings, "finding"), f"in {_counted(summary.files, 'file')}"]
        if summary.known:
            parts.append(f"({summary.known:,} more are in the baseline)")
        self._console.print(" ".join(parts) + ".")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def reason(why: Explanation) -> str:
    """An explanation in words."""
    parts = [why.detector + (f", {why.rule}" if why.rule else "")]
    if why.form:
        parts.append(f"behind {why.form}")
    if why.score_base is not None:
        parts.append(f"score {why.score_base:.2f}")
    if why.validated is not None:
        parts.append("checked: valid" if why.validated else "checked: invalid")
    if why.context_word:
        parts.append(f"context word '{why.context_word}'")
    return "; ".join(parts) + f" -> {why.finding.score:.2f}"


def explained(why: Explanation) -> dict[str, Any]:
    """An explanation as JSON."""
    told: dict[str, Any] = {"detector": why.detector}
    for key, value in (
        ("rule", why.rule),
        ("score_base", why.score_base),
        ("validated", why.validated),
        ("context_word", why.context_word),
        ("disguise", why.form),
    ):
        if value not in ("", None):
            told[key] = value
    return told


class _Streamed:
    """One JSON object whose list of findings is written as they come."""

    def __init__(self, out: TextIO, before: str) -> None:
        self._out = out
        self._before = before
        self._first = True

    def item(self, value: Mapping[str, Any]) -> None:
        self._out.write((self._before if self._first else ",\n") + _json(value))
        self._first = False

    def close(self, after: str) -> None:
        self._out.write((self._before if self._first else "\n") + after)


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a name of a file that is no UTF-8, which Python shows with lone surrogates
        import json

        return json.dumps(value)


class JsonReport:
    """For programs: one document."""

    def __init__(self, out: TextIO) -> None:
        self._document = _Streamed(out, '{"version":1,"findings":[\n')

    def hit(self, hit: Hit) -> None:
        item: dict[str, Any] = {"file": hit.file, "line": hit.line}
        if hit.field:
            item["field"] = hit.field
        else:
            item |= {"column": hit.column, "end_line": hit.end_line, "end_column": hit.end_column}
        item |= {"start": hit.start, "end": hit.end, "entity": hit.entity, "score": hit.score}
        self._document.item(item | _told(hit))

    def end(self, summary: Summary, exit_code: int) -> None:
        rest = {
            "entities": dict(summary.entities.most_common()),
            "files": summary.files,
            "characters": summary.chars,
            "in_baseline": summary.known,
            "problems": [{"file": p.file, "reason": p.reason} for p in summary.problems],
            "problem_count": summary.problem_count,
            "skipped": [{"file": s.file, "reason": s.reason} for s in summary.skipped],
            "skipped_count": summary.skipped_count,
            "profile": summary.profile,
            "detectors": dict(summary.detectors),
            "policy": summary.policy or None,
            "tool": {"name": "licet", "version": __version__},
            "exit_code": exit_code,
        }
        self._document.close("]," + _json(rest)[1:] + "\n")


class SarifReport:
    """For code hosts and editors: SARIF 2.1.0 (OASIS). Columns count code points."""

    def __init__(self, out: TextIO) -> None:
        head = _json({"$schema": SARIF_SCHEMA, "version": "2.1.0"})[:-1]
        self._document = _Streamed(out, head + ',"runs":[{"columnKind":"unicodeCodePoints","results":[\n')

    def hit(self, hit: Hit) -> None:
        location: dict[str, Any] = {
            "physicalLocation": {"artifactLocation": {"uri": _uri(hit.file)}, "region": {"startLine": hit.line}}
        }
        if hit.field:
            location["logicalLocations"] = [{"fullyQualifiedName": hit.field}]
        else:
            location["physicalLocation"]["region"] |= {
                "startColumn": hit.column,
                "endLine": hit.end_line,
                "endColumn": hit.end_column,
            }
        message = f"{hit.entity} (score {hit.score:.2f})"
        if hit.action:
            message += f"; the policy would {hit.action} it"
        if hit.why is not None:
            message += f". {reason(hit.why)}"
        properties: dict[str, Any] = {"score": hit.score, **_told(hit)}
        self._document.item(
            {
                "ruleId": hit.entity,
                "level": _level(hit),
                "message": {"text": message},
                "locations": [location],
                "rank": round(hit.score * 100, 1),
                "properties": properties,
            }
        )

    def end(self, summary: Summary, exit_code: int) -> None:
        rules = [
            {
                "id": entity,
                "shortDescription": {"text": entity.replace("_", " ").capitalize()},
                "properties": {"tags": list(tags_of(entity))},
            }
            for entity in sorted(summary.entities)
        ]
        notes = [
            {
                "level": "error",
                "message": {"text": problem.reason},
                "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(problem.file)}}}],
            }
            for problem in summary.problems
        ]
        rest = {
            "invocations": [
                {
                    "executionSuccessful": not summary.problem_count,
                    "exitCode": exit_code,
                    "toolExecutionNotifications": notes,
                }
            ],
            "tool": {
                "driver": {
                    "name": "licet",
                    "version": __version__,
                    "rules": rules,
                    "properties": {"profile": summary.profile, "detectors": dict(summary.detectors)},
                }
            },
        }
        self._document.close("]," + _json(rest)[1:] + "]}\n")


def _level(hit: Hit) -> str:
    """SARIF's word: by what the policy would do, else by the score (our choice: 0.8 and above is nearly certain)."""
    if hit.action:
        return {"block": "error", "mask": "warning", "pseudonymize": "warning"}.get(hit.action, "note")
    return "error" if hit.score >= 0.8 else "warning" if hit.score >= 0.5 else "note"


def _uri(file: str) -> str:
    if file == STDIN_NAME:
        return "stdin"
    path = quote(file.replace("\\", "/"), safe="/", errors="surrogateescape")
    return f"file://{path}" if path.startswith("/") else path
