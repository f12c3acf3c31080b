"""The one YAML file, frozen at start: where to listen, who may call, which models are served and under which rules.

`${NAME}` and `${NAME:-default}` are filled in from the environment once, while reading (`$${` is a plain `${`). Relative
paths are relative to the file. Nothing here opens the files that it names; `check` does, to report everything at once.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from gateway.errors import ConfigError
from gateway.license.check import ModelFacts, Scope, Use
from gateway.license.check import check as check_license
from gateway.license.claims import origin_of
from gateway.license.token import open_license
from gateway.license.trust import FILE_BYTES_MAX, NO_TRUST, load_trust
from gateway.license.trust import Trust as TrustedKeys
from policies import Policy, PolicyError, explain, load
from policies.model import CallerFacts
from policies.schema import AUDIENCE, NAME_PATTERN, PURPOSE, TERRITORY, WORD_PATTERN
from policies.spec import LATER, Choice, Key, Many, Number, Record, Text, Whole
from policies.yamlread import BYTES_MAX, Log, Node, Scalar, find, nearest, parse

T = TypeVar("T")

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")
MODEL_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}"  # the names providers use
CLASS_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"
_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


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


@dataclass(frozen=True, slots=True)
class Model:
    """A model as callers know it."""

    name: str
    license: Path | None
    policy: Path
    targets: tuple[Target, ...]  # one for each protocol that callers may speak to it


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose licenses count."""

    keys: Path | None
    audience: str  # our own name: a license with `aud` must hold it


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
    notices: tuple[str, ...]  # what is said aloud at the start

    def model(self, name: str) -> Model | None:
        """The model of that name."""
        return next((m for m in self.models if m.name == name), None)


_PATH = Text(chars_max=4096, expect="a path")
_TIMEOUT = Number(0.01, 3600)
_RATE = Whole(1, 10_000_000)

_CALLER = Record(
    {
        "name": Key(Text(NAME_PATTERN, "letters, digits, `.`, `_` and `-`"), "the caller's name", required=True),
        "key_sha256": Key(
            Text("[0-9a-f]{64}", "the SHA-256 of the key as 64 hex digits", secret=True, lower=True),
            "SHA-256 of the caller's key. `licet key new` makes both.",
        ),
        "anonymous": Key(Choice((True, False)), "true: no key is asked for; for a trusted network only.", False),
        "models": Key(Many(Text(MODEL_PATTERN, "a model's name"), items_min=1), "models it may use", required=True),
        "rate_per_minute": Key(_RATE, "Calls a minute; left out: only the policy's limit."),
        "concurrent": Key(Whole(1, 100_000), "Calls in flight; left out: only the policy's limit."),
        "tenant": Key(
            Text(WORD_PATTERN, "a tenant's name"), "Whose calls these are, for policies with caller.tenant.", ""
        ),
        "territory": Key(Many(TERRITORY, items_max=60), "Where answers are used, for caller.territory.", ()),
        "purpose": Key(PURPOSE, "What the models are used for, for caller.purpose.", ""),
        "audience": Key(AUDIENCE, "Who sees the answers, for caller.audience.", ""),
    }
)

_TARGET = Record(
    {
        "protocol": Key(Choice(("openai", "anthropic")), "the endpoint's protocol", required=True),
        "base_url": Key(Text(chars_max=2048, expect="a URL"), "e.g. https://api.example.com/v1", required=True),
        "api_key": Key(Text(chars_min=0, chars_max=8192, secret=True), "Sent upstream; callers never see it.", ""),
        "model": Key(Text(MODEL_PATTERN, "a model's name"), "what the endpoint is asked for", required=True),
        "version": Key(Text(chars_max=128), "The model's version, for licenses that name one."),
        "proxy": Key(Text(chars_max=2048, secret=True), "HTTP proxy, e.g. http://proxy.example:3128."),
        "ca_file": Key(_PATH, "Certificates (PEM) to trust beside the system's own."),
        "connect_timeout_s": Key(_TIMEOUT, "Longest wait for a connection.", 5.0),
        "first_byte_timeout_s": Key(_TIMEOUT, "Longest wait for the answer to begin.", 120.0),
        "idle_timeout_s": Key(_TIMEOUT, "Longest pause inside an answer.", 60.0),
    }
)

_MODEL = Record(
    {
        "name": Key(Text(MODEL_PATTERN, "a model's name"), "the name callers use", required=True),
        "license": Key(_PATH, "License file. Without one, the policy decides whether calls pass."),
        "policy": Key(_PATH, "policy file", required=True),
        "targets": Key(Many(_TARGET, items_min=1, single=False), "where the model is served", required=True),
    }
)

