"""`licet audit witness init | serve | show`: a witness that a regulator runs, and its HTTP door."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Annotated

import orjson
import typer
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import ConfigError
from gateway.seal.witness import BODY_BYTES_MAX, Answer, Witness, init, load, seen
from gateway.shown_time import shown_s

READ_S = 10.0  # our choice: for a body of 130 kB
CONNECTIONS_MAX = 64  # our choice; a gateway keeps one open
KEEP_ALIVE_S = 30
_HASH_CHARS = 64

app = typer.Typer(no_args_is_help=True, help="Run a witness: it signs that a log never showed two histories.")

Data = Annotated[Path, typer.Option("--data", help="The witness' own directory.")]


@app.command("init")
def init_command(
    name: Annotated[str, typer.Option("--name", help="The witness' name, such as witness.example.org/w1. For ever.")],
    data: Data = Path("witness"),
) -> None:
    """Make a witness and print its verifier key, which gateways put into `audit.witnesses`."""
    try:
        typer.echo(str(init(data, name)))
    except (ConfigError, OSError) as error:
        raise _usage(error) from error


@app.command("serve")
def serve_command(
    logs: Annotated[
        list[str], typer.Option("--log", help="Verifier key of a gateway (`licet audit key`). Repeatable.")
    ],
    data: Data = Path("witness"),
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where it answers.")] = "127.0.0.1:7380",
) -> None:
    """Answer `add-checkpoint` for all logs of these gateways. Put TLS in front of it: heads are no secret, but who asks may be."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65_535:
        raise _usage(ValueError("--listen: write HOST:PORT"))
    try:
        witness = Witness(data, logs)
    except (ConfigError, OSError) as error:
        raise _usage(error) from error
    try:
        with _listening(host.strip("[]"), int(port)) as open_:
            typer.echo(f"witness {witness.key}")
            typer.echo(f"url http://{host}:{open_.getsockname()[1]}")
            server(witness).run(sockets=[open_])
    except OSError as error:
        raise _usage(ValueError(f"--listen: {listen}: {error.strerror or error}; give another address")) from error
    finally:
        witness.close()


@app.command("show")
def show_command(
    data: Data = Path("witness"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line, for programs.")] = False,
) -> None:
    """Show the verifier key, and what was cosigned last of each log. Exit code 1 if something is not what the witness signed."""
    try:
        key = load(data)
    except (ConfigError, OSError) as error:
        raise _usage(error) from error
    typer.echo(orjson.dumps({"witness": str(key)}).decode() if as_json else f"witness {key}")
    try:
        for kept in seen(data, key):
            head = kept.checkpoint
            if as_json:
                typer.echo(
                    orjson.dumps(
                        {"origin": head.origin, "size": head.size, "root": head.root.hex(), "time": kept.time_s}
                    )
                )
                continue
            typer.echo(f"{shown_s(kept.time_s)}  {head.size:>12,}  {head.origin}")
    except (ConfigError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def _listening(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def server(witness: Witness) -> uvicorn.Server:
    """The witness behind HTTP/1.1, ready to run on sockets."""
    config = uvicorn.Config(
        door(witness),
        lifespan="off",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        log_level="warning",
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def door(witness: Witness) -> ASGIApp:
    """`POST /add-checkpoint` and `GET /<hex sha256 of an origin>/checkpoint`."""

    async def answer(scope: Scope, receive: Receive) -> Answer:
        method, path = scope["method"], scope["path"]
        if path == "/add-checkpoint":
            if method != "POST":
                return Answer(405, b"POST it\n")
            body = await _body(receive)
            if body is None:
                return Answer(413, b"the request is too long, or takes too long\n")
            return await asyncio.to_thread(witness.add_checkpoint, body)
        origin, _, what = path[1:].partition("/")
        if (
            method == "GET"
            and what == "checkpoint"
            and len(origin) == _HASH_CHARS
            and not set(origin) - set("0123456789abcdef")
        ):
            return await asyncio.to_thread(witness.checkpoint, origin)
        return Answer(404, b"there is nothing here\n")

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        found = await answer(scope, receive)
        headers = [(b"content-type", found.content_type.encode()), (b"content-length", b"%d" % len(found.body))]
        if found.status == 413:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": found.status, "headers": headers})
        await send({"type": "http.response.body", "body": found.body})

    return asgi


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None for one that is too long, too slow, or breaks off."""
    found = bytearray()
    try:
        async with asyncio.timeout(READ_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                found += message.get("body", b"")
                if len(found) > BODY_BYTES_MAX:
                    return None
                if not message.get("more_body", False):
                    return bytes(found)
    except TimeoutError:
        return None


def _usage(error: Exception) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2)
