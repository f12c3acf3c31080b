"""Asking one witness for its cosignature (C2SP `tlog-witness`, `add-checkpoint`, as of 2025), over HTTP.

A witness signs that a log's new head extends the one that it saw before. What it was last shown is remembered in a file of `state_dir`, which
is a convenience: a witness that knows better answers 409 with its size, and is asked again from there. Only lines that verify against
the configured key are given back; a date that is not of now, or before the last one, is no witness' word (`SKEW_S`).
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
import urllib3

from gateway.audit.answer import AnswerError, read_answer
from gateway.errors import ConfigError
from gateway.settings.audit import WitnessSettings
from gateway.tlog.checkpoint import SIZE_MAX, Checkpoint, read_checkpoint
from gateway.tlog.cosignature import cosigned_by
from gateway.tlog.note import (
    ED25519,
    NOTE_CHARS_MAX,
    NoteError,
    parse_key,
    read_decimal,
    read_lines,
    read_note,
)
from gateway.whole_file import put

Consistency = Callable[[int], Sequence[bytes]]

TIMEOUT_S = 5.0  # our choice: a witness answers in milliseconds, and heads are due each ten seconds
SKEW_S = 300  # our choice: how far a witness' clock may be from ours; an older date would be an answer kept from before
TRIES = 3  # our choice: the size it was last shown, the size it names, and one more if another asked in between
PROOF_MAX = 63  # tlog-witness: at most so many lines
SIZE_TYPE = "text/x.tlog.size"  # tlog-witness, of a 409
ORIGINS_MAX = 2_000  # our choice; the oldest are forgotten, which costs a 409
_ANSWER_BYTES_MAX = NOTE_CHARS_MAX
_STATE_BYTES_MAX = 4 << 20

# What another status than 200 means, for operators.
_MEANING = {
    400: "bad_request: it cannot read what it was sent",
    403: "untrusted: it does not trust the key that signed; enroll the log's key with it",
    404: "unknown_log: it does not know this log; enroll it, and see that the URL is right",
    413: "bad_request: it wants no request of this length",
    422: "fork: it was shown another history of this log, or the proof is wrong",
    429: "busy: it wants to be asked less often",
}


class WitnessError(OSError):
    """No cosignature. `kind` is the word before the colon: fork, rollback, clock, wrong_key, untrusted, unknown_log, unreachable, ..."""

    @property
    def kind(self) -> str:
        """One word."""
        return str(self).partition(":")[0]


class Seen(NamedTuple):
    """The last cosignature for an origin."""

    size: int
    time_s: int


class WitnessClient:
    """One witness. For one thread at a time."""

    def __init__(
        self,
        settings: WitnessSettings,
        state_dir: Path,
        *,
        timeout_s: float = TIMEOUT_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Raises ConfigError for settings that cannot be used."""
        try:
            self.key = parse_key(settings.key)
        except NoteError as error:
            raise ConfigError(f"audit.witnesses.key: {error}") from error
        if self.key.kind == ED25519:
            raise ConfigError("audit.witnesses.key: this key signs logs; give the one that the witness prints")
        url = urlsplit(settings.url)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise ConfigError("audit.witnesses.url: give the witness' address, http or https, as it is told")
        self._url = settings.url.rstrip("/") + "/add-checkpoint"
        self._path = state_dir / f"witness-{self.key.id.hex()}.json"
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._seen = self._remembered()
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=1, cert_reqs="CERT_REQUIRED")

    @property
    def name(self) -> str:
        """The witness' own."""
        return self.key.name

    def cosign(self, origin: str, note: str, size: int, consistency: Consistency) -> str:
        """The witness' signature lines for this checkpoint. Raises WitnessError.

        `consistency(old)` is the proof from a tree of `old` entries, 0 < old < size, to this one; what it raises is passed on.
        """
        head = read_checkpoint(note)
        if (head.origin, head.size) != (origin, size):
            raise ValueError("the note is not of this origin and size")
        old = self._seen.get(origin, Seen(0, 0)).size
        if old > size:
            raise WitnessError(f"rollback: it saw {old:,} entries of this log, and now there are {size:,}")
        for _ in range(TRIES):
            proof = consistency(old) if 0 < old < size else ()
            status, kind, answer = self._post(_request(old, proof, note))
            if status == 200:
                return self._accept(head, note, answer)
            if status != 409:
                raise WitnessError(_MEANING.get(status, f"failing: it answered with status {status}"))
            old = _known_size(kind, answer, old, size)
        raise WitnessError("busy: it names another size each time; somebody else shows it this log")

    def close(self) -> None:
        """Let go of the connection. Harmless twice."""
        self._pool.clear()

    def _accept(self, head: Checkpoint, note: str, answer: bytes) -> str:
        """The lines of this witness. Raises WitnessError."""
        try:
            lines = read_lines(answer.decode("utf-8"))
            mine = [line for line in lines if (line.name, line.key_id) == (self.key.name, self.key.id)]
            found = cosigned_by(read_note(note).text, mine, (self.key,), (head.origin, head.size, head.root))
        except (NoteError, UnicodeDecodeError) as error:
            raise WitnessError("no_cosignature: its answer holds none, or one that does not verify") from error
        if not found:
            raise WitnessError("wrong_key: it signs with another key than the configured one")
        last = self._seen.get(head.origin, Seen(0, 0))
        now_s = self._now_s()
        for one in found:
            if one.time_s < last.time_s:
                raise WitnessError("clock: it dates this before what it signed last; its clock went back")
            if abs(one.time_s - now_s) > SKEW_S:
                raise WitnessError(f"clock: its date is more than {SKEW_S} s from ours; one of the clocks is wrong")
        self._remember(head.origin, Seen(head.size, max(one.time_s for one in found)))
        return "".join(str(line) for line in mine)

    def _post(self, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body of the answer. Raises WitnessError for none, or one that is too long or too slow."""
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=body,
                headers={"content-type": "text/plain; charset=utf-8", "accept-encoding": "identity"},
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(total=self._timeout_s),
            )
            found = read_answer(response, _ANSWER_BYTES_MAX, self._timeout_s)
        except AnswerError as error:
            raise WitnessError(f"unreachable: it {error}") from None
        except urllib3.exceptions.HTTPError as error:
            raise WitnessError(f"unreachable: {type(error).__name__}") from None  # its text may hold the address
        return response.status, response.headers.get("content-type", ""), found

    def _remembered(self) -> dict[str, Seen]:
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(_STATE_BYTES_MAX), type=dict[str, Seen])
        except (FileNotFoundError, msgspec.MsgspecError):
            return {}

    def _remember(self, origin: str, seen: Seen) -> None:
        self._seen.pop(origin, None)  # to the end: it was used last
        self._seen[origin] = seen
        while len(self._seen) > ORIGINS_MAX:
            del self._seen[next(iter(self._seen))]
        put(self._path, msgspec.json.encode(self._seen))


def _request(old: int, proof: Sequence[bytes], note: str) -> bytes:
    if len(proof) > PROOF_MAX:
        raise ValueError(f"a consistency proof has at most {PROOF_MAX} hashes")
    lines = [f"old {old}", *(base64.b64encode(one).decode() for one in proof)]
    return ("\n".join(lines) + "\n\n" + note).encode()


def _known_size(kind: str, answer: bytes, asked: int, size: int) -> int:
    """The size that a 409 names. Raises WitnessError where asking from there leads nowhere."""
    if kind.partition(";")[0].strip() != SIZE_TYPE:
        raise WitnessError("fork: it was shown another tree of this size")
    try:
        known = read_decimal(answer.decode("ascii").removesuffix("\n"), "the size", SIZE_MAX)
    except (NoteError, UnicodeDecodeError) as error:
        raise WitnessError("no_cosignature: its answer cannot be read") from error
    if known == asked:
        raise WitnessError("fork: it was shown another tree of this size")
    if known > size:
        raise WitnessError(f"rollback: it saw {known:,} entries of this log, and now there are {size:,}")
    return known
