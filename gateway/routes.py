"""What is known of an endpoint's address before anything is sent: how it is reached, and how a request to it begins.

Parsing an address and writing a head cost more than most of what follows, and the calls of one model differ in neither:
both are kept, within bounds. No I/O; certificates are read once, at the start. Heads hold the provider's key: nothing
here is ever shown.

What a TLS connection shows of its endpoint's keys is told here as well. A pin is the SHA-256 of the SubjectPublicKeyInfo
of a certificate (RFC 7469, section 2.4). It holds for a connection when one certificate of the chain that was *verified*
has that key: the endpoint's own, an authority's between, or the root that this gateway trusts. What an endpoint merely
sends along counts for nothing, since it could send any certificate.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiohttp.client_reqrep import ClientRequest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from yarl import URL

from gateway.errors import ConfigError

ROUTES_MAX: Final = 1024  # addresses kept parsed; configured targets have a handful
HEADS_MAX: Final = 256  # heads kept; a target has two (streamed or not), and more where callers ask for beta features

PIN_BYTES: Final = hashlib.sha256().digest_size
_DER: Final = 2  # _ssl.ENCODING_DER of CPython 3.10 to 3.12

Fields = tuple[tuple[bytes, bytes], ...]

_WITHOUT_BODY: Final = frozenset({"GET", "HEAD"})
_END_OF_HEAD: Final = b"\r\n"
_NO_LENGTH: Final = b"Content-Length: 0\r\n"

_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")


class Routes:
    """The addresses and heads of one client."""

    def __init__(self, proxy: URL | None) -> None:
        self._proxy = proxy
        self._routes: dict[str, ClientRequest] = {}
        self._heads: dict[tuple[str, str, Fields], bytes] = {}  # of requests, up to their length

    def route(self, url: str, loop: asyncio.AbstractEventLoop) -> ClientRequest:
        """What the connector must know to reach `url`. Kept: parsing an address costs more than asking for it."""
        route = self._routes.get(url)
        if route is None:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            route = ClientRequest("POST", URL(url, encoded=True), loop=loop, proxy=self._proxy)
            self._routes[url] = route
        return route

    def head(
        self, url: str, route: ClientRequest, method: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> bytes:
        """The head of a request. Kept up to its length: the calls of one model mostly differ in nothing else."""
        if route.proxy is not None:  # its credentials may stand in the head
            return _head(route, method, headers, body)
        key = (url, method, tuple(headers))
        start = self._heads.get(key)
        if start is None:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            start = self._heads[key] = _head(route, method, headers, b"")[: -len(_END_OF_HEAD)]
            if method not in _WITHOUT_BODY:
                start = self._heads[key] = start[: -len(_NO_LENGTH)]
        if body or method not in _WITHOUT_BODY:
            return b"%bContent-Length: %d\r\n\r\n" % (start, len(body))
        return start + _END_OF_HEAD


def _head(route: ClientRequest, method: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
    """The request line and fields. Raises ValueError where a field would break out of its line."""
    url = route.url
    plain_proxy = route.proxy is not None and url.scheme == "http"
    target = str(url) if plain_proxy else url.raw_path_qs
    if not _VISIBLE.fullmatch(target):
        raise ValueError("an address holds spaces, control or non-ASCII characters; it must be percent-encoded")
    lines = [f"{method} {target} HTTP/1.1\r\nHost: {url.host_port_subcomponent}".encode("ascii")]
    lines += [name + b": " + value for name, value in headers]
    if plain_proxy and (credentials := route.headers.get("Proxy-Authorization")) is not None:
        lines.append(b"Proxy-Authorization: " + credentials.encode("ascii"))  # the connector put it there
    if body or method not in ("GET", "HEAD"):
        lines.append(b"Content-Length: %d" % len(body))
    lines.append(b"\r\n")
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1 or b"\0" in head:
        raise ValueError("a method or header field holds a line break or a zero byte")
    return head


def ssl_context(ca_file: str | None) -> ssl.SSLContext | None:
    """TLS with the authorities of that file; None: the system's. Raises ConfigError."""
    if ca_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as fault:  # ssl.SSLError is one
        raise ConfigError(
            f"{ca_file}: cannot be read as PEM certificates ({type(fault).__name__}); name a CA bundle"
        ) from fault
    context.set_alpn_protocols(["http/1.1"])
    return context


def proxy_url(proxy: str | None) -> URL | None:
    """The proxy's address. Raises ConfigError, without repeating it."""
    if proxy is None:
        return None
    try:
        url = URL(proxy)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.raw_host:
        # The value may hold a password, so it is not repeated.
        raise ConfigError("proxy: not a proxy address; write http://host:port or https://host:port")
    return url


def key_pin(certificate: x509.Certificate) -> bytes | None:
    """The pin of a certificate's key; None for a kind of key that cannot be read, which then matches nothing."""
    try:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (UnsupportedAlgorithm, ValueError):
        return None
    return hashlib.sha256(key).digest()


def verified_chain(tls: ssl.SSLObject | ssl.SSLSocket) -> tuple[x509.Certificate, ...]:
    """The certificates that a connection was verified with, the endpoint's own first.

    Python 3.13 tells the chain; 3.10 to 3.12 have it in the object below theirs. Where there is none (another
    interpreter, a resumed session) only the endpoint's own certificate is known, so pins of authorities do not match
    and the call is refused: the safe way to be wrong. No certificate at all gives an empty chain.
    """
    told: Any = getattr(tls, "get_verified_chain", None) or getattr(
        getattr(tls, "_sslobj", None), "get_verified_chain", None
    )
    chain = [one if isinstance(one, bytes) else one.public_bytes(_DER) for one in (told() or ())] if told else []
    if not chain:
        own = tls.getpeercert(binary_form=True)
        chain = [own] if own else []
    return tuple(x509.load_der_x509_certificate(one) for one in chain)


def chain_pins(tls: ssl.SSLObject | ssl.SSLSocket | None) -> frozenset[bytes]:
    """The pins that hold for a connection; none for one without TLS or with a certificate that cannot be read."""
    if tls is None:
        return frozenset()
    try:
        return frozenset(pin for one in verified_chain(tls) if (pin := key_pin(one)) is not None)
    except ValueError:
        return frozenset()


def read_pins(values: Iterable[str]) -> frozenset[bytes]:
    """Pins as licenses write them (base64) in the form that `Upstream.open` takes. Raises ValueError."""
    made = set()
    for value in values:
        try:
            pin = base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError("a pin is not base64") from error
        if len(pin) != PIN_BYTES:
            raise ValueError(f"a pin has {len(pin)} bytes; the SHA-256 of a key has {PIN_BYTES}")
        made.add(pin)
    return frozenset(made)


def shown_pin(pin: bytes) -> str:
    """A pin as licenses write it."""
    return base64.b64encode(pin).decode("ascii")
