"""What authorities say right now beside the licenses themselves: statuses, orders, enrolled gateways; and who we are.

One `Standing` is made of each set of files that came in, and is never changed: calls that share it agree, and what is
worked out from it may be kept for as long as it is in force. All of it is read and verified before it counts; what does
not verify, or is older than what was ever known, leaves the known in place. A list that is no longer delivered stays, and
grows too old to use; orders stay even then, so that losing their list never lifts them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Generic, Protocol, TypeVar

import msgspec

from gateway.errors import ConfigError
from gateway.license.orders import OrderList, read_orders
from gateway.license.published import CLOCK_SKEW_S, Envelope, StandingError, envelope, open_signed
from gateway.license.record import Short, Words
from gateway.license.signed import Kind
from gateway.license.status import StatusList, read_status_list
from gateway.license.trust import NO_TRUST, Right, Trust, load_trust
from policies.model import STATUS_AGE_S_MAX

LISTS_MAX = 256  # our choice, of each kind; one status list holds millions of licenses
STATUS_BYTES_MAX = 64 * 1_048_576  # our choice: of all status lists together, unpacked; 256 million licenses
# Our choice: a list of each kind and place, and as many again that no longer count. A mark that is pushed out has the
# least time of all.
MARKS_MAX = 6 * LISTS_MAX
GATEWAYS_MAX = 10_000  # our choice: a token of 1 MiB holds fewer


class Enrolled(msgspec.Struct, frozen=True):
    """One gateway as an authority has recorded it."""

    name: Short
    operator: Short  # holder id of licenses that it may serve; "*": any
    key: Short  # RFC 7638 thumbprint of the key that signs its log
    streams: Words  # glob patterns of its journal streams


@dataclass(frozen=True, slots=True, eq=False)
class EnrolledList:
    """The gateways that one issuer has enrolled, verified."""

    iss: str
    iat: int
    exp: int
    ttl_s: int
    gateways: tuple[Enrolled, ...]
    digest: str = ""  # SHA-256 of the token, hex
    kid: str = ""  # of the key that signed it


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """This gateway, as far as conditions of a license ask."""

    name: str = ""
    key: str = ""  # RFC 7638 thumbprint of the key that signs its log; "": it has none
    stream: str = ""  # the journal stream that calls are recorded in
    lexicons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # detector or lexicon -> version
    label_profiles: frozenset[str] = frozenset()
    witness_lag_s: float | None = None  # None: no witness cosigns this log


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What holds for every call that begins now."""

    trust: Trust = NO_TRUST
    statuses: Mapping[tuple[str, str], StatusList] = field(default_factory=lambda: MappingProxyType({}))  # (iss, uri)
    # Of issuers whose orders this gateway follows: once an issuer's orders were seen, they have to stay fresh.
    orders: tuple[OrderList, ...] = ()
    gateways: Mapping[str, EnrolledList] = field(default_factory=lambda: MappingProxyType({}))  # by issuer
    gateway: GatewayFacts = field(default_factory=GatewayFacts)
    version: str = ""  # of the set of files, for people: a TUF snapshot's version, or digests
    # The greatest `iat` that was in force, by kind, issuer and URI: it stays when the list itself no longer counts.
    marks: Mapping[tuple[str, ...], int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Material:
    """The files of one or more authorities as they were fetched. Nothing in them has been verified here."""

    keys: bytes | None = None  # the trust file
    statuses: tuple[bytes, ...] = ()
    orders: tuple[bytes, ...] = ()
    gateways: tuple[bytes, ...] = ()
    licenses: Mapping[str, bytes] = field(
        default_factory=lambda: MappingProxyType({})
    )  # by jti, those asked for by name
    lexicons: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))  # by name
    policies: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))  # by name
    version: str = ""
    expires_at_s: int | None = None  # when the set itself is too old to use (TUF timestamp); None: it does not say


NO_STANDING = Standing()


class _Payload(Envelope, frozen=True):
    gateways: Annotated[tuple[Enrolled, ...], msgspec.Meta(max_length=GATEWAYS_MAX)]


