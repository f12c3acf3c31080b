"""What authorities say, kept current: one standing made of local files and of a repository, whichever the settings name.

Sources are asked in the background (`gateway.trust`); each set that comes in is verified and joined with the others
here, on the event loop, and is in force for every call that looks afterwards. What was last in force is kept on the
disk, so that a restart cannot make an older list count.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import msgspec

from gateway.errors import ConfigError
from gateway.license.orders import OrderList, read_kept_orders
from gateway.license.published import StandingError
from gateway.license.standing import LISTS_MAX, NO_STANDING, GatewayFacts, Material, Standing, stand
from gateway.license.trust import NO_TRUST, Trust, ended, load_trust, united
from gateway.settings import Trust as TrustSettings
from gateway.trust import Follower, FollowerStatus, Source, TrustError, TrustOptions, open_source
from gateway.whole_file import put
from policies.model import STATUS_AGE_S_MAX

log = logging.getLogger("licet.authorities")

KNOWN_FILE = "known.json"
# The lists of all kinds as base64, with room: the bounds of the lists themselves are the license room's.
KNOWN_BYTES_MAX = 64 * 1024 * 1024

Changed = Callable[[Standing, Standing], None]


class _Known(msgspec.Struct, frozen=True):
    statuses: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    # Public keys of the lists of orders, by the SHA-256 of the list: an order stays when its issuer's key is replaced.
    order_keys: Mapping[str, str] = msgspec.field(default_factory=dict)
    marks: tuple[tuple[tuple[str, ...], int], ...] = ()  # see Standing.marks


class Authorities:
    """The standing of one worker. All methods are for the thread of the event loop."""

    def __init__(
        self,
        settings: TrustSettings,
        folder: Path,
        *,
        now_s: Callable[[], float],
        licenses: Collection[str] = (),
        policies: Mapping[str, Path] = MappingProxyType({}),
        gateway: GatewayFacts | None = None,
    ) -> None:
        """Reads the local files, and what is known from before. `folder`: of this worker alone; `licenses`: the ids of
        those that come by name; `policies`: where those that come by name are put. Raises ConfigError: a file that cannot
        be used stops the start, and so does a policy that nobody has brought yet."""
        self._folder = folder
        self._now_s = now_s
        self._gateway = gateway or GatewayFacts(name=settings.audience)
        self._keys = {"files": str(settings.keys), "repository": "keys.json"}  # what trust files are called in messages
        self._parts: dict[str, Material] = {}  # what each source brought last
        self._trusts: dict[str, Trust] = {}
        self._followers: dict[str, Follower] = {}
        self._policies = policies
        self._tokens: dict[str, str] = {}  # of lists, by digest
        self.standing = NO_STANDING
        self.licenses: Mapping[str, bytes] = MappingProxyType({})  # by id, those that were asked for
        self.revision = 0  # grows when keys or licenses change, which is when models have to be looked at again
        self._faults: tuple[str, ...] = ()  # of the standing itself
        self.changed: Changed | None = None  # told of each change with the standing before it
        for name, options in _sources(settings, folder, tuple(licenses)).items():
            source = open_source(options)
            if name == "files":
                self._begin(name, source.fetch)
            else:
                self._begin(name, source.cached)
                if any(not path.exists() for path in policies.values()):
                    self._fetch_policies(source)
            self._followers[name] = Follower(
                source,
                folder=options.cache if name == "repository" else None,
                refresh_s=options.pace_s,
                retry_max_s=options.pace_s,  # how soon a revocation is felt is promised after an outage, too
                changed=lambda material, name=name: self._take(name, material),  # type: ignore[misc]
                clock=now_s,
            )
        self._stand(self._remembered())

    def _begin(self, name: str, read: Callable[[], Material | None]) -> None:
        try:
            material = read()
            if material is not None:
                self._join(name, material)
        except TrustError as error:
            if name == "files":
                raise ConfigError(f"trust: {error.detail}") from error
            log.warning("what was kept of the repository is not used: %s", error)
        except ConfigError as error:
            if name == "files":
                raise
            # An authority's mistake, kept as it came: the next look may bring its correction.
            log.warning("what was kept of the repository is not used: %s", error)

    def _fetch_policies(self, source: Source) -> None:
        """A first look that the start waits for: without its policy a model cannot be served. Raises ConfigError."""
        try:
            self._deliver(source.fetch())
        except TrustError as error:
            raise ConfigError(f"trust: policies that the repository brings are not here yet, and: {error}") from error
        missing = [name for name, path in self._policies.items() if not path.exists()]
        if missing:
            raise ConfigError(
                [f"trust: the repository has no policy named {name}; correct the name" for name in missing]
            )

    def _deliver(self, material: Material) -> None:
        """Put the policies that were asked for where models read them; they are taken up as any changed file is."""
        for name, path in self._policies.items():
            data = material.policies.get(name)
            if data is not None and not (path.exists() and path.read_bytes() == data):
                put(path, data, durable=True)

    async def start(self) -> None:
        """Follow the sources. Returns after the first look at each, well or not."""
        for follower in self._followers.values():
            await follower.start()

    def hint(self) -> None:
        """Something may have changed: look soon."""
        for follower in self._followers.values():
            follower.hint()

    def look(self) -> None:
        """To be called each second: keys that came with a set which ended long ago are no longer trusted.

        Lists carry their own freshness, keys do not: whoever can hold a repository still must not keep a key alive that
        was withdrawn meanwhile. Orders that are in force stay.
        """
        part, trust = self._parts.get("repository"), self._trusts.get("repository")
        until_s = part.expires_at_s if part is not None else None
        if until_s is not None and trust is not None and trust.keys and self._now_s() >= until_s + STATUS_AGE_S_MAX:
            self._trusts["repository"] = ended(trust)
            log.error("the repository's set ended %d hours ago; its keys no longer count", STATUS_AGE_S_MAX // 3600)
            self._stand(self.standing)

    def identify(self, gateway: GatewayFacts) -> None:
        """Who this gateway is, once it is known: conditions of licenses ask."""
        self._gateway = gateway
        self._stand(self.standing)

    @property
    def problems(self) -> list[str]:
        """What of the files and sets is not in force. A repository that cannot be reached is not among it: see `status`."""
        found = list(self._faults)
        files = self._followers.get("files")
        if files is not None:
            status = files.status()
            found += [f"trust: {fault}" for fault in (status.last_error, *status.problems) if fault]
        return found

    @property
    def awaited(self) -> bool:
        """Whether nothing has come from the repository yet, not even from the disk: no license can be verified."""
        return "repository" in self._followers and "repository" not in self._parts

    @property
    def trouble(self) -> str:
        """Why the repository could not be followed at the last look; "": it could, or there is none."""
        repository = self._followers.get("repository")
        return repository.status().last_error if repository is not None else ""

    @property
    def status(self) -> dict[str, FollowerStatus]:
        """How following goes, by source: files, repository."""
        return {name: follower.status() for name, follower in self._followers.items()}

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """What the sources brought and is in force, each with its kind: lists as tokens, keys and lexicons as files."""
        held = {
            "status": [one.digest for one in self.standing.statuses.values()],
            "orders": [one.digest for one in self.standing.orders],
            "gateways": [one.digest for one in self.standing.gateways.values()],
        }
        for kind, digests in held.items():
            for digest in digests:
                if digest in self._tokens:
                    yield kind, self._tokens[digest].encode("latin-1")
        for part in self._parts.values():
            if part.keys is not None:
                yield "trust", part.keys
            for lexicon in part.lexicons.values():
                yield "lexicons", lexicon

    async def close(self) -> None:
        """Stop following. Harmless twice."""
        for follower in self._followers.values():
            await follower.close()

    def _take(self, name: str, material: Material) -> None:
        """A set came in."""
        self._join(name, material)
        self._stand(self.standing)

    def _join(self, name: str, material: Material) -> None:
        """The set of one source takes the place of its last one. Raises ConfigError: then it does not."""
        if material.keys is not None:
            self._trusts[name] = load_trust(material.keys, source=self._keys[name])
        self._parts[name] = material
        self._deliver(material)

    def _stand(self, before: Standing) -> None:
        merged = self._merged()
        trust = united([self._trusts[name] for name in ("files", "repository") if name in self._trusts] or [NO_TRUST])
        made, self._faults = stand(merged, before, now_s=self._now_s(), gateway=self._gateway, trust=trust)
        licenses = merged.licenses
        if made.trust.digest != self.standing.trust.digest or licenses != self.licenses:
            self.revision += 1
        self.licenses = licenses
        previous, self.standing = self.standing, made
        if made is previous:
            return
        self._remember(merged, made)
        if self.changed is not None:
            self.changed(previous, made)

    def _merged(self) -> Material:
        parts = list(self._parts.values())
        licenses: dict[str, bytes] = {}
        for part in parts:
            licenses.update(part.licenses)
        return Material(
            statuses=tuple(token for part in parts for token in part.statuses),
            orders=tuple(token for part in parts for token in part.orders),
            gateways=tuple(token for part in parts for token in part.gateways),
            licenses=MappingProxyType(licenses),
            version=" ".join(part.version for part in parts if part.version),
        )

    # -- over a restart

    def _remembered(self) -> Standing:
        """What was in force when this worker last ran, as far as it still verifies; orders by the keys of their time."""
        path = self._folder / KNOWN_FILE
        try:
            with path.open("rb") as file:
                known = msgspec.json.decode(file.read(KNOWN_BYTES_MAX), type=_Known)
        except FileNotFoundError:
            return NO_STANDING
        except (OSError, ValueError, RecursionError) as error:  # msgspec's errors, and of text that is not UTF-8
            # It only ever tightens: without it the files and the repository's own memory decide.
            log.warning("%s: cannot be read (%s); older lists are not recognized", path, type(error).__name__)
            return NO_STANDING
        material = Material(
            statuses=tuple(token.encode() for token in known.statuses),
            orders=tuple(token.encode() for token in known.orders),
            gateways=tuple(token.encode() for token in known.gateways),
        )
        self._note_tokens(material)
        trust = united(list(self._trusts.values()) or [NO_TRUST])
        before = replace(NO_STANDING, orders=tuple(_kept_orders(known)), marks=MappingProxyType(dict(known.marks)))
        made, _ = stand(material, before, now_s=self._now_s(), gateway=self._gateway, trust=trust)
        return replace(made, version="")

    def _note_tokens(self, material: Material) -> None:
        for token in (*material.statuses, *material.orders, *material.gateways):
            text = token.strip(b" \t\r\n")
            self._tokens[hashlib.sha256(text).hexdigest()] = text.decode("latin-1")

    def _remember(self, material: Material, standing: Standing) -> None:
        """Keep the lists in force. A failure is logged: it costs the protection over a restart, not the present one."""
        self._note_tokens(material)
        digests = (
            [one.digest for one in standing.statuses.values()],
            [one.digest for one in standing.orders],
            [one.digest for one in standing.gateways.values()],
        )
        held = {digest for group in digests for digest in group}
        self._tokens = {digest: token for digest, token in self._tokens.items() if digest in held}
        statuses, orders, gateways = (tuple(self._tokens[d] for d in g if d in self._tokens) for g in digests)
        keys = {one.digest: one.x for one in standing.orders}
        known = _Known(statuses, orders, gateways, keys, tuple(standing.marks.items()))
        path = self._folder / KNOWN_FILE
        try:
            put(path, msgspec.json.encode(known), private=True)
        except OSError as error:
            log.warning("%s: %s", path, error.strerror or error)


def _kept_orders(known: _Known) -> Iterator[OrderList]:
    for text in known.orders[:LISTS_MAX]:
        token = text.strip().encode()
        x = known.order_keys.get(hashlib.sha256(token).hexdigest())
        if x is None:
            continue  # an older version kept none: today's keys decide
        try:
            yield read_kept_orders(token, x)
        except StandingError as error:
            log.warning("a list of orders that was kept is not used: %s", error.detail)


def _sources(settings: TrustSettings, folder: Path, licenses: tuple[str, ...]) -> dict[str, TrustOptions]:
    made: dict[str, TrustOptions] = {}
    if settings.keys is not None or settings.status or settings.orders or settings.gateways:
        made["files"] = TrustOptions(
            cache=folder / "files",
            keys=settings.keys,
            status=settings.status,
            orders=settings.orders,
            gateways=settings.gateways,
        )
    if settings.tuf:
        made["repository"] = TrustOptions(
            cache=folder, tuf=settings.tuf, root=settings.root, licenses=licenses, refresh_s=settings.refresh_s
        )
    return made
