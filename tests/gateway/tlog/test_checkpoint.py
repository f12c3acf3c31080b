"""Signed tree heads: the exact bytes of the standards, and a reader that nothing from outside upsets."""

from __future__ import annotations

import base64
import json
import random
import string
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey

from gateway.errors import ConfigError
from gateway.signing import logkey
from gateway.signing.logkey import LogKey
from gateway.tlog import checkpoint
from gateway.tlog.checkpoint import CheckpointError, open_checkpoint, sign_checkpoint
from gateway.tlog.tree import EMPTY_ROOT

KEY = LogKey.of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = LogKey.of(Ed25519PrivateKey.from_private_bytes(bytes(32)))
ROOT = bytes(range(32, 64))
ORIGIN = "gw1/gw1-w0-20260301T091500Z-9f3c2a"
NOTE = sign_checkpoint(ORIGIN, 81_234, ROOT, KEY, "gw1")
# RFC 8037, appendix A.
RFC_KEY = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")


def test_a_checkpoint_has_the_standards_bytes() -> None:
    text, _, signatures = NOTE.partition("\n\n")
    assert text == f"{ORIGIN}\n81234\n{base64.b64encode(ROOT).decode()}"
    dash, name, encoded = signatures.split(" ")
    assert (dash, name, encoded[-1]) == ("—", "gw1", "\n")
    raw = base64.b64decode(encoded)
    assert raw[:4] == checkpoint.key_id("gw1", KEY.public)
    assert raw[4:] == KEY.private.sign((text + "\n").encode())


def test_key_ids_are_those_of_known_verifier_keys() -> None:
    for known in (
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ):
        name, _, encoded = known.split("+", 2)
        assert checkpoint.verifier_key(name, base64.b64decode(encoded)[1:]) == known


def test_the_signature_of_a_note_that_others_made_holds() -> None:
    note = (
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    key = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:]
    with pytest.raises(CheckpointError, match="at least three lines"):  # signed, and no checkpoint
        open_checkpoint(note, key)
    with pytest.raises(CheckpointError, match="does not verify"):
        open_checkpoint(note.replace("answer", "Answer"), key)


def test_thumbprints_are_those_of_the_standard() -> None:
    assert checkpoint.thumbprint(RFC_KEY) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    jwk = checkpoint.public_jwk(KEY.public)
    assert OKPKey.import_key(jwk).thumbprint() == KEY.thumbprint == jwk["kid"]


def test_what_was_signed_opens() -> None:
    assert open_checkpoint(NOTE, KEY.public) == checkpoint.Checkpoint(ORIGIN, 81_234, ROOT)
    assert open_checkpoint(NOTE, KEY.public, name="gw1").size == 81_234
    empty = sign_checkpoint("o", 0, EMPTY_ROOT, KEY, "gw1")
    assert open_checkpoint(empty, KEY.public).size == 0


def test_further_signatures_and_extension_lines_change_nothing() -> None:
    witness = sign_checkpoint(ORIGIN, 81_234, ROOT, OTHER, "witness.example").partition("\n\n")[2]
    assert open_checkpoint(NOTE + witness, KEY.public).size == 81_234
    assert open_checkpoint(NOTE + witness, OTHER.public, name="witness.example").size == 81_234
    text = f"{ORIGIN}\n1\n{base64.b64encode(ROOT).decode()}\nextension\n"
    assert open_checkpoint(signed(text), KEY.public).size == 1


def signed(text: str, name: str = "gw1") -> str:
    """Any text, signed as a note."""
    raw = checkpoint.key_id(name, KEY.public) + KEY.private.sign(text.encode())
    return f"{text}\n— {name} {base64.b64encode(raw).decode()}\n"


B64 = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"o\n01\n{B64}\n", id="leading zero"),
        pytest.param(f"o\n-1\n{B64}\n", id="below zero"),
        pytest.param(f"o\n+1\n{B64}\n", id="sign"),
        pytest.param(f"o\n1_0\n{B64}\n", id="underscore"),
        pytest.param(f"o\n١\n{B64}\n", id="digits of another script"),
        pytest.param(f"o\n{2**63}\n{B64}\n", id="beyond the integers"),
        pytest.param(f"o\n0\n{B64}\n", id="empty tree with a root"),
        pytest.param(f"o\n5\n{base64.b64encode(EMPTY_ROOT).decode()}\n", id="tree with the empty root"),
        pytest.param(f"o\n5\n{B64[:-1]}\n", id="padding missing"),
        pytest.param(f"o\n5\n{B64[:-2]}9=\n", id="unused bits set"),
        pytest.param("o\n5\nAAAA\n", id="short root"),
        pytest.param(f"\n5\n{B64}\n", id="no origin"),
        pytest.param(f"o\n5\n{B64}\n\nmore\n", id="empty line"),
        pytest.param(f"o\n{B64}\n", id="line missing"),
    ],
)
def test_a_signed_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"size|root|lines"):
        open_checkpoint(signed(text), KEY.public)


