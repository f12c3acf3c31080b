"""Cases that people open by hand, about a call that was answered: its records and its transcript, sealed for the custodians.

The transcript is decrypted in this process and sealed again at once; nobody is shown it here. From then on it stays as long as the case, whatever
becomes of the transcript and its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from gateway.audit import query
from gateway.vault import transcripts
from gateway.vault.access import CASE, TRANSCRIPT_ACCESS, AccessLog, ErasedError, VaultError, who
from gateway.vault.cases import INCIDENT, Sealed, case_of, seal
from gateway.vault.custody import Holder

EVIDENCE = "incident.v1"


class Incident(NamedTuple):
    """A case that was opened by hand."""

    sealed: Sealed
    erased: bool  # there was a transcript, whose key was destroyed: the case holds the records alone


def incident(
    data_dir: Path, people: Sequence[Holder], call_id: str, reason: str, log: AccessLog, *, now_ms: int
) -> Incident:
    """Open the case. Recorded first. Raises VaultError, AuditError, OSError."""
    if not people:
        raise VaultError("audit.custodians: none; name two or more, who open cases together")
    found = query.find(data_dir, call_id)
    if not isinstance(found, query.Call) or found.intent.record.__struct_config__.tag != "intent":
        raise VaultError(f"the journal has no call {call_id!r}; take the id from x-licet-call-id")
    records = [found.intent] + ([found.outcome] if found.outcome is not None else [])
    frame = transcripts.find(data_dir, call_id)
    detail = {CASE: case_of(call_id), "call": call_id, "who": who(), "reason": reason}
    log.note(CASE, {**detail, "what": "incident", "transcript": frame is not None})
    exchange, erased = None, False
    if frame is not None:
        log.note(TRANSCRIPT_ACCESS, {"call": call_id, "what": "moved", "who": who(), "reason": reason})
        try:
            exchange = transcripts.read(data_dir, call_id, frame.ref).decode("utf-8", "replace")
        except ErasedError:
            erased = True
    evidence = orjson.dumps(
        {
            "v": EVIDENCE,
            "call_id": call_id,
            "records": [{"id": one.id, "record": one.payload.decode()} for one in records],
            "transcript": exchange,
            "erased": erased,
        }
    )
    made = seal(data_dir, people, call_id, evidence, kind=INCIDENT, now_ms=now_ms)
    log.note(CASE, {**made.detail, "erased": erased, "who": who(), "reason": reason})
    return Incident(made, erased)
