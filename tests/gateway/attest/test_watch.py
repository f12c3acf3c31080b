"""A folder's digest for as long as nothing changes; the work of one worker for all of a host."""

from __future__ import annotations

import asyncio
import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.attest import watch as module
from gateway.attest.watch import AGE_S_MAX, WeightsWatch
from gateway.attest.weights import Hashed, hash_model
from tests.gateway.attest.samples import write_model

PATIENCE_S = 20.0
LOOK_S = 0.03


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The processes that were started to hash."""
    seen: list[list[str]] = []
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        seen.append(command)
        return real(command, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    return seen


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE_S))


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def digest_of(watch: WeightsWatch) -> str | None:
    return watch.hashed.root if watch.hashed is not None else None


def test_there_is_a_digest_once_hashed_and_none_from_the_look_that_sees_a_change(model: Path) -> None:
    async def test() -> None:
        watch = WeightsWatch(model, look_s=LOOK_S)
        await watch.start()
        assert watch.hashed is None
        first = hash_model(model).root
        await until(lambda: digest_of(watch) == first)
        (model / "adapter.safetensors").write_bytes(b"more")
        seen: list[str | None] = []

        def other() -> bool:
            seen.append(digest_of(watch))
            return seen[-1] not in (None, first)

        await until(other)
        assert seen[-1] == hash_model(model).root
        assert None in seen, "between the two there was none"
        assert first not in seen[seen.index(None) :]
        await watch.close()
        await watch.close()

    run(test())


@pytest.mark.slow
def test_l1_a_link_put_into_the_folder_ends_the_digest(model: Path) -> None:
    async def test() -> None:
        watch = WeightsWatch(model, look_s=LOOK_S)
        await watch.start()
        await until(lambda: watch.hashed)
        (model / "x").symlink_to("/etc/hostname")
        await until(lambda: watch.hashed is None)
        assert "a link" in (watch.problem or "")
        (model / "x").unlink()
        await until(lambda: watch.hashed)
        assert watch.problem is None
        await watch.close()

    run(test())


@pytest.mark.slow
def test_a_folder_that_comes_later_is_hashed_then(tmp_path: Path) -> None:
    async def test() -> None:
        watch = WeightsWatch(tmp_path / "later", look_s=LOOK_S)
        await watch.start()
        assert watch.problem is not None
        write_model(tmp_path / "later")
        await until(lambda: watch.hashed)
        await watch.close()

    run(test())


@pytest.mark.slow
def test_l1_a_watch_that_cannot_look_vouches_for_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        watch = WeightsWatch(model, look_s=LOOK_S)
        await watch.start()
        await until(lambda: watch.hashed)

        def broken(_: Path) -> None:
            raise RuntimeError("no such luck")

        monkeypatch.setattr(module, "look", broken)
        await until(lambda: watch.hashed is None)
        monkeypatch.undo()
        await until(lambda: watch.hashed)
        await watch.close()

    run(test())


def test_workers_of_a_host_hash_once(model: Path, tmp_path: Path, runs: list[list[str]]) -> None:
    async def test() -> None:
        shared = tmp_path / "data" / "weights"
        workers = [WeightsWatch(model, shared, look_s=LOOK_S) for _ in range(4)]
        for worker in workers:
            await worker.start()
        await until(lambda: all(worker.hashed for worker in workers))
        assert len({digest_of(worker) for worker in workers}) == 1
        assert len(runs) == 1
        late = WeightsWatch(model, shared, look_s=LOOK_S)
        await late.start()
        assert late.hashed is not None, "the result of the others counts at its first look"
        for worker in (*workers, late):
            await worker.close()
        assert len(runs) == 1
        assert (shared.stat().st_mode & 0o777) == 0o700

    run(test())


def test_a_worker_waits_for_the_one_that_holds_the_lock_and_takes_over_when_that_dies(
    model: Path, tmp_path: Path, runs: list[list[str]]
) -> None:
    async def test() -> None:
        watch = WeightsWatch(model, tmp_path / "weights", look_s=LOOK_S)
        with watch._lock() as mine:
            assert mine
        (lock,) = (tmp_path / "weights").glob("*.lock")
        # Another process holds the lock, as a worker that hashes does.
        code = "import fcntl,os,sys; f=os.open(sys.argv[1],os.O_RDWR); fcntl.flock(f,fcntl.LOCK_EX); print(1,flush=True); sys.stdin.read()"
        holder = subprocess.Popen(  # our own interpreter
            [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"1\n"
            runs.clear()
            tried: list[bool] = []
            real = fcntl.flock

            def flock(handle: int, how: int) -> None:
                tried.append(True)
                real(handle, how)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(fcntl, "flock", flock)
                await watch.start()
                await until(lambda: len(tried) >= 2)
            assert (watch.hashed, runs) == (None, [])
            holder.kill()
        await until(lambda: watch.hashed)
        assert len(runs) == 1
        await watch.close()

    run(test())


SPOILT: list[tuple[str, Callable[[Hashed], Hashed | bytes]]] = [
    ("of another start of the host", lambda h: msgspec.structs.replace(h, boot="another", root="sha256:forged")),
    ("of other files", lambda h: msgspec.structs.replace(h, fingerprint="another", root="sha256:forged")),
    ("of the day before", lambda h: msgspec.structs.replace(h, at_s=time.time() - AGE_S_MAX, root="sha256:forged")),
    ("of tomorrow", lambda h: msgspec.structs.replace(h, at_s=time.time() + 3600, root="sha256:forged")),
    ("half written", lambda h: msgspec.json.encode(h)[:-9]),
    ("something else", lambda _: b"[]"),
]


@pytest.mark.parametrize("spoil", [pytest.param(spoil, id=name) for name, spoil in SPOILT])
def test_l1_a_left_result_that_does_not_count_is_not_taken_up(
    model: Path, tmp_path: Path, spoil: Callable[[Hashed], Hashed | bytes]
) -> None:
    async def test() -> None:
        good = hash_model(model)
        for made, counts in ((good, True), (spoil(good), False)):
            watch = WeightsWatch(model, tmp_path)
            data = made if isinstance(made, bytes) else msgspec.json.encode(made)
            (tmp_path / f"{watch._name}.json").write_bytes(data)
            await watch.start()
            assert (watch.hashed is not None) is counts
            await watch.close()

    run(test())


@pytest.mark.slow
def test_an_old_result_counts_while_the_files_are_read_again(
    model: Path, tmp_path: Path, runs: list[list[str]]
) -> None:
    async def test() -> None:
        watch = WeightsWatch(model, tmp_path, look_s=LOOK_S)
        old = msgspec.structs.replace(hash_model(model), at_s=time.time() - AGE_S_MAX + 60)
        (tmp_path / f"{watch._name}.json").write_bytes(msgspec.json.encode(old))
        await watch.start()
        assert watch.hashed == old
        await until(lambda: watch.hashed is None or watch.hashed.at_s > old.at_s)
        assert digest_of(watch) == old.root
        assert len(runs) == 1
        await watch.close()

    run(test())


def sparse(folder: Path, size: int) -> Path:
    """A model that takes long to read and no room."""
    folder.mkdir()
    with (folder / "big").open("wb") as file:
        file.truncate(size)
    return folder


def test_closing_ends_the_process_that_hashes(tmp_path: Path, runs: list[list[str]]) -> None:
    async def test() -> None:
        watch = WeightsWatch(sparse(tmp_path / "m", 1 << 36), look_s=LOOK_S)
        await watch.start()
        await until(lambda: watch._child)
        child = watch._child
        assert child is not None
        await watch.close()
        assert child.returncode is not None
        assert watch.hashed is None
        assert len(runs) == 1

    run(test())


@pytest.mark.slow
def test_what_changes_while_it_is_hashed_is_begun_anew(tmp_path: Path, runs: list[list[str]]) -> None:
    async def test() -> None:
        folder = sparse(tmp_path / "m", 1 << 36)
        watch = WeightsWatch(folder, look_s=LOOK_S)
        await watch.start()
        await until(lambda: watch._child)
        with (folder / "big").open("r+b") as file:
            file.truncate(1000)
        await until(lambda: watch.hashed)
        assert digest_of(watch) == hash_model(folder).root
        assert len(runs) == 2
        assert watch.problem is None
        await watch.close()

    run(test())


@pytest.mark.slow
def test_a_process_that_dies_is_tried_again_later(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    attempts = 0
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        nonlocal attempts
        attempts += 1
        return real([sys.executable, "-c", "raise SystemExit(9)"] if attempts == 1 else command, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)

    async def test() -> None:
        watch = WeightsWatch(model, look_s=LOOK_S)
        await watch.start()
        await until(lambda: watch.problem)
        assert watch.hashed is None
        await until(lambda: watch.hashed)
        assert (attempts, watch.problem) == (2, None)
        await watch.close()

    run(test())


def test_results_that_cannot_be_left_are_no_results(model: Path, tmp_path: Path) -> None:
    """A folder that is a file: L1, and the reason is told."""

    async def test() -> None:
        (tmp_path / "weights").write_bytes(b"")
        watch = WeightsWatch(model, tmp_path / "weights", look_s=LOOK_S)
        await watch.start()
        await until(lambda: watch.problem)
        assert watch.hashed is None
        await watch.close()

    run(test())
    assert (tmp_path / "weights").is_file()
