"""What is due, when alarms ring, and the command that lists it."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gateway import clocks_cli
from gateway.clocks import (
    DAY_S,
    SHOWN_MAX,
    Alarms,
    Clock,
    State,
    by_due,
    lexicon_clock,
    license_clocks,
    measure,
    metadata_clocks,
    permit_clock,
    standing_clocks,
)
from gateway.license.claims import read_claims
from gateway.license.issuer import add_to_trust
from gateway.license.orders import OrderList
from gateway.license.permits import read_permit
from gateway.license.signed import Kind, sign
from gateway.license.standing import EnrolledList, Standing
from gateway.license.status import StatusList, StatusValue, build_status_payload
from gateway.metrics import Registry
from policies.model import LicenseRules
from policies.workdays import deadline_s
from tests.gateway.license.material import ISSUER, KEY, NOW_S, TRUST, claims, token

CN = LicenseRules(grace_workdays=10, calendar="cn")


def due(rules: LicenseRules = CN, /, **terms: Any) -> dict[str, Clock]:
    return {clock.name: clock for clock in license_clocks(read_claims(claims(**terms)), rules)}


def test_a_license_ends() -> None:
    found = due()
    assert found.keys() == {"license_expiry"}
    assert found["license_expiry"].due_s == NOW_S + DAY_S


@pytest.mark.parametrize(
    ("terms", "name", "day"),
    [
        # The National Day holiday of 2025: 1 to 8 October; people worked on Sunday 28 September and Saturday 11 October.
        pytest.param(
            {"state": "submitted", "filing": {"launched_at": "2025-09-26"}}, "registration", "2025-10-16", id="launch"
        ),
        pytest.param({"filing": {"changed_at": "2025-09-26"}}, "variation", "2025-10-16", id="change"),
        pytest.param({"filing": {"ended_at": "2025-09-26"}}, "cancellation", "2025-10-30", id="end"),
    ],
)
def test_terms_in_working_days_know_days_off(terms: dict[str, Any], name: str, day: str) -> None:
    clock = due(**terms)[name]
    end = datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.timezone(datetime.timedelta(hours=8)))
    assert clock.due_s == end.timestamp() + DAY_S  # the midnight that ends the day, in China
    assert day not in clock.rule
    assert "2025-09-26" in clock.rule


@pytest.mark.parametrize(
    "terms",
    [
        pytest.param({"state": "active", "filing": {"launched_at": "2025-09-26"}}, id="registered"),
        pytest.param({"filing": {"changed_at": "2025-09-26", "filed_at": "2025-09-26"}}, id="change filed"),
        pytest.param({"filing": {"changed_at": "2025-09-26", "submitted_at": "2025-09-30"}}, id="change submitted"),
        pytest.param({"state": "cancelled", "filing": {"ended_at": "2025-09-26"}}, id="cancelled"),
        pytest.param({"filing": {}}, id="nothing filed"),
    ],
)
def test_what_was_done_is_not_due(terms: dict[str, Any]) -> None:
    assert due(**terms).keys() == {"license_expiry"}


def test_a_change_that_was_filed_before_is_due_again() -> None:
    assert "variation" in due(filing={"changed_at": "2025-09-26", "filed_at": "2025-01-02"})
    assert "variation" in due(
        state="variation_pending", filing={"changed_at": "2025-09-26", "submitted_at": "2025-09-30"}
    )


def test_the_policys_grace_and_calendar_count() -> None:
    terms = {"state": "submitted", "filing": {"launched_at": "2026-03-02"}}
    start = datetime.date(2026, 3, 2)
    assert due(LicenseRules(grace_workdays=3), **terms)["registration"].due_s == deadline_s(start, 3, "")
    assert due(LicenseRules(), **terms)["registration"].due_s == deadline_s(start, 10, "")
    assert due(LicenseRules(), regime="cn-dengji", **terms)["registration"].due_s == deadline_s(start, 10, "cn")


def test_a_term_beyond_the_known_years_says_so() -> None:
    rule = due(filing={"ended_at": "2031-03-03"})["cancellation"].rule
    assert "not known yet" in rule
    assert "not known yet" not in due(filing={"ended_at": "2025-03-03"})["cancellation"].rule


def test_a_day_that_is_none_counts_as_run_out() -> None:
    clock = due(filing={"ended_at": "2026-02-30"})["cancellation"]
    assert clock.state(NOW_S) is State.OVERDUE
    assert "no day" in clock.rule


def test_audits_are_due() -> None:
    found = due(conditions=[{"type": "audit_by", "at": NOW_S + 5}, {"type": "audit_by"}, {"type": "else"}, 7])
    assert found["audit"].due_s == NOW_S + 5


def test_lists_permits_metadata_and_lexicons_end() -> None:
    standing = Standing(
        statuses={("i", "u"): StatusList("i", "u", NOW_S, NOW_S + 1, 60, b"")},
        orders=(OrderList("i", NOW_S, NOW_S + 2, 60, ()),),
        gateways={"i": EnrolledList("i", NOW_S, NOW_S + 3, 60, ())},
    )
    assert {(c.name, c.subject, c.due_s) for c in standing_clocks(standing)} == {
        ("status_list_expiry", "u", NOW_S + 1),
        ("orders_expiry", "i", NOW_S + 2),
        ("gateways_expiry", "i", NOW_S + 3),
    }
    permit = permit_clock(read_permit(permit_token(NOW_S + 4), TRUST))
    assert (permit.name, permit.subject, permit.due_s) == ("permit_expiry", "permit-1", NOW_S + 4)
    assert lexicon_clock("names", NOW_S).due_s == NOW_S + 7 * DAY_S
    root, timestamp = metadata_clocks({"root": NOW_S + 29 * DAY_S, "timestamp": NOW_S + 60})
    assert root.state(NOW_S) is State.SOON
    assert timestamp.state(NOW_S) is State.OK  # renewed by a machine: only its end is news
    assert timestamp.state(NOW_S + 60) is State.OVERDUE


def permit_token(exp: int) -> bytes:
    payload = {
        "iss": ISSUER,
        "sub": "tuned",
        "jti": "permit-1",
        "iat": exp - 90 * DAY_S,
        "nbf": exp - 90 * DAY_S,
        "exp": exp,
        "permit": {"model": "tuned"},
    }
    return sign(payload, Kind.PERMIT, KEY).encode()


def test_alarms_ring_once_at_each_lead_and_at_the_end() -> None:
    clock = Clock("license_expiry", "lic", NOW_S + 100 * DAY_S, "exp", NOW_S)
    alarms, rung = Alarms(), []
    for hours in range(0, 102 * 24, 7):
        now_s = NOW_S + hours * 3600
        rung += [(alarm.lead_days, hours // 24) for alarm in alarms.ring([clock], now_s)]
    assert [lead for lead, _ in rung] == [30, 7, 1, 0]
    assert [day for _, day in rung] == [70, 93, 99, 100]


def test_a_late_start_rings_only_what_counts_now_and_time_going_back_repeats_nothing() -> None:
    clock = Clock("license_expiry", "lic", NOW_S + 3 * DAY_S, "exp", NOW_S - 300 * DAY_S)
    alarms = Alarms()
    assert [a.lead_days for a in alarms.ring([clock], NOW_S)] == [7]
    assert [a.lead_days for a in alarms.ring([clock], NOW_S + 3 * DAY_S)] == [0]
    assert alarms.ring([clock], NOW_S + 3 * DAY_S - 1) == []
    assert alarms.ring([clock], NOW_S + 3 * DAY_S) == []


def test_what_is_put_off_rings_anew_and_what_is_gone_is_forgotten() -> None:
    early = Clock("audit", "lic", NOW_S, "audit_by")
    later = Clock("audit", "lic", NOW_S + DAY_S, "audit_by")
    alarms = Alarms()
    assert len(alarms.ring([early], NOW_S)) == 1
    assert [a.lead_days for a in alarms.ring([later], NOW_S)] == [1]
    assert alarms.ring([], NOW_S) == []
    assert len(alarms.ring([later], NOW_S)) == 1


def test_leads_longer_than_half_the_run_do_not_ring() -> None:
    daily = Clock("status_list_expiry", "u", NOW_S + DAY_S, "exp", NOW_S)
    assert daily.state(NOW_S + DAY_S - 1) is State.OK
    monthly = Clock("license_expiry", "lic", NOW_S + 30 * DAY_S, "exp", NOW_S)
    assert monthly.lead_days(NOW_S) is None
    assert monthly.lead_days(NOW_S + 23 * DAY_S) == 7


def test_an_alarm_tells_what_is_due_why_and_when() -> None:
    clock = Clock("license_expiry", "lic", 1_800_000_000, "`exp` of the license")
    (alarm,) = Alarms().ring([clock], 1_800_000_000 - DAY_S)
    assert alarm.text == "license expiry of lic: due 2027-01-15 08:00 UTC, within a day (`exp` of the license)"
    assert alarm.detail == {
        "clock": "license_expiry",
        "subject": "lic",
        "due_s": 1_800_000_000,
        "lead_days": 1,
        "rule": "`exp` of the license",
    }
    (alarm,) = Alarms().ring([clock], 1_800_000_000)
    assert "overdue since 2027-01-15" in alarm.text
    (alarm,) = Alarms().ring([Clock("license_expiry", "x", 2**53 - 1, "exp")], 2**53)
    assert "overdue since 9999" in alarm.text


def test_the_metric_shows_what_is_left_and_forgets_what_is_gone() -> None:
    registry = Registry()
    gauge = registry.gauge("licet_clock_seconds", "help", ("clock", "subject"), worst=True)
    measure(gauge, [Clock("a", "x", NOW_S + 5, ""), Clock("a", "x", NOW_S + 3, ""), Clock("b", "y", 0, "")], NOW_S)
    assert gauge.series.values == {("a", "x"): 3, ("b", "y"): -NOW_S}
    measure(gauge, [Clock("a", str(i), NOW_S + i, "") for i in range(SHOWN_MAX + 9)], NOW_S)
    assert len(gauge.series.values) == SHOWN_MAX
    assert ("a", str(SHOWN_MAX)) not in gauge.series.values


def test_the_next_due_comes_first() -> None:
    a, b = Clock("b", "x", 1, ""), Clock("a", "x", 2, "")
    assert by_due([b, a, b]) == [a, b]


POLICY = """
version: 1
name: p
owner: o@example.com
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of one model with a license, a permit, a status list and a worker that follows."""
    now_s = int(time.time())
    made = claims(state="active")
    (tmp_path / "l.jws").write_bytes(token(made | {"exp": now_s + 400 * DAY_S}))
    (tmp_path / "permit.jws").write_bytes(permit_token(now_s + 3 * DAY_S))
    status = build_status_payload(
        bytes([StatusValue.VALID]), issuer=ISSUER, uri="https://s", issued_s=now_s, expires_s=now_s + 900, ttl_s=60
    )
    (tmp_path / "status.jwt").write_text(sign(status, Kind.STATUS, KEY))
    (tmp_path / "trust.json").write_text(add_to_trust(None, ISSUER, KEY))
    (tmp_path / "p.yaml").write_text(POLICY)
    worker = tmp_path / "var" / "trust" / "0"
    worker.mkdir(parents=True)
    contents = [
        {"kind": "orders", "iss": ISSUER, "iat": now_s, "exp": now_s + 800, "orders": []},
        {"kind": "keys", "issuers": []},
        {"kind": "status", "error": "LIC_SIG: no"},
    ]
    (worker / "status.json").write_text(json.dumps({"expires_at_s": {"root": now_s + 500}, "contents": contents}))
    settings = tmp_path / "gateway.yaml"
    settings.write_text(
        """
