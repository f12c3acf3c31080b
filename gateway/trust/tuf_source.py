"""An authority's files from a TUF repository, verified from the root that the operator named.

What The Update Framework asks of a client is `tuf.ngclient`'s: signatures and thresholds, versions that never go back,
dates, lengths and hashes. Around it stand bounds of bytes, count and time, a cache that a kill cannot harm, and errors
with a name. Licenses are asked for one by one: each is trusted by its own signature, and a bad answer never takes the
place of a good one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tuf.api import exceptions as tuf_errors
from tuf.api.serialization import DeserializationError, SerializationError
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.updater import Updater

from gateway.errors import ConfigError
from gateway.license.claims import ClaimsError, read_claims
from gateway.license.signed import Kind, SignedError, TokenError, read_unverified, verify
from gateway.license.standing import Material
from gateway.license.trust import NO_TRUST, Trust, load_trust
from gateway.trust.cache import ROOTS_MAX, Cache, Kept, Signatories
from gateway.trust.fetch import Fetcher, Opener, Reach
from gateway.trust.source import LICENSES_MAX, Fault, SourceFacts, TrustError
from gateway.trust.targets import is_license_name, license_path, material_of, wanted

__all__ = ["Limits", "Reach", "TufSource"]

LICENSES_A_REFRESH = 500  # more come with the next refreshes, so that statuses are never kept waiting for long
LICENSE_AGAIN_S = 600.0  # a license that is held is asked for again this seldom: what changes is its status
MISSING_AGAIN_S = 30.0  # one that is not there yet

# Bounds of metadata, our choice: a root with a hundred keys, and targets of TARGETS_MAX names, are half of these.
ROOT_BYTES_MAX = 262_144
TIMESTAMP_BYTES_MAX = 16_384
SNAPSHOT_BYTES_MAX = 65_536
TARGETS_BYTES_MAX = 2_097_152


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take."""

    timeout_s: float = 10.0  # each step
    deadline_s: float = 60.0  # a whole refresh


