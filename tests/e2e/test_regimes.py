"""Regimes from application to revocation, as the people of each would drive them: applicant, officer, assessor, two
approvers, operator; gateways that follow the authority's repository, a serving host that states what it loaded, callers.

Here: approval before release, and the two regimes beside it that register or only warn. test_registration.py has
registration after launch.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.attest.host import HostServer, Statements
from gateway.attest.watch import WeightsWatch
from gateway.attest.weights import hash_model
from gateway.license.issuer import generate_key
from tests.e2e.authority import ISSUER, Follower, Line, Regulator, SetClock, assert_sound, form, running
from tests.e2e.stack import shown
from tests.fakes import pki as certificates
from tests.fakes.endpoint import Endpoint, Reply, Seen, Wait, chat_answer, chat_chunk, sse
from tests.fakes.pki import Pki, new_key, pin_of

APPROVAL = "cn-approval/license"


@dataclass
class Script:
    """What the model answers: whole answers, held while `hold` is set, and streams in two parts with a pause between."""

    hold: bool = False
    held: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def __call__(self, seen: Seen) -> Reply:
        if seen.json.get("stream"):
            first = sse(chat_chunk({"content": "The first part of it is long enough to leave at once, "}))
            second = sse(chat_chunk({"content": "and the second part."}, finish="stop"), "[DONE]")
            return Reply([*first, Wait(self.go_on), *second])
        if self.hold:
            self.held.set()
            return Reply([Wait(self.go_on), chat_answer("Held.")], media="application/json")
        return Reply([chat_answer("Hi.")], media="application/json")


@dataclass
class Scene:
    """An authority, a model on a host that vouches for it, and a gateway before it."""

    regulator: Regulator
    endpoint: Endpoint
    script: Script
    terms: dict[str, Any]  # what the license says of model and endpoint
    target: str  # what the settings say of the target
    stack: Follower
    stopped: list[str] = field(default_factory=list)  # licenses that were suspended or ended
    orders: list[str] = field(default_factory=list)

    def form(self, **terms: Any) -> dict[str, Any]:
        """A complete application."""
        return form("cn-beian", self.endpoint.origin, **{**self.terms, **terms})

    def licensed(self) -> str:
        """The id of a license in force that the gateway has taken up."""
        jti = self.regulator.grant(self.form(), "security")
        self.stack.put(jti)
        self.stack.until("")
        return jti

    def stop(self, how: str, jti: str) -> None:
        """Suspend or revoke."""
        self.stopped.append(jti)
        self.regulator.act(how, "approver", id=jti, reason="misuse was found")


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Files are looked at, hosts asked and lists published more often than in service."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.app.TICK_S", 0.05)
        patch.setattr("gateway.attest.target.ASK_S", 0.5)
        patch.setattr("gateway.authority.service_watch.APART_S", 0.01)
        yield


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, quick: None) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("approval")
    weights = folder / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(bytes(range(256)) * 400)
    pki, tls, key, script = Pki(folder), new_key(), generate_key(), Script()
    pin = certificates.shown(pin_of(tls))
    with ExitStack() as left:
        regulator = left.enter_context(Regulator(folder / "authority"))
        endpoint = left.enter_context(Endpoint(script, tls=pki.server(tls)))
        left.callback(script.go_on.set)
        host = left.enter_context(running(HostServer(WeightsWatch(weights), Statements(key, "up", lambda: pin))))
        terms = {
            "model": {"name": "up", "weights": {"root_digest": hash_model(weights).root}},
            "endpoint": {
                "origins": [endpoint.origin],
                "served_model_aliases": ["up", "up-20*"],
                "region": "cn",
                "spki_pins": [pin],
                "host_keys": [{"kid": str(key.kid), "x": str(key.as_dict()["x"])}],
            },
            "filing": {"province": "Beijing"},
        }
        target = f', ca_file: "{pki.ca_file}", statement: "{host}/statement"'
        lines = {
            "chat": Line(APPROVAL, target=target),
            "help": Line(APPROVAL, target=target),
            "old": Line(APPROVAL, "license-old.jws", target=target),
        }
        stack = Follower(folder / "gateway", endpoint.origin, authority=regulator, lines=lines)
        left.enter_context(stack)
        scene = Scene(regulator, endpoint, script, terms, target, stack)
        yield scene
        stack.stop()
        assert_sound(stack, licenses=scene.stopped, orders=scene.orders)


@pytest.mark.slow
def test_prior_approval_from_the_application_to_the_revocation(scene: Scene, tmp_path: Path) -> None:
    regulator, stack = scene.regulator, scene.stack
    before = len(scene.endpoint.seen)
    assert stack.code() == "LIC_MISSING"

    application = regulator.submit(scene.form())
    receipt = regulator.receipt(application)
    stack.put(receipt)
    assert stack.code() == "LIC_STATE", "handed in is not approved"
    intent = stack.said_of_license()
    assert (intent["id"], intent["state"], intent["status"]) == (receipt, "submitted", "valid")
    assert intent["reasons"][:2] == ["LIC_STATE", "ASSESSMENT_MISSING"]

    assert regulator.refused("issue", "operator", id=application) == "TRANSITION"
    regulator.assess(application)
    approval = {"id": application, "outcome": "approve", "reason": "as assessed"}
    assert regulator.refused("decide", "applicant", **approval) == "ROLE"
    assert regulator.refused("decide", "approver", **approval) == "FORM", "nothing was assessed"
    regulator.ask("assess", "assessor", id=application, type="security", report="Zm91bmQ=", result={"passed": True})
    regulator.ask("decide", "approver", **approval)
    assert regulator.refused("confirm", "approver", id=application) == "SECOND_PERSON"
    assert regulator.refused("issue", "operator", id=application) == "TRANSITION"
    regulator.ask("confirm", "second", id=application)
    assert stack.code() == "LIC_STATE", "approved is not issued"
    assert len(scene.endpoint.seen) == before, "nothing left so far"

    jti = regulator.issue(application, filing_no="Beijing-Up-20261122")
    stack.follow()
    assert stack.code() == "LIC_STATE"
    assert stack.said_of_license()["status"] == "revoked", "the receipt ended when the license was issued"
    stack.put(jti)
    stack.until("")
    served = stack.said_of_license()
    assert (served["id"], served["issuer"], served["verdict"]) == (jti, ISSUER, "allow")
    assert (served["status"], served["state"]) == ("valid", "active")
    assert (served["trust_level"], served["binding"]) == ("regulator_signed", "B2")
    assert "reasons" not in served
    assert "order" not in served
    policy = stack.records("intent")[-1]["policy"]
    assert [one.partition("@")[0] for one in policy["presets"]] == [APPROVAL]

    line = Line(APPROVAL, f"authority:{jti}", target=scene.target)
    second = Follower(tmp_path, scene.endpoint.origin, authority=regulator, lines={"chat": line})
    with second:
        everywhere = [(stack, "chat"), (stack, "help"), (second, "chat")]

        def codes() -> list[str]:
            for one in (stack, second):
                one.follow()
            return [one.code(model) for one, model in everywhere]

        assert codes() == [""] * 3
        scene.stop("suspend", jti)
        assert codes() == ["LIC_STATE"] * 3
        assert second.said_of_license()["status"] == "suspended"
        assert second.said_of_license()["status_iat"] == regulator.published
        regulator.act("lift", "second", id=jti, reason="it was put right")
        assert codes() == [""] * 3
        regulator.act("revoke", "approver", id=jti, reason="obtained by deceit")
        assert codes() == ["LIC_STATE"] * 3
        assert regulator.refused("lift", "approver", id=jti, reason="no") == "TRANSITION"
        for one in (stack, second):
            assert one.said_of_license()["status"] == "revoked"
            assert one.changes(jti)[-3:] == [
                ("valid", "suspended"),
                ("suspended", "valid"),
                ("valid", "revoked"),
            ]
    assert_sound(stack, second, licenses=[jti])


@pytest.mark.slow
def test_an_order_stops_an_approved_model_until_it_is_lifted(scene: Scene) -> None:
    scene.licensed()
    order = {"scope": "model", "models": ["up"], "reason": "an incident is looked into", "ref": "O-2026-7"}
    scene.regulator.act("order", "approver", **order)
    scene.orders.append("O-2026-7")
    scene.stack.follow()
    assert scene.stack.code() == "ORDER_IN_FORCE"
    told = scene.stack.said_of_license()
    assert (told["order"], told["status"]) == ("O-2026-7", "valid")
    scene.regulator.act("lift-order", "approver", ref="O-2026-7", reason="it was")
    scene.stack.follow()
    scene.stack.until("")


@pytest.mark.parametrize(
    "how", ["suspend", *(pytest.param(one, marks=pytest.mark.slow) for one in ("revoke", "order"))]
)
def test_a_stream_is_cut_while_it_runs(scene: Scene, how: str) -> None:
    jti, stack = scene.licensed(), scene.stack
    scene.script.go_on.clear()
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    with stack.http.stream("POST", "/v1/chat/completions", json=body) as stream:
        lines = stream.iter_lines()
        seen = [next(lines)]
        if how == "order":
            scene.regulator.act("order", "approver", scope="all", reason="an incident", ref="O-stream")
            scene.orders.append("O-stream")
        else:
            scene.stop(how, jti)
        stack.follow()
        # The model goes on only after the end: what ends the stream is the authority's word.
        seen += list(lines)
    scene.script.go_on.set()
    text = "\n".join(seen)
    assert "first part" in text
    assert "second part" not in text
    code = "ORDER_IN_FORCE" if how == "order" else "LIC_STATE"
    assert shown(text.encode())[-1]["error"]["code"] == code
    assert text.rstrip().endswith("data: [DONE]")
    record = stack.outcome(stream.headers["x-licet-call-id"])
    assert (record["outcome"], record["reasons"][0]) == ("refused", code)
    if how == "order":
        scene.regulator.act("lift-order", "approver", ref="O-stream", reason="over")
        stack.follow()


def test_l2_an_answer_that_is_held_is_not_released_once_its_license_is_suspended(scene: Scene) -> None:
    jti, stack, script = scene.licensed(), scene.stack, scene.script
    script.go_on.clear()
    script.held.clear()
    script.hold = True
    found: list[httpx2.Response] = []
    caller = threading.Thread(target=lambda: found.append(stack.chat()))
    caller.start()
    assert script.held.wait(20)
    scene.stop("suspend", jti)
    stack.follow()
    script.hold = False
    script.go_on.set()
    caller.join(20)
    (answer,) = found
    assert (answer.status_code, "Held" in answer.text) == (403, False)
    assert stack.outcome(answer)["reasons"] == ["LIC_STATE"]


@pytest.mark.slow
def test_a_renewal_serves_and_the_license_that_it_supersedes_does_not(scene: Scene) -> None:
    old, regulator, stack = scene.licensed(), scene.regulator, scene.stack
    stack.put(old, "license-old.jws")
    stack.until("", "old")
    application = regulator.ask("renew", "applicant", id=old, valid_days=30)["id"]
    regulator.assess(application, "security")
    regulator.approve(application)
    assert stack.code("old") == "", "the old one holds until the new one is there"
    scene.stopped.append(old)
    new = regulator.issue(application)
    stack.put(new)
    stack.until("")
    assert stack.said_of_license()["id"] == new
    assert stack.code("old") == "LIC_STATE"
    assert (stack.said_of_license()["id"], stack.said_of_license()["status"]) == (old, "revoked")


@pytest.mark.slow
def test_an_approved_model_is_refused_on_a_host_that_states_nothing(scene: Scene, tmp_path: Path) -> None:
    jti = scene.licensed()
    target = scene.target.partition(", statement")[0]
    line = Line(APPROVAL, f"authority:{jti}", target=target)
    with Follower(tmp_path, scene.endpoint.origin, authority=scene.regulator, lines={"chat": line}) as stack:
        stack.follow()
        before = len(scene.endpoint.seen)
        assert stack.code() == "BINDING"
        assert stack.said_of_license()["binding"] == "B1"
        assert len(scene.endpoint.seen) == before


@pytest.mark.slow
def test_l1_without_news_an_approval_is_believed_for_an_hour_and_no_longer(scene: Scene, tmp_path: Path) -> None:
    jti, clock = scene.licensed(), SetClock()
    scene.regulator.act("configure", "admin", ttl_s=7200)  # longer than the preset allows
    line = Line(APPROVAL, f"authority:{jti}", target=scene.target)
    lines = {"chat": line}
    with Follower(tmp_path, scene.endpoint.origin, authority=scene.regulator, lines=lines, clock=clock) as stack:
        stack.follow()
        stack.until("")
        clock.ahead_s = 59 * 60
        assert stack.code() == ""
        assert stack.said_of_license()["status"] == "valid"
        before = len(scene.endpoint.seen)
        clock.ahead_s = 61 * 60
        assert stack.code() == "LIC_STATUS_STALE"
        told = stack.said_of_license()
        assert (told["status"], told["reasons"][0]) == ("stale", "LIC_STATUS_STALE")
        assert len(scene.endpoint.seen) == before
    scene.regulator.act("configure", "admin", ttl_s=300)
    assert_sound(stack)


# Beside it: a registration that is asked for from a day on, and a regime that only warns.

ANNEX_VIII = {
    "holder": {
        "legal_name": "Example GmbH",
        "id_code": "EX1",
        "address": "Example Street 1",
        "contact": "x@example.com",
    },
    "system": {
        "trade_name": "Up",
        "unambiguous_ref": "up-1",
        "intended_purpose": "answers questions",
        "inputs_logic": "text in, text out",
        "status": "on_market",
        "member_states": ["DE", "FR"],
        "doc_digest": "sha256:" + "e" * 64,
    },
}
DUTY = datetime.datetime(2027, 12, 2, tzinfo=datetime.UTC)  # of high-risk systems, as the preset says


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_registration_is_only_missed_until_its_duty_begins_and_a_regime_that_warns_never_refuses(
    tmp_path: Path,
) -> None:
    clock = SetClock()
    clock.set(DUTY - datetime.timedelta(days=2))
    eu, jp = "eu-ai-act/license", "jp/license"
    lines = {
        "registered": Line(eu, territory="eu"),
        "other": Line(eu, "license-other.jws", territory="eu"),
        "jp": Line(jp, "license-other.jws", territory="jp"),
        "none": Line(jp, "license-none.jws", territory="jp"),
    }
    with (
        Regulator(tmp_path / "authority", clock) as regulator,
        Endpoint(Script()) as endpoint,
        Follower(tmp_path / "gw", endpoint.origin, authority=regulator, lines=lines, clock=clock) as stack,
    ):
        registered = regulator.grant(form("eu-db", endpoint.origin, **ANNEX_VIII))
        other = regulator.grant(form("internal", endpoint.origin))
        stack.put(registered)
        stack.put(other, "license-other.jws")

        def told(model: str) -> tuple[str, list[str] | None]:
            return stack.code(model), stack.said_of_license().get("reasons")

        assert {model: told(model) for model in lines} == {
            "registered": ("", None),
            "other": ("", None),
            "jp": ("", None),
            "none": ("", ["LIC_MISSING"]),
        }
        regulator.act("suspend", "approver", id=registered, reason="looked into")
        regulator.act("suspend", "approver", id=other, reason="looked into")
        stack.follow()
        for model in ("registered", "other", "jp"):
            assert told(model) == ("", ["LIC_STATE"]), "it passes, and the record says why it should not"
            assert stack.said_of_license()["verdict"] == "allow"
        regulator.act("lift", "approver", id=registered, reason="nothing was found")

        clock.set(DUTY)
        regulator.publish()
        stack.follow()
        stack.until("", "registered")
        stack.until("LIC_STATE", "other")
        assert told("other") == ("LIC_STATE", ["LIC_STATE", "REGIME"])
        assert told("jp") == ("", ["LIC_STATE"])
        assert told("none") == ("", ["LIC_MISSING"])
        assert told("registered") == ("", None)
        record = stack.said_of_license()
        assert (record["trust_level"], record["binding"], record["state"]) == ("regulator_signed", "B1", "active")
        presets = [intent["policy"]["presets"] for intent in stack.records("intent")]
        assert {name.partition("@")[0] for (name,) in presets} == {eu, jp}
    assert_sound(stack)
