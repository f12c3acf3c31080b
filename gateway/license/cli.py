"""`licet license`: make keys, issue, look at and verify licenses. Offline; reads and writes only the files named."""

from __future__ import annotations

import datetime
import json
import os
import re
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.errors import ConfigError
from gateway.license.check import ModelFacts, Scope, Use, Verdict, check
from gateway.license.claims import Claims, ClaimsError, origin_of, read_claims
from gateway.license.issuer import add_to_trust, build_claims, generate_key, issue, load_private_key, private_jwk
from gateway.license.signed import Kind, TokenError, read_unverified
from gateway.license.token import TOKEN_BYTES_MAX, open_license
from gateway.license.trust import FILE_BYTES_MAX, load_trust
from policies.model import LicenseRules

DAY_S = 86_400
EXIT_REFUSED = 1  # the license does not hold
EXIT_USAGE = 2  # a file or argument cannot be used

app = typer.Typer(
    name="license",
    help="Make keys, issue, look at and verify model licenses.",
    no_args_is_help=True,
    add_completion=False,
)


def _fail(message: str) -> typer.Exit:
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(EXIT_USAGE)


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise _fail(f"{path}: {error.strerror or error}") from error
    if len(data) > bytes_max:
        raise _fail(f"{path}: more than {bytes_max:,} bytes; is it the right file?")
    return data


def _write(path: Path, data: str, *, private: bool = False) -> None:
    """Writes a new file beside the old one and puts it in its place, so that no reader sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        if beside.parent.is_dir():
            beside.unlink(missing_ok=True)
        raise _fail(f"{path}: {error.strerror or error}") from error


@app.command()
def keygen(
    out: Annotated[Path, typer.Option("--out", help="Folder for the private key and trust.json.")],
    issuer: Annotated[str, typer.Option("--issuer", help="Who will sign, e.g. https://authority.example.")],
) -> None:
    """Make an issuer's key pair: a private key file (mode 0600), and trust.json with the public key added."""
    if not 1 <= len(issuer) <= 512:
        raise _fail("--issuer needs 1 to 512 characters")
    key = generate_key()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", issuer.partition("://")[2] or issuer).strip("-.") or "issuer"
    private = out / f"{name[:60]}-{str(key.kid)[:8]}.private.jwk"
    trust = out / "trust.json"
    try:
        text = add_to_trust(_read(trust, FILE_BYTES_MAX) if trust.exists() else None, issuer, key)
    except ConfigError as error:
        raise _fail(f"{trust}: {error}") from error
    _write(private, private_jwk(issuer, key), private=True)
    _write(trust, text)
    typer.echo(f"private key  {private}  (keep it away from the gateway)")
    typer.echo(f"trust file   {trust}  (give it to the gateway: trust: {{keys: trust.json}})")
    typer.echo(f"key id       {key.kid}")


@app.command("issue")
def issue_command(
    key: Annotated[Path, typer.Option("--key", help="Private key file of `keygen`.")],
    model: Annotated[str, typer.Option("--model", help="The model's name as the target is asked for it.")],
    out: Annotated[Path, typer.Option("--out", help="Where the license goes.")],
    origin: Annotated[list[str], typer.Option(help="Endpoint origin, e.g. https://api.example.com. Repeatable.")],
    jurisdiction: Annotated[list[str], typer.Option(help="Territory code such as eu, or *. Repeatable.")],
    purpose: Annotated[list[str], typer.Option(help="Purpose such as customer-service, or *. Repeatable.")],
    version: Annotated[str | None, typer.Option(help="The one version that is licensed.")] = None,
    served: Annotated[
        list[str] | None, typer.Option(help="Glob of what answers may name as their model. Repeatable.")
    ] = None,
    exclude_purpose: Annotated[list[str] | None, typer.Option(help="Purpose that is not licensed.")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="text, image, embedding, ... or *. Repeatable.")] = None,
    audience: Annotated[str, typer.Option(help="internal or public (which includes internal).")] = "internal",
    gateway: Annotated[list[str] | None, typer.Option(help="Only for the gateway of this name.")] = None,
    holder: Annotated[str | None, typer.Option(help="Legal name of the holder.")] = None,
    regime: Annotated[str | None, typer.Option(help="Regime, e.g. internal.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="How long it is valid.")] = 365,
    not_before: Annotated[str | None, typer.Option(help="Start, e.g. 2027-01-01 or 2027-01-01T08:00:00Z.")] = None,
) -> None:
    """Issue a license. A scope is granted only if it is named; * grants all of it."""
    if audience not in ("internal", "public"):
        raise _fail("--audience is internal or public")
    now_s = int(time.time())
    start_s = _seconds(not_before) if not_before else now_s
    try:
        issuer, private = load_private_key(_read(key, FILE_BYTES_MAX), source=str(key))
        claims = build_claims(
            issuer=issuer,
            model=model,
            version=version,
            origins=origin,
            served=served or [model],
            jurisdictions=jurisdiction,
            purposes=purpose,
            excluded_purposes=exclude_purpose or (),
            modalities=modality or ["text"],
            public=audience == "public",
            gateways=gateway or (),
            holder=holder,
            regime=regime,
            issued_s=now_s,
            not_before_s=start_s,
            expires_s=start_s + days * DAY_S,
        )
        token = issue(claims, private)
    except (ConfigError, ClaimsError, TokenError, ValueError) as error:
        raise _fail(str(error)) from error
    _write(out, token + "\n")
    typer.echo(f"license {claims['jti']} for {model}, valid until {_shown_time(claims['exp'])}: {out}")


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="License file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Header and payload as JSON.")] = False,
) -> None:
    """Show what a license says. No key is needed, and the signature is not checked."""
    try:
        parts = read_unverified(_read(file, TOKEN_BYTES_MAX).strip(), Kind.LICENSE)
    except TokenError as error:
        raise _fail(f"{file}: {error}") from error
    if as_json:
        shown = {"signature_checked": False, "header": dict(parts.header), "payload": dict(parts.payload)}
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    try:
        claims = read_claims(parts.payload)
    except ClaimsError as error:
        raise _fail(f"{file}: {error}") from error
    typer.echo("signature not checked (use `licet license verify`)")
    for name, value in _rows(claims, parts.kid):
        typer.echo(f"{name:<20} {value}")


