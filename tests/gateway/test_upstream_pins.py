"""TLS keys that a license pins: nothing of a request reaches an endpoint that does not show one of them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from cryptography import x509

from gateway import routes
from gateway.errors import UpstreamError
from gateway.reasons import Reason
from gateway.routes import chain_pins, key_pin, read_pins, shown_pin
from gateway.upstream import UpstreamOptions
from gateway.upstream_aiohttp import AiohttpUpstream
from tests.fakes.pki import Pki, new_key, pin_of, self_signed, shown
from tests.fakes.upstream import PATIENCE_S, Peer, Request, answers, ok, upstream

Run = Callable[[Coroutine[Any, Any, None]], None]
OTHER = frozenset({bytes(32)})


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test's coroutine on one of the event loops."""

    def runner(test: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(asyncio.wait_for(test, PATIENCE_S))

    return runner


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def client(pki: Pki, proxy: str | None = None) -> AiohttpUpstream:
    return AiohttpUpstream(UpstreamOptions(ca_file=str(pki.ca_file), proxy=proxy))


async def post(made: AiohttpUpstream, url: str, pins: frozenset[bytes] = frozenset()) -> bytes:
    """One POST, its whole answer."""
    async with await made.open(url=url, method="POST", headers=[], body=b"{}", pins=pins) as reply:
        return await reply.read_all(1000)


async def refused(made: AiohttpUpstream, url: str, pins: frozenset[bytes]) -> None:
    with pytest.raises(UpstreamError) as caught:
        await post(made, url, pins)
    assert caught.value.reason is Reason.BINDING
    assert caught.value.reason.status == 403


async def nothing(peer: Peer) -> None:
    """The client must leave without a byte."""
    came = b""
    with contextlib.suppress(ConnectionError):
        came = await peer.reader.read(1)
    assert came == b""
    peer.server.gone.set()


def test_each_key_of_the_verified_chain_may_be_the_pinned_one(run: Run, pki: Pki) -> None:
    key = new_key()

    async def test() -> None:
        made = client(pki)
        async with upstream(answers(*[ok(b"one")] * 3), tls=pki.server(key)) as fake:
            for pinned in (key, pki.between, pki.root):
                assert await post(made, fake.url(), frozenset({bytes(32), pin_of(pinned)})) == b"one"
            assert fake.connections == 1, "the connection was pooled, its chain looked at once"
            await made.close()

    run(test())


def test_l1_an_endpoint_with_another_key_gets_not_a_byte(run: Run, pki: Pki) -> None:
    async def test() -> None:
        made = client(pki)
        async with upstream(nothing, tls=pki.server(new_key())) as fake:
            await refused(made, fake.url(), OTHER)
            await fake.until_gone()
            assert (fake.connections, fake.requests) == (1, [])
            await made.close()

    run(test())


def test_a_certificate_that_is_only_sent_along_does_not_count(run: Run, pki: Pki) -> None:
    licensed = new_key()

    async def test() -> None:
        made = client(pki)
        # Somebody else's certified endpoint adds the licensed endpoint's certificate to what it sends.
        async with upstream(nothing, tls=pki.server(new_key(), further=self_signed(licensed))) as fake:
            await refused(made, fake.url(), frozenset({pin_of(licensed)}))
            await fake.until_gone()
            await made.close()

    run(test())


def test_a_pooled_connection_without_the_pinned_key_is_dropped_unused(run: Run, pki: Pki) -> None:
    old, new = new_key(), new_key()

    async def test() -> None:
        made = client(pki)
        server = pki.server(old)

        async def once(peer: Peer) -> None:
            await peer.request()
            await peer.send(ok(b"old"))
            await nothing(peer)

        async with upstream(once, nothing, answers(ok(b"new")), tls=server) as fake:
            assert await post(made, fake.url()) == b"old"  # nothing pinned yet
            await refused(made, fake.url(), OTHER)  # the pooled one is dropped, and a new one has the old key, too
            await fake.until_gone()
            assert fake.connections == 2
            server.load_cert_chain(pki.pem(new))
            assert await post(made, fake.url(), frozenset({pin_of(new)})) == b"new"
            assert len(fake.requests) == 2
            await made.close()

    run(test())


def test_key_and_pins_that_change_together_find_no_old_connection_in_the_way(run: Run, pki: Pki) -> None:
    old, new = new_key(), new_key()

    async def test() -> None:
        made = client(pki)
        server = pki.server(old)
        async with upstream(answers(ok(b"old")), answers(ok(b"new")), tls=server) as fake:
            assert await post(made, fake.url(), frozenset({pin_of(old)})) == b"old"
            server.load_cert_chain(pki.pem(new))
            assert await post(made, fake.url(), frozenset({pin_of(new)})) == b"new"
            assert fake.connections == 2
            await made.close()

    run(test())


def test_the_chain_is_told_in_the_newest_tls_as_well(run: Run, pki: Pki) -> None:
    key = new_key()

    async def test() -> None:
        made = client(pki)
        server = pki.server(key)
        server.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
        async with upstream(answers(ok(b"one")), tls=server) as fake:
            assert await post(made, fake.url(), frozenset({pin_of(pki.between)})) == b"one"
            assert len(fake.requests) == 1
            await made.close()

    run(test())


def test_a_key_swapped_between_two_connections_is_refused(run: Run, pki: Pki) -> None:
    key = new_key()

    async def test() -> None:
        made = client(pki)
        server = pki.server(key)
        one = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\none"
        async with upstream(answers(one), nothing, tls=server) as fake:
            assert await post(made, fake.url(), frozenset({pin_of(key)})) == b"one"
            server.load_cert_chain(pki.pem(new_key()))
            await refused(made, fake.url(), frozenset({pin_of(key)}))
            assert len(fake.requests) == 1
            await made.close()

    run(test())


def test_through_a_proxy_the_endpoints_own_key_counts(run: Run, pki: Pki) -> None:
    key = new_key()

    async def test() -> None:
        async def tunnel(peer: Peer) -> None:
            await peer.head()
            reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
            await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")

            async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                try:
                    while data := await source.read(65536):
                        sink.write(data)
                except ConnectionError:
                    pass  # one side was broken off, and so is the other
                sink.close()

            await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))

        async def quiet(peer: Peer) -> None:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await peer.reader.readexactly(1)

        async with upstream(answers(ok(b"deep")), quiet, tls=pki.server(key)) as fake, upstream(tunnel) as proxy:
            made = client(pki, f"http://127.0.0.1:{proxy.port}")
            assert await post(made, fake.url(), frozenset({pin_of(key)})) == b"deep"
            await refused(made, fake.url(), OTHER)
            assert len(fake.requests) == 1
            assert proxy.connections == 2
            await made.close()

    run(test())


