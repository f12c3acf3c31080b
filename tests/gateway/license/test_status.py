"""A status list is read whole, signed and bounded, or not at all."""

from __future__ import annotations

import base64
import os
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.license.published import StandingError
from gateway.license.signed import Kind, sign
from gateway.license.status import (
    ENTRIES_BYTES_MAX,
    StatusValue,
    build_status_payload,
    pack_status,
    read_status_list,
)
from gateway.reasons import Reason
from tests.gateway.license.material import (
    DAY_S,
    ISSUER,
    KEY,
    NOW_S,
    OTHER_KEY,
    TRUST,
    URI,
    envelope,
    status_token,
    statuses,
)


def lst(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def payload(**changes: Any) -> dict[str, Any]:
    return envelope(sub=URI, status_list={"bits": 2, "lst": lst(zlib.compress(b"\0"))}) | changes


@given(st.binary(max_size=40).map(lambda raw: bytes(byte & 3 for byte in raw)))
@settings(max_examples=25, deadline=None)
def test_what_is_packed_reads_back(values: bytes) -> None:
    found = statuses(values)
    assert [found.value(idx) for idx in range(len(values))] == [StatusValue(value) for value in values]
    assert len(found.entries) == -(-len(values) // 4)


def test_places_of_no_license_never_count_as_valid() -> None:
    found = statuses(b"\0")
    assert [found.value(idx) for idx in range(5)] == [StatusValue.VALID, *[StatusValue.OTHER] * 3, None]
    assert found.value(2**32 - 1) is None


def test_the_order_of_bits_is_the_drafts() -> None:
    # Draft-ietf-oauth-status-list, section 4.1: the first status stands in the least significant bits.
    assert pack_status(bytes([1, 2, 0, 3, 0, 1, 0, 1])) == bytes([0b11_00_10_01, 0b01_00_01_00])


def test_no_other_value_is_packed() -> None:
    with pytest.raises(ValueError, match="a status is 0"):
        pack_status(b"\0\4")


def test_a_list_says_whose_it_is_and_from_when() -> None:
    found = statuses(b"\1\2")
    assert (found.iss, found.uri, found.iat, found.exp, found.ttl_s) == (ISSUER, URI, NOW_S, NOW_S + 30 * DAY_S, 3600)
    assert found.kid == KEY.kid
    assert len(found.digest) == 64


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status_list": {"bits": 1, "lst": lst(zlib.compress(b"\0"))}}, id="one bit"),
        pytest.param({"status_list": {"bits": 8, "lst": lst(zlib.compress(b"\0"))}}, id="eight bits"),
        pytest.param({"status_list": {"bits": True, "lst": lst(zlib.compress(b"\0"))}}, id="bits is no number"),
        pytest.param({"status_list": {"bits": 2}}, id="no list"),
        pytest.param({"status_list": {"bits": 2, "lst": "!"}}, id="not base64url"),
        pytest.param({"status_list": {"bits": 2, "lst": "\u00e9" * 4}}, id="not ASCII"),
        pytest.param({"status_list": {"bits": 2, "lst": lst(b"abc")}}, id="not zlib"),
        pytest.param({"status_list": {"bits": 2, "lst": ""}}, id="empty"),
        pytest.param({"status_list": {"bits": 2, "lst": lst(zlib.compress(b"\0" * 9)[:-3])}}, id="truncated"),
        pytest.param({"status_list": {"bits": 2, "lst": lst(zlib.compress(b"\0") + b"x")}}, id="something behind it"),
        pytest.param({"status_list": {"bits": 2, "lst": lst(zlib.compress(b"\0") * 2)}}, id="two streams"),
        pytest.param(
            {"status_list": {"bits": 2, "lst": lst(zlib.compress(bytes(ENTRIES_BYTES_MAX + 1), 9))}}, id="a bomb"
        ),
        pytest.param({"sub": ""}, id="no name"),
        pytest.param({"sub": "u" * 2049}, id="a name without end"),
        pytest.param({"iat": NOW_S + 0.5}, id="a fraction of a second"),
        pytest.param({"iat": str(NOW_S)}, id="time as text"),
        pytest.param({"iat": -1}, id="before 1970"),
        pytest.param({"exp": NOW_S}, id="over when it begins"),
        pytest.param({"exp": 2**60}, id="no time"),
        pytest.param({"ttl": 0}, id="never fresh"),
        pytest.param({"ttl": None}, id="no greatest age"),
    ],
)
def test_a_list_that_is_not_as_it_should_be_is_refused_with_the_named_error(changes: dict[str, Any]) -> None:
    signed = sign(payload(**changes), Kind.STATUS, KEY).encode()
    with pytest.raises(StandingError) as caught:
        read_status_list(signed, TRUST)
    assert caught.value.reason is Reason.LIC_SIG


def test_a_list_that_just_fits_is_read() -> None:
    packed = {"bits": 2, "lst": lst(zlib.compress(bytes(ENTRIES_BYTES_MAX), 1))}
    found = read_status_list(sign(payload(status_list=packed), Kind.STATUS, KEY).encode(), TRUST)
    assert len(found.entries) == ENTRIES_BYTES_MAX


def test_a_million_random_statuses_fit_into_a_token() -> None:
    # The worst case: entries that no compression makes smaller.
    values = os.urandom(1_000_000).translate(bytes(byte & 3 for byte in range(256)))
    made = build_status_payload(values, issuer=ISSUER, uri=URI, issued_s=NOW_S, expires_s=NOW_S + 60, ttl_s=60)
    assert len(read_status_list(sign(made, Kind.STATUS, KEY).encode(), TRUST).entries) == len(values) // 4


def test_a_list_of_somebody_else_is_refused() -> None:
    with pytest.raises(StandingError) as caught:
        read_status_list(status_token(key=OTHER_KEY), TRUST)
    assert caught.value.reason is Reason.LIC_ISSUER
