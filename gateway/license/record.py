"""The groups of the license record: who holds it, for which model, served where, after which assessment, under what terms.

Every group is typed; members that this version does not know are kept in the signed token and ignored here. Evidence is
carried by digest (`sha256:` and 64 hex digits), never as text. Dates are ISO 8601 (2026-11-22), moments are seconds
since 1970. `licet license schema` prints the JSON Schema that these types make.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Short = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Words = Annotated[tuple[Short, ...], msgspec.Meta(max_length=512)]
# Seconds since 1970. The bound is the largest whole number that JSON readers agree on (RFC 8259, section 6).
Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
# Python's `$` also matches before a line break at the end, which the lookahead forbids; JSON Schema's never does.
Digest = Annotated[str, msgspec.Meta(pattern=r"^(sha256|sm3):[0-9a-f]{64}(?!\n)$")]
Digests = Annotated[tuple[Digest, ...], msgspec.Meta(max_length=512)]
Date = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?!\n)$")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Group(msgspec.Struct, frozen=True, omit_defaults=True):
    """A group of members; each may be left out unless it says otherwise."""


class Issuer(_Group, frozen=True):
    """Who vouches, for people; what counts is `iss` and the trust file."""

    name: Short | None = None
    type: Short | None = None  # regulator | registry | attestor | self


class Filing(_Group, frozen=True):
    """A filing or registration with a regulator, and proof that it was published."""

    no: Short | None = None
    algo_no: Short | None = None
    province: Short | None = None
    list_name: Short | None = None
    list_row: Short | None = None
    list_snapshot_digest: Digest | None = None
    captured_at: Date | None = None
    launched_at: Date | None = None  # first day of service: clocks of registration start here
    submitted_at: Date | None = None
    filed_at: Date | None = None
    changed_at: Date | None = None
    ended_at: Date | None = None


class Holder(_Group, frozen=True):
    """The provider (AI Act, Annex VIII A 1-3; Algorithm Provisions art. 24)."""

    legal_name: Short | None = None
    id_code: Short | None = None  # USCC, LEI
    address: Short | None = None
    contact: Short | None = None
    authorized_rep: Short | None = None


class Certificate(_Group, frozen=True):
    """A conformity certificate (Annex VIII A 9)."""

    type: Short | None = None
    no: Short | None = None
    expiry: Date | None = None
    body: Short | None = None


class System(_Group, frozen=True):
    """The registered system (Annex VIII A 4-13)."""

    trade_name: Short | None = None
    version: Short | None = None
    unambiguous_ref: Short | None = None
    intended_purpose: Short | None = None
    inputs_logic: Short | None = None
    status: Short | None = None  # on_market | withdrawn | recalled
    certificate: Certificate | None = None
    member_states: Words = ()
    doc_digest: Digest | None = None
    ifu_ref: Short | None = None


class BaseModel(_Group, frozen=True):
    """What the model was made from."""

    name: Short
    license_id: Short | None = None


class Weights(_Group, frozen=True):
    """The bytes of the model: digest over the manifest of its files (OpenSSF Model Signing)."""

    root_digest: Digest
    manifest_digest: Digest | None = None
    signature_ref: Short | None = None


class Model(_Group, frozen=True):
    """Which model is licensed."""

    name: Short
    version: Short | None = None
    base_model: BaseModel | None = None
    modified: bool = False  # fine-tuned or otherwise changed against its base model
    weights: Weights | None = None
    bom_ref: Short | None = None


class HostKey(_Group, frozen=True):
    """A key with which a serving host signs statements about what it loaded: Ed25519, public part, base64url."""

    kid: Short
    x: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}(?!\n)$")]


class Endpoint(_Group, frozen=True):
    """Where the model is served, with which TLS keys, and what it may call itself."""

    origins: Words = ()
    served_model_aliases: Words = ()  # glob patterns
    # SHA-256 over SubjectPublicKeyInfo of a certificate in the endpoint's chain, base64 (RFC 7469, section 2.4).
    spki_pins: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9+/]{43}=(?!\n)$")], ...], msgspec.Meta(max_length=32)
    ] = ()
    region: Short | None = None
    host_keys: Annotated[tuple[HostKey, ...], msgspec.Meta(max_length=64)] = ()


class Audience(_Group, frozen=True):
    """Who may see answers. Left out: only people inside the organization."""

    public: bool = False
    age_min: int | None = None


class Application(_Group, frozen=True):
    """The dossier that was assessed, by digest."""

    need: Digest | None = None
    objectives: Digest | None = None
    data_sources: Digests = ()
    pi_basis: Short | None = None
    intended_applications: Digest | None = None
    security_measures: Digest | None = None
    anti_misuse_measures: Digest | None = None


class Result(_Group, frozen=True):
    """What an assessment found; shares from 0 to 1."""

    passed: bool | None = None
    gen_pass: Share | None = None
    refuse: Share | None = None
    over_refuse: Share | None = None


class Assessment(_Group, frozen=True):
    """One assessment, its report by digest."""

    type: Short  # security | pipia | algo_self | ethics | red_team | other
    date: Date
    report_digest: Digest
    standard: Short | None = None
    assessor: Short | None = None
    result: Result | None = None
    signature: Short | None = None


class PermitRef(_Group, frozen=True):
    """The permit under which the model was trained."""

    id: Short  # jti
    digest: Digest  # of the permit token
    not_before: Seconds


class Training(_Group, frozen=True):
    """How the model came to be."""

    started_at: Seconds | None = None
    permit: PermitRef | None = None
    sources: Digests = ()
    pi_basis: Short | None = None
    corpus_report_digest: Digest | None = None


class EthicsReview(_Group, frozen=True):
    """An ethics committee's decision."""

    committee: Short | None = None
    decision: Short | None = None
    decision_digest: Digest | None = None
    re_review: Short | None = None


