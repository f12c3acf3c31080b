"""A command that signs is trusted with nothing but the signature, and that is verified."""

from __future__ import annotations

import base64
import os
import shutil
import time
from pathlib import Path

import pytest

from gateway.signing.command import CommandSigner
from tests.fakes.signed_log import key

KEY = key(1)
MESSAGE = b"gw1/s\n5\nAAAA\n"
SIGNATURE = KEY.sign(MESSAGE)
SH = shutil.which("sh") or "/bin/sh"


def signer(tmp_path: Path, script: str, answer: bytes = SIGNATURE, timeout_s: float = 20.0) -> CommandSigner:
    (tmp_path / "answer").write_bytes(answer)
    return CommandSigner((SH, "-c", f"cd {tmp_path}; {script}"), KEY.public, timeout_s=timeout_s)


@pytest.mark.parametrize(
    "answer",
    [SIGNATURE, base64.b64encode(SIGNATURE), base64.encodebytes(SIGNATURE) + b"\n"],
    ids=["raw", "base64", "lines"],
)
def test_bytes_and_base64_are_signatures(tmp_path: Path, answer: bytes) -> None:
    command = signer(tmp_path, "cat > message; cat answer", answer)
    assert command.sign(MESSAGE) == SIGNATURE
    assert (tmp_path / "message").read_bytes() == MESSAGE


def test_a_command_that_does_not_read_may_answer_all_the_same(tmp_path: Path) -> None:
    assert signer(tmp_path, "exec < /dev/null; cat answer").sign(MESSAGE) == SIGNATURE


@pytest.mark.parametrize(
    ("script", "answer", "told"),
    [
        pytest.param("cat answer; exit 3", SIGNATURE, "status 3", id="exit code"),
        pytest.param("cat answer", key(2).sign(MESSAGE), "another key", id="another key"),
        pytest.param("cat answer", KEY.sign(b"another"), "another key", id="another message"),
        pytest.param("cat answer", SIGNATURE[:-1], "neither|bytes", id="short"),
        pytest.param("cat answer", b"", "0 bytes", id="nothing"),
        pytest.param("cat answer", b"A" * 5000, "more than a signature", id="endless"),
        pytest.param("cat answer >&2", SIGNATURE, "0 bytes", id="the wrong stream"),
    ],
)
def test_what_is_no_signature_of_this_key_is_refused(tmp_path: Path, script: str, answer: bytes, told: str) -> None:
    with pytest.raises(OSError, match=told):
        signer(tmp_path, f"cat > message; {script}", answer).sign(MESSAGE)


def test_a_command_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    command = signer(tmp_path, "echo $$ > pid; sleep 60 & echo $! > child; sleep 60", timeout_s=0.5)
    with pytest.raises(OSError, match="in time"):
        command.sign(MESSAGE)
    deadline = time.monotonic() + 10
    for name in ("pid", "child"):
        while _runs(int((tmp_path / name).read_text())):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_command_that_closes_its_output_and_stays_is_killed(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="did not end"):
        signer(tmp_path, "cat answer; exec >&-; sleep 60", timeout_s=0.5).sign(MESSAGE)


def test_no_command_and_too_long_a_message_are_errors_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        CommandSigner((str(tmp_path / "none"),), KEY.public).sign(MESSAGE)
    with pytest.raises(OSError, match="at most"):
        signer(tmp_path, "cat answer").sign(bytes(5000))
    for command, public in (((), KEY.public), (("true",), b"short")):
        with pytest.raises(ValueError, match="32 bytes"):
            CommandSigner(command, public)


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie, whose parent is the one to bury it."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
