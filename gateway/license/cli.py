"""`licet license`: make keys, issue, look at and verify licenses. Offline; reads and writes only the files named."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from gateway.errors import ConfigError
from gateway.license.check import Decision, ModelFacts, Scope, Use, Verdict, check
from gateway.license.claims import Claims, ClaimsError, json_schema, origin_of, read_claims
from gateway.license.cli_files import (
    EXIT_REFUSED,
    fail,
    mapping,
    read,
    seconds,
    signer,
    territories,
    trusted,
    write,
)
from gateway.license.cli_keeping import renew
from gateway.license.cli_lists import enroll_command, order_app
from gateway.license.cli_status import next_index, status_app
from gateway.license.conditions import Condition
from gateway.license.issuer import add_to_trust, build_claims, generate_key, issue, merged, private_jwk
from gateway.license.orders import Order
from gateway.license.permits import Grant
from gateway.license.published import StandingError
from gateway.license.signed import Kind, TokenError, read_unverified
from gateway.license.standing import NO_STANDING, Enrolled, Standing
from gateway.license.status import read_status_list
from gateway.license.token import TOKEN_BYTES_MAX, open_license
from gateway.license.trust import FILE_BYTES_MAX
from gateway.reasons import Reason
from gateway.shown_time import iso_s
from policies.model import LicenseRules

DAY_S = 86_400

app = typer.Typer(
    name="license",
    help="Make keys, issue, look at and verify model licenses.",
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(status_app, name="status")
app.add_typer(order_app, name="order")
app.command("enroll")(enroll_command)
app.command("renew")(renew)


@app.command()
def keygen(
    out: Annotated[Path, typer.Option("--out", help="Folder for the private key and trust.json.")],
    issuer: Annotated[str, typer.Option("--issuer", help="Who will sign, e.g. https://authority.example.")],
) -> None:
    """Make an issuer's key pair: a private key file (mode 0600), and trust.json with the public key added."""
    if not 1 <= len(issuer) <= 512:
        raise fail("--issuer needs 1 to 512 characters")
    key = generate_key()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", issuer.partition("://")[2] or issuer).strip("-.") or "issuer"
    private = out / f"{name[:60]}-{str(key.kid)[:8]}.private.jwk"
    trust = out / "trust.json"
    try:
        text = add_to_trust(read(trust, FILE_BYTES_MAX) if trust.exists() else None, issuer, key)
    except ConfigError as error:
        raise fail(f"{trust}: {error}") from error
    write(private, private_jwk(issuer, key), private=True)
    write(trust, text)
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
    audience: Annotated[
        str | None, typer.Option(help="internal (unless said) or public, which includes internal.")
    ] = None,
    gateway: Annotated[list[str] | None, typer.Option(help="Only for the gateway of this name.")] = None,
    holder: Annotated[str | None, typer.Option(help="Legal name of the holder.")] = None,
    regime: Annotated[str | None, typer.Option(help="Regime, e.g. internal.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="How long it is valid.")] = 365,
    not_before: Annotated[str | None, typer.Option(help="Start, e.g. 2027-01-01 or 2027-01-01T08:00:00Z.")] = None,
    status: Annotated[
        Path | None, typer.Option(help="Status list of `status init`: the license gets its next free index.")
    ] = None,
    status_uri: Annotated[str | None, typer.Option(help="URI of a status list that is kept elsewhere.")] = None,
    status_index: Annotated[int | None, typer.Option(min=0, help="The index there.")] = None,
    terms: Annotated[
        Path | None, typer.Option(help="YAML or JSON with further groups of the record; see `schema`.")
    ] = None,
    pin: Annotated[
        list[str] | None, typer.Option(help="SHA-256 of the endpoint's TLS key, base64. Repeatable.")
    ] = None,
    weights_digest: Annotated[str | None, typer.Option(help="sha256:... over the model's files.")] = None,
    capability: Annotated[list[str] | None, typer.Option(help="text, image, tts, voice_clone, ... Repeatable.")] = None,
    condition: Annotated[
        list[str] | None, typer.Option(help='JSON such as {"type": "enrolled_gateway"}. Repeatable.')
    ] = None,
    supersedes: Annotated[str | None, typer.Option(help="Id (jti) of the license that this one renews.")] = None,
) -> None:
    """Issue a license. A scope is granted only if it is named; * grants all of it."""
    if audience not in (None, "internal", "public"):
        raise fail("--audience is internal or public")
    if (status_uri is None) != (status_index is None) or (status is not None and status_uri is not None):
        raise fail("give --status alone, or --status-uri and --status-index together")
    now_s = int(time.time())
    start_s = seconds(not_before) if not_before else now_s
    who = signer(key)
    given = {
        "model.name": True,
        "endpoint.origins": True,
        "jurisdictions": True,
        "purposes": True,
        "model.version": version,
        "endpoint.served_model_aliases": served,
        "excluded_purposes": exclude_purpose,
        "modalities_in": modality,
        "modalities_out": modality,
        "audience.public": audience,
        "holder.legal_name": holder,
        "regime": regime,
        "endpoint.spki_pins": pin,
        "model.weights.root_digest": weights_digest,
        "capabilities": capability,
        "conditions": condition,
        "supersedes": supersedes,
    }
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(next_index(status, who)) if status is not None else None
        listed = (status_uri, status_index) if status_uri is not None and status_index is not None else None
        try:
            claims = build_claims(
                issuer=who.issuer,
                model=model,
                version=version,
                origins=origin,
                served=served or [model],
                jurisdictions=territories(jurisdiction),
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
                spki_pins=pin or (),
                weights_digest=weights_digest,
                capabilities=capability or (),
                conditions=[_json(one) for one in condition or ()],
                supersedes=supersedes,
                status=(kept.uri, kept.idx) if kept is not None else listed,
            )
            groups = mapping(terms) if terms is not None else {}
            claims["license"] = merged(claims["license"], groups, [path for path, value in given.items() if value])
            token = issue(claims, who.key)
        except (ConfigError, ClaimsError, TokenError, ValueError) as error:
            raise fail(str(error)) from error
        # The index is taken first: should the license then not be written, an index is lost, and never given twice.
        if kept is not None:
            kept.take(claims["jti"])
        write(out, token + "\n")
    at = f", status {kept.uri} index {kept.idx}" if kept is not None else ""
    typer.echo(f"license {claims['jti']} for {model}, valid until {iso_s(claims['exp'])}{at}: {out}")


def _json(text: str) -> dict[str, Any]:
    try:
        made = json.loads(text)
    except ValueError as error:
        raise fail(f"--condition: {text[:80]!r} is not JSON") from error
    if not isinstance(made, dict):
        raise fail("--condition: write an object with a `type`")
    return made


class SchemaOf(StrEnum):
    """What there is a schema of."""

    LICENSE = "license"
    PERMIT = "permit"
    ORDER = "order"
    GATEWAY = "gateway"
    CONDITION = "condition"


_SCHEMAS: dict[SchemaOf, tuple[str, Any]] = {
    SchemaOf.PERMIT: ("The `permit` claim of a Licet training permit", Grant),
    SchemaOf.ORDER: ("One of the `orders` of a Licet list of orders", Order),
    SchemaOf.GATEWAY: ("One of the `gateways` of a Licet list of enrolled gateways", Enrolled),
    SchemaOf.CONDITION: ("One of the `conditions` of a Licet model license", Condition),
}


@app.command()
def schema(kind: Annotated[SchemaOf, typer.Option("--kind", help="Of what.")] = SchemaOf.LICENSE) -> None:
    """Print a JSON Schema (2020-12) of what authorities sign."""
    if kind is SchemaOf.LICENSE:
        made = json_schema()
    else:
        title, shape = _SCHEMAS[kind]
        dialect = "https://json-schema.org/draft/2020-12/schema"
        made = {"$schema": dialect, "title": title, **msgspec.json.schema(shape)}
    typer.echo(json.dumps(made, indent=2, ensure_ascii=False))


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="License file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Header and payload as JSON.")] = False,
) -> None:
    """Show what a license says. No key is needed, and the signature is not checked."""
    try:
        parts = read_unverified(read(file, TOKEN_BYTES_MAX).strip(), Kind.LICENSE)
    except TokenError as error:
        raise fail(f"{file}: {error}") from error
    if as_json:
        shown = {"signature_checked": False, "header": dict(parts.header), "payload": dict(parts.payload)}
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    try:
        claims = read_claims(parts.payload)
    except ClaimsError as error:
        raise fail(f"{file}: {error}") from error
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
        "capabilities": terms.capabilities,
        "pins": terms.endpoint.spki_pins,
        "gateways": claims.audiences,
    }
    rows = [
        ("license", claims.jti),
        ("issuer", claims.iss),
        ("key id", kid),
        ("model", terms.model.name + (f" {terms.model.version}" if terms.model.version else "")),
        ("valid from", iso_s(claims.nbf)),
        ("valid until", iso_s(claims.exp)),
        ("state", terms.state),
        ("audience", "public" if terms.audience.public else "internal"),
    ]
    if terms.regime is not None:
        rows.append(("regime", terms.regime))
    if claims.status is not None:
        rows.append(("status", f"{claims.status.status_list.uri} index {claims.status.status_list.idx}"))
    if terms.conditions:
        rows.append(("conditions", json.dumps(terms.conditions, ensure_ascii=False)))
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
    status: Annotated[
        list[Path] | None, typer.Option(help="Look its status up in this status list. Repeatable.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Check at this time instead of now.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The verdict as JSON.")] = False,
) -> None:
    """Verify signature, issuer and times, and each part of the scope that is given. Exit 0: holds; 1: does not."""
    keys = trusted(trust)
    try:
        asked_origin = origin_of(origin) if origin else None
    except ValueError as error:
        raise fail(str(error)) from error
    lists = {}
    for path in status or ():
        try:
            one = read_status_list(read(path, Kind.STATUS.bytes_max), keys)
        except StandingError as error:
            raise fail(f"{path}: {error.reason.code}: {error.detail}") from error
        lists[one.iss, one.uri] = one
    found = open_license(read(file, TOKEN_BYTES_MAX), keys)
    now_s = seconds(at) if at else time.time()
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
        territories=tuple(territories(territory)) if territory else terms.jurisdictions,
        purpose=(purpose or next(iter(terms.purposes), "")).lower(),
        audience=audience or ("public" if terms.audience.public else "internal"),
        modalities_in=frozenset(modality or terms.modalities_in),
        modalities_out=frozenset(modality or terms.modalities_out),
        gateway=gateway or next(iter(found.claims.audiences), ""),
    )
    standing = Standing(trust=keys, statuses=lists) if status else NO_STANDING
    verdict = check(facts, Use(scope, now_s), LicenseRules(binding_min=0), standing)
    return _report(verdict if status else _without_status(verdict), as_json)


def _without_status(verdict: Verdict) -> Verdict:
    """The verdict where nobody asked for the status."""
    failures = tuple(one for one in verdict.failures if one.reason is not Reason.LIC_STATUS_STALE)
    decision = Decision.DENY if failures else Decision.ALLOW
    return dataclasses.replace(verdict, decision=decision, failures=failures, status="not looked up")


def _report(verdict: Verdict, as_json: bool) -> None:
    if as_json:
        failures = [{"code": f.reason.code, "detail": f.detail} for f in verdict.failures]
        shown = {
            "valid": verdict.allowed,
            "license": verdict.license_id,
            "issuer": verdict.issuer,
            "status": verdict.status,
            "failures": failures,
        }
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif verdict.allowed:
        until = iso_s(verdict.expires_at_s) if verdict.expires_at_s is not None else ""
        listed = "" if verdict.status == "none" else f", status {verdict.status}"
        typer.echo(f"valid: {verdict.license_id} of {verdict.issuer}, until {until}{listed}")
    else:
        for failure in verdict.failures:
            typer.echo(f"{failure.reason.code}: {failure.detail}")
    if not verdict.allowed:
        raise typer.Exit(EXIT_REFUSED)
