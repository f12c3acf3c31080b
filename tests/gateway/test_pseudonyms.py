"""Conversations keep their placeholders between calls and workers, share them with nobody, and never give a number twice."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import stat
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from filters.vault import Style
from filters.view import END, fold
from gateway.pseudonyms import HEADER_CHARS_MAX, KEY_NAME, TTL_S, Conversation, PseudonymKeys, PseudonymStore, Session
from gateway.state import MemoryState, RedisState, SharedState, StateUnavailable
from tests.gateway.test_state import SERVERS, RedisServer

KEYS = PseudonymKeys(b"m" * 32)
NAMED = KEYS.conversation("t", "c", "m", "conversation-1", [])
UNNAMED = KEYS.conversation("t", "c", "m", None, ["system", "Hi"])

Case = Callable[[SharedState, SharedState], Awaitable[None]]


@pytest.fixture(scope="module", params=["memory", *sorted(SERVERS)])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], None]]:
    """Runs a case against two workers' views of one backend."""
    if request.param == "memory":

        async def alone(case: Case) -> None:
            state = MemoryState()
            await case(state, state)
            await state.close()

        yield lambda case: asyncio.run(alone(case))
        return
    server = RedisServer(SERVERS[request.param], tmp_path_factory.mktemp("r") / "s")
    server.start()
    prefixes = itertools.count()

    async def both(case: Case) -> None:
        prefix = f"case{next(prefixes)}:"
        first, second = (RedisState(server.url, timeout_s=5.0, prefix=prefix) for _ in range(2))
        await case(first, second)
        await first.close()
        await second.close()

    try:
        yield lambda case: asyncio.run(both(case))
    finally:
        server.stop()


def restored(session: Session, text: str) -> str:
    restorer = session.restorer()
    if restorer is None:
        return text
    out, at = [], 0
    for one in restorer.scanner().scan(text, fold(text) + END, True):
        value = restorer.restore(text[one.start : one.end])
        assert value is not None
        out += [text[at : one.start], value]
        at = one.end
    return "".join(out) + text[at:]


async def call(
    store: PseudonymStore,
    prompt: Sequence[str],
    values: Sequence[str],
    where: Conversation = NAMED,
    *,
    style: Style = "tag",
) -> tuple[Session, list[str]]:
    """A call as the pipeline makes it: screened again when another call was faster."""
    session = await store.open("t", "c", where, style=style)
    while True:
        for text in prompt:
            session.reserve(text)
        sent = [session.name("PERSON", value, restorable=True) for value in values]
        if await store.save(session):
            return session, sent


@pytest.mark.parametrize("style", ["tag", "realistic"])
def test_case_38_a_conversation_is_stable_over_turns_and_workers(run: Callable[[Case], None], style: Style) -> None:
    async def case(one: SharedState, other: SharedState) -> None:
        first, second = PseudonymStore(one, KEYS), PseudonymStore(other, KEYS)
        session, sent = await call(first, ["Alice Smith, Bob Jones"], ["Alice Smith", "Bob Jones"], style=style)
        assert restored(session, " ".join(sent)) == "Alice Smith Bob Jones"
        assert not session.local
        assert not session.lost
        later, again = await call(second, [f"Who is {sent[0]}?"], ["Bob Jones"], style=style)
        assert again == sent[1:]
        assert restored(later, " ".join(sent)) == "Alice Smith Bob Jones"
        assert later.as_record() == {"issued": 1, "restored": 2, "unknown": 0, "lost": False, "local": False}

    run(case)


def test_case_38_others_never_share(run: Callable[[Case], None]) -> None:
    async def case(one: SharedState, other: SharedState) -> None:
        store = PseudonymStore(one, KEYS)
        _, (sent,) = await call(store, [], ["Alice Smith"], style="realistic")
        for tenant, caller, where in (("u", "c", NAMED), ("t", "d", NAMED), ("t", "c", UNNAMED)):
            session = await store.open(tenant, caller, where, style="realistic")
            assert len(session.names) == 0
            assert not session.lost
            session.reserve(f"{sent} <PERSON_1>")
            assert restored(session, f"{sent} <PERSON_1>") == f"{sent} <PERSON_1>"
            named = session.name("PERSON", "Alice Smith", restorable=True)
            assert named != sent or tenant == "t"
        assert KEYS.surrogates("t") != KEYS.surrogates("u")

    run(case)


