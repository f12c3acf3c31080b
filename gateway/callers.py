"""Who is calling, and how much they may: keys, and the limits of a key and of a model.

A key is stored as the SHA-256 of 256 random bits. `Callers.authenticate` is pure; `Limiter.admit` counts rates in the
shared state (all workers) and calls in flight in this process. Order at the edge: authenticate -> model allowed ->
admit -> body. A slot is held until the answer has ended, streams included, and given back exactly once.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import ConfigError
from gateway.reasons import Reason
from gateway.state import SharedState
from policies import CallerFacts

KEY_PREFIX = "lk-"
KEY_BYTES = 32  # 256 bits: the digest needs no salt and no slow hash, for nobody can list that many keys
KEY_CHARS_MAX = 512  # our choice: longest presented key that is hashed; ours have 46 characters
RATE_WINDOW_S = 60  # limits are stated per minute


class CallerEntry(Protocol):
    """One entry of `callers:` in the settings."""

    @property
    def name(self) -> str: ...
    @property
    def key_sha256(self) -> str | None:
        """64 hexadecimal digits; None only with `anonymous`."""

    @property
    def models(self) -> Sequence[str]: ...
    @property
    def anonymous(self) -> bool: ...
    @property
    def facts(self) -> CallerFacts: ...
    @property
    def rate_per_minute(self) -> int | None: ...
    @property
    def concurrent(self) -> int | None: ...
    @property
    def since_s(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a call is from. Nothing here comes from the request but the choice of the entry (L8)."""

    name: str
    facts: CallerFacts
    models: frozenset[str]
    anonymous: bool
    rate_per_minute: int | None
    concurrent: int | None
    since_s: int | None = None  # when it was admitted, s since 1970; None: nobody says

    def may_use(self, model: str) -> bool:
        return model in self.models


def new_key() -> tuple[str, str]:
    """A fresh key and the SHA-256 that goes into the settings. The key itself is shown once and stored nowhere."""
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    return key, hashlib.sha256(key.encode("ascii")).hexdigest()


class Callers:
    """The table of callers, frozen; a reload builds a new one."""

    def __init__(self, entries: Iterable[CallerEntry]) -> None:
        """Raises ConfigError, one line for each entry that cannot be used."""
        self._by_digest: dict[bytes, tuple[bytes, Caller]] = {}
        self._anonymous: Caller | None = None
        problems: list[str] = []
        names: set[str] = set()
        for entry in entries:
            problem = self._add(entry)
            if entry.name in names:
                problem = "another caller has this name; names must differ, for records and limits go by them"
            names.add(entry.name)
            if problem:
                problems.append(f"callers.{entry.name}: {problem}")
        if problems:
            raise ConfigError(problems)

    def _add(self, entry: CallerEntry) -> str | None:
        caller = Caller(
            name=entry.name,
            facts=entry.facts,
            models=frozenset(entry.models),
            anonymous=entry.anonymous,
            rate_per_minute=entry.rate_per_minute,
            concurrent=entry.concurrent,
            since_s=entry.since_s,
        )
        if entry.anonymous:
            if entry.key_sha256 is not None:
                return "anonymous and key_sha256 exclude each other; remove one"
            if self._anonymous is not None:
                return "a second anonymous caller; only one can be meant"
            self._anonymous = caller
            return None
        if entry.key_sha256 is None:
            return "key_sha256 is missing; `licet key new` makes a key and its digest"
        try:
            digest = bytes.fromhex(entry.key_sha256)
        except ValueError:
            digest = b""
        if len(digest) != 32:
            return "key_sha256 must be 64 hexadecimal digits; `licet key new` makes a key and its digest"
        if digest in self._by_digest:
            return "another caller has the same key_sha256; each caller needs a key of its own"
        self._by_digest[digest] = (digest, caller)
        return None

    @property
    def anonymous(self) -> Caller | None:
        """The entry for calls without a key; said aloud at the start."""
        return self._anonymous

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller | Reason:
        """The caller whose key the headers carry, else AUTH_MISSING or AUTH_INVALID.

        `Authorization: Bearer <key>` and `x-api-key: <key>` are read, never the query string. Both may be given, as
        some SDKs do, if they agree; one of them twice, a scheme other than Bearer, or an unknown key is AUTH_INVALID,
        also where anonymous calls are allowed: a caller with a wrong key should learn so.
        """
        bearer: bytes | None = None
        api_key: bytes | None = None
        for name, value in headers:
            if name == b"authorization":
                if bearer is not None or value[:7].lower() != b"bearer ":
                    return Reason.AUTH_INVALID
                bearer = value[7:].strip(b" ")
            elif name == b"x-api-key":
                if api_key is not None:
                    return Reason.AUTH_INVALID
                api_key = value
        if bearer is None and api_key is None:
            return self._anonymous or Reason.AUTH_MISSING
        if bearer is not None and api_key is not None and not hmac.compare_digest(bearer, api_key):
            return Reason.AUTH_INVALID
        key = bearer if bearer is not None else api_key
        if not key or len(key) > KEY_CHARS_MAX:
            return Reason.AUTH_INVALID
        return self._lookup(hashlib.sha256(key).digest()) or Reason.AUTH_INVALID

    def _lookup(self, digest: bytes) -> Caller | None:
        """The dict compares digests, not keys, and may stop at the first byte that differs. That tells a guesser how
        much of *a digest* matched, and to make use of it they would have to choose digests, that is, invert SHA-256.
        So no time depends on a stored key in a way that helps to find it, and the cost does not grow with the number
        of callers, as comparing against every entry would. The hit is compared once more in constant time, so that
        equality is never decided by the dict alone."""
        found = self._by_digest.get(digest)
        if found is None or not hmac.compare_digest(found[0], digest):
            return None
        return found[1]


