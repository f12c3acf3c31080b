"""The port to the keys that sign heads, and which public keys stand behind the heads of the past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from gateway.tlog.checkpoint import ED25519, Signer, VerifierKey


@runtime_checkable
class SigningKeys(Protocol):
    """The keys of one gateway's log, as they are now; `gateway.signing.keys.LogKeys` in the product."""

    @property
    def name(self) -> str:
        """Under which all of them sign."""

    def signers(self) -> Sequence[Signer]:
        """Those that sign each head, newest first. Raises OSError and ConfigError."""

    @property
    def trusted(self) -> Sequence[VerifierKey]:
        """All that ever signed this log, oldest first."""


@dataclass(frozen=True, slots=True)
class OneKey:
    """A key that never changes. `SigningKeys`."""

    signer: Signer
    name: str

    def signers(self) -> Sequence[Signer]:
        """That one."""
        return (self.signer,)

    @property
    def trusted(self) -> Sequence[VerifierKey]:
        """That one."""
        return (VerifierKey(self.name, ED25519, self.signer.public),)
