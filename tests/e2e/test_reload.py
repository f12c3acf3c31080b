"""Files that change under a running gateway: good ones are taken up, bad ones leave the last good one in force, and both are said."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.license.issuer import add_to_trust, generate_key
from tests.e2e.stack import ISSUER, MASKS, Stack, policy_text
from tests.fakes.endpoint import Endpoint, Reply, Seen, chat_answer

CARD = "4111 1111 1111 1111"
BLOCKS = MASKS.replace("CREDIT_CARD: mask", "CREDIT_CARD: block")


def hello(_: Seen) -> Reply:
    return Reply([chat_answer("Hello.")], media="application/json")


def changed(stack: Stack, revision: int) -> Callable[[], bool]:
    return lambda: stack.gateway.catalog.revision > revision


def test_a_good_policy_is_taken_up_without_a_restart_and_noted(tmp_path: Path) -> None:
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        first = stack.chat(f"My card is {CARD}")
        assert first.status_code == 200
        before = stack.http.get("/readyz").json()["policies"]
        revision = stack.gateway.catalog.revision
        (tmp_path / "policy.yaml").write_text(policy_text(prompt=BLOCKS))
        stack.wait(changed(stack, revision))
        second = stack.chat(f"My card is {CARD}")
        assert second.status_code == 400
        assert len(endpoint.seen) == 1
        ready = stack.http.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["problems"] == []
        assert ready.json()["policies"] != before
        one, two = (r["policy"]["digest"] for r in stack.records("intent"))
        assert one != two
        assert first.headers["x-licet-policy"] != second.headers["x-licet-policy"]
        stack.wait(lambda: sum(r["topic"] == "config" for r in stack.records("note")) == 2)
        begun, note = [r for r in stack.records("note") if r["topic"] == "config"]
        assert begun["detail"]["@first"]
        assert two[:12] in note["detail"]["chat"]


BAD = [
    pytest.param(
        "policy.yaml", b"version: 1\nname: test\nprompt: {entities: {default: allw}}\n", id="a misspelt action"
    ),
    pytest.param("policy.yaml", b"version: 1\nname: [unclosed\n", id="no YAML"),
    pytest.param("policy.yaml", b"\xff\xfe\x00", id="no text"),
    pytest.param("policy.yaml", b"", id="an empty policy"),
    pytest.param("policy.yaml", b"a: &a [*a]\n", id="a YAML that holds itself"),
    pytest.param("policy.yaml", b"[" * 50_000, id="a deep YAML"),
    pytest.param("policy.yaml", b"x: " + b"a" * 2_000_000, id="a policy of 2 MB"),
    pytest.param(
        "policy.yaml", policy_text().replace("audience: internal", "colour: red").encode(), id="an unknown key"
    ),
    pytest.param("policy.yaml", None, id="a policy that is gone"),
    pytest.param("trust.json", b"{", id="no JSON"),
    pytest.param("trust.json", b"[" * 50_000, id="a deep JSON"),
    pytest.param("trust.json", b'{"issuers": [{"iss": "x", "keys": [{"kty": "RSA"}]}]}', id="a key of another kind"),
    pytest.param("trust.json", None, id="a trust file that is gone"),
]


@pytest.mark.parametrize(("file", "content"), BAD)
def test_case_45_a_bad_file_leaves_the_last_good_one_in_force_and_says_so(
    tmp_path: Path, file: str, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.TICK_S", 0.05)
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        path = tmp_path / file
        good = path.read_bytes()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        stack.wait(lambda: bool(stack.gateway.catalog.problems))
        stack.wait(lambda: stack.metric("licet_policy_last_reload_successful") == 0)
        ready = stack.http.get("/readyz")
        assert ready.status_code == 200, "the last good configuration still serves"
        assert ready.json()["status"] == "ready, with the last good configuration"
        assert any(file in problem for problem in ready.json()["problems"])
        answer = stack.chat(f"My card is {CARD}")
        assert answer.status_code == 200
        assert stack.outcome(answer)["outcome"] == "masked"
        assert CARD.encode() not in endpoint.seen[-1].body
        # A good file heals it, without a restart.
        path.write_bytes(good + b"\n")
        stack.wait(lambda: not stack.gateway.catalog.problems)
        stack.wait(lambda: stack.metric("licet_policy_last_reload_successful") == 1)
        assert stack.http.get("/readyz").json()["status"] == "ready"


def test_a_license_that_becomes_rubbish_refuses_and_a_good_one_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.TICK_S", 0.05)
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        assert stack.chat().status_code == 200
        revision = stack.gateway.catalog.revision
        (tmp_path / "license.jws").write_bytes(b"\x00rubbish")
        stack.wait(changed(stack, revision))
        refused = stack.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "LIC_SIG")
        revision = stack.gateway.catalog.revision
        stack.write_license()
        stack.wait(changed(stack, revision))
        assert stack.chat().status_code == 200
        assert len(endpoint.seen) == 2


def test_a_new_issuer_key_is_taken_up_for_a_license_that_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key rotation in the order that operators get wrong: the license first, then the key."""
    monkeypatch.setattr("gateway.app.TICK_S", 0.05)
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        revision = stack.gateway.catalog.revision
        old, stack.key = stack.key, generate_key()
        stack.write_license()
        stack.wait(changed(stack, revision))
        assert stack.chat().json()["error"]["code"] == "LIC_ISSUER"
        revision = stack.gateway.catalog.revision
        text = add_to_trust(add_to_trust(None, ISSUER, old).encode(), ISSUER, stack.key)
        (tmp_path / "trust.json").write_text(text)
        stack.wait(changed(stack, revision))
        assert stack.chat().status_code == 200


