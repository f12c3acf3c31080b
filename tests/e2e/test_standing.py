"""What authorities say while calls run: suspensions, revocations, orders, through a running gateway that reads local files."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.license.signed import Kind
from policies.model import LicenseRules
from tests.e2e.stack import STATUS_URI, Stack, policy_text, said
from tests.fakes.endpoint import Endpoint, Reply, Seen, Wait, chat_answer, chat_chunk, sse

VALID, REVOKED, SUSPENDED = 0, 1, 2
LISTED = {"status": {"status_list": {"uri": STATUS_URI, "idx": 5}}}


class Script:
    """An endpoint whose answers are let go by the test: a stream in two parts, or a whole answer that is held."""

    def __init__(self) -> None:
        self.held = threading.Event()
        self.go_on = threading.Event()
        self.wait = False

    def __call__(self, seen: Seen) -> Reply:
        if not seen.json.get("stream"):
            if not self.wait:
                return Reply([chat_answer("Hi.")], media="application/json")
            self.held.set()
            return Reply([Wait(self.go_on), chat_answer("Too late.")], media="application/json")
        return Reply(
            [
                *sse(chat_chunk({"content": "The first part of it is long enough to leave at once, "})),
                Wait(self.go_on),
                *sse(chat_chunk({"content": "and the second part."})),
                b"data: [DONE]\n\n",
            ]
        )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than in service."""
    monkeypatch.setattr("gateway.trust.source.FILES_REFRESH_S", 0.1)
    monkeypatch.setattr("gateway.app.TICK_S", 0.05)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def endpoint(script: Script) -> Iterator[Endpoint]:
    with Endpoint(script) as running:
        yield running
        script.go_on.set()


class Listed(Stack):
    """A stack whose license has a status and whose authority may give orders, as files beside the settings."""

    def write_files(self) -> Path:
        path = super().write_files()
        self.publish_status(*[VALID] * 8)
        self.order()
        return path

    def order(self, *orders: dict[str, Any]) -> int:
        """The authority's whole list of orders."""
        return self.publish(Kind.ORDERS, "orders.jws", {"orders": list(orders)})

    def code(self, **call: Any) -> str:
        """The code of the refusal of one call; "" if it passes."""
        answer = self.chat(**call)
        return "" if answer.status_code == 200 else str(answer.json()["error"]["code"])


def listed(folder: Path, endpoint: Endpoint, **options: Any) -> Listed:
    return Listed(folder, endpoint.origin, top=LISTED, trust=", status: [status.jwt], orders: [orders.jws]", **options)


def until(stack: Listed, code: str) -> None:
    """Calls until one ends with the code: the file is being taken up."""
    stack.wait(lambda: stack.code() == code)