data: var
trust: {keys: trust.json, status: [status.jwt]}
callers: [{name: app, anonymous: true, models: [chat]}]
models:
  - name: chat
    license: l.jws
    policy: p.yaml
    permits: [permit.jws]
    targets: [{protocol: openai, base_url: "http://127.0.0.1:9/v1", model: gpt-4o}]
"""
    )
    return settings


def ask(config: Path, *arguments: str) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command("clocks")(clocks_cli.clocks)
    result = CliRunner().invoke(app, ["--config", str(config), *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_lists_what_is_due(config: Path) -> None:
    code, out, err = ask(config, "--json")
    told = json.loads(out)
    assert (code, err, told["problems"]) == (0, "", [])
    assert [(c["clock"], c["state"]) for c in told["clocks"]] == [
        ("metadata_expiry", "soon"),
        ("orders_expiry", "ok"),
        ("status_list_expiry", "ok"),
        ("permit_expiry", "soon"),
        ("license_expiry", "ok"),
    ]
    code, out, err = ask(config)
    assert code == 0
    assert "permit_expiry" in out
    assert "2 d 23 h" in out


def test_what_is_overdue_shows_in_the_exit_code(config: Path) -> None:
    (config.parent / "permit.jws").write_bytes(permit_token(int(time.time()) - 60))
    code, out, _ = ask(config)
    assert code == 1
    assert "overdue" in out


@pytest.mark.parametrize(
    "name", ["l.jws", "permit.jws", "status.jwt", "trust.json", "p.yaml", "var/trust/0/status.json"]
)
def test_what_cannot_be_read_is_said(config: Path, name: str) -> None:
    (config.parent / name).write_text("nothing")
    code, out, err = ask(config)
    assert code == 2
    assert name in err
    assert "Traceback" not in out + err
    (config.parent / name).unlink()
    assert ask(config)[0] == (0 if name.endswith("0/status.json") else 2)


def test_rows_to_come_that_a_policy_breaks_are_due(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looser = "preset: us-ca/license\nlicense: {required: warn}\nprompt: {tags: {gdpr.personal: mask}}\n"
    (config.parent / "p.yaml").write_text(POLICY + looser)
    day = datetime.date(2026, 12, 15)
    monkeypatch.setattr(clocks_cli, "today", lambda: day)
    _, out, err = ask(config, "--json")
    assert err == ""
    told = json.loads(out)
    assert told["problems"] == []
    (found,) = (one for one in told["clocks"] if one["clock"] == "policy_row")
    assert found["subject"].endswith(" license.required")
    assert found["due_s"] == datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC).timestamp()
    assert "us-ca" in found["rule"]


def test_settings_that_cannot_be_used_are_said(config: Path) -> None:
    config.write_text("models: 7")
    code, _, err = ask(config)
    assert code == 2
    assert "gateway.yaml:1" in err