SETTINGS = Record(
    {
        "listen": Key(
            Record(
                {
                    "host": Key(Text(chars_max=253), "Address to listen on.", "127.0.0.1"),
                    "port": Key(Whole(0, 65_535), "Port; 0 takes any free one.", 8080),
                    "workers": Key(Whole(1, 64), "Worker processes.", 1),
                }
            ),
            "Where callers connect.",
        ),
        "data": Key(_PATH, "Folder for the journal, keys and caches.", "./var"),
        "redis": Key(Text(chars_min=0, chars_max=2048, secret=True), "Shared state; empty: in memory.", ""),
        "callers": Key(Many(_CALLER, items_max=10_000, single=False), "who may call", required=True),
        "trust": Key(
            Record(
                {
                    "keys": Key(_PATH, "Trusted issuers' keys, as `licet license keygen` writes them."),
                    "tuf": Key(None, "A TUF repository with trusted keys."),
                    "root": Key(None, "Root of the TUF repository."),
                    "audience": Key(Text(chars_max=512), "This gateway's name, for licenses that name theirs.", ""),
                }
            ),
            "Whose licenses count.",
        ),
        "names": Key(
            Record(
                {
                    "processes": Key(
                        Whole(1, 64),
                        "Processes that look for names, shared by all workers; started where a policy asks for names.",
                        2,
                    )
                }
            ),
            "Models that look for names of people, places and organizations.",
        ),
        "recognizers": Key(
            Record(
                {
                    "files": Key(Many(_PATH, items_max=16), "Presidio's YAML files of recognizers.", ()),
                    "classes": Key(
                        Many(Text(CLASS_PATTERN, "module:Class"), items_max=32),
                        "Recognizer classes, as module:Class, on PYTHONPATH or beside this file.",
                        (),
                    ),
                    "processes": Key(Whole(1, 64), "Processes that run them, shared by all workers.", 2),
                    "deadline_ms": Key(
                        Whole(10, 60_000),
                        "Longest wait for what they find in one prompt or piece of an answer; beyond it the call is refused.",
                        2000,
                    ),
                }
            ),
            "Presidio recognizers of your own, beside the detectors that are built in.",
        ),
        "models": Key(Many(_MODEL, items_min=1, items_max=1000, single=False), "what is served", required=True),
        "telemetry": Key(None, "Export of records."),
    }
)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the settings file, for editors."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Licet settings"}
    return head | SETTINGS.schema(references=True)


def load_settings(path: Path | str, *, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in a file. Raises ConfigError with one line a problem: file:line: key: what; remedy."""
    path = Path(path)
    return parse_settings(_read(path, BYTES_MAX), source=str(path), folder=path.absolute().parent, environ=environ)


def parse_settings(data: bytes, *, source: str, folder: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in `data`, with paths relative to `folder`. Raises ConfigError."""
    log = Log(source)
    root = parse(data, log, fill=_filler(os.environ if environ is None else environ))
    if root is not None:
        raw = SETTINGS.read(root, "", log)
        if isinstance(raw, dict):
            _cross_check(raw, root, log)
    if log.problems or root is None:
        raise ConfigError([explain(p) for p in sorted(log.problems, key=lambda p: (p.line, p.column))])
    return _build(raw, source, folder)


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file; create it or correct the path") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; make it readable") from error
    if len(data) > bytes_max:
        raise ConfigError(f"{path}: more than {bytes_max:,} bytes; is it the right file?")
    return data


def _filler(environ: Mapping[str, str]) -> Callable[[Scalar, Log], str]:
    def fill(scalar: Scalar, log: Log) -> str:
        def value(match: re.Match[str]) -> str:
            if match.group() == "$${":
                return "${"
            name, default = match.groups()
            if name is None:
                log.add(scalar, "", "a `${` that is not ${NAME} or ${NAME:-default}", "correct it, or write $${")
                log.settled.add((scalar.line, scalar.column))
                return ""
            found = environ.get(name)
            if found or (found is not None and default is None):
                return found
            if default is None:
                what = f"the environment variable {name} is not set"
                log.add(scalar, "", what, f"set it, or write ${{{name}:-default}}")
                log.settled.add((scalar.line, scalar.column))
                return ""
            return default

        return _REFERENCE.sub(value, scalar.text)

    return fill


