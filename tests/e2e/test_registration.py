"""Registration within 10 working days of launch, end to end: the clock of a receipt, what a registration covers, and
licenses that are attested by a regulator's published list.

A registered model is a filed one, called unmodified: one that is tuned, or another, is refused when it shows.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from gateway.authority.cli import app as authority_app
from gateway.license.cli import app as license_app
from gateway.license.signed import Kind, read_unverified
from policies.workdays import add_workdays, is_workday
from tests.e2e.authority import Follower, Line, Regulator, SetClock, assert_sound, form
from tests.e2e.stack import Stack, said, shown
from tests.fakes.endpoint import Endpoint, Reply, Seen, chat_answer, chat_chunk, chat_stream, sse

REGISTRATION, STRICT = "cn-registration/license", "cn-registration-strict/license"
CHINA = ZoneInfo("Asia/Shanghai")
BASE = {"name": "filed-model", "license_id": "Beijing-FiledModel-20250101"}


@dataclass
class Script:
    """What the model answers, naming itself `model`."""

    model: str = "up"
    streamed: list[str] = field(default_factory=list)  # names that a stream says, event by event; empty: `model`

    def __call__(self, seen: Seen) -> Reply:
        if not seen.json.get("stream"):
            answer = json.loads(chat_answer("Hi."))
            return Reply([json.dumps(answer | {"model": self.model}).encode()], media="application/json")
        if not self.streamed:
            return Reply([piece.replace(b'"up"', json.dumps(self.model).encode()) for piece in chat_stream(["Hi."])])
        events = [{**chat_chunk({"content": f"part {i} "}), "model": name} for i, name in enumerate(self.streamed)]
        return Reply(sse(*events, {**chat_chunk({}, finish="stop"), "model": self.streamed[-1]}, "[DONE]"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at and lists published more often than in service."""
    monkeypatch.setattr("gateway.app.TICK_S", 0.05)
    monkeypatch.setattr("gateway.authority.service_watch.APART_S", 0.01)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def endpoint(script: Script) -> Iterator[Endpoint]:
    with Endpoint(script) as made:
        yield made


def registration(origin: str, launched: str = "2026-09-24", **terms: Any) -> dict[str, Any]:
    """A complete application for the lighter tier."""
    filing = {"province": "Beijing", "launched_at": launched}
    return form("cn-dengji", origin, **{"model": {"name": "up", "base_model": BASE}, "filing": filing, **terms})


def midnight(day: str) -> datetime.datetime:
    """When a day begins in China."""
    return datetime.datetime.combine(datetime.date.fromisoformat(day), datetime.time(), CHINA)


