"""Keyed digests: how a record can tell that two contents are the same without telling what they are (L7).

A plain hash of a phone number is found by hashing all phone numbers; HMAC-SHA256 under a key that only the operator holds
is not. The key is `DATA/keys/digest-1.key`, made at the first start and shared by all workers; its number goes before
each digest so that keys can be rotated. Whoever holds the key can test guesses: keep it as you keep the provider keys.
"""

from __future__ import annotations

import functools
import hmac
import ipaddress
from pathlib import Path

from gateway.keyfile import load_key

KEY_BYTES = 32  # as long as the hash's output: RFC 2104, section 3
KEY_NAME = "digest-1.key"
KEY_ID = "k1"
_SOURCES_CACHED = 4096  # our choice: sources of refusals come in bursts from few places


class DigestKey:
    """Makes digests. One a worker."""

    def __init__(self, key: bytes) -> None:
        """Use `load`. Raises ValueError for a key of the wrong length."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a digest key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self.source = functools.lru_cache(maxsize=_SOURCES_CACHED)(self._source)

    @classmethod
    def load(cls, data_dir: Path) -> DigestKey:
        """The key of this data directory, made if there is none. Of workers that start at once, all get the same one.

        Raises OSError, and ValueError for a file that is no key.
        """
        return cls(load_key(data_dir, KEY_NAME, KEY_BYTES))

    def digest(self, data: bytes) -> str:
        """`k1:<hex>` of a content."""
        return f"{KEY_ID}:{hmac.digest(self._key, data, 'sha256').hex()}"

    @property
    def mask_key(self) -> bytes:
        """The key of masks that show a digest of the value instead of it: another use, so another key."""
        return hmac.digest(self._key, b"mask\x00", "sha256")

    def _source(self, address: str) -> str:
        """A caller's network (/24 of IPv4, /48 of IPv6), as 16 hex digits: enough to tell sources of one minute apart."""
        try:
            prefix = 24 if ipaddress.ip_address(address).version == 4 else 48
            network = str(ipaddress.ip_network((address, prefix), strict=False))
        except ValueError:  # a Unix socket, or nothing
            network = "local"
        return hmac.digest(self._key, b"source\x00" + network.encode(), "sha256").hex()[:16]
