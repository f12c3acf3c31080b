"""The models this gateway serves: each with its target, and the policy and license in force right now.

What is decided per policy rather than per call is decided here, when a file changes, and stands in a `Governed`. `poll` takes
up changed files, each whole or not at all: a policy or trust file that cannot be used leaves the last good one in force
and shows in `problems`; a license that cannot be used, or is gone, refuses every call.
"""

from __future__ import annotations

import datetime
import functools
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from filters.detectors.custom import CustomDetector
from gateway.attest.target import Attestation
from gateway.authorities import Authorities
from gateway.callers import Caller
from gateway.clocks import Clock, license_clocks, policy_clocks
from gateway.errors import ConfigError
from gateway.filter_rules import hashes, name_modes, read_policy, role_rules
from gateway.governed import TEXT, Filed, Governed, policy_ref
from gateway.headers import target_fields
from gateway.license.binding import is_loopback
from gateway.license.check import Gate, ModelFacts
from gateway.license.permits import Permit, read_permit
from gateway.license.published import StandingError
from gateway.license.token import Failure, License, Opener
from gateway.license.trust import Trust
from gateway.protocols import ModelEntry
from gateway.reasons import Reason
from gateway.record_rules import unkept
from gateway.reload import Reloadable
from gateway.routes import read_pins
from gateway.settings import Model, Settings, Target
from gateway.upstream import Upstream, UpstreamOptions, UpstreamTimeouts
from gateway.upstream_aiohttp import AiohttpUpstream
from policies import Policy, PolicyError, explain
from policies.coming import Break, coming
from policies.model import Required

log = logging.getLogger("licet.catalog")

# By protocol, operations of each kind of answer: a model is listed if its license is for one of them.
LISTED_FOR: Mapping[str, tuple[str, ...]] = {"openai": ("chat", "embeddings"), "anthropic": ("messages",)}

# A policy that can no longer be used since rows of its presets began is read again this often, for what hindered it may
# pass without a change of the file. Our choice.
LAPSED_S = 60.0
# The policy's own limits decide; these only keep the client from being the narrower gate. Their greatest values in a
# policy are a day (stream_seconds_max) and 100,000 calls (concurrent), more than one process has descriptors for.
TOTAL_S_MAX = 86_400.0
CONNECTIONS_MAX = 16_384


def _pins(license_: License) -> frozenset[bytes]:
    """The TLS keys that a license pins."""
    return read_pins(license_.claims.license.endpoint.spki_pins) if license_.claims is not None else frozenset()


def _permit(token: bytes | None, trust: Trust) -> Permit | Failure:
    """A training permit as it is in force, or why it is not."""
    if token is None:
        return Failure(Reason.TRAINING_PERMIT, "the permit's file is not there")
    try:
        return read_permit(token, trust)
    except StandingError as error:
        return Failure(error.reason, error.detail)


