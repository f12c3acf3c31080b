"""When a permit gives leave."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.license.claims import ListEntry
from gateway.license.permits import Grant, Permit
from gateway.license.record import Holder
from gateway.license.standing import Standing
from gateway.license.status import StatusList, pack_status
from gateway.license.token import Failure
from gateway.reasons import Reason
from gateway.training.permits import Need, Told, leave, missing

NOW = 1_800_000_000
ONE, TWO, SM3 = "sha256:" + "1" * 64, "sha256:" + "2" * 64, "sm3:" + "3" * 64


def permit(**changes: Any) -> Permit:
    """A permit with some of its terms changed."""
    grant = {"model": "made", "base_model": "base", "data_sources": (ONE, SM3), "grants": ("grant:1",), "capabilities": ("voice_clone",)}  # fmt: skip
    times = {key: changes.pop(key) for key in ("nbf", "exp", "status") if key in changes}
    terms = Grant(**{**grant, **changes})
    ends = {"nbf": NOW - 10, "exp": NOW + 1000, **times}
    return Permit(iss="a", sub="s", id="p1", iat=NOW - 10, grant=terms, kid="k", digest="d" * 64, **ends)


def covered(one: Permit, need: Need, holder: Holder | None = None, *, base: str = "base") -> bool:
    return leave([one], need, base_model=base, holder=holder, now_s=NOW) is one


UPLOAD = Need(files=[(ONE,)])


@pytest.mark.parametrize(
    ("need", "changes", "expected"),
    [
        pytest.param(UPLOAD, {}, True, id="named by SHA-256"),
        pytest.param(Need(files=[(TWO, SM3)]), {}, True, id="named by SM3"),
        pytest.param(Need(files=[(TWO,)]), {}, False, id="not named"),
        pytest.param(Need(files=[(ONE,), (TWO,)]), {}, False, id="one of two not named"),
        pytest.param(Need(files=[(ONE,)], unknown=True), {}, False, id="a file of unknown origin"),
        pytest.param(UPLOAD, {"data_sources": ()}, False, id="no data"),
        pytest.param(UPLOAD, {"base_model": "other"}, False, id="another base model"),
        pytest.param(UPLOAD, {"base_model": None}, False, id="no base model"),
        pytest.param(UPLOAD, {"exp": NOW}, False, id="ended"),
        pytest.param(UPLOAD, {"nbf": NOW + 3600}, False, id="not begun"),
        pytest.param(Need([(ONE,)], {"grant:1"}), {}, True, id="voice"),
        pytest.param(Need([(ONE,)], {"grant:2", "grant:1"}), {}, True, id="voice, consent under two names"),
        pytest.param(Need([(ONE,)], {"grant:2"}), {}, False, id="voice, another consent"),
        pytest.param(Need([(ONE,)], set()), {}, False, id="voice, no consent"),
        pytest.param(Need([(ONE,)], {"grant:1"}), {"capabilities": ("text",)}, False, id="voice, capability missing"),
        pytest.param(Need([(TWO,)], {"grant:1"}), {}, False, id="voice, another recording"),
        pytest.param(Need([(ONE,)], {""}), {"grants": ()}, False, id="voice, nothing granted"),
    ],
)
def test_leave(need: Need, changes: dict[str, Any], expected: bool) -> None:
    assert covered(permit(**changes), need) is expected


@pytest.mark.parametrize(
    ("permitted", "licensed", "expected"),
    [
        pytest.param(None, Holder(id_code="A"), True, id="permit is silent"),
        pytest.param("A", None, True, id="license is silent"),
        pytest.param("A", Holder(id_code="A"), True, id="same code"),
        pytest.param("A", Holder(id_code="B"), False, id="other code"),
        pytest.param(Holder(id_code="A"), Holder(id_code="B"), False, id="other code, in a group"),
        pytest.param(Holder(legal_name="A"), Holder(legal_name="B"), False, id="other name"),
        pytest.param(Holder(legal_name="A"), Holder(id_code="B"), True, id="nothing to compare"),
        pytest.param(Holder("X", "A"), Holder("Y", "A"), True, id="the code decides"),
    ],
)
def test_holder(permitted: Any, licensed: Holder | None, expected: bool) -> None:
    assert covered(permit(holder=permitted), UPLOAD, licensed) is expected


def test_files_have_to_be_covered_by_one_permit() -> None:
    first, second = permit(), permit(data_sources=(TWO,))
    both = Need(files=[(ONE,), (TWO,)])
    assert leave([first, second], both, base_model="base", holder=None, now_s=NOW) is None
    whole = permit(data_sources=(ONE, TWO))
    assert leave([first, second, whole], both, base_model="base", holder=None, now_s=NOW) is whole


def test_l1_a_permit_that_could_not_be_read_covers_nothing() -> None:
    broken = Failure(Reason.LIC_SIG, "the signature does not verify")
    assert leave([broken], Need(), base_model="base", holder=None, now_s=NOW) is None


def test_operators_are_told_all_that_is_missing() -> None:
    found = missing(
        permit(capabilities=()), Need([(TWO,)], {"x"}, unknown=True), base_model="b", holder=None, now_s=NOW
    )
    assert {failure.reason for failure in found} == {Reason.TRAINING_PERMIT}
    assert len(found) == 5


@pytest.mark.parametrize(
    ("value", "idx", "iat", "iss", "expected"),
    [
        pytest.param(0, 0, NOW - 10, "a", True, id="in force"),
        pytest.param(1, 0, NOW - 10, "a", False, id="withdrawn"),
        pytest.param(2, 0, NOW - 10, "a", False, id="suspended"),
        pytest.param(0, 9, NOW - 10, "a", False, id="no entry"),
        pytest.param(0, 0, NOW - 10, "b", False, id="another issuer's list"),
        pytest.param(0, 0, NOW - 100_000, "a", False, id="stale"),
        pytest.param(0, 0, NOW + 100, "a", False, id="from the future"),
    ],
)
def test_a_permit_with_a_status_is_looked_up(value: int, idx: int, iat: int, iss: str, expected: bool) -> None:
    uri = "https://a.example/status/1.jwt"
    known = StatusList(iss, uri, iat, iat + 200_000, 300, pack_status(bytes([value] * 4)))
    told = Told(Standing(statuses={(iss, uri): known}))
    one = permit(status=ListEntry(uri, idx))
    found = leave([one], UPLOAD, base_model="base", holder=None, now_s=NOW, told=told)
    assert (found is one) is expected


def test_l1_a_permit_with_a_status_does_not_count_where_no_list_is_known() -> None:
    assert not covered(permit(status=ListEntry("https://a.example/status/1.jwt", 0)), UPLOAD)
