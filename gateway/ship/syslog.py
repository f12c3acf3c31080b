"""Syslog over TLS: RFC 5424 messages, framed by RFC 5425 (their length, a space, the message).

A message is sent for each record of interest: how a call ended (its outcome, with what its intent said), notes, a stream's start and end, and what cannot
be read. Intents alone are none: every one gets its outcome. Fleet logs are none either.

    <108>1 2026-03-01T09:15:00.123Z gw1 licet gw1-w0-20260301T091500Z-9f3c2a outcome/blocked [licet@32473 id="gw1-w0-.../8" ...] {...}

PRI by `SEVERITIES`, facility 13 (log audit). HOSTNAME is the gateway, PROCID the stream, MSGID kind and outcome or topic. The structured data
tells repetition and order (`id`: stream and number), what happened, the leaf hash of the stored bytes, and the version of the registry of reason
codes. 32473 is the enterprise number that RFC 5612 keeps for documentation: an example until Licet has its own. MSG is JSON in ASCII, so
that no BOM is needed: of a call the OCSF event, of other records what is stored. A message never passes `MESSAGE_BYTES_MAX`: MSG is cut, and `cut` says so.

What `taken` means here, and what not, `gateway.ship.lines` says: RFC 5425 has no acknowledgement.
"""

from __future__ import annotations

import datetime
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from gateway import __version__
from gateway.audit.sealed import first_kept, sealed_records
from gateway.reason_registry import VERSION as REGISTRY_VERSION
from gateway.ship import mapping
from gateway.ship.lines import Lines
from gateway.ship.port import Batch, Sink
from gateway.ship.process import Work
from gateway.ship.spans import INTENTS_MAX, Head, call_row, head_of
from gateway.tlog.tree import leaf_hash

FACILITY: Final = 13  # RFC 5424, table 1: log audit
WARNING, NOTICE, INFO = 4, 5, 6  # RFC 5424, table 2
SEVERITIES: Final[Mapping[str, int]] = {  # MSGID, or the part of it before the slash -> severity
    "outcome/allowed": INFO,
    "outcome/masked": NOTICE,
    "outcome/cancelled": NOTICE,
    "outcome": WARNING,  # blocked, refused, failed, unknown, and what later versions add
    "note": NOTICE,
    "start": INFO,
    "end/closed": INFO,
    "end": WARNING,  # recovered: its worker died
    "unread": WARNING,
}
SD_ID: Final = "licet@32473"
APP_NAME: Final = "licet"
MESSAGE_BYTES_MAX: Final = 8192  # RFC 5425, section 4.3.1: what receivers SHOULD be able to process
VALUE_BYTES_MAX: Final = 160  # our choice: of a value in structured data, before escapes; `id` has at most 149
# RFC 5424, section 6: greatest lengths
HOSTNAME_MAX, PROCID_MAX, MSGID_MAX = 255, 128, 32
# name in structured data <- name in `mapping.facts_of`
CALL_FIELDS: Final[Mapping[str, str]] = {
    "call": "call_id",
    "outcome": "decision",
    "reason": "reason",
    "model": "model",
    "caller": "caller",
    "tenant": "tenant",
    "license": "license",
    "verdict": "verdict",
    "policy": "policy",
    "mode": "mode",
    "purpose": "purpose",
}
NOTE_DETAILS_MAX: Final = 16  # our choice: with these limits the structured data leaves room in a message for MSG
_UNPRINTABLE: Final = re.compile(r"[^!-~]")  # RFC 5424: PRINTUSASCII
_PLAIN: Final = re.compile(r"[ !#-\[^-~]*")  # ASCII without quote, backslash and bracket
_NAME: Final = re.compile(r"[!#-<>-\\^-~]{1,32}")  # SD-NAME, section 6
_ESCAPED: Final = re.compile(r'(["\\\]])')  # RFC 5424, section 6.3.3
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")  # would break lines at receivers that write files of lines

Find = Callable[[str, int], bytes | None]


class SyslogSink:
    """A `Sink`."""

    name = "syslog"

    def __init__(self, lines: Lines, data_dir: Path) -> None:
        self._lines = lines
        self._data_dir = data_dir
        self._messages = Messages(self._find)

    def send(self, batch: Batch) -> None:
        """Raises SinkError; SealedError where an intent cannot be read."""
        self._lines.send(b"".join(framed(message) for message in self._messages.of(batch)))

    def close(self) -> None:
        """Let go of the connection."""
        self._lines.close()

    def _find(self, stream: str, seq: int) -> bytes | None:
        if seq < first_kept(self._data_dir, stream):
            return None
        return next(sealed_records(self._data_dir, stream, seq, seq + 1))[1]


