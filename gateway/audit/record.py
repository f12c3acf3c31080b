"""The records of `trace.v1`, and how one becomes bytes. gateway/tlog/FORMAT.md lists every field.

Five kinds: `start` opens a stream, `end` closes it, each call has one `intent` and one `outcome`, and a `note` holds what
is counted rather than told one by one. Fields that are None are left out. Nothing here can hold a matched value or a
text of the call (L7): findings are counts, contents are keyed digests.

The small structs (`PolicyRef`, `LicenseRef`) are frozen so that one can be built per policy or license and shared by calls.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.errors import AuditError
from gateway.reasons import Outcome, Reason
from gateway.tlog.frames import RECORD_BYTES_MAX, TRACE_VERSION

STRING_CHARS_MAX = 256  # our choice: longer names, ids and reasons come from outside and are cut when they must be
LIST_ITEMS_MAX = 32  # our choice: as above; one list of longest CJK strings is 24 kB
INT_MAX = 2**53 - 1  # RFC 8259, section 6: integers every JSON reader agrees on

Counts = dict[str, dict[str, int]]  # entity -> action -> how many findings


class _Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A group of fields inside a record."""


class PolicyRef(_Part, frozen=True):
    """Which rules applied, exactly (L10)."""

    name: str
    digest: str  # sha256 hex of the policy file
    mode: str  # enforce | shadow
    detectors: dict[str, str] | None = None  # name -> version
    presets: tuple[str, ...] | None = None
    deviations: tuple[str, ...] | None = None  # rows that a preset leaves free and this policy loosens
    binding_min: str | None = None  # B0 .. B3, what the policy asks of the endpoint


class LicenseRef(_Part, frozen=True):
    """What the license gate said, and of which license."""

    verdict: str  # allow | deny | undecided | off
    id: str | None = None
    digest: str | None = None  # sha256 hex of the token
    issuer: str | None = None
    reasons: tuple[str, ...] | None = None  # reason codes
    status: str | None = None  # valid | grace | suspended | revoked | stale | none
    status_iat: int | None = None  # when the authority published that status, s since 1970
    status_age_s: int | None = None
    state: str | None = None  # as the license says: active, submitted, ...
    trust_level: str | None = None
    binding: str | None = None  # B0 .. B3
    model_version: str | None = None
    order: str | None = None  # the order in force that forbids the call
    regime: str | None = None  # cn-approval, eu-db, internal, ...
    filing: str | None = None  # the number under which it was filed or registered
    region: str | None = None  # where the licensed endpoint is


class TrainingRef(_Part, frozen=True):
    """The permit under which a call that trains, uploads for it or makes a voice was let through."""

    permit: str
    digest: str  # sha256 hex of the token
    issuer: str


class PseudonymCounts(_Part, frozen=True):
    """How many pseudonyms went out in a prompt, or came back in an answer."""

    issued: int | None = None  # values of this prompt that a pseudonym stands for
    restored: int | None = None  # pseudonyms of this answer that became values again
    unknown: int | None = (
        None  # pseudonyms in this prompt that nobody here gave, or that are forgotten: they stay as they are
    )
    lost: bool | None = None  # what the store held of the conversation was broken or had expired
    local: bool | None = None  # the shared store could not be reached: they hold for this call alone


class Text(_Part, frozen=True):
    """A prompt or an answer, as it may be known: size, keyed digest, counts."""

    bytes: int
    digest: str | None = None  # "<key id>:<hmac-sha256 hex>" of the body; of an answer, as it left
    texts: tuple[str, ...] | None = None  # of an answer: the keyed digest of each text, without its white space
    findings: Counts | None = None
    modalities: tuple[str, ...] | None = None
    unjudged: bool | None = None  # some text passed without the models for names, as the policy says beyond a bound
    pseudonyms: PseudonymCounts | None = None


