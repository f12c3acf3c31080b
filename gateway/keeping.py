"""What of a call is kept beside its records, where the policy asks for it: the exchange as it left, encrypted, and the evidence of
what was blocked, sealed for custodians. Nothing of a call is held for it where the policy does not.

Order: what is to be kept is on its way to the disk before the outcome that names it is appended, so the exchange is kept before the last
byte of an answer leaves. A transcript that cannot be kept refuses the answer while that is still possible (L1); evidence
that cannot be kept changes nothing for a caller who is refused anyway, and is told to operators.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from gateway.audit.record import Note
from gateway.call import Call, Kept, Stop
from gateway.errors import AuditError
from gateway.reasons import Outcome, Reason
from gateway.refusals import outcome_for
from gateway.vault.access import VaultError
from gateway.vault.cases import Vault
from gateway.vault.transcripts import Transcripts
from policies.model import Content

log = logging.getLogger("licet.keeping")

TRANSCRIPT, EVIDENCE = "transcript.v1", "evidence.v1"
CASE = "case"  # topic of the notes
LOST = "The exchange cannot be kept, which this model's policy asks for."


@dataclass(frozen=True, slots=True)
class Keeping:
    """What one worker keeps with. `note` appends to the journal."""

    transcripts: Transcripts
    vault: Vault | None  # None: there are no custodians, and no policy asks for evidence
    note: Callable[[Note], object] = field(repr=False)

    def begin(self, call: Call, body: bytes) -> Stop | None:
        """Say what is to be kept of a call whose policy is known; a decision against it where that cannot be."""
        assert call.model is not None
        policy = call.model.policy
        transcript = policy.content is Content.ENCRYPTED
        if transcript and self.transcripts.problem is not None:
            return Stop(Reason.AUDIT_UNAVAILABLE, LOST)
        if transcript or policy.keeps_blocked:
            call.kept = Kept(transcript, policy.keeps_blocked, body if policy.keeps_blocked else b"")
        return None

    async def exchange(self, call: Call, last: bytes = b"") -> None:
        """Keep the exchange, whose answer ends with `last`. Raises AuditError: then the answer must not be let go."""
        kept = call.kept
        if kept is None or not kept.transcript or kept.written or call.reply_status is None:
            return
        kept.written = True
        text = {"v": TRANSCRIPT, "call_id": call.id, "prompt": _text(kept.sent), "answer": _text(kept.answer + last)}
        try:
            call.transcript = await self.transcripts.keep(call.id, call.subject, orjson.dumps(text))
        except VaultError as error:
            log.error("call %s: %s", call.id, error)  # noqa: TRY400  # its text is the room's own, and has none of the call's
            raise AuditError(Reason.AUDIT_UNAVAILABLE, LOST) from error

    async def ended(self, call: Call) -> None:
        """What is left to keep of a call that was refused, blocked, or left by its caller. Never raises for what is lost."""
        try:
            await self.exchange(call)
        except AuditError:
            call.transcript = None
        await self._evidence(call)

    async def _evidence(self, call: Call) -> None:
        kept = call.kept
        if kept is None or not kept.evidence or self.vault is None or call.stop is None or call.case is not None:
            return
        if outcome_for(call.stop.reason) is not Outcome.BLOCKED:
            return
        text = {
            "v": EVIDENCE,
            "call_id": call.id,
            "reasons": call.stop.codes,
            "prompt": _text(kept.prompt),
            "answer": _text(kept.raw),
        }
        try:
            sealed = await self.vault.keep(call.id, orjson.dumps(text))
            self.note(Note(ts=time.time_ns() // 1_000_000, topic=CASE, detail=sealed.detail))
        except (VaultError, AuditError) as error:
            log.error("call %s: its evidence is lost: %s", call.id, error)  # noqa: TRY400  # as above
            return
        call.case = sealed.case

    async def close(self) -> None:
        """Finish what waits. Harmless twice."""
        try:
            await self.transcripts.close()
        except VaultError as error:
            log.error("%s", error)  # noqa: TRY400  # as above
        if self.vault is not None:
            self.vault.close()


def _text(data: bytes | bytearray) -> str:
    """Bodies are JSON or events, which are UTF-8; what is not is shown as far as it is."""
    return data.decode("utf-8", "replace")
