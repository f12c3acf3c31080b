"""Keys are checked by digest, limits are kept, slots come back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from gateway.callers import Admission, Caller, Callers, Denied, Limiter, new_key
from gateway.errors import ConfigError
from gateway.reasons import Reason
from gateway.state import Hit, MemoryState
from policies import CallerFacts

FACTS = CallerFacts("app")


@dataclass(frozen=True)
class Entry:
    name: str
    key_sha256: str | None = None
    models: tuple[str, ...] = ("chat",)
    anonymous: bool = False
    facts: CallerFacts = FACTS
    rate_per_minute: int | None = None
    concurrent: int | None = None
    since_s: int | None = None


KEY, DIGEST = "lk-one", hashlib.sha256(b"lk-one").hexdigest()
OTHER = hashlib.sha256(b"lk-two").hexdigest()
APP = Entry("app", DIGEST, facts=CallerFacts("app", tenant="acme"))
TWO = Entry("two", OTHER)
LAN = Entry("lan", anonymous=True)

Headers = list[tuple[bytes, bytes]]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([(b"authorization", b"Bearer lk-one")], "app", id="bearer"),
        pytest.param([(b"authorization", b"bearer  lk-one")], "app", id="scheme in lower case"),
        pytest.param([(b"x-api-key", b"lk-one")], "app", id="x-api-key"),
        pytest.param([(b"x-api-key", b"lk-two")], "two", id="another key"),
        pytest.param([(b"authorization", b"Bearer lk-one"), (b"x-api-key", b"lk-one")], "app", id="both, equal"),
        pytest.param(
            [(b"authorization", b"Bearer lk-one"), (b"x-api-key", b"lk-two")], Reason.AUTH_INVALID, id="both, different"
        ),
        pytest.param([(b"authorization", b"Bearer lk-one")] * 2, Reason.AUTH_INVALID, id="bearer twice"),
        pytest.param([(b"x-api-key", b"lk-one")] * 2, Reason.AUTH_INVALID, id="x-api-key twice"),
        pytest.param([(b"authorization", b"Basic bGstb25lOg==")], Reason.AUTH_INVALID, id="basic"),
        pytest.param([(b"authorization", b"lk-one")], Reason.AUTH_INVALID, id="no scheme"),
        pytest.param([(b"authorization", b"Bearer ")], Reason.AUTH_INVALID, id="empty bearer"),
        pytest.param([(b"x-api-key", b"")], Reason.AUTH_INVALID, id="empty x-api-key"),
        pytest.param([(b"x-api-key", b"lk-ONE")], Reason.AUTH_INVALID, id="other case"),
        pytest.param([(b"x-api-key", b"lk-one\xff")], Reason.AUTH_INVALID, id="not ASCII"),
        pytest.param([(b"x-api-key", DIGEST.encode())], Reason.AUTH_INVALID, id="the digest is no key"),
        pytest.param([(b"x-api-key", b"k" * 60_000)], Reason.AUTH_INVALID, id="over-long"),
        pytest.param([], Reason.AUTH_MISSING, id="none"),
        pytest.param([(b"api-key", b"lk-one")], Reason.AUTH_MISSING, id="a header that is not read"),
    ],
)
def test_authenticate(headers: Headers, expected: str | Reason) -> None:
    found = Callers([APP, TWO]).authenticate(headers)
    assert (found.name if isinstance(found, Caller) else found) == expected


def test_l8_the_tenant_comes_from_the_entry() -> None:
    found = Callers([APP]).authenticate([(b"x-api-key", KEY.encode()), (b"x-tenant", b"evil")])
    assert isinstance(found, Caller)
    assert found.facts.tenant == "acme"
    assert found.may_use("chat")
    assert not found.may_use("other")


def test_no_key_is_refused_unless_an_anonymous_entry_stands() -> None:
    assert Callers([APP]).authenticate([]) is Reason.AUTH_MISSING
    callers = Callers([APP, LAN])
    found = callers.authenticate([])
    assert isinstance(found, Caller)
    assert found.name == "lan"
    assert callers.anonymous is found
    assert callers.authenticate([(b"x-api-key", b"wrong")]) is Reason.AUTH_INVALID


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        pytest.param([Entry("a")], "callers.a: key_sha256 is missing", id="no key"),
        pytest.param([Entry("a", "abc")], "64 hexadecimal digits", id="short digest"),
        pytest.param([Entry("a", "z" * 64)], "64 hexadecimal digits", id="not hexadecimal"),
        pytest.param([Entry("a", DIGEST), Entry("b", DIGEST.upper())], "same key_sha256", id="one key twice"),
        pytest.param([Entry("a", DIGEST), Entry("a", OTHER)], "has this name", id="one name twice"),
        pytest.param([Entry("a", DIGEST, anonymous=True)], "exclude each other", id="anonymous with a key"),
        pytest.param([Entry("a", anonymous=True), Entry("b", anonymous=True)], "second anonymous", id="two anonymous"),
    ],
)
def test_entries_that_cannot_be_meant_stop_the_start(entries: list[Entry], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Callers(entries)
    assert len(caught.value.problems) == 1
    assert line in caught.value.problems[0]
    assert DIGEST not in str(caught.value)


def test_a_new_key_is_accepted_and_its_digest_alone_is_stored() -> None:
    key, digest = new_key()
    assert key.startswith("lk-")
    assert len(key) == 46
    found = Callers([Entry("fresh", digest)]).authenticate([(b"authorization", f"Bearer {key}".encode())])
    assert isinstance(found, Caller)
    assert new_key()[0] != key


class Clock:
    def __init__(self) -> None:
        self.now = 600.0  # the start of a window

    def __call__(self) -> float:
        return self.now


def caller(name: str = "app", rate: int | None = None, concurrent: int | None = None) -> Caller:
    return Caller(name, CallerFacts(name), frozenset({"chat"}), False, rate, concurrent)


def test_a_rate_is_kept_and_says_when_to_come_back() -> None:
    async def main() -> None:
        clock = Clock()
        limiter = Limiter(MemoryState(clock=clock))
        one = caller(rate=3)
        for _ in range(3):
            admitted = await limiter.admit(one, "chat")
            assert isinstance(admitted, Admission)
        denied = await limiter.admit(one, "chat")
        assert isinstance(denied, Denied)
        assert (denied.reason, denied.limit) == (Reason.RATE_LIMITED, "caller_rate")
        assert isinstance(await limiter.admit(caller("other", rate=3), "chat"), Admission)
        clock.now += denied.retry_after_s - 1.01
        assert isinstance(await limiter.admit(one, "chat"), Denied)
        clock.now += 1.01
        assert isinstance(await limiter.admit(one, "chat"), Admission)

    asyncio.run(main())


def test_a_models_rate_is_shared_by_its_callers() -> None:
    async def main() -> None:
        limiter = Limiter(MemoryState(clock=Clock()))
        for name in ("a", "b"):
            assert isinstance(await limiter.admit(caller(name), "chat", model_rate_per_minute=2), Admission)
        denied = await limiter.admit(caller("c"), "chat", model_rate_per_minute=2)
        assert isinstance(denied, Denied)
        assert denied.limit == "model_rate"
        assert isinstance(await limiter.admit(caller("c"), "other", model_rate_per_minute=2), Admission)

    asyncio.run(main())


def test_a_call_refused_by_one_limit_is_not_counted_by_the_other() -> None:
    async def main() -> None:
        limiter = Limiter(MemoryState(clock=Clock()))
        busy = caller("busy", rate=10)
        assert isinstance(await limiter.admit(busy, "chat", model_rate_per_minute=1), Admission)
        for _ in range(20):
            assert isinstance(await limiter.admit(busy, "chat", model_rate_per_minute=1), Denied)
        for _ in range(9):
            assert isinstance(await limiter.admit(busy, "other"), Admission)
        assert isinstance(await limiter.admit(busy, "other"), Denied)

    asyncio.run(main())


def test_slots_are_held_until_released_and_released_once() -> None:
    async def main() -> None:
        limiter = Limiter(MemoryState(clock=Clock()))
        one = caller(concurrent=2)
        first, second = await limiter.admit(one, "chat"), await limiter.admit(one, "chat")
        assert isinstance(first, Admission)
        assert isinstance(second, Admission)
        denied = await limiter.admit(one, "chat")
        assert isinstance(denied, Denied)
        assert (denied.reason, denied.limit) == (Reason.CONCURRENCY_LIMITED, "caller_concurrent")
        assert denied.retry_after_s >= 1
        first.release()
        first.release()
        with await admitted(limiter, one):
            assert isinstance(await limiter.admit(one, "chat"), Denied)
        second.release()
        assert limiter.in_flight == 0

    asyncio.run(main())


async def admitted(limiter: Limiter, one: Caller, **limits: int) -> Admission:
    admission = await limiter.admit(one, "chat", **limits)
    assert isinstance(admission, Admission)
    return admission


def test_a_call_refused_by_a_rate_gives_its_slot_back() -> None:
    async def main() -> None:
        limiter = Limiter(MemoryState(clock=Clock()))
        one = caller(rate=0, concurrent=5)
        for _ in range(10):
            assert isinstance(await limiter.admit(one, "chat", model_concurrent=5), Denied)
        assert limiter.in_flight == 0

    asyncio.run(main())


def test_a_call_cancelled_while_it_is_admitted_gives_its_slot_back() -> None:
    class Stuck(MemoryState):
        async def hit(self, windows: Sequence[tuple[str, int]], window_s: int) -> Hit:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    async def main() -> None:
        limiter = Limiter(Stuck())
        task = asyncio.create_task(limiter.admit(caller(rate=1, concurrent=1), "chat"))
        await asyncio.sleep(0)
        assert limiter.in_flight == 1
        task.cancel()
        await asyncio.wait([task])
        assert limiter.in_flight == 0

    asyncio.run(main())


def test_concurrency_is_divided_among_workers() -> None:
    async def main() -> None:
        limiter = Limiter(MemoryState(clock=Clock()), workers=4)
        for _ in range(3):
            await admitted(limiter, caller(concurrent=10))
        assert isinstance(await limiter.admit(caller(concurrent=10), "chat"), Denied)

    asyncio.run(main())
