"""`licet authority order, permit, gateway, audit, key, target, log`: what goes on besides single licenses."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.authority.audits import audit as run_audit
from gateway.authority.audits import http_fetch
from gateway.authority.cli_desk import EXIT_REFUSED, Desk, command, read_file, read_object, table, write
from gateway.authority.door import REMOTE_FILE_BYTES_MAX
from gateway.authority.doors import shown
from gateway.authority.errors import FormError
from gateway.authority.history import moment, plain
from gateway.authority.publishing import TARGET_BYTES_MAX

AUDITOR_KEY = "LICET_AUDITOR_KEY"
HEAD_BYTES_MAX = 65_536  # a signed checkpoint has some hundred bytes

order_app = typer.Typer(help="Orders: pauses that override any license.", no_args_is_help=True)
permit_app = typer.Typer(help="Training permits: approval before training.", no_args_is_help=True)
gateway_app = typer.Typer(help="Gateways that are enrolled.", no_args_is_help=True)
audit_app = typer.Typer(help="Periodic audits of enrolled gateways.", no_args_is_help=True)
key_app = typer.Typer(help="People and programs, their API keys and roles; the keys that sign.", no_args_is_help=True)
target_app = typer.Typer(help="Lexicons and policy bundles that are published.", no_args_is_help=True)
log_app = typer.Typer(help="The authority's own tamper-evident log.", no_args_is_help=True)

Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; the history will show it.")]


def order_give(
    desk: Desk,
    scope: Annotated[str, typer.Argument(help="all, model, modality or new_callers.")],
    reason: Reason,
    model: Annotated[list[str] | None, typer.Option(help="Model or license id; * at an end. Repeatable.")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="text, image, audio, ... Repeatable.")] = None,
    jurisdiction: Annotated[list[str] | None, typer.Option(help="Only there. Repeatable; default everywhere.")] = None,
    effective_at: Annotated[int | None, typer.Option(help="Seconds since 1970; default now.")] = None,
    ref: Annotated[str | None, typer.Option(help="Its reference; made up if left out.")] = None,
) -> None:
    """Give an order. Role: approver."""
    answer = desk.ask(
        "order",
        scope=scope,
        reason=reason,
        models=model,
        modalities=modality,
        jurisdictions=jurisdiction,
        effective_at=effective_at,
        ref=ref,
    )
    desk.say(answer, f"{answer['ref']}: in force from {moment(answer['effective_at'])}")


def order_lift(
    desk: Desk,
    ref: Annotated[str, typer.Argument(metavar="REF", help="The order, as `list orders` shows it.")],
    reason: Reason,
) -> None:
    """End an order. Role: approver."""
    answer = desk.ask("lift-order", ref=ref, reason=reason)
    desk.say(answer, f"{ref}: ended {moment(answer['lifted_at'])}")


def permit_grant(
    desk: Desk,
    id_: Annotated[str, typer.Argument(metavar="ID", help="The approved application.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the signed permit here.")] = None,
) -> None:
    """Grant the training permit that an approved application asked for. Role: operator."""
    answer = desk.ask("permit", id=id_)
    if out is not None:
        write(out, desk.ask("token", id=answer["jti"])["jws"] + "\n")
    desk.say(answer, f"{answer['jti']}: valid {moment(answer['nbf'])} to {moment(answer['exp'])}")


def permit_withdraw(
    desk: Desk, id_: Annotated[str, typer.Argument(metavar="ID", help="The permit.")], reason: Reason
) -> None:
    """End a permit: no license is issued on it, and no gateway trains on it, any more. Role: approver."""
    answer = desk.ask("withdraw-permit", id=id_, reason=reason)
    desk.say(answer, f"{id_}: {answer['state']}")


GatewayArgument = Annotated[str, typer.Argument(metavar="NAME", help="The gateway's name.")]


def gateway_enroll(
    desk: Desk,
    name: GatewayArgument,
    operator: Annotated[str, typer.Option(help="Id code (or name) of the holder whose licenses it may serve, or *.")],
    key: Annotated[Path, typer.Option("--key", help="Public JWK of the key that signs its log.")],
    stream: Annotated[list[str] | None, typer.Option(help="Pattern of its journal streams. Repeatable.")] = None,
    audit_url: Annotated[str | None, typer.Option(help="Where its auditor endpoints are.")] = None,
) -> None:
    """Record a gateway. Role: officer or approver."""
    answer = desk.ask(
        "gateway-enroll",
        name=name,
        operator=operator,
        key=read_object(key, "key"),
        streams=stream or None,
        audit_url=audit_url,
    )
    desk.say(answer, f"{name}: enrolled with the key {answer['thumbprint']}")


def gateway_withdraw(desk: Desk, name: GatewayArgument, reason: Reason) -> None:
    """A gateway is no longer known. Role: officer or approver."""
    answer = desk.ask("gateway-withdraw", name=name, reason=reason)
    desk.say(answer, f"{name}: withdrawn {moment(answer['withdrawn_at'])}")


def gateway_list(desk: Desk) -> None:
    """List the gateways that are or were enrolled."""
    answer = desk.ask("list", what="gateways")
    rows = [
        [plain(g["name"]), plain(g["operator"]), g["thumbprint"], "withdrawn" if g["withdrawn_at"] else "enrolled"]
        for g in answer
    ]
    desk.say(answer, *(table([["name", "operator", "key", "state"], *rows]) if rows else ["no gateways"]))


def audit_schedule(
    desk: Desk,
    name: GatewayArgument,
    every_days: Annotated[int, typer.Option(help="How often.")],
    sample: Annotated[int, typer.Option(help="Records looked at in each stream.")] = 32,
    suspends: Annotated[bool, typer.Option("--suspends/--warns", help="What happens when it is overdue.")] = True,
    first_due: Annotated[int | None, typer.Option(help="Seconds since 1970; default in --every-days days.")] = None,
    license_: Annotated[
        list[str] | None, typer.Option("--license", help="Suspend this one too, besides its operator's. Repeatable.")
    ] = None,
) -> None:
    """Have a gateway audited every so many days. Role: officer or approver."""
    answer = desk.ask(
        "audit-schedule",
        gateway=name,
        every_days=every_days,
        sample=sample,
        suspends=suspends,
        first_due=first_due,
        licenses=license_ or None,
    )
    desk.say(answer, f"{name}: the next audit is due {moment(answer['due_at'])}")


def audit_run(
    desk: Desk,
    name: GatewayArgument,
    sample: Annotated[
        int | None, typer.Option(help="Records looked at in each stream; default the schedule's.")
    ] = None,
) -> None:
    """Audit a gateway now and record the result. The key of its auditor is in LICET_AUDITOR_KEY. Exit 1: not passed."""
    key = os.environ.get(AUDITOR_KEY, "")
    if not key:
        raise FormError(f"{AUDITOR_KEY}: not set; put the key that the gateway gave its auditor into the environment")
    with desk.open() as authority:
        result = run_audit(authority, desk.actor(authority), name, http_fetch(key), sample=sample)
    findings = [f"  {plain(f.code)} {plain(f.stream)}: {plain(f.detail)}" for f in result.findings]
    verdict = "passed" if result.passed else "not passed"
    desk.say(shown(result), f"{name}: {verdict}; {result.sampled} records of {len(result.heads)} streams", *findings)
    if not result.passed:
        raise typer.Exit(EXIT_REFUSED)


def audit_list(desk: Desk, name: GatewayArgument) -> None:
    """List the audits of a gateway, newest first, and when the next one is due."""
    answer = desk.ask("audits", gateway=name)
    schedule = answer["schedule"]
    lines = [f"next due {moment(schedule['due_at'])}" if schedule else "no schedule"]
    for one in answer["audits"]:
        verdict = "passed" if one["passed"] else f"not passed, {len(one['findings'])} findings"
        lines.append(f"{moment(one['at'])}  {verdict}, {one['sampled']} records, by {plain(one['by'])}")
    desk.say(answer, *lines)


def key_new(
    desk: Desk,
    name: Annotated[str, typer.Option("--name", help="Who gets it, as the log will say.")],
    role: Annotated[
        list[str],
        typer.Option(help="applicant, officer, assessor, approver, operator, auditor or admin. Repeatable."),
    ],
) -> None:
    """Add a person or program and make their API key, which is shown once. Role: admin."""
    answer = desk.ask("key-new", name=name, roles=role)
    desk.say(answer, f"key   {answer['key']}", f"for   {plain(name)} ({', '.join(answer['roles'])})")


def key_remove(desk: Desk, name: Annotated[str, typer.Option("--name", help="Whose key.")]) -> None:
    """Remove somebody: their key and name count no longer. Role: admin."""
    desk.say(desk.ask("key-remove", name=name), f"{plain(name)}: removed")


def key_list(desk: Desk) -> None:
    """List who may do what. Keys themselves are not kept."""
    answer = desk.ask("keys")
    desk.say(answer, *table([["name", "roles"], *([plain(p["name"]), ", ".join(p["roles"])] for p in answer)]))


def key_rotate(desk: Desk) -> None:
    """Sign with a new key from now on; the old one stays trusted until `key retire`. Role: admin."""
    answer = desk.ask("rotate-key")
    desk.say(answer, f"signing with {answer['kid']} from now on")


def key_retire(desk: Desk, kid: Annotated[str, typer.Argument(metavar="KID", help="Id of the old key.")]) -> None:
    """Publish an old signing key no longer: nothing that it signed counts any more. Role: admin."""
    desk.say(desk.ask("retire-key", name=kid), f"{plain(kid)}: retired")


Kind = Annotated[str, typer.Argument(help="lexicons or policies.")]
TargetName = Annotated[str, typer.Option("--name", help="The name that it is published under.")]


def target_add(
    desk: Desk, kind: Kind, file: Annotated[Path, typer.Argument(help="What is published.")], name: TargetName
) -> None:
    """Publish a file with the rest; it replaces one of that name. Role: operator."""
    data = read_file(file, TARGET_BYTES_MAX if desk.url is None else REMOTE_FILE_BYTES_MAX, "file")
    answer = desk.ask("target", kind=kind, name=name, data=base64.b64encode(data).decode())
    desk.say(answer, f"{kind}/{name}: {answer['digest']}")


def target_remove(desk: Desk, kind: Kind, name: TargetName) -> None:
    """Publish a file no longer. Role: operator."""
    desk.say(desk.ask("target", kind=kind, name=name), f"{kind}/{name}: removed")


def log_verify(
    desk: Desk,
    head: Annotated[
        list[Path] | None,
        typer.Option("--head", help="A signed head that somebody kept; the log must agree. Repeatable."),
    ] = None,
) -> None:
    """Verify every entry of the log against its signed head, and against heads kept elsewhere. Exit 1: it does not hold."""
    heads = [_text(path) for path in head or ()]
    answer = desk.ask("log-verify", heads=heads or None)
    desk.say(answer, f"{answer['entries']} entries hold, root {answer['root']}")


def log_head(desk: Desk, out: Annotated[Path, typer.Argument(help="Where the head goes.")]) -> None:
    """Write the log's newest signed head, to be kept where the authority's operator cannot reach it."""
    answer = desk.ask("log-verify")
    write(out, answer["head"])
    desk.say(answer, f"{out}: {answer['entries']} entries")


def log_show(
    desk: Desk,
    after: Annotated[int, typer.Option(help="From the entry behind this one.")] = -1,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 100,
) -> None:
    """Show entries of the log in order. Every role but applicants."""
    answer = desk.ask("log", after=after, limit=limit)
    lines = [
        f"{e['seq']:>6}  {moment(e['at'])}  {plain(e['actor'])} {e['action']} {plain(e['object'])}" for e in answer
    ]
    desk.say(answer, *lines)


def _text(path: Path) -> str:
    try:
        return read_file(path, HEAD_BYTES_MAX, "head").decode()
    except UnicodeDecodeError as error:
        raise FormError(f"head: {path} is not a signed head of `log head`") from error


def add_to(app: typer.Typer) -> None:
    """Put the groups of this file into the app."""
    for name, group, commands in _GROUPS:
        for word, function, publishes in commands:
            command(group, word, publishes=publishes)(function)
        app.add_typer(group, name=name)
    command(audit_app, "run", remote=False)(audit_run)


_GROUPS = (
    ("order", order_app, (("give", order_give, True), ("lift", order_lift, True))),
    ("permit", permit_app, (("grant", permit_grant, True), ("withdraw", permit_withdraw, True))),
    (
        "gateway",
        gateway_app,
        (("enroll", gateway_enroll, True), ("withdraw", gateway_withdraw, True), ("list", gateway_list, False)),
    ),
    ("audit", audit_app, (("schedule", audit_schedule, False), ("list", audit_list, False))),
    (
        "key",
        key_app,
        (
            ("new", key_new, False),
            ("remove", key_remove, False),
            ("list", key_list, False),
            ("rotate", key_rotate, True),
            ("retire", key_retire, True),
        ),
    ),
    ("target", target_app, (("add", target_add, True), ("remove", target_remove, True))),
    ("log", log_app, (("verify", log_verify, False), ("head", log_head, False), ("show", log_show, False))),
)