def test_l1_a_turn_of_the_ticker_that_fails_is_not_its_last(tmp_path: Path) -> None:
    """Whatever goes wrong in one look at the files, the next look comes: a revocation is still seen."""
    failed: list[bool] = []

    def fail_once(gateway: Gateway) -> None:
        poll = gateway.catalog.poll

        def broken() -> None:
            if not failed:
                failed.append(True)
                raise RuntimeError("no such luck")
            poll()

        gateway.catalog.poll = broken  # type: ignore[method-assign]

    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin, before_start=fail_once) as stack:
        stack.wait(lambda: bool(failed))
        (tmp_path / "license.jws").unlink()
        stack.wait(changed(stack, 0))
        assert stack.chat().json()["error"]["code"] == "LIC_MISSING"


def test_l7_a_fault_of_each_look_is_told_once_and_never_in_its_own_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[int] = []

    def full(gateway: Gateway) -> None:
        def poll() -> None:
            looks.append(1)
            raise OSError(errno.ENOSPC, CARD)

        gateway.catalog.poll = poll  # type: ignore[method-assign]

    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin, before_start=full) as stack:
        stack.wait(lambda: len(looks) > 1)
    told = [record.getMessage() for record in caplog.records if "ticker" in record.getMessage()]
    assert len(told) == 1
    assert "OSError ENOSPC at " in told[0]
    assert CARD not in caplog.text


def test_l1_a_model_that_cannot_be_governed_refuses_and_keeps_no_other_from_its_license(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ValueError("a secret")

    monkeypatch.setattr("gateway.app.TICK_S", 0.05)
    models = {"third": ("openai", "up")}
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin, models=models) as stack:
        assert stack.chat(model="third").status_code == 200
        with monkeypatch.context() as patch:
            patch.setattr(stack.gateway.catalog._entries["chat"], "govern", broken)
            (tmp_path / "license-third.jws").unlink()
            stack.wait(lambda: stack.chat(model="third").status_code == 403)
            assert stack.chat().status_code == 500
            problems = stack.http.get("/readyz").json()["problems"]
            assert problems == ["model chat: cannot be governed (ValueError); its calls are refused"]
        stack.wait(lambda: stack.chat().status_code == 200)
        assert stack.http.get("/readyz").json()["problems"] == []


def test_the_metrics_page_counts_what_the_journal_holds(tmp_path: Path) -> None:
    with Endpoint(hello) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        before = stack.metric("licet_journal_records_total")
        assert stack.chat().status_code == 200
        assert stack.metric("licet_journal_records_total") == before + 2
        assert stack.metric("licet_journal_records_total") == len(stack.records())
        assert stack.metric("licet_journal_bytes_total") > 0
        assert stack.metric("licet_journal_syncs_total") >= 1
        assert stack.metric("licet_journal_open_calls") == 0
