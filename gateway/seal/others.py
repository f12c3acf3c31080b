"""Heads of other gateways' logs, so that this gateway's fleet log holds them to what they said.

A place is a folder or a URL of a log in the tiles layout, whose `checkpoint` is read; a space and the log's verifier key may follow:
then the signature must hold. Without a key the head is named as unverified: it proves what that place showed at the time, not who signed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import urllib3

from gateway.tlog.checkpoint import CheckpointError, open_cosigned, read_checkpoint
from gateway.tlog.note import NOTE_CHARS_MAX, VerifierKey, parse_key
from gateway.tlog.tiles import CHECKPOINT

TIMEOUT_S = 5.0  # our choice, for connecting and for each read: a round waits for it
PLACES_MAX = 64  # our choice: what one round asks at most


@dataclass(frozen=True, slots=True)
class Other:
    """A head that another log showed."""

    origin: str
    size: int
    root: bytes
    verified: bool


class OtherLogs:
    """The places to look at. Raises ValueError for more of them than a round can ask, or a key that is none."""

    def __init__(self, places: tuple[str, ...]) -> None:
        if len(places) > PLACES_MAX:
            raise ValueError(f"fleet: at most {PLACES_MAX} other logs can be named")
        self._places: list[tuple[str, VerifierKey | None]] = []
        for text in places:
            place, _, key = text.partition(" ")
            self._places.append((place, parse_key(key.strip()) if key else None))
        self._pool = urllib3.PoolManager(num_pools=4, maxsize=1)

    def heads(self) -> tuple[list[Other], dict[str, str]]:
        """What the logs show now, and of those whose head cannot be had, why. Blocks."""
        found: list[Other] = []
        problems: dict[str, str] = {}
        for place, key in self._places:
            try:
                note = self._note(place)
                head = read_checkpoint(note) if key is None else open_cosigned(note, [key]).checkpoint
            except (CheckpointError, OSError, ValueError, urllib3.exceptions.HTTPError) as error:
                problems[place] = (
                    str(error) if isinstance(error, CheckpointError | ValueError) else type(error).__name__
                )
                continue
            found.append(Other(head.origin, head.size, head.root, key is not None))
        return found, problems

    def _note(self, place: str) -> str:
        if not place.startswith(("http://", "https://")):
            return (Path(place) / CHECKPOINT).read_bytes()[: NOTE_CHARS_MAX * 4].decode()
        answer = self._pool.request(
            "GET",
            f"{place.rstrip('/')}/{CHECKPOINT}",
            timeout=urllib3.Timeout(connect=TIMEOUT_S, read=TIMEOUT_S),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            if answer.status != 200:
                raise ValueError(f"the answer is {answer.status}, not 200")
            return answer.read(NOTE_CHARS_MAX * 4 + 1).decode()
        finally:
            answer.close()
            answer.release_conn()
