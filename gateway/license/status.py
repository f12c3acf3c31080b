"""Status lists: the present status of many licenses in one signed, compressed token (IETF Token Status List).

Payload: {"iss", "sub": the list's URI, "iat", "exp", "ttl", "status_list": {"bits": 2, "lst": base64url(zlib(bytes))}}.
The entry of index i stands in byte i // 4, at bits 2 * (i % 4) and up (draft, section 4.1).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

BITS = 2


class StatusValue(enum.IntEnum):
    """The values of the draft's registry; 3 is left to applications and means nothing here, so it refuses."""

    VALID = 0
    INVALID = 1  # revoked, cancelled or superseded, for good
    SUSPENDED = 2
    OTHER = 3


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

    def value(self, idx: int) -> StatusValue | None:
        """The status at an index; None when the list is shorter."""
        at = idx >> 2
        if at >= len(self.entries):
            return None
        return StatusValue(self.entries[at] >> 2 * (idx & 3) & 3)
