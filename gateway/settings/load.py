"""Bytes to Settings: environment filled in, checked, frozen; all problems at once."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.errors import ConfigError
from gateway.license.claims import origin_of
from gateway.settings.audit_schema import build_audit, build_telemetry, check_audit
from gateway.settings.model import (
    Auditor,
    Caller,
    Listen,
    Model,
    Names,
    Recognizers,
    Settings,
    Target,
    Trust,
)
from gateway.settings.schema import SETTINGS
from policies import explain
from policies.model import CallerFacts
from policies.spec import LATER
from policies.yamlread import BYTES_MAX, Log, Node, Scalar, find, nearest, parse

# A license or policy that is named instead of lying in a file: authority:ID (a license's `jti`) or authority:NAME.
BY_NAME = "authority:"
_BY_NAME_PATTERN = re.compile(r"authority:[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REFERENCE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")
_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def load_settings(path: Path | str, *, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in a file. Raises ConfigError with one line a problem: file:line: key: what; remedy."""
    path = Path(path)
    return parse_settings(read_file(path, BYTES_MAX), source=str(path), folder=path.absolute().parent, environ=environ)


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


def read_file(path: Path, bytes_max: int) -> bytes:
    """The bytes of a file. Raises ConfigError."""
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
    auditors = [a or {} for a in raw["auditors"] or ()]
    _unique([a.get("name") for a in auditors], "auditors", "name", root, log)
    _unique([a.get("key_sha256") for a in auditors], "auditors", "key_sha256", root, log)
    _check_trust(raw, root, log)
    check_audit(raw, root, log, lambda url: _url_fault(url, proxy=False))
    known = [m["name"] for m in models if m.get("name")]
    for i, caller in enumerate(callers):
        at = f"callers[{i}]"
        has_key = "key_sha256" in _keys_of(find(root, "callers", i))
        if caller and has_key == bool(caller["anonymous"]):
            log.add(
                find(root, "callers", i), at, "a caller has either key_sha256 or anonymous: true", "write one of them"
            )
        if caller.get("since") is not None and _day_s(caller["since"]) is None:
            place = find(root, "callers", i, "since")
            log.add(place, f"{at}.since", "there is no such day", "write one such as 2026-11-22")
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
            for key in ("base_url", "proxy", "statement"):
                fault = _url_fault(target[key], proxy=key == "proxy") if target.get(key) else None
                if fault:
                    place = find(root, "models", i, "targets", j, key)
                    log.add(place, f"models[{i}].targets[{j}].{key}", fault, "write e.g. https://api.example.com/v1")


def _check_trust(raw: Mapping[str, Any], root: Node, log: Log) -> None:
    trust = raw["trust"] or {}
    tuf, first = trust.get("tuf"), trust.get("root")
    if tuf and first is None:
        remedy = "add root: and the root metadata that the authority handed over"
        log.add(find(root, "trust", "tuf"), "trust.tuf", "a repository cannot be trusted without its root", remedy)
    if first is not None and not tuf:
        log.add(find(root, "trust", "root"), "trust.root", "there is no trust.tuf that it would be for", "remove it")
    if tuf and "://" in tuf and not tuf.startswith(("http://", "https://", "file://")):
        remedy = "write an https URL or a folder"
        log.add(find(root, "trust", "tuf"), "trust.tuf", "not a URL that a repository can be read from", remedy)
    for i, model in enumerate(raw["models"] or ()):
        for key in ("license", "policy"):
            name = (model or {}).get(key) or ""
            if not name.startswith(BY_NAME):
                continue
            place, at = find(root, "models", i, key), f"models[{i}].{key}"
            if not tuf:
                log.add(place, at, f"a {key} by name needs trust.tuf", f"set it, or name a {key} file")
            elif not _BY_NAME_PATTERN.fullmatch(name):
                log.add(
                    place, at, f"not the name of a {key}", "write authority: and the name, as the authority gave it"
                )


def _day_s(text: str) -> int | None:
    """The first second of a day, in UTC."""
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        return None
    return int(datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp())


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
            license=m["license"].removeprefix(BY_NAME) if _is_by_name(m["license"]) else path(m["license"]),
            policy=_policy_path(m["policy"], folder, folder / Path(raw["data"]).expanduser()),
            policy_by_name=m["policy"].removeprefix(BY_NAME) if _is_by_name(m["policy"]) else None,
            permits=tuple(folder / Path(p).expanduser() for p in m["permits"]),
            targets=tuple(
                Target(
                    **t
                    | {
                        "base_url": t["base_url"].rstrip("/"),
                        "ca_file": path(t["ca_file"]),
                        "weights": path(t["weights"]),
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
        trust=_trust(raw["trust"], folder),
        models=models,
        names=Names(**raw["names"]),
        recognizers=_recognizers(raw["recognizers"], source, folder),
        auditors=tuple(Auditor(**a) for a in raw["auditors"]),
        training_bytes_max=raw["training_bytes_max"],
        audit=build_audit(raw["audit"], folder),
        telemetry=build_telemetry(raw["telemetry"], folder),
        notices=tuple(_notices(listen, raw["redis"], callers, models)),
    )


def _is_by_name(license_: str | None) -> bool:
    return license_ is not None and license_.startswith(BY_NAME)


def _policy_path(policy: str, folder: Path, data: Path) -> Path:
    if _is_by_name(policy):
        return data / "trust" / "policies" / policy.removeprefix(BY_NAME)
    return folder / Path(policy).expanduser()


def _trust(raw: Mapping[str, Any], folder: Path) -> Trust:
    def paths(key: str) -> tuple[Path, ...]:
        return tuple(folder / Path(text).expanduser() for text in raw[key])

    tuf = raw["tuf"]
    if tuf and "://" not in tuf:
        tuf = str(folder / Path(tuf).expanduser())
    return Trust(
        keys=None if raw["keys"] is None else folder / Path(raw["keys"]).expanduser(),
        audience=raw["audience"],
        tuf=tuf,
        root=None if raw["root"] is None else folder / Path(raw["root"]).expanduser(),
        status=paths("status"),
        orders=paths("orders"),
        gateways=paths("gateways"),
        refresh_s=raw["refresh_s"],
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
        since_s=None if raw["since"] is None else _day_s(raw["since"]),
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
