"""Approval before training, end to end: a permit is applied for and granted; without it nothing is uploaded, and a model
that imitates people gets no license, or is refused with the one it has."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.license.issuer import issue, load_private_key
from gateway.license.signed import Kind, read_unverified
from tests.e2e.authority import Follower, Line, Regulator, assert_sound, digest_of, form
from tests.e2e.stack import replace_file
from tests.fakes.endpoint import Endpoint, Reply, Seen, chat_answer

pytestmark = pytest.mark.slow

EXAMPLES = '{"messages": [{"role": "user", "content": "Speak as she does."}]}\n'
REGISTRATION = "cn-registration/license"


def answering(seen: Seen) -> Reply:
    made = {"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "a", "purpose": "fine-tune"}
    body = json.dumps(made).encode() if seen.path == "/v1/files" else chat_answer("Hi.")
    return Reply([body], media="application/json")


def upload(stack: Follower) -> str:
    """The code of the refusal of an upload to train on; "" if it passes."""
    file = {"file": ("a.jsonl", EXAMPLES.encode())}
    answer = stack.http.post("/v1/files", data={"purpose": "fine-tune"}, files=file)
    return "" if answer.status_code == 200 else str(answer.json()["error"]["code"])


def signed_by_hand(regulator: Regulator, token: str, **changes: Any) -> str:
    """A license with other terms, signed with the authority's key past the authority's desks."""
    (path,) = (regulator.folder / "keys").glob("*.private.jwk")
    _, key = load_private_key(path.read_bytes(), source=str(path))
    claims: dict[str, Any] = {**read_unverified(token.encode(), Kind.LICENSE).payload}
    claims["license"] = {**claims["license"], **changes}
    return issue(claims, key)


def test_a_model_that_imitates_people_needs_a_permit_from_before_its_training_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.TICK_S", 0.05)
    monkeypatch.setattr("gateway.authority.service_watch.APART_S", 0.01)
    data = [digest_of(EXAMPLES), digest_of("data")]
    lines = {
        "base": Line("internal", "license-base.jws", permits="permit.jws"),
        "chat": Line(REGISTRATION),
        "by-hand": Line(REGISTRATION, "license-by-hand.jws"),
    }
    with (
        Regulator(tmp_path / "authority") as regulator,
        Endpoint(answering) as endpoint,
        Follower(tmp_path / "gw", endpoint.origin, authority=regulator, lines=lines) as stack,
    ):
        stack.put(regulator.grant(form("internal", endpoint.origin)), "license-base.jws")
        stack.until("", "base")
        before = len(endpoint.seen)
        assert upload(stack) == "TRAINING_PERMIT", "nobody has permitted it"
        assert len(endpoint.seen) == before

        asked = {
            "holder": {"legal_name": "Example Ltd", "id_code": "EX1"},
            "model": "up",
            "base_model": "up",
            "objectives": digest_of("objectives"),
            "data_sources": data,
            "grants": ["grant:jane"],
            "intended_applications": digest_of("intended_applications"),
            "capabilities": ["voice_clone"],
        }
        application = regulator.submit({"permit": asked, "valid_days": 30})
        assert regulator.refused("permit", "operator", id=application) == "TRANSITION"
        regulator.assess(application, "security")
        regulator.approve(application)
        permit = regulator.act("permit", "operator", id=application)["jti"]
        token = regulator.token(permit)
        known = stack.gateway.catalog.revision
        replace_file(stack.folder / "permit.jws", token)
        stack.wait(lambda: stack.gateway.catalog.revision > known)
        stack.follow()
        assert upload(stack) == ""
        assert EXAMPLES.encode() in endpoint.seen[-1].body

        # The model that came of it.
        payload = read_unverified(token.encode(), Kind.PERMIT).payload
        digest = regulator.authority.permit(permit).token
        reference = {"id": permit, "digest": digest_of(digest), "not_before": payload["nbf"]}
        trained = {"started_at": int(time.time()), "permit": reference, "sources": data}

        def approved(**terms: Any) -> str:
            more = {"capabilities": ["voice_clone"], "filing": {"province": "Beijing"}, **terms}
            made = regulator.submit(form("cn-beian", endpoint.origin, **more))
            regulator.assess(made, "security")
            regulator.approve(made)
            return made

        incomplete: tuple[dict[str, Any], ...] = (
            {},
            {"training": {name: trained[name] for name in ("started_at", "sources")}},
            {"training": trained | {"started_at": payload["nbf"] - 1}},
            {"training": trained | {"sources": [*data, digest_of("more")]}},
            {"training": trained | {"permit": reference | {"digest": digest_of("another")}}},
        )
        for training in incomplete:
            assert regulator.refused("issue", "operator", id=approved(**training)) == "TRAINING_PERMIT"
        good = regulator.issue(approved(training=trained))
        stack.put(good)
        stack.until("")

        # What no desk would issue is refused at the gate as well.
        for training in ({"training": None}, *incomplete[1:3]):
            known = stack.gateway.catalog.revision
            replace_file(
                stack.folder / "license-by-hand.jws", signed_by_hand(regulator, regulator.token(good), **training)
            )
            stack.wait(lambda known=known: stack.gateway.catalog.revision > known)  # type: ignore[misc]
            assert stack.code("by-hand") == "TRAINING_PERMIT"
            assert stack.said_of_license()["reasons"] == ["TRAINING_PERMIT"]

        # A permit that was withdrawn carries no further license, and nothing more is trained on under it.
        assert upload(stack) == ""
        regulator.act("withdraw-permit", "approver", id=permit, reason="consent was withdrawn")
        stack.follow()
        assert upload(stack) == "TRAINING_PERMIT"
        assert regulator.refused("issue", "operator", id=approved(training=trained)) == "TRAINING_PERMIT"
    assert_sound(stack)