def test_l1_an_address_without_tls_has_no_key(run: Run) -> None:
    async def test() -> None:
        made = AiohttpUpstream()
        async with upstream(nothing) as fake:
            await refused(made, fake.url(), OTHER)
            assert fake.connections == 0
            await made.close()

    run(test())


def test_many_calls_at_once_are_each_held_against_their_own_pins(run: Run, pki: Pki) -> None:
    key = new_key()

    async def test() -> None:
        made = client(pki)
        seen: list[Request] = []

        async def serve(peer: Peer) -> None:
            while True:
                try:
                    seen.append(await peer.request())
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
                await peer.send(ok(b"x"))

        async with upstream(serve, tls=pki.server(key)) as fake:
            good, bad = frozenset({pin_of(key)}), OTHER
            results = await asyncio.gather(
                *(post(made, fake.url(), bad if i % 3 == 0 else good) for i in range(12)), return_exceptions=True
            )
            kinds = [isinstance(result, UpstreamError) for result in results]
            assert kinds == [i % 3 == 0 for i in range(12)]
            assert len(seen) == 8
            await made.close()

    run(test())


class _Old:
    """A TLS object of an interpreter that does not tell the verified chain."""

    def __init__(self, own: bytes | None) -> None:
        self._own = own

    def getpeercert(self, *, binary_form: bool) -> bytes | None:
        assert binary_form
        return self._own


def test_without_a_verified_chain_the_endpoints_own_key_is_all_there_is(pki: Pki) -> None:
    key = new_key()
    own = x509.load_pem_x509_certificates(pki.pem(key).read_bytes())[0]
    assert key_pin(own) == pin_of(key)
    der = ssl.PEM_cert_to_DER_cert(_first_pem(pki.pem(key).read_text()))
    assert chain_pins(_Old(der)) == {pin_of(key)}  # type: ignore[arg-type]  # it answers what is asked
    assert chain_pins(_Old(None)) == frozenset()  # type: ignore[arg-type]
    assert chain_pins(_Old(b"no certificate")) == frozenset()  # type: ignore[arg-type]
    assert chain_pins(None) == frozenset()


def _first_pem(text: str) -> str:
    return text[text.index("-----BEGIN CERTIFICATE") : text.index("-----END CERTIFICATE-----") + 26]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("AAAA", id="too short"),
        pytest.param("A" * 44, id="33 bytes"),
        pytest.param("*" * 43 + "=", id="not base64"),
        pytest.param("é" * 44, id="not ASCII"),
    ],
)
def test_what_is_no_pin(value: str) -> None:
    with pytest.raises(ValueError, match=r"pin|ASCII"):
        read_pins([value])


def test_pins_are_written_as_they_are_read() -> None:
    pin = pin_of(new_key())
    assert shown_pin(pin) == shown(pin)
    assert read_pins([shown_pin(pin)]) == {pin}
    assert routes.PIN_BYTES == 32
