"""What a source of authorities' files is, how it fails, and what it is told to do.

A source is asked by one thread at a time. It answers with a whole set or raises TrustError; it never answers with less
than it could vouch for, and what it raised leaves the set before in force.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol
from urllib.parse import urlsplit

from gateway.errors import ConfigError
from gateway.license.standing import Material
from gateway.printable import printable

REFRESH_S = 30.0  # our choice: a repository answers "nothing new" in two small requests
FILES_REFRESH_S = 1.0  # looking at a few files costs microseconds
DETAIL_CHARS_MAX = 300  # our choice: a sentence, and the name that it is about
LICENSES_MAX = 10_000  # that one gateway asks for by name; our choice


class Fault(enum.Enum):
    """Why a set was refused, in the words of The Update Framework where it has them."""

    ROLLBACK = "rollback"  # an older version than one already seen, or versions that do not belong together
    EXPIRED = "expired"  # signed long ago: a frozen mirror, or an authority that stopped signing
    SIGNATURE = "signature"  # fewer good signatures than the threshold
    MISMATCH = "mismatch"  # length or hash is not what the signed metadata says
    MALFORMED = "malformed"  # cannot be read as what it should be
    NAME = "name"  # a file's name that could lead elsewhere
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    MISSING = "missing"  # the source says that it does not have it
    UNREACHABLE = "unreachable"  # no connection, broken off, or a server's error
    FILE = "file"  # a local file cannot be read
    CACHE = "cache"  # the cache folder cannot be used
    UNUSABLE = "unusable"  # the set came in whole, and what it holds was refused
    INTERNAL = "internal"  # an error that nobody foresaw; the set does not count


def version_of(contents: Iterable[bytes]) -> str:
    """A short name for a set of files: the same for the same bytes in the same order."""
    made = hashlib.sha256()
    for data in contents:
        made.update(hashlib.sha256(data).digest())
    return made.hexdigest()[:16]


class TrustError(Exception):
    """The source did not bring a set that counts. The detail names no credential and no content."""

    def __init__(self, fault: Fault, detail: str) -> None:
        self.fault = fault
        self.detail = printable(detail[:DETAIL_CHARS_MAX])
        super().__init__(f"{fault.value}: {self.detail}")


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What the last fetch met, for people and metrics. Versions and expiries are of the set in force."""

    versions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))  # root, timestamp, ...
    expires_at_s: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))  # by the same names
    problems: tuple[str, ...] = ()  # parts that could not be had while the rest could
    requests: int = 0
    received_bytes: int = 0


class Source(Protocol):
    """Where sets come from. `fetch` and `cached` block, and are never called by two threads at once."""

    @property
    def name(self) -> str:
        """The source as people know it: an address or a list of files. Holds no credential."""

    def cached(self) -> Material | None:
        """The last good set that this source left on the disk, verified again but maybe expired; None if there is none."""

    def fetch(self) -> Material:
        """The set as it is now; the same object as before when nothing changed. Raises TrustError, and nothing else."""

    def want(self, licenses: Collection[str]) -> None:
        """Which licenses to bring, by jti. Holds from the next fetch on; may be called by any thread."""

    def facts(self) -> SourceFacts:
        """What the last fetch met."""

    def abort(self) -> None:
        """Ends a fetch that is under way, and every later one, with TrustError. Called by any thread."""


@dataclass(frozen=True, slots=True)
class TrustOptions:
    """What to follow: either files, or a repository with its root."""

    cache: Path  # a folder for this worker alone: DATA/trust/<worker>
    keys: Path | None = None  # with `tuf` unused here: the repository brings the keys
    status: tuple[Path, ...] = ()
    orders: tuple[Path, ...] = ()
    gateways: tuple[Path, ...] = ()
    tuf: str = ""  # http(s) address or folder of a TUF repository
    root: Path | None = None  # the root that the operator got from the authority; all trust begins there
    licenses: tuple[str, ...] = ()  # jti of licenses to bring from the repository
    refresh_s: float | None = None  # None: REFRESH_S for a repository, FILES_REFRESH_S for files
    retry_max_s: float = 60.0
    timeout_s: float = 10.0  # for each step: connecting, waiting for the next bytes
    deadline_s: float = 60.0  # for one whole refresh, however many files it brings
    proxy: str = field(default="", repr=False)  # may hold a password. Proxies of the environment are not followed.
    ca_file: Path | None = None

    @property
    def pace_s(self) -> float:
        """How long between two looks."""
        if self.refresh_s is not None:
            return self.refresh_s
        return REFRESH_S if self.tuf else FILES_REFRESH_S


def open_source(options: TrustOptions) -> Source:
    """The source that the options ask for. Raises ConfigError with every problem; asks nothing of the network."""
    if not options.tuf:
        from gateway.trust.files import FileSource

        if options.root is not None:
            raise ConfigError("trust: `root` is the root of a repository; name the repository in `tuf`")
        return FileSource(options.keys, options.status, options.orders, options.gateways)
    problems = []
    if options.status or options.orders or options.gateways:
        problems.append("trust: `tuf` brings statuses, orders and gateways; leave out `status`, `orders`, `gateways`")
    problems += address_problems(options.tuf)
    root = b""
    if options.root is None:
        problems.append("trust: `tuf` needs `root`: the root.json that the authority gave you")
    else:
        try:
            root = options.root.read_bytes()
        except OSError as error:
            problems.append(f"trust: {options.root}: {error.strerror or error}")
    if problems:
        raise ConfigError(problems)
    from gateway.trust.tuf_source import Limits, Reach, TufSource  # not before it is needed: it brings much with it

    limits = Limits(timeout_s=options.timeout_s, deadline_s=options.deadline_s)
    return TufSource(
        options.tuf,
        root,
        options.cache,
        licenses=options.licenses,
        limits=limits,
        reach=Reach(options.proxy, options.ca_file),
    )


def address_problems(address: str) -> list[str]:
    """What is wrong with the address of a repository."""
    try:
        parts = urlsplit(address)
        port_free = parts.port is None or parts.port > 0
    except ValueError as error:
        return [f"trust.tuf: {error}; write https://authority.example/tuf, or a folder"]
    if "://" not in address:
        return []
    if parts.scheme not in ("http", "https", "file"):
        return [f"trust.tuf: {parts.scheme} addresses are not followed; use https, http, or a folder"]
    if parts.username is not None or parts.password is not None:
        return ["trust.tuf: the address holds credentials; a repository is public, leave them out"]
    if parts.query or parts.fragment:
        return ["trust.tuf: the address ends in a query or a fragment; name the folder of the repository"]
    if parts.scheme != "file" and (not parts.hostname or not port_free):
        return ["trust.tuf: the address names no host; write https://authority.example/tuf"]
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        return ["trust.tuf: write a folder as file:///folder or as /folder"]
    return []
