"""Whether the gateway records what passes through it: an inspector's own prompts, and the records demanded of them.

Each prompt goes through the public door, as a whole answer and as a stream. The answer names its record; within seconds the auditor's door
must show both records of the call under a signed head, whose signature and proofs are checked here, by the key that the inspector brought.
Then the records must say what the wire said, and the digest of the text must be found by the door under this record. What a gateway does not
do for an unknown caller it may still do for this one: so let the inspector's key be an ordinary one, and the prompts ordinary, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import urllib3

from gateway.audit.answer import AnswerError
from gateway.audit.exchange import Exchanges
from gateway.completeness.wire import TIMEOUT_S, Wire, WireError, ask
from gateway.reasons import Outcome, Reason
from gateway.tlog.note import VerifierKey
from gateway.tlog.proof import ProofError, read_proof, verify_proof

POLL_S = 0.25  # our choice: how often the door is asked whether it is there yet
DOOR_BYTES_MAX = 4 << 20  # our choice: two records and their proofs have some 300 kB at most
DOOR_TIMEOUT_S = 40.0  # the door answers within 30 s, or says that it is still reading
SKEW_MS = 60_000  # our choice: the gateway's clock against ours
PASSED = (Outcome.ALLOWED.value, Outcome.MASKED.value)
# Refusals that say how the probe was aimed, not how the gateway records: the remedy of each.
_MISAIMED = {
    Reason.AUTH_MISSING.code: "give by --key a caller's key that this gateway knows",
    Reason.AUTH_INVALID.code: "give by --key a caller's key that this gateway knows",
    Reason.MODEL_UNKNOWN.code: "give by --model one that GET /v1/models lists for this key",
    Reason.DIALECT_MISMATCH.code: "give by --dialect the one that this model speaks",
    Reason.PATH_UNKNOWN.code: "give by --base-url the gateway's public door",
    Reason.METHOD_NOT_ALLOWED.code: "give by --base-url the gateway's public door",
    Reason.RATE_LIMITED.code: "send fewer prompts, or wait",
    Reason.CONCURRENCY_LIMITED.code: "wait until other calls of this key have ended",
}
_NO_GATEWAY = {404, 405}  # without a record: something else answers there
_STOPPED = {"content_filter", "refusal"}  # how an answer ends that says no in the assistant's words


class ProbeError(Exception):
    """The probe cannot be made: a key is refused, or an address gives no answer. Says which, and never a key."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask, and as whom."""

    base_url: str
    key: str
    model: str
    dialect: str  # openai | anthropic
    audit_url: str
    auditor_key: str
    keys: tuple[VerifierKey, ...]  # of the gateway's log

    def __repr__(self) -> str:
        """Without the keys (L7)."""
        return f"Target({self.base_url!r}, {self.model!r}, {self.audit_url!r})"


@dataclass(frozen=True, slots=True)
class Probed:
    """One call, and what its records say otherwise than the wire."""

    prompt: int  # its number, from 1
    stream: bool
    status: int
    call_id: str
    record: str  # the intent, as the answer named it
    seconds: float  # from the answer's end until the proof was there; 0 if it never was
    differences: tuple[str, ...]


def probe(
    target: Target,
    prompts: Sequence[str],
    *,
    wait_s: float = 30.0,
    streams: Sequence[bool] = (False, True),
    sleep: Callable[[float], None] = time.sleep,
    timeout_s: float = TIMEOUT_S,
    door_timeout_s: float = DOOR_TIMEOUT_S,
) -> Iterator[Probed]:
    """Ask and check, one call after the other. `timeout_s`: of one call in all; `door_timeout_s`: of one question. Raises ProbeError."""
    public, auditors = Exchanges(timeout_s=timeout_s), Exchanges(timeout_s=door_timeout_s)
    door = _Door(auditors, target)
    seen: set[str] = set()
    try:
        for number, prompt in enumerate(prompts, 1):
            for stream in streams:
                yield _one(public, door, target, number, prompt, stream, seen, wait_s, sleep)
    finally:
        public.close()
        auditors.close()


