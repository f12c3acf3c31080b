"""`python -m gateway.sample`: serve until SIGTERM or Ctrl-C. Prints one line when it accepts calls."""

from __future__ import annotations

import argparse
import socket
import sys

import uvicorn

from gateway.sample.server import SampleApp


class _Server(uvicorn.Server):
    """Says where it listens once it does, for whoever started it on port 0."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind, then print the address."""
        await super().startup(sockets=sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            sys.stdout.write(f"sample model on http://{host}:{port}/v1\n")
            sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Parse, serve, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway.sample", description="A sample model for demonstrations and tests."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090, help="0 picks a free one; the first line of output names it")
    parser.add_argument("--token-interval-ms", type=float, default=20.0, help="pause before each token of a stream")
    parser.add_argument("--api-key", default=None, help="refuse every other key with 401; without it any key will do")
    given = parser.parse_args(arguments)
    config = uvicorn.Config(
        SampleApp(given.token_interval_ms / 1000, given.api_key),
        host=given.host,
        port=given.port,
        # "sample-cut" leaves answers unfinished on purpose, which the server logs as an error.
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