@pytest.mark.parametrize(
    "note",
    [
        pytest.param("", id="nothing"),
        pytest.param(NOTE[:-1], id="no newline at the end"),
        pytest.param(NOTE + "\n", id="empty line at the end"),
        pytest.param(NOTE.replace("— ", "- "), id="hyphen"),
        pytest.param(NOTE.replace("— gw1 ", "— "), id="no key name"),
        pytest.param(NOTE.replace("— gw1 ", "— g+w1 "), id="plus in the name"),
        pytest.param(NOTE.replace("— gw1 ", "— g\u00a0w1 "), id="space in the name"),
        pytest.param(NOTE.replace("\n", "\r\n"), id="carriage returns"),
        pytest.param(NOTE.replace("gw1/", "\ud800"), id="surrogate"),
        pytest.param(NOTE.partition("\n\n")[0] + "\n", id="no signature"),
        pytest.param(NOTE.replace("81234", "81235"), id="another size"),
        pytest.param(NOTE + "— gw1 AAAA\n", id="short signature"),
        pytest.param(NOTE + NOTE.partition("\n\n")[2] * 64, id="too many signatures"),
        pytest.param("x" * checkpoint.NOTE_CHARS_MAX + NOTE, id="too long"),
    ],
)
def test_a_note_of_another_form_is_refused(note: str) -> None:
    with pytest.raises(CheckpointError):
        open_checkpoint(note, KEY.public)


def test_another_key_or_name_is_refused() -> None:
    with pytest.raises(CheckpointError, match="not signed by this key"):
        open_checkpoint(NOTE, OTHER.public)
    with pytest.raises(CheckpointError, match="not signed by this key"):
        open_checkpoint(NOTE, KEY.public, name="gw2")
    with pytest.raises(CheckpointError, match="not an Ed25519 key"):
        open_checkpoint(NOTE, b"short")


def test_one_bad_signature_of_the_key_rejects_the_note() -> None:
    forged = base64.b64encode(checkpoint.key_id("gw1", KEY.public) + bytes(64)).decode()
    with pytest.raises(CheckpointError, match="does not verify"):
        open_checkpoint(f"{NOTE}— gw1 {forged}\n", KEY.public)


def test_no_change_of_a_note_opens_as_something_else() -> None:
    """Every changed character is refused or was no part of what is signed; nothing but CheckpointError comes out."""
    dice = random.Random(8032)
    alphabet = string.printable + "—é١\ud800\u2028\u00a0"
    honest = open_checkpoint(NOTE, KEY.public)
    for _ in range(500):
        at, many = dice.randrange(len(NOTE)), dice.choice((0, 1, 1, 3))
        changed = NOTE[:at] + "".join(dice.choices(alphabet, k=dice.choice((0, 1, 2)))) + NOTE[at + many :]
        try:
            assert open_checkpoint(changed, KEY.public) == honest
        except CheckpointError:
            continue


@pytest.mark.parametrize(
    ("origin", "size", "root", "name"),
    [
        pytest.param("", 1, ROOT, "gw1", id="no origin"),
        pytest.param("a\nb", 1, ROOT, "gw1", id="two lines"),
        pytest.param("a\tb", 1, ROOT, "gw1", id="control character"),
        pytest.param("o", -1, ROOT, "gw1", id="below zero"),
        pytest.param("o", 0, ROOT, "gw1", id="empty tree with a root"),
        pytest.param("o", 1, b"short", "gw1", id="short root"),
        pytest.param("o", 1, ROOT, "g w", id="space in the name"),
        pytest.param("o", 1, ROOT, "", id="no name"),
    ],
)
def test_nothing_is_signed_that_no_checkpoint_can_say(origin: str, size: int, root: bytes, name: str) -> None:
    with pytest.raises(ValueError, match=r"origin|size|name"):
        sign_checkpoint(origin, size, root, KEY, name)


def test_the_log_key_is_made_once_and_kept(tmp_path: Path) -> None:
    made = LogKey.load(tmp_path)
    assert LogKey.load(tmp_path).public == made.public
    assert (tmp_path / "keys" / logkey.KEY_NAME).stat().st_mode & 0o777 == 0o600
    seed = (tmp_path / "keys" / logkey.KEY_NAME).read_bytes()
    assert seed.hex() not in repr(made)
    assert repr(seed) not in repr(made)
    (tmp_path / "keys" / logkey.KEY_NAME).write_bytes(b"half")
    with pytest.raises(ConfigError, match="restore it"):
        LogKey.load(tmp_path)
    assert "d" not in json.loads(json.dumps(checkpoint.public_jwk(made.public)))
