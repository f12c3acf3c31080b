"""The JSON Schema of the records says what the writer writes."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from gateway.audit.record import Durations, End, Note, Refused, Start, Text, UsageCounts, encode
from gateway.audit.schema import json_schema
from gateway.reasons import Outcome
from tests.gateway.audit.samples import intent, outcome

VALIDATOR = Draft202012Validator(json_schema())
FULL = msgspec.structs.replace(
    outcome(intent(), 1, Outcome.MASKED),
    usage=UsageCounts(1, 2),
    answer=Text(bytes=3, digest="k1:" + "a" * 64, texts=("k1:" + "b" * 64,)),
    time=Durations(1.5),
    case="case-1",
)
RECORDS = [
    pytest.param(Start(ts=1, gateway="gw", worker=0, build="1", role="vault"), id="start"),
    pytest.param(intent(), id="intent"),
    pytest.param(FULL, id="outcome"),
    pytest.param(Note(ts=1, topic="refusals", refused=(Refused("s", "AUTH_MISSING", 2),)), id="note"),
    pytest.param(End(ts=1, reason="closed", size=4, root="00" * 32), id="end"),
]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("record", RECORDS)
def test_it_admits_what_is_written_and_what_later_versions_add(record: Start) -> None:
    stored = json.loads(encode(record, "gw-w0/17"))
    VALIDATOR.validate(stored)
    VALIDATOR.validate(stored | {"later": 1})


@pytest.mark.parametrize("change", [{"reason": "tired"}, {"root": "00"}, {"size": -1}])
def test_it_refuses_an_end_that_is_none(change: dict[str, object]) -> None:
    stored = json.loads(encode(End(ts=1, reason="closed", size=4, root="00" * 32), "gw-w0/4"))
    assert VALIDATOR.is_valid(stored)
    assert not VALIDATOR.is_valid(stored | change)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"v": "trace.v2"}, id="another version"),
        pytest.param({"id": "no place"}, id="no place"),
        pytest.param({"kind": "thought"}, id="another kind"),
        pytest.param({"outcome": "fine"}, id="another outcome"),
        pytest.param({"ts": "today"}, id="another type"),
        pytest.param({"call_id": None}, id="nothing"),
        pytest.param({"call_id": "4bf92f3577b34da6a3ce929d0e0e473"}, id="an id that is too short"),
        pytest.param({"call_id": "4BF92F3577B34DA6A3CE929D0E0E4736"}, id="an id in upper case"),
        pytest.param({"intent": -1}, id="a number that is none"),
        pytest.param({"ts": 2**53}, id="a number beyond what readers agree on"),
    ],
)
def test_it_refuses_what_is_no_record(change: dict[str, object]) -> None:
    stored = json.loads(encode(FULL, "gw-w0/17")) | change
    assert not VALIDATOR.is_valid(stored)


def test_it_is_printed(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from gateway.audit_cli import app

    answer = CliRunner().invoke(app, ["schema", "--indent", "0"])
    assert answer.exit_code == 0
    assert json.loads(answer.stdout) == json_schema()
