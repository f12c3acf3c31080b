"""A log's key hands over to the next, and who trusts the first comes to trust the last."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gateway.tlog.keys import (
    KeyChange,
    KeysError,
    append_change,
    key_terms,
    read_changes,
    sign_change,
    signs_at,
)
from gateway.tlog.note import ED25519, VerifierKey
from tests.fakes.signed_log import key

SIGNERS = [key(n) for n in range(1, 6)]
K1, K2, K3, K4, K5 = (VerifierKey("gw1", ED25519, one.public) for one in SIGNERS)
_BY = {one.public: one for one in SIGNERS}


def statement(old: VerifierKey, new: VerifierKey, at_s: int = 1_000, until_s: int = 2_000) -> str:
    return sign_change(KeyChange(old, new, at_s, until_s), _BY[old.public], _BY[new.public])


def file_of(*statements: str) -> bytes:
    data = b""
    for one in statements:
        data = append_change(data, one)
    return data


FILE = file_of(statement(K1, K2), statement(K2, K3, 5_000, 6_000), statement(K3, K4, 9_000, 9_000))


def test_a_statement_has_these_lines() -> None:
    text, _, signatures = statement(K1, K2).partition("\n\n")
    assert text == f"licet/key-change/v1\ngw1\n{K1}\n{K2}\n1000\n2000"
    assert [line[:6] for line in signatures.splitlines()] == ["— gw1 ", "— gw1 "]
    assert [change for change, _ in read_changes(FILE)][1] == KeyChange(K2, K3, 5_000, 6_000)


def test_the_first_key_leads_to_the_newest() -> None:
    assert [key for key, term in key_terms(FILE, [K1]).items() if term.until_s is None] == [K4]
    assert key_terms(FILE, [K1]).keys() == {K1, K2, K3, K4}
    assert key_terms(b"", [K1]).keys() == {K1}


def test_who_trusts_a_later_key_need_not_know_the_earlier() -> None:
    assert key_terms(FILE, [K3]).keys() == {K3, K4}
    assert key_terms(FILE, [K5]).keys() == {K5}


def test_a_stolen_old_key_signs_nothing_that_counts_after_its_time() -> None:
    terms = key_terms(FILE, [K1])
    assert signs_at(terms, K1, 2_000)
    assert not signs_at(terms, K1, 2_001)
    assert signs_at(terms, K4, 10**12)
    assert not signs_at(terms, K5, 0)
    assert signs_at(terms, K4, None)
    assert not signs_at(terms, K1, None)


def test_a_stolen_old_key_cannot_name_another_successor() -> None:
    with pytest.raises(KeysError, match="second successor"):
        key_terms(file_of(statement(K1, K2), statement(K1, K5, 3_000, 4_000)), [K1])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(FILE.replace(b"\n1000\n", b"\n1001\n"), "does not verify", id="another time"),
        pytest.param(FILE.replace(str(K2).encode(), str(K5).encode()), "does not verify", id="another key"),
        pytest.param(FILE[:-1], "does not end with a line", id="cut"),
        pytest.param(file_of(statement(K1, K2), statement(K2, K1, 3_000, 4_000)), "brings back", id="an old key again"),
        pytest.param(file_of(statement(K1, K2), statement(K2, K3, 999, 4_000)), "older", id="clock back"),
        pytest.param(FILE.replace(b"/v1", b"/v2"), "lines", id="another version"),
        pytest.param(FILE.partition(b"\n\n")[0], "no signatures", id="text alone"),
        pytest.param(b"\xff", "UTF-8", id="no text"),
        pytest.param(b"a" * (1 << 21), "bytes", id="endless"),
    ],
)
def test_statements_that_contradict_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(KeysError, match=told):
        key_terms(data, [K1])


def test_both_keys_have_to_sign() -> None:
    whole = statement(K1, K2).splitlines(keepends=True)
    for missing in (7, 8):
        with pytest.raises(KeysError, match="needs"):
            key_terms("".join(line for n, line in enumerate(whole) if n != missing).encode(), [K1])


def test_a_key_hands_over_under_its_own_name_alone() -> None:
    other = replace(K2, name="gw2")
    change = KeyChange(K1, other, 1, 2)
    with pytest.raises(KeysError, match="one name"):
        key_terms(sign_change(change, SIGNERS[0], SIGNERS[1]).encode(), [K1])
    with pytest.raises(ValueError, match="two keys"):
        sign_change(KeyChange(K1, K2, 1, 2), SIGNERS[0], SIGNERS[2])


def test_nothing_else_is_raised_whatever_comes() -> None:
    dice = random.Random(7)
    for _ in range(500):
        data = bytearray(FILE)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(data))
            data[at : at + dice.randrange(4)] = dice.randbytes(dice.randrange(4))
        try:
            found = key_terms(bytes(data), [K1]).keys()
        except KeysError:
            continue
        assert found <= {K1, K2, K3, K4}  # whatever was changed, no other key comes in
