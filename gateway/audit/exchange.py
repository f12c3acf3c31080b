"""One request and its whole answer over HTTP, bounded in bytes and in time: from the look-up of the name to the last byte.

A timeout of urllib3 bounds each wait for the next bytes, not their sum: who sends a byte now and then, in the head or in the body, would
never be done. So each exchange runs in a thread of its own. Who asked waits for as long as was agreed and no longer; then the connection is
cut, which ends the thread. Only a look-up of a name cannot be cut: the next exchange waits for it within its own time, and does not begin beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final

import urllib3

from gateway.audit.answer import AnswerError, read_answer
from gateway.live_connections import LiveConnections, pools_told_of

CONNECT_S: Final = 10.0  # our choice: also for the TLS handshake


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back. Names of headers are of any case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Exchanges:
    """Connections to places, kept between exchanges. For one thread at a time. Neither retries nor follows redirects or proxies."""

    def __init__(self, *, timeout_s: float, connect_s: float = CONNECT_S, ca_file: str | None = None) -> None:
        """`timeout_s`: of each exchange in all. `ca_file`: certificates to trust instead of the system's own."""
        self.timeout_s = timeout_s
        self._pools = urllib3.PoolManager(
            num_pools=4,
            maxsize=1,
            retries=False,
            timeout=urllib3.Timeout(connect=min(connect_s, timeout_s), read=timeout_s),
            cert_reqs="CERT_REQUIRED",
            ca_certs=ca_file,
        )
        self._live = LiveConnections()
        self._pools.pool_classes_by_scheme = pools_told_of(self._live.add, self._live.add)
        self._late: threading.Thread | None = None

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str | bytes],
        bytes_max: int,
        body: bytes | None = None,
    ) -> Answered:
        """Raises AnswerError where a bound was broken, urllib3's HTTPError for all else."""
        late = AnswerError(f"did not end its answer within {self.timeout_s:g} s")
        if self._late is not None:
            self._late.join(self.timeout_s)
            if self._late.is_alive():
                raise late
            self._late = None
        told: Future[Answered] = Future()

        def run() -> None:
            try:
                told.set_result(self._exchange(method, url, headers, body, bytes_max))
            except BaseException as error:  # noqa: BLE001  whoever waits raises it
                told.set_exception(error)

        self._live.begin()
        thread = threading.Thread(target=run, name="licet-exchange", daemon=True)
        thread.start()
        try:
            return told.result(self.timeout_s)
        except TimeoutError:
            if told.done():  # at the last moment
                return told.result()
            raise late from None
        finally:
            if not told.done():  # its time is over, or whoever waited was interrupted
                self._live.cut()
                self._late = thread

    def close(self) -> None:
        """Let go of connections. Harmless twice."""
        self._live.cut()
        self._pools.clear()

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str | bytes], body: bytes | None, bytes_max: int
    ) -> Answered:
        given: Any = headers  # values may be bytes, which the types of urllib3 do not know
        try:
            response = self._pools.request(
                method, url, body=body, headers=given, redirect=False, retries=False, preload_content=False
            )
            data = read_answer(response, bytes_max, self.timeout_s)
        except (HTTPException, OSError) as error:  # what urllib3 lets through as it is
            raise urllib3.exceptions.ProtocolError(type(error).__name__) from error
        return Answered(response.status, response.headers, data)
