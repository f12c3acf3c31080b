"""The command: options in, a report and an exit code out."""

from __future__ import annotations

import enum
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from gateway.scan.look import Event, Options, Scanner
    from gateway.scan.report import Report, Summary
    from gateway.scan.sources import Source

CLEAN: Final = 0
FOUND: Final = 1
JOBS_MAX: Final = 64  # each loads detectors of its own: 80 MB, and up to 400 MB more with models for names
NOT_SCANNED: Final = 2  # something could not be scanned, or the options cannot be carried out


class Profile(enum.StrEnum):
    """How it is looked."""

    HARDENED = "hardened"
    COMPATIBLE = "compatible"


class Names(enum.StrEnum):
    """How hard names are looked for."""

    OFF = "off"
    FAST = "fast"
    THOROUGH = "thorough"


class Format(enum.StrEnum):
    """How it is told."""

    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"


class FailOn(enum.StrEnum):
    """What exit code 1 is for."""

    ANY = "any"
    BLOCK = "block"
    NONE = "none"


def scan(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATHS", help="Files and folders; `-` is standard input, as is none at all in a pipe."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out what matches: a name (`*.min.js`), or a path below the folder (`build/*`). Repeatable."
        ),
    ] = None,
    jsonl: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD[.SUB]...",
            help="Read JSON lines and judge the strings of this field only: `messages.content`. Repeatable.",
        ),
    ] = None,
    encoding: Annotated[
        str, typer.Option(help="Of files without a byte order mark, such as gb18030 or latin-1.")
    ] = "utf-8",
    policy: Annotated[
        Path | None, typer.Option(help="A policy file: its rules for prompts say what counts, and what would be done.")
    ] = None,
    profile: Annotated[
        Profile,
        typer.Option(help="hardened: all of this gateway's detectors; compatible: exactly what presidio finds."),
    ] = Profile.HARDENED,
    names: Annotated[
        Names | None,
        typer.Option(
            help="Look for people, places and organizations with models (default: as the policy says, or off)."
        ),
    ] = None,
    entities: Annotated[str | None, typer.Option(metavar="A,B", help="Look for these entities only.")] = None,
    min_score: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Least score that counts (default: as the policy says, or 0.4)."),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="table for people, json or sarif for programs.")] = (
        Format.TABLE
    ),
    output: Annotated[Path | None, typer.Option(help="Write the report to this file.")] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 on any finding, only on one that the policy blocks, or never.")
    ] = FailOn.ANY,
    baseline: Annotated[
        Path | None,
        typer.Option(help="An earlier report of format json: findings at the same places are not reported."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=JOBS_MAX, help="Processes that scan, for big folders.")] = 1,
    explain: Annotated[bool, typer.Option("--explain", help="Say of each finding why it was found.")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Show the last characters of each value. Without it no value is ever shown.")
    ] = False,
) -> None:
    """Find sensitive data in files, folders, JSON lines or standard input, without printing it.

    \b
    licet scan .                                       this folder
    git diff | licet scan                              a pipe
    licet scan chats.jsonl --jsonl messages.content    the texts of a log of chats
    licet scan src --format sarif --output out.sarif   for CI
    licet scan notes.txt --explain                     why each thing was found

    \b
    Exit codes:
    0  nothing was found
    1  something was found (--fail-on says what counts)
    2  something could not be scanned, or an option is wrong; standard error says what

    Folders are gone through without .git, symbolic links and binary files.
    """
    listed = list(paths or ())
    if not listed:
        if sys.stdin.isatty():
            raise _refused("Say what to scan: files, folders, or `-` for standard input. `licet scan --help` explains.")
        listed = [Path("-")]
    if fail_on is FailOn.BLOCK and policy is None:
        raise _refused("--fail-on block needs --policy: only a policy says what is blocked.")
    _check_encoding(encoding)
    from gateway.scan.look import Options, UsageError

    options = Options(
        profile=profile.value,
        names=names.value if names is not None else None,
        policy=policy,
        entities=[e.strip() for e in entities.split(",") if e.strip()] if entities is not None else (),
        min_score=min_score,
        fields=jsonl or (),
        encoding=encoding,
        explain=explain,
        show=show,
        baseline=baseline,
    )
    try:
        summary, code = _run(listed, exclude or (), options, jobs, format_, output, fail_on)
    except UsageError as error:
        raise _refused(str(error)) from error
    _tell(summary)
    raise typer.Exit(code)


