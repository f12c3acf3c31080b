"""Logs that another gateway began: what stands beside them, so that this gateway's sealer goes on under the same origin.

`DATA/log/<stream>/adopted-from` is written by `licet audit adopt`, before the stream is there for the sealer. It keeps the newest head of
the gateway that is lost, and the keys that could have signed it: whoever holds an older head can still be shown what follows from it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.seal.log import DisagreementError
from gateway.tlog.note import NoteError, VerifierKey, parse_key

ADOPTED_NAME = "adopted-from"


class Adopted(msgspec.Struct, frozen=True):
    """Where a log comes from."""

    origin: str  # the first line of all its heads, before and after
    by: str  # the gateway that took it over
    at_ms: int
    keys: tuple[str, ...]  # verifier keys of the gateway that began it
    checkpoint: str  # its newest head as it was; "": none was signed
    findings: tuple[str, ...] = ()  # how it contradicts what was signed: then nothing more is

    @property
    def trusted(self) -> tuple[VerifierKey, ...]:
        """The keys. Raises DisagreementError."""
        try:
            return tuple(parse_key(key) for key in self.keys)
        except NoteError as error:
            raise DisagreementError(f"`{ADOPTED_NAME}`: {error}") from error


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Adopted)


def encode(adopted: Adopted) -> bytes:
    """The file."""
    return _encoder.encode(adopted) + b"\n"


def adopted(folder: Path) -> Adopted | None:
    """Where the log in this folder comes from; None: it is this gateway's own. Raises DisagreementError, OSError."""
    try:
        return _decoder.decode((folder / ADOPTED_NAME).read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise DisagreementError(
            f"`{ADOPTED_NAME}` cannot be read; restore it from the volume it was adopted from"
        ) from error