class TufSource:
    """Follows one repository; see `Source` for the contract."""

    def __init__(
        self,
        address: str,
        root: bytes,
        cache: Path,
        *,
        licenses: Collection[str] = (),
        limits: Limits = Limits(),
        reach: Reach = Reach(),  # noqa: B008 - frozen
    ) -> None:
        """Raises ConfigError if the root is none, or a license cannot be asked for by its name."""
        self._opener = Opener(address, reach)
        self._root_bytes = root
        self.cache = Cache(cache)
        self._limits = limits
        try:
            self.cache.root(root)
        except tuf_errors.RepositoryError as error:
            raise ConfigError(f"trust.root: not a root that signs for itself ({_name(error)}); get it again") from error
        self._want: frozenset[str] = frozenset()
        self.want(licenses)
        self._files: dict[str, bytes] = {}  # contents by SHA-256, of the set in force
        self._names: dict[str, str] = {}  # target -> SHA-256, of the set in force
        self._licenses: dict[str, bytes] = {}
        self._kept: dict[str, Kept] = {}
        self._asked_s: dict[str, float] = {}  # by jti, monotonic
        self._signatories: Signatories | None = None
        self._material: Material | None = None
        self._facts = SourceFacts()
        self._stopped = threading.Event()
        self._fetcher: Fetcher | None = None

    @property
    def name(self) -> str:
        """The repository's address."""
        return self._opener.base

    def want(self, licenses: Collection[str]) -> None:
        """See `Source`. Raises ConfigError for an id that no repository can hold by name, and for too many of them."""
        if len(licenses) > LICENSES_MAX:
            raise ConfigError(f"{len(licenses):,} licenses by name; at most {LICENSES_MAX:,} are asked for")
        for jti in licenses:
            if not is_license_name(jti):
                raise ConfigError(
                    f"license {jti!r:.80}: letters, digits and . _ : ~ - only, at most 200; name a file instead"
                )
        self._want = frozenset(licenses)

    def facts(self) -> SourceFacts:
        """See `Source`."""
        return self._facts

    def abort(self) -> None:
        """See `Source`."""
        self._stopped.set()
        fetcher = self._fetcher
        if fetcher is not None:
            fetcher.abort()

    def cached(self) -> Material | None:
        """See `Source`."""
        with self.cache.locked():
            loaded = self.cache.load(self._root_bytes)
        if loaded is None:
            return None
        infos = loaded.signatories.targets.targets
        self._names = {name: infos[name].hashes["sha256"] for name in loaded.files}
        self._files = {self._names[name]: data for name, data in loaded.files.items()}
        self._licenses, self._kept = dict(loaded.licenses), dict(loaded.kept)
        self._take(loaded.signatories, self._names, self._wanted_licenses(), SourceFacts())
        return self._material

    def fetch(self) -> Material:
        """See `Source`."""
        if self._stopped.is_set():
            raise TrustError(Fault.UNREACHABLE, "the gateway is stopping")
        fetcher = self._opener.open(self._limits.timeout_s, self._limits.deadline_s)
        self._fetcher = fetcher
        try:
            with self.cache.locked():
                return self._refresh(fetcher)
        except TrustError:
            self._count(fetcher)
            raise
        except (tuf_errors.RepositoryError, tuf_errors.DownloadError) as error:
            self._count(fetcher)
            raise _named(error) from error
        except OSError as error:
            raise self.cache.unusable(error) from error
        except (
            Exception
        ) as error:  # whatever a hostile repository may yet provoke is refused under a name, like the rest
            raise TrustError(Fault.INTERNAL, f"an unforeseen {type(error).__name__}; please report it") from error
        finally:
            self._fetcher = None
            fetcher.end()

    def _count(self, fetcher: Fetcher) -> None:
        """A refresh that failed has still cost something."""
        facts = self._facts
        self._facts = SourceFacts(
            facts.versions, facts.expires_at_s, facts.problems, fetcher.requests, fetcher.received_bytes
        )

    def _refresh(self, fetcher: Fetcher) -> Material:
        self.cache.tidy()
        updater = self._updater(fetcher)
        updater.refresh()
        signatories = self.cache.signatories(self.cache.root(self._root_bytes))
        self._never_back(signatories)
        names: dict[str, str] = {}
        for name in wanted({name: info.length for name, info in signatories.targets.targets.items()}):
            names[name] = self._content(updater, name)
        changed = names != self._names
        problems = self._fetch_licenses(fetcher, self._trust_of(names), changed)
        licenses = self._wanted_licenses()
        before = self._signatories
        if (
            changed
            or before is None
            or before.versions() != signatories.versions()
            or self._material is None
            or licenses != self._material.licenses
        ):
            self.cache.keep(set(names.values()), {jti: self._kept[jti] for jti in licenses})
        facts = SourceFacts(problems=tuple(problems), requests=fetcher.requests, received_bytes=fetcher.received_bytes)
        return self._take(signatories, names, licenses, facts)

    def _updater(self, fetcher: Fetcher) -> Updater:
        base = self._opener.base
        config = UpdaterConfig(
            max_root_rotations=ROOTS_MAX,
            max_delegations=0,  # an authority's targets are its own; nobody else is asked
            root_max_length=ROOT_BYTES_MAX,
            timestamp_max_length=TIMESTAMP_BYTES_MAX,
            snapshot_max_length=SNAPSHOT_BYTES_MAX,
            targets_max_length=TARGETS_BYTES_MAX,
        )
        return Updater(
            str(self.cache.metadata),
            base,
            str(self.cache.folder / "files"),
            f"{base}/targets",
            fetcher,
            config,
            bootstrap=self._root_bytes,
        )

    def _never_back(self, now: Signatories) -> None:
        """The updater remembers versions on the disk, which may have been lost; we remember them too.

        New keys may begin anew: that is how an authority recovers from stolen ones.
        """
        before = self._signatories
        if before is None or before.root.version < now.root.version:
            return
        for role, version in before.versions().items():
            if now.versions()[role] < version:
                raise TrustError(Fault.ROLLBACK, f"{role} {now.versions()[role]} is older than {version}, seen before")

    def _content(self, updater: Updater, name: str) -> str:
        """The digest of a target's content, which is then in the cache and in memory."""
        info = updater.get_targetinfo(name)
        if info is None:
            raise TrustError(Fault.MISSING, f"{name}: the repository does not list it any more")
        sha256 = info.hashes.get("sha256", "")
        if any(not set(value) <= set("0123456789abcdef") for value in info.hashes.values()) or len(sha256) != 64:
            raise TrustError(Fault.MALFORMED, f"{name}: the metadata states no SHA-256")
        if sha256 in self._files:
            return sha256
        data = self.cache.read(sha256)
        if data is None:
            path = self.cache.metadata / "tmp-target"  # `tidy` takes it away if we are killed here
            updater.download_target(info, str(path))
            data = path.read_bytes()
            path.unlink()
            if self.cache.write(data) != sha256:
                raise TrustError(Fault.MISMATCH, f"{name}: changed between its check and its use")
        info.verify_length_and_hashes(data)
        self._files[sha256] = data
        return sha256

    def _trust_of(self, names: Mapping[str, str]) -> Trust:
        """The keys of the set; none if it brings none that can be used."""
        sha256 = names.get("keys.json")
        if sha256 is None:
            return NO_TRUST
        try:
            return load_trust(self._files[sha256], source="keys.json")
        except ConfigError:
            return NO_TRUST  # who puts the set in force says what is wrong with it

    def _wanted_licenses(self) -> dict[str, bytes]:
        return {jti: self._licenses[jti] for jti in sorted(self._want) if jti in self._licenses}

    def _fetch_licenses(self, fetcher: Fetcher, trust: Trust, changed: bool) -> list[str]:
        """Asks for the licenses that are due. Returns what went wrong: it does not hold up statuses and orders."""
        now_s = time.monotonic()

        def due(jti: str) -> bool:
            again_s = LICENSE_AGAIN_S if jti in self._licenses else 0.0 if changed else MISSING_AGAIN_S
            return now_s - self._asked_s.get(jti, float("-inf")) >= again_s

        problems: list[str] = []
        # What is not held comes first, then what was asked for longest ago.
        turn = sorted(filter(due, self._want), key=lambda j: (j in self._licenses, self._asked_s.get(j, 0.0), j))
        for jti in turn[:LICENSES_A_REFRESH]:
            kept = self._kept.get(jti)
            try:
                answer = fetcher.get(
                    f"{self._opener.base}/{license_path(jti)}",
                    Kind.LICENSE.bytes_max,
                    kept.validators if kept is not None else {},
                )
            except tuf_errors.DownloadHTTPError as error:
                self._asked_s[jti] = now_s
                if jti not in self._licenses:
                    problems.append(f"license {jti}: {_named(error)}")
                continue
            except tuf_errors.DownloadLengthMismatchError as error:
                self._asked_s[jti] = now_s
                problems.append(f"license {jti}: {_named(error)}")
                continue
            except tuf_errors.DownloadError as error:
                problems.append(f"license {jti}: {_named(error)}; the others are asked for later")
                break
            self._asked_s[jti] = now_s
            if answer.data is None:
                continue
            fault = self._license_fault(jti, answer.data, trust)
            if fault:
                problems.append(f"license {jti}: {fault}")
                continue
            self._licenses[jti] = answer.data
            self._kept[jti] = Kept(self.cache.write(answer.data), dict(answer.validators))
        for jti in (
            set(self._asked_s) | set(self._licenses)
        ) - self._want:  # not wanted any more: bounded by what is wanted
            for held in (self._asked_s, self._licenses, self._kept):
                held.pop(jti, None)
        return problems

    def _license_fault(self, jti: str, data: bytes, trust: Trust) -> str | None:
        """Why the bytes do not become the license of that id; None if they do.

        Without a license so far, one that is well formed is taken even if these keys do not vouch for it: the gate decides.
        """
        try:
            claims = read_claims(read_unverified(data.strip(), Kind.LICENSE).payload)
        except (TokenError, ClaimsError) as error:
            return str(TrustError(Fault.MALFORMED, str(error)))
        if claims.jti != jti:
            return str(TrustError(Fault.MISMATCH, "the license there has another id"))
        if jti not in self._licenses or self._licenses[jti] == data:
            return None
        try:
            verify(data, Kind.LICENSE, trust)
        except SignedError as error:
            return str(TrustError(Fault.SIGNATURE, f"{error.detail}; the one held before stays"))
        return None

    def _take(
        self, signatories: Signatories, names: Mapping[str, str], licenses: Mapping[str, bytes], facts: SourceFacts
    ) -> Material:
        """Remembers the set as the one in force; the material before if it says the same."""
        versions, expires = signatories.versions(), signatories.expires_at_s()
        files = {name: self._files[sha256] for name, sha256 in names.items()}
        made = material_of(files, licenses, f"tuf-{versions['snapshot']}", min(expires.values()))
        if made != self._material:
            self._material = made
        self._signatories = signatories
        self._names = dict(names)
        self._files = {self._names[name]: data for name, data in files.items()}
        self._facts = SourceFacts(
            MappingProxyType(versions),
            MappingProxyType(expires),
            facts.problems,
            facts.requests,
            facts.received_bytes,
        )
        assert self._material is not None
        return self._material