def test_a_conversation_told_by_its_first_words_gives_only_what_its_prompt_holds(run: Callable[[Case], None]) -> None:
    async def case(one: SharedState, other: SharedState) -> None:
        store = PseudonymStore(one, KEYS)
        await call(store, ["Hi", "I am Alice"], ["Alice"], UNNAMED)
        session, sent = await call(store, ["Hi", "Who is <PERSON_1>? I am Bob"], ["Bob"], UNNAMED)
        assert sent == ["<PERSON_2>"]
        assert restored(session, "<PERSON_1> <PERSON_2>") == "<PERSON_1> Bob"

    run(case)


def test_case_39_values_come_back_as_they_are(run: Callable[[Case], None]) -> None:
    values = [
        'O\'Brien "Bob" \\',
        "line\nbreak\r\n\t",
        "\x00\x1f\u2028",
        "𠮷野家 😀",
        "\ud800",
        '{"name": "<PERSON_1>"}',
    ]

    async def case(one: SharedState, other: SharedState) -> None:
        await call(PseudonymStore(one, KEYS), [], values)
        session, sent = await call(PseudonymStore(other, KEYS), [], values)
        for placeholder, value in zip(sent, values, strict=True):
            assert restored(session, placeholder) == value
        arguments = json.dumps({"to": sent[0], "all": sent})
        back = {key: [restored(session, text) for text in listed] for key, listed in {"all": sent}.items()}
        assert json.loads(json.dumps(back)) == {"all": values}
        assert all(placeholder in arguments for placeholder in sent), "a tag needs no escape in JSON"

    run(case)


def test_case_37_calls_at_once_never_give_one_number_to_two_values(run: Callable[[Case], None]) -> None:
    async def case(one: SharedState, other: SharedState) -> None:
        stores = [PseudonymStore(one, KEYS), PseudonymStore(other, KEYS)]
        people = [f"Person {n}" for n in range(12)]
        rng = random.Random(37)
        meaning: dict[str, str] = {}

        async def turn(n: int) -> None:
            values = rng.sample(people, 3)
            session, sent = await call(stores[n % 2], values, values)
            assert not session.local
            for placeholder, value in zip(sent, values, strict=True):
                assert meaning.setdefault(placeholder, value) == value
            assert restored(session, "; ".join(sent)) == "; ".join(values)

        for _ in range(5):
            await asyncio.gather(*(turn(n) for n in range(6)))
        assert sorted(meaning.values()) == sorted(people)
        _, sent = await call(stores[0], [], people)
        assert dict(zip(sent, people, strict=True)) == meaning

    run(case)


def test_a_lost_race_is_merged_where_it_fits_and_told_where_it_does_not() -> None:
    async def main() -> None:
        store = PseudonymStore(MemoryState(), KEYS)
        sessions = [await store.open("t", "c", NAMED) for _ in range(4)]
        assert sessions[0].name("PERSON", "Alice", restorable=True) == "<PERSON_1>"
        assert sessions[1].name("CARD", "4111", restorable=True) == "<CARD_1>"
        assert sessions[2].name("PERSON", "Bob", restorable=True) == "<PERSON_1>"
        assert sessions[3].name("PERSON", "alice", restorable=True) == "<PERSON_1>"
        assert await store.save(sessions[0])
        assert await store.save(sessions[1])
        assert not await store.save(sessions[2])
        assert await store.save(sessions[3])
        assert restored(sessions[1], "<PERSON_1> <CARD_1>") == "Alice 4111"
        assert sessions[2].name("PERSON", "Bob", restorable=True) == "<PERSON_2>"
        assert await store.save(sessions[2])
        last = await store.open("t", "c", NAMED)
        assert restored(last, "<PERSON_1> <PERSON_2> <CARD_1>") == "Alice Bob 4111"

    asyncio.run(main())


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@example([(0, "n", 0), (0, "s", 0), (3, "n", 1), (3, "f", 0), (3, "s", 0)], False)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("nnnsfr"), st.integers(0, 5)), max_size=40), st.booleans())
def test_property_whatever_runs_at_once_a_saved_number_has_one_value(
    steps: list[tuple[int, str, int]], realistic: bool
) -> None:
    """Four calls name, forge and save in any order; what a call saved is what every later one restores."""

    async def main() -> None:
        store = PseudonymStore(MemoryState(), KEYS)
        style: Style = "realistic" if realistic else "tag"
        sessions = [await store.open("t", "c", NAMED, style=style) for _ in range(4)]
        pending: list[dict[str, str]] = [{} for _ in range(4)]
        forged: set[str] = set()
        meaning: dict[str, str] = {}

        async def saved(who: int) -> bool:
            done = await store.save(sessions[who])
            for placeholder, value in pending[who].items() if done else ():
                assert meaning.setdefault(placeholder, value) == value
            pending[who] = {}  # a call whose numbers were given away begins anew
            return done

        for who, what, n in steps:
            session = sessions[who]
            if what == "n":
                value = f"Person {chr(65 + n)}"
                pending[who][session.name("PERSON", value, restorable=True)] = value
            elif what == "f" and not any(f"<PERSON_{n}>" in listed for listed in (*pending, meaning)):
                session.reserve(f"<PERSON_{n}>")
                if await saved(who):
                    forged.add(f"<PERSON_{n}>")
            elif what == "s":
                if await saved(who):
                    assert forged.isdisjoint(meaning)
            elif what == "r":
                sessions[who] = await store.open("t", "c", NAMED, style=style)
                pending[who] = {}
        last = await store.open("t", "c", NAMED, style=style)
        for placeholder, value in meaning.items():
            assert restored(last, placeholder) == value

    asyncio.run(main())


