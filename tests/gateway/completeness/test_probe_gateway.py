"""The probe against a real gateway over real sockets, whose sealer and auditor's door are the product's own."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import pytest

from gateway.completeness.probe import Probed, Target, probe
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import verifier_key
from gateway.tlog.note import parse_key
from tests.e2e.stack import KEY, Stack
from tests.fakes.endpoint import Endpoint, Reply, Seen, anthropic_stream, chat_answer, chat_stream

AUDITOR = "inspector-key"
SETTINGS = "auditors:\n  - {name: inspector, key_sha256: " + hashlib.sha256(AUDITOR.encode()).hexdigest() + "}\n"


TEXT = ["I have ", "heard you, ", "and I write to jane@example.com."]
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "up",
    "content": [{"type": "text", "text": "".join(TEXT)}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 9},
}


def answer(seen: Seen) -> Reply:
    """As a model of either dialect."""
    openai = seen.path.endswith("/chat/completions")
    if seen.json.get("stream"):
        # As Anthropic does today: the last event tells both counts.
        both = [
            e.replace(b'"output_tokens": 9', b'"input_tokens": 3, "output_tokens": 9') for e in anthropic_stream(TEXT)
        ]
        return Reply(chat_stream(TEXT) if openai else both)
    return Reply([chat_answer("".join(TEXT)) if openai else json.dumps(MESSAGE).encode()], media="application/json")


@pytest.mark.slow
@pytest.mark.parametrize(("dialect", "model"), [("openai", "chat"), ("anthropic", "msg")])
def test_an_honest_gateway_shows_every_call_as_it_was_on_the_wire(tmp_path: Path, dialect: str, model: str) -> None:
    with Endpoint(answer) as endpoint, Stack(tmp_path, endpoint.origin, settings=SETTINGS) as stack:
        data = tmp_path / "data"
        key = LogKey.load(data)
        (gateway_id,) = {record["gateway"] for record in stack.records("start")}
        ended = threading.Event()

        def seal() -> None:
            sealer = Sealer(data, gateway_id, key)
            while not ended.wait(0.05):
                sealer.round()

        sealing = threading.Thread(target=seal)
        sealing.start()
        try:
            target = Target(
                base_url=stack.url,
                key=KEY,
                model=model,
                dialect=dialect,
                audit_url=stack.url,
                auditor_key=AUDITOR,
                keys=(parse_key(verifier_key(gateway_id, key.public)),),
            )
            prompts = ["Say hello.", "My card is 4111 1111 1111 1111, repeat it.", "My number is 536-90-4399."]
            found: list[Probed] = list(probe(target, prompts))
        finally:
            ended.set()
            sealing.join()
    assert [(one.differences, one.seconds > 0) for one in found] == [((), True)] * 6
    assert {one.status for one in found} == {200, 400}
