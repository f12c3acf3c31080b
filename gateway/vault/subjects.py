"""The keys of end users' transcripts: one file each, a month long, wrapped by a key of the gateway.

    DATA/keys/transcript-1.key                           32 random bytes that wrap all others
    DATA/transcripts/<YYYYMM>/keys/<aa>/<name>.key       magic, nonce and the wrapped key: 68 bytes

Why files and no database: a database keeps copies of a page in its log, its journal and its free list. Here the wrapped key is at
one place of the disk, written once, and destroying it is to overwrite these bytes, sync, and unlink. What this cannot reach: old blocks
of file systems that copy on write, of flash that moves blocks, and backups. Keep `DATA/keys` on another volume than the
rest and out of the backups of it: what is wrapped is worth nothing without.

A month's keys are used for that month's transcripts alone. So prune needs no look at who is still using one: when the last
transcripts of a month are past, all its keys go. A crash while a key is destroyed leaves zeros, which count as destroyed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections import OrderedDict
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.keyfile import load_key
from gateway.vault.access import MissingError, VaultError
from gateway.whole_file import make_folder, new, sync_folder

TRANSCRIPTS_NAME = "transcripts"
KEYS_NAME = "keys"
KEK_NAME = "transcript-1.key"
KEY_BYTES = 32  # AES-256
NONCE_BYTES = 12  # NIST SP 800-38D, section 8.2
TAG_BYTES = 16
MAGIC = b"licettk1"
WRAPPED_BYTES = len(MAGIC) + NONCE_BYTES + KEY_BYTES + TAG_BYTES
NAME_BYTES = 16
CACHED = 4_096  # our choice: users of one worker in some minutes; an entry is some 500 bytes


class ErasedError(MissingError):
    """The key was destroyed, so what it opened stays closed."""


def name_of(subject: str) -> str:
    """What the key of an end user is called: 32 hex digits of a hash of the keyed digest that records name them by."""
    return hashlib.sha256(b"licet transcript subject\x00" + subject.encode()).hexdigest()[: 2 * NAME_BYTES]


def months(data_dir: Path) -> list[str]:
    """The months that there are transcripts or keys of, oldest first."""
    top = data_dir / TRANSCRIPTS_NAME
    if not top.is_dir():
        return []
    return sorted(p.name for p in top.iterdir() if len(p.name) == 6 and p.name.isdigit() and p.is_dir())


def key_path(top: Path, month: str, name: str) -> Path:
    """Where a key is, below DATA/transcripts."""
    return top / month / KEYS_NAME / name[:2] / f"{name}.key"


class SubjectKeys:
    """Keys by name. For one thread. `held` never blocks for long; `get` may, for it makes and syncs files."""

    def __init__(self, data_dir: Path) -> None:
        """Raises OSError, and VaultError for a wrapping key of the wrong length."""
        kek = load_key(data_dir, KEK_NAME, KEY_BYTES)
        if len(kek) != KEY_BYTES:
            path = data_dir / KEYS_NAME / KEK_NAME
            raise VaultError(f"{path}: this key has {KEY_BYTES} bytes, the file has {len(kek)}; restore it")
        self._kek = AESGCM(kek)
        self._top = data_dir / TRANSCRIPTS_NAME
        self._place = str(self._top)
        self._cache: OrderedDict[tuple[str, str], tuple[int, int, AESGCM]] = OrderedDict()

    def held(self, month: str, name: str) -> AESGCM | None:
        """The key if it is at hand and its file is still the one it was read from: a destroyed key is not used again."""
        known = self._cache.get((month, name))
        if known is None:
            return None
        inode, made_ns, key = known
        try:
            now = os.stat(f"{self._place}/{month}/{KEYS_NAME}/{name[:2]}/{name}.key")  # noqa: PTH116  on the event loop
        except FileNotFoundError:
            now = None
        if now is None or (now.st_ino, now.st_mtime_ns) != (inode, made_ns):
            del self._cache[(month, name)]
            return None
        self._cache.move_to_end((month, name))
        return key

    def get(self, month: str, name: str) -> AESGCM:
        """The key, made and synced if there is none. Raises OSError, VaultError."""
        key = self.held(month, name)
        if key is not None:
            return key
        path = self._path(month, name)
        try:
            return self.read(month, name)
        except ErasedError:
            path.unlink(missing_ok=True)  # zeros that a crash left
        plain = secrets.token_bytes(KEY_BYTES)
        nonce = secrets.token_bytes(NONCE_BYTES)
        make_folder(path.parent, durable=True, private=True)
        with contextlib.suppress(FileExistsError):  # another worker was faster: its key holds
            new(path, MAGIC + nonce + self._kek.encrypt(nonce, plain, _bound(month, name)), durable=True, private=True)
        return self.read(month, name)

    def read(self, month: str, name: str) -> AESGCM:
        """The key. Raises ErasedError where there is none, VaultError where it cannot be unwrapped, OSError."""
        path = self._path(month, name)
        try:
            with path.open("rb") as file:
                content = file.read(WRAPPED_BYTES + 1)
                status = os.fstat(file.fileno())
        except FileNotFoundError:
            content, status = b"", None
        if status is None or not content.strip(b"\x00"):
            raise ErasedError("the key of this end user's transcripts of that month was destroyed; nothing opens them")
        nonce, wrapped = content[len(MAGIC) : len(MAGIC) + NONCE_BYTES], content[len(MAGIC) + NONCE_BYTES :]
        if len(content) != WRAPPED_BYTES or not content.startswith(MAGIC):
            raise VaultError(f"{path}: this is no key of a transcript; restore the file")
        try:
            key = AESGCM(self._kek.decrypt(nonce, wrapped, _bound(month, name)))
        except InvalidTag as error:
            kek = f"{KEYS_NAME}/{KEK_NAME}"
            raise VaultError(f"{path}: altered, or wrapped by another key than {kek}; restore either") from error
        self._cache[(month, name)] = (status.st_ino, status.st_mtime_ns, key)
        if len(self._cache) > CACHED:
            self._cache.popitem(last=False)
        return key

    def _path(self, month: str, name: str) -> Path:
        return key_path(self._top, month, name)


def destroy(path: Path) -> None:
    """Overwrite a small file where it lies, sync, unlink, sync the folder. Harmless twice. Raises OSError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(handle).st_size
        for fill in (secrets.token_bytes(size), bytes(size)):
            os.pwrite(handle, fill, 0)
            os.fsync(handle)
    finally:
        os.close(handle)
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def _bound(month: str, name: str) -> bytes:
    return b"licet transcript key v1\n%b\n%b" % (month.encode(), name.encode())
