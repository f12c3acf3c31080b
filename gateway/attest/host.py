"""The serving host's side: a small server beside the model server that answers with fresh statements about its weights.

`GET /statement?nonce=...` is answered with a statement over the weights as they were hashed when this started: start it
together with the model server. While they are hashed, or changed and are hashed again, it answers 503; once they are known
to be others than those of the start, 409: what the model server has loaded is then no longer what lies on the disk, and
this has to be started again together with it. Anyone may ask: a statement holds no secret, and answers one nonce only.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from cryptography import x509
from joserfc.jwk import OKPKey
from starlette.types import Receive, Scope, Send

from gateway.attest.statement import NONCE, sign_statement
from gateway.attest.watch import WeightsWatch
from gateway.errors import ConfigError
from gateway.routes import key_pin, shown_pin

log = logging.getLogger("licet.attest")

LIFE_S: Final = 3600  # of a statement. Our choice: gateways ask each minute, so this is for when the host is away
QUERY_BYTES_MAX: Final = 256
FIELDS_MAX: Final = 8
CERTIFICATE_BYTES_MAX: Final = 1_048_576
_PIN: Final = re.compile(r"[A-Za-z0-9+/]{43}=")


def pin_in(certificate: Path) -> str:
    """The pin of the first certificate in a PEM file. Raises ConfigError."""
    try:
        with certificate.open("rb") as file:
            found = x509.load_pem_x509_certificates(file.read(CERTIFICATE_BYTES_MAX))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{certificate}: cannot be read as PEM certificates; name what the endpoint serves"
        ) from error
    pin = key_pin(found[0])
    if pin is None:
        raise ConfigError(f"{certificate}: a kind of key that cannot be read; use RSA, ECDSA or Ed25519")
    return shown_pin(pin)


def check_pin(value: str) -> str:
    """A pin as given. Raises ConfigError."""
    if not _PIN.fullmatch(value):
        raise ConfigError("--spki: a pin has 43 characters of base64 and `=`; `licet attest pin` prints it")
    return value


@dataclass(frozen=True, slots=True)
class Statements:
    """How this host states what it loaded. `spki` is asked each time: certificates are renewed while it runs."""

    key: OKPKey
    name: str
    spki: Callable[[], str]
    life_s: int = LIFE_S
    image_digest: str = ""

    def sign(self, model_digest: str, nonce: str, now_s: int) -> bytes:
        """A statement over a digest, for a nonce. Raises ValueError and ConfigError."""
        return sign_statement(
            self.key,
            name=self.name,
            model_digest=model_digest,
            spki=self.spki(),
            nonce=nonce,
            now_s=now_s,
            life_s=self.life_s,
            image_digest=self.image_digest,
        )


class HostServer:
    """The ASGI application. `watch` belongs to it: its lifespan starts and closes it."""

    def __init__(self, watch: WeightsWatch, statements: Statements) -> None:
        self._watch = watch
        self._statements = statements
        self._started: str | None = None  # the manifest of the start, names of files included

    def answer(self, query: bytes) -> tuple[int, bytes]:
        """Status and body for a question."""
        nonce = _nonce_in(query)
        if nonce is None:
            return 400, _said("ask with ?nonce= and 16 to 128 letters, digits, - or _")
        hashed = self._watch.hashed
        if hashed is None:
            return 503, _said(self._watch.problem or "the weights are being hashed; ask again")
        if self._started is None:
            self._started = hashed.manifest
        if hashed.manifest != self._started:
            return 409, _said("the weights are not those that this host started with")
        try:
            return 200, self._statements.sign(hashed.root, nonce, int(time.time()))
        except ConfigError as error:
            log.warning("no statement: %s", error)
            return 503, _said("the certificate cannot be read")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"cannot serve {scope['type']}")
        if scope["path"] == "/livez":
            status, body = 200, _said("alive")
        elif scope["path"] != "/statement":
            status, body = 404, _said("ask for /statement")
        elif scope["method"] != "GET":
            status, body = 405, _said("ask with GET")
        else:
            status, body = self.answer(scope.get("query_string", b""))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._watch.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._watch.close()
        await send({"type": "lifespan.shutdown.complete"})


def _nonce_in(query: bytes) -> str | None:
    """The one nonce of a question, if it is one."""
    if len(query) > QUERY_BYTES_MAX:
        return None
    try:
        nonces = parse_qs(query.decode("ascii"), max_num_fields=FIELDS_MAX).get("nonce", [])
    except ValueError:  # not ASCII, or too many fields
        return None
    return nonces[0] if len(nonces) == 1 and NONCE.fullmatch(nonces[0]) else None


def _said(message: str) -> bytes:
    return json.dumps({"message": message}).encode()
