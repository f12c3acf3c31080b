"""JSON Lines over TLS: every sealed record, as it is stored.

A line is one JSON object that ends with a line feed:

    {"v":"licet.record.v1","stream":"gw-w0-...","seq":7,"leaf":"<hex>","record":{...}}
    {"v":"licet.head.v1","stream":"gw-w0-...","size":8,"checkpoint":"<signed note>"}

The stored bytes stand unchanged behind `"record":`, up to the line's last brace: SHA-256 over 0x00 and these bytes is `leaf`. What is stored
and is no JSON object on one line comes as `"base64":"..."` instead. The head follows whenever its last record was sent, so that the
receiver can hold the records against what the gateway signed. `stream` and `seq` tell repetition.

What `taken` means here, and what not, `gateway.ship.lines` says: the protocol has no acknowledgement.
"""

from __future__ import annotations

import base64

import orjson

from gateway.ship.lines import Lines
from gateway.ship.port import Batch, Sink
from gateway.ship.process import Work
from gateway.tlog.tree import leaf_hash

RECORD = "licet.record.v1"
HEAD = "licet.head.v1"


class JsonlSink:
    """A `Sink`."""

    name = "jsonl"

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def send(self, batch: Batch) -> None:
        """Raises SinkError."""
        made = [line_of(batch.stream, seq, payload) for seq, payload in enumerate(batch.payloads, batch.first)]
        if batch.next == batch.head.size:
            head = {"v": HEAD, "stream": batch.stream, "size": batch.head.size, "checkpoint": batch.head.note}
            made.append(orjson.dumps(head) + b"\n")
        self._lines.send(b"".join(made))

    def close(self) -> None:
        """Let go of the connection."""
        self._lines.close()


def line_of(stream: str, seq: int, payload: bytes) -> bytes:
    """The line of a record."""
    start = orjson.dumps({"v": RECORD, "stream": stream, "seq": seq, "leaf": leaf_hash(payload).hex()})[:-1]
    if _is_object(payload):
        return start + b',"record":' + payload + b"}\n"
    return start + b',"base64":"' + base64.b64encode(payload) + b'"}\n'


def _is_object(payload: bytes) -> bool:
    if not payload.startswith(b"{") or not payload.endswith(b"}") or b"\n" in payload or b"\r" in payload:
        return False
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    return True


def sink(work: Work) -> Sink:
    """Raises ConfigError."""
    assert work.telemetry.jsonl is not None
    return JsonlSink(Lines(work.telemetry.jsonl, "telemetry.jsonl"))
