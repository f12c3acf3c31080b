"""Notes of several keys and the cosignatures of witnesses: exact bytes, who counts, and nothing that upsets the reader."""

from __future__ import annotations

import base64
import contextlib
import random
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from gateway.tlog.checkpoint import CheckpointError, open_checkpoint, open_cosigned
from gateway.tlog.cosignature import cosign
from gateway.tlog.note import (
    COSIGNATURE_ED25519,
    COSIGNATURE_ML_DSA_44,
    ED25519,
    NoteError,
    VerifierKey,
    open_note,
    parse_key,
    read_lines,
    read_note,
    sign_note,
    signature_line,
)
from tests.fakes.signed_log import SignedLog, key

LOG = SignedLog()
NOTE = LOG.note(7)
TEXT = read_note(NOTE).text
W1, W2 = key(11), key(12)
V1 = VerifierKey("w1", COSIGNATURE_ED25519, W1.public)
V2 = VerifierKey("w2", COSIGNATURE_ED25519, W2.public)
TIME_S = 1_679_315_147
LINE1, LINE2 = cosign(TEXT, W1, "w1", TIME_S), cosign(TEXT, W2, "w2", TIME_S + 1)


def test_a_cosignature_has_the_standards_bytes() -> None:
    (line,) = read_lines(LINE1)
    assert line.key_id == V1.id
    (time_s,) = struct.unpack(">Q", line.signature[:8])
    assert time_s == TIME_S
    message = b"cosignature/v1\ntime 1679315147\n" + TEXT
    assert line.signature[8:] == W1.private.sign(message)
    assert str(line) == LINE1


def test_a_verifier_key_reads_as_it_was_written() -> None:
    for one in (V1, LOG.vkey, VerifierKey("w", COSIGNATURE_ML_DSA_44, bytes(1312))):
        assert parse_key(str(one)) == one


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("w1", id="a name alone"),
        pytest.param(str(V1).replace("w1+", "w2+"), id="another name"),
        pytest.param(str(V1)[:-4], id="short"),
        pytest.param(str(V1).replace("w1+", "w 1+"), id="space"),
        pytest.param(f"w1+00000000+{base64.b64encode(bytes([5]) + bytes(32)).decode()}", id="unknown kind"),
        pytest.param("w1+" + "0" * 5000, id="endless"),
        pytest.param("\ud800+00000000+AAAA", id="surrogate"),
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        parse_key(text)


def test_while_keys_change_both_sign_and_either_opens() -> None:
    new = key(2)
    note = LOG.note(7, [new])
    assert len(read_note(note).lines) == 2
    assert open_checkpoint(note, LOG.signer.public) == open_checkpoint(note, new.public)
    both = (LOG.vkey, VerifierKey("gw1", ED25519, new.public))
    assert open_note(note, both, required=2).encode() == TEXT
    assert open_cosigned(note, both).signed == both
    with pytest.raises(NoteError, match="needs"):
        open_note(NOTE, both, required=2)


def test_one_key_twice_is_one_signature() -> None:
    note = sign_note("text\n", [W1, W1], "w1")
    with pytest.raises(NoteError, match="needs"):
        open_note(note, [VerifierKey("w1", ED25519, W1.public)], required=2)


def test_a_quorum_counts_witnesses() -> None:
    found = open_cosigned(NOTE + LINE1 + LINE2, [LOG.vkey], [V1, V2], 2)
    assert found.witnesses == {"w1", "w2"}
    assert [one.time_s for one in found.cosignatures] == [TIME_S, TIME_S + 1]
    assert found.checkpoint.size == 7
    with pytest.raises(CheckpointError, match="1 of the witnesses cosigned, and 2 must"):
        open_cosigned(NOTE + LINE1 + LINE1, [LOG.vkey], [V1, V2], 2)  # the same witness again


def test_two_witnesses_of_which_one_lies_reject_the_note() -> None:
    """Whoever puts another's name under a head makes it worthless rather than stronger."""
    forged = signature_line("w2", V2.id, struct.pack(">Q", TIME_S) + W1.private.sign(b"cosignature/v1\n" + TEXT))
    assert open_cosigned(NOTE + LINE1, [LOG.vkey], [V1, V2], 1).witnesses == {"w1"}
    with pytest.raises(CheckpointError, match="does not verify"):
        open_cosigned(NOTE + LINE1 + forged, [LOG.vkey], [V1, V2], 1)


