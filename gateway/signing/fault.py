"""A key of the log that cannot be used now."""

from __future__ import annotations


class SignerError(OSError):
    """Says which setting leads to the key, what is wrong, and the remedy; never what a command or token said. It may work later."""
