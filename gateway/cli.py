"""The `licet` command. Each room brings its own sub-commands; here they are put together."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from gateway import __version__
from gateway.errors import AuditError, ConfigError
from gateway.lazy import rooms

# Rooms that bring commands of their own.
ROOMS = {
    "attest": "gateway.attest.cli:app",
    "audit": "gateway.audit_cli:app",
    "authority": "gateway.authority.cli:app",
    "clocks": "gateway.clocks_cli:clocks",
    "license": "gateway.license.cli:app",
    "policy": "gateway.policy_cli:app",
    "scan": "gateway.scan.cli:scan",
    "trust": "gateway.trust.cli:app",
}


app = typer.Typer(
    name="licet",
    cls=rooms(ROOMS),
    help="A compliance gateway for generative models: license gate, content filters, verifiable audit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # a traceback must not print what a variable holds
)
key_app = typer.Typer(help="Keys of callers.", no_args_is_help=True)
app.add_typer(key_app, name="key")

READER_LEFT = 141  # 128 + SIGPIPE: what a shell tells of a command whose reader left

Config = Annotated[Path, typer.Option("--config", "-c", help="The gateway's YAML file.")]


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s  %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("tuf").setLevel(logging.WARNING)  # it tells of each root key that did not have to sign


def _fail(problems: list[str]) -> typer.Exit:
    for problem in problems:
        typer.echo(problem, err=True)
    return typer.Exit(1)


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 8080,
    data: Annotated[Path, typer.Option(help="Folder for keys, policy, settings and records.")] = Path("var"),
) -> None:
    """Start the whole stack here: a sample model, a license for it, and the gateway in front."""
    from gateway.demo import up as start

    _log_to_stderr()
    try:
        start(data, port, say=typer.echo)
    except (ConfigError, AuditError) as error:
        raise _fail(getattr(error, "problems", [str(error)])) from error


@app.command()
def serve(config: Config = Path("gateway.yaml")) -> None:
    """Run the gateway."""
    from gateway.server import serve as run

    _log_to_stderr()
    try:
        run(config)
    except (ConfigError, AuditError) as error:
        raise _fail(getattr(error, "problems", [str(error)])) from error
    except OSError as error:
        raise _fail([f"{config}: listen: {error.strerror or error}; choose another host or port"]) from error


@app.command(hidden=True)
def worker(
    config: Config,
    index: Annotated[int, typer.Option(min=0, help="Its number, from 0.")],
    names: Annotated[list[str] | None, typer.Option(help="MODE=SOCKET of the processes that look for names.")] = None,
) -> None:
    """One of several workers; started by `serve`."""
    from gateway.server import run_worker
    from gateway.settings import load_settings

    _log_to_stderr()
    try:
        sockets = {mode: Path(socket) for mode, _, socket in (one.partition("=") for one in names or ())}
        run_worker(load_settings(config), worker=index, names=sockets)
    except (ConfigError, AuditError) as error:
        raise _fail(getattr(error, "problems", [str(error)])) from error


@app.command()
def check(
    config: Config = Path("gateway.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Problems as a JSON list.")] = False,
) -> None:
    """Read the settings and every file they name, offline, and list all problems with file, line and remedy."""
    from gateway.checkup import check as check_files
    from gateway.policy_cli import reader, recognized

    found, problems = recognized(config)
    # Without the recognizers nobody knows which entities a policy may name: only its form is looked at.
    problems += check_files(config) if found is None else check_files(config, read_policy=reader(found))
    if as_json:
        typer.echo(orjson.dumps(problems).decode())
    elif problems:
        for problem in problems:
            typer.echo(problem)
        typer.echo(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} found.")
    else:
        typer.echo(f"{config}: no problems found.")
    if problems:
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@key_app.command("new")
def key_new() -> None:
    """Make a caller's key. It is shown once; the settings hold only its SHA-256."""
    from gateway.callers import new_key

    key, digest = new_key()
    typer.echo(f"key         {key}")
    typer.echo(f"key_sha256  {digest}")
    typer.echo("Give the key to the caller, and put key_sha256 into an entry of `callers:`.")


class _Pipe(io.FileIO):
    """A pipe whose reader may leave before the end, as `head` does: that ends the command without a word, whatever it was about to handle."""

    def write(self, data: Any, /) -> int:
        """Raises SystemExit once nobody reads."""
        try:
            return super().write(data)
        except BrokenPipeError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())  # what is still buffered goes there when the process ends
            os.close(nothing)
            raise SystemExit(READER_LEFT) from None


def to_reader(fd: int, encoding: str = "utf-8") -> io.TextIOWrapper:
    """Text to a pipe."""
    return io.TextIOWrapper(io.BufferedWriter(_Pipe(fd, "w", closefd=False)), encoding=encoding)


def main() -> None:
    """Entry point."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # there may be no standard output at all
        if stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
            sys.stdout = to_reader(sys.stdout.fileno(), sys.stdout.encoding)
    try:
        app()
    finally:
        with contextlib.suppress(AttributeError, ValueError):  # as above
            sys.stdout.flush()
