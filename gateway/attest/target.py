"""The gateway's side: what is known of each target right now, for the license gate.

A serving host is asked for its statement at the start, each minute, and sooner where a statement is about to end; always
with a nonce of this gateway's own, over a connection that shows the keys which the license pins when the statement comes
from the endpoint itself. That is why a statement cannot come from a file: a file answers no nonce, and whoever held an old
one could show it again. A host that cannot be reached, or says what does not verify, leaves the last good statement in
force until that ends; one that says its weights changed (409) ends it at once.

`Attestor.evidence` is asked on every call: it waits for nothing and gives the same object while nothing changed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.attest.statement import ENVELOPE_BYTES_MAX, StatementError, verify_statement
from gateway.attest.watch import LOOK_S, WeightsWatch
from gateway.errors import ConfigError, UpstreamError
from gateway.license.binding import NO_EVIDENCE, Evidence, HostStatement
from gateway.license.claims import origin_of
from gateway.license.facts import ModelFacts
from gateway.license.record import HostKey, Terms
from gateway.routes import read_pins
from gateway.upstream import Upstream

log = logging.getLogger("licet.attest")

ASK_S: Final = 60.0  # between two questions. Our choice: a host that loads other weights is noticed within this
FETCH_S: Final = 10.0  # for one question
RETRY_S: Final = 1.0  # after the first failure; doubled up to ASK_S
JITTER: Final = 0.2  # of every wait, so that workers do not ask in step
CHANGED: Final = 409  # what a host says whose weights are no longer those that it started with


class _UnansweredError(Exception):
    """The host gave no statement. `changed`: because its weights are others now."""

    def __init__(self, status: int) -> None:
        self.changed = status == CHANGED
        super().__init__(f"it answered {status}")


class Attestor:
    """One target. Made without an event loop; `licensed` tells it the license's terms, now and whenever they change."""

    def __init__(
        self,
        *,
        origin: str,
        upstream: Upstream,
        weights: WeightsWatch | None = None,
        statement: str | None = None,
        ask_s: float = ASK_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`origin` and `upstream` are the target's; `statement` is the URL at which its host says what it loaded.

        Raises ConfigError if that is none.
        """
        self._origin = origin
        self._upstream = upstream
        self._weights = weights
        self._statement = statement
        try:
            self._own = statement is not None and origin_of(statement) == origin
        except ValueError as error:
            raise ConfigError("statement: not an http or https URL; a file cannot answer a gateway's nonce") from error
        self._ask_s = ask_s
        self._now_s = now_s
        self._keys: tuple[HostKey, ...] = ()
        self._pins: frozenset[bytes] = frozenset()
        self._manifest: str | None = None
        self._said: HostStatement | None = None
        self._evidence = NO_EVIDENCE
        self._known: tuple[ModelFacts, ModelFacts] | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.problem: str | None = None  # why there is no fresh statement, for people

    def licensed(self, terms: Terms | None) -> None:
        """The terms in force. Keys or pins that changed end the statement that was believed under the old ones."""
        endpoint = terms.endpoint if terms is not None else None
        keys = endpoint.host_keys if endpoint is not None else ()
        pins = read_pins(endpoint.spki_pins) if endpoint is not None else frozenset[bytes]()
        weights = terms.model.weights if terms is not None else None
        self._manifest = weights.manifest_digest if weights is not None else None
        if (keys, pins) != (self._keys, self._pins):
            self._keys, self._pins, self._said = keys, pins, None
            self._wake.set()

    def evidence(self) -> Evidence:
        """What is known now."""
        said = self._said
        if said is not None and self._now_s() >= said.exp:
            said = self._said = None
        weights = self._digest()
        last = self._evidence
        if last.statement is not said or last.weights != weights:
            known = said is not None or weights is not None
            last = self._evidence = Evidence(statement=said, weights=weights) if known else NO_EVIDENCE
        return last

    def known(self, facts: ModelFacts) -> ModelFacts:
        """Those facts with the evidence of now; the same object while neither changed."""
        evidence = self.evidence()
        if evidence is facts.evidence:
            return facts
        last = self._known
        if last is None or last[0] is not facts or last[1].evidence is not evidence:
            last = self._known = (facts, replace(facts, evidence=evidence))
        return last[1]

    def pins(self, binding: int) -> frozenset[bytes]:
        """What `Upstream.open` has to be given for a call whose license is bound at this level; empty: nothing is pinned.

        At level 2 it is the one key that the host's statement is about: another host of the same license has not said
        what it loaded.
        """
        if not self._origin.startswith("https:"):
            return frozenset()
        if binding == 2 and self._said is not None:
            return read_pins((self._said.spki,))
        return self._pins

    @property
    def problems(self) -> list[str]:
        """What stands in the way of evidence that the settings ask for, for people."""
        weights = self._weights.problem if self._weights is not None else None
        return [problem for problem in (weights, self.problem) if problem]

    async def start(self) -> None:
        """Begin to ask for statements. The first question is answered, or has failed, when this returns."""
        if self._statement is None or self._task is not None:
            return
        self._wake.clear()
        delay = await self._ask(RETRY_S)
        self._task = asyncio.get_running_loop().create_task(self._watch(delay))

    async def close(self) -> None:
        """Ask no more. Harmless twice. The client stays its owner's."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _digest(self) -> str | None:
        """The weights as hashed here. Where the license names the manifest, too, files under other names are not the
        licensed ones, though the digest without names is the same: then the manifest's stands for them."""
        found = self._weights.hashed if self._weights is not None else None
        if found is None:
            return None
        return found.root if self._manifest in (None, found.manifest) else found.manifest

    async def _watch(self, delay: float) -> None:
        failing = RETRY_S
        while True:
            try:
                async with asyncio.timeout(delay * random.uniform(1 - JITTER, 1)):  # noqa: S311  # jitter, no secret
                    await self._wake.wait()
            except TimeoutError:
                pass
            else:
                failing = RETRY_S
            self._wake.clear()
            delay = await self._ask(failing)
            failing = min(failing * 2, self._ask_s) if self.problem else RETRY_S

    async def _ask(self, failing: float) -> float:
        """Ask once. Returns how long to wait before the next time; `failing`: if it failed."""
        if not self._keys:
            self.problem = None
            return self._ask_s  # no host may speak for this license; `licensed` wakes us when one may
        keys, pins = self._keys, self._pins
        try:
            said = await self._fetch(keys, pins)
        except _UnansweredError as error:
            if error.changed:
                self._said = None
            return self._failed(str(error), failing)
        except (UpstreamError, StatementError, TimeoutError, ValueError) as error:
            # None of these repeats what the host said.
            return self._failed(str(error) or type(error).__name__, failing)
        except Exception as error:  # noqa: BLE001  # logged; a task that died would leave the last statement unrenewed
            return self._failed(type(error).__name__, failing)
        if (keys, pins) != (self._keys, self._pins):
            return 0.0  # the license changed meanwhile: under its terms this was not verified
        self.problem, self._said = None, said
        return min(self._ask_s, max((said.exp - self._now_s()) / 2, RETRY_S))

    def _failed(self, why: str, failing: float) -> float:
        if self.problem is None:
            log.warning("no statement of the host of %s: %s", self._origin, why)
        self.problem = f"statement of {self._origin}: {why}"
        return failing

    async def _fetch(self, keys: Iterable[HostKey], pins: frozenset[bytes]) -> HostStatement:
        assert self._statement is not None
        nonce = secrets.token_urlsafe(24)
        url = f"{self._statement}{'&' if '?' in self._statement else '?'}nonce={nonce}"
        pinned = pins if self._own and self._origin.startswith("https:") else frozenset[bytes]()
        async with asyncio.timeout(FETCH_S):
            reply = await self._upstream.open(
                url=url, method="GET", headers=[(b"accept", b"application/json")], body=b"", pins=pinned
            )
            async with reply:
                if reply.status != 200:
                    raise _UnansweredError(reply.status)
                envelope = await reply.read_all(ENVELOPE_BYTES_MAX)
        return verify_statement(envelope, keys, nonce=nonce, now_s=self._now_s())


class Attestation:
    """All targets of one worker. Folders that several targets name are watched once."""

    def __init__(
        self,
        data: Path,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`data` is the gateway's own folder: workers share results in `data/weights`. `now_s`: the clock of licenses."""
        self._shared = data / "weights"
        self._now_s = now_s
        self._folders: dict[Path, WeightsWatch] = {}
        self._attestors: list[Attestor] = []

    def target(self, *, origin: str, upstream: Upstream, weights: Path | None, statement: str | None) -> Attestor:
        """What watches one target; begun by `start`."""
        watch: WeightsWatch | None = None
        if weights is not None:
            watch = self._folders.get(weights)
            if watch is None:
                watch = self._folders[weights] = WeightsWatch(weights, self._shared, look_s=LOOK_S)
        made = Attestor(
            origin=origin,
            upstream=upstream,
            weights=watch,
            statement=statement,
            ask_s=ASK_S,
            now_s=self._now_s,
        )
        self._attestors.append(made)
        return made

    @property
    def problems(self) -> list[str]:
        """What stands in the way of evidence, each once."""
        return list(dict.fromkeys(problem for one in self._attestors for problem in one.problems))

    async def start(self) -> None:
        """Begin to watch. Waits for the first look at folders and the first answers of hosts, within FETCH_S; hashing goes
        on in the background."""
        async with asyncio.TaskGroup() as group:
            for folder in self._folders.values():
                group.create_task(folder.start())
            for attestor in self._attestors:
                group.create_task(attestor.start())

    async def close(self) -> None:
        """Stop all of it. Harmless twice; before the clients are closed."""
        for attestor in self._attestors:
            await attestor.close()
        for folder in self._folders.values():
            await folder.close()