def read_gateways(token: bytes, trust: Trust) -> EnrolledList:
    """The list in the token, of an issuer that may enroll gateways. Raises StandingError, and nothing else."""
    signed = open_signed(token, Kind.GATEWAYS, trust)
    made = envelope(signed.payload, _Payload, "a list of enrolled gateways")
    return EnrolledList(made.iss, made.iat, made.exp, made.ttl, made.gateways, signed.digest, signed.kid)


def stand(
    material: Material, previous: Standing, *, now_s: float, gateway: GatewayFacts, trust: Trust
) -> tuple[Standing, tuple[str, ...]]:
    """What holds once the files came in, and what is wrong with them as sentences for people.

    The keys are those of the files, or `trust` when the files hold none. `previous` itself comes back when nothing
    changed. Each issuer has one list of orders and one of gateways; a status list is known by issuer and URI.
    """
    problems: list[str] = []
    keys = _keys(material, previous, trust, problems)
    rotation = _Rotation(previous.trust, keys)
    marks = dict(previous.marks)
    statuses = _Shelf("status list", read_status_list, _status_key, keys, now_s, problems, marks, _unpacked)
    statuses.keep(previous.statuses.values(), lambda made: rotation.stands(made) and _useful(made, now_s))
    statuses.add(material.statuses)
    orders = _Shelf("list of orders", read_orders, _issuer_key, keys, now_s, problems, marks)
    # An issuer that changed its key has not lifted its orders: they stay, and have to be renewed to stay fresh.
    orders.keep(previous.orders, lambda made: keys.may(made.iss, Right.ORDERS))
    orders.add(material.orders)
    gateways = _Shelf("list of gateways", read_gateways, _issuer_key, keys, now_s, problems, marks)
    gateways.keep(previous.gateways.values(), lambda made: rotation.stands(made) and _useful(made, now_s))
    gateways.add(material.gateways)
    made = Standing(
        trust=keys,
        statuses=MappingProxyType({(one.iss, one.uri): one for one in statuses.lists}),
        orders=tuple(orders.lists),
        gateways=MappingProxyType({one.iss: one for one in gateways.lists}),
        gateway=gateway,
        version=material.version,
        marks=MappingProxyType(dict(sorted(marks.items(), key=lambda mark: mark[1])[-MARKS_MAX:])),
    )
    return (previous if _same(made, previous) else made), tuple(problems)


def _keys(material: Material, previous: Standing, trust: Trust, problems: list[str]) -> Trust:
    if material.keys is None:
        return trust
    if hashlib.sha256(material.keys).hexdigest() == previous.trust.digest:
        return previous.trust
    try:
        return load_trust(material.keys, source="keys.json")
    except ConfigError as error:
        problems += [f"{problem}; the keys known before stay" for problem in error.problems]
        return trust if previous.trust is NO_TRUST else previous.trust


def _same(made: Standing, previous: Standing) -> bool:
    # Lists are compared by identity: one that came in again with the same bytes is the same object.
    return (
        made.trust.digest == previous.trust.digest
        and made.statuses == previous.statuses
        and made.orders == previous.orders
        and made.gateways == previous.gateways
        and made.gateway == previous.gateway
        and made.version == previous.version
        and made.marks == previous.marks
    )


