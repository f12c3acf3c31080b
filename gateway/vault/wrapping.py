"""The keys that wrap end users' keys: `DATA/keys/transcript-<n>.key`, 32 random bytes each. The newest wraps; older ones open what they wrapped.

The first is made by who first writes a transcript, another by `licet audit transcript rotate`. Nothing is wrapped anew: what a key wrapped
lives for a month and its retention, and the key with it. Pruning destroys an older key once nothing is left that it wrapped. A destroyed key
stays as an empty file, so that its number is not used again; nor is that of a key that is missing while something that it wrapped is here.

Who wraps holds the lock of the key's file meanwhile, and so does who destroys it, after another look at what it wrapped: no user's key is left
behind that nothing opens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.audit.record import STRING_CHARS_MAX
from gateway.file_lock import locked, locked_or
from gateway.keyfile import load_key
from gateway.vault.access import AccessLog, Detail, ErasedError, MissingError, VaultError, who
from gateway.vault.wrapped import KEY_BYTES, KEYS_NAME, in_use, users_keys

NUMBER_MAX = 1_000  # our choice: a key a week for twenty years; each file is looked at where keys are listed (L9)
KEY_CHANGE = "key_change"
_NAME = re.compile(r"transcript-([1-9][0-9]{0,3})\.key")
_LOCK_NAME = ".rotating-transcript"


def wrap_path(home: Path, number: int) -> Path:
    """Where a key is."""
    return home / KEYS_NAME / f"transcript-{number}.key"


def numbers(home: Path) -> list[int]:
    """All keys that ever were, destroyed ones too, oldest first. Raises OSError."""
    folder = home / KEYS_NAME
    if not folder.is_dir():
        return []
    return sorted(int(found[1]) for path in folder.iterdir() if (found := _NAME.fullmatch(path.name)))


def usable(home: Path) -> list[int]:
    """Those that were not destroyed, oldest first. Raises OSError."""
    return [number for number in numbers(home) if wrap_path(home, number).stat().st_size]


class WrappingKeys:
    """The keys of one home. For one thread."""

    def __init__(self, home: Path) -> None:
        """Reads nothing yet."""
        self._home = home
        self._known: dict[int, AESGCM] = {}

    def get(self, number: int) -> AESGCM:
        """Raises ErasedError where it was destroyed, VaultError where it is missing or no key, OSError."""
        known = self._known.get(number)
        if known is None:
            known = self._known[number] = _read(wrap_path(self._home, number))
        return known

    def newest(self) -> int:
        """The number of the one that wraps, made if there is none or the last was destroyed. Raises VaultError for what is no key, OSError."""
        found = numbers(self._home)
        if not found or not wrap_path(self._home, found[-1]).stat().st_size:  # whoever lost it for good gave it up
            found = [_next(self._home, found)]
            load_key(self._home, wrap_path(self._home, found[-1]).name, KEY_BYTES)
        self.get(found[-1])
        return found[-1]

    @contextmanager
    def wrapping(self) -> Iterator[tuple[int, AESGCM]]:
        """The newest and its number, which nobody destroys meanwhile. Raises as `newest`."""
        while True:
            number = self.newest()
            path = wrap_path(self._home, number)
            with locked(path, existing=True):
                if path.stat().st_size:
                    yield number, self.get(number)
                    return
            self._known.pop(number, None)  # destroyed since: the next look finds a newer one, or makes it


def rotate(home: Path, reason: str, log: AccessLog, step: Callable[[], object] = lambda: None) -> tuple[int, int]:
    """Make the next key, which wraps from now on; (the number before, its own). Running workers take it up by themselves.

    Recorded first. A kill leaves a note that it began, and perhaps a key that wraps already; the next rotation makes another behind it.
    Raises MissingError where there is no key to follow, VaultError, AuditError, OSError.
    """
    (home / KEYS_NAME).mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked_or(VaultError("another rotation is under way; wait for it"), home / KEYS_NAME / _LOCK_NAME):
        found = numbers(home)
        if not found:
            raise MissingError("no transcript was kept here yet, so there is no key to replace")
        new = _next(home, found)
        if new > NUMBER_MAX:
            raise VaultError(f"there were {NUMBER_MAX:,} keys of transcripts already; no more are made")
        detail: Detail = {"what": "transcript key", "from": found[-1], "to": new, "by": who()}
        detail["reason"] = reason[:STRING_CHARS_MAX]
        log.note(KEY_CHANGE, {**detail, "state": "begun"})
        step()
        load_key(home, wrap_path(home, new).name, KEY_BYTES)
        step()
        log.note(KEY_CHANGE, {**detail, "state": "done"})
        return found[-1], new


def _next(home: Path, found: list[int]) -> int:
    """A number that no key ever had: also none that is missing while something it wrapped is here, which another key would make unreadable."""
    # Beyond the greatest: no key of ours, a file that was altered.
    used = [number for number in in_use(users_keys(home)) if number <= NUMBER_MAX]
    again = numbers(home)
    if again and again[-1] not in found:
        return again[-1]  # another process was faster
    return max((*found, *used), default=0) + 1


def _read(path: Path) -> AESGCM:
    try:
        key = path.read_bytes()
    except FileNotFoundError as error:
        raise VaultError(f"{path} is missing, which opens these transcripts; restore it") from error
    if not key.strip(b"\x00"):
        raise ErasedError(f"{path.name} was destroyed, so nothing opens what it wrapped")
    if len(key) != KEY_BYTES:
        raise VaultError(f"{path}: this key has {KEY_BYTES} bytes, the file has {len(key)}; restore it")
    return AESGCM(key)
