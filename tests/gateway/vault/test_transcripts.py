"""Transcripts: encrypted for each user, opened only where they were put, gone with the user's key."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.vault import erasure, subjects, transcripts
from gateway.vault.access import ErasedError, VaultError, opened
from gateway.vault.subjects import name_of
from gateway.vault.transcripts import INLINE_BYTES, Transcripts
from gateway.vault.wrapped import WRAPPED_BYTES
from tests.gateway.audit.samples import check_log
from tests.gateway.vault.samples import DAY_MS, SECRET, call_id, every_file, holding, notes

JANE, JOE = "k1:" + "a" * 32, "k1:" + "b" * 32
NOON = 1_767_225_600_000 + DAY_MS // 2  # 2026-01-01


def keep(data: Path, *exchanges: tuple[str, str | None, bytes], now_ms: int = NOON) -> list[str]:
    async def run() -> list[str]:
        made = Transcripts.open(data, worker=3, now_ms=lambda: now_ms)
        try:
            return [await made.keep(*one) for one in exchanges]
        finally:
            await made.close()

    return asyncio.run(run())


def erase(data: Path, *named: str) -> list[erasure.Erased]:
    with opened(data, "gw") as log:
        return erasure.erase(data, named, "asked by the user", log)


def test_an_exchange_comes_back_as_it_was_and_lies_open_nowhere(tmp_path: Path) -> None:
    small, again, large = call_id(), call_id(), call_id()
    text, long = f'{{"prompt":"{SECRET}"}}'.encode(), SECRET.encode() * (INLINE_BYTES // 16)
    refs = keep(tmp_path, (small, JANE, text), (again, JANE, text), (large, JANE, long), (call_id(), None, text))
    assert [transcripts.read(tmp_path, one) for one in (small, again, large)] == [text, text, long]
    assert transcripts.read(tmp_path, again, refs[1]) == text
    assert refs[0].startswith("20260101/w3-")
    assert len(set(refs)) == 4
    assert holding(tmp_path, SECRET.encode()) == []
    assert all(p.stat().st_mode & 0o077 == 0 for p in every_file(tmp_path))


def test_two_workers_share_a_users_key(tmp_path: Path) -> None:
    one, other = call_id(), call_id()
    keep(tmp_path, (one, JANE, b"first"))
    keep(tmp_path, (other, JANE, b"second"))
    assert len(list((tmp_path / "transcripts").rglob("*.key"))) == 1
    assert transcripts.read(tmp_path, other) == b"second"


def test_after_erasure_nothing_opens_and_the_key_is_gone_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    mine, theirs = call_id(), call_id()
    keep(data, (mine, JANE, b"of jane"), (call_id(), JANE, b"of jane"), (theirs, JOE, b"of joe"))
    keep(data, (call_id(), JANE, b"a month later"), now_ms=NOON + 40 * DAY_MS)
    files = [p for p in (data / "transcripts").rglob("*.key") if p.stem == name_of(JANE)]
    wrapped = [p.read_bytes()[-48:] for p in files]
    assert len(files) == 2
    overwritten, real = [], os.ftruncate

    def ftruncate(handle: int, size: int) -> None:
        overwritten.append(Path(f"/proc/self/fd/{handle}").read_bytes())
        real(handle, size)

    monkeypatch.setattr(os, "ftruncate", ftruncate)
    [done] = erase(data, JANE)
    assert (done.keys, done.transcripts) == (2, 3)
    with pytest.raises(ErasedError):
        transcripts.read(data, mine)
    assert transcripts.read(data, theirs) == b"of joe"
    assert [key for key in wrapped if holding(tmp_path, key)] == []
    assert overwritten == [bytes(WRAPPED_BYTES)] * 2
    assert [path.stat().st_size for path in files] == [0, 0]
    told = notes(data, "erasure")
    assert [(one["what"], one["subject"], one["keys"]) for one in told] == [("begun", JANE, 2), ("done", JANE, 2)]
    check_log(data)
    [again] = erase(data, JANE)
    assert (again.keys, again.transcripts) == (0, 0)


def test_a_worker_takes_a_new_key_once_the_old_one_was_destroyed(tmp_path: Path) -> None:
    before, after = call_id(), call_id()

    async def run() -> None:
        made = Transcripts.open(tmp_path, now_ms=lambda: NOON)
        await made.keep(before, JANE, b"before")
        await made.keep(before[:-1] + "f", JANE, b"at once, with the key at hand")
        for path in (tmp_path / "transcripts").rglob("*.key"):
            subjects.destroy(path)
        await made.keep(after, JANE, b"after")
        await made.close()

    asyncio.run(run())
    assert transcripts.read(tmp_path, after) == b"after"
    with pytest.raises(ErasedError, match="was destroyed"):
        transcripts.read(tmp_path, before)


def test_who_comes_back_after_an_erasure_opens_nothing_that_was_erased(tmp_path: Path) -> None:
    ids = [call_id() for _ in range(3)]
    for number, one in enumerate(ids):
        keep(tmp_path, (one, JANE, b"text"))
        assert transcripts.read(tmp_path, one) == b"text"
        for erased in ids[:number]:
            with pytest.raises(ErasedError, match="was destroyed"):
                transcripts.read(tmp_path, erased)
        [done] = erase(tmp_path, JANE)
        assert (done.keys, done.transcripts) == (1, 1)
    [again] = erase(tmp_path, JANE)
    assert (again.keys, again.transcripts) == (0, 0)


def test_zeros_that_a_kill_left_count_as_destroyed(tmp_path: Path) -> None:
    one = call_id()
    keep(tmp_path, (one, JANE, b"text"))
    [path] = (tmp_path / "transcripts").rglob("*.key")
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ErasedError):
        transcripts.read(tmp_path, one)
    keep(tmp_path, (other := call_id(), JANE, b"new"))
    assert transcripts.read(tmp_path, other) == b"new"


def heads(path: Path) -> list[tuple[int, int]]:
    """(offset of the head, length of the ciphertext) of each frame."""
    return [(frame.at - transcripts._HEAD.size, frame.length) for frame in transcripts.frames_in(path)]


def test_a_ciphertext_opens_nowhere_but_where_it_was_put(tmp_path: Path) -> None:
    one, other = call_id(), call_id()
    keep(tmp_path, (call_id(), JANE, b"warm"), (one, JANE, b"one"), (other, JANE, b"two"))
    path = next(p for p in transcripts.files(tmp_path) if "-b." not in p.name)
    good = path.read_bytes()
    (a, length), (b, _) = heads(path)
    head = transcripts._HEAD.size
    swapped = bytearray(good)  # nonce and ciphertext of one under the call of the other
    swapped[a + 40 : a + head + length], swapped[b + 40 : b + head + length] = (
        good[b + 40 : b + head + length],
        good[a + 40 : a + head + length],
    )
    path.write_bytes(swapped)
    for call in (one, other):
        with pytest.raises(VaultError, match="altered"):
            transcripts.read(tmp_path, call)
    path.write_bytes(good[:8] + good[b:] + good[a:b])  # whole frames change places: they are found by number, and open
    assert transcripts.read(tmp_path, one) == b"one"
    renumbered = bytearray(good)
    renumbered[a + 4 : a + 8] = struct.pack(">I", 9)
    path.write_bytes(renumbered)
    with pytest.raises(VaultError, match="altered"):
        transcripts.read(tmp_path, one)
    path.write_bytes(good)
    moved = path.with_name("w9-00000000.1.tr")
    path.rename(moved)
    with pytest.raises(VaultError, match="altered"):
        transcripts.read(tmp_path, one)


def test_a_flipped_byte_does_not_open_and_a_torn_end_hides_nothing_before_it(tmp_path: Path) -> None:
    one, torn = call_id(), call_id()
    keep(tmp_path, (call_id(), JANE, b"warm"), (one, JANE, b"one"), (torn, JANE, b"torn"))
    path = next(p for p in transcripts.files(tmp_path) if "-b." not in p.name)
    good = path.read_bytes()
    path.write_bytes(good[:-3])
    assert transcripts.read(tmp_path, one) == b"one"
    with pytest.raises(VaultError, match="no transcript"):
        transcripts.read(tmp_path, torn)
    (at, length), _ = heads_of(good, path)
    flipped = bytearray(good)
    flipped[at + transcripts._HEAD.size + length - 1] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(VaultError, match="altered"):
        transcripts.read(tmp_path, one)


def heads_of(content: bytes, path: Path) -> list[tuple[int, int]]:
    path.write_bytes(content)
    return heads(path)


def test_l7_an_altered_key_says_so_without_showing_anything(tmp_path: Path) -> None:
    one = call_id()
    keep(tmp_path, (one, JANE, b"text"))
    [path] = (tmp_path / "transcripts").rglob("*.key")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(VaultError, match="restore") as caught:
        transcripts.read(tmp_path, one)
    assert content.hex() not in str(caught.value)


@pytest.mark.parametrize("ref", ["", "../../etc/passwd/1", "20260101/../1", "20260101/w0-aa.1/x"])
def test_references_that_are_none_are_refused(tmp_path: Path, ref: str) -> None:
    with pytest.raises(VaultError, match="form"):
        transcripts.read(tmp_path, call_id(), ref)


def test_l9_what_is_too_large_is_not_kept_and_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "EXCHANGE_BYTES_MAX", 100)
    monkeypatch.setattr(transcripts, "WAITING_BYTES_MAX", 50)

    async def run() -> None:
        made = Transcripts.open(tmp_path)
        with pytest.raises(VaultError, match="at most"):
            await made.keep(call_id(), JANE, bytes(101))
        with pytest.raises(VaultError, match="wait"):
            await made.keep(call_id(), JANE, bytes(51))
        await made.keep(call_id(), JANE, bytes(50))
        assert (made.kept, made.failed) == (1, 2)
        await made.close()
        with pytest.raises(VaultError):
            await made.keep(call_id(), JANE, b"late")

    asyncio.run(run())


def test_files_are_bounded_and_a_full_disk_leaves_them_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "FILE_BYTES", 200)
    calls = [call_id() for _ in range(8)]
    real = os.writev
    full = [False]

    def writev(handle: int, parts: tuple[bytes, ...]) -> int:
        return os.write(handle, parts[0][:20]) if full[0] else real(handle, parts)

    monkeypatch.setattr(os, "writev", writev)

    async def run() -> None:
        made = Transcripts.open(tmp_path, now_ms=lambda: NOON)
        for n, call in enumerate(calls):
            full[0] = n == 4
            if full[0]:
                with pytest.raises(VaultError, match="make room"):
                    await made.keep(call, JANE, bytes(60))
            else:
                await made.keep(call, JANE, bytes(60))
        await made.close()

    asyncio.run(run())
    read = [call for call in calls if transcripts.find(tmp_path, call) is not None]
    assert read == calls[:4] + calls[5:]
    assert all(transcripts.read(tmp_path, call) == bytes(60) for call in read)
    assert len(list(transcripts.files(tmp_path))) > 3


def test_a_file_whose_head_the_disk_refused_is_not_written_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, full = os.write, [True]

    def write(handle: int, data: bytes) -> int:
        if full[0] and data == transcripts.MAGIC:
            full[0] = False
            raise OSError(errno.ENOSPC, "no space left")
        return real(handle, data)

    monkeypatch.setattr(os, "write", write)
    lost, kept = call_id(), call_id()

    async def run() -> None:
        made = Transcripts.open(tmp_path, now_ms=lambda: NOON)
        with pytest.raises(VaultError, match="no space left"):
            await made.keep(lost, JANE, b"lost")
        await made.keep(kept, JANE, b"kept")
        await made.close()

    asyncio.run(run())
    assert transcripts.read(tmp_path, kept) == b"kept"
    assert transcripts.find(tmp_path, lost) is None


_WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.vault.transcripts import Transcripts

async def run():
    made = Transcripts.open(Path(sys.argv[1]))
    for n in range(1, 100_000):
        call = f"{n:032x}"
        ref = await made.keep(call, f"k1:{n % 7:032x}", call.encode() * (n % 5 * 400 + 1))
        print(call, ref, flush=True)

asyncio.run(run())
"""


@pytest.mark.slow
def test_a_kill_loses_no_transcript_whose_reference_was_given(tmp_path: Path) -> None:
    given = []
    for lines in (5, 40, 200):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            told = [next(child.stdout).split() for _ in range(lines)]
            child.kill()
            told += [line.split() for line in child.stdout if line.endswith("\n")]
        given += told
    assert len(given) > 240
    for call, ref in given:
        n = int(call, 16)
        assert transcripts.read(tmp_path, call, ref) == call.encode() * (n % 5 * 400 + 1)
