"""`licet policy`: check policy files, look at presets, list where policies are looser than presets ask. Offline."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gateway.checkup import ReadPolicy
from gateway.errors import ConfigError
from policies import Policy, PolicyError, explain
from policies.presets import Preset, Row, names, preset, sources
from policies.rows import ABILITIES, BUILD, MEDIA, kept_by_refusing
from policies.schema import json_schema

app = typer.Typer(help="Policy files: one per model.", no_args_is_help=True)

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="The gateway's YAML file, where it adds recognizers.")
]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
EXIT_WRONG = 1  # a file cannot be used
EXIT_USAGE = 2  # an argument cannot be used


@functools.cache
def reader(further: frozenset[str] = frozenset()) -> ReadPolicy:
    """Reads policies as the gateway does, held against what its detectors find, and `further` ones."""
    from filters import Engine
    from gateway.filter_rules import read_policy

    return functools.partial(read_policy, entities=Engine.load().entities | further)


def recognized(config: Path) -> tuple[frozenset[str] | None, list[str]]:
    """What the recognizers of the settings may find; None, with the problems, where they cannot be loaded."""
    from gateway.recognizers import entities_of
    from gateway.settings import load_settings

    try:
        recognizers = load_settings(config).recognizers
    except ConfigError:
        return frozenset(), []  # reported with everything else
    try:
        return entities_of(recognizers), []
    except ConfigError as error:
        return None, error.problems


def _fail(problems: list[str], code: int = EXIT_WRONG) -> typer.Exit:
    for problem in problems:
        typer.echo(problem, err=True)
    return typer.Exit(code)


def _read(files: list[Path], config: Path | None) -> list[Policy]:
    """The policies, or all their problems at once."""
    further, problems = recognized(config) if config is not None else (frozenset[str](), [])
    if further is None:
        raise _fail(problems)
    read, made = reader(further), []
    for file in files:
        try:
            made.append(read(file.read_bytes(), source=str(file)))
        except PolicyError as error:
            problems += [explain(problem) for problem in error.problems]
        except OSError as error:
            problems.append(f"{file}: {error.strerror or error}")
    if problems:
        raise _fail(problems)
    return made


def _day(at_s: int) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).date().isoformat()


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A policy file.")], config: Config = None) -> None:
    """List every mistake of one policy file, with line and remedy."""
    (policy,) = _read([file], config)
    typer.echo(f"{file}: policy {policy.id} is valid.")
    if policy.deviations:
        count = len(policy.deviations)
        typer.echo(f"{count} deviation{'s' if count > 1 else ''} from presets: licet policy deviations {file}")
    if policy.changes_at_s is not None:
        typer.echo(f"Rows of its presets change on {_day(policy.changes_at_s)}.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of policy files, for editors."""
    typer.echo(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode())


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="One preset; left out: a list of all.")] = None,
    as_json: Json = False,
) -> None:
    """Show presets: their rows with sources and dates, and what this build cannot do of them."""
    today = datetime.datetime.now(datetime.UTC).date()
    if name is not None and name not in names():
        raise _fail([f"there is no preset {name}; use one of {', '.join(names())}"], EXIT_USAGE)
    shown = [preset(one) for one in (names() if name is None else (name,))]
    if as_json:
        made = [_as_json(one, today) for one in shown]
        typer.echo(orjson.dumps(made if name is None else made[0], option=orjson.OPT_INDENT_2).decode())
    elif name is None:
        for one in shown:
            typer.echo(f"{one.name:24}{_loads(one, today):52}{one.title}")
    else:
        _print(shown[0], today)


def _loads(made: Preset, today: datetime.date) -> str:
    """Which of it a policy can name today."""
    if not _missing(made, made.sections, today):
        return "loads whole"
    parts = [section for section in made.sections if not _missing(made, (section,), today)]
    return f"loads by section: {', '.join(parts)}" if parts else "does not load"


def _missing(made: Preset, sections: tuple[str, ...], today: datetime.date) -> list[Row]:
    """The rows that this build would have to keep and cannot."""
    return [row for row in made.in_force(today, sections).values() if not row.free and row.lacking(BUILD)]


def _as_json(made: Preset, today: datetime.date) -> dict[str, Any]:
    return {
        "name": made.name,
        "title": made.title,
        "digest": made.digest,
        "territories": made.territories,
        "sections": made.sections,
        "loads": [section for section in made.sections if not _missing(made, (section,), today)],
        "loads_whole": not _missing(made, made.sections, today),
        "rows": [_row_as_json(row, today) for row in made.rows],
    }


def _row_as_json(row: Row, today: datetime.date) -> Mapping[str, Any]:
    return {
        "section": row.section,
        "key": row.key,
        "value": row.shown,
        "sources": {source: sources()[source] for source in row.sources},
        "effective_from": row.effective_from,
        "until": row.until,
        "in_force": row.in_force(today),
        "free": row.free,
        "modalities": row.modalities,
        "concerns_this_build": row.concerns(BUILD),
        "missing": {ability: ABILITIES[ability] for ability in row.lacking(BUILD)},
        "note": row.note,
    }


def _print(made: Preset, today: datetime.date) -> None:
    where = ", ".join(made.territories) or "everywhere"
    typer.echo(f"{made.name}: {made.title}. For {where}; {_loads(made, today)}.")
    for section in made.sections:
        typer.echo(f"\n{section}")
        for row in (row for row in made.rows if row.section == section):
            begins = f"from {row.effective_from} " if row.effective_from is not None else ""
            ends = f"until {row.until} " if row.until is not None else ""
            marks = "free " if row.free else ""
            if not row.concerns(BUILD):
                marks += "kept by refusing " + ", ".join(row.modalities) + " "
            elif kept_by_refusing(row.type.needs(row.value), BUILD):
                marks += "kept by refusing " + ", ".join(MEDIA) + " "
            lacks = [ABILITIES[ability] for ability in row.lacking(BUILD)]
            missing = f"MISSING: {'; '.join(lacks)}" if lacks else ""
            tail = f"{begins}{ends}{marks}[{', '.join(row.sources)}] {missing}".rstrip()
            typer.echo(f"  {row.key:38}{row.shown:34} {tail}")
            if row.note:
                typer.echo(f"  {'':38}{row.note}")
    typer.echo("\nSources")
    for source in sorted({source for row in made.rows for source in row.sources}):
        typer.echo(f"  {source:12}{sources()[source]}")


@app.command()
def deviations(
    files: Annotated[list[Path], typer.Argument(help="Policy files.")], config: Config = None, as_json: Json = False
) -> None:
    """List where policies are looser than rows of presets that they may loosen, and what this build cannot do of such rows."""
    found = [(policy, one) for policy in _read(files, config) for one in policy.deviations]
    if as_json:
        made = [
            {
                "file": policy.source,
                "line": one.line or None,
                "policy": policy.id,
                "preset": one.preset,
                "row": one.row,
                "wanted": one.wanted,
                "preset_value": one.value,
            }
            for policy, one in found
        ]
        typer.echo(orjson.dumps(made, option=orjson.OPT_INDENT_2).decode())
        return
    for policy, one in found:
        line = f":{one.line}" if one.line else ""
        typer.echo(f"{policy.source}{line}: {one.row}: {one.wanted}; {one.preset} asks for {one.value}")
    typer.echo(f"{len(found)} deviation{'' if len(found) == 1 else 's'} found.")
