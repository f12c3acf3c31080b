"""The keys of end users' transcripts: one file each (`wrapped.py`), a month long, wrapped by a key of the gateway (`wrapping.py`).

Why files and no database: a database keeps copies of a page in its log, its journal and its free list. Here the wrapped key is at
one place of the disk, written once, and destroying it is to overwrite these bytes and sync. What this cannot reach: old blocks
of file systems that copy on write, of flash that moves blocks, and backups. Keep `DATA/keys` on another volume than the
rest and out of the backups of it: what is wrapped is worth nothing without.

A month's keys are used for that month's transcripts alone. So prune needs no look at who is still using one: when the last
transcripts of a month are past, all its keys go. Until then an empty file stays where a key was destroyed: its name is never used again, so
what the key closed is told as erased, and who comes back in that month gets a key of the next name (`nth`). A crash while a key is destroyed
leaves zeros, which count as destroyed.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.vault.access import ErasedError, VaultError
from gateway.vault.wrapped import (
    KEY_BYTES,
    KEYS_NAME,
    NONCE_BYTES,
    TRANSCRIPTS_NAME,
    WRAPPED_BYTES,
    in_use,
    pack,
    unpack,
    users_keys,
)
from gateway.vault.wrapping import WrappingKeys, numbers, wrap_path
from gateway.whole_file import make_folder, new

NAME_BYTES = 16
ERASURES_MAX = 1_000  # our choice: of one user in one month; each is a file that is looked at
CACHED = 4_096  # our choice: users of one worker in some minutes; an entry is some 500 bytes


def name_of(subject: str) -> str:
    """What the key of an end user is called: 32 hex digits of a hash of the keyed digest that records name them by."""
    return hashlib.sha256(b"licet transcript subject\x00" + subject.encode()).hexdigest()[: 2 * NAME_BYTES]


def nth(name: str, number: int) -> str:
    """What the end user's key is called after so many erasures in its month."""
    if number == 0:
        return name
    return hashlib.sha256(b"licet transcript key\x00%b\x00%d" % (name.encode(), number)).hexdigest()[: 2 * NAME_BYTES]


def key_path(top: Path, month: str, name: str) -> Path:
    """Where a key is, below DATA/transcripts."""
    return top / month / KEYS_NAME / name[:2] / f"{name}.key"


def key_names(top: Path, month: str, name: str) -> Iterator[str]:
    """All names that an end user's keys of a month ever had, destroyed ones too, oldest first."""
    names = (nth(name, number) for number in range(ERASURES_MAX + 1))
    return itertools.takewhile(lambda one: key_path(top, month, one).exists(), names)


class Key(NamedTuple):
    """What an end user's transcripts of a month are encrypted with now."""

    name: str
    cipher: AESGCM


class _Known(NamedTuple):
    """A key, and the file that it was read from."""

    path: str
    inode: int
    made_ns: int
    size: int
    key: Key


