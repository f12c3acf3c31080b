"""Heads of other gateways' logs, so that this gateway's fleet log holds them to what they said.

A place is a folder or a URL of a log in the tiles layout, whose `checkpoint` is read; a space and the log's verifier key may follow:
then the signature must hold. Without a key the head is named as unverified: it proves what that place showed at the time, not who signed it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from gateway.audit.answer import AnswerError, read_answer
from gateway.tlog.checkpoint import CheckpointError, open_cosigned, read_checkpoint
from gateway.tlog.note import NOTE_CHARS_MAX, VerifierKey, parse_key
from gateway.tlog.tiles import CHECKPOINT

TIMEOUT_S = 5.0  # our choice, for connecting and for each read
LOOK_S_MAX = 10.0  # our choice, for all of them together: a round of the sealer waits for it
PLACES_MAX = 64  # our choice: what one round asks at most
_NOTE_BYTES_MAX = NOTE_CHARS_MAX * 4  # in UTF-8


@dataclass(frozen=True, slots=True)
class Other:
    """A head that another log showed."""

    origin: str
    size: int
    root: bytes
    verified: bool


class OtherLogs:
    """The places to look at. Raises ValueError for more of them than a round can ask, an address with credentials, or a key that is none."""

    def __init__(self, places: tuple[str, ...]) -> None:
        if len(places) > PLACES_MAX:
            raise ValueError(f"at most {PLACES_MAX} other logs can be named")
        self._places: list[tuple[str, VerifierKey | None]] = []
        for text in places:
            place, _, key = text.partition(" ")
            if _is_url(place) and "@" in urlsplit(place).netloc:  # places are named in entries that everybody may read
                raise ValueError("an address holds a user name; heads of logs are open to all, leave it out")
            self._places.append((place, parse_key(key.strip()) if key else None))
        self._pool = urllib3.PoolManager(num_pools=4, maxsize=1, cert_reqs="CERT_REQUIRED")
        self._first = 0  # who is asked first

    def heads(self) -> tuple[list[Other], dict[str, str]]:
        """What the logs show now, and of those whose head cannot be had, why. Blocks for LOOK_S_MAX, and as long as one place takes.

        Whom the time is not enough for is asked first the next time.
        """
        deadline = time.monotonic() + LOOK_S_MAX
        found: list[Other] = []
        problems: dict[str, str] = {}
        places = self._places[self._first :] + self._places[: self._first]
        for number, (place, key) in enumerate(places):
            if time.monotonic() > deadline:
                self._first = (self._first + number) % len(places)
                problems |= dict.fromkeys((late for late, _ in places[number:]), "the others took too long")
                break
            try:
                note = self._note(place)
                head = read_checkpoint(note) if key is None else open_cosigned(note, [key]).checkpoint
            except (CheckpointError, AnswerError) as error:
                problems[place] = str(error)
                continue
            except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
                problems[place] = type(error).__name__  # its text may hold the address, or what was answered
                continue
            found.append(Other(head.origin, head.size, head.root, key is not None))
        return found, problems

    def _note(self, place: str) -> str:
        if not _is_url(place):
            with (Path(place) / CHECKPOINT).open("rb") as file:
                return file.read(_NOTE_BYTES_MAX).decode()
        answer = self._pool.request(
            "GET",
            f"{place.rstrip('/')}/{CHECKPOINT}",
            timeout=urllib3.Timeout(connect=TIMEOUT_S, read=TIMEOUT_S),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        note = read_answer(answer, _NOTE_BYTES_MAX, TIMEOUT_S)
        if answer.status != 200:
            raise AnswerError(f"the answer is {answer.status}, not 200")
        return note.decode()


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))
