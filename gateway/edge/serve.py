"""uvicorn, set up for the gateway: loop, protocol, sockets, draining."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from gateway.edge.limits import EdgeLimits
from gateway.edge.protocol import LimitHook, ParseErrorHook, gateway_protocol

BACKLOG = 2048  # uvicorn's default; the kernel caps it at net.core.somaxconn (4096 since Linux 5.4)
GRACEFUL_SHUTDOWN_S = 30  # the usual grace of an orchestrator between SIGTERM and SIGKILL


def bind_socket(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening TCP socket. With `reuse_port` several processes may bind one port, and the kernel spreads connections.

    Port 0 takes a free one (`sock.getsockname()[1]`). Raises OSError if the address cannot be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def serve_config(
    app: Callable[..., Any],
    host: str,
    port: int,
    *,
    limits: EdgeLimits | None = None,
    on_parse_error: ParseErrorHook | None = None,
    on_limit: LimitHook | None = None,
    graceful_shutdown_s: int = GRACEFUL_SHUTDOWN_S,
    uds: str | None = None,
) -> uvicorn.Config:
    """The configuration for `uvicorn.Server(config)`; pass `sockets=[bind_socket(...)]` to `run` or `serve`.

    Forwarded-for headers are not believed: who calls is what the connection says. The Date header stays on (RFC 9110
    section 6.6.1 demands it of a server with a clock; uvicorn renders it once a second), the Server header is off.
    """
    limits = limits or EdgeLimits()
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        uds=uds,
        loop="uvloop",
        http=gateway_protocol(limits=limits, on_parse_error=on_parse_error, on_limit=on_limit),
        ws="none",
        lifespan="on",
        interface="asgi3",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        backlog=BACKLOG,
        timeout_keep_alive=limits.keep_alive_s,
        timeout_graceful_shutdown=graceful_shutdown_s,
    )
