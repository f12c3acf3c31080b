"""Records as rows: from the stored bytes of a stretch of one stream to rows of every table.

Reads what it needs of a record and passes over fields of later versions, also over outcomes and actions that this version has no
name for. A record that no row can be made of is a row of `unread`, never nothing.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from gateway.history import schema
from gateway.history.port import Value
from gateway.history.tables import CallRow

Row = tuple[Value, ...]
_T = TypeVar("_T")

_COLUMNS = CallRow.__struct_fields__
_OUTCOME, _ENDED, _ANSWER = (_COLUMNS.index(name) for name in ("outcome", "ended", "answer_bytes"))
_FIRST = [field.default for field in msgspec.structs.fields(CallRow)][_ANSWER:]  # of a call that is open
ENDING = ("outcome", "ended", *_COLUMNS[_ANSWER:])  # the columns that the outcome fills

_Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # what a BIGINT holds
_Findings = dict[str, dict[str, _Int]]
_ABSENT = msgspec.Raw(b"null")


class _Part(msgspec.Struct, gc=False):
    """A group of fields, as far as they are asked about."""


class _Policy(_Part):
    name: str = ""
    digest: str = ""
    mode: str = ""
    detectors: dict[str, str] | None = None
    presets: list[str] | None = None
    binding_min: str | None = None


class _License(_Part):
    verdict: str = ""
    id: str | None = None
    digest: str | None = None
    issuer: str | None = None
    reasons: list[str] | None = None
    status: str | None = None
    status_iat: _Int | None = None
    status_age_s: _Int | None = None
    state: str | None = None
    trust_level: str | None = None
    binding: str | None = None
    model_version: str | None = None
    order: str | None = None
    regime: str | None = None
    filing: str | None = None
    region: str | None = None


class _Training(_Part):
    permit: str = ""


class _Text(_Part):
    bytes: _Int
    digest: str | None = None
    texts: list[str] | None = None
    findings: _Findings | None = None


class _Usage(_Part):
    input_tokens: _Int | None = None
    output_tokens: _Int | None = None


class _Durations(_Part):
    total_ms: float | None = None
    ttfb_ms: float | None = None
    overhead_ms: float | None = None


class _RefusedLine(_Part):
    source: str
    code: str
    count: _Int


class _Start(_Part, tag_field="kind", tag="start"):
    ts: _Int
    gateway: str
    worker: _Int
    build: str = ""
    role: str | None = None


class _Intent(_Part, tag_field="kind", tag="intent"):
    ts: _Int
    call_id: str
    stream: bool = False
    caller: str | None = None
    tenant: str | None = None
    model: str | None = None
    target_origin: str | None = None
    target_model: str | None = None
    operation: str | None = None
    policy: msgspec.Raw = _ABSENT  # few differ: each is read once
    license: msgspec.Raw = _ABSENT
    training: _Training | None = None
    prompt: _Text | None = None
    territory: list[str] | None = None
    purpose: str | None = None
    audience: str | None = None
    age_band: str | None = None
    subject: str | None = None
    linked: str | None = None


class _Outcome(_Part, tag_field="kind", tag="outcome"):
    ts: _Int
    call_id: str
    intent: _Int
    outcome: str
    reasons: list[str] | None = None
    status: _Int | None = None
    served_model: str | None = None
    provider_id: str | None = None
    request_id: str | None = None
    upstream_status: _Int | None = None
    usage: _Usage | None = None
    finish_reasons: list[str] | None = None
    answer: _Text | None = None
    events: _Int | None = None
    time: _Durations | None = None
    would_be: str | None = None
    would_be_reasons: list[str] | None = None
    flags: list[str] | None = None
    unsynced: list[str] | None = None
    transcript: str | None = None
    case: str | None = None


class _Note(_Part, tag_field="kind", tag="note"):
    ts: _Int
    topic: str
    since: _Int | None = None
    until: _Int | None = None
    refused: list[_RefusedLine] | None = None
    dropped: _Int | None = None
    detail: msgspec.Raw = _ABSENT


class _End(_Part, tag_field="kind", tag="end"):
    ts: _Int
    reason: str = ""
    size: _Int | None = None
    cut_bytes: _Int | None = None
    closed: _Int | None = None


_decode = msgspec.json.Decoder(_Start | _Intent | _Outcome | _Note | _End).decode
_policy = msgspec.json.Decoder(_Policy | None).decode
_license = msgspec.json.Decoder(_License | None).decode
_NO_USAGE, _NO_TIME, _NO_TEXT = _Usage(), _Durations(), _Text(0)
_SHARED_MAX = 4096  # our choice: policies and license verdicts remembered by their bytes; forgotten all at once beyond

LATE = "the outcome of a call whose intent is not there"
PRUNED = "the outcome of a call that was pruned away"
SECOND = "a second outcome of the same call"


class Rows:
    """What a stretch of one stream's records became. Collects until it is written away; then take a new one."""

    __slots__ = ("calls", "endings", "side", "told")

    def __init__(self) -> None:
        self.calls: dict[int, list[Value]] = {}  # by intent; columns of CallRow
        self.endings: dict[int, list[Value]] = {}  # of calls that began before: by intent; columns of ENDING
        self.side: dict[str, list[Row]] = {name: [] for name in (*schema.OF_CALLS, *schema.OF_RECORDS)}
        self.told: dict[str, Value] = {}  # columns of `streams` that start and end fill


