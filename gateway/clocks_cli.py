"""`licet clocks`: everything that is due, from the files that the settings name and what workers last followed."""

from __future__ import annotations

import datetime
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.checkup import trusted
from gateway.clocks import (
    Clock,
    State,
    by_due,
    license_clocks,
    list_clock,
    metadata_clocks,
    permit_clock,
    policy_clocks,
)
from gateway.errors import ConfigError
from gateway.filter_rules import read_policy
from gateway.license.orders import read_orders
from gateway.license.permits import read_permit
from gateway.license.published import StandingError
from gateway.license.signed import Kind
from gateway.license.standing import read_gateways
from gateway.license.status import read_status_list
from gateway.license.token import open_license
from gateway.license.trust import FILE_BYTES_MAX, Trust
from gateway.printable import printable
from gateway.settings import Model, Settings, load_settings, read_file
from gateway.shown_time import shown_s
from gateway.trust.follower import STATUS_FILE
from policies import Policy, PolicyError, explain
from policies.coming import coming

EXIT_OVERDUE = 1
EXIT_USAGE = 2
STATUS_BYTES_MAX = 16 * 1_048_576  # as `licet trust status` reads them
TABLE_CHARS_MIN = 140  # a license's id and a rule side by side
_KINDS = {"status": "status_list", "orders": "orders", "gateways": "gateways"}  # as workers and clocks call them

T = TypeVar("T")


def gather(settings: Settings, trust: Trust | None = None) -> tuple[list[Clock], list[str]]:
    """The clocks of the files that the settings name, and what could not be read, as sentences.

    `trust`: the keys in force; None: those that `licet check` goes by. The files are read, so this waits for the disk.
    """
    problems: list[str] = []
    if trust is None:
        trust = trusted(settings, problems)
    clocks: list[Clock] = []
    for path in dict.fromkeys(model.policy for model in settings.models):
        clocks += _policy_clocks(path, problems)
    for model in settings.models:
        clocks += _model_clocks(model, trust, problems)
    clocks += _published(settings, trust, problems)
    clocks += _followed(settings.data / "trust", problems)
    return by_due(clocks), problems


def today() -> datetime.date:
    """The day that rows of presets go by."""
    return datetime.datetime.now(datetime.UTC).date()


def _policy_clocks(path: Path, problems: list[str]) -> list[Clock]:
    data = _bytes(path, problems)
    try:
        if data is not None:
            read = functools.partial(read_policy, data, source=str(path))
            return policy_clocks(coming(read(today=today()), lambda day: read(today=day), today()))
    except PolicyError as error:
        problems += [explain(problem) for problem in error.problems]
    return []


def _model_clocks(model: Model, trust: Trust, problems: list[str]) -> Iterator[Clock]:
    if isinstance(model.license, str):
        problems.append(
            f"model {model.name}: license {model.license} comes from the repository; see licet_clock_seconds"
        )
    elif model.license is not None:
        token = _bytes(model.license, problems)
        policy = _opened(model.policy, read_policy, [])  # what is wrong with it was said
        license_ = open_license(token, trust)
        if license_.claims is None and token is not None and license_.failure is not None:
            problems.append(f"{model.license}: {license_.failure.reason.code}: {license_.failure.detail}")
        if license_.claims is not None and isinstance(policy, Policy):
            yield from license_clocks(license_.claims, policy.license)
    for path in model.permits:
        yield from _clock_in(path, Kind.PERMIT, lambda token: permit_clock(read_permit(token, trust)), problems)


def _published(settings: Settings, trust: Trust, problems: list[str]) -> Iterator[Clock]:
    def status(token: bytes) -> Clock:
        made = read_status_list(token, trust)
        return list_clock("status_list", made, made.uri)

    def orders(token: bytes) -> Clock:
        made = read_orders(token, trust)
        return list_clock("orders", made, made.iss)

    def gateways(token: bytes) -> Clock:
        made = read_gateways(token, trust)
        return list_clock("gateways", made, made.iss)

    for paths, kind, read in (
        (settings.trust.status, Kind.STATUS, status),
        (settings.trust.orders, Kind.ORDERS, orders),
        (settings.trust.gateways, Kind.GATEWAYS, gateways),
    ):
        for path in paths:
            yield from _clock_in(path, kind, read, problems)