class Faulty(MemoryState):
    """A store that can fail, and fail after it has stored."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.stored_all_the_same = False

    async def get(self, key: str) -> bytes | None:
        if self.down:
            raise StateUnavailable
        return await super().get(key)

    async def swap(self, key: str, old: bytes | None, new: bytes, *, ttl_s: float) -> bool:
        if self.stored_all_the_same:
            await super().swap(key, old, new, ttl_s=ttl_s)
        if self.down or self.stored_all_the_same:
            raise StateUnavailable
        return await super().swap(key, old, new, ttl_s=ttl_s)


def test_l1_a_store_that_is_down_costs_memory_and_leaks_nothing() -> None:
    async def main() -> None:
        state = Faulty()
        store = PseudonymStore(state, KEYS)
        await call(store, [], ["Alice"])
        state.down = True
        session, sent = await call(store, ["Who is <PERSON_1>?"], ["Bob"])
        assert session.local
        assert session.as_record()["local"] is True
        assert session.as_record()["unknown"] == 1
        assert sent == ["<PERSON_2>"]
        assert restored(session, "<PERSON_1> <PERSON_2>") == "<PERSON_1> Bob"
        state.down = False
        session = await store.open("t", "c", NAMED)
        assert session.name("PERSON", "Carol", restorable=True) == "<PERSON_2>"
        state.stored_all_the_same = True
        assert await store.save(session)
        assert session.local
        assert restored(session, "<PERSON_2>") == "Carol"
        state.stored_all_the_same = False
        session, sent = await call(store, [], ["Carol", "Dan"])
        assert sent == ["<PERSON_2>", "<PERSON_3>"]

    asyncio.run(main())


def test_what_is_broken_or_anothers_or_expired_counts_as_lost() -> None:
    async def main() -> None:
        now = [1_000.0]
        state = MemoryState()
        store = PseudonymStore(state, KEYS, 100.0, clock=lambda: now[0])
        await call(store, [], ["Alice"])
        key, _ = KEYS.place("t", "c", NAMED)
        elsewhere, _ = KEYS.place("t", "d", NAMED)
        sealed = await state.get(key)
        assert sealed is not None
        assert b"Alice" not in sealed
        foreign = PseudonymStore(state, PseudonymKeys(b"n" * 32), 100.0, clock=lambda: now[0])
        other_key, _ = PseudonymKeys(b"n" * 32).place("t", "c", NAMED)
        await state.set_(elsewhere, sealed, ttl_s=60)
        await state.set_(other_key, sealed, ttl_s=60)
        for lost in (await store.open("t", "d", NAMED), await foreign.open("t", "c", NAMED)):
            assert lost.lost
            assert len(lost.names) == 0
        now[0] += 100.0  # the store's own clock is late
        session = await store.open("t", "c", NAMED)
        assert session.lost
        session.reserve("<PERSON_1>?")
        assert restored(session, "<PERSON_1>") == "<PERSON_1>"
        assert session.name("PERSON", "Bob", restorable=True) == "<PERSON_2>"
        assert await store.save(session)
        assert not (await store.open("t", "c", NAMED)).lost
        assert session.as_record() == {"issued": 1, "restored": 0, "unknown": 1, "lost": True, "local": False}

    asyncio.run(main())


def test_an_entry_that_vanishes_meanwhile_is_kept_anew_and_an_old_one_is_kept_longer() -> None:
    async def main() -> None:
        now = [1_000.0]
        state = MemoryState(clock=lambda: now[0])
        store = PseudonymStore(state, KEYS, 100.0, clock=lambda: now[0])
        await call(store, [], ["Alice"])
        session = await store.open("t", "c", NAMED)
        session.name("PERSON", "Bob", restorable=True)
        now[0] += 100.0
        assert await store.save(session)
        assert not session.local
        last = await store.open("t", "c", NAMED)
        assert restored(last, "<PERSON_1> <PERSON_2>") == "Alice Bob"
        for _ in range(10):
            now[0] += 60.0
            session, sent = await call(store, [], ["Bob"])
            assert sent == ["<PERSON_2>"]
        assert restored(session, "<PERSON_1>") == "Alice"

    asyncio.run(main())


def test_a_call_without_values_stores_nothing() -> None:
    async def main() -> None:
        state = MemoryState()
        store = PseudonymStore(state, KEYS)
        session, _ = await call(store, ["Nothing here"], [])
        assert session.restorer() is None
        assert len(state._values) == 0

    asyncio.run(main())


def test_a_detached_session_keeps_its_names_to_itself() -> None:
    async def main() -> None:
        state = MemoryState()
        store = PseudonymStore(state, KEYS)
        session = await store.open("t", "c", NAMED)
        session.name("PERSON", "Alice", restorable=True)
        session.detach()
        assert await store.save(session)
        assert restored(session, "<PERSON_1>") == "Alice"
        assert session.as_record()["local"] is True
        assert len(state._values) == 0

    asyncio.run(main())


def test_conversations_are_told_apart() -> None:
    texts = ["You are helpful.", "Hi"]
    seen = {
        KEYS.conversation(*who, header, own).key
        for who in (("t", "c", "m"), ("u", "c", "m"), ("t", "d", "m"), ("t", "c", "n"), ("tc", "", "m"))
        for header, own in (
            (None, texts),
            (None, ["You are helpful.H", "i"]),
            (None, texts[:1]),
            (None, []),
            ("a", texts),
            ("b", []),
        )
    }
    assert len(seen) == 30
    assert KEYS.conversation("t", "c", "m", "a", texts) == KEYS.conversation("t", "c", "m", "a", ["other"])
    assert KEYS.conversation("t", "c", "m", None, texts).named is False
    assert KEYS.conversation("t", "c", "m", "a", texts).named is True
    assert (
        KEYS.conversation("t", "c", "m", None, texts).key
        != PseudonymKeys(b"n" * 32).conversation("t", "c", "m", None, texts).key
    )
    KEYS.conversation("t", "c", "m", None, ["\ud800"])
    for header in ("", "x" * (HEADER_CHARS_MAX + 1), "é", "a\nb"):
        with pytest.raises(ValueError, match="x-licet-conversation"):
            KEYS.conversation("t", "c", "m", header, texts)


def test_l7_keys_of_the_store_name_nothing() -> None:
    key, _ = KEYS.place("tenant", "caller", NAMED)
    assert key.startswith("pseudonyms:")
    assert len(key) < 64
    assert "tenant" not in key
    assert "caller" not in key


def test_workers_that_start_at_once_get_one_key(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def load(_: int) -> bytes:
        together.wait()
        return PseudonymKeys.load(tmp_path).surrogates("t")

    with ThreadPoolExecutor(8) as workers:
        keys = set(workers.map(load, range(8)))
    assert keys == {PseudonymKeys.load(tmp_path).surrogates("t")}
    path = tmp_path / "keys" / KEY_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [KEY_NAME]
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        PseudonymKeys.load(tmp_path)
    assert TTL_S > 0
