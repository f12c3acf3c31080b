"""The probe against a gateway that lies, over real sockets: each lie is named, and an honest gateway has none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from gateway.audit.record import Intent, OutcomeRecord, Text, UsageCounts
from gateway.completeness.probe import Probed, ProbeError, Target, door_of, probe
from gateway.reasons import Outcome
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import verifier_key
from gateway.tlog.note import parse_key
from tests.fakes.drip import Drip
from tests.gateway.completeness.liar import AUDITOR, Liar, Told

OTHER = LogKey.of(Ed25519PrivateKey.generate())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    with Liar(tmp_path_factory.mktemp("gateway")) as liar:
        yield liar


@pytest.fixture
def gateway(running: Liar) -> Liar:
    """Honest again."""
    fresh = Liar(running.data)
    running.lie, running.headers, running.sealing, running.refusal = fresh.lie, fresh.headers, True, None
    return running


def ask(
    gateway: Liar,
    *,
    stream: bool = False,
    key: LogKey | None = None,
    prompts: int = 1,
    timeout_s: float = 20.0,
    door_timeout_s: float = 20.0,
    **changes: Any,
) -> list[Probed]:
    fields: dict[str, Any] = {
        "base_url": gateway.url,
        "key": "lk-any",
        "model": "chat",
        "dialect": "openai",
        "audit_url": gateway.url,
        "auditor_key": AUDITOR,
        "keys": (parse_key(verifier_key("gw", (key or gateway.key).public)),),
    }
    target = Target(**{**fields, **changes})
    naps: list[float] = []
    return list(
        probe(
            target,
            ["Say hello."] * prompts,
            wait_s=0.0,
            streams=(stream,),
            sleep=naps.append,
            timeout_s=timeout_s,
            door_timeout_s=door_timeout_s,
        )
    )


@pytest.mark.parametrize("stream", [False, True])
def test_an_honest_gateway_is_found_honest(gateway: Liar, stream: bool) -> None:
    found = ask(gateway, stream=stream, prompts=2)
    assert [one.differences for one in found] == [(), ()]
    assert len({one.record for one in found}) == 2


def test_the_address_may_be_the_one_that_clients_are_given(gateway: Liar) -> None:
    base = f"{gateway.url}/v1"
    (found,) = ask(gateway, base_url=base, audit_url=base)
    assert (found.differences, gateway.paths[-1]) == ((), "/v1/chat/completions")
    assert {door_of(f"{gateway.url}{end}") for end in ("", "/", "/v1/", "/audit", "/audit/")} == {
        f"{gateway.url}/audit/"
    }


@pytest.mark.parametrize(
    ("status", "code", "named", "recorded"),
    [
        (404, "MODEL_UNKNOWN", "model chat is refused (404 MODEL_UNKNOWN); give by --model", True),
        (401, "AUTH_INVALID", "--key", True),
        (403, "", "--key", False),
        (404, "", "--base-url", False),
    ],
)
def test_a_call_that_was_aimed_wrongly_is_no_finding(
    gateway: Liar, status: int, code: str, named: str, recorded: bool
) -> None:
    gateway.refusal = (status, code)
    if not recorded:
        gateway.headers = lambda call_id, record: {}
    with pytest.raises(ProbeError, match=re.escape(named)):
        ask(gateway)


def test_a_refusal_by_the_license_is_a_call_like_others(gateway: Liar) -> None:
    gateway.refusal = (403, "LIC_TIME")
    assert ask(gateway)[0].differences  # recorded as an answer


def outcomes(**changes: Any) -> Callable[[Intent, OutcomeRecord], Told]:
    return lambda intent, outcome: (intent, replace(outcome, **changes))


def intents(**changes: Any) -> Callable[[Intent, OutcomeRecord], Told]:
    return lambda intent, outcome: (replace(intent, **changes), outcome)


def answers(**changes: Any) -> Callable[[Intent, OutcomeRecord], Told]:
    return lambda i, o: (i, replace(o, answer=replace(o.answer or Text(bytes=0), **changes)))


@pytest.mark.parametrize(
    ("lie", "named"),
    [
        pytest.param(lambda i, o: None, "no sealed record of the call", id="nothing is recorded"),
        pytest.param(outcomes(status=400), "status 200 on the wire, 400", id="status"),
        pytest.param(outcomes(outcome=Outcome.BLOCKED), "the record says blocked", id="outcome"),
        pytest.param(outcomes(served_model="tiny"), "names a model", id="model served"),
        pytest.param(outcomes(provider_id="chatcmpl-2"), "id of the answer", id="id of the answer"),
        pytest.param(outcomes(usage=UsageCounts(5, 6)), "output tokens 7 on the wire, 6", id="tokens"),
        pytest.param(outcomes(usage=None), "input tokens 5 on the wire, nothing", id="no tokens"),
        pytest.param(outcomes(finish_reasons=("length",)), "finish reasons", id="finish reason"),
        pytest.param(answers(bytes=1), "answer bytes", id="bytes of the answer"),
        pytest.param(answers(texts=("k1:" + "0" * 64,)), "digest of the delivered text", id="another text"),
        pytest.param(answers(texts=None), "digest of the delivered text", id="no text"),
        pytest.param(intents(prompt=Text(bytes=1)), "prompt bytes", id="bytes of the prompt"),
        pytest.param(intents(model="other"), "model chat on the wire, other", id="model asked for"),
        pytest.param(intents(stream=True), "stream False on the wire, True", id="stream"),
        pytest.param(intents(ts=1), "of another time", id="time"),
        pytest.param(intents(call_id="f" * 32), "no sealed record of the call", id="another call id"),
    ],
)
def test_a_record_that_is_not_the_wire_is_named(
    gateway: Liar, lie: Callable[[Intent, OutcomeRecord], Told | None], named: str
) -> None:
    gateway.lie = lie
    (found,) = ask(gateway)
    assert any(named in one for one in found.differences), found.differences


def test_events_of_a_stream_are_counted(gateway: Liar) -> None:
    gateway.lie = outcomes(events=1)
    (found,) = ask(gateway, stream=True)
    assert [one for one in found.differences if "stream events 5 on the wire, 1" in one]


def test_an_answer_that_names_no_record_is_named(gateway: Liar) -> None:
    gateway.headers = lambda call_id, record: {}
    (found,) = ask(gateway)
    assert found.differences == ("the answer names no record (x-licet-call-id, x-licet-record)",)


def test_one_record_for_two_calls_is_named(gateway: Liar) -> None:
    first: list[tuple[str, str]] = []

    def always(call_id: str, record: str) -> dict[str, str]:
        first.append((call_id, record))
        return {"x-licet-call-id": first[0][0], "x-licet-record": first[0][1]}

    gateway.headers = always
    assert [one.differences for one in ask(gateway, prompts=2)] == [
        (),
        ("the answer names the record of an earlier call",),
    ]


def test_a_record_that_is_never_sealed_is_named(gateway: Liar) -> None:
    gateway.sealing = False
    (found,) = ask(gateway)
    assert found.differences == ("no sealed record of the call within 0 s",)


def test_a_head_of_another_key_proves_nothing(gateway: Liar) -> None:
    (found,) = ask(gateway, key=OTHER)
    assert any("not signed" in one for one in found.differences), found.differences


def test_a_key_that_is_refused_is_told_without_the_key(gateway: Liar) -> None:
    with pytest.raises(ProbeError, match="auditor's key is refused") as told:
        ask(gateway, auditor_key="secret-value")
    assert "secret-value" not in str(told.value)
    with pytest.raises(ProbeError, match="gave no whole answer"):
        ask(gateway, base_url="http://127.0.0.1:9")


def test_l7_keys_are_not_shown() -> None:
    target = Target("http://gw", "key-of-a-caller", "m", "openai", "http://gw", "key-of-an-auditor", ())
    assert "key-of" not in repr(target)


@pytest.mark.parametrize("where", ["head", "body"])
def test_l9_a_door_that_sends_a_byte_now_and_then_holds_no_probe(gateway: Liar, where: str) -> None:
    with Drip(where) as server:
        with pytest.raises(ProbeError, match=r"prompt 1: the gateway did not end its answer within 0\.15 s"):
            ask(gateway, base_url=server.url, timeout_s=0.15)
        with pytest.raises(ProbeError, match=r"the auditor's door did not end its answer within 0\.15 s"):
            ask(gateway, audit_url=server.url, door_timeout_s=0.15)
