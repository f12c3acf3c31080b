"""A signer that remembers: a log's key under a user of its own, for those who have no token and no key service.

It is what `audit.signer.command` may name, through sudo or ssh, so that neither workers nor the sealer can read the key. It signs nothing but
heads of logs, and of each log none that is smaller than, or at the same size other than, what it signed before: who
takes over the sealer can still ask for signatures, but can neither go back nor say two things of one size. Whether a larger head goes on from
the smaller one, only the hashes between them tell, which are not here: that is what a witness is shown before it signs. A change of keys is signed only when it is told to.

    DIR/keys/log-1.key      as `gateway.signing.logkey`
    DIR/signed/<sha256>     of each origin: the size and root that were signed last, on the disk before the signature leaves
    DIR/signed/.change      the verifier key of the successor that is allowed, and until when

Small imports: it is started for each signature.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from gateway.file_lock import locked
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import Checkpoint, parse_checkpoint
from gateway.tlog.keys import HEADER
from gateway.tlog.note import NoteError, VerifierKey
from gateway.whole_file import make_folder, put

MESSAGE_BYTES_MAX = 4096  # as `command.MESSAGE_BYTES_MAX`
SIGNED_NAME = "signed"
LOCK_NAME = ".lock"
CHANGE_NAME = ".change"
CHANGE_S = 3600  # our choice: a rotation that was allowed follows soon


class RefusedError(Exception):
    """The message is not signed. Says why."""


def sign(folder: Path, message: bytes, *, key_change: bool = False) -> bytes:
    """The 64 bytes of the signature. Raises RefusedError, OSError, ConfigError for a file that holds no key."""
    if len(message) > MESSAGE_BYTES_MAX:
        raise RefusedError(f"the message has {len(message):,} bytes; heads of logs have at most {MESSAGE_BYTES_MAX:,}")
    try:
        text = message.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError("the message is not text; this key signs heads of logs") from error
    if text.startswith(f"{HEADER}\n"):
        if not key_change:
            _take_leave(folder, text)
        return LogKey.load(folder).sign(message)
    try:
        head = parse_checkpoint(text)
    except NoteError as error:
        raise RefusedError(f"not the head of a log: {error}") from error
    key = LogKey.load(folder)
    make_folder(folder / SIGNED_NAME, durable=True, private=True)
    with locked(folder / SIGNED_NAME / LOCK_NAME):  # two at once could each sign what the other must not
        _follow(folder / SIGNED_NAME / hashlib.sha256(head.origin.encode()).hexdigest(), head, message)
        return key.sign(message)


def allow_change(folder: Path, successor: VerifierKey) -> int:
    """Have the next change of keys signed if it is to this key; until when, in seconds of the epoch. Raises OSError."""
    until_s = int(time.time()) + CHANGE_S
    make_folder(folder / SIGNED_NAME, durable=True, private=True)
    put(folder / SIGNED_NAME / CHANGE_NAME, f"{successor}\n{until_s}\n".encode(), durable=True, private=True)
    return until_s


def _take_leave(folder: Path, text: str) -> None:
    """Use up what was allowed. Raises RefusedError, OSError."""
    path = folder / SIGNED_NAME / CHANGE_NAME
    try:
        successor, until = path.read_text("utf-8").split()
        allowed = until.isdecimal() and 0 <= int(until) - time.time() <= CHANGE_S
        if allowed and successor in text.split("\n")[3:4]:
            path.unlink()  # of two at once one finds it; another change leaves it for the one that was meant
            return
    except (FileNotFoundError, ValueError):
        pass
    raise RefusedError(
        "a change of keys is signed only with --key-change, or once after the key's user allowed it: "
        "`licet audit key sign --allow-change` with the new key"
    )


def _follow(path: Path, head: Checkpoint, message: bytes) -> None:
    """Remember a head that may be signed; refuse another."""
    try:
        last = parse_checkpoint(path.read_text("utf-8"))
    except FileNotFoundError:
        last = None
    except (NoteError, UnicodeDecodeError) as error:
        raise RefusedError(f"{path}: cannot be read; restore it, or the log could be told anew") from error
    if last is not None:
        if head.size < last.size:
            raise RefusedError(f"a head of {last.size:,} records was signed for this log; {head.size:,} are fewer")
        if head.size == last.size and head.root != last.root:
            raise RefusedError(f"another head of {last.size:,} records was signed for this log")
    put(path, message, durable=True, private=True)