def _followed(folder: Path, problems: list[str]) -> Iterator[Clock]:
    """What workers last followed: of each role of a repository's metadata, and of each list, what ends first."""
    for path in sorted(folder.glob(f"*/{STATUS_FILE}")):
        try:
            with path.open("rb") as file:
                shown = orjson.loads(file.read(STATUS_BYTES_MAX))
            yield from metadata_clocks({str(role): int(s) for role, s in shown.get("expires_at_s", {}).items()})
            for said in shown.get("contents", ()):
                kind = _KINDS.get(said.get("kind"))
                if kind is not None and "exp" in said:
                    rule = "`exp` of the signed list"
                    subject = str(said.get("uri", said["iss"]))
                    yield Clock(f"{kind}_expiry", subject, int(said["exp"]), rule, int(said["iat"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append(f"{path}: cannot be read ({type(error).__name__}); the worker writes it anew")


def _clock_in(path: Path, kind: Kind, read: Callable[[bytes], Clock], problems: list[str]) -> Iterator[Clock]:
    token = _bytes(path, problems, kind.bytes_max)
    if token is None:
        return
    try:
        yield read(token)
    except StandingError as error:
        problems.append(f"{path}: {error.reason.code}: {error.detail}")


def _bytes(path: Path, problems: list[str], bytes_max: int = FILE_BYTES_MAX) -> bytes | None:
    try:
        return read_file(path, bytes_max)
    except ConfigError as error:
        problems += error.problems
    return None


def _opened(path: Path, read: Callable[..., T], problems: list[str]) -> T | None:
    data = _bytes(path, problems)
    try:
        return None if data is None else read(data, source=str(path))
    except ConfigError as error:
        problems += error.problems
    except PolicyError as error:
        problems += [explain(problem) for problem in error.problems]
    return None


def clocks(
    config: Annotated[Path, typer.Option("--config", "-c", help="The gateway's YAML file.")] = Path("gateway.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False,
) -> None:
    """List what is due, the next first. Exit code 1 if anything is overdue, 2 if something could not be read.

    Licenses that an authority's repository brings by their id are not among them: see the metric licet_clock_seconds.
    """
    try:
        settings = load_settings(config)
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(EXIT_USAGE) from error
    found, problems = gather(settings)
    now_s = time.time()
    if as_json:
        typer.echo(orjson.dumps({"clocks": [_shown(clock, now_s) for clock in found], "problems": problems}))
    else:
        _print(found, now_s)
        for problem in problems:
            typer.echo(problem, err=True)
    if any(clock.state(now_s) is State.OVERDUE for clock in found):
        raise typer.Exit(EXIT_OVERDUE)
    if problems:
        raise typer.Exit(EXIT_USAGE)


def _shown(clock: Clock, now_s: float) -> dict[str, Any]:
    return {
        "clock": clock.name,
        "subject": clock.subject,
        "due_s": clock.due_s,
        "left_s": round(clock.due_s - now_s),
        "state": clock.state(now_s).value,
        "rule": clock.rule,
    }


def _print(found: list[Clock], now_s: float) -> None:
    colors = {State.OK: "green", State.SOON: "yellow", State.OVERDUE: "red"}
    table = Table("due (UTC)", "left", "state", "clock", "of", "rule", box=None, header_style="bold")
    for clock in found:
        state = clock.state(now_s)
        table.add_row(
            shown_s(clock.due_s, "minutes"),
            _left(clock.due_s - now_s),
            f"[{colors[state]}]{state.value}[/{colors[state]}]",
            clock.name,
            escape(printable(clock.subject)),
            escape(clock.rule),
        )
    console = Console(width=max(Console().width, TABLE_CHARS_MIN))
    console.print(table if found else "Nothing is due.")


def _left(seconds: float) -> str:
    sign, minutes = ("-" if seconds < 0 else ""), int(abs(seconds) // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{sign}{days} d {hours} h" if days else f"{sign}{hours} h {minutes % 60} min"
