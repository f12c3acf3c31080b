"""A periodic audit of a gateway: pull its signed tree heads, and hold it to what it showed before.

For each stream: the head is signed by the enrolled key and of this gateway; the tree of the last audit is a prefix of
today's; a random sample of records, mostly of what is new, is in the tree. Over all: no stream that was seen is gone, none
appears that was there at the last audit and not shown. What cannot be fetched or read is a finding: doubt does not pass.

`examine` does the work and changes nothing; `audit` does it for an authority and records the result. No answer can make
them fail otherwise than by a finding: a gateway that is audited may send anything.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from fnmatch import fnmatchcase
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import quote, urlencode

from gateway.authority.authority import Authority
from gateway.authority.errors import FormError, TransitionError
from gateway.authority.model import Actor, AuditResult, Finding, Gateway, Head
from gateway.tlog import tree
from gateway.tlog.checkpoint import CheckpointError, open_checkpoint, origin_of

Fetch = Callable[[str], bytes]

ANSWER_BYTES_MAX = 16_777_216  # our choice: a list of 2,000 streams has 1 MB, the largest record 1.4 MB
ANSWER_S_MAX = 60.0  # a gateway answers within 30 s, or says that it is still reading
TRIES = 5
WAIT_S_MAX = 10.0
STREAMS_MAX = 50_000  # our choice: a stream lasts as long as a worker
FINDINGS_MAX = 200  # kept of one audit; more say nothing new
SAMPLE = 32  # where no schedule says otherwise
PROOF_HASHES_MAX = 130  # a tree of 2^63 leaves needs no more (RFC 6962, section 2.1.2)
# How far clocks of a gateway and of the authority may differ before a new stream's age looks wrong.
SKEW_S = 300
_NEW_OF_TEN = 7  # of ten samples, how many are of records that no audit has seen


class FetchError(Exception):
    """A URL gave no answer that can be used. Says why, and never the key."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an audit starts from."""

    gateway: Gateway
    last: tuple[Head, ...] = ()  # heads that held at earlier audits
    last_at: int | None = None  # when the last audit was passed
    sample: int = SAMPLE


@dataclass(slots=True)
class _Work:
    """One audit while it goes on."""

    plan: Plan
    base: str
    key: bytes
    fetch: Fetch
    random: random.Random
    findings: list[Finding] = field(default_factory=list)
    sampled: int = 0

    def find(self, code: str, stream: str, detail: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(code, stream[:512], detail[:512]))

    def get(self, what: str, **asked: str | int) -> Mapping[str, Any]:
        """The JSON object behind a question. Raises FetchError."""
        url = f"{self.base}/audit/{what}" + (f"?{urlencode(asked, quote_via=quote)}" if asked else "")
        data = self.fetch(url)
        if len(data) > ANSWER_BYTES_MAX:
            raise FetchError(f"{what}: more than {ANSWER_BYTES_MAX:,} bytes")
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise FetchError(f"{what}: the answer is not JSON") from error
        if not isinstance(answer, dict):
            raise FetchError(f"{what}: the answer is not a JSON object")
        return answer


def audit(
    authority: Authority,
    actor: Actor,
    gateway: str,
    fetch: Fetch,
    *,
    sample: int | None = None,
    chance: random.Random | None = None,
) -> AuditResult:
    """Audit an enrolled gateway over its audit URL, and record the result. Raises AuthorityError.

    `fetch` is `http_fetch(key)`; `sample` is the schedule's unless given. Takes as long as the gateway takes to answer; the
    store is not held meanwhile.
    """
    found = authority.gateway(gateway)
    if found.withdrawn_at is not None:
        raise TransitionError("audit is not possible: the gateway was withdrawn")
    if found.audit_url is None:
        raise FormError("audit_url: the gateway was enrolled without one; withdraw it and enroll it again")
    schedule = authority.schedule(gateway)
    plan = Plan(
        found,
        authority.audited_heads(gateway),
        authority.last_passed(gateway),
        sample or (schedule.sample if schedule else SAMPLE),
    )
    result = examine(plan, fetch, now=authority.now(), chance=chance or random.SystemRandom())
    return authority.record_audit(actor, result)


