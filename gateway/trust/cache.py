"""What a worker keeps of a repository on its disk, so that it can start without reaching it.

    tuf/          what `tuf.ngclient` knows: root_history/, timestamp.json, snapshot.json, targets.json
    files/        contents of targets and licenses, named by their SHA-256
    good.json     the last set that was whole: its metadata word for word, and the licenses by digest
    lock          held during a refresh

Each file is put in its place by a rename, `good.json` last: a kill at any moment leaves the set before or the new one.
Nothing in here is believed for being here. What is read back is verified again from the root that the operator named,
by signatures, thresholds and hashes; only its age is left to the dates in it. What does not verify is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # documented there, not re-exported for type checkers
    Metadata,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from gateway.file_lock import take
from gateway.trust.source import Fault, TrustError
from gateway.trust.targets import bytes_max_of, is_plain
from gateway.whole_file import put

log = logging.getLogger("licet.trust")

ROOTS_MAX = 256  # rotations that are followed, as `tuf.ngclient` does
GOOD_BYTES_MAX = 16 * 1_048_576  # our choice: metadata of TARGETS_MAX targets and an index of 10,000 licenses fit well


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A license as it was fetched."""

    sha256: str
    validators: dict[str, str] = {}


class _Good(msgspec.Struct, frozen=True):
    timestamp: str
    snapshot: str
    targets: str
    licenses: dict[str, Kept] = {}


@dataclass(frozen=True, slots=True)
class Signatories:
    """The verified metadata of one state of a repository."""

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets

    def versions(self) -> dict[str, int]:
        """By role."""
        return {name: signed.version for name, signed in self._roles()}

    def expires_at_s(self) -> dict[str, int]:
        """By role."""
        return {name: int(signed.expires.timestamp()) for name, signed in self._roles()}

    def _roles(self) -> Iterator[tuple[str, Signed]]:
        yield "root", self.root
        yield "timestamp", self.timestamp
        yield "snapshot", self.snapshot
        yield "targets", self.targets


@dataclass(frozen=True, slots=True)
class Loaded:
    """A good set, read back and verified."""

    signatories: Signatories
    files: Mapping[str, bytes]  # by target name
    licenses: Mapping[str, bytes]  # by jti; trusted by their own signatures alone
    kept: Mapping[str, Kept]


