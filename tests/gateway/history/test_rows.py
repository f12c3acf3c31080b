"""Records of other versions, and such as cannot be read."""

from __future__ import annotations

import msgspec
import orjson

from gateway.audit.record import encode
from gateway.history import schema
from gateway.history.rows import ENDING, LATE, SECOND, RowMaker
from gateway.history.tables import CallRow
from gateway.reasons import Outcome
from tests.gateway.audit.samples import intent, outcome


def row(values: list[object]) -> CallRow:
    return msgspec.convert(dict(zip(CallRow.__struct_fields__, values, strict=True)), CallRow)


def test_fields_of_later_versions_are_passed_over() -> None:
    maker = RowMaker("s", "gw")
    first = orjson.loads(encode(intent("c1"), "s/0"))
    first |= {"new": {"a": [1]}, "v": "trace.v1"}
    first["policy"]["new"] = 7
    first["license"]["new"] = None
    maker.take(0, orjson.dumps(first))
    last = orjson.loads(encode(outcome(intent("c1"), 0), "s/1")) | {"outcome": "deferred", "more": True}
    maker.take(1, orjson.dumps(last))
    rows = maker.flush()
    assert rows.side["unread"] == []
    made = row(list(rows.calls[0]))
    assert (made.decision, made.policy, made.outcome, made.license) == ("deferred", "retail", 1, "lic-1")


def test_what_gives_no_row_is_told() -> None:
    maker = RowMaker("s", "gw")
    opened = intent()
    ended = outcome(opened, 4)
    maker.take(0, b"\xff\x00 not JSON")
    maker.take(1, b'{"v":"trace.v9","id":"s/1","kind":"verdict","ts":1}')
    maker.take(2, b'{"kind":"intent","ts":"yesterday","call_id":"c"}')
    maker.take(3, b'{"kind":"note","ts":9223372036854775808,"topic":"t"}')
    maker.take(4, encode(opened, "s/4"))
    maker.take(5, encode(ended, "s/5"))
    maker.take(6, encode(ended, "s/6"))
    rows = maker.flush()
    assert [seq for _, seq, _ in rows.side["unread"]] == [0, 1, 2, 3, 6]
    assert rows.side["unread"][-1] == ("s", 6, SECOND)
    assert list(rows.calls) == [4]


def test_an_outcome_without_its_intent_waits_to_be_matched() -> None:
    maker = RowMaker("s", "gw")
    maker.take(9, encode(outcome(intent(), 2, Outcome.MASKED), "s/9"))
    endings = maker.flush().endings
    assert list(endings) == [2]
    assert dict(zip(ENDING, endings[2], strict=True))["decision"] == "masked"
    assert LATE


def test_the_schema_is_that_of_the_rows() -> None:
    assert schema.names("calls") == CallRow.__struct_fields__
    types = dict(schema.TABLES["calls"])
    assert (types["ts"], types["total_ms"], types["call_id"], types["status_iat"]) == (
        "BIGINT",
        "DOUBLE",
        "TEXT",
        "BIGINT",
    )
