"""How fast an order took effect, from journals as workers write them."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.audit import changes
from gateway.audit.effect import Effect, effect_of
from gateway.audit.journal import Journal
from gateway.audit.record import Intent, LicenseRef, Note, OutcomeRecord, PolicyRef, Text
from gateway.audit_cli import app
from gateway.reasons import Outcome
from tests.gateway.audit.samples import check_log

T = 1_790_000_000  # s; all times below are ms after it
_calls = itertools.count(1)
JTI, REF = "lic-1", "order-1"


def ms(after: int) -> int:
    return T * 1000 + after


class Worker:
    """One worker's journal; what it writes has times of the test's own."""

    def __init__(self, data: Path, worker: int = 0) -> None:
        self.journal = Journal.open(
            data, gateway_id="gw", worker=worker, build="test", now_ms=lambda: ms(0), recover_dead=False
        )

    def begin(self, at: int, **facts: Any) -> tuple[int, Intent]:
        """A call of the license `lic-1` begins."""
        given: dict[str, Any] = {
            "caller": "app",
            "model": "chat",
            "target_model": "gpt-4o",
            "license": LicenseRef(verdict="allow", id=JTI, issuer="https://a.example"),
            "policy": PolicyRef(name="p", digest="d", mode="enforce"),
            "prompt": Text(bytes=1, modalities=("text",)),
            "territory": ("us",),
        }
        made = Intent(ts=ms(at), call_id=f"{next(_calls):032x}", stream=True, **given | facts)
        return self.journal.append(made).seq, made

    def end(self, call: tuple[int, Intent], at: int, how: Outcome = Outcome.ALLOWED, *reasons: str) -> None:
        seq, made = call
        self.journal.append(OutcomeRecord(ms(at), made.call_id, seq, how, reasons=reasons or None))

    def call(self, at: int, how: Outcome = Outcome.ALLOWED, *, end: int | None = None, **facts: Any) -> None:
        self.end(self.begin(at, **facts), at + 5 if end is None else end, how)

    def note(self, at: int, **detail: str | int | bool) -> None:
        self.journal.append(Note(ts=ms(at), topic=changes.TOPIC, detail=detail))

    def status(self, at: int, status: str, published_s: int = T + 1, was: str = "valid") -> None:
        self.note(
            at,
            subject="license",
            license=JTI,
            issuer="https://a.example",
            status=status,
            was=was,
            published_s=published_s,
        )

    def order(self, at: int, effective_at: int = T + 1, state: str = "given", **more: str | int | bool) -> None:
        given: dict[str, str | int | bool] = {
            "subject": "order",
            "order": REF,
            "issuer": "https://a.example",
            "state": state,
            "scope": "all",
            "effective_at": effective_at,
            "published_s": T,
            "reach": "any",
        }
        self.note(at, **given | more)


def close(*workers: Worker) -> None:
    async def run() -> None:
        for worker in workers:
            await worker.journal.close()

    asyncio.run(run())


def only(effects: tuple[Effect, ...]) -> Effect:
    (effect,) = effects
    return effect


def test_a_suspension_is_told_from_its_publishing_to_the_last_allowed_call(tmp_path: Path) -> None:
    w = Worker(tmp_path)
    w.call(100)
    w.call(1100)  # after it was published, before it was received
    w.call(1200, license=LicenseRef(verdict="allow", id="another"))
    cut, held = w.begin(1300), w.begin(1350)
    other = w.begin(1360, license=LicenseRef(verdict="allow", id="another"))
    w.status(1400, "suspended")
    w.end(cut, 1450, Outcome.REFUSED, "LIC_STATE")
    w.end(other, 1500)
    w.call(1600, Outcome.REFUSED)
    w.call(1650, license=LicenseRef(verdict="allow", id="another"))
    w.status(5000, "valid", T + 4, was="suspended")
    w.end(held, 5100)
    w.call(5200)
    close(w)
    check_log(tmp_path)
    report = effect_of([tmp_path], license_id=JTI)
    effect = only(report.effects)
    assert (effect.status, effect.published_ms, effect.received_ms) == ("suspended", ms(1000), ms(1400))
    assert (effect.effective_ms, effect.ended_ms) == (ms(1400), ms(5000))
    assert effect.last_allowed is not None
    assert (effect.last_allowed.began_ms, effect.between) == (ms(1100), 1)
    assert [(c.outcome, c.ended_ms, c.reasons) for c in effect.in_flight_calls] == [
        ("refused", ms(1450), ("LIC_STATE",)),
        ("allowed", ms(5100), ()),
    ]
    assert (effect.in_flight, effect.refused, effect.after) == (2, 1, 0)
    assert report.known
    assert report.allowed_after == 0


@pytest.mark.parametrize("how", [Outcome.ALLOWED, Outcome.MASKED])
@pytest.mark.parametrize("began", [pytest.param(900, id="in flight"), pytest.param(1500, id="begun after")])
def test_whatever_is_allowed_after_the_effect_is_found(tmp_path: Path, how: Outcome, began: int) -> None:
    w = Worker(tmp_path)
    call = w.begin(began) if began < 1400 else None
    w.status(1400, "revoked")
    w.end(call or w.begin(began), 1600, how)
    close(w)
    report = effect_of([tmp_path], license_id=JTI)
    effect = only(report.effects)
    assert (report.allowed_after, effect.after) == (1, 1)
    assert [c.outcome for c in effect.after_calls] == [how.value]
    assert effect.in_flight == (began < 1400)


def test_what_did_not_pass_is_not_counted_as_allowed(tmp_path: Path) -> None:
    w = Worker(tmp_path)
    w.status(1400, "suspended")
    for how in Outcome:
        if how not in (Outcome.ALLOWED, Outcome.MASKED):
            w.call(1500, how)
    close(w)
    assert effect_of([tmp_path], license_id=JTI).allowed_after == 0


def test_a_suspension_that_becomes_a_revocation_has_two_effects(tmp_path: Path) -> None:
    w = Worker(tmp_path)
    w.status(1400, "suspended")
    w.status(1500, "unknown", was="suspended")  # the list is lost: nobody lifted it
    w.call(1600, Outcome.REFUSED)
    w.status(2400, "revoked", T + 2, was="unknown")
    w.call(2600, Outcome.REFUSED)
    close(w)
    report = effect_of([tmp_path], license_id=JTI)
    assert [(e.status, e.refused, e.ended_ms) for e in report.effects] == [
        ("suspended", 1, ms(2400)),
        ("revoked", 1, None),
    ]


def test_each_worker_and_host_has_its_own_effect(tmp_path: Path) -> None:
    hosts = [tmp_path / "a", tmp_path / "b"]
    for host, received in zip(hosts, (1100, 1900), strict=True):
        first, second = Worker(host, 0), Worker(host, 1)
        for w, late in ((first, 0), (second, 50)):
            w.call(1050)
            w.status(received + late, "suspended")
            w.call(2000, Outcome.REFUSED)
        close(first, second)
    report = effect_of(hosts, license_id=JTI)
    assert [e.received_ms for e in report.effects] == [ms(1100), ms(1150), ms(1900), ms(1950)]
    assert [e.between for e in report.effects] == [1] * 4
    assert {e.data for e in report.effects} == {str(h) for h in hosts}


def test_a_worker_that_never_heard_of_it_is_found_by_its_calls(tmp_path: Path) -> None:
    heard, deaf, idle = Worker(tmp_path, 0), Worker(tmp_path, 1), Worker(tmp_path, 2)
    heard.status(1400, "suspended")
    deaf.call(500)  # before anything was published
    deaf.call(1390)  # when nobody had received it
    deaf.call(1500)  # others went by it
    idle.call(1600, license=LicenseRef(verdict="allow", id="another"))
    close(heard, deaf, idle)
    report = effect_of([tmp_path], license_id=JTI)
    lost = next(e for e in report.effects if e.received_ms is None)
    assert len(report.effects) == 2
    assert lost.stream == deaf.journal.stream
    assert (lost.between, lost.after, report.allowed_after) == (1, 1, 1)


def test_a_worker_that_starts_later_meets_it_as_it_stands(tmp_path: Path) -> None:
    first, deaf, late = Worker(tmp_path, 0), Worker(tmp_path, 1), Worker(tmp_path, 2)
    first.status(1400, "suspended")
    late.note(9000, subject="license", license=JTI, issuer="i", status="suspended", published_s=T + 1)
    late.call(9100, Outcome.REFUSED)
    deaf.call(5000)
    close(first, deaf, late)
    report = effect_of([tmp_path], license_id=JTI)
    assert report.allowed_after == 1  # the late one does not excuse the deaf one
    # That it began minutes after the publishing is no time that it took.
    assert {e.stream: (e.from_start, e.delay_s) for e in report.effects if e.received_ms is not None} == {
        first.journal.stream: (False, 0.4),
        late.journal.stream: (True, None),
    }
    shown = CliRunner().invoke(app, ["effect", "--license", JTI, "--data", str(tmp_path)])
    assert "from its start" in shown.output


def test_an_order_takes_effect_at_its_time_or_when_it_is_received(tmp_path: Path) -> None:
    w = Worker(tmp_path)
    w.order(500, T + 2)
    w.call(600)
    w.call(1900)
    flying = w.begin(1950)
    w.end(flying, 2010, Outcome.REFUSED, "ORDER_IN_FORCE")
    w.call(2100, Outcome.REFUSED)
    close(w)
    effect = only(effect_of([tmp_path], order=REF).effects)
    assert (effect.published_ms, effect.received_ms, effect.effective_ms) == (ms(2000), ms(500), ms(2000))
    assert (effect.between, effect.in_flight, effect.refused, effect.after) == (2, 1, 1, 0)
    assert effect.last_allowed is not None
    assert effect.last_allowed.began_ms == ms(1900)


@pytest.mark.parametrize(
    ("more", "later"),
    [
        pytest.param({"lifted_at": T + 3}, {}, id="lifted from the start"),
        pytest.param({}, {"state": "changed", "lifted_at": T + 3}, id="lifted by a change"),
        pytest.param({}, {"state": "gone"}, id="gone"),
    ],
)
def test_after_an_order_is_lifted_calls_are_allowed(tmp_path: Path, more: Any, later: Any) -> None:
    w = Worker(tmp_path)
    w.order(1100, **more)
    w.call(2000, Outcome.REFUSED)
    if later:
        w.order(2500, **later)
    w.call(3500)
    close(w)
    effect = only(effect_of([tmp_path], order=REF).effects)
    assert (effect.refused, effect.after) == (1, 0)
    assert effect.ended_ms == (ms(2500) if later == {"state": "gone"} else ms(3000))


@pytest.mark.parametrize(
    ("order", "call", "concerned"),
    [
        pytest.param({}, {}, True, id="all"),
        pytest.param({"scope": "model", "models.0": '["GPT-*"]'}, {}, True, id="name, whatever its case"),
        pytest.param({"scope": "model", "models.0": '["ch', "models.1": 'at"]'}, {}, True, id="in pieces"),
        pytest.param({"scope": "model", "models.0": '["lic-1"]'}, {}, True, id="license"),
        pytest.param({"scope": "model", "models.0": '["claude-*","*mini*"]'}, {}, False, id="other models"),
        pytest.param({"scope": "model"}, {}, True, id="every model"),
        pytest.param({"scope": "modality", "modalities.0": '["image"]'}, {}, False, id="another modality"),
        pytest.param({"scope": "modality", "modalities.0": '["text"]'}, {}, True, id="modality"),
        pytest.param(
            {"scope": "modality", "modalities.0": '["embedding"]'}, {"operation": "embeddings"}, True, id="out"
        ),
        pytest.param({"jurisdictions.0": '["us-ca"]'}, {}, True, id="part of the call's territory"),
        pytest.param({"jurisdictions.0": '["cn"]'}, {}, False, id="another territory"),
        pytest.param({"jurisdictions.0": '["cn"]'}, {"territory": None}, True, id="no territory stated"),
        pytest.param({"reach": "own", "issuer": "https://b.example"}, {}, False, id="another's license"),
        pytest.param({"reach": "own", "issuer": "https://b.example"}, {"license": None}, True, id="no license"),
        pytest.param({"scope": "new_callers"}, {}, True, id="new caller"),
    ],
)
def test_an_order_concerns_the_calls_it_reaches(tmp_path: Path, order: Any, call: Any, concerned: bool) -> None:
    w = Worker(tmp_path)
    w.order(1100, **order)
    w.call(2000, **call)
    close(w)
    assert effect_of([tmp_path], order=REF).allowed_after == concerned


def test_a_caller_from_before_is_no_new_one(tmp_path: Path) -> None:
    w, other = Worker(tmp_path, 0), Worker(tmp_path, 1)
    other.call(100, caller="old")
    w.order(1100, scope="new_callers")
    other.order(1100, scope="new_callers")
    w.call(2000, caller="old")
    w.call(2100, caller="fresh")
    close(w, other)
    report = effect_of([tmp_path], order=REF)
    assert report.allowed_after == 1


def test_a_call_that_has_not_ended_is_in_flight(tmp_path: Path) -> None:
    async def run() -> None:
        w = Worker(tmp_path)
        w.begin(1000)
        w.status(1400, "suspended")
        effect = only(effect_of([tmp_path], license_id=JTI).effects)  # live
        assert [(c.outcome, c.ended_ms) for c in effect.in_flight_calls] == [(None, None)]
        w.call(1500, Outcome.REFUSED)
        effect = only(effect_of([tmp_path], license_id=JTI).effects)
        assert (effect.in_flight, effect.refused) == (1, 1)
        await w.journal.close()

    asyncio.run(run())


def test_notes_of_other_kinds_are_passed_over(tmp_path: Path) -> None:
    w = Worker(tmp_path)
    for detail in (
        {"subject": "rest", "left_out": 3},
        {"subject": "license", "license": JTI},
        {"subject": "license", "license": JTI, "issuer": "i", "status": "suspended", "published_s": "soon"},
        {"subject": "order", "order": REF, "issuer": "i", "state": "given", "published_s": 1, "models.0": "{"},
    ):
        w.note(1000, **detail)
    close(w)
    assert not effect_of([tmp_path], license_id=JTI).known
    assert not effect_of([tmp_path], order=REF).known


def test_the_command_answers_and_its_exit_code_says_it(tmp_path: Path) -> None:
    good, bad, none = (tmp_path / name for name in ("good", "bad", "none"))
    for folder in (good, bad, none):
        w = Worker(folder)
        if folder is not none:
            w.call(1050)
            flying = w.begin(1060)
            w.status(1400, "suspended")
            w.end(flying, 1410, Outcome.REFUSED, "LIC_STATE")
            w.call(2000, Outcome.ALLOWED if folder is bad else Outcome.REFUSED)
        close(w)
    runner = CliRunner()

    def ask(*arguments: str) -> tuple[int, str]:
        result = runner.invoke(app, ["effect", *arguments])
        return result.exit_code, result.output

    code, text = ask("--license", JTI, "--data", str(good))
    assert code == 0
    assert "0.400 s" in text
    assert "LIC_STATE" in text
    assert "Nothing was allowed" in text
    code, text = ask("--license", JTI, "--data", str(good), "--data", str(bad))
    assert code == 1
    assert "allowed after" in text
    code, text = ask("--license", JTI, "--data", str(bad), "--json")
    assert code == 1
    told = json.loads(text)
    assert (told["subject"], told["known"], told["allowed_after"]) == ("license", True, 1)
    assert told["effects"][0]["after_calls"][0]["outcome"] == "allowed"
    assert ask("--license", JTI, "--data", str(none))[0] == 2
    assert ask("--order", REF, "--license", JTI, "--data", str(good))[0] == 2
    assert ask("--order", REF, "--data", str(tmp_path / "nowhere"))[0] == 2


def test_the_key_command_shows_what_is_enrolled(tmp_path: Path) -> None:
    runner = CliRunner()
    assert "made now" in runner.invoke(app, ["key", "--data", str(tmp_path)]).output
    shown = json.loads(runner.invoke(app, ["key", "--data", str(tmp_path), "--name", "gw", "--json"]).output)
    assert shown["jwk"]["kid"] == shown["thumbprint"]
    assert shown["verifier_key"].startswith("gw+")
    text = runner.invoke(app, ["key", "--data", str(tmp_path)]).output
    assert shown["thumbprint"] in text
    assert "made now" not in text
    assert (tmp_path / "keys" / "log-1.key").read_bytes().hex() not in text
    assert runner.invoke(app, ["key", "--data", str(tmp_path), "--name", "g w"]).exit_code == 2
