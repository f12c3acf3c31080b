"""Proof of one record in a file of its own."""

from __future__ import annotations

import base64
import random

import pytest

from gateway.tlog.cosignature import cosign
from gateway.tlog.note import COSIGNATURE_ED25519, VerifierKey, read_note
from gateway.tlog.proof import ProofError, read_proof, verify_proof, write_proof
from tests.fakes.signed_log import SignedLog, key

LOG = SignedLog()
W1 = VerifierKey("w1", COSIGNATURE_ED25519, key(11).public)
NOTE = LOG.note(13) + cosign(read_note(LOG.note(13)).text, key(11), "w1", 1_700_000_000)
FILE = write_proof(5, LOG.path(5, 13), NOTE, b"more")


def test_a_proof_has_the_standards_lines() -> None:
    head, _, rest = FILE.partition("\n\n")
    lines = head.split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra bW9yZQ==", "index 5"]
    assert [base64.b64decode(line) for line in lines[3:]] == LOG.path(5, 13)
    assert rest == NOTE
    assert "extra" not in write_proof(0, [], LOG.note(1))


def test_what_was_written_reads_and_verifies() -> None:
    proof = read_proof(FILE)
    assert (proof.index, list(proof.path), proof.checkpoint, proof.extra) == (5, LOG.path(5, 13), NOTE, b"more")
    for size in (1, 2, 13):
        for index in range(size):
            file = write_proof(index, LOG.path(index, size), LOG.note(size))
            assert verify_proof(file, LOG.entry(index), [LOG.vkey], origin="gw1/s").checkpoint.size == size
    found = verify_proof(FILE, LOG.entry(5), [LOG.vkey], witnesses=[W1], required=1)
    assert found.witnesses == {"w1"}


@pytest.mark.parametrize(
    ("file", "record", "told"),
    [
        pytest.param(FILE, b"entry-6", "not the one", id="another record"),
        pytest.param(FILE.replace("index 5", "index 6"), b"entry-5", "not the one", id="another place"),
        pytest.param(FILE.replace("\n13\n", "\n14\n"), b"entry-5", "does not verify", id="another head"),
        pytest.param(FILE.replace("@v1", "@v2"), b"entry-5", "begins", id="another version"),
        pytest.param(FILE.replace("index 5", "index 05"), b"entry-5", "leading zeros", id="leading zero"),
        pytest.param(write_proof(5, LOG.path(5, 13)[:-1], NOTE), b"entry-5", "not the one", id="short path"),
        pytest.param(write_proof(5, [*LOG.path(5, 13), bytes(32)], NOTE), b"entry-5", "not the one", id="long path"),
        pytest.param(write_proof(5, LOG.path(5, 13), LOG.note(13)), b"entry-5", "0 of the witnesses", id="no witness"),
    ],
)
def test_a_proof_of_something_else_is_refused(file: str, record: bytes, told: str) -> None:
    with pytest.raises(ProofError, match=told):
        verify_proof(file, record, [LOG.vkey], witnesses=[W1], required=1)


def test_a_proof_of_another_log_is_refused() -> None:
    with pytest.raises(ProofError, match="another log"):
        verify_proof(FILE, b"entry-5", [LOG.vkey], origin="gw1/t")
    with pytest.raises(ProofError, match="not signed by a key of this log"):
        verify_proof(FILE, b"entry-5", [SignedLog(signer=key(3)).vkey])


def test_what_no_proof_can_say_is_not_written() -> None:
    for index, path, extra in (
        (-1, [], None),
        (0, [b"short"], None),
        (0, [bytes(32)] * 64, None),
        (0, [], bytes(70_000)),
    ):
        with pytest.raises(ProofError):
            write_proof(index, path, NOTE, extra)


def test_nothing_else_is_raised_whatever_comes() -> None:
    dice = random.Random(3)
    for _ in range(400):
        at = dice.randrange(len(FILE))
        mutated = FILE[:at] + dice.choice(["", "\n", "\n\n", "=", "9", "\ud800", "\0"]) + FILE[at + dice.randrange(4) :]
        try:
            found = verify_proof(mutated, b"entry-5", [LOG.vkey], witnesses=[W1], required=1)
        except ProofError:
            continue
        assert found.checkpoint.size == 13
