"""Documents that were kept: which license, lists, keys and policy there were as of a time. What does not verify is not used.

A license is found by the digest that records name; lists of an authority by their issuer and time; keys by what they verify.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from filters.detectors.custom import check
from filters.tags import TAGS
from gateway.errors import ConfigError
from gateway.evidence.kept import KEPT_NAME, kept
from gateway.license.claims import Claims
from gateway.license.orders import OrderList, read_orders
from gateway.license.permits import Permit, read_permit
from gateway.license.published import StandingError
from gateway.license.standing import EnrolledList, read_gateways
from gateway.license.status import StatusList, read_status_list
from gateway.license.token import License, open_license
from gateway.license.trust import NO_TRUST, Trust, load_trust
from policies import Policy, PolicyError, load

DOCUMENTS_MAX = 10_000  # of one kind that are read for one answer, newest first. Our choice: months of hourly lists
_SHORT = 12  # hex digits by which notes name policies and licenses

_List = StatusList | OrderList | EnrolledList
_L = TypeVar("_L", StatusList, OrderList, EnrolledList)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Known:
    """What was known at a time: lists that were made by then, and those that records of that time name, whose issuer's clock was ahead.

    Of lists that were made in that very second, those do not count that records name only later.
    """

    at_s: float
    digests: frozenset[str] = frozenset()  # named by records until then
    later: frozenset[str] = frozenset()  # named by records only after it
    iat: int | None = None  # of the list that a call of that time rested on

    def has(self, made: _List) -> bool:
        """Whether a list was known."""
        if made.digest in self.digests or made.iat == self.iat:
            return True
        return made.iat <= self.at_s and not (made.iat == int(self.at_s) and made.digest in self.later)


@dataclass
class Documents:
    """The kept documents of some gateways. Everything is read once."""

    data: tuple[Path, ...]
    _licenses: dict[str, License | None] = field(default_factory=dict)

    def get(self, kind: str, digest: str) -> bytes | None:
        """A document by its digest, wherever it is kept."""
        for folder in self.data:
            found = kept(folder, kind, digest)
            if found is not None:
                return found
        return None

    def all(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """(digest, document) of a kind, those that were kept last first."""
        paths = {p.name: p for folder in self.data for p in (folder / KEPT_NAME / kind).glob("[0-9a-f]*")}
        newest = sorted(paths.values(), key=lambda p: (-p.stat().st_mtime_ns, p.name))
        for path in newest[:DOCUMENTS_MAX]:
            document = self.get(kind, path.name)
            if document is not None:
                yield path.name, document

    def whole(self, kind: str, digest: str) -> str:
        """The whole digest of a document that a note names by its beginning; "" unless exactly one begins so."""
        found = {path.name for folder in self.data for path in (folder / KEPT_NAME / kind).glob(f"{digest[:_SHORT]}*")}
        return found.pop() if len(found) == 1 else ""

    @cached_property
    def trusts(self) -> list[Trust]:
        """The keys that were ever trusted, last kept first."""
        made = []
        for digest, document in self.all("trust"):
            try:
                made.append(load_trust(document, source=digest))
            except ConfigError:
                continue  # it was never in force either
        return made

    def license(self, digest: str) -> License | None:
        """The license of that digest, by keys that were trusted. None: it was not kept; without claims: nothing vouches for it."""
        if digest not in self._licenses:
            token = self.get("licenses", digest) if digest else None
            made: License | None = None
            for trust in [*self.trusts, NO_TRUST] if token is not None else []:
                made = open_license(token, trust)
                if made.claims is not None:
                    break
            self._licenses[digest] = made
        return self._licenses[digest]

    def claims(self, digest: str) -> Claims | None:
        """What that license says; None where it was not kept or does not verify."""
        found = self.license(digest)
        return found.claims if found is not None else None

    def trust_of(self, digest: str) -> Trust:
        """The keys by which a license verifies."""
        found = self.license(digest)
        if found is None or found.claims is None:
            return NO_TRUST
        return next(one for one in self.trusts if one.digest == found.trust_digest)

    def policy(self, digest: str, day: datetime.date | None = None) -> Policy | None:
        """A policy as it was on a day; None where it was not kept, or this version cannot read it any more."""
        document = self.get("policies", digest) if digest else None
        if document is None:
            return None
        try:
            return load(document, source=digest, tags=TAGS, check_pattern=check, today=day)
        except PolicyError:
            return None

    def permits(self) -> list[Permit]:
        """Training permits that verify."""
        return [made for _, token in self.all("permits") if (made := self._verified(token, read_permit)) is not None]

    def permit(self, id_: str) -> Permit | None:
        """The permit of that id."""
        return next((one for one in self.permits() if one.id == id_), None)

    def status_list(self, iss: str, uri: str, at: Known) -> StatusList | None:
        """What an issuer had published last, of a status list, at a time."""
        return _last([one for one in self._statuses if (one.iss, one.uri) == (iss, uri)], at)

    def orders(self, at: Known) -> tuple[OrderList, ...]:
        """Of each issuer the orders that it had published last."""
        return tuple(_newest(self._orders, at))

    def gateways(self, at: Known) -> dict[str, EnrolledList]:
        """Of each issuer the gateways that it had enrolled."""
        return {one.iss: one for one in _newest(self._gateways, at)}

    @cached_property
    def _statuses(self) -> list[StatusList]:
        return self._lists("status", read_status_list)

    @cached_property
    def _orders(self) -> list[OrderList]:
        return self._lists("orders", read_orders)

    @cached_property
    def _gateways(self) -> list[EnrolledList]:
        return self._lists("gateways", read_gateways)

    def _lists(self, kind: str, read: Callable[[bytes, Trust], _L]) -> list[_L]:
        return [made for _, token in self.all(kind) if (made := self._verified(token, read)) is not None]

    def _verified(self, token: bytes, read: Callable[[bytes, Trust], _T]) -> _T | None:
        for trust in self.trusts:
            try:
                return read(token, trust)
            except StandingError:
                continue
        return None


def _newest(lists: Sequence[_L], at: Known) -> Iterator[_L]:
    for issuer in sorted({one.iss for one in lists}):
        found = _last([one for one in lists if one.iss == issuer], at)
        if found is not None:
            yield found


def _last(lists: Sequence[_L], at: Known) -> _L | None:
    known = [one for one in lists if at.has(one)]
    return max(known, key=lambda one: one.iat, default=None)