def _rows(claims: Claims, kid: str) -> list[tuple[str, str]]:
    terms = claims.license
    words = {
        "origins": terms.endpoint.origins,
        "served models": terms.endpoint.served_model_aliases,
        "jurisdictions": terms.jurisdictions,
        "purposes": terms.purposes,
        "excluded purposes": terms.excluded_purposes,
        "modalities in": terms.modalities_in,
        "modalities out": terms.modalities_out,
        "gateways": claims.audiences,
    }
    rows = [
        ("license", claims.jti),
        ("issuer", claims.iss),
        ("key id", kid),
        ("model", terms.model.name + (f" {terms.model.version}" if terms.model.version else "")),
        ("valid from", _shown_time(claims.nbf)),
        ("valid until", _shown_time(claims.exp)),
        ("state", terms.state),
        ("audience", "public" if terms.audience.public else "internal"),
    ]
    return rows + [(name, ", ".join(value)) for name, value in words.items() if value]


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="License file.")],
    trust: Annotated[Path, typer.Option("--trust", help="Trusted keys, as the gateway uses them.")],
    model: Annotated[str | None, typer.Option(help="Check for this model.")] = None,
    version: Annotated[str | None, typer.Option(help="Check for this version of the model.")] = None,
    origin: Annotated[str | None, typer.Option(help="Check for this endpoint.")] = None,
    territory: Annotated[list[str] | None, typer.Option(help="Check for this territory. Repeatable.")] = None,
    purpose: Annotated[str | None, typer.Option(help="Check for this purpose.")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="Check for this modality. Repeatable.")] = None,
    audience: Annotated[str | None, typer.Option(help="Check for internal or public.")] = None,
    gateway: Annotated[str | None, typer.Option(help="Check for the gateway of this name.")] = None,
    at: Annotated[str | None, typer.Option(help="Check at this time instead of now.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The verdict as JSON.")] = False,
) -> None:
    """Verify signature, issuer and times, and each part of the scope that is given. Exit 0: holds; 1: does not."""
    try:
        trusted = load_trust(_read(trust, FILE_BYTES_MAX), source=str(trust))
        asked_origin = origin_of(origin) if origin else None
    except (ConfigError, ValueError) as error:
        raise _fail(str(error)) from error
    found = open_license(_read(file, TOKEN_BYTES_MAX), trusted)
    now_s = _seconds(at) if at else time.time()
    if found.claims is None:
        verdict = check(ModelFacts(model or "", asked_origin or "", found), Use(Scope(), now_s), LicenseRules())
        return _report(verdict, as_json)
    # What is not asked about is taken from the license, so that only what was asked can fail.
    terms = found.claims.license
    facts = ModelFacts(
        name=model or terms.model.name,
        origin=asked_origin or next(iter(terms.endpoint.origins), ""),
        license=found,
        version=version or terms.model.version,
    )
    scope = Scope(
        territories=tuple(t.lower() for t in territory) if territory else terms.jurisdictions,
        purpose=(purpose or next(iter(terms.purposes), "")).lower(),
        audience=audience or ("public" if terms.audience.public else "internal"),
        modalities_in=frozenset(modality or terms.modalities_in),
        modalities_out=frozenset(modality or terms.modalities_out),
        gateway=gateway or next(iter(found.claims.audiences), ""),
    )
    return _report(check(facts, Use(scope, now_s), LicenseRules(binding_min=0)), as_json)


def _report(verdict: Verdict, as_json: bool) -> None:
    if as_json:
        failures = [{"code": f.reason.code, "detail": f.detail} for f in verdict.failures]
        shown = {
            "valid": verdict.allowed,
            "license": verdict.license_id,
            "issuer": verdict.issuer,
            "failures": failures,
        }
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif verdict.allowed:
        until = _shown_time(verdict.expires_at_s) if verdict.expires_at_s is not None else ""
        typer.echo(f"valid: {verdict.license_id} of {verdict.issuer}, until {until}")
    else:
        for failure in verdict.failures:
            typer.echo(f"{failure.reason.code}: {failure.detail}")
    if not verdict.allowed:
        raise typer.Exit(EXIT_REFUSED)


def _seconds(text: str) -> int:
    """Seconds since 1970 of an ISO 8601 time; without a zone it is UTC."""
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise _fail(f"{text!r} is not a time; write 2027-01-01 or 2027-01-01T08:00:00Z") from error
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return int(when.timestamp())


def _shown_time(seconds: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC).isoformat()
    except (OverflowError, ValueError):
        return f"{seconds} s after 1970"  # beyond the calendar of `datetime`
