"""The gateway asks a serving host, over real TLS, with the host's own server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from gateway.attest.host import HostServer, Statements, pin_in
from gateway.attest.target import Attestation, Attestor
from gateway.attest.watch import WeightsWatch
from gateway.attest.weights import Hashed, hash_model
from gateway.errors import ConfigError
from gateway.license.binding import NO_EVIDENCE, Evidence
from gateway.license.facts import ModelFacts
from gateway.license.issuer import generate_key
from gateway.license.record import Endpoint, HostKey, Model, Terms, Weights
from gateway.license.token import NO_LICENSE
from gateway.upstream import UpstreamOptions
from gateway.upstream_aiohttp import AiohttpUpstream
from tests.fakes.pki import Key, Pki, new_key, pin_of, shown
from tests.gateway.attest.samples import DIGEST, KEY, SPKI, host_key, write_model

PATIENCE_S = 20.0
LOOK_S = 0.03


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE_S))


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


class Known(WeightsWatch):
    """A folder whose digests are set by the test, for those that are not about hashing."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.now: Hashed | None = hashed(DIGEST)

    @property
    def hashed(self) -> Hashed | None:
        return self.now

    async def start(self) -> None:
        """Nothing to watch."""


def hashed(root: str, manifest: str = "sha256:" + "ef" * 32) -> Hashed:
    return Hashed(root, manifest, "", 1, 1, 0.0, 0.0, "")