# Most special first: the classes of `tuf` are a tree.
_FAULTS: tuple[tuple[type[Exception], Fault], ...] = (
    (tuf_errors.BadVersionNumberError, Fault.ROLLBACK),
    (tuf_errors.ExpiredMetadataError, Fault.EXPIRED),
    (tuf_errors.UnsignedMetadataError, Fault.SIGNATURE),
    (tuf_errors.LengthOrHashMismatchError, Fault.MISMATCH),
    (DeserializationError, Fault.MALFORMED),
    (SerializationError, Fault.MALFORMED),
    (tuf_errors.RepositoryError, Fault.MALFORMED),
    (tuf_errors.DownloadLengthMismatchError, Fault.TOO_LARGE),
    (tuf_errors.SlowRetrievalError, Fault.TOO_SLOW),
    (tuf_errors.DownloadError, Fault.UNREACHABLE),
)
_GONE = (404, 410)


def _named(error: Exception) -> TrustError:
    """The error of `tuf`, in our words."""
    if isinstance(error, tuf_errors.DownloadHTTPError) and error.status_code in _GONE:
        return TrustError(Fault.MISSING, str(error))
    fault = next(fault for kind, fault in _FAULTS if isinstance(error, kind))
    return TrustError(fault, str(error) or _name(error))


def _name(error: Exception) -> str:
    return type(error).__name__
