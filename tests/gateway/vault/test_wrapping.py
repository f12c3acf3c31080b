"""Keys that wrap keys of end users: another one comes, what older ones wrapped is read and erased as before, and they go with the last of it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.settings.audit import Retention
from gateway.vault import cli, erasure, past, pruning, subjects, transcripts, wrapping
from gateway.vault.access import ErasedError, MissingError, VaultError, opened
from gateway.vault.subjects import name_of
from gateway.vault.wrapped import in_use, users_keys
from tests.fakes.commands import commands
from tests.gateway.vault.samples import DAY_MS, call_id, every_file, notes
from tests.gateway.vault.test_transcripts import JANE, JOE, NOON, keep

run = commands(cli.transcript_app)
LATER = NOON + 40 * DAY_MS  # another month


def rotate(data: Path) -> tuple[int, int]:
    with opened(data, "gw") as log:
        return wrapping.rotate(data, "every year", log)


def prune(data: Path, now_ms: int) -> list[str]:
    """The wrapping keys that went."""
    done = pruning.run(data, "gw", Retention(), (), dry=False, now_ms=lambda: now_ms)
    return [path.name for path in done.files.wraps]


def test_what_older_keys_wrapped_is_read_and_erased_after_rotations(tmp_path: Path) -> None:
    first, same, joes, later = (call_id() for _ in range(4))
    keep(tmp_path, (first, JANE, b"first"))
    assert rotate(tmp_path) == (1, 2)
    keep(tmp_path, (same, JANE, b"same month"), (joes, JOE, b"of joe"))
    assert in_use(users_keys(tmp_path)) == {1: 1, 2: 1}  # her key of this month is the one that she had
    assert rotate(tmp_path) == (2, 3)
    keep(tmp_path, (later, JANE, b"next month"), now_ms=LATER)
    assert in_use(users_keys(tmp_path)) == {1: 1, 2: 1, 3: 1}
    assert [transcripts.read(tmp_path, one) for one in (first, same, joes, later)] == [
        b"first",
        b"same month",
        b"of joe",
        b"next month",
    ]
    assert all(p.stat().st_mode & 0o077 == 0 for p in (tmp_path / "keys").iterdir())
    with opened(tmp_path, "gw") as log:
        [done] = erasure.erase(tmp_path, [JANE], "asked by the user", log)
    assert (done.keys, done.transcripts) == (2, 3)
    for one in (first, same, later):
        with pytest.raises(ErasedError):
            transcripts.read(tmp_path, one)
    assert transcripts.read(tmp_path, joes) == b"of joe"
    told = [{**note, "by": ""} for note in notes(tmp_path, "key_change")]
    assert [(one["from"], one["to"], one["state"]) for one in told] == [
        (1, 2, "begun"),
        (1, 2, "done"),
        (2, 3, "begun"),
        (2, 3, "done"),
    ]


def test_a_running_worker_takes_the_new_key_up(tmp_path: Path) -> None:
    keys = subjects.SubjectKeys(tmp_path)
    keys.get("202601", name_of(JANE))
    rotate(tmp_path)
    keys.get("202601", name_of(JOE))
    assert in_use(users_keys(tmp_path)) == {1: 1, 2: 1}


def test_an_older_key_goes_with_the_last_that_it_wrapped_and_its_number_never_comes_back(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    first, second = call_id(), call_id()
    keep(tmp_path, (first, JANE, b"first"))
    wrap = tmp_path / "keys" / "transcript-1.key"
    os.link(wrap, tmp_path / "aside")
    rotate(tmp_path)
    keep(tmp_path, (second, JANE, b"second"), now_ms=LATER)
    assert prune(tmp_path, NOON + 5 * DAY_MS) == []
    assert prune(tmp_path, NOON + 70 * DAY_MS) == ["transcript-1.key"]
    assert (tmp_path / "aside").read_bytes() == b""  # where it lay, not only its name
    assert transcripts.read(tmp_path, second) == b"second"
    assert prune(tmp_path, NOON + 70 * DAY_MS) == []
    assert prune(tmp_path, LATER + 400 * DAY_MS) == []  # the newest wraps what comes next
    assert rotate(tmp_path) == (2, 3)
    assert prune(tmp_path, LATER + 400 * DAY_MS) == ["transcript-2.key"]
    told = [one for one in notes(tmp_path, "pruned") if one["what"] == "transcript key"]
    assert [(one["key"], one["adopted"]) for one in told] == [("transcript-1", False), ("transcript-2", False)]
    rows = orjson.loads(run("keys", "--data", tmp_path, "--json").output)
    assert [(row["key"], row["state"], row["wraps"]) for row in rows] == [
        ("transcript-1", "destroyed", 0),
        ("transcript-2", "destroyed", 0),
        ("transcript-3", "wraps", 0),
    ]


def test_a_key_that_wrapped_something_since_the_plan_is_not_destroyed(tmp_path: Path) -> None:
    one = call_id()
    keep(tmp_path, (one, JANE, b"text"))
    rotate(tmp_path)
    [key] = (tmp_path / "transcripts").rglob("*.key")
    key.rename(aside := tmp_path / "aside")
    made = past.plan(tmp_path, Retention(), NOON)
    assert [path.name for path in made.wraps] == ["transcript-1.key"]
    aside.rename(key)
    with opened(tmp_path, "gw") as log:
        past.prune(tmp_path, made, Retention(), log)
    assert transcripts.read(tmp_path, one) == b"text"


def test_files_of_before_wrapping_keys_had_numbers_are_read(tmp_path: Path) -> None:
    one = call_id()
    keep(tmp_path, (one, JANE, b"text"))
    [path] = (tmp_path / "transcripts").rglob("*.key")
    wrap, content = AESGCM((tmp_path / "keys" / "transcript-1.key").read_bytes()), path.read_bytes()
    bound = b"\n202601\n" + path.stem.encode()
    plain = wrap.decrypt(content[12:24], content[24:], b"licet transcript key v2" + bound + b"\n1")
    nonce = secrets.token_bytes(12)
    path.write_bytes(b"licettk1" + nonce + wrap.encrypt(nonce, plain, b"licet transcript key v1" + bound))
    rotate(tmp_path)
    assert transcripts.read(tmp_path, one) == b"text"
    assert in_use(users_keys(tmp_path)) == {1: 1}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"transcript-1\.key is missing, .* restore it"),
        (b"short", "this key has 32 bytes, the file has 5; restore it"),
        (bytes(range(32)), r"wrapped by another key than keys/transcript-1\.key; restore either"),
        (bytes(32), r"transcript-1\.key was destroyed"),
    ],
)
def test_l7_a_wrong_or_missing_key_is_told_by_its_name(tmp_path: Path, content: bytes | None, told: str) -> None:
    one = call_id()
    keep(tmp_path, (one, JANE, b"text"))
    path = tmp_path / "keys" / "transcript-1.key"
    rotate(tmp_path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VaultError, match=told):
        transcripts.read(tmp_path, one)
    assert path.exists() == (content is not None)  # looking makes no key


def test_the_command_rotates_with_a_reason_and_says_when_there_is_nothing_to(tmp_path: Path) -> None:
    with opened(tmp_path, "gw"), pytest.raises(MissingError, match="no transcript was kept"):
        rotate(tmp_path)
    assert run("rotate", "--data", tmp_path, "--reason", "every year").exit_code == 1
    keep(tmp_path, (call_id(), JANE, b"text"))
    assert run("rotate", "--data", tmp_path).exit_code == 2
    done = run("rotate", "--data", tmp_path, "--reason", "every year", "--json")
    assert (done.exit_code, orjson.loads(done.output)) == (0, {"from": 1, "to": 2})
    shown = run("keys", "--data", tmp_path).output
    assert "transcript-1" in shown
    assert "opens" in shown
    keys = [path.read_bytes() for path in (tmp_path / "keys").glob("transcript-*.key")]
    for path in every_file(tmp_path / "journal"):
        assert not any(key in path.read_bytes() or key.hex().encode() in path.read_bytes() for key in keys)


def _killed_at(step: int, data: Path) -> bool:
    """Rotate in a process that is killed behind that step; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count() -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            with opened(data, "gw") as log:
                wrapping.rotate(data, "every year", log, count)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.slow
