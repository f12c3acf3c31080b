"""A witness that somebody else runs, a regulator for one (C2SP `tlog-witness`, as of 2025): it is shown heads of logs and signs those
that extend what it saw before.

    DIR/witness.json                its name
    DIR/keys/witness.key            its key, 32 bytes; it signs cosignatures and nothing else
    DIR/logs/<sha256 of origin>     the newest checkpoint that it cosigned of a log, its own line included
    DIR/evidence/                   requests that a log signed and that contradict what it showed before, each beside what was known

It holds no data of anybody's, only heads. Order: what is asked (400), of which log (404), who signed (403), whether it goes on from what
was cosigned last (409), whether it extends that (422), whether the clock goes on (503); then the head is put down, synced, and only then
signed for. A crash between leaves a head that nobody has a signature for, which is asked for again.

What it believes of the past is what it signed itself: a file in `logs` that its key did not sign is refused. A file that is taken away
is a log that it never saw: its folder is as precious as its key.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.errors import ConfigError
from gateway.file_lock import take
from gateway.seal.witness_client import PROOF_MAX, SIZE_TYPE
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import SIZE_MAX, Checkpoint, read_checkpoint
from gateway.tlog.cosignature import cosign, cosigned_by
from gateway.tlog.note import (
    COSIGNATURE_ED25519,
    ED25519,
    NOTE_CHARS_MAX,
    Note,
    NoteError,
    VerifierKey,
    check_name,
    parse_key,
    read_base64,
    read_decimal,
    read_note,
    signed_by,
)
from gateway.tlog.tree import HASH_BYTES, verify_consistency
from gateway.whole_file import new, put

KEY_NAME = "witness.key"
NAME_NAME = "witness.json"
LOGS_NAME = "logs"
EVIDENCE_NAME = "evidence"
BODY_BYTES_MAX = NOTE_CHARS_MAX + 4096  # a note, and the proof's 63 lines of 45 bytes
ORIGINS_MAX = 100_000  # our choice: a log's key may have as many streams as its workers had lives; 1 kB each
EVIDENCE_MAX = 2_000  # our choice, 130 kB each at most; the first ones count
TEXT = "text/plain; charset=utf-8"

log = logging.getLogger("licet.witness")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered over HTTP."""

    status: int
    body: bytes
    content_type: str = TEXT


@dataclass(frozen=True, slots=True)
class Request:
    """What `add-checkpoint` was sent. `proof` leads from the tree of `old` entries to the checkpoint's."""

    old: int
    proof: tuple[bytes, ...]
    note: Note
    head: Checkpoint


@dataclass(frozen=True, slots=True)
class Kept:
    """What it cosigned last of a log."""

    checkpoint: Checkpoint
    time_s: int
    note: bytes


class _Name(msgspec.Struct, frozen=True):
    name: str


def init(folder: Path, name: str) -> VerifierKey:
    """Make a witness, or show the one that is there. Raises ConfigError for another name or a name that cannot be, OSError."""
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigError(f"name: {error}") from error
    if not (folder / NAME_NAME).exists():
        (folder / LOGS_NAME).mkdir(parents=True, exist_ok=True)
        LogKey.load(folder, KEY_NAME)
        with contextlib.suppress(
            FileExistsError
        ):  # last, so that half a witness can be made whole; another may be faster
            new(folder / NAME_NAME, msgspec.json.encode(_Name(name)), durable=True)
    key = load(folder)
    if key.name != name:
        raise ConfigError(f"{folder} is the witness {key.name!r}; a name is for ever")
    return key


def load(folder: Path) -> VerifierKey:
    """The witness that is there. Raises ConfigError, OSError."""
    try:
        name = msgspec.json.decode((folder / NAME_NAME).read_bytes(), type=_Name).name
        check_name(name)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no witness under {folder}; make one: licet audit witness init") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"{folder / NAME_NAME} cannot be read; restore it") from error
    if not (folder / "keys" / KEY_NAME).is_file() or not (folder / LOGS_NAME).is_dir():
        raise ConfigError(
            f"{folder}: the key or the folder `{LOGS_NAME}` is missing; restore them, or make a new witness elsewhere"
        )
    return VerifierKey(name, COSIGNATURE_ED25519, LogKey.load(folder, KEY_NAME).public)


