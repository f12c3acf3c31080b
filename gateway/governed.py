"""One model as calls see it: its target under one version of its policy and one version of its license.

`catalog` makes a new `Governed` when a file changes; a call holds the one that it began with, and everything that it asks
of its model it asks here. How records tell of policy and license is said here, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from filters import Detector, Engine
from gateway.attest.target import Attestor
from gateway.audit.record import LicenseRef, PolicyRef
from gateway.authorities import Authorities
from gateway.license.check import Gate, ModelFacts, Scope, Use, Verdict, check_served
from gateway.license.permits import Permit
from gateway.license.token import Failure, License
from gateway.protocols.base import Adapter
from gateway.screen import RoleRules
from gateway.upstream import Upstream
from policies import CallerFacts, Policy
from policies.model import LicenseRules

# What an answer carries, by operation, as a license names it.
MODALITIES_OUT: Mapping[str, frozenset[str]] = {
    "embeddings": frozenset({"embedding"}),
    "count_tokens": frozenset({"text"}),
}
TEXT = frozenset({"text"})


@dataclass(frozen=True, slots=True)
class Filed:
    """What a license says of itself that stands in each record of its calls."""

    regime: str | None = None
    filing: str | None = None  # the number of a filing, or of an algorithm's
    region: str | None = None
    model_version: str | None = None

    @classmethod
    def of(cls, license_: License) -> Filed:
        """What this one says."""
        if license_.claims is None:
            return cls()
        terms = license_.claims.license
        number = (terms.filing.no or terms.filing.algo_no) if terms.filing is not None else None
        return cls(terms.regime, number, terms.endpoint.region, terms.model.version)


NOT_FILED = Filed()


@dataclass(frozen=True, slots=True)
class Governed:
    """One model under one version of its policy and one version of its license. Immutable; shared by calls."""

    name: str
    protocol: str
    base_url: str
    target_model: str
    target_fields: Sequence[tuple[bytes, bytes]] = field(repr=False)
    secret: bytes = field(repr=False)  # the provider's key, which no answer may hold; b"": none
    origin: str
    policy: Policy
    policy_ref: PolicyRef
    prompt_rules: RoleRules
    answer_rules: RoleRules
    facts: ModelFacts
    gate: Gate
    authorities: Authorities  # what holds at the moment of each look
    audience: str  # this gateway's own name, for licenses that name the gateways they are for
    pins: frozenset[bytes]  # TLS keys that the license pins; the upstream is held to them
    attestor: Attestor | None  # what is known of the target's host and weights; None: the settings name nothing to ask
    upstream: Upstream
    pseudonymizes: bool  # whether prompts get pseudonyms
    filed: Filed = NOT_FILED
    detectors: tuple[Detector, ...] = ()  # of the entities that the policy defines
    permits: tuple[Permit | Failure, ...] = ()  # for training; a Failure covers nothing

    def engine(self, base: Engine) -> Engine:
        """The engine with the policy's own detectors."""
        return base.extended(self.detectors) if self.detectors else base

    def scope(
        self, caller: CallerFacts, modalities: frozenset[str], operation: str, since_s: int | None = None
    ) -> Scope:
        """What a call of this model wants, as the license gate reads it. `since_s`: when its caller was admitted."""
        return Scope(
            territories=caller.territories,
            purpose=caller.purpose,
            audience=caller.audience,
            modalities_in=modalities,
            modalities_out=MODALITIES_OUT.get(operation, TEXT),
            gateway=self.audience,
            since_s=since_s,
        )

    def rules(self, territories: tuple[str, ...]) -> LicenseRules:
        """What is asked of the license for calls of these territories."""
        return self.policy.license_for(territories)

    def verdict(self, scope: Scope, now_s: float) -> Verdict:
        """The license gate's verdict at a time. Cached but for the time."""
        rules = self.rules(scope.territories)
        facts = self.facts if self.attestor is None else self.attestor.known(self.facts)
        return self.gate.check(facts, Use(scope, now_s), rules, self.authorities.standing)

    def pinned(self, binding: int) -> frozenset[bytes]:
        """The TLS keys of which the endpoint must show one, for a call whose license is bound at this level."""
        return self.attestor.pins(binding) if self.attestor is not None and self.pins else self.pins

    def served(self, name: str | None, scope: Scope) -> Verdict:
        """The verdict on what the endpoint calls itself."""
        return check_served(name, self.facts, self.rules(scope.territories))

    @property
    def policy_id(self) -> bytes:
        """Name and short digest of the policy, as a header value."""
        return self.policy.id.encode("ascii", "replace")

    def url(self, adapter: Adapter, query: bytes) -> str:
        """Where a call of this adapter goes."""
        base = self.base_url
        if self.protocol == "anthropic" and not base.endswith("/v1"):
            base += "/v1"  # its SDKs are given the bare host, OpenAI's a URL that ends in /v1
        url = base + adapter.upstream_path
        return f"{url}?{query.decode('ascii')}" if query else url


def license_ref(verdict: Verdict, now_s: float, filed: Filed = NOT_FILED) -> LicenseRef:
    """The verdict of that time as the record holds it."""
    known = verdict.checked and bool(verdict.license_id)
    iat = verdict.status_iat_s
    return LicenseRef(
        verdict=verdict.decision.value if verdict.checked or verdict.order else "off",
        id=verdict.license_id or None,
        digest=verdict.license_digest or None,
        issuer=verdict.issuer or None,
        reasons=tuple(dict.fromkeys(failure.reason.code for failure in verdict.failures)) or None,
        status=verdict.status if known else None,
        status_iat=iat,
        status_age_s=max(0, int(now_s) - iat) if iat is not None else None,
        state=verdict.state if known else None,
        trust_level=verdict.trust_level.name.lower() if known and verdict.trust_level is not None else None,
        binding=f"B{verdict.binding}" if known else None,
        order=verdict.order or None,
        regime=filed.regime if known else None,
        filing=filed.filing if known else None,
        region=filed.region if known else None,
        model_version=filed.model_version if known else None,
    )


def policy_ref(policy: Policy, detectors: dict[str, str]) -> PolicyRef:
    """The policy as records hold it, with the versions of what it finds with."""
    return PolicyRef(
        policy.name,
        policy.digest,
        policy.mode.value,
        detectors,
        presets=tuple(f"{ref.name}@{ref.digest[:12]}" for ref in policy.presets) or None,
        deviations=tuple(f"{one.row}: {one.wanted} ({one.preset}: {one.value})" for one in policy.deviations) or None,
        binding_min=f"B{policy.license.binding_min}",
    )