def _refused(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(NOT_SCANNED)


def _check_encoding(name: str) -> None:
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name)  # as decoding nothing looks nothing up
    except LookupError as error:
        raise _refused(f"--encoding: {name!r} is no text encoding that Python knows") from error


def _run(
    paths: Sequence[Path],
    exclude: Sequence[str],
    options: Options,
    jobs: int,
    format_: Format,
    output: Path | None,
    fail_on: FailOn,
) -> tuple[Summary, int]:
    from gateway.scan.look import Hit, Scanner
    from gateway.scan.report import Summary
    from gateway.scan.sources import Source, sources

    scanner = Scanner.load(options)
    summary = Summary(options.profile, scanner.versions, scanner.policy_id)
    part = output.with_name(output.name + ".part") if output is not None else None
    never = [p.resolve() for p in (output, part) if p is not None]
    with _opened(part) as out:
        bar = _bar(format_, out)
        if bar is not None:
            total = sum(one.size for one in sources(paths, exclude, never) if isinstance(one, Source))
            task = bar.add_task("scan", total=total or None)
        # On one terminal, findings are printed above the bar.
        report = _report(format_, out, bar.console if bar is not None and sys.stdout.isatty() else None)
        with bar or nullcontext():
            advance = partial(bar.advance, task) if bar is not None else None
            listed = sources(paths, exclude, never)
            for event in _events(scanner, options, listed, jobs, advance):
                summary.add(event)
                if isinstance(event, Hit):
                    report.hit(event)
        summary.files, summary.chars, summary.known = scanner.files, scanner.chars, scanner.known
        code = _exit_code(summary, fail_on)
        report.end(summary, code)
    if part is not None and output is not None:
        part.replace(output)
    return summary, code


def _events(
    scanner: Scanner,
    options: Options,
    listed: Iterator[Source | Event],
    jobs: int,
    advance: Callable[[int], None] | None,
) -> Iterator[Event]:
    from gateway.scan.sources import Source

    if jobs > 1:
        from gateway.scan.jobs import scan_each

        yield from scan_each(scanner, options, listed, jobs, advance)
        return
    for one in listed:
        if isinstance(one, Source):
            yield from scanner.scan(one, advance)
        else:
            yield one


def _exit_code(summary: Summary, fail_on: FailOn) -> int:
    if summary.problem_count:
        return NOT_SCANNED
    if fail_on is FailOn.ANY and summary.findings:
        return FOUND
    return FOUND if fail_on is FailOn.BLOCK and summary.actions["block"] else CLEAN


def _report(format_: Format, out: TextIO | None, console: Console | None) -> Report:
    from gateway.scan.report import JsonReport, SarifReport, TableReport

    if format_ is Format.TABLE:
        return TableReport(out, None if out is not None else console)
    return (JsonReport if format_ is Format.JSON else SarifReport)(out or sys.stdout)


@contextmanager
def _opened(part: Path | None) -> Iterator[TextIO | None]:
    """The report's file while it is written: only a whole report gets the name that was asked for."""
    if part is None:
        yield None
        return
    from gateway.scan.look import UsageError

    try:
        out = part.open("w", encoding="utf-8", newline="\n", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"--output: {part.parent}: {error.strerror or error}") from error
    try:
        with out:
            yield out
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _bar(format_: Format, out: TextIO | None) -> Progress | None:
    """A bar on standard error, if that is a terminal and no document is written to the same one."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None
    if out is None and format_ is not Format.TABLE and sys.stdout.isatty():
        return None
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    return Progress(
        "scanning", BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=console, transient=True, redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip


def _tell(summary: Summary) -> None:
    """What was not scanned, on standard error whatever the format."""
    from gateway.printable import printable

    for problem in summary.problems:
        typer.echo(f"not scanned: {printable(problem.file)}: {printable(problem.reason)}", err=True)
    more = summary.problem_count - len(summary.problems)
    if more:
        typer.echo(f"not scanned: {more:,} more", err=True)
    if summary.skipped_count:
        kinds: dict[str, int] = {}
        for one in summary.skipped:
            kinds[one.reason] = kinds.get(one.reason, 0) + 1
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
        typer.echo(f"skipped: {summary.skipped_count:,} ({told}); --format json names them", err=True)


__all__ = ["scan"]