def test_a_kill_between_the_steps_of_a_rotation_leaves_what_the_next_one_finishes(tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        data = tmp_path / str(step)
        before, after = call_id(), call_id()
        keep(data, (before, JANE, b"before"))
        if not _killed_at(step, data):
            break
        assert transcripts.read(data, before) == b"before"
        old, new = rotate(data)
        assert (old, new) == (step, step + 1)  # the second kill left a key that wraps
        keep(data, (after, JOE, b"after"))
        assert in_use(users_keys(data)) == {1: 1, new: 1}
        assert [transcripts.read(data, one) for one in (before, after)] == [b"before", b"after"]
        assert [one["state"] for one in notes(data, "key_change")] == ["begun", "begun", "done"]
    assert step == 3


_WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.vault.transcripts import Transcripts

async def run():
    made = Transcripts.open(Path(sys.argv[1]))
    for n in range(1, 100_000):
        call = f"{n:032x}"
        ref = await made.keep(call, f"k1:{n:032x}", call.encode())
        print(call, ref, flush=True)

asyncio.run(run())
"""


def _told(child: subprocess.Popen[str]) -> Iterator[list[str]]:
    assert child.stdout is not None
    return (line.split() for line in child.stdout if line.endswith("\n"))


@pytest.mark.slow
def test_rotations_and_pruning_beside_a_worker_that_is_killed_leave_all_readable(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        told = _told(child)
        given = [next(told) for _ in range(3)]
        for _ in range(12):
            rotate(tmp_path)
            pruning.run(tmp_path, "gw", Retention(), (), dry=False)
            given += [next(told) for _ in range(5)]
        child.kill()
        given += told
    assert len(given) > 60
    assert len(in_use(users_keys(tmp_path))) > 6
    for call, ref in given:
        assert transcripts.read(tmp_path, call, ref) == call.encode()