def _cross_check(raw: Mapping[str, Any], root: Node, log: Log) -> None:
    """What concerns several keys at once. Values that are None were refused already."""
    if raw["redis"] and not raw["redis"].startswith(_REDIS_SCHEMES):
        log.add(
            find(root, "redis"), "redis", "not a Redis URL", "write redis://, rediss:// or unix://, or leave it empty"
        )
    callers = [c or {} for c in raw["callers"] or ()]
    models = [m or {} for m in raw["models"] or ()]
    _unique([c.get("name") for c in callers], "callers", "name", root, log)
    _unique([c.get("key_sha256") for c in callers], "callers", "key_sha256", root, log)
    _unique([c.get("anonymous") or None for c in callers], "callers", "anonymous", root, log)
    _unique([m.get("name") for m in models], "models", "name", root, log)
    known = [m["name"] for m in models if m.get("name")]
    for i, caller in enumerate(callers):
        at = f"callers[{i}]"
        has_key = "key_sha256" in _keys_of(find(root, "callers", i))
        if caller and has_key == bool(caller["anonymous"]):
            log.add(
                find(root, "callers", i), at, "a caller has either key_sha256 or anonymous: true", "write one of them"
            )
        if caller.get("key_sha256") == _EMPTY_SHA256:
            log.add(find(root, "callers", i, "key_sha256"), at, "this is the SHA-256 of an empty key", "make a key")
        for j, name in enumerate(caller.get("models") or ()):
            if name is not None and name not in known:
                guess = nearest(name, known)
                remedy = f"did you mean {guess}?" if guess else f"use one of: {', '.join(known) or 'none is set'}"
                log.add(
                    find(root, "callers", i, "models", j), f"{at}.models[{j}]", f"no model is named {name!r}", remedy
                )
    for i, model in enumerate(models):
        targets = [t or {} for t in model.get("targets") or ()]
        protocols = [t.get("protocol") for t in targets]
        for j, protocol in enumerate(protocols):
            if protocol is not None and protocol in protocols[:j]:
                what = f"a second target of one protocol is {LATER}"
                log.add(find(root, "models", i, "targets", j), f"models[{i}].targets[{j}]", what, "keep one of each")
        for j, target in enumerate(targets):
            for key in ("base_url", "proxy"):
                fault = _url_fault(target[key], proxy=key == "proxy") if target.get(key) else None
                if fault:
                    place = find(root, "models", i, "targets", j, key)
                    log.add(place, f"models[{i}].targets[{j}].{key}", fault, "write e.g. https://api.example.com/v1")


def _keys_of(place: object) -> Collection[str]:
    return getattr(getattr(place, "node", place), "entries", {})


def _unique(values: list[Any], where: str, key: str, root: Node, log: Log) -> None:
    for i, value in enumerate(values):
        if value is not None and value in values[:i]:
            place = find(root, where, i, key)
            first = values.index(value)
            log.add(place, f"{where}[{i}].{key}", f"the same as of {where}[{first}]", "each needs its own")


def _url_fault(url: str, *, proxy: bool) -> str | None:
    """Why a URL cannot be used; never repeats it, as it may hold a password."""
    try:
        parts = urlsplit(url)
        origin_of(url)
    except ValueError:
        return "not an http or https URL"
    if any(c.isspace() or not c.isprintable() for c in url):
        return "the URL holds a space or control character"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "the URL has a query or fragment"
    if not proxy and "@" in parts.netloc:
        return "the URL holds a user name; credentials go into api_key"
    return None


def _build(raw: Mapping[str, Any], source: str, folder: Path) -> Settings:
    def path(text: str | None) -> Path | None:
        return None if text is None else folder / Path(text).expanduser()

    listen = Listen(**raw["listen"])
    callers = tuple(_caller(c) for c in raw["callers"])
    models = tuple(
        Model(
            name=m["name"],
            license=path(m["license"]),
            policy=folder / Path(m["policy"]).expanduser(),
            targets=tuple(
                Target(
                    **t
                    | {
                        "base_url": t["base_url"].rstrip("/"),
                        "ca_file": path(t["ca_file"]),
                    },
                    origin=origin_of(t["base_url"]),
                )
                for t in m["targets"]
            ),
        )
        for m in raw["models"]
    )
    return Settings(
        source=source,
        listen=listen,
        data=folder / Path(raw["data"]).expanduser(),
        redis=raw["redis"],
        callers=callers,
        trust=Trust(path(raw["trust"]["keys"]), raw["trust"]["audience"]),
        models=models,
        names=Names(**raw["names"]),
        recognizers=_recognizers(raw["recognizers"], source, folder),
        notices=tuple(_notices(listen, raw["redis"], callers, models)),
    )


def _recognizers(raw: Mapping[str, Any], source: str, folder: Path) -> Recognizers | None:
    files = tuple(folder / Path(file).expanduser() for file in raw["files"])
    if not files and not raw["classes"]:
        return None
    return Recognizers(source, files, tuple(raw["classes"]), raw["processes"], raw["deadline_ms"])


