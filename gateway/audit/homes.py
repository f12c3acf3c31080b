"""Where the secrets of records are: this gateway's own, and beside them those of each volume that it adopted.

    DATA/{keys,transcripts}                           its own
    DATA/adopted/<id>/{home.json,keys,transcripts}    of an adopted volume, as they were there

Each gateway's first digest key is called k1, so a key counts for the streams that it was used in, which `home.json` names. A home is there
with all its files or not at all: `licet audit adopt` copies it under a name that nobody reads, and renames it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.audit.sealed import SealedError

ADOPTED_NAME = "adopted"
WORD_NAME = "home.json"
HOMES_MAX = 256  # our choice: lost volumes of one gateway (L9)
_ID = re.compile(r"[0-9a-f]{16}")


class Word(msgspec.Struct, frozen=True):
    """What stands in `home.json`."""

    gateways: tuple[str, ...]  # whose secrets these were
    streams: tuple[str, ...]  # whose records they are of
    at_ms: int  # when the volume was adopted


@dataclass(frozen=True, slots=True)
class Home:
    """A folder with keys and transcripts."""

    path: Path
    word: Word | None = None  # None: this gateway's own

    @property
    def named(self) -> str:
        """For people: whose it is."""
        return "this gateway" if self.word is None else ", ".join(self.word.gateways) or self.path.name


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Word)


def home_path(data_dir: Path, id_: str) -> Path:
    """Where the home with this id is, 16 hex digits."""
    return data_dir / ADOPTED_NAME / id_


def encode(word: Word) -> bytes:
    """`home.json`."""
    return _encoder.encode(word) + b"\n"


def adopted_ids(data_dir: Path) -> list[str]:
    """The homes of adopted volumes that are there, by id. Raises SealedError for more than HOMES_MAX, OSError."""
    top = data_dir / ADOPTED_NAME
    found = sorted(p.name for p in top.iterdir() if _ID.fullmatch(p.name)) if top.is_dir() else []
    if len(found) > HOMES_MAX:
        raise SealedError(f"{top}: more than {HOMES_MAX} adopted volumes; remove those whose records are all pruned")
    return found


def homes(data_dir: Path) -> list[Home]:
    """This gateway's own first. Raises SealedError where `home.json` cannot be read, OSError."""
    return [
        Home(data_dir),
        *(Home(path, word_of(path)) for path in (home_path(data_dir, id_) for id_ in adopted_ids(data_dir))),
    ]


def word_of(path: Path) -> Word:
    """What the `home.json` of an adopted home says. Raises SealedError, OSError."""
    try:
        return _decoder.decode((path / WORD_NAME).read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError) as error:
        raise SealedError(
            f"{path / WORD_NAME}: cannot be read; restore it, or nothing tells which streams the keys there are of"
        ) from error
