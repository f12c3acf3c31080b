"""`licet trust status | fetch`: what each worker follows, and one refresh by hand, for diagnosis or to carry it away."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gateway.errors import ConfigError
from gateway.settings import load_settings
from gateway.shown_time import iso_s
from gateway.trust.describe import describe
from gateway.trust.follower import STATUS_FILE
from gateway.trust.source import TrustError, address_problems

EXIT_STALE = 1  # a worker follows nothing fresh, or the repository was refused
EXIT_USAGE = 2  # a file or argument cannot be used
STATUS_BYTES_MAX = 16 * 1_048_576  # our choice: contents of LISTS_MAX lists with their orders fit
SILENT_S = 120.0  # a worker that wrote nothing for so long, beyond its own pace, is gone or hangs

app = typer.Typer(name="trust", help="What authorities say, as this gateway follows it.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


def _fail(message: str, code: int = EXIT_USAGE) -> typer.Exit:
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(code)


@app.command()
def status(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The gateway's YAML file.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Its data folder, where there is no such file.")] = None,
    as_json: Json = False,
) -> None:
    """Show what each worker follows. Exit 0: all is fresh; 1: a worker has nothing fresh, or there is none."""
    if (config is None) == (data is None):
        raise _fail("give either --config or --data")
    try:
        folder = (load_settings(config).data if config is not None else data) or Path()
    except ConfigError as error:
        raise _fail(str(error)) from error
    now_s = time.time()
    workers = [_read(path) for path in sorted((folder / "trust").glob(f"*/{STATUS_FILE}"))]
    for worker in workers:
        quiet_s = now_s - worker.get("written_at_s", 0.0)
        worker["silent"] = quiet_s > worker.get("refresh_s", 0.0) + SILENT_S
    if as_json:
        typer.echo(orjson.dumps({"workers": workers}, option=orjson.OPT_INDENT_2).decode())
    else:
        for worker in workers:
            for line in _lines(worker, now_s):
                typer.echo(line)
        if not workers:
            typer.echo(f"{folder / 'trust'}: no worker has followed anything yet")
    if not workers or any(worker["silent"] or not worker.get("fresh") for worker in workers):
        raise typer.Exit(EXIT_STALE)


@app.command()
def fetch(
    tuf: Annotated[str, typer.Option("--tuf", help="Address or folder of the repository.")],
    root: Annotated[Path, typer.Option("--root", help="The root.json that the authority gave you.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder that becomes a copy, to be carried and named in trust.tuf.")
    ],
    license_: Annotated[
        list[str] | None, typer.Option("--license", help="Id of a license to bring. Repeatable.")
    ] = None,
    proxy: Annotated[str, typer.Option(help="Proxy to use; that of the environment is not.")] = "",
    ca_file: Annotated[Path | None, typer.Option(help="Certificates (PEM) to trust beside the system's own.")] = None,
    as_json: Json = False,
) -> None:
    """Refresh once and write a verified copy. Exit 0: all came; 1: refused, or a license is missing."""
    from gateway.trust.mirror import write_mirror
    from gateway.trust.tuf_source import Reach, TufSource

    problems = address_problems(tuf)
    if problems:
        raise _fail(problems[0])
    try:
        root_bytes = root.read_bytes()
        source = TufSource(tuf, root_bytes, out / ".cache", licenses=license_ or (), reach=Reach(proxy, ca_file))
    except OSError as error:
        raise _fail(f"{root}: {error.strerror or error}") from error
    except ConfigError as error:
        raise _fail(str(error)) from error
    try:
        source.cached()  # so that a copy never goes back behind the one before
        material = source.fetch()
        write_mirror(source.cache, root_bytes, out)
    except TrustError as error:
        raise _fail(str(error), EXIT_STALE) from error
    facts = source.facts()
    shown: dict[str, Any] = {
        "worker": "",
        "source": source.name,
        "version": material.version,
        "versions": dict(facts.versions),
        "expires_at_s": dict(facts.expires_at_s),
        "problems": list(facts.problems),
        "requests": facts.requests,
        "received_bytes": facts.received_bytes,
        "contents": describe(material),
        "out": str(out),
    }
    if as_json:
        typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo(f"{source.name} -> {out}: {facts.requests} requests, {facts.received_bytes:,} bytes")
        for line in _body(shown, time.time()):
            typer.echo(line)
    if facts.problems:
        raise typer.Exit(EXIT_STALE)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = orjson.loads(file.read(STATUS_BYTES_MAX))
    except (OSError, orjson.JSONDecodeError) as error:
        raise _fail(f"{path}: cannot be read ({type(error).__name__}); the worker writes it anew") from error
    if not isinstance(found, dict):
        raise _fail(f"{path}: not a worker's status")
    return found


def _lines(worker: Mapping[str, Any], now_s: float) -> Iterator[str]:
    state = "silent" if worker["silent"] else "fresh" if worker.get("fresh") else "NOT FRESH"
    yield f"worker {worker.get('worker', '?')}: {state}, {worker.get('version') or 'nothing in force'}, from {worker.get('source')}"
    if (success_s := worker.get("last_success_s")) is not None:
        yield f"  last refresh   {_ago(success_s, now_s)}"
    if error := worker.get("last_error"):
        yield f"  last error     {error} ({worker.get('failures')} in a row)"
    yield from _body(worker, now_s)


def _body(shown: Mapping[str, Any], now_s: float) -> Iterator[str]:
    expires = shown.get("expires_at_s", {})
    for role, version in shown.get("versions", {}).items():
        yield f"  {role:<14} version {version}, {_until(expires.get(role), now_s)}"
    for problem in shown.get("problems", ()):
        yield f"  problem        {problem}"
    for one in shown.get("contents", ()):
        yield f"  {one.get('kind', '?'):<14} {_content(one, now_s)}"
        for order in one.get("orders", ()):
            yield f"    {_order(order, now_s)}"


def _content(one: Mapping[str, Any], now_s: float) -> str:
    if "error" in one:
        return f"refused: {one['error']}"
    if "uri" in one:
        marked = ", ".join(f"{one[name]:,} {name}" for name in ("invalid", "suspended", "other") if one.get(name))
        return f"{one['uri']} of {one['iss']}: {_age(one, now_s)}; {marked or 'nothing marked'}"
    if "iat" in one:
        return f"{one['count']:,} of {one['iss']}: {_age(one, now_s)}"
    if "issuers" in one:
        return ", ".join(one["issuers"])
    return str(one.get("name", ""))


def _order(order: Mapping[str, Any], now_s: float) -> str:
    what = ", ".join(order["what"]) or "everything"
    where = f" in {', '.join(order['jurisdictions'])}" if order["jurisdictions"] else ""
    lifted_s = order["lifted_at"]
    if lifted_s is not None and lifted_s <= now_s:
        state = f"lifted {iso_s(lifted_s)}"
    elif order["effective_at"] > now_s:
        state = f"from {iso_s(order['effective_at'])}"
    else:
        state = f"in force since {iso_s(order['effective_at'])}"
    return f"order {order['ref']} ({order['scope']}: {what}{where}) {state}"


def _age(one: Mapping[str, Any], now_s: float) -> str:
    return f"{_ago(one['iat'], now_s)}, may be {one['ttl_s']:,} s old, {_until(one['exp'], now_s)}"


def _ago(then_s: float, now_s: float) -> str:
    return f"{max(0.0, now_s - then_s):,.0f} s ago"


def _until(then_s: float | None, now_s: float) -> str:
    if then_s is None:
        return "without an end"
    return f"until {iso_s(then_s)}" if then_s > now_s else f"EXPIRED {iso_s(then_s)}"
