"""What a serving host states about itself: which bytes it loaded, and with which TLS key it answers.

An in-toto Statement v1 in a DSSE envelope (github.com/secure-systems-lab/dsse, v1.0.2), signed with Ed25519:

    {"payloadType": "application/vnd.in-toto+json", "payload": <base64>, "signatures": [{"keyid": <kid>, "sig": <base64>}]}
    {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://licet.dev/host-statement/v1",
     "subject": [{"name": "llama", "digest": {"sha256": <root digest of the weights, hex>}}],
     "predicate": {"host_key": <kid>, "spki": <pin of the TLS key, base64>, "image_digest": "sha256:<hex>" or "",
                   "nonce": <as asked>, "iat": 1790000000, "exp": 1790003600}}

It counts for the one who asked, by the nonce, and for a day at most. Without attested hardware it is the host's word: the
license says whose word that may be. The envelope is read here rather than by `securesystemslib.dsse`, which checks the
signature alone; sizes, repeated members and the meaning of each field are most of the work.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from gateway import strict_json
from gateway.errors import ConfigError
from gateway.license.binding import STATEMENT_AGE_S_MAX, HostStatement
from gateway.license.record import HostKey

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://licet.dev/host-statement/v1"
ENVELOPE_BYTES_MAX: Final = 16_384  # our choice: a statement has under 1 kB
SIGNATURES_MAX: Final = 4  # our choice: a host has one key, and two while it changes it
CLOCK_SKEW_S: Final = 60  # how far the host's clock may be ahead of ours
NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")  # 96 random bits at least
T = TypeVar("T")


class Fault(enum.Enum):
    """Why a statement does not count."""

    FORM = "it is not a host statement in a DSSE envelope"
    KEY = "it is signed by no key that the license names"
    SIGNATURE = "its signature does not verify"
    NONCE = "it answers another question (nonce)"
    EARLY = "it is dated in the future"
    EXPIRED = "it has expired"
    LIFE = f"it claims to hold for longer than {STATEMENT_AGE_S_MAX // 3600} hours"


class StatementError(ValueError):
    """The statement does not count. `fault` says why; nothing of its text is repeated."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        self.fault = fault
        super().__init__(f"{fault.value}: {detail}" if detail else fault.value)


Hex = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Time = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class _Digests(msgspec.Struct, frozen=True):
    sha256: Hex


class _Subject(msgspec.Struct, frozen=True):
    digest: _Digests
    name: str = ""


class _Predicate(msgspec.Struct, frozen=True):
    host_key: str
    spki: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9+/]{43}=\Z")]
    nonce: str
    iat: Time
    exp: Time
    image_digest: Annotated[str, msgspec.Meta(pattern=r"\A(|sha256:[0-9a-f]{64})\Z")] = ""


class _Statement(msgspec.Struct, frozen=True):
    # Named as the members are, `_type` apart.
    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    predicateType: Literal["https://licet.dev/host-statement/v1"]  # noqa: N815
    subject: Annotated[tuple[_Subject, ...], msgspec.Meta(min_length=1, max_length=1)]
    predicate: _Predicate


class _Signature(msgspec.Struct, frozen=True):
    sig: str
    keyid: str = ""


class _Envelope(msgspec.Struct, frozen=True):
    payload: str
    payloadType: Literal["application/vnd.in-toto+json"]  # noqa: N815
    signatures: Annotated[tuple[_Signature, ...], msgspec.Meta(min_length=1, max_length=SIGNATURES_MAX)]


def verify_statement(envelope: bytes, host_keys: Iterable[HostKey], *, nonce: str, now_s: float) -> HostStatement:
    """What the host states, once it is signed by one of these keys, answers this nonce and is in time.

    Its `host_key` is the thumbprint of the key that signed. Raises StatementError and nothing else.
    """
    if len(envelope) > ENVELOPE_BYTES_MAX:
        raise StatementError(Fault.FORM, f"more than {ENVELOPE_BYTES_MAX:,} bytes")
    outer = _read(envelope, _Envelope)
    payload = _decode(outer.payload)
    key = _signer(outer, payload, tuple(host_keys))
    statement = _read(payload, _Statement)  # nothing in it is looked at before its signature holds
    said = statement.predicate
    if said.host_key not in (key.kid, thumbprint(key.x)):
        raise StatementError(Fault.KEY, "the key that it names is not the one that signed it")
    if said.nonce != nonce:
        raise StatementError(Fault.NONCE)
    if said.iat > now_s + CLOCK_SKEW_S:
        raise StatementError(Fault.EARLY)
    if not 0 < said.exp - said.iat <= STATEMENT_AGE_S_MAX:
        raise StatementError(Fault.LIFE)
    if now_s >= said.exp:
        raise StatementError(Fault.EXPIRED)
    return HostStatement(
        model_digest=f"sha256:{statement.subject[0].digest.sha256}",
        host_key=thumbprint(key.x),
        spki=said.spki,
        iat=said.iat,
        exp=said.exp,
        image_digest=said.image_digest,
    )