def seen(folder: Path, key: VerifierKey) -> Iterator[Kept]:
    """What it cosigned last of each log. Raises ConfigError for a file that it did not write, OSError."""
    for path in sorted((folder / LOGS_NAME).glob("[0-9a-f]*")):
        kept = _kept(path, key)
        if kept is not None:
            yield kept


class Witness:
    """One witness, safe for several threads; a second process is refused at the door. `close()` at the end."""

    def __init__(self, folder: Path, logs: Sequence[str], *, now_s: Callable[[], float] = time.time) -> None:
        """`logs`: verifier keys; each admits the origin that is its name, and those that begin with its name and a slash.

        Raises ConfigError and OSError.
        """
        self.key = load(folder)
        self._folder = folder
        self._now_s = now_s
        self._signer = LogKey.load(folder, KEY_NAME)
        self._logs = [_log_key(text) for text in logs]
        self._lock = threading.Lock()
        door = take(folder / ".lock")
        if door is None:
            raise ConfigError(f"{folder}: another process is this witness already")
        self._door = door
        self._origins = sum(1 for _ in (folder / LOGS_NAME).glob("[0-9a-f]*"))

    def close(self) -> None:
        """Let another process be this witness. Harmless twice."""
        door, self._door = self._door, -1
        if door >= 0:
            os.close(door)

    def add_checkpoint(self, body: bytes) -> Answer:
        """The answer to `POST add-checkpoint`. Blocks until the head is synced. Never raises for what was sent."""
        try:
            request = read_request(body)
        except NoteError as error:
            return _refuse(400, str(error))
        origin = request.head.origin
        keys = [key for key in self._logs if origin == key.name or origin.startswith(key.name + "/")]
        if not keys:
            return _refuse(404, "this witness does not know the log")
        try:
            signed = signed_by(*request.note, keys)
        except NoteError:
            signed = ()
        if not signed:
            return _refuse(403, "no key that is known for this log signed the checkpoint")
        if request.old > request.head.size:
            return _refuse(400, "the old size is larger than the checkpoint's")
        with self._lock:
            if self._door < 0:
                return _refuse(503, "the witness is about to end")
            try:
                return self._decide(request, body, {(key.name, key.id) for key in signed})
            except (OSError, ConfigError) as error:
                log.critical("the witness cannot read or write what it saw: %s", error)
                return _refuse(503, "the witness cannot read or write what it saw")

    def checkpoint(self, origin_sha256: str) -> Answer:
        """The answer to `GET <hex sha256 of the origin>/checkpoint`: the newest that was cosigned."""
        path = self._folder / LOGS_NAME / origin_sha256
        try:
            return Answer(200, path.read_bytes())
        except FileNotFoundError:
            return _refuse(404, "this witness never cosigned a checkpoint of this log")
        except OSError:
            log.exception("a kept checkpoint cannot be read")
            return _refuse(503, "what this witness saw cannot be read")

    def _decide(self, request: Request, body: bytes, signers: set[tuple[str, bytes]]) -> Answer:
        head = request.head
        path = self._folder / LOGS_NAME / hashlib.sha256(head.origin.encode()).hexdigest()
        kept = _kept(path, self.key)
        known = kept.checkpoint.size if kept else 0
        if kept and head.size == known and head.root != kept.checkpoint.root:
            # Two roots at one size, both signed: proof enough, whatever else is wrong with the request.
            self._keep_evidence(body, kept.note)
            if request.old == known:
                return _refuse(422, "the log signed another tree of this size before")
        if request.old != known:
            return Answer(409, b"%d\n" % known, SIZE_TYPE)
        if not _extends(request, kept.checkpoint if kept else None):
            if kept:
                self._keep_evidence(body, kept.note)
            return _refuse(422, "the proof does not lead from the checkpoint that was cosigned to this one")
        now_s = int(self._now_s())
        if kept and now_s < kept.time_s:
            return _refuse(503, "the clock of this witness went back")
        if not kept and self._origins >= ORIGINS_MAX:
            return _refuse(503, f"this witness keeps the heads of {ORIGINS_MAX:,} logs, and no more")
        text = request.note.text
        line = cosign(text, self._signer, self.key.name, now_s)
        lines = "".join(str(one) for one in request.note.lines if (one.name, one.key_id) in signers)
        put(path, text + b"\n" + lines.encode() + line.encode(), durable=True)  # before the signature leaves
        self._origins += kept is None
        return Answer(200, line.encode())

    def _keep_evidence(self, body: bytes, known: bytes) -> None:
        """What a log signed against itself, each thing once. Raises OSError: what cannot be kept is not answered either."""
        folder = self._folder / EVIDENCE_NAME
        name = hashlib.sha256(body + known).hexdigest()
        if (folder / f"{name}.request").exists():
            return
        log.error("a log contradicts what it signed before: evidence %s", name)
        if folder.is_dir() and sum(1 for _ in folder.glob("*.request")) >= EVIDENCE_MAX:
            log.error("evidence is not kept any more: there are %d pieces", EVIDENCE_MAX)
            return
        put(folder / f"{name}.known", known, durable=True)
        put(folder / f"{name}.request", body, durable=True)


