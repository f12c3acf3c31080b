"""Call: one exchange as it goes through the pipeline, what is known about it so far, and when things happened.

Facts that a check rests on come from the caller's entry, the model's configuration and its policy, never from a
header or a field of the request (L8). Only the pipeline writes a call; the other rooms are given parts of it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from gateway.audit.journal import Receipt
from gateway.callers import Admission, Caller
from gateway.governed import Governed
from gateway.license.check import Scope, Verdict
from gateway.protocols.base import Adapter, Answer, Prompt, StreamCodec
from gateway.pseudonyms import Session
from gateway.reasons import Outcome, Reason
from gateway.screen import Findings, Screening
from gateway.streams import StreamScreen
from gateway.training.calls import TrainingCall
from policies import CallerFacts

_ID_BYTES = 16  # a call id is also a W3C trace id: 16 bytes, shown as 32 hex digits


def new_call_id() -> str:
    """A fresh call id: 32 lowercase hex digits."""
    return os.urandom(_ID_BYTES).hex()


@dataclass(slots=True)
class Clock:
    """When things happened, in nanoseconds of a monotonic clock; the wall clock is read once, at the start."""

    started_ms: int  # Unix time, milliseconds
    started_ns: int
    upstream_sent_ns: int = 0
    upstream_first_ns: int = 0
    upstream_done_ns: int = 0
    caller_first_ns: int = 0

    @classmethod
    def start(cls) -> Clock:
        """A clock that starts now."""
        return cls(started_ms=time.time_ns() // 1_000_000, started_ns=time.monotonic_ns())

    def elapsed_ms(self) -> float:
        """Milliseconds since the start."""
        return (time.monotonic_ns() - self.started_ns) / 1e6

    def overhead_ms(self) -> float:
        """Milliseconds spent here before the upstream was asked and, so far, after its answer began."""
        now = time.monotonic_ns()
        if not self.upstream_sent_ns:
            return (now - self.started_ns) / 1e6
        waited = (self.upstream_first_ns or now) - self.upstream_sent_ns
        return max(0.0, (now - self.started_ns - waited) / 1e6)

    def upstream_ttfb_ms(self) -> float | None:
        """Milliseconds from asking the upstream to the head of its answer; None when it never answered."""
        if not self.upstream_first_ns:
            return None
        return (self.upstream_first_ns - self.upstream_sent_ns) / 1e6


@dataclass(frozen=True, slots=True)
class Stop:
    """A decision against a call. Its message is shown to the caller and holds no text of the call."""

    reason: Reason
    message: str = ""
    param: str | None = None
    retry_after_s: int | None = None
    also: tuple[Reason, ...] = ()  # every further reason, for the record
    overrides: bool = False  # an authority's order: carried out whatever the policy's mode is

    @property
    def codes(self) -> tuple[str, ...]:
        """All reason codes, the deciding one first."""
        return (self.reason.code, *(reason.code for reason in self.also if reason is not self.reason))


@dataclass(slots=True)
class Kept:
    """What of a call is held until it can be kept, where its policy asks for that."""

    transcript: bool  # the exchange as it left, both ways
    evidence: bool  # what was blocked, as it came
    prompt: bytes = b""  # as it came
    sent: bytes = b""  # as it went upstream
    raw: bytearray = field(default_factory=bytearray)  # the answer as it came
    answer: bytearray = field(default_factory=bytearray)  # the answer as it left
    written: bool = False  # the exchange was handed on


@dataclass(slots=True)
class Call:
    """What is known of one call so far."""

    id: str
    adapter: Adapter
    clock: Clock
    source: str  # the address of the connection
    operation: str | None = None  # None: a path that is not served
    caller: Caller | None = None
    body_bytes: int = 0
    body_digest: str | None = None
    training: TrainingCall | None = None  # an upload, a job, the making of a voice
    prompt: Prompt | None = None
    model: Governed | None = None
    facts: CallerFacts | None = None
    scope: Scope | None = None
    admission: Admission | None = None
    verdict: Verdict | None = None
    screening: Screening | None = None
    session: Session | None = None  # of pseudonyms, where the policy has some
    receipt: Receipt | None = None
    reply_status: int | None = None
    subject: str | None = None  # keyed digest of the end user, as the caller names it
    linked: str | None = None  # the caller's traceparent
    provider_id: str | None = None  # of the answer, as its body says
    request_id: str | None = None  # as the provider's header says
    served_model: str | None = None
    answer: Answer | None = None
    answer_findings: Findings = field(default_factory=Findings)
    stream: StreamScreen | None = None
    codec: StreamCodec | None = None
    stop: Stop | None = None  # what ended the call, if it did not end well
    cut: Stop | None = None  # what the license gate said against a running stream, with every reason
    status: int | None = None  # sent to the caller
    sent_bytes: int = 0
    sent_digest: str = ""  # keyed, of the body that the caller was sent
    kept: Kept | None = None  # None: nothing of its content is
    transcript: str | None = None  # where the exchange is
    case: str | None = None  # of the evidence vault
    texts: tuple[str, ...] = ()  # keyed digests of the texts in a whole answer, as they left
    unrecorded: bool = False  # the journal failed; the caller is told, and nothing more is appended
    would_be: tuple[Outcome, tuple[str, ...]] | None = None
    flags: tuple[str, ...] = ()  # reason codes of what the policy lets pass and wants to be known
    unsynced: tuple[str, ...] = ()
    concluded: bool = False

    @property
    def shadow(self) -> bool:
        """Whether this call's policy only watches."""
        return self.model is not None and self.model.policy.shadow

    @property
    def masked(self) -> bool:
        """Whether anything was masked, either way."""
        prompt = self.screening is not None and self.screening.findings.masked > 0
        return (prompt or self.findings_out.masked > 0) and not self.shadow

    @property
    def findings_out(self) -> Findings:
        """What was found in the answer."""
        return self.stream.findings if self.stream is not None else self.answer_findings

    def enforced(self, stop: Stop | None, outcome: Outcome) -> Stop | None:
        """A decision as it is carried out: in shadow mode it is only noted, unless it stands above the policy."""
        if stop is not None and self.shadow and not stop.overrides:
            self.would(outcome, stop.codes)
            return None
        return stop

    def cut_by(self, stop: Stop | None) -> Reason | None:
        """The reason that ends a running stream; all of the decision is kept for the record."""
        if stop is None:
            return None
        self.cut = stop
        return stop.reason

    def stop_for(self, reason: Reason) -> Stop:
        """The decision that ended a stream for this reason."""
        return self.cut if self.cut is not None and self.cut.reason is reason else Stop(reason)

    def flag(self, *codes: str) -> None:
        """Note what passes although it should be known."""
        self.flags = tuple(dict.fromkeys((*self.flags, *codes)))

    def would(self, outcome: Outcome, codes: tuple[str, ...]) -> None:
        """Shadow mode: note what enforcing would have done. The first decision stands."""
        if self.would_be is None:
            self.would_be = (outcome, codes)
