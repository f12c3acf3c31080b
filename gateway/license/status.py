"""Status lists: the present status of many licenses in one signed, compressed token (IETF Token Status List).

Payload: {"iss", "sub": the list's URI, "iat", "exp", "ttl", "status_list": {"bits": 2, "lst": base64url(zlib(bytes))}}.
The entry of index i stands in byte i // 4, at bits 2 * (i % 4) and up (draft, section 4.1).
"""

from __future__ import annotations

import base64
import binascii
import enum
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from gateway.license.published import Envelope, StandingError, envelope, open_signed
from gateway.license.signed import Kind
from gateway.license.trust import Trust
from gateway.reasons import Reason

BITS = 2
ENTRIES_BYTES_MAX = 16 * 1_048_576  # our choice: 67 million licenses; a token of 260 kB could inflate to 256 MiB
_LEVEL = 9  # built once, fetched by every gateway
_WHAT = "a status list"


class StatusValue(enum.IntEnum):
    """The values of the draft's registry; 3 is left to applications and means nothing here, so it refuses."""

    VALID = 0
    INVALID = 1  # revoked, cancelled or superseded, for good
    SUSPENDED = 2
    OTHER = 3


_VALUES = tuple(StatusValue)


@dataclass(frozen=True, slots=True, eq=False)
class StatusList:
    """One list, verified and unpacked: four licenses a byte."""

    iss: str
    uri: str
    iat: int
    exp: int
    ttl_s: int
    entries: bytes = field(repr=False)
    digest: str = ""  # SHA-256 of the token, hex
    kid: str = ""  # of the key that signed it

    def value(self, idx: int) -> StatusValue | None:
        """The status at an index; None when the list is shorter."""
        at = idx >> 2
        if at >= len(self.entries):
            return None
        return _VALUES[self.entries[at] >> 2 * (idx & 3) & 3]


class _Packed(msgspec.Struct, frozen=True):
    bits: Literal[2]
    lst: str


class _Payload(Envelope, frozen=True):
    sub: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    status_list: _Packed


def read_status_list(token: bytes, trust: Trust) -> StatusList:
    """The list in the token, of an issuer that may sign such lists. Raises StandingError, and nothing else."""
    signed = open_signed(token, Kind.STATUS, trust)
    return _read(signed.payload, signed.digest, signed.kid)


def unverified_status_list(payload: Mapping[str, Any]) -> StatusList:
    """The list in the payload of a token whose signature nobody checked: for people to look at, never for the gate.

    Raises StandingError.
    """
    return _read(payload, "", "")


def _read(payload: Mapping[str, Any], digest: str, kid: str) -> StatusList:
    made = envelope(payload, _Payload, _WHAT)
    return StatusList(
        iss=made.iss,
        uri=made.sub,
        iat=made.iat,
        exp=made.exp,
        ttl_s=made.ttl,
        entries=_inflate(made.status_list.lst),
        digest=digest,
        kid=kid,
    )


def _inflate(lst: str) -> bytes:
    try:
        packed = base64.b64decode(lst + "=" * (-len(lst) % 4), altchars=b"-_", validate=True)
        stream = zlib.decompressobj()
        # One byte more than is accepted tells a list that is too long from one that just fits.
        entries = stream.decompress(packed, ENTRIES_BYTES_MAX + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise _fault("`status_list.lst` is not zlib in base64url") from error
    if len(entries) > ENTRIES_BYTES_MAX:
        raise _fault(f"`status_list.lst` has more than {ENTRIES_BYTES_MAX:,} bytes when unpacked")
    if not stream.eof or stream.unused_data:
        raise _fault("`status_list.lst` does not end where its zlib stream ends")
    return entries


def _fault(what: str) -> StandingError:
    return StandingError(Reason.LIC_SIG, f"signed, but not {_WHAT}: {what}")


def pack_status(values: bytes | bytearray) -> bytes:
    """The entries of a list from one byte a license, each a StatusValue. Raises ValueError for any other byte.

    Places beyond the last license read as OTHER, so that an index nobody was given never counts as valid.
    """
    if values.translate(None, bytes(StatusValue)):
        raise ValueError("a status is 0 (valid), 1 (invalid), 2 (suspended) or 3")
    padded = bytes(values) + bytes([StatusValue.OTHER]) * (-len(values) % 4)
    # Whole columns at once: no entry has a bit that a shift within its byte could push out.
    packed = 0
    for place in range(4):
        packed |= int.from_bytes(padded[place::4]) << BITS * place
    return packed.to_bytes(len(padded) // 4)


def build_status_payload(
    values: bytes | bytearray, *, issuer: str, uri: str, issued_s: int, expires_s: int, ttl_s: int
) -> Mapping[str, Any]:
    """The payload for `signed.sign(..., Kind.STATUS, key)`; `values` as for `pack_status`."""
    lst = base64.urlsafe_b64encode(zlib.compress(pack_status(values), _LEVEL)).rstrip(b"=")
    return {
        "iss": issuer,
        "sub": uri,
        "iat": issued_s,
        "exp": expires_s,
        "ttl": ttl_s,
        "status_list": {"bits": BITS, "lst": lst.decode("ascii")},
    }
