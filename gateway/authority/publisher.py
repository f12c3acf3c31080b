"""From the authority's folder to the published one: what holds now is signed, written as a TUF repository, and hinted at.

    folder/tuf/           what anyone may read: metadata, targets, licenses
    folder/keys/online/   keys of the online roles, and the root that this publisher trusts

    folder/published.json  how far the log had come at the last publication

One publication at a time, also among processes: a slower one would otherwise put an older state over a newer one. A store
that was put back from a copy is not published: licenses that were revoked since would be valid again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from gateway.authority.authority import Authority
from gateway.authority.ceremony import PublishError, read_root, root_digest
from gateway.authority.errors import FormError
from gateway.authority.model import Actor
from gateway.authority.repository import Publication, Repository
from gateway.file_lock import locked
from gateway.whole_file import put

CHANNEL = "trust"  # where gateways listen for hints, on the state that their workers share
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_LOCK = ".publish.lock"
_PAGE = 500
_ONLINE = Path("keys", "online")


class _Mark(msgspec.Struct, frozen=True):
    """How far the log had come."""

    size: int
    leaf: str


_RESTORED = (
    "was it put back from a copy? Put back the newest one, or bring what is missing up to date (above all what was"
    " suspended or revoked) and remove that file"
)


class Publisher:
    """Publishes one authority. Safe to use from one thread at a time."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        self.folder = folder / "tuf"
        self._authority = authority
        self._lock = folder / _LOCK
        self._mark = folder / "published.json"
        self._repository = self.repository(folder)

    @staticmethod
    def init(
        folder: Path, root_keys: Path, *, holders: int, threshold: int, passphrase: bytes | None = None
    ) -> Repository:
        """The repository of a new authority, nothing published yet. Raises PublishError."""
        tuf, online = folder / "tuf", folder / _ONLINE
        return Repository.init(tuf, online, root_keys, holders=holders, threshold=threshold, passphrase=passphrase)

    @staticmethod
    def repository(folder: Path) -> Repository:
        """The repository of the authority in a folder, without the authority."""
        return Repository(folder / "tuf", folder / _ONLINE)

    @staticmethod
    def root_path(folder: Path) -> Path:
        """Where the newest root of the authority in a folder lies."""
        return folder / _ONLINE / "root.json"

    def publish(self) -> tuple[Publication, int]:
        """Publish what holds now; what was written, and the time that its lists carry. Raises AuthorityError, OSError."""
        with locked(self._lock):
            self._require_newest()
            published = self._authority.published()
            self._note()
            if not (self.folder / "timestamp.json").exists():  # the first time, or the folder was lost
                published = dataclasses.replace(published, licenses=_Every(self._authority))
            written = self._repository.publish(published)
            self._authority.mark_published(published)
            return written, published.iat

    def root(self) -> bytes:
        """What is handed to those who will follow. Raises PublishError."""
        return self._repository.root()

    def _require_newest(self) -> None:
        try:
            known = msgspec.json.decode(self._mark.read_bytes(), type=_Mark)
        except FileNotFoundError:
            return
        except msgspec.DecodeError as error:
            raise PublishError(f"{self._mark}: cannot be read; {_RESTORED}") from error
        if not self._authority.goes_on_from(known.size, known.leaf):
            raise PublishError(
                f"{self._mark}: the log had {known.size} entries when it was last published, and the store does not have"
                f" them all; {_RESTORED}"
            )

    def _note(self) -> None:
        """Before anything is written: what went out is covered, whenever this is killed."""
        put(self._mark, msgspec.json.encode(_Mark(*self._authority.mark())), durable=True)

    def add_root(self, actor: Actor, data: bytes) -> None:
        """Publish a signed root, and tell it in the log; harmless when done twice. Raises AuthorityError, OSError."""
        with locked(self._lock):
            root = read_root(data).signed
            with self._authority.telling_root(actor, root.version, root_digest(data)):
                if data != self._repository.root():
                    self._repository.add_root(data)


class _Every(Mapping[str, bytes]):
    """All licenses by id, read as they are asked for."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def __getitem__(self, jti: str) -> bytes:
        return self._authority.license(jti).token.encode()

    def __iter__(self) -> Iterator[str]:
        after = ""
        while page := self._authority.licenses(after=after, limit=_PAGE):
            yield from (one.jti for one in page)
            after = page[-1].jti

    def __len__(self) -> int:
        return sum(1 for _ in self)


def publish_folder(folder: Path, *, hint: str | None = None, to: Path | None = None) -> tuple[Publication, int]:
    """Publish the authority in a folder; copy the result to `to`; tell gateways. Raises AuthorityError, OSError."""
    if hint is not None:
        check_hint(hint)
    authority = Authority.open(folder)
    try:
        publisher = Publisher(authority, folder)
        done = publisher.publish()
    finally:
        authority.close()
    if to is not None:
        mirror(publisher.folder, to)
    if hint is not None:
        asyncio.run(send_hint(hint))
    return done


def check_hint(url: str) -> None:
    """Raises FormError unless hints can be sent there at all. The URL may hold a password: it is never shown."""
    if not url.startswith(REDIS_SCHEMES):
        raise FormError("hint: write a Redis URL: redis://, rediss:// or unix://")
    from gateway.state import RedisState  # here, because its client takes longer to load than a command to run

    try:
        RedisState(url)
    except ValueError:
        raise FormError("hint: not a Redis URL that can be read") from None


async def send_hint(url: str) -> bool:
    """Tell gateways to look at once; whether Redis took it. Who misses it polls, so nothing is raised."""
    from gateway.state import RedisState

    state = RedisState(url, timeout_s=1.0)
    try:
        await state.publish(CHANNEL, b"1")
        return state.failures == 0
    finally:
        await state.close()


def mirror(source: Path, target: Path) -> int:
    """Copy a published folder to another, what is new or changed, the timestamp last; how many files. Raises OSError.

    Whoever reads the target meanwhile finds the state before or the new one, as in the source.
    """
    if target.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(target.resolve()):
        raise PublishError(f"to: {target} and the authority's own published folder lie in each other")
    last = Path("timestamp.json")
    if not (source / last).exists():
        raise PublishError(f"{source}: nothing was published yet")
    # The timestamp first of all: what it names is complete now, whatever is published while the rest is copied.
    timestamp = (source / last).read_bytes()
    copied = 0
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if name == last or not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        copied += _copy(path, target / name)
    put(target / last, timestamp)
    return copied + 1


def _copy(path: Path, to: Path) -> int:
    """Copies a file unless it is there with the same size and time; 1 if it did."""
    try:
        here, there = path.stat(), to.stat()
        if (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
            return 0
    except FileNotFoundError:
        if not path.exists():  # no reader asks for it any more, and it was removed
            return 0
    to.parent.mkdir(parents=True, exist_ok=True)
    beside = to.with_name(f".{to.name[:100]}.{os.getpid()}.tmp")
    try:
        shutil.copy2(path, beside)
        beside.replace(to)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return 1