def _one(
    public: Exchanges,
    door: _Door,
    target: Target,
    number: int,
    prompt: str,
    stream: bool,
    seen: set[str],
    wait_s: float,
    sleep: Callable[[float], None],
) -> Probed:
    try:
        wire = ask(
            public,
            target.base_url,
            target.key,
            dialect=target.dialect,
            model=target.model,
            prompt=prompt,
            stream=stream,
        )
    except WireError as error:
        raise ProbeError(f"prompt {number}: {error}") from error
    call_id, record = wire.headers.get("x-licet-call-id", ""), wire.headers.get("x-licet-record", "")
    _demand_asked(wire, target, recorded=bool(call_id or record))

    def told(seconds: float, *differences: str) -> Probed:
        return Probed(number, stream, wire.status, call_id[:64], record[:200], seconds, differences)

    if not call_id or not record:
        return told(0.0, "the answer names no record (x-licet-call-id, x-licet-record)")
    if call_id in seen or record in seen:
        return told(0.0, "the answer names the record of an earlier call")
    seen |= {call_id, record}
    began = time.monotonic()
    shown = None
    while shown is None:
        shown = door.call(call_id)
        if shown is None:
            if time.monotonic() - began >= wait_s:
                return told(0.0, f"no sealed record of the call within {wait_s:g} s")
            sleep(POLL_S)
    found: list[str] = []
    records = {}
    for kind in ("intent", "outcome"):
        entry = shown.get(kind)
        stored = door.proved(str(entry["record"]), found) if entry is not None else None
        if stored is None:
            found.append(f"there is no {kind} of the call that is proved")
        elif entry is not None and stored != entry.get("content"):
            found.append(f"the door shows another {kind} than the one that is proved")
        records[kind] = stored or {}
    seconds = time.monotonic() - began
    if not found:
        found = [*_intent_differs(wire, target, call_id, record, records["intent"])]
        found += _outcome_differs(wire, call_id, record, records["intent"], records["outcome"])
        found += _texts_differ(door, wire, str(records["outcome"].get("id", "")))
    return told(seconds, *found)


def _demand_asked(wire: Wire, target: Target, *, recorded: bool) -> None:
    """Raises ProbeError where the call was refused for the key, the model or the address: that tells nothing of the records."""
    if 200 <= wire.status < 300:
        return
    remedy = _MISAIMED.get(wire.code)
    if remedy is None and wire.status in (401, 403) and not recorded:
        remedy = _MISAIMED[Reason.AUTH_INVALID.code]
    if remedy is None and wire.status in _NO_GATEWAY and not recorded:
        remedy = _MISAIMED[Reason.PATH_UNKNOWN.code]
    if remedy is not None:
        asked = f"model {target.model}" if wire.code == Reason.MODEL_UNKNOWN.code else "the call"
        raise ProbeError(f"{asked} is refused ({wire.status}{' ' + wire.code if wire.code else ''}); {remedy}")


# -- the auditor's door


def door_of(audit_url: str) -> str:
    """Where the auditor's door is, from the gateway's address in any form that people have it: with /v1, with /audit, with neither."""
    return audit_url.rstrip("/").removesuffix("/v1").removesuffix("/audit").rstrip("/") + "/audit/"