@dataclass
class Host:
    """A serving host with its statement server on a real socket."""

    pki: Pki
    watch: WeightsWatch = field(default_factory=Known)
    tls: Key = field(default_factory=new_key)
    key: Any = field(default_factory=lambda: KEY)
    spki: str | None = None  # None: the right one
    life_s: int = 3600

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Its origin, while it runs."""
        spki = self.spki or shown(pin_of(self.tls))
        app = HostServer(self.watch, Statements(self.key, "m", lambda: spki, self.life_s))
        sock = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="error", ssl_certfile=self.pki.pem(self.tls), ssl_version=ssl.PROTOCOL_TLS_SERVER
            )
        )
        task = asyncio.create_task(server.serve(sockets=[sock]))
        await until(lambda: server.started or task.done())
        try:
            yield f"https://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
            sock.close()


def terms(
    *keys: HostKey, pins: Sequence[bytes] = (), root: str = DIGEST, manifest: str | None = None, origin: str = "x"
) -> Terms:
    endpoint = Endpoint(origins=(origin,), spki_pins=tuple(map(shown, pins)), host_keys=keys)
    return Terms(model=Model(name="m", weights=Weights(root, manifest)), endpoint=endpoint)


@contextlib.asynccontextmanager
async def attestor(pki: Pki, origin: str, statement: str | None = None, **options: Any) -> AsyncIterator[Attestor]:
    """An attestor of a target at that origin, with the client that its calls use."""
    client = AiohttpUpstream(UpstreamOptions(ca_file=str(pki.ca_file)))
    made = Attestor(origin=origin, upstream=client, statement=statement or f"{origin}/statement", **options)
    try:
        yield made
    finally:
        await made.close()
        await client.close()


def test_a_statement_of_a_licensed_host_over_the_pinned_connection_is_evidence(pki: Pki) -> None:
    async def test() -> None:
        host = Host(pki)
        async with host.serve() as origin, attestor(pki, origin) as one:
            one.licensed(terms(host_key(), pins=[pin_of(host.tls), bytes(32)]))
            await one.start()
            said = one.evidence().statement
            assert said is not None
            assert (said.model_digest, said.spki) == (DIGEST, shown(pin_of(host.tls)))
            assert said.host_key == KEY.thumbprint()
            assert one.evidence() is one.evidence(), "the same object while nothing changed"
            assert one.pins(2) == {pin_of(host.tls)}, "at level 2 the call goes to the very host that spoke"
            assert one.pins(1) == {pin_of(host.tls), bytes(32)}
            assert one.problems == []

    run(test())


REFUSED: list[tuple[str, dict[str, Any], Callable[[Host], Terms], str]] = [
    (
        "a key that the license does not name",
        {"key": generate_key()},
        lambda h: terms(host_key(), pins=[pin_of(h.tls)]),
        "no key",
    ),
    ("another TLS key than the pinned one", {}, lambda _: terms(host_key(), pins=[bytes(32)]), "BINDING"),
]


@pytest.mark.parametrize(
    ("options", "licensed", "why"), [pytest.param(o, t, why, id=name) for name, o, t, why in REFUSED]
)
def test_l1_what_does_not_hold_is_no_evidence(
    pki: Pki, options: dict[str, Any], licensed: Callable[[Host], Terms], why: str
) -> None:
    async def test() -> None:
        host = Host(pki, **options)
        async with host.serve() as origin, attestor(pki, origin) as one:
            one.licensed(licensed(host))
            await one.start()
            assert one.evidence() == NO_EVIDENCE
            (problem,) = one.problems
            assert why in problem

    run(test())


def test_without_host_keys_nobody_is_asked(pki: Pki) -> None:
    async def test() -> None:
        async with attestor(pki, "https://127.0.0.1:1") as one:
            await one.start()
            one.licensed(terms())
            assert one.evidence() == NO_EVIDENCE
            assert one.problems == []

    run(test())


def test_a_license_that_names_other_keys_ends_the_statement_at_once(pki: Pki) -> None:
    async def test() -> None:
        host = Host(pki)
        async with host.serve() as origin, attestor(pki, origin) as one:
            good = terms(host_key(), pins=[pin_of(host.tls)])
            one.licensed(good)
            await one.start()
            assert one.evidence().statement is not None
            one.licensed(terms(host_key(generate_key()), pins=[pin_of(host.tls)]))
            assert one.evidence() == NO_EVIDENCE
            one.licensed(good)
            await until(lambda: one.evidence().statement)  # asked again without waiting for the minute
            one.licensed(None)
            assert one.evidence() == NO_EVIDENCE
            assert one.pins(2) == frozenset()

    run(test())


def test_a_host_that_is_away_leaves_its_statement_in_force_until_it_ends(pki: Pki) -> None:
    now_s = time.time()

    async def test() -> None:
        nonlocal now_s
        host = Host(pki)
        async with attestor(pki, "https://127.0.0.1:1") as unreachable:
            unreachable.licensed(terms(host_key()))
            await unreachable.start()
            assert unreachable.problems
            assert unreachable.evidence() == NO_EVIDENCE
        async with host.serve() as origin:
            one_at = attestor(pki, origin, ask_s=0.05, now_s=lambda: now_s)
            one = await one_at.__aenter__()
            one.licensed(terms(host_key(), pins=[pin_of(host.tls)]))
            await one.start()
        await until(lambda: one.problems)
        said = one.evidence().statement
        assert said is not None
        now_s = float(said.exp)
        assert one.evidence() == NO_EVIDENCE
        await one_at.__aexit__(None, None, None)

    run(test())


def test_a_host_that_says_its_weights_changed_ends_its_statement(pki: Pki) -> None:
    async def test() -> None:
        watch = Known()
        host = Host(pki, watch)
        async with host.serve() as origin, attestor(pki, origin, ask_s=0.05) as one:
            one.licensed(terms(host_key(), pins=[pin_of(host.tls)]))
            await one.start()
            assert one.evidence().statement is not None
            watch.now = None  # being hashed: 503, and the last word stands
            await until(lambda: one.problems)
            assert one.evidence().statement is not None
            watch.now = hashed("sha256:" + "00" * 32, "sha256:" + "11" * 32)
            await until(lambda: one.evidence().statement is None)
            assert "409" in one.problems[0]
            watch.now = hashed(DIGEST)
            await until(lambda: one.evidence().statement)

    run(test())


@pytest.mark.slow
def test_statements_are_renewed_each_with_a_nonce_of_its_own(pki: Pki) -> None:
    async def test() -> None:
        host = Host(pki)
        nonces: list[bytes] = []
        real = HostServer.answer

        def answer(self: HostServer, query: bytes) -> tuple[int, bytes]:
            nonces.append(query)
            return real(self, query)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HostServer, "answer", answer)
            async with host.serve() as origin, attestor(pki, origin, ask_s=0.02) as one:
                one.licensed(terms(host_key(), pins=[pin_of(host.tls)]))
                await one.start()
                await until(lambda: len(nonces) >= 4)
        assert len(set(nonces)) == len(nonces)
        assert all(len(nonce) == len("nonce=") + 32 for nonce in nonces)

    run(test())


def test_a_replayed_answer_is_no_evidence(pki: Pki) -> None:
    async def test() -> None:
        host = Host(pki)
        status, old = HostServer(Known(), Statements(KEY, "m", lambda: SPKI)).answer(b"nonce=an-old-nonce-of-another")
        assert status == 200
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HostServer, "answer", lambda *_: (200, old))
            async with host.serve() as origin, attestor(pki, origin) as one:
                one.licensed(terms(host_key(), pins=[pin_of(host.tls)]))
                await one.start()
                assert one.evidence() == NO_EVIDENCE
                assert "nonce" in one.problems[0]

    run(test())


@pytest.mark.slow
def test_an_answer_without_end_is_not_read_to_its_end(pki: Pki) -> None:
    async def test() -> None:
        host = Host(pki)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HostServer, "answer", lambda *_: (200, b" " * 1_000_000))
            async with host.serve() as origin, attestor(pki, origin) as one:
                one.licensed(terms(host_key(), pins=[pin_of(host.tls)]))
                await one.start()
                assert one.evidence() == NO_EVIDENCE
                assert "ANSWER_TOO_LARGE" in one.problems[0]

    run(test())


def test_weights_are_evidence_and_files_under_other_names_are_not_the_licensed_ones() -> None:
    watch = Known()
    one = Attestor(origin="http://127.0.0.1:1", upstream=AiohttpUpstream(), weights=watch)
    assert one.evidence().weights == DIGEST
    one.licensed(terms(manifest="sha256:" + "ef" * 32))
    assert one.evidence().weights == DIGEST
    one.licensed(terms(manifest="sha256:" + "ee" * 32))
    assert one.evidence().weights == "sha256:" + "ef" * 32
    watch.now = None
    assert one.evidence() == NO_EVIDENCE
    assert one.pins(3) == frozenset(), "without TLS there is nothing to pin"


def test_the_facts_of_a_call_hold_the_evidence_of_now() -> None:
    watch = Known()
    one = Attestor(origin="http://127.0.0.1:1", upstream=AiohttpUpstream(), weights=watch)
    facts, other = (ModelFacts(name, "http://127.0.0.1:1", NO_LICENSE) for name in ("m", "n"))
    assert one.known(facts) == replace(facts, evidence=Evidence(weights=DIGEST))
    assert one.known(facts) is one.known(facts)
    assert one.known(other).name == "n"
    watch.now = None
    assert one.known(facts) is facts


def test_a_statement_is_asked_for_by_url() -> None:
    for bad in ("statement.json", "file:///statement.json", "https://"):
        with pytest.raises(ConfigError, match="statement"):
            Attestor(origin="http://127.0.0.1:1", upstream=AiohttpUpstream(), statement=bad)


@pytest.mark.slow
def test_targets_with_one_folder_share_one_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.attest.target.LOOK_S", LOOK_S)

    async def test() -> None:
        folder = write_model(tmp_path / "model")
        whole = Attestation(tmp_path / "data")
        client = AiohttpUpstream()
        targets = [
            whole.target(origin="http://127.0.0.1:1", upstream=client, weights=folder, statement=None) for _ in range(2)
        ]
        targets.append(whole.target(origin="http://127.0.0.1:1", upstream=client, weights=None, statement=None))
        await whole.start()
        assert [one.evidence() for one in targets] == [NO_EVIDENCE] * 3
        await until(lambda: targets[0].evidence().weights)
        assert targets[1].evidence().weights == hash_model(folder).root
        assert targets[2].evidence() is NO_EVIDENCE
        assert len(list((tmp_path / "data" / "weights").glob("*.json"))) == 1
        (folder / "x").symlink_to("/")
        await until(lambda: whole.problems)
        assert len(whole.problems) == 1
        await whole.close()
        await whole.close()
        await client.close()

    run(test())


ASKED = [
    pytest.param(b"", 400, id="no nonce"),
    pytest.param(b"nonce=short", 400, id="short nonce"),
    pytest.param(b"nonce=" + b"x" * 129, 400, id="long nonce"),
    pytest.param(b"nonce=has%20a%20blank%20in%20it", 400, id="blank in the nonce"),
    pytest.param(b"nonce=aaaaaaaaaaaaaaaa&nonce=bbbbbbbbbbbbbbbb", 400, id="two nonces"),
    pytest.param(b"x=" + b"1" * 300 + b"&nonce=aaaaaaaaaaaaaaaa", 400, id="long query"),
    pytest.param(b"&".join([b"x=1"] * 20), 400, id="many fields"),
    pytest.param(b"nonce=\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 400, id="not ASCII"),
    pytest.param(b"nonce=aaaaaaaaaaaaaaaa", 200, id="a nonce"),
]


@pytest.mark.parametrize(("query", "status"), ASKED)
def test_what_a_host_answers(query: bytes, status: int) -> None:
    server = HostServer(Known(), Statements(KEY, "m", lambda: SPKI))
    got, body = server.answer(query)
    assert got == status
    assert ("payload" in json.loads(body)) is (status == 200)


def test_a_host_whose_certificate_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    server = HostServer(Known(), Statements(KEY, "m", lambda: pin_in(tmp_path / "gone.pem")))
    assert server.answer(b"nonce=aaaaaaaaaaaaaaaa")[0] == 503


def test_a_host_whose_files_got_other_names_is_not_the_one_that_started() -> None:
    watch = Known()
    server = HostServer(watch, Statements(KEY, "m", lambda: SPKI))
    assert server.answer(b"nonce=aaaaaaaaaaaaaaaa")[0] == 200
    watch.now = hashed(DIGEST, "sha256:" + "01" * 32)
    assert server.answer(b"nonce=aaaaaaaaaaaaaaaa")[0] == 409