def read_request(body: bytes) -> Request:
    """The parts of an `add-checkpoint` request. Raises NoteError for another form."""
    if len(body) > BODY_BYTES_MAX:
        raise NoteError(f"the request has more than {BODY_BYTES_MAX:,} bytes")
    try:
        head, blank, note = body.decode("utf-8").partition("\n\n")
    except UnicodeDecodeError as error:
        raise NoteError("the request is not UTF-8") from error
    old, *lines = head.split("\n")
    if not blank or not old.startswith("old ") or len(lines) > PROOF_MAX:
        raise NoteError("a request is `old <size>`, the proof's lines, an empty line and a checkpoint")
    size = read_decimal(old.removeprefix("old "), "the old size", SIZE_MAX)
    proof = tuple(read_base64(line, "a hash of the proof") for line in lines)
    if any(len(one) != HASH_BYTES for one in proof):
        raise NoteError("a hash of the proof has another length")
    return Request(size, proof, read_note(note), read_checkpoint(note))


def _extends(request: Request, known: Checkpoint | None) -> bool:
    head = request.head
    if known is None or known.size == 0:
        return not request.proof  # nothing is a beginning of everything
    return verify_consistency(known.size, head.size, known.root, head.root, request.proof)


def _kept(path: Path, key: VerifierKey) -> Kept | None:
    """The checkpoint in a file that this witness wrote; None for no file. Raises ConfigError, OSError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        note = data.decode("utf-8")
        head = read_checkpoint(note)
        found = cosigned_by(*read_note(note), (key,), (head.origin, head.size, head.root))
    except (NoteError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is no checkpoint that this witness signed; restore it") from error
    if not found or hashlib.sha256(head.origin.encode()).hexdigest() != path.name:
        raise ConfigError(f"{path}: this is no checkpoint that this witness signed; restore it")
    return Kept(head, max(one.time_s for one in found), data)


def _log_key(text: str) -> VerifierKey:
    try:
        key = parse_key(text)
    except NoteError as error:
        raise ConfigError(f"log: {error}; `licet audit key` of the gateway shows it") from error
    if key.kind != ED25519:
        raise ConfigError("log: this key cosigns; give the one that `licet audit key` of the gateway shows")
    return key


def _refuse(status: int, why: str) -> Answer:
    return Answer(status, why.encode() + b"\n")