@dataclass(frozen=True, slots=True)
class Denied:
    """No room now. `retry_after_s` is at least 1."""

    reason: Reason  # RATE_LIMITED | CONCURRENCY_LIMITED
    retry_after_s: int
    limit: str  # "caller_rate" | "model_rate" | "caller_concurrent" | "model_concurrent", for metrics


class Admission:
    """A call's slots. `release()` gives them back; calling it again is harmless. Also a context manager."""

    __slots__ = ("_counts", "_keys")

    def __init__(self, counts: dict[str, int], keys: tuple[str, ...]) -> None:
        self._counts = counts
        self._keys = keys

    def release(self) -> None:
        keys, self._keys = self._keys, ()
        counts = self._counts
        for key in keys:
            left = counts[key] - 1
            if left:
                counts[key] = left
            else:
                del counts[key]  # only keys with calls in flight take room

    def __enter__(self) -> Admission:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


# In flight calls end within seconds; a client that comes back at once would mostly be refused again.
CONCURRENT_RETRY_AFTER_S = 1


class Limiter:
    """Rates over all workers, concurrency over this one (`workers` divides it, rounded up).

    A rate is the sliding estimate of `SharedState.hit`: at most `rate_per_minute` in the current minute plus the share
    of the previous one that the window still covers. Refused calls are not counted, so a caller that keeps trying does
    not lock itself out. When the shared state is unreachable, it counts this worker's share by itself: limits become
    rough, calls are neither all refused nor all let through.
    """

    def __init__(self, state: SharedState, *, workers: int = 1) -> None:
        self._state = state
        self._workers = max(1, workers)
        self._in_flight: dict[str, int] = {}

    @property
    def in_flight(self) -> int:
        """Slots held; 0 when every call has ended."""
        return sum(self._in_flight.values())

    async def admit(
        self,
        caller: Caller,
        model: str,
        *,
        model_rate_per_minute: int | None = None,
        model_concurrent: int | None = None,
    ) -> Admission | Denied:
        """Slots for one call of `caller` to `model`, under the entry's own limits and those of the model's policy."""
        admission = self._take(caller, model, model_concurrent)
        if isinstance(admission, Denied):
            return admission
        try:
            denied = await self._rates(caller, model, model_rate_per_minute)
        except BaseException:  # cancelled while waiting for the shared state
            admission.release()
            raise
        if denied is not None:
            admission.release()
            return denied
        return admission

    def _take(self, caller: Caller, model: str, model_concurrent: int | None) -> Admission | Denied:
        counts = self._in_flight
        keys = []
        for key, bound, limit in (
            ("c:" + caller.name, caller.concurrent, "caller_concurrent"),
            ("m:" + model, model_concurrent, "model_concurrent"),
        ):
            if bound is None:
                continue
            if counts.get(key, 0) >= math.ceil(bound / self._workers):
                return Denied(Reason.CONCURRENCY_LIMITED, CONCURRENT_RETRY_AFTER_S, limit)
            keys.append(key)
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
        return Admission(counts, tuple(keys))

    async def _rates(self, caller: Caller, model: str, model_rate: int | None) -> Denied | None:
        wanted = []
        if caller.rate_per_minute is not None:
            wanted.append(("rate:c:" + caller.name, caller.rate_per_minute, "caller_rate"))
        if model_rate is not None:
            wanted.append(("rate:m:" + model, model_rate, "model_rate"))
        if not wanted:
            return None
        wait = await self._state.hit([(key, bound) for key, bound, _ in wanted], RATE_WINDOW_S)
        if wait.index < 0:
            return None
        return Denied(Reason.RATE_LIMITED, max(1, math.ceil(wait.retry_after_s)), wanted[wait.index][2])