def sign_statement(
    key: OKPKey,
    *,
    name: str,
    model_digest: str,
    spki: str,
    nonce: str,
    now_s: int,
    life_s: int,
    image_digest: str = "",
) -> bytes:
    """The envelope of a statement over a model digest (`sha256:<hex>`). Raises ValueError where it would not be accepted."""
    if not 0 < life_s <= STATEMENT_AGE_S_MAX:
        raise ValueError(f"a statement holds for 1 to {STATEMENT_AGE_S_MAX} seconds, not {life_s}")
    if not NONCE.fullmatch(nonce):
        raise ValueError("a nonce has 16 to 128 letters, digits, - or _")
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": model_digest.removeprefix("sha256:")}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "host_key": str(key.kid),
            "image_digest": image_digest,
            "spki": spki,
            "nonce": nonce,
            "iat": now_s,
            "exp": now_s + life_s,
        },
    }
    try:
        msgspec.convert(statement, _Statement)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    payload = json.dumps(statement, separators=(",", ":"), ensure_ascii=False).encode()
    private = key.private_key
    assert isinstance(private, Ed25519PrivateKey)
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode("ascii"),
        "signatures": [
            {"keyid": str(key.kid), "sig": base64.b64encode(private.sign(pae(payload))).decode("ascii")},
        ],
    }
    return json.dumps(envelope).encode()


def pae(payload: bytes) -> bytes:
    """What is signed (DSSE, "Pre-Authentication Encoding")."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode("ascii"), len(payload), payload)


def thumbprint(x: str) -> str:
    """RFC 7638 of an Ed25519 key, with the members that RFC 8037, section 2, requires."""
    members = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode("ascii")


def host_key_jwk(key: OKPKey) -> str:
    """The private key file's text."""
    members = {**key.as_dict(private=True), "alg": "Ed25519", "use": "sig"}
    return json.dumps(members, indent=2) + "\n"


def load_host_key(data: bytes, *, source: str) -> OKPKey:
    """A key from the file that `licet attest keygen` made. Raises ConfigError."""
    try:
        members = json.loads(data)
        key = OKPKey.import_key({name: members[name] for name in ("kty", "crv", "kid", "x", "d")})
    except (ValueError, TypeError, KeyError, JoseError) as error:
        raise ConfigError(f"{source}: not a host's private key; make one with `licet attest keygen`") from error
    if not isinstance(key.private_key, Ed25519PrivateKey) or not isinstance(members["kid"], str):
        raise ConfigError(f"{source}: not a private Ed25519 key with `kid`; make one with `licet attest keygen`")
    return key


def _signer(envelope: _Envelope, payload: bytes, keys: tuple[HostKey, ...]) -> HostKey:
    """The key of the first signature that holds. A key id is a hint (DSSE): without one every key is tried."""
    signed, known = pae(payload), False
    for signature in envelope.signatures:
        for key in keys:
            if signature.keyid not in ("", key.kid):
                continue
            known = True
            try:
                _public(key).verify(_decode(signature.sig), signed)
            except InvalidSignature:
                continue
            return key
    raise StatementError(Fault.SIGNATURE if known else Fault.KEY)


def _public(key: HostKey) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key.x + "="))
    except ValueError as error:
        raise StatementError(Fault.KEY, "the license names a key that is none") from error


def _decode(text: str) -> bytes:
    """Standard or URL-safe base64: DSSE allows both to whoever writes."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise StatementError(Fault.FORM, "a part is not base64") from error


def _read(data: bytes, kind: type[T]) -> T:
    """JSON without repeated members, of that shape. Members that are not known here are left to others."""
    try:
        return msgspec.convert(strict_json.loads(data), kind)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise StatementError(Fault.FORM) from error