def test_unknown_keys_and_kinds_are_passed_over() -> None:
    strange = signature_line("w1", b"\x05abc", b"anything at all") + cosign(TEXT, key(99), "w1", TIME_S)
    assert open_cosigned(NOTE + strange + LINE1, [LOG.vkey], [V1], 1).witnesses == {"w1"}
    with pytest.raises(CheckpointError, match="0 of the witnesses"):
        open_cosigned(NOTE + strange, [LOG.vkey], [V1], 1)


def test_a_date_that_was_changed_does_not_verify() -> None:
    (line,) = read_lines(LINE1)
    later = line._replace(signature=struct.pack(">Q", TIME_S + 1) + line.signature[8:])
    with pytest.raises(CheckpointError, match="does not verify"):
        open_cosigned(NOTE + str(later), [LOG.vkey], [V1])
    endless = line._replace(signature=b"\xff" * 8 + line.signature[8:])
    with pytest.raises(CheckpointError, match="out of range"):
        open_cosigned(NOTE + str(endless), [LOG.vkey], [V1])


def test_a_cosignature_of_another_head_does_not_verify() -> None:
    with pytest.raises(CheckpointError, match="does not verify"):
        open_cosigned(LOG.note(8) + LINE1, [LOG.vkey], [V1])


def test_the_logs_own_signature_cannot_be_left_out() -> None:
    with pytest.raises(CheckpointError, match="not signed by a key of this log"):
        open_cosigned(TEXT.decode() + "\n" + LINE1, [LOG.vkey], [V1], 1)


def test_one_key_cannot_be_counted_twice() -> None:
    for witnesses in (
        [V1, VerifierKey("w2", COSIGNATURE_ED25519, W1.public)],
        [VerifierKey("w1", COSIGNATURE_ED25519, LOG.signer.public)],
    ):
        with pytest.raises(ValueError, match="one key"):
            open_cosigned(NOTE, [LOG.vkey], witnesses)


def test_ml_dsa_cosignatures_are_verified_and_count_for_the_same_witness() -> None:
    private = MLDSA44PrivateKey.generate()
    strong = VerifierKey("w1", COSIGNATURE_ML_DSA_44, private.public_key().public_bytes_raw())

    def line(name: str) -> str:
        origin = LOG.origin.encode()
        message = b"subtree/v1\n\0" + bytes([len(name)]) + name.encode() + struct.pack(">Q", TIME_S)
        message += bytes([len(origin)]) + origin + struct.pack(">QQ", 0, 7) + LOG.root(7)
        return signature_line("w1", strong.id, struct.pack(">Q", TIME_S) + private.sign(message))

    note = NOTE + LINE1 + line("w1")
    found = open_cosigned(note, [LOG.vkey], [V1, strong], 1)
    assert found.witnesses == {"w1"}
    assert len(found.cosignatures) == 2
    with pytest.raises(CheckpointError, match="1 of the witnesses"):
        open_cosigned(note, [LOG.vkey], [V1, strong], 2)
    with pytest.raises(CheckpointError, match="does not verify"):  # unlike the older kind, it holds the witness' name
        open_cosigned(NOTE + line("w2"), [LOG.vkey], [strong])


def test_nothing_else_is_raised_whatever_comes() -> None:
    dice = random.Random(5)
    whole = NOTE + LINE1 + LINE2
    texts = [whole, str(V1), LINE1]
    for _ in range(1_500):
        text = dice.choice(texts)
        at = dice.randrange(len(text))
        mutated = (
            text[:at]
            + dice.choice(["", "\n", "+", " ", "—", "\0", "é", "\ud800", "A" * 40])
            + text[at + dice.randrange(3) :]
        )
        for read in (parse_key, read_note, read_lines, lambda t: open_cosigned(t, [LOG.vkey], [V1, V2], 1)):
            with contextlib.suppress(NoteError):
                read(mutated)
