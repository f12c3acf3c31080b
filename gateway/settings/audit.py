"""What the settings say of the audit trail: sealing, keys, witnesses, where records go, how long they stay. Frozen, built by `load`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Pkcs11:
    """A key in a token that speaks PKCS#11."""

    module: Path
    token: str
    label: str
    pin_file: Path


@dataclass(frozen=True, slots=True)
class SignerSettings:
    """Where the log's key is: a file of ours, a command that signs, or a token. The first that is given counts: command, pkcs11, file."""

    name: str = ""  # the key's name in signatures; "": the gateway's id
    command: tuple[str, ...] = ()  # is given the message on its standard input, answers with 64 bytes
    public: str = ""  # base64 of the command's public key, 32 bytes
    pkcs11: Pkcs11 | None = None


@dataclass(frozen=True, slots=True)
class WitnessSettings:
    """A witness of C2SP `tlog-witness`, and the key whose cosignatures count."""

    url: str
    key: str  # verifier key: <name>+<hex key id>+<base64>


@dataclass(frozen=True, slots=True)
class Sealing:
    """When heads are signed, and who must have seen them."""

    every_s: float = 10.0
    every_records: int = 4096
    signer: SignerSettings = SignerSettings()
    witnesses: tuple[WitnessSettings, ...] = ()
    required: int = 0  # how many of the witnesses must cosign; 0: their silence alarms and stops nothing
    lag_max_s: float = 60.0  # how old the newest head with enough cosignatures may be
    fleet: tuple[
        str, ...
    ] = ()  # folders or URLs of other gateways' logs, which this one's fleet log commits to as well


@dataclass(frozen=True, slots=True)
class S3:
    """A bucket with object lock."""

    endpoint: str
    bucket: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    retain_s: int = 200 * DAY_S
    prefix: str = ""
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """A place that takes lines over TLS."""

    host: str
    port: int
    tls: bool = True
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Otlp:
    """A place that takes OTLP/HTTP. `endpoint` is the base: /v1/traces and /v1/metrics follow."""

    endpoint: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    semconv: tuple[str, ...] = ("gen_ai",)  # and guardrail, audit (drafts), metrics
    project: str = "licet"  # openinference.project.name
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where sealed records are sent."""

    otlp: Otlp | None = None
    syslog: Stream | None = None
    jsonl: Stream | None = None
    s3: S3 | None = None
    required: tuple[str, ...] = ()  # of otlp, syslog, jsonl, s3: those whose backlog counts for `failure.spool_full`

    @property
    def any(self) -> bool:
        """Whether there is any place."""
        return any((self.otlp, self.syslog, self.jsonl, self.s3))


@dataclass(frozen=True, slots=True)
class Spool:
    """What may wait for remote places."""

    bytes_max: int = 1 << 30
    age_max_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long each class of records and files stays, in seconds. Defaults: `trace` 200 days, as law asks for six months."""

    trace_s: int = 200 * DAY_S
    incident_s: int = 3 * 365 * DAY_S  # after the case was closed
    consent_s: int = 3 * 365 * DAY_S
    history_s: int = 10 * 365 * DAY_S  # what policies and licenses were in force
    transcript_s: int = 30 * DAY_S


@dataclass(frozen=True, slots=True)
class Custodian:
    """Who may open cases, together with another."""

    name: str
    key: str  # base64 of an X25519 public key


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """The section `audit`."""

    sealing: Sealing = Sealing()
    spool: Spool = Spool()
    retention: Retention = Retention()
    custodians: tuple[Custodian, ...] = ()  # of the evidence vault; two or more, or there is none
    digest_key_s: int = 365 * DAY_S  # how long a digest key is used before the next is made