# Of each launch: the day itself, the last of its 10 working days, and the next one. Between them lie, in 2026, the Spring
# Festival (15 to 23 February off, the Saturdays 14 and 28 worked) and Mid-Autumn with the National Day (25 to 27
# September and 1 to 7 October off, Saturday 10 October worked), as the State Council announced them.
LAUNCHES = [
    pytest.param("2026-02-10", "2026-03-02", "2026-03-03", id="over the Spring Festival"),
    pytest.param("2026-09-24", "2026-10-15", "2026-10-16", id="over the National Day", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("launched", "last", "beyond"), LAUNCHES)
def test_a_receipt_serves_for_ten_working_days_after_launch_and_not_on_the_next(
    tmp_path: Path, endpoint: Endpoint, launched: str, last: str, beyond: str
) -> None:
    days = [datetime.date.fromisoformat(day) for day in (launched, last, beyond)]
    assert add_workdays(days[0], 10, "cn") == days[1]
    assert is_workday(days[2], "cn")
    clock = SetClock()
    clock.set(midnight(launched) + datetime.timedelta(hours=9))
    lines = {"chat": Line(REGISTRATION), "strict": Line(STRICT)}
    with (
        Regulator(tmp_path / "authority", clock) as regulator,
        Follower(tmp_path / "gw", endpoint.origin, authority=regulator, lines=lines, clock=clock) as stack,
    ):
        application = regulator.submit(registration(endpoint.origin, launched))
        receipt = regulator.receipt(application)
        stack.put(receipt)

        def code_at(moment: datetime.datetime, model: str = "chat") -> str:
            clock.set(moment)
            regulator.publish()
            stack.follow()
            return stack.code(model)

        minute = datetime.timedelta(minutes=1)
        opened = midnight(launched) + datetime.timedelta(hours=10)
        assert code_at(opened) == ""
        told = stack.said_of_license()
        assert (told["state"], told["status"], told["binding"]) == ("submitted", "valid", "B1")
        assert stack.code("strict") == "LIC_STATE", "there is no grace where registration comes first"
        assert code_at(midnight(last) + datetime.timedelta(hours=12)) == ""
        assert code_at(midnight(beyond) - minute) == ""
        # It ends with the last day. No call is needed to see it end, and no list says so: the receipt is as valid as before.
        assert code_at(midnight(beyond) + minute) == "LIC_STATE"
        told = stack.said_of_license()
        assert (told["state"], told["status"], told["reasons"]) == ("submitted", "valid", ["LIC_STATE"])

        regulator.assess(application)
        regulator.approve(application)
        jti = regulator.issue(application, filing_no="Beijing-Up-20261016")
        stack.put(jti)
        stack.until("")
        told = stack.said_of_license()
        assert (told["id"], told["state"], told["trust_level"]) == (jti, "active", "regulator_signed")
        assert stack.code("strict") == ""
        presets = {name for intent in stack.records("intent") for name in intent["policy"]["presets"]}
        assert {name.partition("@")[0] for name in presets} == {REGISTRATION, STRICT}
        assert regulator.authority.license(receipt).state == "superseded"
    assert_sound(stack)


def test_a_tuned_or_swapped_model_behind_a_registration_is_refused(
    tmp_path: Path, endpoint: Endpoint, script: Script
) -> None:
    tuned = "ft:up:example:7p4lURel"
    lines = {
        "chat": Line(REGISTRATION),
        "modified": Line(REGISTRATION, target=", modified: true"),
        "tuned": Line(REGISTRATION, "license-tuned.jws", upstream=tuned),
    }
    with (
        Regulator(tmp_path / "authority") as regulator,
        Follower(tmp_path / "gw", endpoint.origin, authority=regulator, lines=lines) as stack,
    ):
        aliases = {"origins": [endpoint.origin], "served_model_aliases": ["up", "up-20*"], "region": "cn"}
        stack.put(regulator.grant(registration(endpoint.origin, endpoint=aliases)))
        named = {"name": tuned, "base_model": BASE}
        stack.put(regulator.grant(registration(endpoint.origin, model=named)), "license-tuned.jws")
        stack.until("")

        # What the settings say: nothing leaves.
        before = len(endpoint.seen)
        assert stack.code("modified") == "TIER_MODIFIED"
        assert stack.code("tuned") == "TIER_MODIFIED"
        assert stack.said_of_license()["reasons"] == ["TIER_MODIFIED"]
        assert len(endpoint.seen) == before
        applied = regulator.submit(
            registration(endpoint.origin, model={"name": "up", "modified": True, "base_model": BASE})
        )
        lacks = regulator.ask("complete", "officer", id=applied)
        assert [one["field"] for one in lacks["missing"]] == ["license.model.modified"], "the tier is not for it"

        # What the endpoint says: the answer stays here.
        def seen(model: str, **call: Any) -> tuple[str, list[str] | None]:
            script.model = model
            answer = stack.chat(**call)
            code = "" if answer.status_code == 200 else str(answer.json()["error"]["code"])
            assert ("Hi." in answer.text) == (not code), "a stream, too, has not begun when its first event is refused"
            return code, stack.outcome(answer).get("reasons")

        for call in ({}, {"stream": True}):
            assert seen("up-2026-08-06", **call) == ("", None), "a dated name is the licensed model's"
            assert seen("", **call) == ("", None), "an empty name decides nothing"
            assert seen("other-model", **call) == ("MODEL_DRIFT", ["MODEL_DRIFT"])
            assert seen("up-mini", **call) == ("MODEL_DRIFT", ["MODEL_DRIFT"])
            assert seen(tuned, **call)[0] == "TIER_MODIFIED"
            assert seen(tuned, **call)[1] == ["TIER_MODIFIED", "MODEL_DRIFT"]
        # The first event that names one decides, though it is not the first event.
        script.streamed = ["", "", "other-model"]
        answer = stack.chat(stream=True)
        assert [one["error"]["code"] for one in shown(answer.content) if "error" in one] == ["MODEL_DRIFT"]
        assert "part 2" not in answer.text
        script.streamed = ["", "up-2026-08-06", ""]
        assert said(stack.chat(stream=True).content) == "part 0 part 1 part 2 "
        assert stack.outcome(answer)["outcome"] == "refused"
    assert_sound(stack)


LIST = """序号,属地,模型名称,备案单位,备案编号,备案时间
1,北京市,FiledModel,示例科技有限公司,Beijing-FiledModel-20250101,2025/1/1
2,上海市,Another,另一家公司,Shanghai-Another-20250202,2025/2/2
"""


class Attested(Stack):
    """A gateway whose operator has a compliance officer vouch for rows of a published list, with files alone."""

    def write_files(self) -> Path:
        """The stack's files; the officer's key, which may attest, and a status list."""
        path = super().write_files()
        self.run(license_app, "keygen", "--out", self.folder, "--issuer", "https://compliance.example")
        trust = json.loads((self.folder / "trust.json").read_text())
        (officer,) = [one for one in trust["issuers"] if one["iss"] == "https://compliance.example"]
        officer["level"] = "attested"
        (self.folder / "trust.json").write_text(json.dumps(trust))
        (self.officer,) = self.folder.glob("*.private.jwk")
        self.list = self.folder / "status.jwt"
        uri = "https://compliance.example/status"
        self.run(license_app, "status", "init", "--key", self.officer, "--uri", uri, "--out", self.list)
        published = self.folder / "published.csv"
        published.write_text(LIST)
        self.snapshot = self.folder / "snapshot.json"
        which = ("--list", "CAC generative AI services", "--captured", "2026-11-20", "--out", self.snapshot)
        self.run(authority_app, "import-filings", published, *which)
        return path

    @staticmethod
    def run(app: Any, *arguments: str | Path) -> str:
        """What a command prints that has to succeed."""
        done = CliRunner().invoke(app, [str(one) for one in arguments])
        assert done.exit_code == 0, done.output
        return done.output

    def attest(self, file: str, *more: str | Path) -> None:
        """Vouch for the first row."""
        row = ("--snapshot", self.snapshot, "--row", "Beijing-FiledModel-20250101", "--key", self.officer)
        scope = ("--model", "up", "--origin", self.origin, "--purpose", "test", "--served", "up")
        beside = self.folder / f"{file}.new"
        self.run(authority_app, "attest", *row, *scope, *more, "--out", beside)
        beside.replace(self.folder / file)


@pytest.mark.slow
def test_a_license_attested_by_a_published_list_serves_under_a_registration_until_its_row_is_gone(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.trust.source.FILES_REFRESH_S", 0.1)
    policy = Line(REGISTRATION).policy()
    stack = Attested(tmp_path, endpoint.origin, policy=policy, licensed=False, trust=", status: [status.jwt]")
    with stack:

        def code() -> str:
            answer = stack.chat()
            return "" if answer.status_code == 200 else str(answer.json()["error"]["code"])

        def until(wanted: str) -> dict[str, Any]:
            stack.wait(lambda: code() == wanted)
            assert code() == wanted  # once more: what ended the call before may have come in while it ran
            made: dict[str, Any] = stack.records("intent")[-1]["license"]
            return made

        until("LIC_MISSING")
        stack.attest("license.jws")
        assert until("REGIME")["reasons"] == ["REGIME", "REGION"], (
            "nobody could suspend it, and where it stands is not said"
        )
        stack.attest("license.jws", "--status", stack.list, "--region", "cn")
        told = until("")
        assert (told["trust_level"], told["status"], told["binding"]) == ("attested", "valid", "B1")
        assert (told["issuer"], told["state"]) == ("https://compliance.example", "active")
        record = read_unverified((tmp_path / "license.jws").read_bytes().strip(), Kind.LICENSE).payload["license"]
        digest = hashlib.sha256(stack.snapshot.read_bytes()).hexdigest()
        filing = record["filing"]
        assert (filing["no"], filing["list_name"]) == ("Beijing-FiledModel-20250101", "CAC generative AI services")
        assert (filing["list_row"].rpartition("!")[2], filing["list_snapshot_digest"]) == ("2", f"sha256:{digest}")
        assert (filing["captured_at"], filing["filed_at"], record["regime"]) == ("2026-11-20", "2025-01-01", "cn-beian")

        # The next list lacks the row: the officer takes back what was attested.
        reason = ("--reason", "gone from the list of 2026-12-20")
        license_ = ("--license", tmp_path / "license.jws", "--key", stack.officer)
        stack.run(license_app, "status", "set", stack.list, "revoked", *license_, *reason)
        told = until("LIC_STATE")
        assert told["status"] == "revoked"
    assert_sound(stack, licenses=[told["id"]])
