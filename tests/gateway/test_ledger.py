"""What the record tells of a license: the same for calls of one second, and never that of another verdict or time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gateway import ledger
from gateway.audit.record import LicenseRef
from gateway.governed import Filed
from gateway.license.facts import Decision, Verdict

FILED = Filed()


def told(verdict: Verdict | None, at_ms: int, filed: Filed = FILED) -> LicenseRef | None:
    """Of a call that knows no more than that."""
    call: Any = SimpleNamespace(
        verdict=verdict, model=SimpleNamespace(filed=filed), clock=SimpleNamespace(started_ms=at_ms)
    )
    return ledger._license(call)


def verdict(name: str) -> Verdict:
    """A license that is valid, with a status of second 1,000."""
    return Verdict(Decision.ALLOW, license_id=name, status="valid", status_iat_s=1_000)


def test_calls_of_one_second_share_what_is_told() -> None:
    one = verdict("lic-1")
    first = told(one, 1_005_000)
    assert first is not None
    assert (first.id, first.status_age_s) == ("lic-1", 5)
    assert told(one, 1_005_999) is first
    assert told(None, 1_005_000) is None


def test_the_age_of_a_status_goes_on() -> None:
    one = verdict("lic-1")
    ages = [ref.status_age_s for at_ms in (1_005_000, 1_006_000, 1_005_000) if (ref := told(one, at_ms))]
    assert ages == [5, 6, 5]


def test_no_verdict_is_told_as_another_and_what_is_kept_is_bounded() -> None:
    for number in range(3 * ledger.LICENSES_KEPT):
        ref = told(verdict(f"lic-{number}"), 1_005_000)  # which nothing else holds
        assert ref is not None
        assert ref.id == f"lic-{number}"
        assert len(ledger._licenses) <= ledger.LICENSES_KEPT


def test_what_was_filed_anew_is_told_at_once() -> None:
    one = verdict("lic-1")
    before = told(one, 1_005_000)
    after = told(one, 1_005_000, Filed(filing="CAC-2"))
    assert before is not None
    assert after is not None
    assert (before.filing, after.filing) == (None, "CAC-2")
