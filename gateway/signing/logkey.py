"""A log's key in a file: the seed of RFC 8032, section 5.1.5, in `DATA/keys`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import ConfigError
from gateway.keyfile import load_key
from gateway.signing.fault import SignerError
from gateway.tlog.checkpoint import thumbprint

KEY_NAME = "log-1.key"  # the first; rotation makes log-2.key and so on
SEED_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False)
class LogKey:
    """An Ed25519 key in this process's memory. A `Signer`."""

    private: Ed25519PrivateKey = field(repr=False)
    public: bytes  # 32 bytes

    @classmethod
    def load(cls, data_dir: Path, name: str = KEY_NAME) -> LogKey:
        """The key in `data_dir`, made if there is none. Raises SignerError, and ConfigError for a file that holds no key."""
        try:
            seed = load_key(data_dir, name, SEED_BYTES)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise SignerError(
                f"{data_dir / 'keys' / name}: {why}; let the gateway's user read the log's key there"
            ) from error
        if len(seed) != SEED_BYTES:
            path = data_dir / "keys" / name
            raise ConfigError(f"{path}: a log key has {SEED_BYTES} bytes, this file has {len(seed)}; restore it")
        return cls.of(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> LogKey:
        """That private key with its public part."""
        return cls(private, private.public_key().public_bytes_raw())

    @property
    def thumbprint(self) -> str:
        """As enrollment lists name the key."""
        return thumbprint(self.public)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of RFC 8032."""
        return self.private.sign(message)