class _Entry:
    """One model, its clients, and the Governed made of the files that it names."""

    def __init__(self, catalog: Catalog, model: Model) -> None:
        self._catalog = catalog
        self._model = model
        self._upstreams = {target.protocol: upstream_for(target) for target in model.targets}
        self._attestors = {
            t.protocol: catalog.attestation.target(
                origin=t.origin, upstream=self._upstreams[t.protocol], weights=t.weights, statement=t.statement
            )
            for t in model.targets
            if t.weights is not None or t.statement is not None
        }
        self._fields = {t.protocol: target_fields(t.protocol, t.api_key or None) for t in model.targets}
        self._policy = catalog.policy_file(model.policy)
        self._license = catalog.license_file(model.license) if isinstance(model.license, Path) else None
        self._by_name = model.license if isinstance(model.license, str) else None
        self._permits = [catalog.license_file(path) for path in model.permits]
        self.governed: Mapping[str, Governed] = {}  # by protocol
        self.fault = ""  # why the files as they are now cannot govern; its calls are refused meanwhile
        self.govern()

    def try_govern(self) -> None:
        """`govern`, where one model that fails must not keep the others from what changed for them."""
        try:
            self.govern()
        except Exception as error:  # noqa: BLE001  # told at /readyz by its kind (L7), and tried again
            self.fault = f"model {self._model.name}: cannot be governed ({type(error).__name__}); its calls are refused"
            log.error("%s", self.fault)  # noqa: TRY400  # no text of the error
        else:
            self.fault = ""

    def govern(self) -> None:
        """Take up the files and the trusted keys as they are now, in one assignment."""
        license_ = self._catalog.opener.open(self._token(), self._catalog.authorities.standing.trust)
        policy = self._policy.value
        for attestor in self._attestors.values():
            attestor.licensed(license_.claims.license if license_.claims is not None else None)
        self.governed = {target.protocol: self._govern(target, policy, license_) for target in self._model.targets}

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """The tokens of the model, each with its kind, without the white space around them: so they are digested."""
        for kind, token in (("licenses", self._token()), *(("permits", file.value) for file in self._permits)):
            if token is not None:
                yield kind, token.strip(b" \t\r\n")

    def _token(self) -> bytes | None:
        if self._by_name is not None:
            return self._catalog.authorities.licenses.get(self._by_name)
        return self._license.value if self._license is not None else None

    def lapsed(self, now_s: float) -> bool:
        """Whether rows of presets have begun or ended, and the policy's file cannot be used as they stand now: what was in
        force may be looser (L1)."""
        due_s = self._policy.value.changes_at_s
        return due_s is not None and now_s >= due_s and self._policy.error is not None

    async def close(self) -> None:
        """Close every connection to the model's endpoints."""
        for upstream in self._upstreams.values():
            await upstream.close()

    def _govern(self, target: Target, policy: Policy, license_: License) -> Governed:
        detectors = (CustomDetector(policy.custom),) if policy.custom else ()
        versions = {**self._catalog.detectors, **{one.name: one.version for one in detectors}}
        mask_key = self._catalog.mask_key() if hashes(policy.prompt) or hashes(policy.answer) else b""
        prompt_rules = role_rules(policy.prompt, "prompt", mask_key=mask_key)
        return Governed(
            name=self._model.name,
            protocol=target.protocol,
            base_url=target.base_url,
            target_model=target.model,
            target_fields=self._fields[target.protocol],
            secret=target.api_key.encode("ascii"),
            origin=target.origin,
            policy=policy,
            policy_ref=policy_ref(policy, versions),
            prompt_rules=prompt_rules,
            answer_rules=role_rules(policy.answer, "answer", mask_key=mask_key),
            facts=ModelFacts(
                target.model,
                target.origin,
                license_,
                target.version,
                alias=self._model.name,
                modified=target.modified,
            ),
            gate=self._catalog.gate,
            authorities=self._catalog.authorities,
            attestor=self._attestors.get(target.protocol),
            pins=_pins(license_) if policy.license.required is not Required.FALSE else frozenset(),
            audience=self._catalog.audience,
            upstream=self._upstreams[target.protocol],
            pseudonymizes=prompt_rules.pseudonymizes,
            filed=Filed.of(license_),
            detectors=detectors,
            permits=tuple(_permit(file.value, self._catalog.authorities.standing.trust) for file in self._permits),
        )


