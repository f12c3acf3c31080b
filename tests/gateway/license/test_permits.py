"""A training permit covers what it names, from when to when it says, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.license.permits import Permit, gaps, read_permit
from gateway.license.published import StandingError
from gateway.license.signed import Kind, sign
from gateway.reasons import Reason
from tests.gateway.license.material import DAY_S, ISSUER, KEY, NOW_S, OTHER_KEY, TRUST

DATA = tuple(f"sha256:{i:064x}" for i in range(3))


def permit_token(grant: dict[str, Any] | None = None, key: Any = KEY, **changes: Any) -> bytes:
    terms = {
        "holder": {"legal_name": "Example Ltd", "id_code": "91110000"},
        "model": "voices-1",
        "base_model": {"name": "tts-base"},
        "objectives": DATA[0],
        "data_sources": list(DATA[:2]),
        "grants": ["grant-1"],
        "intended_applications": DATA[1],
        "capabilities": ["tts", "voice_clone"],
    }
    claims = {
        "iss": ISSUER,
        "sub": "voices-1",
        "jti": "permit-1",
        "iat": NOW_S - DAY_S,
        "nbf": NOW_S - DAY_S,
        "exp": NOW_S + DAY_S,
        "permit": terms | (grant or {}),
    }
    return sign(claims | changes, Kind.PERMIT, key).encode()


def permit(grant: dict[str, Any] | None = None, **changes: Any) -> Permit:
    return read_permit(permit_token(grant, **changes), TRUST)


ALL: dict[str, Any] = {
    "model": "voices-1",
    "base_model": "tts-base",
    "capabilities": ["voice_clone"],
    "data_sources": DATA[:2],
}


def test_a_permit_says_what_it_is() -> None:
    made = permit()
    assert (made.id, made.iss, made.grant.holder_id, made.grant.base_name) == (
        "permit-1",
        ISSUER,
        "91110000",
        "tts-base",
    )
    plain = permit({"holder": "91110000", "base_model": "tts-base"})
    assert (plain.grant.holder_id, plain.grant.base_name) == ("91110000", "tts-base")
    assert permit({"holder": None, "base_model": None}).grant.base_name is None


def test_what_it_names_is_covered() -> None:
    assert gaps(permit(), now_s=NOW_S, **ALL) == ()
    assert not gaps(permit(), now_s=NOW_S)
    assert not gaps(permit({"capabilities": ["*"]}), now_s=NOW_S, capabilities=["avatar"])


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"now_s": NOW_S + DAY_S}, id="ended"),
        pytest.param({"now_s": NOW_S - DAY_S - 61}, id="not begun"),
        pytest.param({"model": "voices-2"}, id="another model"),
        pytest.param({"base_model": "other"}, id="another base model"),
        pytest.param({"capabilities": ["tts", "avatar"]}, id="another capability"),
        pytest.param({"data_sources": DATA}, id="one more data source"),
    ],
)
def test_what_it_does_not_name_is_not_covered(asked: dict[str, Any]) -> None:
    (gap,) = gaps(permit(), **{"now_s": NOW_S, **ALL, **asked})
    assert gap.reason is Reason.TRAINING_PERMIT


def test_what_is_left_out_grants_nothing() -> None:
    bare = permit({"capabilities": [], "data_sources": [], "base_model": None})
    assert len(gaps(bare, now_s=NOW_S, **ALL)) == 3


def test_it_holds_to_its_last_second_and_from_within_the_skew() -> None:
    assert not gaps(permit(), now_s=NOW_S + DAY_S - 0.1)
    assert not gaps(permit(), now_s=NOW_S - DAY_S - 60)


@pytest.mark.parametrize(
    ("grant", "changes"),
    [
        pytest.param({}, {"exp": NOW_S - DAY_S}, id="over when it begins"),
        pytest.param({}, {"permit": None}, id="no grant"),
        pytest.param({}, {"jti": ""}, id="no id"),
        pytest.param({"data_sources": ["all"]}, {}, id="data that is no digest"),
        pytest.param({"model": ""}, {}, id="no model"),
        pytest.param({"capabilities": "tts"}, {}, id="capabilities in no list"),
    ],
)
def test_what_is_no_permit_is_refused(grant: dict[str, Any], changes: dict[str, Any]) -> None:
    with pytest.raises(StandingError) as caught:
        read_permit(permit_token(grant, **changes), TRUST)
    assert caught.value.reason is Reason.LIC_SIG


def test_only_who_may_sign_permits_signs_them() -> None:
    with pytest.raises(StandingError) as caught:
        read_permit(permit_token(key=OTHER_KEY), TRUST)
    assert caught.value.reason is Reason.LIC_ISSUER
