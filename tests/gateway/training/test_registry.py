"""What was made under permits is remembered: by all workers, for its owner alone, within bounds."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.training.registry import Made, Registry

FILE = Made("file", "file-1", "tenant:a", "https://up", "m", "d" * 64, (("sha256:1", "sm3:2"),))


def test_what_is_remembered_is_found_by_its_owner_alone(tmp_path: Path) -> None:
    async def run() -> None:
        first, second = Registry(tmp_path / "t.db"), Registry(tmp_path / "t.db")
        await first.remember(FILE)
        consent = Made("consent", "file-1", "tenant:a", "https://up", "m", "d" * 64, consent="grant:1")
        await first.remember(consent)
        assert await second.find("file", "file-1", "tenant:a") == (FILE,)
        assert await second.find("consent", "file-1", "tenant:a") == (consent,)
        assert await second.find("file", "file-1", "tenant:b") == ()
        assert await second.find("job", "file-1", "tenant:a") == ()
        await second.forget(FILE)
        assert await first.find("file", "file-1", "tenant:a") == ()
        await first.remember(FILE)
        await first.close()
        await first.close()
        await second.close()
        third = Registry(tmp_path / "t.db")
        assert await third.find("file", "file-1", "tenant:a") == (FILE,)
        await third.close()

    asyncio.run(run())


def test_ids_of_two_endpoints_are_two_things(tmp_path: Path) -> None:
    async def run() -> None:
        registry = Registry(tmp_path / "t.db")
        other = Made("file", "file-1", "tenant:a", "https://other", "n", "e" * 64)
        await registry.remember(FILE)
        await registry.remember(other)
        await registry.remember(FILE)
        assert set(await registry.find("file", "file-1", "tenant:a")) == {FILE, other}
        await registry.forget(FILE)
        assert await registry.find("file", "file-1", "tenant:a") == (other,)
        await registry.close()

    asyncio.run(run())


def test_l9_a_tenant_has_a_bound_of_its_own(tmp_path: Path) -> None:
    async def run() -> list[int]:
        registry = Registry(tmp_path / "t.db", rows_max=3)
        await registry.remember(FILE)
        for i in range(10):
            await registry.remember(Made("job", f"job-{i}", "tenant:b", "https://up", "m", ""))
        assert await registry.find("file", "file-1", "tenant:a") == (FILE,)
        kept = [i for i in range(10) if await registry.find("job", f"job-{i}", "tenant:b")]
        await registry.close()
        return kept

    assert asyncio.run(run()) == [7, 8, 9]


def test_workers_that_start_at_once_share_it(tmp_path: Path) -> None:
    def worker(number: int) -> None:
        async def run() -> None:
            registry = Registry(tmp_path / "t.db")
            await asyncio.gather(
                *(registry.remember(Made("job", f"{number}-{i}", "tenant:a", "o", "m", "")) for i in range(3))
            )
            await registry.close()

        asyncio.run(run())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(worker, range(4)))

    async def count() -> int:
        registry = Registry(tmp_path / "t.db")
        found = [await registry.find("job", f"{n}-{i}", "tenant:a") for n in range(4) for i in range(3)]
        await registry.close()
        return sum(map(len, found))

    assert asyncio.run(count()) == 12
