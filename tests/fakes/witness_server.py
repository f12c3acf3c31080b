"""Witnesses behind real sockets: ours, and ones that answer as they are told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gateway.seal.witness import Witness
from gateway.seal.witness_cli import server

Reply = tuple[int, str, bytes]  # status, content type, body


@contextmanager
def serving(witness: Witness) -> Iterator[str]:
    """Its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = server(witness)
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()


@contextmanager
def answering(reply: Callable[[bytes], Reply]) -> Iterator[str]:
    """The URL of a server that answers each request as `reply` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, kind, body = reply(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            if status in (301, 302, 307, 308):
                self.send_header("location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()
