"""Statements of serving hosts: what counts, and by name what does not."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer._key import SSlibKey

from gateway.attest.statement import (
    ENVELOPE_BYTES_MAX,
    Fault,
    StatementError,
    host_key_jwk,
    load_host_key,
    sign_statement,
    thumbprint,
    verify_statement,
)
from gateway.errors import ConfigError
from gateway.license.binding import HostStatement
from gateway.license.issuer import generate_key
from gateway.license.record import HostKey
from tests.gateway.attest.samples import DIGEST, KEY, NONCE, NOW, SPKI, envelope, host_key, payload

OTHER = generate_key()
DAY = 86_400


def verify(data: bytes, *keys: HostKey, nonce: str = NONCE, now_s: float = NOW) -> HostStatement:
    return verify_statement(data, keys or (host_key(),), nonce=nonce, now_s=now_s)


def signed(**changes: Any) -> bytes:
    options: dict[str, Any] = {
        "name": "m",
        "model_digest": DIGEST,
        "spki": SPKI,
        "nonce": NONCE,
        "now_s": NOW,
        "life_s": 3600,
        "image_digest": "sha256:" + "cd" * 32,
    }
    return sign_statement(KEY, **(options | changes))


def fault(data: bytes, *keys: HostKey, nonce: str = NONCE, now_s: float = NOW) -> Fault:
    with pytest.raises(StatementError) as caught:
        verify(data, *keys, nonce=nonce, now_s=now_s)
    return caught.value.fault


def test_what_a_host_signs_is_what_is_read() -> None:
    said = verify(signed())
    assert said == HostStatement(DIGEST, thumbprint(host_key().x), SPKI, NOW, NOW + 3600, "sha256:" + "cd" * 32)
    assert thumbprint(host_key().x) == KEY.thumbprint()


def test_the_envelope_is_one_that_other_software_reads_and_writes() -> None:
    library = SSlibKey(str(KEY.kid), "ed25519", "ed25519", {"public": _hex(host_key().x)})
    Envelope.from_dict(json.loads(signed())).verify([library], 1)
    made = Envelope.from_dict(json.loads(envelope(payload())))
    assert verify(json.dumps(made.to_dict()).encode()).model_digest == DIGEST


def _hex(x: str) -> str:
    return base64.urlsafe_b64decode(x + "=").hex()


def test_url_safe_base64_is_read_as_well() -> None:
    def alter(made: dict[str, Any]) -> None:
        made["payload"] = made["payload"].replace("+", "-").replace("/", "_")
        made["signatures"][0]["sig"] = made["signatures"][0]["sig"].replace("+", "-").replace("/", "_")

    assert verify(envelope(payload(), alter=alter)).iat == NOW


@pytest.mark.parametrize("keyid", ["", None])
def test_a_key_id_is_a_hint(keyid: str | None) -> None:
    data = envelope(payload(), keyid=keyid)
    assert verify(data, host_key(OTHER), host_key()).host_key == KEY.thumbprint()


def test_of_two_signatures_one_of_a_licensed_key_is_enough() -> None:
    def alter(made: dict[str, Any]) -> None:
        made["signatures"].insert(0, json.loads(envelope(payload(), OTHER))["signatures"][0])

    assert verify(envelope(payload(), alter=alter)).host_key == KEY.thumbprint()


def test_a_statement_counts_from_a_minute_before_it_was_made_until_it_ends() -> None:
    data = envelope(payload())
    for now_s in (NOW - 60, NOW, NOW + 3599.9):
        assert verify(data, now_s=now_s).exp == NOW + 3600
    assert fault(data, now_s=NOW - 61) is Fault.EARLY
    assert fault(data, now_s=NOW + 3600) is Fault.EXPIRED


CASES = [
    pytest.param(envelope(payload(nonce="another-nonce-another")), Fault.NONCE, id="wrong nonce"),
    pytest.param(envelope(payload(nonce="")), Fault.NONCE, id="no nonce"),
    pytest.param(envelope(payload(), OTHER), Fault.KEY, id="a key that the license does not name"),
    pytest.param(envelope(payload(), OTHER, keyid=str(KEY.kid)), Fault.SIGNATURE, id="another key under a licensed id"),
    pytest.param(envelope(payload(host_key="other")), Fault.KEY, id="it names another key than the signer's"),
    pytest.param(envelope(payload(exp=NOW)), Fault.LIFE, id="no life"),
    pytest.param(envelope(payload(exp=NOW - 5)), Fault.LIFE, id="ends before it begins"),
    pytest.param(envelope(payload(exp=NOW + DAY + 1)), Fault.LIFE, id="a second over a day"),
    pytest.param(envelope(payload(iat=NOW - 2 * DAY, exp=NOW - DAY)), Fault.EXPIRED, id="of last week"),
    pytest.param(envelope(payload(iat=NOW + 3600, exp=NOW + 7200)), Fault.EARLY, id="of the next hour"),
    pytest.param(envelope(payload(spki="AAAA")), Fault.FORM, id="no pin"),
    pytest.param(envelope(payload(spki=None)), Fault.FORM, id="null pin"),
    pytest.param(envelope(payload(iat=float(NOW) + 0.5)), Fault.FORM, id="a fraction of a second"),
    pytest.param(envelope(payload(iat=-1)), Fault.FORM, id="before time"),
    pytest.param(envelope(payload(exp=2**60)), Fault.FORM, id="beyond what JSON readers agree on"),
    pytest.param(envelope(payload(iat=True)), Fault.FORM, id="a truth is no time"),
    pytest.param(envelope(payload(image_digest="latest")), Fault.FORM, id="an image without a digest"),
    pytest.param(envelope({**payload(), "subject": []}), Fault.FORM, id="about nothing"),
    pytest.param(envelope({**payload(), "subject": payload()["subject"] * 2}), Fault.FORM, id="about two models"),
    pytest.param(
        envelope({**payload(), "subject": [{"digest": {"sha256": "AB" * 32}}]}), Fault.FORM, id="a digest in capitals"
    ),
    pytest.param(envelope({**payload(), "subject": [{"digest": {"sha1": "ab" * 20}}]}), Fault.FORM, id="SHA-1 alone"),
    pytest.param(
        envelope({**payload(), "subject": [{"digest": {"sha256": "ab" * 32 + "\n"}}]}), Fault.FORM, id="a line break"
    ),
    pytest.param(envelope({**payload(), "_type": "https://in-toto.io/Statement/v0.1"}), Fault.FORM, id="in-toto 0.1"),
    pytest.param(
        envelope({**payload(), "predicateType": "https://model_signing/signature/v1.0"}),
        Fault.FORM,
        id="a model's own signature is no host's statement",
    ),
    pytest.param(
        envelope(json.dumps(payload())[:-1].encode() + b',"predicate":{}}'), Fault.FORM, id="a member is there twice"
    ),
    pytest.param(
        envelope(json.dumps(payload()).replace('"nonce"', f'"nonce": "{NONCE}", "nonce"', 1).encode()),
        Fault.FORM,
        id="a nonce is there twice",
    ),
    pytest.param(envelope(b"\xff\xfe"), Fault.FORM, id="not UTF-8"),
    pytest.param(envelope(b"[" * 5000), Fault.FORM, id="deep"),
    pytest.param(envelope(b'{"x": NaN}'), Fault.FORM, id="NaN"),
    pytest.param(envelope(b'{"x": ' + b"9" * 5000 + b"}"), Fault.FORM, id="a long number"),
    pytest.param(envelope(payload(pad="x" * ENVELOPE_BYTES_MAX)), Fault.FORM, id="too large"),
    pytest.param(b"", Fault.FORM, id="empty"),
    pytest.param(b"[]", Fault.FORM, id="a list"),
]


@pytest.mark.parametrize(("data", "expected"), CASES)
def test_l1_what_does_not_count(data: bytes, expected: Fault) -> None:
    assert fault(data) is expected


def first(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda made: made["signatures"][0].__setitem__(name, value)


def member(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda made: made.__setitem__(name, value)


ALTERED = [
    pytest.param(member("payload", "!"), Fault.FORM, id="payload not base64"),
    pytest.param(member("payload", "é"), Fault.FORM, id="payload not ASCII"),
    pytest.param(member("payload", ""), Fault.SIGNATURE, id="payload empty"),
    pytest.param(member("payload", None), Fault.FORM, id="payload null"),
    pytest.param(member("payloadType", "application/json"), Fault.FORM, id="another type of payload"),
    pytest.param(member("signatures", []), Fault.FORM, id="unsigned"),
    pytest.param(member("signatures", [{"sig": "", "keyid": ""}] * 5), Fault.FORM, id="too many signatures"),
    pytest.param(first("sig", ""), Fault.SIGNATURE, id="empty signature"),
    pytest.param(first("sig", "A" * 88), Fault.FORM, id="no base64 of 64 bytes"),
    pytest.param(first("sig", base64.b64encode(bytes(64)).decode()), Fault.SIGNATURE, id="zero signature"),
    pytest.param(first("sig", 7), Fault.FORM, id="a number as signature"),
    pytest.param(first("keyid", "unknown"), Fault.KEY, id="unknown key id"),
]


@pytest.mark.parametrize(("alter", "expected"), ALTERED)
def test_l1_an_altered_envelope(alter: Callable[[dict[str, Any]], object], expected: Fault) -> None:
    got = fault(envelope(payload(), alter=alter))
    assert got is expected or (expected is Fault.FORM and got is Fault.SIGNATURE)


def test_a_tampered_payload_is_not_looked_at_before_its_signature() -> None:
    def alter(made: dict[str, Any]) -> None:
        made["payload"] = base64.b64encode(json.dumps(payload(exp="never")).encode()).decode()

    assert fault(envelope(payload(), alter=alter)) is Fault.SIGNATURE


def test_without_keys_nothing_counts() -> None:
    with pytest.raises(StatementError) as caught:
        verify_statement(signed(), (), nonce=NONCE, now_s=NOW)
    assert caught.value.fault is Fault.KEY


def test_a_key_of_the_same_name_with_other_bytes_does_not_verify() -> None:
    assert fault(signed(), host_key(OTHER, kid=str(KEY.kid))) is Fault.SIGNATURE


def test_a_statement_shown_again_answers_no_new_question() -> None:
    data = signed()
    assert verify(data).model_digest == DIGEST
    assert fault(data, nonce="the-next-nonce-of-ours") is Fault.NONCE


def test_l7_errors_repeat_nothing_of_a_statement() -> None:
    secret = "hunter2-hunter2-hunter2"
    for data in (
        envelope(payload(nonce=secret)),
        envelope(payload(image_digest=secret)),
        envelope(payload(spki=secret)),
    ):
        with pytest.raises(StatementError) as caught:
            verify(data)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"life_s": 0},
        {"life_s": DAY + 1},
        {"nonce": "short"},
        {"nonce": "x" * 129},
        {"nonce": "a b" * 10},
        {"model_digest": "sha256:12"},
        {"spki": ""},
        {"image_digest": "latest"},
    ],
)
def test_a_host_does_not_sign_what_would_not_be_accepted(change: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"statement|nonce|Expected"):
        signed(**change)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_whatever_comes_is_a_statement_or_a_named_error(data: st.DataObject) -> None:
    """Bytes of any kind, and envelopes with some bytes changed."""
    good = envelope(payload())
    noise = data.draw(st.one_of(st.binary(max_size=200), st.integers(0, 2**32)))
    if isinstance(noise, bytes):
        made = noise
    else:
        chance = random.Random(noise)  # test data
        mutable = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            mutable[chance.randrange(len(mutable))] = chance.randrange(256)
        made = bytes(mutable)
    try:
        said = verify(made)
    except StatementError:
        return
    assert said == verify(good)


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["_type", "subject", "predicateType", "predicate", "host_key", "spki", "nonce", "iat", "exp"]),
)
def test_a_signed_statement_with_any_value_anywhere_is_refused_by_name(value: object, where: str) -> None:
    body = payload()
    part = body if where in body else body["predicate"]
    if part[where] == value:
        return
    part[where] = value
    if where == "iat" and isinstance(value, int) and NOW + 3600 - DAY <= value <= NOW + 60:
        return
    with pytest.raises(StatementError):
        verify(envelope(body))


def test_a_hosts_key_file() -> None:
    again = load_host_key(host_key_jwk(KEY).encode(), source="host.jwk")
    assert again.thumbprint() == KEY.thumbprint()
    public = json.dumps({k: v for k, v in json.loads(host_key_jwk(KEY)).items() if k != "d"})
    for bad in (b"", b"{}", b"[]", b"null", b"\xff", public.encode()):
        with pytest.raises(ConfigError, match=r"host\.jwk"):
            load_host_key(bad, source="host.jwk")
