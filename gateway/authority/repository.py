"""What an authority publishes, as a TUF repository: a folder of static files that any web server or a stick can carry.

    N.root.json  timestamp.json  N.snapshot.json  N.targets.json
    targets/<hash>.keys.json  targets/status/<hash>.<name>.jwt  targets/orders/...  targets/gateways/...
    targets/lexicons/<hash>.<name>  targets/policies/<hash>.<name>
    licenses/<jti>.jws            outside the metadata: a million of them do not swell it

Files of a new state get names of their own and are all in place, on the disk, before `timestamp.json` names them by a
rename: a reader, or a machine that loses power, has the state before or the new one. The keys folder holds the private
keys of the online roles (`<role>-<key id>.pem`), the root that this publisher itself trusts (`root.json`, those before in
`roots/`), and the versions that were signed (`versions.json`): metadata is taken up again only if it verifies from there,
so that a web server that was broken into is never signed for, and a folder that was lost is written anew under versions
that readers do not take for a step back.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from securesystemslib.signer import CryptoSigner, Key  # type: ignore[attr-defined]  # documented there, not re-exported
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # likewise
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from gateway.authority.ceremony import (
    ONLINE,
    PublishError,
    RoleKeys,
    draft_root,
    expiry,
    load_signer,
    make_key,
    missing,
    read_root,
    sign_root,
)
from gateway.authority.model import Published
from gateway.file_lock import locked
from gateway.license.signed import Kind
from gateway.license.standing import LISTS_MAX
from gateway.license.trust import FILE_BYTES_MAX
from gateway.whole_file import sync_folder

KEEP_VERSIONS = 10  # states that stay readable at least, for readers that are in the middle of one
KEEP_S = 900.0  # and how long: longer than a reader may take for one refresh
KEEP_VERSIONS_MAX = 1_000  # but no more than this, however often is published
PRUNE_EVERY_S = 60.0
RENEW_PART = 0.5  # metadata is signed anew when less than this part of its life is left

# How names end in each folder, the bytes of one file and the number of files: no more is read by those who follow.
FOLDERS: Mapping[str, tuple[str, int, int]] = {
    "status": (".jwt", Kind.STATUS.bytes_max, LISTS_MAX),
    "orders": (".jws", Kind.ORDERS.bytes_max, LISTS_MAX),
    "gateways": (".jws", Kind.GATEWAYS.bytes_max, LISTS_MAX),
    "lexicons": ("", 16 * 1_048_576, 1_024),
    "policies": ("", 1_048_576, 1_024),
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_JTI = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}")
_S = TypeVar("_S", Timestamp, Snapshot, Targets)

_VERSIONED = re.compile(r"([0-9]+)\.(snapshot|targets)\.json")


@dataclass(frozen=True, slots=True)
class Expiry:
    """How long each role's signature is good for. Short for what is signed without people, our choice."""

    timestamp_s: float = 3_600.0
    snapshot_s: float = 7 * 86_400.0
    targets_s: float = 90 * 86_400.0


@dataclass(frozen=True, slots=True)
class Publication:
    """What was written."""

    versions: Mapping[str, int]
    targets: tuple[str, ...]  # names that are new or changed
    removed: tuple[str, ...]  # names that are not published any more
    licenses: int  # files written
    written_bytes: int


@dataclass(frozen=True, slots=True)
class _State:
    """The metadata in force."""

    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets


