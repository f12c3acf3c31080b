"""The least a proxy in Python can be: plain ASGI on uvicorn, the aiohttp client, bytes in and bytes out, no looking.

What the gateway costs beyond this is the gateway; what this costs is the machine, the libraries and the day. It is the
measure to compare runs on different machines by.
"""

from __future__ import annotations

import argparse

import aiohttp
import uvicorn
from starlette.types import Receive, Scope, Send

_DROPPED = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"})


class Bare:
    """ASGI application in front of one endpoint."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._client: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await receive()
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, skip_auto_headers=("User-Agent",)
            )
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._client.close()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await self._relay(scope, receive, send)

    async def _relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._client is not None
        parts = []
        more = True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        async with self._client.post(self._origin + scope["path"], data=b"".join(parts), headers=headers) as reply:
            fields = [(name.lower(), value) for name, value in reply.raw_headers if name.lower() not in _DROPPED]
            await send({"type": "http.response.start", "status": reply.status, "headers": fields})
            async for data in reply.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--origin", required=True)
    given = parser.parse_args()
    uvicorn.run(
        Bare(given.origin), port=given.port, loop="uvloop", http="httptools", lifespan="on", access_log=False, log_level="warning"
    )  # fmt: skip


if __name__ == "__main__":
    main()