class Cache:
    """One worker's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata = folder / "tuf"
        self._files = folder / "files"
        self._good = folder / "good.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The folder is this process's alone meanwhile. Raises TrustError when it is another's, or cannot be used."""
        try:
            self.metadata.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._files.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = take(self.folder / "lock")
        except OSError as error:
            raise self.unusable(error) from error
        if handle is None:
            raise TrustError(Fault.CACHE, f"{self.folder}: another process refreshes here right now")
        try:
            yield
        finally:
            os.close(handle)

    def unusable(self, error: OSError) -> TrustError:
        """What is said when the folder cannot be read or written."""
        return TrustError(Fault.CACHE, f"{self.folder}: {error.strerror or error}; make it writable, or remove it")

    def tidy(self) -> None:
        """Removes what a killed process left half written. Only under the lock."""
        for folder, pattern in ((self.metadata, "tmp*"), (self._files, ".*.tmp")):
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)

    def read(self, sha256: str) -> bytes | None:
        """The content of that digest, if it is here unharmed."""
        try:
            data = (self._files / sha256).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def write(self, data: bytes) -> str:
        """Keeps a content; returns its digest. Raises OSError."""
        sha256 = hashlib.sha256(data).hexdigest()
        put(self._files / sha256, data, durable=True, private=True)
        return sha256

    def signatories(self, root: Root) -> Signatories:
        """What the updater left here after a refresh that worked; it has verified all of it. Raises OSError, RepositoryError."""
        return Signatories(
            root,
            Metadata[Timestamp].from_bytes((self.metadata / "timestamp.json").read_bytes()).signed,
            Metadata[Snapshot].from_bytes((self.metadata / "snapshot.json").read_bytes()).signed,
            Metadata[Targets].from_bytes((self.metadata / "targets.json").read_bytes()).signed,
        )

    def keep(self, digests: set[str], licenses: Mapping[str, Kept]) -> None:
        """The set whose metadata the updater left is good: remember it, and forget contents of no use. Raises OSError."""
        timestamp, snapshot, targets = (
            (self.metadata / f"{name}.json").read_bytes().decode() for name in ("timestamp", "snapshot", "targets")
        )
        good = msgspec.json.encode(_Good(timestamp, snapshot, targets, dict(licenses)))
        put(self._good, good, durable=True, private=True)
        useful = digests | {kept.sha256 for kept in licenses.values()}
        for path in self._files.iterdir():
            if path.name not in useful:
                path.unlink(missing_ok=True)

    def load(self, root_bytes: bytes) -> Loaded | None:
        """The last good set, verified from the operator's root on, whatever its age; None if there is none that verifies."""
        try:
            with self._good.open("rb") as file:
                good = msgspec.json.decode(file.read(GOOD_BYTES_MAX), type=_Good)  # one that is cut off does not parse
            signatories = _verified(good, self.root(root_bytes))
            files = {name: self._verified_file(name, info) for name, info in signatories.targets.targets.items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, RepositoryError, TrustError) as error:
            # Not trusted, so not used: the next refresh begins from the operator's root and writes a new one.
            log.warning("%s: the set kept there is not used: %s", self.folder, type(error).__name__)
            return None
        licenses: dict[str, bytes] = {}
        for jti, kept in good.licenses.items():
            license_ = self.read(kept.sha256)
            if license_ is not None:
                licenses[jti] = license_
        kept_licenses = {jti: good.licenses[jti] for jti in licenses}
        return Loaded(signatories, {n: d for n, d in files.items() if d is not None}, licenses, kept_licenses)

    def _verified_file(self, name: str, info: TargetFile) -> bytes | None:
        if not is_plain(name) or bytes_max_of(name) is None:
            return None
        data = self.read(info.hashes.get("sha256", ""))
        if data is None:
            raise TrustError(Fault.MISMATCH, f"{name}: its content is not in the cache unharmed")
        info.verify_length_and_hashes(data)
        return data

    def root(self, root_bytes: bytes) -> Root:
        """The newest root that the operator's one leads to, of those kept here. Raises RepositoryError."""
        made = Metadata[Root].from_bytes(root_bytes)
        made.signed.verify_delegate(Root.type, made.signed_bytes, made.signatures)
        root = made.signed
        for version in range(root.version + 1, root.version + 1 + ROOTS_MAX):
            try:
                found = Metadata[Root].from_bytes(
                    (self.metadata / "root_history" / f"{version}.root.json").read_bytes()
                )
                root.verify_delegate(Root.type, found.signed_bytes, found.signatures)
                found.signed.verify_delegate(Root.type, found.signed_bytes, found.signatures)
            except (OSError, RepositoryError):
                break  # as for the updater: what is not here or not signed leads no further
            if found.signed.version != version:
                break
            root = found.signed
        return root


def _verified(good: _Good, root: Root) -> Signatories:
    """The metadata of a good set, as a client verifies it but for the dates. Raises RepositoryError."""
    timestamp = _signed(Metadata[Timestamp].from_bytes(good.timestamp.encode()), Timestamp, root)
    timestamp.snapshot_meta.verify_length_and_hashes(good.snapshot.encode())
    snapshot = _signed(Metadata[Snapshot].from_bytes(good.snapshot.encode()), Snapshot, root)
    meta = snapshot.meta["targets.json"]
    meta.verify_length_and_hashes(good.targets.encode())
    targets = _signed(Metadata[Targets].from_bytes(good.targets.encode()), Targets, root)
    if (snapshot.version, targets.version) != (timestamp.snapshot_meta.version, meta.version):
        raise RepositoryError("versions do not belong together")
    return Signatories(root, timestamp, snapshot, targets)


_S = TypeVar("_S", Timestamp, Snapshot, Targets)


def _signed(made: Metadata[_S], role: type[_S], root: Root) -> _S:
    if not isinstance(made.signed, role):
        raise RepositoryError(f"not a {role.type}")
    root.verify_delegate(role.type, made.signed_bytes, made.signatures)
    return made.signed
