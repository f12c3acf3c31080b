"""Files that may change while the gateway runs: policies, licenses, trusted keys.

`Reloadable` holds the current good value of one file. `poll` looks whether the file changed; the new bytes are parsed
and checked as a whole and only then take the old value's place, in one assignment. A file that cannot be used leaves the
old value in force, unless it may be absent, and says so in `error`. No thread, no timer: the app calls `poll`, usually each second.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from gateway.errors import ConfigError
from policies import PolicyError

T = TypeVar("T")

# What tells one state of a file from another: device, inode, size, and both times (a copy may keep the first of them).
_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """A value and the SHA-256 (hex) of the bytes it was read from; the digest is "" for a file that is not there."""

    value: T
    digest: str


class Reloadable(Generic[T]):
    """The current good value of one file.

    `parse` turns bytes into a value, or raises ConfigError or PolicyError. With `absent`, a file that is not there means
    that value, at the start and later (a deleted license is no license), and later so does one that cannot be used;
    without it, a missing file is a problem.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        *,
        bytes_max: int = 1_048_576,
        absent: Callable[[], T] | None = None,
    ) -> None:
        """Reads the file. Raises ConfigError or PolicyError if there is no usable value to begin with."""
        self.path = path
        self._parse = parse
        self._bytes_max = bytes_max
        self._absent = absent
        self._seen: _Stamp | None = None  # what the last poll saw
        self._settled = False  # whether the file was read after it had stopped changing
        self._again = False  # whether the same bytes are to be parsed once more
        self.error: str | None = None  # why the file's present content is not in force
        self._current = self._load()

    @property
    def current(self) -> Loaded[T]:
        """Value and digest, of the same moment."""
        return self._current

    @property
    def value(self) -> T:
        """The value in force."""
        return self._current.value

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes in force, hex."""
        return self._current.digest

    def again(self) -> None:
        """Have the next poll parse the file even if it did not change: what it means has."""
        self._again = True
        self._seen, self._settled = self._stamp(), False

    def poll(self) -> bool:
        """Looks at the file; True when a new value came into force.

        A change is read only when two polls in a row see the same state of the file: an editor that is still writing
        could otherwise leave half a file, which may well be a valid one with rules missing.
        """
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            self._settled = False
            return False
        if self._settled:
            return False
        try:
            loaded = self._load()
        except (ConfigError, PolicyError) as error:
            self.error = str(error)
            if self._absent is None:
                self._settled = True
                return False
            # Doubt: it counts as not there. It is read again at each poll, for it may heal without a change.
            before, self._current = self._current, Loaded(self._absent(), "")
            return bool(before.digest)
        self._settled = True
        self.error = None
        again, self._again = self._again, False
        if loaded.digest == self._current.digest and not again:
            return False
        self._current = loaded
        return True

    def _stamp(self) -> _Stamp | None:
        try:
            found = self.path.stat()
        except OSError:
            return None  # whatever the reason, reading it will say
        return _stamp_of(found)

    def _load(self) -> Loaded[T]:
        try:
            with self.path.open("rb") as file:
                data = file.read(self._bytes_max + 1)
        except FileNotFoundError as error:
            if self._absent is None:
                raise ConfigError(f"{self.path}: there is no such file; create it or correct the path") from error
            return Loaded(self._absent(), "")
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror or error}; make it readable") from error
        if len(data) > self._bytes_max:
            raise ConfigError(f"{self.path}: more than {self._bytes_max:,} bytes; is it the right file?")
        return Loaded(self._parse(data), hashlib.sha256(data).hexdigest())


def _stamp_of(found: os.stat_result) -> _Stamp:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
