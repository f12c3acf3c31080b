"""What records hold beside the verdict: who, under which documents, with which ids and digests; and what a full spool does."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.digest import DigestKeys
from gateway.audit.places import Place, Progress, tell
from gateway.evidence.kept import kept
from policies.model import SPOOL_FULL
from tests.e2e.stack import Stack, policy_text, said
from tests.e2e.test_audit import QUESTION, hello, refusal
from tests.fakes.endpoint import Endpoint, Reply, Seen, chat_answer, chat_stream

CARD = "4111 1111 1111 1111"


def test_every_document_that_a_record_names_is_kept_under_its_digest(tmp_path: Path) -> None:
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        stack.chat()
        (intent,) = stack.records("intent")
        license_ = kept(tmp_path / "data", "licenses", intent["license"]["digest"])
        policy = kept(tmp_path / "data", "policies", intent["policy"]["digest"])
    assert license_ is not None
    assert license_.count(b".") == 2
    assert policy is not None
    assert hashlib.sha256(policy).hexdigest() == intent["policy"]["digest"]
    assert kept(tmp_path / "data", "policies", "0" * 64) is None


def test_l8_the_end_user_and_the_trace_that_a_caller_names_are_recorded_and_decide_nothing(tmp_path: Path) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        body = {"model": "chat", "user": "jane@example.com", "messages": QUESTION}
        stack.http.post("/v1/chat/completions", json=body, headers={"traceparent": parent})
        stack.chat(user="jane@example.com")
        stack.chat(safety_identifier="someone else")
        first, second, third = stack.records("intent")
    assert first["linked"] == parent
    assert first["call_id"] not in parent
    assert "linked" not in second
    assert first["subject"] == second["subject"] != third["subject"]
    assert re.fullmatch(r"k1:[0-9a-f]{32}", first["subject"])
    journal = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*.seg"))
    assert b"jane" not in journal


def identified(seen: Seen) -> Reply:
    return replace(hello(seen), headers=(("x-request-id", "req_17"),))


def test_the_providers_own_ids_are_recorded(tmp_path: Path) -> None:
    with Endpoint(identified) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        outcome = stack.outcome(stack.chat())
    assert (outcome["request_id"], outcome["provider_id"]) == ("req_17", "chatcmpl-1")


@pytest.mark.parametrize("word", SPOOL_FULL)
def test_a_full_spool_refuses_as_the_policy_says(tmp_path: Path, word: str) -> None:
    policy = policy_text() + f"failure: {{spool_full: {word}}}\n"
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin, policy) as stack:
        assert stack.chat().status_code == 200
        late = Place(name="s3", required=True, behind_records=5, since_ms=int((time.time() - 7200) * 1000))
        tell(tmp_path / "data", Progress("shipper", 1, int(time.time() * 1000), (late,)))
        stack.gateway.spool.look()
        answer = stack.chat()
        ready = stack.http.get("/readyz")
        assert ready.status_code == (503 if word == "refuse" else 200)
        assert ("no call of chat is served" in ready.text) == (word == "refuse")
        if word == "refuse":
            assert refusal(answer) == (503, "AUDIT_SPOOL")
            assert stack.outcome(answer)["reasons"] == ["AUDIT_SPOOL"]
            tell(tmp_path / "data", Progress("shipper", 1, int(time.time() * 1000), (Place(name="s3", required=True),)))
            stack.gateway.spool.look()
            assert stack.http.get("/readyz").status_code == 200
            answer = stack.chat()
        assert answer.status_code == 200


def cards(seen: Seen) -> Reply:
    """A text with a card in it, in pieces where a stream is asked for."""
    text = f"My card is {CARD}, and\u3000that is\n all."
    if seen.json.get("stream"):
        return Reply(chat_stream([text[at : at + 5] for at in range(0, len(text), 5)]))
    return Reply([chat_answer(text)], media="application/json")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_l7_a_record_has_keyed_digests_of_what_left(tmp_path: Path, stream: bool, mode: str) -> None:
    """Of the bytes, as the wire had them, and of the text, as it was after filtering."""
    policy = policy_text(mode=mode)
    with Endpoint(cards) as endpoint, Stack(tmp_path, endpoint.origin, policy) as stack:
        answer = stack.chat(stream=stream)
        outcome = stack.outcome(answer)
        keys = DigestKeys.load(tmp_path / "data")
    text = said(answer.content) if stream else str(answer.json()["choices"][0]["message"]["content"])
    assert (CARD in text) == (mode == "shadow")
    assert outcome["answer"]["bytes"] == len(answer.content)
    assert outcome["answer"]["digest"] == keys.digest(answer.content)
    assert outcome["answer"]["texts"] == [keys.all_texts(text)[0]] == [keys.all_texts(" ".join(text))[0]]
    key = (tmp_path / "data" / "keys" / "digest-1.key").read_bytes()
    assert outcome["answer"]["digest"] == "k1:" + hmac.digest(key, answer.content, "sha256").hex()
    assert hashlib.sha256(answer.content).hexdigest() not in json.dumps(outcome)


def test_a_policy_may_keep_no_digest_of_texts(tmp_path: Path) -> None:
    policy = policy_text(content="none")
    with Endpoint(cards) as endpoint, Stack(tmp_path, endpoint.origin, policy) as stack:
        for stream in (False, True):
            outcome: dict[str, Any] = stack.outcome(stack.chat(stream=stream))
            assert "texts" not in outcome["answer"]
            assert outcome["answer"]["digest"]