class Messages:
    """Makes messages of batches. `find(stream, seq)` reads a sealed record, None where it was pruned."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._intents: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def of(self, batch: Batch) -> Iterator[bytes]:
        """RFC 5424 messages in the order of records. Raises what `find` raises."""
        gateway = batch.head.note.split("\n", 1)[0].rpartition("/")[0]
        for seq, payload in enumerate(batch.payloads, batch.first):
            head = head_of(payload)
            if head.kind == "intent":
                self._intents[batch.stream, seq] = payload
                while len(self._intents) > INTENTS_MAX:
                    self._intents.popitem(last=False)
            elif head.kind == "outcome":
                yield self._call(batch.stream, gateway, seq, payload, head)
            elif not _is_fleets(payload):
                yield _other(batch.stream, gateway, seq, payload, head)

    def _call(self, stream: str, gateway: str, seq: int, payload: bytes, head: Head) -> bytes:
        intent = self._intents.pop((stream, head.intent), None)
        if intent is None and head.intent < seq:
            intent = self._find(stream, head.intent)
        row, _ = call_row(stream, gateway, seq, payload, head.intent, intent)
        facts = mapping.facts_of(row, leaf_hash(payload))
        told = {name: facts[column] for name, column in CALL_FIELDS.items()}
        how = "unread" if row.decision in ("", "open") else row.decision  # an outcome leaves no call open
        return message(stream, gateway, seq, payload, head, f"outcome/{how}", told, mapping.ocsf(facts))


def _other(stream: str, gateway: str, seq: int, payload: bytes, head: Head) -> bytes:
    try:
        fields = orjson.loads(payload)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict) or head.kind not in SEVERITIES:
        return message(stream, gateway, seq, payload, head, "unread", {}, {"bytes": len(payload)})
    told: dict[str, Any] = {}
    detail = fields.get("detail")
    if isinstance(detail, dict):
        told = {f"detail.{name}": value for name, value in list(detail.items())[:NOTE_DETAILS_MAX]}
    which = fields.get("topic" if head.kind == "note" else "reason")
    msgid = f"{head.kind}/{which}" if isinstance(which, str) and which else head.kind
    return message(stream, gateway, seq, payload, head, msgid, told, fields)


def message(
    stream: str,
    gateway: str,
    seq: int,
    payload: bytes,
    head: Head,
    msgid: str,
    told: Mapping[str, Any],
    content: Mapping[str, Any],
) -> bytes:
    """One message of at most MESSAGE_BYTES_MAX bytes. Of what is told the id is never cut."""
    severity = SEVERITIES.get(msgid, SEVERITIES.get(msgid.partition("/")[0], WARNING))
    start = " ".join(
        (
            f"<{FACILITY * 8 + severity}>1",
            _time(head.ts),
            _word(gateway, HOSTNAME_MAX),
            APP_NAME,
            _word(stream, PROCID_MAX),
            _word(msgid, MSGID_MAX),
        )
    )
    params = {"id": f"{stream}/{seq}", "registry": REGISTRY_VERSION, "leaf": leaf_hash(payload).hex(), **told}
    origin = f'[origin software="licet" swVersion="{__version__}"]'
    msg = _ascii(content)
    before = f"{start} {_element(params)}{origin} ".encode()
    if len(before) + len(msg) <= MESSAGE_BYTES_MAX:
        return before + msg
    before = f"{start} {_element({**params, 'cut': True})}{origin} ".encode()
    return before + msg[: MESSAGE_BYTES_MAX - len(before)]


def framed(one: bytes) -> bytes:
    """RFC 5425, section 4.3."""
    return b"%d %s" % (len(one), one)


def _ascii(content: Mapping[str, Any]) -> bytes:
    found = orjson.dumps(content)
    return found if found.isascii() else json.dumps(content, separators=(",", ":")).encode("ascii")


def _element(params: Mapping[str, Any]) -> str:
    parts = [f' {_name(name)}="{_value(value)}"' for name, value in params.items() if value is not None and value != ""]
    return f"[{SD_ID}{''.join(parts)}]"


def _name(text: str) -> str:
    """1 to 32 printable characters, and none of = ] " and space."""
    if _NAME.fullmatch(text):
        return text
    return re.sub(r'[^!-~]|[="\]]', "_", text)[:32]


def _value(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) <= VALUE_BYTES_MAX and _PLAIN.fullmatch(text):  # nearly all are
        return text
    data = text[:VALUE_BYTES_MAX].encode("utf-8", "replace")[:VALUE_BYTES_MAX]
    text = _CONTROL.sub(" ", data.decode("utf-8", "ignore"))  # a character that the limit cut through is gone
    return _ESCAPED.sub(r"\\\1", text)


def _word(text: str, limit: int) -> str:
    return _UNPRINTABLE.sub("_", text)[:limit] or "-"


def _time(ms: int) -> str:
    """RFC 3339 in UTC; NILVALUE for a time that no calendar has."""
    try:
        at = datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return "-"
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z" if at.year >= 1000 else "-"


def _is_fleets(payload: bytes) -> bool:
    return payload.startswith(b'{"v":"fleet.')


def sink(work: Work) -> Sink:
    """Raises ConfigError."""
    assert work.telemetry.syslog is not None
    return SyslogSink(Lines(work.telemetry.syslog, "telemetry.syslog"), work.data_dir)