class SubjectKeys:
    """Keys by their end user. For one thread. `held` never blocks for long; `get` may, for it makes and syncs files."""

    def __init__(self, home: Path) -> None:
        """Reads nothing yet."""
        self._wraps = WrappingKeys(home)
        self._home = home
        self._top = home / TRANSCRIPTS_NAME
        self._cache: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def ready(self) -> None:
        """Have the key that wraps, made if there is none. Raises VaultError for one that cannot be used, OSError."""
        self._wraps.newest()

    def held(self, month: str, name: str) -> Key | None:
        """The end user's key if it is at hand and its file is still the one it was read from: a destroyed key is not used again."""
        known = self._cache.get((month, name))
        if known is None:
            return None
        try:
            now = os.stat(known.path)  # noqa: PTH116  on the event loop
        except FileNotFoundError:
            now = None
        if now is None or (now.st_ino, now.st_mtime_ns, now.st_size) != known[1:4]:
            del self._cache[(month, name)]
            return None
        self._cache.move_to_end((month, name))
        return known.key

    def get(self, month: str, name: str) -> Key:
        """The end user's key, made and synced if there is none. Raises OSError, VaultError."""
        key = self.held(month, name)
        return key if key is not None else self.find(month, name, make=True)

    def find(self, month: str, name: str, *, make: bool = False) -> Key:
        """The end user's key, from its file. Raises ErasedError where there is none, OSError, VaultError."""
        for number in range(ERASURES_MAX + 1):
            called = nth(name, number)
            path = self._path(month, called)
            if make and not path.exists():
                self._make(month, called, path)
            try:
                cipher, status = self._read(month, called)
            except ErasedError:
                if path.exists():
                    continue  # an erased one: the next name
                raise
            known = _Known(str(path), status.st_ino, status.st_mtime_ns, status.st_size, Key(called, cipher))
            self._cache[(month, name)] = known
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
            return known.key
        raise VaultError(f"an end user was erased {ERASURES_MAX:,} times this month; no more keys are made for them")

    def read(self, month: str, name: str) -> AESGCM:
        """The key that is called so. Raises ErasedError where it is gone, VaultError where it cannot be unwrapped, OSError."""
        return self._read(month, name)[0]

    def _make(self, month: str, name: str, path: Path) -> None:
        plain = secrets.token_bytes(KEY_BYTES)
        nonce = secrets.token_bytes(NONCE_BYTES)
        make_folder(path.parent, durable=True, private=True)
        with self._wraps.wrapping() as (number, wrap):
            sealed = wrap.encrypt(nonce, plain, _bound(month, name, number))
            with contextlib.suppress(FileExistsError):  # another worker was faster: its key holds
                new(path, pack(number, nonce, sealed), durable=True, private=True)

    def _read(self, month: str, name: str) -> tuple[AESGCM, os.stat_result]:
        path = self._path(month, name)
        try:
            with path.open("rb") as file:
                content = file.read(WRAPPED_BYTES + 1)
                status = os.fstat(file.fileno())
        except FileNotFoundError:
            content, status = b"", None
        if status is None or not content.strip(b"\x00"):
            raise ErasedError("the key of this end user's transcripts of that month was destroyed; nothing opens them")
        held = unpack(content)
        if held is None:
            raise VaultError(f"{path}: this is no key of a transcript; restore the file")
        bound = _bound(month, name, held.number if held.numbered else None)
        try:
            return AESGCM(self._wraps.get(held.number).decrypt(held.nonce, held.sealed, bound)), status
        except InvalidTag as error:
            wrap = f"{KEYS_NAME}/{wrap_path(self._home, held.number).name}"
            raise VaultError(f"{path}: altered, or wrapped by another key than {wrap}; restore either") from error

    def _path(self, month: str, name: str) -> Path:
        return key_path(self._top, month, name)


def destroy(path: Path) -> None:
    """Overwrite a small file where it lies, sync, and leave it there empty. Harmless twice. Raises OSError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(handle).st_size
        for fill in (secrets.token_bytes(size), bytes(size)):
            os.pwrite(handle, fill, 0)
            os.fsync(handle)
        os.ftruncate(handle, 0)
        os.fsync(handle)
    finally:
        os.close(handle)


class Wrapping(NamedTuple):
    """A wrapping key, for people."""

    path: Path
    state: str  # wraps | opens | destroyed
    since_s: int  # when its file was made, or destroyed
    wraps: int  # keys of end users


def wrapping_keys(home: Path, *, living: bool) -> list[Wrapping]:
    """All that ever were, oldest first. `living`: the newest wraps what comes. Raises OSError."""
    ever, used = numbers(home), in_use(users_keys(home))
    found = []
    for number in ever:
        path = wrap_path(home, number)
        status = path.stat()
        state = "wraps" if living and number == ever[-1] else "opens"
        state = state if status.st_size else "destroyed"
        found.append(Wrapping(path, state, int(status.st_mtime), used.get(number, 0)))
    return found


def _bound(month: str, name: str, number: int | None) -> bytes:
    """What a wrapped key is bound to; `number` None: in a file that has none."""
    if number is None:
        return b"licet transcript key v1\n%b\n%b" % (month.encode(), name.encode())
    return b"licet transcript key v2\n%b\n%b\n%d" % (month.encode(), name.encode(), number)
