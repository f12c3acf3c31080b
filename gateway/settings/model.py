"""What the settings file says, frozen. Built only by `load`; nothing here opens the files that it names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gateway.settings.audit import AuditSettings, Telemetry
from policies.model import CallerFacts


@dataclass(frozen=True, slots=True)
class Listen:
    """Where callers connect."""

    host: str
    port: int  # 0: any free port
    workers: int


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller: a key, or anyone."""

    name: str
    key_sha256: str | None  # 64 hex digits, lower case; None: anonymous
    models: tuple[str, ...]
    facts: CallerFacts
    rate_per_minute: int | None
    concurrent: int | None
    since_s: int | None  # first day of this caller; None: nobody says, so orders on new callers mean it

    @property
    def anonymous(self) -> bool:
        """True for the entry that needs no key."""
        return self.key_sha256 is None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a model is served, and how it is reached."""

    protocol: str  # openai | anthropic
    base_url: str  # without a slash at its end
    origin: str
    model: str  # what the endpoint is asked for
    version: str | None
    api_key: str = field(repr=False)  # "" : none is sent
    proxy: str | None = field(repr=False)  # may hold a password
    ca_file: Path | None
    connect_timeout_s: float
    first_byte_timeout_s: float
    idle_timeout_s: float
    modified: bool = False  # served fine-tuned, with adapters, or otherwise changed against what was filed
    weights: Path | None = None  # where the model's files lie on this host, to be hashed
    statement: str | None = None  # URL at which the serving host states what it loaded


@dataclass(frozen=True, slots=True)
class Model:
    """A model as callers know it."""

    name: str
    license: Path | str | None  # a file, or the id of a license that the authority publishes
    policy: Path
    targets: tuple[Target, ...]  # one for each protocol that callers may speak to it
    permits: tuple[Path, ...] = ()  # training permits for this model
    policy_by_name: str | None = None  # of a policy that the repository brings; `policy` is where it is put


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose licenses count."""

    keys: Path | None
    audience: str  # our own name: a license with `aud` must hold it
    tuf: str = ""  # URL or folder of an authority's repository; "": files alone
    root: Path | None = None  # the root that the repository begins with
    status: tuple[Path, ...] = ()  # files, for those who sign them without a repository
    orders: tuple[Path, ...] = ()
    gateways: tuple[Path, ...] = ()
    refresh_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Auditor:
    """Who may read checkpoints, proofs and records."""

    name: str
    key_sha256: str


@dataclass(frozen=True, slots=True)
class Names:
    """The models that look for names."""

    processes: int = 2


@dataclass(frozen=True, slots=True)
class Recognizers:
    """Presidio recognizers of the user's own. Nothing here opens or imports them."""

    source: str  # the settings file, in messages; modules may lie in its folder
    files: tuple[Path, ...]
    classes: tuple[str, ...]  # module:Class
    processes: int
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole file."""

    source: str
    listen: Listen
    data: Path
    redis: str = field(repr=False)  # URL, may hold a password; "": in memory
    callers: tuple[Caller, ...]
    trust: Trust
    models: tuple[Model, ...]
    names: Names
    recognizers: Recognizers | None  # None: there are none
    auditors: tuple[Auditor, ...]
    training_bytes_max: int
    audit: AuditSettings
    telemetry: Telemetry
    notices: tuple[str, ...]  # what is said aloud at the start

    def model(self, name: str) -> Model | None:
        """The model of that name."""
        return next((m for m in self.models if m.name == name), None)