class _List(Protocol):
    """What the lists of all kinds have."""

    @property
    def iss(self) -> str: ...
    @property
    def iat(self) -> int: ...
    @property
    def exp(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def kid(self) -> str: ...


_L = TypeVar("_L", bound=_List)


def _useful(made: _List, now_s: float) -> bool:
    """Whether some policy could still use the list."""
    return now_s < min(made.exp, made.iat + STATUS_AGE_S_MAX)


@dataclass(frozen=True, slots=True)
class _Rotation:
    """Keys before and now: what a key signed counts for as long as the key is trusted."""

    before: Trust
    now: Trust

    def stands(self, made: _List) -> bool:
        """Whether the key that signed the list is still its issuer's, and the issuer may still sign such lists."""
        right = Right.STATUS if isinstance(made, StatusList) else Right.GATEWAYS
        if not self.now.may(made.iss, right):
            return False
        old, new = self.before.key(made.iss, made.kid), self.now.key(made.iss, made.kid)
        return new is not None and (old is new or (old is not None and old.thumbprint() == new.thumbprint()))


def _issuer_key(made: _List) -> tuple[str, ...]:
    return (made.iss,)


def _status_key(made: StatusList) -> tuple[str, ...]:
    return made.iss, made.uri


def _unpacked(made: StatusList) -> int:
    return len(made.entries)


class _Shelf(Generic[_L]):
    """The lists of one kind while a set of files is read: the known ones, then those of the files that are newer."""

    def __init__(
        self,
        name: str,
        read: Callable[[bytes, Trust], _L],
        key: Callable[[_L], tuple[str, ...]],
        trust: Trust,
        now_s: float,
        problems: list[str],
        marks: dict[tuple[str, ...], int],
        size: Callable[[_L], int] = lambda made: 0,
    ) -> None:
        self._name = name
        self._read = read
        self._key = key
        self._trust = trust
        self._now_s = now_s
        self._problems = problems
        self._marks = marks
        self._size = size
        self._lists: dict[tuple[str, ...], _L] = {}
        self._known: dict[str, _L] = {}  # by digest
        self._missing: set[tuple[str, ...]] = set()  # known, and not seen among the files

    @property
    def lists(self) -> list[_L]:
        """What is on the shelf."""
        return list(self._lists.values())

    def keep(self, known: Iterable[_L], stays: Callable[[_L], bool]) -> None:
        """Begin with what was known."""
        for made in known:
            self._mark(made)
            if stays(made):
                self._lists[self._key(made)] = self._known[made.digest] = made
                self._missing.add(self._key(made))
            else:
                self._problems.append(f"{self._shown(made)} no longer counts: it is too old, or its key is not trusted")

    def add(self, tokens: tuple[bytes, ...]) -> None:
        """Take up each list that is in order and newer than the known one."""
        if len(tokens) > LISTS_MAX:
            self._problems.append(f"there are {len(tokens)} files of the kind {self._name}; only {LISTS_MAX} are read")
        for token in tokens[:LISTS_MAX]:
            known = self._known.get(hashlib.sha256(token.strip(b" \t\r\n")).hexdigest())
            if known is not None:
                self._missing.discard(self._key(known))
                continue
            try:
                self._take(self._read(token, self._trust))
            except StandingError as error:
                self._problems.append(f"a {self._name} was not taken up: {error.detail}")
        for key in sorted(self._missing):
            self._problems.append(f"{self._shown(self._lists[key])} is no longer delivered; the known one stays")

    def _take(self, made: _L) -> None:
        key = self._key(made)
        self._missing.discard(key)
        known = self._lists.get(key)
        newest = self._marks.get((self._name, *key), 0)
        if made.iat - CLOCK_SKEW_S > self._now_s:
            fault = "it is from the future: a clock is wrong"
        elif known is None and len(self._lists) >= LISTS_MAX:
            fault = f"{LISTS_MAX} of its kind are known already"
        elif self._size(made) + sum(self._size(one) for at, one in self._lists.items() if at != key) > STATUS_BYTES_MAX:
            fault = f"all lists together have more than {STATUS_BYTES_MAX:,} bytes"
        elif known is not None and made.iat < known.iat:
            fault = f"it is older than the known one of {known.iat}"
        elif known is not None and made.iat == known.iat and made.digest != known.digest:
            fault = "it differs from the known one of the same time"
        elif made.iat < newest:
            fault = f"it is older than the one of {newest}, which no longer counts"
        else:
            self._lists[key] = made
            self._mark(made)
            return
        self._problems.append(f"{self._shown(made)} was not taken up: {fault}")

    def _mark(self, made: _L) -> None:
        at = (self._name, *self._key(made))
        self._marks[at] = max(made.iat, self._marks.get(at, 0))

    def _shown(self, made: _L) -> str:
        name = " ".join(part[:200] for part in self._key(made))
        return f"the {self._name} {name} of {made.iat}"
