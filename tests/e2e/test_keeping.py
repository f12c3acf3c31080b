"""What is kept beside the records: exchanges under a user's key, and evidence that two custodians open together."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.errors import ConfigError
from gateway.settings import load_settings
from gateway.tlog.verify import verify
from gateway.vault import cases, transcripts
from gateway.vault.access import VaultError, opened
from gateway.vault.custody import Keyring, new_keyring, public_of
from tests.e2e.stack import Stack, policy_text, shown
from tests.e2e.test_audit import hello
from tests.fakes.endpoint import CUT, Endpoint, Reply, Seen, Wait, chat_answer, chat_stream

CARD, SSN = "4111 1111 1111 1111", "536-90-4399"
ALICE, BOB = Keyring("alice", new_keyring()), Keyring("bob", new_keyring())
ENCRYPTED = policy_text(content="encrypted")
EVIDENCE = policy_text().replace("record: {", "record: {evidence: blocked, ")


def custodians(*people: Keyring) -> str:
    listed = ", ".join(f"{{name: {one.name}, key: {base64.b64encode(public_of(one)).decode()}}}" for one in people)
    return f"audit: {{custodians: [{listed}]}}\n"


@contextmanager
def stack(folder: Path, policy: str, app: Any = hello) -> Iterator[Stack]:
    with Endpoint(app) as endpoint, Stack(folder, endpoint.origin, policy, settings=custodians(ALICE, BOB)) as made:
        yield made
    assert verify(folder / "data").ok


def on_disk(folder: Path, needle: str) -> list[Path]:
    """Files of the data directory, logs and all, that hold these characters."""
    return [path for path in folder.rglob("*") if path.is_file() and needle.encode() in path.read_bytes()]


def answers(seen: Seen) -> Reply:
    text = f"Yours is {CARD}, and that is all."
    if seen.json.get("stream"):
        return Reply(chat_stream([text[at : at + 4] for at in range(0, len(text), 4)]))
    return Reply([chat_answer(text)], media="application/json")


@pytest.mark.parametrize("stream", [False, True])
def test_an_exchange_is_kept_as_it_left_both_ways(tmp_path: Path, stream: bool) -> None:
    with stack(tmp_path, ENCRYPTED, answers) as gateway:
        answer = gateway.chat(f"My card is {CARD}.", stream=stream, user="jane")
        outcome = gateway.outcome(answer)
    kept = json.loads(transcripts.read(tmp_path / "data", outcome["call_id"], outcome["transcript"]))
    assert kept["answer"] == answer.text
    assert "My card is" in kept["prompt"]
    assert CARD not in json.dumps(kept)
    assert not on_disk(tmp_path / "data", "My card is")


def test_a_caller_who_leaves_leaves_what_was_delivered(tmp_path: Path) -> None:
    def slow(seen: Seen) -> Reply:
        return Reply([*chat_stream(["Once upon a time ", "there was a fox "])[:3], Wait(seconds=30)])

    with stack(tmp_path, ENCRYPTED, slow) as gateway:
        body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            call_id = answer.headers["x-licet-call-id"]
            read = answer.iter_raw()
            received = b""
            while b"upon" not in received:
                received += next(read)
        outcome = gateway.outcome(call_id)
    assert outcome["outcome"] == "cancelled"
    kept = json.loads(transcripts.read(tmp_path / "data", call_id, outcome["transcript"]))
    assert "Once upon" in kept["answer"]


def test_a_refusal_in_the_middle_is_part_of_what_was_kept(tmp_path: Path) -> None:
    def broken(seen: Seen) -> Reply:
        return Reply([*chat_stream(["Once upon a time ", "there "])[:2], CUT])

    with stack(tmp_path, ENCRYPTED, broken) as gateway:
        answer = gateway.chat(stream=True)
        outcome = gateway.outcome(answer)
    assert outcome["outcome"] == "failed"
    kept = json.loads(transcripts.read(tmp_path / "data", outcome["call_id"], outcome["transcript"]))
    assert answer.text.startswith(kept["answer"])
    assert "error" in shown(answer.content)[-1]


def test_l1_where_exchanges_cannot_be_kept_no_answer_is_given(tmp_path: Path) -> None:
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin, ENCRYPTED) as gateway:
        assert gateway.chat().status_code == 200
        pipeline = gateway.gateway._doors.pipeline
        assert pipeline is not None
        pipeline.keeping.transcripts.problem = "the disk is gone"
        answer = gateway.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "AUDIT_UNAVAILABLE")
        assert len(endpoint.seen) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["prompt", "answer"])
def test_what_was_blocked_is_opened_by_two_and_by_none_alone(tmp_path: Path, where: str, stream: bool) -> None:
    def tells(seen: Seen) -> Reply:
        text = f"It is {SSN}."
        return (
            Reply(chat_stream([text]))
            if seen.json.get("stream")
            else Reply([chat_answer(text)], media="application/json")
        )

    data = tmp_path / "data"
    with stack(tmp_path, EVIDENCE, tells) as gateway:
        answer = gateway.chat(f"Mine is {SSN}." if where == "prompt" else "Tell me", stream=stream)
        outcome = gateway.outcome(answer)
        assert outcome["outcome"] == "blocked"
        assert [r["detail"]["case"] for r in gateway.records("note") if r["topic"] == "case"] == [outcome["case"]]
    assert not on_disk(data, SSN)
    case = outcome["case"]
    with opened(data, "gw") as log:
        half = cases.request(data, case, ALICE, "bob", "inspection 7", log)
        with pytest.raises(VaultError):
            cases.open_case(data, case, ALICE, half, "alone", log)
        evidence = json.loads(cases.open_case(data, case, BOB, half, "inspection 7", log))
    assert SSN in evidence[where]
    assert not on_disk(data, SSN)
    assert verify(data).ok


def test_what_passes_is_no_evidence(tmp_path: Path) -> None:
    with stack(tmp_path, EVIDENCE) as gateway:
        assert "case" not in gateway.outcome(gateway.chat())
    assert not (tmp_path / "data" / "vault").exists() or not list((tmp_path / "data" / "vault").iterdir())


@pytest.mark.parametrize(
    ("policy", "settings", "said"),
    [
        pytest.param(EVIDENCE, "", "audit.custodians", id="no custodians"),
        pytest.param(
            policy_text().replace("record: {", "record: {retention: 300d, "),
            "",
            "audit.retention.trace",
            id="too short",
        ),
    ],
)
def test_a_policy_that_the_settings_do_not_give_its_records_stops_the_start(
    tmp_path: Path, policy: str, settings: str, said: str
) -> None:
    with Endpoint(hello) as endpoint:
        made = Stack(tmp_path, endpoint.origin, policy, settings=settings)
        with pytest.raises(ConfigError, match=said):
            Gateway(load_settings(made.write_files()))
