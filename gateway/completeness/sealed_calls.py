"""The calls of the sealed journal, each once, as far as they concern whoever answered them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.audit.held import kept_records
from gateway.audit.record import Intent, OutcomeRecord, decode
from gateway.audit.sealed import first_kept, sealed_head
from gateway.history.fleet import record_streams
from gateway.reasons import Outcome

OPEN_MAX = 200_000  # our choice: calls in flight in one stream at once; a worker serves some hundred


class SealedCall(NamedTuple):
    """One call. `outcome` is None as long as it has none that is sealed."""

    stream: str
    intent: int
    outcome: int | None
    call_id: str
    ts: int
    ended: int | None
    origin: str
    model: str  # as the upstream was asked for it
    served_model: str
    request_id: str
    provider_id: str
    input_tokens: int | None
    output_tokens: int | None
    upstream_status: int | None
    how: str  # the outcome; "open" without one

    @property
    def id(self) -> str:
        """Of the outcome's record, or of the intent's while there is no outcome."""
        return f"{self.stream}/{self.intent if self.outcome is None else self.outcome}"

    @property
    def answered(self) -> bool:
        """Whether the upstream certainly had it."""
        return self.upstream_status is not None

    @property
    def perhaps(self) -> bool:
        """Whether the upstream may have had it without our knowing: the worker died, or nothing came back."""
        return not self.answered and self.how in ("open", Outcome.UNKNOWN, Outcome.CANCELLED, Outcome.FAILED)


class Sealed(NamedTuple):
    """What was read."""

    streams: int
    records: int
    newest_ms: int  # of all sealed records; 0 without any
    pruned: tuple[str, ...]  # streams whose first records are not there any more, but for those that are held


def read_calls(
    data_dir: Path, take: Callable[[SealedCall], object], progress: Callable[[int, int], object] = lambda *_: None
) -> Sealed:
    """Hand every sealed call to `take`, those without outcome last of their stream. Raises SealedError, OSError.

    `progress` is told records read and records in all. Memory is bounded by the calls that are open at once.
    """
    heads = [sealed_head(data_dir, name) for name in record_streams(data_dir)]
    total = sum(head.size for head in heads)
    done = newest = 0
    pruned = []
    for head in heads:
        start = first_kept(data_dir, head.stream)
        if start:
            pruned.append(head.stream)
        done += start
        waiting: dict[int, Intent] = {}
        for seq, payload in kept_records(data_dir, head.stream, head.size):
            done += 1
            if done % 4096 == 0:
                progress(done, total)
            try:
                record = decode(payload)
            except msgspec.MsgspecError as error:
                raise OSError(f"{head.stream}/{seq}: not a record of this version; verify the log") from error
            newest = max(newest, record.ts)
            if isinstance(record, Intent):
                waiting[seq] = record
                if len(waiting) > OPEN_MAX:
                    raise OSError(f"{head.stream}: more than {OPEN_MAX:,} calls are open at once; verify the log")
            elif isinstance(record, OutcomeRecord):
                intent = waiting.pop(record.intent, None)
                if intent is not None:  # otherwise its intent was pruned away
                    take(_call(head.stream, record.intent, intent, seq, record))
        for seq, intent in waiting.items():
            take(_call(head.stream, seq, intent, None, None))
    progress(total, total)
    return Sealed(len(heads), total, newest, tuple(pruned))


def _call(stream: str, at: int, intent: Intent, seq: int | None, outcome: OutcomeRecord | None) -> SealedCall:
    usage = outcome.usage if outcome is not None else None
    return SealedCall(
        stream,
        at,
        seq,
        intent.call_id,
        intent.ts,
        outcome.ts if outcome is not None else None,
        intent.target_origin or "",
        intent.target_model or "",
        (outcome.served_model or "") if outcome is not None else "",
        (outcome.request_id or "") if outcome is not None else "",
        (outcome.provider_id or "") if outcome is not None else "",
        usage.input_tokens if usage is not None else None,
        usage.output_tokens if usage is not None else None,
        outcome.upstream_status if outcome is not None else None,
        outcome.outcome.value if outcome is not None else "open",
    )