class Disclosure(_Group, frozen=True):
    """What marks the system can put on its output."""

    explicit: bool = False
    latent: bool = False
    detector_url: Short | None = None
    provider_code27: Short | None = None


class Impersonation(_Group, frozen=True):
    """Terms on imitating specific people."""

    default: Short = "deny"
    grants_ref: Short | None = None
    nogo_lists: Words = ()


class Terms(_Group, frozen=True):
    """The `license` claim: the record."""

    model: Model
    schema: Short = "license.v1"
    issuer: Issuer | None = None
    regime: Short | None = None  # cn-beian | cn-dengji | cn-algo | eu-db | us-ca-contract | internal | ...
    trust_level: Literal["self_asserted", "attested", "regulator_signed"] | None = None
    state: Short = "active"
    filing: Filing | None = None
    holder: Holder | None = None
    system: System | None = None
    endpoint: Endpoint = Endpoint()
    capabilities: Words = ()  # text, image, audio, video, scene, tts, voice_clone, face_edit, avatar, companion
    modalities_in: Words = ()
    modalities_out: Words = ()
    jurisdictions: Words = ()
    purposes: Words = ()
    excluded_purposes: Words = ()
    audience: Audience = Audience()
    application: Application | None = None
    assessments: Annotated[tuple[Assessment, ...], msgspec.Meta(max_length=128)] = ()
    training: Training | None = None
    ethics_review: EthicsReview | None = None
    sector_permits: Words = ()
    persona_modes: Words = ()
    risk_class: Short | None = None
    eu_db_id: Short | None = None
    gpai: Any = None
    tenant_contract: Any = None
    # Rules that the gateway must obey, each an object with a `type`; one that it does not know refuses.
    conditions: Annotated[tuple[Any, ...], msgspec.Meta(max_length=64)] = ()
    disclosure: Disclosure | None = None
    impersonation: Impersonation | None = None
    supersedes: Short | None = None  # jti of the license that this one renews or changes