def _caller(raw: Mapping[str, Any]) -> Caller:
    facts = CallerFacts(raw["name"], raw["tenant"], raw["territory"], raw["purpose"], raw["audience"])
    return Caller(
        name=raw["name"],
        key_sha256=raw["key_sha256"],
        models=raw["models"],
        facts=facts,
        rate_per_minute=raw["rate_per_minute"],
        concurrent=raw["concurrent"],
    )


def _notices(listen: Listen, redis: str, callers: tuple[Caller, ...], models: tuple[Model, ...]) -> list[str]:
    said = [f"caller {c.name} is anonymous: anyone who reaches the port may call" for c in callers if c.anonymous]
    if listen.workers > 1 and not redis:
        said.append(f"without redis, rates are counted by each of the {listen.workers} workers on its own")
    for model in models:
        for target in model.targets:
            parts = urlsplit(target.base_url)
            if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
                said.append(
                    f"model {model.name} is reached over plain http at {target.origin}: prompts travel in the clear"
                )
    return said


class ReadPolicy(Protocol):
    """How a policy file is read. Raises PolicyError."""

    def __call__(self, data: bytes, *, source: str) -> Policy: ...


def check(
    path: Path | str,
    *,
    read_policy: ReadPolicy = load,
    environ: Mapping[str, str] | None = None,
    now_s: float | None = None,
) -> list[str]:
    """Every problem of the settings and of each file they name; [] when the gateway could start and serve.

    Policies are read by `read_policy`, which may know more than their form; licenses are verified and checked for each caller's facts
    with text in and out, at `now_s` (now).
    """
    try:
        settings = load_settings(path, environ=environ)
    except ConfigError as error:
        return list(error.problems)
    problems: list[str] = []
    keys = NO_TRUST
    if settings.trust.keys is not None:
        keys = _usable(settings.trust.keys, load_trust, problems) or NO_TRUST
    now_s = time.time() if now_s is None else now_s
    loaded: dict[Path, Policy | None] = {}
    for model in settings.models:
        for target in model.targets:
            if target.ca_file is not None and not target.ca_file.is_file():
                problems.append(f"{target.ca_file}: there is no such file; correct ca_file of model {model.name}")
        if model.policy not in loaded:
            loaded[model.policy] = _usable(model.policy, read_policy, problems)
        policy = loaded[model.policy]
        if policy is not None:
            problems += _license_problems(settings, model, policy, keys, now_s)
    return problems


def _usable(path: Path, read: Callable[..., T], problems: list[str]) -> T | None:
    try:
        return read(_read(path, FILE_BYTES_MAX), source=str(path))
    except ConfigError as error:
        problems += error.problems
    except PolicyError as error:
        problems += [explain(p) for p in error.problems]
    return None


def _license_problems(settings: Settings, model: Model, policy: Policy, keys: TrustedKeys, now_s: float) -> list[str]:
    """What the gate would refuse for each caller of the model, and facts that callers do not state."""
    try:
        token = None if model.license is None or not model.license.exists() else _read(model.license, FILE_BYTES_MAX)
    except ConfigError as error:
        return list(error.problems)
    license_ = open_license(token, keys)
    targets = [ModelFacts(t.model, t.origin, license_, t.version) for t in model.targets]
    problems: dict[str, None] = {}  # in order, each once
    place = str(model.license) if model.license else f"{settings.source}: model {model.name}"
    for caller in settings.callers:
        if model.name not in caller.models:
            continue
        for name in policy.facts.missing(caller.facts):
            what = f"caller {caller.name} states no {name}, which policy {policy.name} takes from it"
            problems[f"{settings.source}: {what}; add it to the caller"] = None
        stated = policy.facts.resolve(caller.facts)
        scope = Scope(stated.territories, stated.purpose, stated.audience, gateway=settings.trust.audience)
        for facts in targets:
            verdict = check_license(facts, Use(scope, now_s), policy.license)
            for failure in () if verdict.allowed else verdict.failures:
                remedy = _REMEDIES.get(failure.reason.code, _RENEW)
                problems[f"{place}: {failure.reason.code}: {failure.detail}; {remedy}"] = None
    return list(problems)


_RENEW = "ask the issuer for a license that covers this use, or correct the policy's facts"
_REMEDIES = {
    "LIC_MISSING": "name a license file, make one with `licet license issue`, or set license.required in the policy",
    "LIC_SIG": "copy the license again from its issuer",
    "LIC_ISSUER": "add the issuer's key to the trust file, if you trust it",
    "LIC_TIME": "renew it",
    "MODEL_MISMATCH": "correct the target, or ask the issuer for a license for it",
}