class _Door:
    """What the door answers. Raises ProbeError where it answers nothing that can be used."""

    def __init__(self, exchanges: Exchanges, target: Target) -> None:
        self._exchanges = exchanges
        self._base = door_of(target.audit_url)
        self._key = target.auditor_key
        self._keys = target.keys

    def call(self, call_id: str) -> Mapping[str, Mapping[str, Any]] | None:
        """The two records of a call by kind, once both are sealed; None until then."""
        status, body = self._ask("GET", f"call/{call_id}")
        if status in (404, 429, 503):
            return None
        records = _object(body).get("records")
        listed = [one for one in records if isinstance(one, dict)] if isinstance(records, list) else []
        found = {
            str(one.get("kind")): one for one in listed if one.get("sealed") and isinstance(one.get("record"), str)
        }
        return found if {"intent", "outcome"} <= found.keys() else None

    def proved(self, record: str, problems: list[str]) -> Mapping[str, Any] | None:
        """The record as the log has it, after its proof and the head's signature were checked; None, and why."""
        stream, _, seq = record.rpartition("/")
        status, body = self._ask("GET", f"proof/{record}")
        if status != 200:
            problems.append(f"{record}: no proof (status {status})")
            return None
        try:
            text = body.decode("utf-8")
            proof = read_proof(text)
            if proof.extra is None:
                problems.append(f"{record}: the proof holds no record")
                return None
            head = verify_proof(text, proof.extra, self._keys).checkpoint
        except (ProofError, UnicodeDecodeError) as error:
            problems.append(f"{record}: {error}")
            return None
        stored = _object(proof.extra)
        if str(proof.index) != seq or head.origin.rpartition("/")[2] != stream or stored.get("id") != record:
            problems.append(f"{record}: the proof is of another record")
            return None
        return stored

    def delivered(self, text: str) -> list[str]:
        """Records of answers that delivered a text."""
        status, body = self._ask("POST", "match", text.encode("utf-8"))
        if status != 200:
            raise ProbeError(f"the auditor's door does not say where a text was delivered (status {status})")
        found = _object(body).get("matches")
        return [str(one.get("record")) for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        headers = {"authorization": f"Bearer {self._key}", "accept-encoding": "identity"}
        try:
            answer = self._exchanges.ask(
                method, self._base + path, body=body, headers=headers, bytes_max=DOOR_BYTES_MAX
            )
        except AnswerError as error:
            raise ProbeError(f"the auditor's door {error}") from None
        except urllib3.exceptions.HTTPError as error:
            raise ProbeError(f"the auditor's door gives no answer ({type(error).__name__})") from error
        content = answer.data
        if answer.status == 401:
            raise ProbeError("the auditor's key is refused (401); give one of `auditors` in the gateway's settings")
        if answer.status in (403, 404, 405) and not _is_object(content):
            raise ProbeError(f"no auditor's door is at {self._base} (status {answer.status}); name it by --audit-url")
        if answer.status not in (200, 400, 404, 429, 503):
            raise ProbeError(f"the auditor's door gives no answer that can be used (status {answer.status})")
        return answer.status, content


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(orjson.loads(data), dict)
    except orjson.JSONDecodeError:
        return False


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ProbeError("the auditor's door answers with something that is not JSON") from error
    if not isinstance(found, dict):
        raise ProbeError("the auditor's door answers with something that is not a JSON object")
    return found


# -- the record against the wire


def _intent_differs(wire: Wire, target: Target, call_id: str, record: str, intent: Mapping[str, Any]) -> Iterator[str]:
    pairs = [
        ("record", record, intent.get("id")),
        ("call id", call_id, intent.get("call_id")),
        ("model", target.model, intent.get("model")),
        ("stream", wire.stream, intent.get("stream")),
        ("prompt bytes", wire.sent_bytes, _part(intent, "prompt").get("bytes")),
    ]
    yield from _unequal("intent", pairs)
    at = intent.get("ts")
    if type(at) is not int or not wire.began_ms - SKEW_MS <= at <= wire.ended_ms + SKEW_MS:
        yield f"intent: it is of another time ({at})"


def _outcome_differs(
    wire: Wire, call_id: str, record: str, intent: Mapping[str, Any], outcome: Mapping[str, Any]
) -> Iterator[str]:
    stream, _, seq = record.rpartition("/")
    if str(outcome.get("id", "")).rpartition("/")[0] != stream or str(outcome.get("intent")) != seq:
        yield "outcome: it is that of another intent"
    pairs = [("call id", call_id, outcome.get("call_id")), ("status", wire.status, outcome.get("status"))]
    how = outcome.get("outcome")
    answered = 200 <= wire.status < 300 and wire.readable and not wire.failed and not wire.finish & _STOPPED
    if answered and how not in PASSED:
        yield f"outcome: an answer was delivered, and the record says {how}"
    if not answered and how in PASSED:
        yield f"outcome: no answer was delivered, and the record says {how}"
    if answered:
        usage = _part(outcome, "usage")
        pairs += [
            ("answer bytes", wire.bytes, _part(outcome, "answer").get("bytes")),
            ("finish reasons", sorted(wire.finish), sorted(set(map(str, outcome.get("finish_reasons") or ())))),
        ]
        if wire.input_tokens is not None:
            pairs.append(("input tokens", wire.input_tokens, usage.get("input_tokens")))
        if wire.output_tokens is not None:
            pairs.append(("output tokens", wire.output_tokens, usage.get("output_tokens")))
        if wire.id:
            pairs.append(("id of the answer", wire.id, outcome.get("provider_id")))
        if wire.stream and how == Outcome.ALLOWED.value:  # masks join and drop events
            pairs.append(("stream events", wire.events, outcome.get("events")))
        # A gateway may show its own name of the model instead of the provider's.
        if wire.model and wire.model not in (outcome.get("served_model"), intent.get("model")):
            yield "outcome: the answer names a model that the record does not"
    yield from _unequal("outcome", pairs)


def _texts_differ(door: _Door, wire: Wire, outcome: str) -> Iterator[str]:
    for index, text in wire.texts.items():
        if text.strip() and outcome not in door.delivered(text):
            yield f"outcome: the digest of the delivered text (of choice {index}) is not in the record"


def _unequal(what: str, pairs: Sequence[tuple[str, object, object]]) -> Iterator[str]:
    for name, wire, record in pairs:
        if wire != record:
            yield f"{what}: {name} {wire} on the wire, {'nothing' if record is None else record} in the record"


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = record.get(name)
    return part if isinstance(part, dict) else {}
