"""A signer that remembers: it signs heads of logs, none of which goes back, and nothing else."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.audit.journal import Journal
from gateway.seal.sealer import Sealer
from gateway.signing import cli
from gateway.signing.command import CommandSigner
from gateway.signing.guard import CHANGE_NAME, SIGNED_NAME, RefusedError, allow_change, sign
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import open_checkpoint, sign_checkpoint
from gateway.tlog.keys import KeyChange
from gateway.tlog.note import ED25519, VerifierKey
from gateway.tlog.verify import Trust, check
from tests.gateway.audit.samples import open_journal

ROOT, OTHER = b"\x01" * 32, b"\x02" * 32


class Guarded:
    """As `Signer`, in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.public = LogKey.load(folder).public

    def sign(self, message: bytes) -> bytes:
        return sign(self.folder, message)


def head(folder: Path, size: int, root: bytes = ROOT, origin: str = "gw/s") -> str:
    signer = Guarded(folder)
    note = sign_checkpoint(origin, size, root, signer, "gw")
    assert open_checkpoint(note, signer.public).size == size
    return note


def test_heads_that_grow_are_signed_and_so_is_the_same_again(tmp_path: Path) -> None:
    for size in (1, 5, 5, 9):
        head(tmp_path, size)
    head(tmp_path, 2, origin="gw/another")


@pytest.mark.parametrize(("size", "root"), [pytest.param(4, ROOT, id="smaller"), pytest.param(5, OTHER, id="another")])
def test_no_head_goes_back_and_none_has_two_roots(tmp_path: Path, size: int, root: bytes) -> None:
    head(tmp_path, 5)
    with pytest.raises(RefusedError):
        head(tmp_path, size, root)
    head(tmp_path, 6, OTHER)  # whether it goes on from the five, a witness knows, and not this signer


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"pay 100", id="no head"),
        pytest.param(b"gw/s\n05\nAAAA\n", id="a head that is none"),
        pytest.param(b"\xff" * 40, id="no text"),
        pytest.param(b"x" * 5000, id="too long"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_nothing_else_is_signed(tmp_path: Path, message: bytes) -> None:
    with pytest.raises(RefusedError):
        sign(tmp_path, message)


def test_a_change_of_keys_is_signed_when_told_to(tmp_path: Path) -> None:
    old, new = (VerifierKey("gw", ED25519, bytes((n,)) * 32) for n in (1, 2))
    text = KeyChange(old, new, 1, 2).text.encode()
    with pytest.raises(RefusedError, match="--key-change"):
        sign(tmp_path, text)
    assert len(sign(tmp_path, text, key_change=True)) == 64


def test_a_rotation_to_the_key_that_was_allowed_is_signed_once(tmp_path: Path) -> None:
    """The command of the settings asks for no more than heads; whoever runs the sealer cannot hand the log over."""
    old, new, another = (VerifierKey("gw", ED25519, LogKey.load(tmp_path / f"{n}").public) for n in range(3))
    change = KeyChange(old, new, 1, 2).text.encode()
    allowed = CliRunner().invoke(cli.app, ["sign", "--data", str(tmp_path / "0"), "--allow-change", str(another)])
    assert allowed.exit_code == 0, allowed.output
    with pytest.raises(RefusedError, match="--allow-change"):
        sign(tmp_path / "0", change)
    for folder in ("0", "1"):
        allow_change(tmp_path / folder, new)
        with pytest.raises(RefusedError, match="--allow-change"):  # and leaves it for the one that was meant
            sign(tmp_path / folder, KeyChange(old, another, 1, 2).text.encode())
        assert len(sign(tmp_path / folder, change)) == 64
        with pytest.raises(RefusedError, match="--allow-change"):
            sign(tmp_path / folder, change)
    allow_change(tmp_path / "0", new)
    leave = tmp_path / "0" / SIGNED_NAME / CHANGE_NAME
    leave.write_text(f"{new}\n9999999999\n")  # longer than anybody can allow
    with pytest.raises(RefusedError, match="--allow-change"):
        sign(tmp_path / "0", change)
    assert CliRunner().invoke(cli.app, ["sign", "--data", str(tmp_path), "--allow-change", "x"]).exit_code == 2


def test_l1_without_its_memory_it_signs_nothing_of_that_log(tmp_path: Path) -> None:
    head(tmp_path, 5)
    (memory,) = (p for p in (tmp_path / SIGNED_NAME).iterdir() if not p.name.startswith("."))
    assert memory.name == hashlib.sha256(b"gw/s").hexdigest()
    memory.write_bytes(b"rubbish")
    with pytest.raises(RefusedError, match="restore"):
        head(tmp_path, 6)


@pytest.mark.slow
def test_a_sealer_signs_through_it_and_holds_no_key(tmp_path: Path) -> None:
    """As a command in a process of its own; only the public key is told to the sealer."""
    import asyncio

    async def write() -> None:
        journal: Journal = open_journal(tmp_path / "data")
        await journal.close()

    keys = tmp_path / "keys"
    public = LogKey.load(keys).public
    asyncio.run(write())
    command = [sys.executable, "-m", "gateway", "audit", "key", "sign", "--data", str(keys)]
    done = Sealer(tmp_path / "data", "gw", CommandSigner(command, public)).round()
    assert done.problems == {}
    report = check([str(tmp_path / "data")], Trust((VerifierKey("gw", ED25519, public),)))
    assert report.ok
    assert all(one.signed_by for one in report.streams)
    assert not list((tmp_path / "data").rglob("*.key"))