def examine(plan: Plan, fetch: Fetch, *, now: int, chance: random.Random) -> AuditResult:
    """What the gateway shows, checked against what it showed before."""
    gateway = plan.gateway
    raw = str(gateway.key["x"])
    key = base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4))
    work = _Work(plan, (gateway.audit_url or "").rstrip("/"), key, fetch, chance)
    last = {head.stream: head for head in plan.last}
    heads: list[Head] = []
    listed: set[str] = set()
    complete = False
    try:
        for entry in _streams(work):
            stream = str(entry["stream"])
            if stream in listed:
                work.find("LISTED_TWICE", stream, "the stream is listed twice")
                continue
            listed.add(stream)
            head = _stream(work, stream, entry, last.get(stream))
            if head is not None:
                heads.append(head)
        complete = True
    except FetchError as error:
        work.find("UNREACHABLE", "", str(error))
    if complete:
        for stream in sorted(last.keys() - listed):
            size = last[stream].size
            work.find("VANISHED", stream, f"the stream had {size} records at an earlier audit, and is not there")
    return AuditResult(
        gateway=gateway.name,
        at=now,
        passed=not work.findings,
        findings=tuple(work.findings),
        heads=tuple(heads),
        sampled=work.sampled,
    )


def _streams(work: _Work) -> Iterator[Mapping[str, Any]]:
    """All streams that the gateway lists, page by page until one is empty. Raises FetchError."""
    after = ""
    seen = 0
    while True:
        page = work.get("checkpoints", **({"after": after} if after else {})).get("streams")
        if not isinstance(page, list):
            raise FetchError("checkpoints: `streams` is missing")
        for entry in page:
            if not isinstance(entry, dict) or not isinstance(entry.get("stream"), str) or not entry["stream"]:
                raise FetchError("checkpoints: an entry has no `stream`")
            yield entry
        seen += len(page)
        if not page:
            return
        if seen > STREAMS_MAX:
            raise FetchError(f"checkpoints: more than {STREAMS_MAX:,} streams")
        # Pages go up by name, so one that does not would be endless.
        following = max(str(entry["stream"]) for entry in page)
        if following <= after:
            raise FetchError("checkpoints: the pages do not go on")
        after = following


def _stream(work: _Work, stream: str, entry: Mapping[str, Any], last: Head | None) -> Head | None:
    """The stream's head when everything about it holds; else findings."""
    before = len(work.findings)
    gateway = work.plan.gateway
    if not any(fnmatchcase(stream, pattern) for pattern in gateway.streams):
        work.find("NOT_ENROLLED", stream, "the stream fits no pattern that the gateway was enrolled with")
    if entry.get("problem"):
        work.find("DAMAGED", stream, "the gateway says that the stream is damaged")
    note = entry.get("note")
    try:
        checkpoint = open_checkpoint(note if isinstance(note, str) else "", work.key)
    except CheckpointError as error:
        work.find("SIGNATURE", stream, f"the head does not count: {error}")
        return None
    if checkpoint.origin != origin_of(gateway.name, stream):
        work.find("ORIGIN", stream, "the head is of another stream or gateway")
        return None
    size, root = checkpoint.size, checkpoint.root
    if entry.get("size") != size or entry.get("root") != root.hex():
        work.find("LISTING", stream, "size or root are not those of the signed head")
    try:
        if last is not None:
            _follows(work, last, size, root)
        if len(work.findings) == before and size:
            _sample(work, stream, size, root, last)
    except FetchError as error:
        work.find("UNREACHABLE", stream, str(error))
    return Head(stream, size, root.hex()) if len(work.findings) == before and size else None


def _follows(work: _Work, last: Head, size: int, root: bytes) -> None:
    """The tree of the last audit is a prefix of today's, or there is a finding."""
    if size < last.size:
        work.find("SHRUNK", last.stream, f"{last.size} records at an earlier audit, {size} now")
        return
    proof: list[bytes] = []
    if size > last.size:
        answer = work.get("consistency", stream=last.stream, old=last.size, new=size)
        proof = _hashes(answer)
    if not tree.verify_consistency(last.size, size, bytes.fromhex(last.root), root, proof):
        work.find("REWRITTEN", last.stream, f"the first {last.size} records are not those of an earlier audit")


