"""What holds for our one client beyond the contract: proxies, private authorities, socket options, configuration."""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.errors import ConfigError, UpstreamError
from gateway.reasons import Reason
from gateway.upstream import UpstreamOptions, UpstreamTimeouts
from gateway.upstream_aiohttp import AiohttpUpstream
from tests.fakes.upstream import Peer, answers, ok, upstream

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test's coroutine on one of the event loops."""

    def runner(test: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(test)

    return runner


@dataclass(frozen=True)
class Authority:
    """A private certificate authority that certified 127.0.0.1."""

    ca_file: Path
    server: ssl.SSLContext


def certificate(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    """A certificate about to be signed, valid now."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Private CA")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A fresh authority and a server context with a certificate of it."""
    folder = tmp_path_factory.mktemp("ca")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    ca = (
        certificate("Private CA", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        certificate("model", key)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "server.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + leaf.public_bytes(pem)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    return Authority(folder / "ca.pem", server)


async def post(made: AiohttpUpstream, url: str) -> bytes:
    """One POST, its whole answer."""
    async with await made.open(url=url, method="POST", headers=[], body=b"{}") as reply:
        return await reply.read_all(1000)


def test_private_authority_is_trusted_for_its_target_only(run: Run, authority: Authority) -> None:
    async def test() -> None:
        trusting = AiohttpUpstream(UpstreamOptions(ca_file=str(authority.ca_file)))
        plain = AiohttpUpstream()
        async with upstream(answers(ok(b"one"), ok(b"two")), Peer.gone, tls=authority.server) as fake:
            assert await post(trusting, fake.url()) == b"one"
            assert await post(trusting, fake.url()) == b"two"
            assert fake.connections == 1
            with pytest.raises(UpstreamError) as caught:
                await post(plain, fake.url())
            assert caught.value.reason is Reason.UPSTREAM_CONNECT
            await trusting.close()
            await plain.close()

    run(test())


def test_certificate_for_another_name_is_refused(run: Run, authority: Authority) -> None:
    async def test() -> None:
        made = AiohttpUpstream(UpstreamOptions(ca_file=str(authority.ca_file)))
        async with upstream(Peer.gone, tls=authority.server) as fake:
            with pytest.raises(UpstreamError) as caught:
                await post(made, fake.url(host="localhost"))
            assert caught.value.reason is Reason.UPSTREAM_CONNECT
            await made.close()

    run(test())


def test_closing_early_over_tls_closes_the_connection(run: Run, authority: Authority) -> None:
    async def test() -> None:
        made = AiohttpUpstream(UpstreamOptions(ca_file=str(authority.ca_file)))
        wire = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"
        async with upstream(answers(wire), tls=authority.server) as fake:
            async with await made.open(url=fake.url(), method="POST", headers=[], body=b"{}") as reply:
                assert await reply.read() == b"part"
            await fake.until_gone()
            await made.close()

    run(test())


def test_plain_target_behind_a_proxy_is_asked_for_by_its_whole_address(run: Run) -> None:
    async def test() -> None:
        async with upstream(answers(ok(b"via"), ok(b"via"))) as proxy:
            made = AiohttpUpstream(UpstreamOptions(proxy=f"http://user:pa%20ss@127.0.0.1:{proxy.port}"))
            for _ in range(2):
                assert await post(made, "http://model.internal:8000/v1/x?y=%20") == b"via"
            assert proxy.connections == 1
            for request in proxy.requests:
                assert request.line == b"POST http://model.internal:8000/v1/x?y=%20 HTTP/1.1"
                assert request.values(b"host") == [b"model.internal:8000"]
                assert request.values(b"proxy-authorization") == [b"Basic " + base64.b64encode(b"user:pa ss")]
                assert request.values(b"authorization") == []
            await made.close()

    run(test())


def test_tls_target_behind_a_proxy_is_reached_through_a_tunnel(run: Run, authority: Authority) -> None:
    async def test() -> None:
        lines: list[bytes] = []
        fields: list[tuple[bytes, bytes]] = []

        async def tunnel(peer: Peer) -> None:
            line, headers = await peer.head()
            lines.append(line)
            fields.extend(headers)
            reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
            await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")

            async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))

        async with upstream(answers(ok(b"deep")), tls=authority.server) as fake, upstream(tunnel) as proxy:
            made = AiohttpUpstream(
                UpstreamOptions(proxy=f"http://u:p@127.0.0.1:{proxy.port}", ca_file=str(authority.ca_file))
            )
            async with await made.open(
                url=fake.url(), method="POST", headers=[(b"authorization", b"Bearer k")], body=b"{}"
            ) as reply:
                assert await reply.read_all(100) == b"deep"
            assert lines == [b"CONNECT 127.0.0.1:%d HTTP/1.1" % fake.port]
            names = {name.lower(): value for name, value in fields}
            assert names[b"proxy-authorization"] == b"Basic " + base64.b64encode(b"u:p")
            assert b"authorization" not in names  # the provider's key is not for the proxy
            assert fake.requests[0].values(b"authorization") == [b"Bearer k"]
            assert fake.requests[0].values(b"proxy-authorization") == []
            await made.close()

    run(test())


def test_proxy_that_refuses_the_tunnel(run: Run, authority: Authority) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()

    async def test() -> None:
        async with upstream(refuse) as proxy:
            made = AiohttpUpstream(UpstreamOptions(proxy=f"http://127.0.0.1:{proxy.port}"))
            with pytest.raises(UpstreamError) as caught:
                await post(made, "https://model.internal/v1")
            assert caught.value.reason is Reason.UPSTREAM_CONNECT
            await made.close()

    run(test())


def test_small_writes_leave_at_once(run: Run) -> None:
    async def test() -> None:
        made = AiohttpUpstream()
        script = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        async with upstream(script) as fake:
            async with await made.open(url=fake.url(), method="POST", headers=[], body=b"{}") as reply:
                sock = reply._transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            await made.close()

    run(test())


def test_a_client_serves_one_event_loop() -> None:
    made = AiohttpUpstream()

    async def test() -> None:
        async with upstream(answers(ok(b"one"))) as fake:
            assert await post(made, fake.url()) == b"one"

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(test())
        with pytest.raises(RuntimeError, match="event loop"):
            second.run(made.open(url="http://127.0.0.1:9/", method="POST", headers=[], body=b""))
        first.run(made.close())


def test_secrets_are_not_shown() -> None:
    options = UpstreamOptions(proxy="http://user:hunter2@proxy:8080", timeouts=UpstreamTimeouts())
    assert "hunter2" not in repr(options)
    assert "hunter2" not in repr(AiohttpUpstream(options))


@pytest.mark.parametrize("proxy", ["proxy:8080", "socks5://u:hunter2@p:1", "http://", "http://u:hunter2@[bad", ""])
def test_proxy_that_is_none_stops_the_start(proxy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AiohttpUpstream(UpstreamOptions(proxy=proxy))
    assert "hunter2" not in str(caught.value)


def test_authority_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        AiohttpUpstream(UpstreamOptions(ca_file=str(tmp_path / "missing.pem")))
    (tmp_path / "bad.pem").write_text("not a certificate")
    with pytest.raises(ConfigError, match=r"bad\.pem"):
        AiohttpUpstream(UpstreamOptions(ca_file=str(tmp_path / "bad.pem")))
