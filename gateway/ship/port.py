"""What a place that takes records is to the one who brings them.

Contract of `Sink`, for every implementation:
- `send` returns once the place has said, in its own protocol, that it took every record of the batch, and raises SinkError otherwise. It may
  block for as long as TIMEOUT_S; it never retries: pauses and repetition are the runner's.
- A batch may come again: after an error nobody knows how much of it was taken. Records carry ids that let the place see the repetition (`stream/seq`).
- Batches of one stream come in order, without gaps, but for ranges that somebody asked for again (`cursor.ask_again`), which may come
  at any time. A sink is used by one thread at a time.
- Its module is named as its settings are (`telemetry.syslog`: `gateway.ship.syslog`) and has `sink(work: process.Work) -> Sink`, which raises
  ConfigError for settings that cannot be used and connects to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.audit.sealed import SealedHead

TIMEOUT_S = 30.0  # our choice: longer than a busy backend needs for one batch
BATCH_RECORDS = 512  # our choice: some 0.5 MB
BATCH_BYTES = 4 << 20  # our choice: below the limits of common collectors


class SinkError(Exception):
    """The place did not take the batch. Says why, without credentials and without any of the place's own text beyond a few words.

    `after_s`: the place asks not to be tried sooner (Retry-After); None: it did not say.
    """

    def __init__(self, why: str, *, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Batch:
    """Sealed records of one stream, in order."""

    stream: str
    first: int  # seq of payloads[0]
    payloads: tuple[bytes, ...]  # stored bytes of each record
    head: SealedHead  # that covers them

    @property
    def next(self) -> int:
        """The seq behind the last."""
        return self.first + len(self.payloads)


class Sink(Protocol):
    """A place."""

    @property
    def name(self) -> str:
        """otlp, syslog, jsonl, s3: unique, and the name of its cursor."""

    def send(self, batch: Batch) -> None:
        """Raises SinkError."""

    def close(self) -> None:
        """Let go of connections. Harmless twice."""