class RowMaker:
    """Makes rows of one stream's records. `gateway` is who signs the stream, until its start says it."""

    def __init__(self, stream: str, gateway: str) -> None:
        self.stream = stream
        self.gateway = gateway
        self.rows = Rows()
        self._policies: dict[bytes, Row] = {}
        self._licenses: dict[bytes, tuple[Row, tuple[str, ...]]] = {}

    def take(self, seq: int, payload: bytes) -> None:
        """Make rows of one record."""
        try:
            record = _decode(payload)
            if type(record) is _Intent:
                self._intent(seq, record)
            elif type(record) is _Outcome:
                self._outcome(seq, record)
            else:
                self._other(seq, record)
        except (msgspec.MsgspecError, UnicodeError) as error:
            self.unread(seq, f"cannot be read: {_plain(error)}")

    def unread(self, seq: int, problem: str) -> None:
        """Tell of a record that gives no row."""
        self.rows.side["unread"].append((self.stream, seq, problem))

    def flush(self) -> Rows:
        """The rows since the last flush."""
        rows, self.rows = self.rows, Rows()
        return rows

    def _intent(self, seq: int, r: _Intent) -> None:
        stream, side = self.stream, self.rows.side
        policy = self._policy_columns(r.policy)
        license_, reasons = self._license_columns(r.license)
        prompt = r.prompt
        row: list[Value] = [r.call_id, stream, seq, None, r.ts, None, self.gateway]
        row += (r.caller or "", r.tenant or "", r.model or "", r.target_origin or "", r.target_model or "")
        row += (r.operation or "", int(r.stream))
        row += policy
        row += license_
        row += (r.training.permit if r.training else "", r.purpose or "", r.audience or "", r.age_band or "")
        row += (r.subject or "", r.linked or "")
        row += (prompt.bytes, prompt.digest or "") if prompt else (None, "")
        row += _FIRST
        self.rows.calls[seq] = row
        for code in reasons:
            side["reasons"].append((stream, seq, "license", code))
        if r.territory:
            side["territories"] += [(stream, seq, name) for name in dict.fromkeys(r.territory)]
        if prompt and prompt.findings:
            self._findings(seq, "prompt", prompt.findings)

    def _outcome(self, seq: int, r: _Outcome) -> None:
        row = self.rows.calls.get(r.intent)
        if r.intent in self.rows.endings or (row is not None and row[_OUTCOME] is not None):
            self.unread(seq, SECOND)
            return
        usage, spent, answer = r.usage or _NO_USAGE, r.time or _NO_TIME, r.answer
        ending: list[Value] = [seq, r.ts]
        ending += (answer.bytes, answer.digest or "") if answer else (None, "")
        ending += (r.outcome, r.reasons[0] if r.reasons else "", r.would_be or "", r.status)
        ending += (r.served_model or "", r.provider_id or "", r.request_id or "", r.upstream_status)
        ending += (usage.input_tokens, usage.output_tokens, ",".join(r.finish_reasons) if r.finish_reasons else "")
        ending += (r.events, spent.total_ms, spent.ttfb_ms, spent.overhead_ms)
        ending += (",".join(r.unsynced) if r.unsynced else "", r.transcript or "", r.case or "")
        if row is not None:
            end_call(row, ending)
        else:
            self.rows.endings[r.intent] = ending
        side, stream, intent = self.rows.side, self.stream, r.intent
        for kind, codes in (("reason", r.reasons), ("would_be", r.would_be_reasons), ("flag", r.flags)):
            if codes:
                side["reasons"] += [(stream, intent, kind, code) for code in dict.fromkeys(codes)]
        if answer:
            if answer.texts:
                side["texts"] += [(stream, intent, digest) for digest in dict.fromkeys(answer.texts)]
            if answer.findings:
                self._findings(intent, "answer", answer.findings)

    def _findings(self, intent: int, direction: str, findings: _Findings) -> None:
        self.rows.side["findings"] += [
            (self.stream, intent, direction, entity, action, count)
            for entity, actions in findings.items()
            for action, count in actions.items()
        ]

    def _other(self, seq: int, r: _Start | _Note | _End) -> None:
        told, side = self.rows.told, self.rows.side
        if isinstance(r, _Start):
            self.gateway = r.gateway
            told |= {"gateway": r.gateway, "worker": r.worker, "role": r.role or "", "build": r.build, "started": r.ts}
        elif isinstance(r, _End):
            told |= {"ended": r.ts, "end_reason": r.reason, "size": r.size}
            told |= {"cut_bytes": r.cut_bytes, "closed_calls": r.closed}
        else:
            detail = bytes(r.detail).decode()
            side["notes"].append(
                (self.stream, seq, r.ts, r.topic, r.since, r.until, r.dropped, None if detail == "null" else detail)
            )
            if r.refused:
                side["refused"] += [(self.stream, seq, one.source, one.code, one.count) for one in r.refused]

    def _policy_columns(self, raw: msgspec.Raw) -> Row:
        """Columns `policy` to `binding_min`."""
        key = bytes(raw)
        found = self._policies.get(key)
        if found is None:
            p = _policy(key) or _Policy()
            detectors = ",".join(f"{name}={version}" for name, version in (p.detectors or {}).items())
            found = (p.name, p.digest, p.mode, ",".join(p.presets or ()), detectors, p.binding_min or "")
            _remember(self._policies, key, found)
        return found

    def _license_columns(self, raw: msgspec.Raw) -> tuple[Row, tuple[str, ...]]:
        """Columns `license` to `model_version`, and the reasons."""
        key = bytes(raw)
        found = self._licenses.get(key)
        if found is None:
            n = _license(key) or _License()
            row: Row = (
                *(n.id or "", n.digest or "", n.issuer or "", n.verdict, n.status or "", n.status_iat, n.status_age_s),
                *(n.state or "", n.trust_level or "", n.binding or "", n.order or "", n.regime or "", n.filing or ""),
                *(n.region or "", n.model_version or ""),
            )
            found = (row, tuple(dict.fromkeys(n.reasons or ())))
            _remember(self._licenses, key, found)
        return found


def end_call(row: list[Value], ending: list[Value]) -> None:
    """Fill in what the outcome says; `ending` has the columns of ENDING."""
    row[_OUTCOME], row[_ENDED] = ending[0], ending[1]
    row[_ANSWER:] = ending[2:]


def _remember(shared: dict[bytes, _T], key: bytes, value: _T) -> None:
    if len(shared) >= _SHARED_MAX:
        shared.clear()
    shared[key] = value


def _plain(error: Exception) -> str:
    """What the reader says, without a word of the record: its messages quote names of fields, types and kinds only (L7)."""
    return str(error)[:200] if isinstance(error, msgspec.ValidationError) else "it is not JSON"