def test_a_suspended_license_refuses_a_lifted_one_serves_and_a_revoked_one_never_again(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    with listed(tmp_path, endpoint) as stack:
        assert stack.code() == ""
        stack.publish_status(*[VALID] * 5, SUSPENDED)
        until(stack, "LIC_STATE")
        stack.publish_status(*[VALID] * 8)
        until(stack, "")
        made = stack.publish_status(*[VALID] * 5, REVOKED)
        until(stack, "LIC_STATE")
        assert stack.code() == "LIC_STATE"  # the one before may have begun while the license was still valid
        intent = stack.records("intent")[-1]["license"]
        assert (intent["status"], intent["status_iat"], intent["verdict"]) == ("revoked", made, "deny")
        changes = [note["detail"] for note in stack.records("note") if note["topic"] == "standing"]
        said_of = [(one["was"], one["status"]) for one in changes if one["subject"] == "license"]
        assert said_of == [("valid", "suspended"), ("suspended", "valid"), ("valid", "revoked")]


def test_a_list_that_is_older_or_forged_changes_nothing_and_is_told(tmp_path: Path, endpoint: Endpoint) -> None:
    with listed(tmp_path, endpoint) as stack:
        stack.publish_status(*[VALID] * 5, REVOKED)
        until(stack, "LIC_STATE")
        stack.publish(
            Kind.STATUS, "status.jwt", {"sub": STATUS_URI, "status_list": {"bits": 2, "lst": "eJxjAAAAAQAB"}}, iat=1
        )
        stack.wait(lambda: any("older than the known one" in p for p in stack.gateway.catalog.problems))
        assert stack.code() == "LIC_STATE"
        (tmp_path / "status.jwt").write_text("not a token")
        stack.wait(lambda: any("not taken up" in p for p in stack.http.get("/readyz").json()["problems"]))
        assert stack.code() == "LIC_STATE"

    class Older(Listed):
        def write_files(self) -> Path:
            path = super().write_files()
            self._published = int(self.clock()) - 3600
            self.publish_status(*[VALID] * 8)
            return path

        def publish(self, kind: Kind, file: str, content: Mapping[str, Any], **times: int) -> int:
            if "ttl" in content and self._published < int(self.clock()) - 60:
                times |= {"iat": self._published, "exp": self._published + 86_400}
            return super().publish(kind, file, content, **times)

    # Nor does a restart make an older list count, even one that another key of the issuer signed.
    trust = ", status: [status.jwt], orders: [orders.jws]"
    with Older(tmp_path, endpoint.origin, top=LISTED, trust=trust) as stack:
        assert stack.code() == "LIC_STATUS_STALE"
        stack._published += 10  # later than what the other stack signed, however short ago that was
        stack.publish_status(*[VALID] * 8)
        until(stack, "")


def test_l1_a_status_that_grows_too_old_refuses_and_grace_is_recorded(tmp_path: Path, endpoint: Endpoint) -> None:
    policy = policy_text().replace("binding_min: 1", "binding_min: 1, status_max_age: 1h, offline_grace: 1h")
    with listed(tmp_path, endpoint, policy=policy) as stack:
        stack.write_license(expires_s=int(stack.clock()) + 90_000)
        stack.clock.ahead_s += 3700
        until(stack, "")
        assert stack.records("intent")[-1]["license"]["status"] == "grace"
        stack.clock.ahead_s += 3700
        until(stack, "LIC_STATUS_STALE")
        assert stack.records("intent")[-1]["license"]["status"] == "stale"


@pytest.mark.parametrize(("drain_s", "cut"), [(600, False), (30, True)])
def test_a_stream_whose_status_grows_too_old_goes_on_for_a_while_and_its_record_says_so(
    tmp_path: Path, endpoint: Endpoint, script: Script, monkeypatch: pytest.MonkeyPatch, drain_s: int, cut: bool
) -> None:
    rules = LicenseRules(offline_grace_s=0, drain_s=drain_s)
    monkeypatch.setattr("gateway.governed.Governed.rules", lambda *_: rules)
    monkeypatch.setattr("gateway.relay.WATCH_S", 0.05)
    with listed(tmp_path, endpoint, claims={"expires_s": int(time.time()) + 90_000}) as stack:
        body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        with stack.http.stream("POST", "/v1/chat/completions", json=body) as stream:
            lines = stream.iter_lines()
            seen = [next(lines)]
            stack.clock.ahead_s += 3660
            if not cut:
                script.go_on.set()
            seen += list(lines)
        record = stack.outcome(stream.headers["x-licet-call-id"])
        assert ("second part" in said("\n".join([*seen, ""]).encode())) is not cut
        assert record["outcome"] == ("refused" if cut else "allowed")
        assert record.get("reasons" if cut else "flags") == ["LIC_STATUS_STALE"]


def test_l2_a_whole_answer_is_not_released_once_its_license_is_suspended(
    tmp_path: Path, endpoint: Endpoint, script: Script
) -> None:
    script.wait = True
    with listed(tmp_path, endpoint) as stack:
        found: list[httpx2.Response] = []
        caller = threading.Thread(target=lambda: found.append(stack.chat()))
        caller.start()
        assert script.held.wait(20)
        stack.publish_status(*[VALID] * 5, SUSPENDED)
        stack.wait(lambda: any(note["topic"] == "standing" for note in stack.records("note")))
        script.go_on.set()
        caller.join(20)
        (answer,) = found
        assert answer.status_code == 403
        assert "Too late" not in answer.text
        assert stack.outcome(answer)["reasons"] == ["LIC_STATE"]


@pytest.mark.parametrize("how", ["suspended", "ordered"])
def test_a_stream_is_cut_when_its_license_or_model_is_stopped(
    tmp_path: Path, endpoint: Endpoint, script: Script, how: str
) -> None:
    with listed(tmp_path, endpoint) as stack:
        body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        with stack.http.stream("POST", "/v1/chat/completions", json=body) as stream:
            lines = stream.iter_lines()
            seen = [next(lines)]
            if how == "suspended":
                stack.publish_status(*[VALID] * 5, SUSPENDED)
            else:
                stack.order({"ref": "O-1", "scope": "model", "models": ["up"], "effective_at": int(stack.clock())})
            seen += list(lines)
        text = "\n".join(seen)
        assert "first part" in text
        assert "second part" not in text
        code = "LIC_STATE" if how == "suspended" else "ORDER_IN_FORCE"
        assert code in text
        assert text.rstrip().endswith("data: [DONE]")
        record = stack.outcome(stream.headers["x-licet-call-id"])
        assert (record["outcome"], record["reasons"][0]) == ("refused", code)


ORDERS = [
    pytest.param({"scope": "all"}, {}, True, id="everything"),
    pytest.param({"scope": "all", "jurisdictions": ["cn"]}, {}, False, id="another territory"),
    pytest.param({"scope": "new_callers"}, {}, True, id="new callers, and nobody says since when"),
    pytest.param({"scope": "new_callers"}, {"caller": ", since: 2020-01-01"}, False, id="new callers, an old one"),
]


@pytest.mark.parametrize(("order", "options", "stops"), ORDERS)
def test_orders_stop_what_they_mean(
    tmp_path: Path, endpoint: Endpoint, order: dict[str, Any], options: dict[str, Any], stops: bool
) -> None:
    class Ordered(Listed):
        def order(self, *orders: dict[str, Any]) -> int:
            return super().order({"ref": "O-7", "effective_at": int(self.clock()) - 5, **order})

    with Ordered(
        tmp_path, endpoint.origin, top=LISTED, trust=", status: [status.jwt], orders: [orders.jws]", **options
    ) as s:
        answer = s.chat()
        assert answer.status_code == (403 if stops else 200)
        intent = s.records("intent")[-1]["license"]
        assert intent.get("order") == ("O-7" if stops else None)
        if stops:
            assert answer.json()["error"]["code"] == "ORDER_IN_FORCE"


@pytest.mark.parametrize(
    "changes", [{"mode": "shadow"}, {"required": "warn"}, {"required": "false"}], ids=["shadow", "warn", "not required"]
)
def test_an_order_stands_above_the_policy_and_ends_when_it_is_lifted(
    tmp_path: Path, endpoint: Endpoint, changes: dict[str, str]
) -> None:
    with listed(tmp_path, endpoint, policy=policy_text(**changes)) as stack:
        assert stack.code() == ""
        now = int(stack.clock())
        stack.order({"ref": "O-2", "scope": "all", "effective_at": now})
        until(stack, "ORDER_IN_FORCE")
        assert endpoint.seen
        stack.order({"ref": "O-2", "scope": "all", "effective_at": now, "lifted_at": int(stack.clock()) + 1})
        until(stack, "")


def test_an_order_takes_effect_at_its_own_time(tmp_path: Path, endpoint: Endpoint) -> None:
    with listed(tmp_path, endpoint) as stack:
        stack.order({"ref": "O-3", "scope": "all", "effective_at": int(stack.clock()) + 3600})
        stack.wait(lambda: any(note["topic"] == "standing" for note in stack.records("note")))
        assert stack.code() == ""
        stack.clock.ahead_s += 3601
        until(stack, "ORDER_IN_FORCE")


def test_a_drift_may_only_be_flagged(tmp_path: Path, endpoint: Endpoint) -> None:
    policy = policy_text().replace("binding_min: 1", "binding_min: 1, on_drift: flag, served_model: [other]")
    with listed(tmp_path, endpoint, policy=policy) as stack:
        answer = stack.chat()
        assert answer.status_code == 200
        assert stack.outcome(answer)["flags"] == ["MODEL_DRIFT"]
        assert said(stack.chat(stream=False).content) == ""


def test_only_an_enrolled_gateway_may_serve_a_license_that_says_so(tmp_path: Path, endpoint: Endpoint) -> None:
    terms = {"conditions": [{"type": "enrolled_gateway"}], "holder": {"id_code": "HOLDER-1"}}
    with listed(tmp_path, endpoint, terms=terms) as stack:
        assert stack.code() == "CONDITION"
    second = tmp_path / "second"

    class Enrolling(Listed):
        def write_files(self) -> Path:
            path = super().write_files()
            self.publish(Kind.GATEWAYS, "gateways.jws", {"gateways": []})
            return path

    trust = ", status: [status.jwt], orders: [orders.jws], gateways: [gateways.jws]"
    with Enrolling(second, endpoint.origin, top=LISTED, terms=terms, trust=trust) as stack:
        assert stack.code() == "CONDITION"
        known = {"name": "gw", "operator": "HOLDER-1", "key": "not-ours", "streams": ["*"]}
        stack.publish(Kind.GATEWAYS, "gateways.jws", {"gateways": [known]})
        stack.wait(lambda: any(one.gateways for one in stack.gateway.authorities.standing.gateways.values()))
        assert stack.code() == "CONDITION", "a gateway with another key, and so with another log"
        known["key"] = stack.gateway.authorities.standing.gateway.key
        stack.publish(Kind.GATEWAYS, "gateways.jws", {"gateways": [known]})
        until(stack, "")


def test_a_clock_that_is_set_back_revives_nothing(tmp_path: Path, endpoint: Endpoint) -> None:
    with listed(tmp_path, endpoint) as stack:
        stack.write_license(expires_s=int(stack.clock()) + 2)
        until(stack, "LIC_TIME")
        stack.clock.ahead_s = -86_400.0
        assert [stack.code() for _ in range(3)] == ["LIC_TIME"] * 3
        assert stack.metric("licet_clock_behind_seconds") > 86_000


def test_l7_no_token_is_shown_at_readyz(tmp_path: Path, endpoint: Endpoint) -> None:
    with listed(tmp_path, endpoint) as stack:
        shown = json.dumps(stack.http.get("/readyz").json()) + stack.http.get("/metrics").text
        assert (tmp_path / "status.jwt").read_text()[:40] not in shown