class Catalog:
    """All models of one worker. `find` is a dict lookup; `poll` is called each second."""

    def __init__(
        self,
        settings: Settings,
        *,
        authorities: Authorities,
        entities: Collection[str],
        detectors: Mapping[str, str],
        now_s: Callable[[], float] = time.time,
        names_missing: Callable[[str], str | None] = lambda _: None,
        mask_key: Callable[[], bytes] = bytes,
    ) -> None:
        """Reads every file. Raises ConfigError with all problems: a bad policy or trust file stops the start.

        `names_missing` says why names cannot be looked for in a mode, or None; `mask_key` gives the key of masks that are
        keyed digests.
        """
        self.authorities = authorities
        self.entities = entities
        self.detectors = detectors
        self._now_s = now_s
        self._audit = settings.audit
        self._due: dict[Path, float] = {}  # of each policy whose presets' rows began or ended: when to read it next
        self._breaks: dict[Path, tuple[Break, ...]] = {}  # of each policy, what it will no longer keep
        self._texts: dict[Path, bytes] = {}  # of each policy, the file that was read
        self._names_missing = names_missing
        self.mask_key = mask_key
        self.attestation = Attestation(settings.data, now_s=now_s)
        self.opener = Opener()
        self.gate = Gate()
        self.audience = settings.trust.audience
        self.revision = 0
        self._policies: dict[Path, Reloadable[Policy]] = {}
        self._licenses: dict[Path, Reloadable[bytes | None]] = {}
        self._authorities_revision = authorities.revision
        problems: list[str] = []
        self._entries: dict[str, _Entry] = {}
        for model in settings.models:
            try:
                self._entries[model.name] = _Entry(self, model)
            except ConfigError as error:
                problems += error.problems
            except PolicyError as error:
                problems += [explain(problem) for problem in error.problems]
        if problems:
            raise ConfigError(problems)
        self.prompt_bytes_max = self._prompt_bytes_max()

    def _prompt_bytes_max(self) -> int:
        """The largest body that any model's policy admits: read before it is known which model is meant."""
        return max(model.policy.limits.prompt_bytes_max for model in self)

    def policy_file(self, path: Path) -> Reloadable[Policy]:
        """A policy file, read once however many models name it, so that all of them change together."""
        if path not in self._policies:
            self._policies[path] = Reloadable(path, lambda data: self._load_policy(data, str(path)))
        return self._policies[path]

    def _load_policy(self, data: bytes, source: str) -> Policy:
        today = datetime.datetime.fromtimestamp(self._now_s(), datetime.UTC).date()
        policy = read_policy(data, source=source, entities=self.entities, today=today)
        for mode in sorted({policy.prompt.names.mode.value, policy.answer.names.mode.value} - {"off"}):
            why = self._names_missing(mode)
            if why is not None:
                raise ConfigError(f"{source}: names: {mode}: {why}")
        if problems := unkept(policy, self._audit, today):
            raise ConfigError(problems)
        read = functools.partial(read_policy, data, source=source, entities=self.entities)
        self._texts[Path(source)] = data
        self._breaks[Path(source)] = coming(policy, lambda day: read(today=day), today)
        return policy

    @property
    def name_modes(self) -> frozenset[str]:
        """The modes in which some policy has names looked for."""
        return frozenset().union(*(name_modes(model.prompt_rules, model.answer_rules) for model in self))

    def loaded(self, detectors: Mapping[str, str], modes: frozenset[str]) -> None:
        """The models for names were loaded: their versions go into records, and a policy that needs others must wait."""
        self.detectors = detectors
        self._names_missing = lambda mode: None if mode in modes else "its models are loaded at the start only; restart"
        for entry in self._entries.values():
            entry.govern()

    def license_file(self, path: Path) -> Reloadable[bytes | None]:
        """A license file, as bytes: one that does not verify, or is not there, refuses instead of staying the old one."""
        if path not in self._licenses:
            self._licenses[path] = Reloadable(path, lambda data: data, absent=lambda: None)
        return self._licenses[path]

    @property
    def _files(self) -> list[Reloadable[Any]]:
        return [*self._policies.values(), *self._licenses.values()]

    def find(self, name: str, protocol: str) -> Governed | Reason:
        """The model of that name as it is governed now, at its target that speaks the protocol; or why there is none."""
        entry = self._entries.get(name)
        if entry is None:
            return Reason.MODEL_UNKNOWN
        if entry.fault:
            return Reason.INTERNAL
        if entry.lapsed(self._now_s()):
            return Reason.REGIME
        return entry.governed.get(protocol, Reason.DIALECT_MISMATCH)

    def __iter__(self) -> Iterator[Governed]:
        """Each model once, at its first target; without those that cannot be governed now."""
        return (next(iter(entry.governed.values())) for entry in self._entries.values() if entry.governed)

    @property
    def listed(self) -> dict[str, tuple[str, str, int]]:
        """Where the status of each license stands that this gateway serves: id -> issuer, URI of the list, index."""
        found = {}
        for model in self:
            claims = model.facts.license.claims
            if claims is not None and claims.status is not None:
                entry = claims.status.status_list
                found[claims.jti] = (claims.iss, entry.uri, entry.idx)
        return found

    def clocks(self) -> list[Clock]:
        """What ends of the licenses that are served, and rows to come that policies break."""
        rows = [clock for breaks in self._breaks.values() for clock in policy_clocks(breaks)]
        return rows + [
            clock
            for model in self
            if model.facts.license.claims is not None
            for clock in license_clocks(model.facts.license.claims, model.policy.license)
        ]

    def poll(self) -> None:
        """Take up changed files, and rows of presets that begin or end; `revision` grows when something came into force."""
        now_s = self._now_s()
        for path, file in self._policies.items():
            due_s = file.value.changes_at_s
            if due_s is not None and now_s >= max(due_s, self._due.get(path, 0)):
                self._due[path] = now_s + LAPSED_S
                file.again()
        changed = [file for file in self._files if file.poll()]
        if changed or any(entry.fault for entry in self._entries.values()):
            self._govern()
        self.restand()

    def restand(self) -> None:
        """Open the licenses again if trusted keys, or licenses that come by name, are others now."""
        if self._authorities_revision != self.authorities.revision:
            self._govern()

    def _govern(self) -> None:
        self._authorities_revision = self.authorities.revision
        for entry in self._entries.values():
            entry.try_govern()
        self.prompt_bytes_max = self._prompt_bytes_max()
        self.revision += 1

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """What is in force, as it was read: policies, licenses and permits, each with its kind."""
        for text in self._texts.values():
            yield "policies", text
        for entry in self._entries.values():
            yield from entry.documents()

    def digests(self) -> dict[str, str]:
        """What is in force: policy and license of each model, by name, as short digests."""
        return {
            model.name: f"policy {model.policy.id} license {model.facts.license.digest[:12] or 'none'}"
            for model in self
        }

    def listing(self, caller: Caller, protocol: str, now_s: float) -> list[ModelEntry]:
        """The models that may serve this caller now: its own, and licensed for the facts that its calls would have."""
        listed = []
        for name in self._entries:
            model = self.find(name, protocol)
            if isinstance(model, Reason) or not caller.may_use(name):
                continue
            facts = model.policy.facts.resolve(caller.facts)
            scopes = (model.scope(facts, TEXT, one, caller.since_s) for one in LISTED_FOR[protocol])
            verdicts = (model.verdict(scope, now_s) for scope in scopes)
            if not any(one.allowed or (model.policy.shadow and not one.order) for one in verdicts):
                continue
            license_ = model.facts.license
            listed.append(
                ModelEntry(
                    id=name,
                    created=license_.claims.iat if license_.claims is not None else 0,
                    owned_by=license_.claims.iss if license_.claims is not None else "licet",
                    license_id=license_.id or None,
                    policy_digest=model.policy.digest,
                )
            )
        return listed

    @property
    def problems(self) -> list[str]:
        """Files whose present content is not in force, for /readyz and the metric."""
        faults = [entry.fault for entry in self._entries.values() if entry.fault]
        return [file.error for file in self._files if file.error] + faults + list(self.authorities.problems)

    async def start(self) -> None:
        """Begin to watch what the settings name of hosts and weights."""
        await self.attestation.start()

    async def close(self) -> None:
        """Close every connection to an endpoint."""
        await self.attestation.close()
        for entry in self._entries.values():
            await entry.close()


def upstream_for(target: Target) -> Upstream:
    """The client for a target. Raises ConfigError when its proxy or CA file cannot be used."""
    if target.proxy is not None and is_loopback(target.origin):
        # A license is bound more strongly to a model on this very host; a proxy would reach one on its own.
        raise ConfigError(f"proxy: {target.origin} would be the proxy's own host, not this one; leave the proxy out")
    return AiohttpUpstream(
        UpstreamOptions(
            timeouts=UpstreamTimeouts(
                connect_s=target.connect_timeout_s,
                first_byte_s=target.first_byte_timeout_s,
                idle_s=target.idle_timeout_s,
                total_s=TOTAL_S_MAX,
            ),
            connections_max=CONNECTIONS_MAX,
            proxy=target.proxy,
            ca_file=str(target.ca_file) if target.ca_file is not None else None,
        )
    )