class UsageCounts(_Part, frozen=True):
    """Token counts as the provider states them."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class Durations(_Part, frozen=True):
    """Milliseconds, to the microsecond."""

    total_ms: float
    ttfb_ms: float | None = None  # upstream: request sent to first byte of its answer
    overhead_ms: float | None = None  # what this gateway added


class Refused(_Part, frozen=True):
    """A line of an aggregate: refusals of one source for one reason in one minute."""

    source: str  # keyed digest of the address prefix, or "other"
    code: str
    count: int


class _Record(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind"):
    """What every record has: when it was made, in ms since 1970 UTC. Clocks may step back; `seq` does not."""

    ts: int


class Start(_Record, frozen=True, tag="start"):
    """First record of a stream."""

    gateway: str
    worker: int
    build: str
    config_digest: str | None = None
    recovered: tuple[str, ...] | None = None  # streams of dead workers that this one closed before it began
    role: str | None = None  # of a process that is no worker: vault, adopt, ...


class Intent(_Record, frozen=True, tag="intent"):
    """Appended before the prompt leaves (L1). What is None had not been decided when the call was refused."""

    call_id: str  # 32 hex digits, also the trace id
    stream: bool
    caller: str | None = None
    tenant: str | None = None
    model: str | None = None  # the alias that the caller asked for
    target_origin: str | None = None  # scheme://host:port
    target_model: str | None = None
    operation: str | None = None
    policy: PolicyRef | None = None
    license: LicenseRef | None = None
    training: TrainingRef | None = None
    prompt: Text | None = None
    territory: tuple[str, ...] | None = None
    purpose: str | None = None
    audience: str | None = None
    age_band: str | None = None
    subject: str | None = None  # keyed digest of the end user as the caller names it; nothing is decided by it
    linked: str | None = None  # the caller's W3C traceparent: told, not trusted
    clipped: bool | None = None


class OutcomeRecord(_Record, frozen=True, tag="outcome"):
    """How a call ended (L6)."""

    call_id: str
    intent: int  # seq of its intent, in this stream
    outcome: Outcome
    reasons: tuple[str, ...] | None = None
    status: int | None = None  # HTTP status sent to the caller
    served_model: str | None = None
    provider_id: str | None = None  # of the answer, as its body says
    request_id: str | None = None  # of the request, as the provider's header says
    upstream_status: int | None = None
    usage: UsageCounts | None = None
    finish_reasons: tuple[str, ...] | None = None
    answer: Text | None = None
    events: int | None = None  # stream events released
    time: Durations | None = None
    would_be: Outcome | None = None  # shadow mode: what enforcing would have done
    would_be_reasons: tuple[str, ...] | None = None
    flags: tuple[str, ...] | None = None  # reason codes of what passed because the policy only wants it known
    unsynced: tuple[str, ...] | None = None  # steps taken before the intent was durable: "egress"
    transcript: str | None = None  # reference of the encrypted exchange
    case: str | None = None  # of the evidence vault, where what was refused is kept
    clipped: bool | None = None


class Note(_Record, frozen=True, tag="note"):
    """Something that is no call: aggregates, reloads, alarms."""

    topic: str  # refusals | config | ...
    since: int | None = None  # ms, start of what is counted
    until: int | None = None  # ms, exclusive
    refused: tuple[Refused, ...] | None = None
    dropped: int | None = None  # counted, but told no closer
    detail: dict[str, str | int | bool] | None = None
    clipped: bool | None = None


class End(_Record, frozen=True, tag="end"):
    """Last record of a stream."""

    reason: str  # closed | recovered
    size: int  # records before this one
    root: str  # of the tree over them, hex
    cut_bytes: int | None = None  # recovery: length of the torn frame that was cut off
    closed: int | None = None  # recovery: open intents that were closed as unknown
    by: str | None = None  # recovery: the gateway that did it


Record = Start | Intent | OutcomeRecord | Note | End

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_PREFIX = f'{{"v":"{TRACE_VERSION}","id":"'.encode()
_TAIL = b'",'


def encode(record: Record, record_id: str) -> bytes:
    """The payload that is stored. What comes from outside cannot make a record unwritable: it is cut, and `clipped` set.

    Raises AuditError if a record is too large even then.
    """
    try:
        body = _encode(record)
    except (UnicodeEncodeError, OverflowError):  # lone surrogates, integers beyond 64 bits
        body = _encode(_clipped(record))
    payload = b"".join((_PREFIX, record_id.encode(), _TAIL, body[1:]))
    if len(payload) > RECORD_BYTES_MAX:
        payload = b"".join((_PREFIX, record_id.encode(), _TAIL, _encode(_clipped(record))[1:]))
        if len(payload) > RECORD_BYTES_MAX:
            raise AuditError(Reason.INTERNAL, "A record of this call is larger than the journal allows.")
    return payload


def decode(payload: bytes) -> Record:
    """The typed record. Fields of later versions are skipped. Raises msgspec.DecodeError, msgspec.ValidationError."""
    return _decoder.decode(payload)


def _clipped(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = _bounded(msgspec.to_builtins(record))
    return {**fields, "clipped": True}


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return value[:STRING_CHARS_MAX].encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return max(-INT_MAX, min(INT_MAX, value))
    if isinstance(value, dict):
        return {_bounded(k): _bounded(v) for k, v in list(value.items())[:LIST_ITEMS_MAX]}
    if isinstance(value, list | tuple):
        return [_bounded(v) for v in value[:LIST_ITEMS_MAX]]
    return value
