"""FORMAT.md, the writer's types and the verifier's table say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import orjson
import pytest

import gateway.tlog
from gateway.audit.record import LicenseRef, PolicyRef, Record, Refused, Text, decode, encode
from gateway.tlog import frames
from gateway.tlog.verify import REQUIRED
from tests.gateway.audit.samples import intent

PAGE = (Path(gateway.tlog.__file__).parent / "FORMAT.md").read_text()
KINDS: dict[str, type[msgspec.Struct]] = {kind.__struct_config__.tag: kind for kind in get_args(Record)}


def rows() -> dict[str, tuple[set[str], set[str]]]:
    """Kind -> fields it must have, fields it may have, from the page's table."""
    found = re.findall(r"^\| `(\w+)` \| `([\w ]+)` \| (.*) \|$", PAGE, re.MULTILINE)
    may = {kind: set(" ".join(re.findall(r"`([\w ]+)`", text)).split()) for kind, _, text in found}
    return {kind: (set(must.split()), may[kind]) for kind, must, _ in found}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_page_lists_every_field_of_a_record(kind: str) -> None:
    fields = msgspec.structs.fields(KINDS[kind])
    must, may = rows()[kind]
    assert must == {f.name for f in fields if f.required}
    assert may == {f.name for f in fields if not f.required} - {"clipped"}
    assert must == {"ts", *REQUIRED[kind]}


@pytest.mark.parametrize("part", [PolicyRef, LicenseRef, Text, Refused])
def test_the_page_names_every_field_of_a_group(part: type[msgspec.Struct]) -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    quoted = set(" ".join(re.findall(r"`([^`]+)`", prose)).split())
    assert {f.name for f in msgspec.structs.fields(part)} <= quoted


def test_the_page_examples_are_records() -> None:
    [block] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    records = [decode(part.replace("\n", "").encode()) for part in block.split("\n\n")]
    assert [type(r).__struct_config__.tag for r in records] == ["intent", "outcome"]


def test_the_page_shows_how_a_segment_opens() -> None:
    data = frames.header_bytes(frames.Header("s", 1, 0, (), ()))
    assert data[:8].hex() == "6c69636574736567"
    assert data[8:11] == b"\x00\x00\x00"
    assert data[20] == 0
    shown = next(line for line in PAGE.splitlines() if line.startswith('{"v":"segment.v1"'))
    assert data[21:].startswith(shown.split("e3b0c442")[0].encode() + b"e3b0c442")
    assert data.endswith(shown.split("...")[1].removeprefix('"').encode())


def test_a_record_is_decoded_as_it_was_encoded() -> None:
    record = intent()
    payload = encode(record, "s/1")
    assert decode(payload) == record
    assert payload.startswith(b'{"v":"trace.v1","id":"s/1","kind":"intent",')
    assert b"null" not in payload


def test_fields_of_later_versions_are_skipped() -> None:
    record = intent()
    fields = {**orjson.loads(encode(record, "s/1")), "later": {"x": 1}}
    assert decode(orjson.dumps(fields)) == record


@pytest.mark.parametrize("cut", [0, 4, 7, 8, 12, 13, 20])
def test_an_incomplete_frame_is_told_from_a_damaged_one(cut: int) -> None:
    whole = frames.frame(frames.FORMAT_RECORD, b'{"a":1}' * 3)
    assert frames.read_frame(whole[:cut], 0) is None
    if cut >= 8:
        bent = bytes((whole[0] ^ 1,)) + whole[1:cut]
        with pytest.raises(frames.DamagedError, match="length"):
            frames.read_frame(bent, 0)


@pytest.mark.parametrize(("format_", "size"), [(7, 3), (frames.FORMAT_RECORD, frames.RECORD_BYTES_MAX + 1)])
def test_sound_frames_that_the_format_does_not_know_are_damage(format_: int, size: int) -> None:
    with pytest.raises(frames.DamagedError):
        frames.read_frame(frames.frame(format_, bytes(size)), 0)
    with pytest.raises(frames.DamagedError, match="limit"):
        frames.read_frame(frames.frame(frames.FORMAT_HEADER, bytes(frames.HEADER_BYTES_MAX + 1)), 0)


def test_l9_a_header_names_a_bounded_number_of_open_calls() -> None:
    def header(calls: int) -> frames.Header:
        """A segment that begins while so many calls are open."""
        open_calls = tuple((seq, f"{seq:032x}") for seq in range(calls))
        frontier = tuple(bytes(32) for _ in range(calls.bit_count()))
        return frames.Header("s", 2, calls, frontier, open_calls)

    found = frames.read_header(frames.header_bytes(header(20_000)))
    assert found is not None
    assert found[0] == header(20_000)
    with pytest.raises(OSError, match="in flight"):
        frames.header_bytes(header(30_000))