def _sample(work: _Work, stream: str, size: int, root: bytes, last: Head | None) -> None:
    """A random sample of records is in the tree; a stream that is new to us is no older than the last audit."""
    for seq in _chosen(work, size, last.size if last else 0):
        record = _record(work, stream, seq, size, root)
        if record is None:
            return
        work.sampled += 1
        if seq == 0 and last is None:
            _young(work, stream, record)


def _chosen(work: _Work, size: int, known: int) -> list[int]:
    """Which records: always the first of a new stream, most of what is new, some of what was there."""
    count = min(work.plan.sample, size)
    fresh = min(size - known, count if not known else -(-count * _NEW_OF_TEN // 10))
    chosen = set(work.random.sample(range(known, size), fresh)) if fresh else set()
    if known:
        chosen |= set(work.random.sample(range(known), min(known, count - fresh)))
    else:
        chosen.add(0)
    return sorted(chosen)


def _record(work: _Work, stream: str, seq: int, size: int, root: bytes) -> Mapping[str, Any] | None:
    """A record that the tree holds at its place; None after a finding."""
    answer = work.get("record", stream=stream, seq=seq, size=size)
    try:
        data = base64.b64decode(answer["record"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise FetchError("record: `record` is missing or not base64") from error
    if not tree.verify_inclusion(tree.leaf_hash(data), seq, size, _hashes(answer), root):
        work.find("NOT_INCLUDED", stream, f"the record {seq} is not in the tree that was signed")
        return None
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or record.get("id") != f"{stream}/{seq}":
        work.find("MISPLACED", stream, f"the record {seq} does not say that it is that record")
        return None
    return record


def _young(work: _Work, stream: str, record: Mapping[str, Any]) -> None:
    begun = record.get("ts")
    last_at = work.plan.last_at
    if type(begun) is not int:
        work.find("MISPLACED", stream, "the first record does not say when it was written")
    elif last_at is not None and begun / 1000 < last_at - SKEW_S:
        work.find("HIDDEN", stream, "the stream is older than the last audit, which was not shown it")


def _hashes(answer: Mapping[str, Any]) -> list[bytes]:
    """The proof in an answer. Raises FetchError."""
    proof = answer.get("proof")
    if not isinstance(proof, list) or len(proof) > PROOF_HASHES_MAX or not all(isinstance(one, str) for one in proof):
        raise FetchError("`proof` is missing or too long")
    try:
        hashes = [bytes.fromhex(one) for one in proof]
    except ValueError as error:
        raise FetchError("`proof` is not hexadecimal") from error
    if any(len(one) != tree.HASH_BYTES for one in hashes):
        raise FetchError("`proof` holds something that is no SHA-256")
    return hashes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the auditor's key elsewhere."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def http_fetch(key: str, *, wait: Callable[[float], object] = time.sleep, timeout_s: float = ANSWER_S_MAX) -> Fetch:
    """Fetch over HTTP with an auditor's key. Bounded in bytes and time; redirects are refused; 429 and 503 are asked again."""
    opener = urllib.request.build_opener(_NoRedirect)

    def once(url: str) -> bytes:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}", "Accept": "application/json"})  # noqa: S310
        until = time.monotonic() + timeout_s
        with opener.open(request, timeout=timeout_s) as answer:
            parts: list[bytes] = []
            size = 0
            while part := answer.read1(65_536):
                parts.append(part)
                size += len(part)
                if size > ANSWER_BYTES_MAX:
                    raise FetchError(f"more than {ANSWER_BYTES_MAX:,} bytes")
                if time.monotonic() > until:
                    raise FetchError(f"no whole answer within {timeout_s:g} s")
            return b"".join(parts)

    def fetch(url: str) -> bytes:
        if not url.startswith(("http://", "https://")):
            raise FetchError("not an http or https URL")
        for left in reversed(range(TRIES)):
            try:
                return once(url)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in (429, 503) or not left:
                        raise FetchError(f"answered with status {error.code}") from error
                    wait(_pause_s(error.headers.get("Retry-After")))
            except (OSError, HTTPException, ValueError) as error:
                raise FetchError(f"no answer ({type(error).__name__})") from error
        raise FetchError("no answer")

    return fetch


def _pause_s(text: str | None) -> float:
    return min(float(text), WAIT_S_MAX) if text is not None and text.isascii() and text.isdigit() else 1.0