class Repository:
    """Writes one repository. Two processes may publish; they take turns."""

    def __init__(
        self,
        folder: Path,
        keys: Path,
        *,
        expires: Expiry | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self._keys = keys
        self._expires = expires or Expiry()
        self._clock = clock
        self._pruned_s = float("-inf")
        self._written_bytes = 0

    @classmethod
    def init(
        cls,
        folder: Path,
        keys: Path,
        root_keys: Path,
        *,
        holders: int = 3,
        threshold: int = 2,
        expires: Expiry | None = None,
        passphrase: bytes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Repository:
        """A new repository with all its keys. `root_keys` gets the offline ones: carry them away, one to each holder.

        Raises PublishError, also for a folder that already holds one.
        """
        if (keys / "root.json").exists() or (folder / "timestamp.json").exists():
            raise PublishError(f"{folder}: there is a repository already; choose an empty folder")
        if not 1 <= threshold <= holders:
            raise PublishError(f"{holders} holders cannot meet a threshold of {threshold}")
        offline = [root_keys / f"root-{number}.pem" for number in range(1, holders + 1)]
        made = cls(folder, keys, expires=expires, clock=clock)
        roles = {role: RoleKeys((made.new_key(role),)) for role in ONLINE}
        roles["root"] = RoleKeys(tuple(make_key(path, passphrase) for path in offline), threshold)
        draft = draft_root(roles, now_s=clock())
        for path in offline[:threshold]:
            draft = sign_root(draft, load_signer(path, passphrase))
        made.add_root(draft)
        return made

    def new_key(self, role: str) -> Key:
        """Makes a private key for an online role and returns its public one, for the next root. Raises PublishError."""
        if role not in ONLINE:
            raise PublishError(f"{role} is no online role; make keys of the root where they stay offline")
        fresh = self._keys / f".{role}.new"
        fresh.unlink(missing_ok=True)  # left by a run that was killed; nobody was told of it
        key = make_key(fresh)
        fresh.rename(self._keys / f"{role}-{key.keyid}.pem")
        return key

    def root(self) -> bytes:
        """The newest root: what is handed to those who will follow. Raises PublishError."""
        try:
            return (self._keys / "root.json").read_bytes()
        except OSError as error:
            raise PublishError(f"{self._keys}: no root yet; make one with a ceremony") from error

    def add_root(self, data: bytes) -> int:
        """Publishes a root that enough holders have signed; returns its version. Raises PublishError.

        Online metadata is first signed by old and new keys alike, so that readers who have the root before and readers who
        have the new one find a state that they can verify. A key that is not here any more cannot do so: then readers
        refuse what they find, and keep what they have, until the next moment.
        """
        with self._locked():
            previous = self.root() if (self._keys / "root.json").exists() else None
            lacks = missing(data, previous)
            if lacks:
                raise PublishError(f"the root cannot be published: {'; '.join(lacks)}")
            new = read_root(data).signed
            state = self._state(read_root(previous).signed) if previous is not None else None
            if state is not None and previous is not None:
                both = _Signers.of(self._keys, read_root(previous).signed, new)
                self._put_state(dict(state.targets.targets), state, both)
            self._put(self._keys / "roots" / f"{new.version}.root.json", data)
            self._put(self.folder / f"{new.version}.root.json", data)
            self._sync(self.folder)
            self._put(self._keys / "root.json", data)
        return new.version

    def _living_root(self) -> Root:
        """The newest root. Raises PublishError once it has ended: readers take up nothing under it."""
        root = read_root(self.root()).signed
        if root.expires.timestamp() <= self._clock():
            when = root.expires.date().isoformat()
            raise PublishError(
                f"the root ended on {when}: nobody takes up anything new; hold the ceremony, see `root next`"
            )
        return root

    def publish(self, published: Published) -> Publication:
        """Makes this the published state; writes only what changed. Raises PublishError, OSError."""
        contents = _contents(published)
        with self._locked():
            self._written_bytes = 0
            root = self._living_root()
            state = self._state(root)
            before = state.targets.targets if state is not None else {}
            if state is None:
                self._put_roots()
            infos = {name: TargetFile.from_data(name, data, ["sha256"]) for name, data in contents.items()}
            changed = tuple(name for name, info in infos.items() if before.get(name) != info)
            for name in infos:
                path = self.folder / "targets" / infos[name].get_prefixed_paths()[0]
                if name in changed or not path.exists():
                    self._put(path, contents[name])
            licenses = sum(self._put_license(jti, published.licenses[jti]) for jti in published.licenses)
            removed = tuple(sorted(set(before) - set(infos)))
            if state is None or changed or removed:
                state = self._put_state(infos, state, _Signers.of(self._keys, root))
            else:
                state = self._renewed(state, _Signers.of(self._keys, root))
            self._prune_sometimes()
            return Publication(_versions(root, state), changed, removed, licenses, self._written_bytes)

    def refresh_timestamp(self) -> int:
        """Signs the timestamp anew, and before it what will soon expire; returns its version. Raises PublishError, OSError."""
        with self._locked():
            root = self._living_root()
            state = self._state(root)
            if state is None:
                raise PublishError(f"{self.folder}: nothing was published yet")
            state = self._renewed(state, _Signers.of(self._keys, root))
            self._prune_sometimes()
            return state.timestamp.version

    def versions(self) -> Mapping[str, int]:
        """The versions in force, by role; that of the root alone before anything was published. Raises PublishError."""
        root = read_root(self.root()).signed
        state = self._state(root)
        return _versions(root, state) if state is not None else {"root": root.version}

    def prune(self) -> int:
        """Removes what no reader asks for any more; returns how many files. Raises PublishError, OSError."""
        with self._locked():
            return self._prune()

    def _renewed(self, state: _State, signers: _Signers) -> _State:
        """The same content under a new timestamp; targets and snapshot too when they are halfway to their end."""
        now_s = self._clock()
        if self._old(state.targets, self._expires.targets_s, now_s):
            return self._put_state(dict(state.targets.targets), state, signers)
        if self._old(state.snapshot, self._expires.snapshot_s, now_s):
            snapshot, meta = self._put_snapshot(state.snapshot.meta["targets.json"], state.snapshot, signers)
        else:
            snapshot, meta = state.snapshot, state.timestamp.snapshot_meta
        timestamp = self._put_timestamp(meta, state.timestamp, signers)
        return _State(timestamp, snapshot, state.targets)

    def _old(self, signed: Targets | Snapshot, life_s: float, now_s: float) -> bool:
        return signed.expires.timestamp() - now_s < life_s * RENEW_PART

    def _put_state(self, infos: dict[str, TargetFile], state: _State | None, signers: _Signers) -> _State:
        """A new version of all three roles, the timestamp last."""
        now_s = self._clock()
        version = self._next("targets", state.targets if state is not None else None)
        targets = Targets(version, expires=expiry(now_s, self._expires.targets_s), targets=infos)
        data = signers.sign("targets", targets)
        self._put(self.folder / f"{version}.targets.json", data)
        listed = MetaFile.from_data(version, data, ["sha256"])
        snapshot, meta = self._put_snapshot(listed, state.snapshot if state is not None else None, signers)
        timestamp = self._put_timestamp(meta, state.timestamp if state is not None else None, signers)
        return _State(timestamp, snapshot, targets)

    def _put_snapshot(self, targets: MetaFile, before: Snapshot | None, signers: _Signers) -> tuple[Snapshot, MetaFile]:
        version = self._next("snapshot", before)
        expires = expiry(self._clock(), self._expires.snapshot_s)
        snapshot = Snapshot(version, expires=expires, meta={"targets.json": targets})
        data = signers.sign("snapshot", snapshot)
        self._put(self.folder / f"{version}.snapshot.json", data)
        return snapshot, MetaFile.from_data(version, data, ["sha256"])

    def _put_timestamp(self, snapshot: MetaFile, before: Timestamp | None, signers: _Signers) -> Timestamp:
        """From here on readers see the new state: everything it names has to be on the disk."""
        version = self._next("timestamp", before)
        timestamp = Timestamp(version, expires=expiry(self._clock(), self._expires.timestamp_s), snapshot_meta=snapshot)
        self._sync(self.folder)
        self._put(self.folder / "timestamp.json", signers.sign("timestamp", timestamp))
        self._sync(self.folder)
        return timestamp

    def _next(self, role: str, before: Targets | Snapshot | Timestamp | None) -> int:
        """The version after all that were signed, also when what is published was lost or put back from a copy."""
        signed = self._signed_versions().get(role, 0)
        version = max(signed, before.version if before is not None else 0) + 1
        self._note(role, version)
        return version

    def _signed_versions(self) -> dict[str, int]:
        try:
            return msgspec.json.decode((self._keys / "versions.json").read_bytes(), type=dict[str, int])
        except FileNotFoundError:
            return {}
        except msgspec.DecodeError as error:
            remedy = 'write the highest versions that were ever published, as {"timestamp": 7, ...}'
            raise PublishError(f"{self._keys / 'versions.json'}: cannot be read; {remedy}") from error

    def _note(self, role: str, version: int) -> None:
        """Before a version is signed: a crash leaves a gap, never the same version twice."""
        data = msgspec.json.encode(self._signed_versions() | {role: version})
        self._put(self._keys / "versions.json", data)

    def _put_roots(self) -> None:
        """Readers go from root to root: a folder that is written anew needs all of them."""
        for path in sorted((self._keys / "roots").glob("*.root.json")):
            if not (self.folder / path.name).exists():
                self._put(self.folder / path.name, path.read_bytes())

    def _put_license(self, jti: str, data: bytes) -> bool:
        """Writes a license unless it is there already."""
        if _JTI.fullmatch(jti) is None:
            raise PublishError(f"license {jti!r:.80}: an id is letters, digits and . _ : ~ - only, at most 200")
        path = self.folder / "licenses" / f"{jti}.jws"
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == len(data) and path.read_bytes() == data:
                return False
        self._put(path, data)
        return True

    def _state(self, root: Root) -> _State | None:
        """The published metadata, verified from our own root; None before the first publication. Raises PublishError."""
        try:
            data = (self.folder / "timestamp.json").read_bytes()
        except FileNotFoundError:
            return None
        try:
            timestamp = _verified(data, Timestamp, root)
            data = (self.folder / f"{timestamp.snapshot_meta.version}.snapshot.json").read_bytes()
            timestamp.snapshot_meta.verify_length_and_hashes(data)
            snapshot = _verified(data, Snapshot, root)
            meta = snapshot.meta["targets.json"]
            data = (self.folder / f"{meta.version}.targets.json").read_bytes()
            meta.verify_length_and_hashes(data)
            return _State(timestamp, snapshot, _verified(data, Targets, root))
        except (OSError, RepositoryError, LookupError) as error:
            remedy = "somebody else wrote there; put back a copy that verifies"
            raise PublishError(f"{self.folder}: what is published does not verify with our root; {remedy}") from error

    def _prune_sometimes(self) -> None:
        now_s = time.monotonic()
        if now_s - self._pruned_s >= PRUNE_EVERY_S:
            self._pruned_s = now_s
            self._prune()

    def _prune(self) -> int:
        """Roots stay for good: clients follow them one by one."""
        now_s = self._clock()
        state = self._state(read_root(self.root()).signed)
        if state is None:
            return 0
        newest = {"snapshot": state.snapshot.version, "targets": state.targets.version}
        used: set[str] = set()
        gone = 0
        for path in self.folder.iterdir():
            found = _VERSIONED.fullmatch(path.name)
            if found is None:
                continue
            age = newest[found[2]] - int(found[1])
            old = path.stat().st_mtime < now_s - KEEP_S
            if age >= KEEP_VERSIONS and (old or age >= KEEP_VERSIONS_MAX):
                path.unlink()
                gone += 1
            elif found[2] == "targets":
                infos = Metadata[Targets].from_bytes(path.read_bytes()).signed.targets.values()
                used |= {info.get_prefixed_paths()[0] for info in infos}
        contents = self.folder / "targets"
        for path in sorted(contents.rglob("*")) if contents.is_dir() else ():
            old = path.stat().st_mtime < now_s - KEEP_S
            if path.is_file() and old and str(path.relative_to(contents)) not in used:
                path.unlink()
                gone += 1
        return gone

    def _put(self, path: Path, data: bytes) -> None:
        """Puts a file in its place by a rename, once its content is on the disk."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        self._written_bytes += len(data)

    def _sync(self, folder: Path) -> None:
        """The names in the folder and below are on the disk."""
        for top in (folder, folder / "licenses", folder / "targets", *(folder / "targets" / name for name in FOLDERS)):
            with contextlib.suppress(FileNotFoundError):
                sync_folder(top)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, also among processes."""
        self._keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self._keys / ".lock"):
            yield


class _Signers:
    """The private keys that are here, of the roles of one root or several."""

    def __init__(self, by_role: Mapping[str, list[CryptoSigner]]) -> None:
        self._by_role = by_role

    @classmethod
    def of(cls, keys: Path, *roots: Root) -> _Signers:
        """Raises PublishError when not even the last root's threshold can be met."""
        by_role: dict[str, list[CryptoSigner]] = {}
        for role in ONLINE:
            keyids = dict.fromkeys(keyid for root in roots for keyid in root.roles[role].keyids)
            paths = {keyid: keys / f"{role}-{keyid}.pem" for keyid in keyids}
            by_role[role] = [load_signer(path) for path in paths.values() if path.exists()]
            last = roots[-1].roles[role]
            here = sum(signer.public_key.keyid in last.keyids for signer in by_role[role])
            if here < last.threshold:
                raise PublishError(f"{keys}: {here} keys of {role} are here; {last.threshold} have to sign")
        return cls(by_role)

    def sign(self, role: str, signed: _S) -> bytes:
        """The metadata with the signatures of all keys of its role."""
        made = Metadata(signed)
        for signer in self._by_role[role]:
            made.sign(signer, append=True)
        return made.to_bytes()


def _contents(published: Published) -> dict[str, bytes]:
    """All targets by name. Raises PublishError for what followers would refuse."""
    made = {"keys.json": published.keys}
    named: Mapping[str, Mapping[str, bytes]] = {
        "status": published.statuses,
        "orders": published.orders,
        "gateways": published.gateways,
        "lexicons": published.lexicons,
        "policies": published.policies,
    }
    if len(published.keys) > FILE_BYTES_MAX:
        raise PublishError(f"keys.json: {len(published.keys):,} bytes; nobody reads more than {FILE_BYTES_MAX:,}")
    for folder, (ending, bytes_max, files_max) in FOLDERS.items():
        if len(named[folder]) > files_max:
            raise PublishError(f"{folder}: {len(named[folder]):,} files; nobody reads more than {files_max:,}")
        for name, data in named[folder].items():
            if _NAME.fullmatch(name) is None:
                raise PublishError(f"{folder}/{name!r:.80}: a name is letters, digits and . _ - only, at most 120")
            if len(data) > bytes_max:
                raise PublishError(f"{folder}/{name}: {len(data):,} bytes; nobody reads more than {bytes_max:,}")
            made[f"{folder}/{name}{ending}"] = data
    return made


def _verified(data: bytes, role: type[_S], root: Root) -> _S:
    made = Metadata[_S].from_bytes(data)
    if not isinstance(made.signed, role):
        raise RepositoryError(f"not a {role.type}")
    root.verify_delegate(role.type, made.signed_bytes, made.signatures)
    return made.signed


def _versions(root: Root, state: _State) -> dict[str, int]:
    return {
        "root": root.version,
        "timestamp": state.timestamp.version,
        "snapshot": state.snapshot.version,
        "targets": state.targets.version,
    }
