"""`licet authority submit ... vary`: one application or license, from the first form to its end."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.authority.applications import REPORT_BYTES_MAX
from gateway.authority.cli_desk import (
    EXIT_REFUSED,
    Desk,
    command,
    read_condition,
    read_file,
    read_object,
    table,
    write,
)
from gateway.authority.door import REMOTE_FILE_BYTES_MAX
from gateway.authority.doors import shown
from gateway.authority.errors import FormError
from gateway.authority.filings import SNAPSHOT_BYTES_MAX, filing_terms, load_snapshot, row_of
from gateway.authority.history import moment, plain
from gateway.license.signed import Kind
from gateway.license.trust import FILE_BYTES_MAX as TRUST_BYTES_MAX
from gateway.license.trust import load_trust

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the application or license, as `list` shows it.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; the history will show it.")]


def add_to(app: typer.Typer) -> None:
    """Put the commands of this file into the app."""
    for name, function, publishes in _COMMANDS:
        command(app, name, publishes=publishes)(function)


def submit(
    desk: Desk,
    file: Annotated[Path, typer.Argument(help="YAML or JSON: {license: {...}, valid_days: 365} or {permit: {...}}.")],
    draft: Annotated[bool, typer.Option("--draft", help="Begin it without handing it in.")] = False,
    snapshot: Annotated[
        Path | None, typer.Option("--snapshot", help="A published list, to take the filing from; with --row.")
    ] = None,
    row: Annotated[str | None, typer.Option("--row", help="The filing's number in that list.")] = None,
    list_row: Annotated[int | None, typer.Option("--list-row", help="Which row, if the number is there twice.")] = None,
) -> None:
    """Hand in an application. Prints its id. Role: applicant."""
    form = read_object(file, "file")
    if (snapshot is None) != (row is None):
        raise FormError("row: --snapshot and --row go together")
    if snapshot is not None and row is not None:
        held = load_snapshot(read_file(snapshot, SNAPSHOT_BYTES_MAX, "snapshot"), source=str(snapshot))
        vouched = filing_terms(held, row_of(held, row, list_row))
        record = form.get("license")
        if not isinstance(record, dict):
            raise FormError("application: a filing belongs to a license; write `license: {...}`")
        # The list's word counts for what it says; what the form says beyond it stays.
        merged = {name: value for name, value in vouched.items() if isinstance(value, dict)}
        record |= {name: {**(record.get(name) or {}), **value} for name, value in merged.items()}
        record.setdefault("regime", vouched.get("regime"))
        form["license"] = {name: value for name, value in record.items() if value is not None}
    answer = desk.ask("submit", form=form, draft=draft or None)
    _entered(desk, answer)


def amend(desk: Desk, id_: Id, file: Annotated[Path, typer.Argument(help="The whole new form.")]) -> None:
    """Replace the form of an application that nobody has begun to assess. Role: applicant."""
    answer = desk.ask("amend", id=id_, form=read_object(file, "file"))
    desk.say(answer, f"{answer['id']}: changed")


def hand_in(desk: Desk, id_: Id) -> None:
    """Hand in a draft. Role: applicant."""
    answer = desk.ask("hand-in", id=id_)
    desk.say(answer, f"{answer['id']}: {answer['state']}")


def withdraw(desk: Desk, id_: Id, reason: Reason) -> None:
    """Take an application back. Role: applicant."""
    answer = desk.ask("withdraw", id=id_, reason=reason)
    desk.say(answer, f"{answer['id']}: {answer['state']}")


def complete(desk: Desk, id_: Id) -> None:
    """Check that an application is complete; if it is, its assessment begins. Exit 1: something is missing. Role: officer."""
    answer = desk.ask("complete", id=id_)
    missing = [f"missing: {plain(lack['field'])} ({plain(lack['why'])})" for lack in answer["missing"]]
    desk.say(answer, *(missing or [f"{id_}: complete; next: assess, then decide"]))
    if missing:
        raise typer.Exit(EXIT_REFUSED)


def assess(
    desk: Desk,
    id_: Id,
    kind: Annotated[str, typer.Option("--type", help="security, pipia, algo_self, ethics, red_team or other.")],
    report: Annotated[Path, typer.Option("--report", help="The report; its SHA-256 is kept, the file stays with you.")],
    result: Annotated[
        list[str] | None,
        typer.Option("--result", help="passed, failed, or gen_pass=0.97, refuse=..., over_refuse=... Repeatable."),
    ] = None,
    standard: Annotated[str | None, typer.Option(help="What was tested against, e.g. GB/T 45654-2025.")] = None,
    assessor: Annotated[str | None, typer.Option(help="Who assessed, if someone else than who acts.")] = None,
    date: Annotated[str | None, typer.Option(help="Day of the assessment, if not today.")] = None,
) -> None:
    """Attach what an assessment found. Role: assessor."""
    bytes_max = REPORT_BYTES_MAX if desk.url is None else REMOTE_FILE_BYTES_MAX
    data = read_file(report, bytes_max, "report")
    answer = desk.ask(
        "assess",
        id=id_,
        type=kind,
        report=base64.b64encode(data).decode(),
        result=_result(result or []) or None,
        standard=standard,
        assessor=assessor,
        date=date,
    )
    desk.say(answer, f"{id_}: {kind} attached, {answer['assessments'][-1]['report_digest']}")


def decide(
    desk: Desk,
    id_: Id,
    reason: Reason,
    approve: Annotated[bool | None, typer.Option("--approve/--reject", help="The decision.")] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option("--condition", help='E.g. witness:lag_s_max=60, or JSON {"type": ...}. Repeatable.'),
    ] = None,
) -> None:
    """Decide. With the two-person rule it waits for `confirm` by another approver. Role: approver, not the applicant."""
    if approve is None:
        raise FormError("decide: say --approve or --reject")
    conditions = [read_condition(text) for text in condition or ()]
    outcome = ("approve_conditional" if conditions else "approve") if approve else "reject"
    answer = desk.ask("decide", id=id_, outcome=outcome, reason=reason, conditions=conditions or None)
    waits = answer.get("pending") is not None
    desk.say(
        answer, f"{id_}: {outcome} waits for `confirm` by another approver" if waits else f"{id_}: {answer['state']}"
    )


def confirm(desk: Desk, id_: Id) -> None:
    """Second a decision that waits. Role: approver, neither the applicant nor who decided."""
    answer = desk.ask("confirm", id=id_)
    desk.say(answer, f"{id_}: {answer['state']}")


def decline(desk: Desk, id_: Id, reason: Reason) -> None:
    """Do not second a decision that waits. Role: approver."""
    answer = desk.ask("decline", id=id_, reason=reason)
    desk.say(answer, f"{id_}: {answer['state']}, undecided")


Out = Annotated[Path | None, typer.Option("--out", help="Write the signed token here.")]


def issue(
    desk: Desk,
    id_: Id,
    out: Out = None,
    filing_no: Annotated[str | None, typer.Option("--filing-no", help="Number that the authority gives it.")] = None,
    starts_at: Annotated[int | None, typer.Option(help="First second of validity, since 1970; default now.")] = None,
    permit: Annotated[
        Path | None, typer.Option("--permit", help="Training permit of another authority; with --permit-trust.")
    ] = None,
    permit_trust: Annotated[Path | None, typer.Option(help="Trust file with that authority's keys.")] = None,
) -> None:
    """Issue the license (or training permit) of an approved application. Role: operator."""
    if (permit is None) != (permit_trust is None):
        raise FormError("permit: --permit and --permit-trust go together")
    if permit is not None and permit_trust is not None:
        # Only at the folder: whom an authority trusts with permits is not for a caller of its service to say.
        trust = load_trust(read_file(permit_trust, TRUST_BYTES_MAX, "permit-trust"), source=str(permit_trust))
        token = read_file(permit, Kind.PERMIT.bytes_max, "permit").strip()
        with desk.open() as authority:
            made = authority.issue(
                desk.actor(authority),
                id_,
                starts_at=starts_at,
                filing_no=filing_no,
                permit_token=token,
                permit_trust=trust,
            )
        desk.published()
        _issued(desk, shown(made), out)
        return
    found = desk.ask("show", id=id_)["application"]
    if found["kind"] == "permit":
        answer = desk.ask("permit", id=id_)
    else:
        answer = desk.ask("issue", id=id_, filing_no=filing_no, starts_at=starts_at)
    _issued(desk, answer, out)


def provisional(
    desk: Desk,
    id_: Id,
    out: Out = None,
    launched_on: Annotated[str | None, typer.Option(help="First day of service, if the form does not say it.")] = None,
) -> None:
    """Issue a receipt: a license in state `submitted`, on which policies with a grace serve. Role: operator."""
    _issued(desk, desk.ask("provisional", id=id_, launched_on=launched_on), out)


def suspend(desk: Desk, id_: Id, reason: Reason) -> None:
    """Stop a license for the time being. Role: approver."""
    _ended(desk, "suspend", id_, reason)


def lift(desk: Desk, id_: Id, reason: Reason) -> None:
    """End a suspension. Role: approver."""
    _ended(desk, "lift", id_, reason)


def revoke(desk: Desk, id_: Id, reason: Reason) -> None:
    """End a license for good, with blame. Role: approver."""
    _ended(desk, "revoke", id_, reason)


def cancel(desk: Desk, id_: Id, reason: Reason) -> None:
    """End a license for good, without blame. Role: its applicant, or approver."""
    _ended(desk, "cancel", id_, reason)


def end_service(
    desk: Desk,
    id_: Id,
    on: Annotated[str, typer.Option("--on", help="Day on which the service ended.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why.")] = "",
) -> None:
    """Note that the service has ended: 20 working days later the license is canceled. Role: applicant or officer."""
    answer = desk.ask("end-service", id=id_, ended_on=on, reason=reason)
    desk.say(answer, f"{answer['jti']}: canceled by {moment(answer['ended_at'])} at the latest")


def renew(
    desk: Desk,
    id_: Id,
    changes: Annotated[Path | None, typer.Option("--changes", help="YAML or JSON: changed members.")] = None,
    valid_days: Annotated[int | None, typer.Option(help="How long the new one is to be valid.")] = None,
) -> None:
    """Apply for a license that takes this one's place when it is issued. Prints the application's id. Role: applicant."""
    changed = read_object(changes, "changes") if changes is not None else None
    answer = desk.ask("renew", id=_license(desk, id_), changes=changed, valid_days=valid_days)
    _entered(desk, answer)


def vary(
    desk: Desk,
    id_: Id,
    reason: Reason,
    changed_on: Annotated[str | None, typer.Option("--changed-on", help="Day of the change, e.g. 2026-11-22.")] = None,
    changes: Annotated[Path | None, typer.Option("--changes", help="YAML or JSON: changed members.")] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Put the change that waits into force (approver).")] = False,
) -> None:
    """Report a change of filed facts, with 10 working days to have it accepted; or accept one. Role: applicant, officer."""
    jti = _license(desk, id_)
    if accept:
        if changes is not None or changed_on is not None:
            raise FormError("accept: the change was reported already; leave --changes and --changed-on out")
        answer = desk.ask("accept-variation", id=jti, reason=reason)
        desk.say(answer, f"{jti}: {answer['state']}, with the changed terms")
        return
    if changes is None or changed_on is None:
        raise FormError("changes: give --changes FILE and --changed-on DAY, or --accept")
    answer = desk.ask("vary", id=jti, changed_on=changed_on, changes=read_object(changes, "changes"), reason=reason)
    desk.say(answer, f"{jti}: {answer['state']}, to be accepted by {moment(answer['due_at'])}")


def list_(
    desk: Desk,
    what: Annotated[str, typer.Argument(help="applications, licenses, permits, orders or gateways.")] = "applications",
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    after: Annotated[str | None, typer.Option(help="From the one behind this id: the next page.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 100,
) -> None:
    """List what there is. Applicants see their own applications."""
    answer = desk.ask("list", what=what, state=state, after=after, limit=limit)
    names = _COLUMNS.get(what, ())
    rows = [[plain(one.get(name) if one.get(name) is not None else "-") for name in names] for one in answer]
    desk.say(answer, *(table([[*names], *rows]) if rows else [f"no {what}"]))
    if len(answer) == limit and not desk.as_json:
        typer.echo(f"more: --after {rows[-1][0]}")


def show(desk: Desk, id_: Id) -> None:
    """Show an application, with what was issued for it."""
    answer = desk.ask("show", id=id_)
    lines = []
    for part, values in answer.items():
        lines.append(f"{part}:")
        lines += [
            f"  {name:<14} {plain(value)}" for name, value in values.items() if value not in (None, "", [], (), {})
        ]
    desk.say(answer, *lines)


def history(
    desk: Desk,
    id_: Id,
    html: Annotated[Path | None, typer.Option("--html", help="Write it as a page here.")] = None,
) -> None:
    """Tell the story of an application or license: who did what, when and why."""
    answer = desk.ask("history", id=id_)
    if html is not None:
        write(html, answer["html"])
        desk.say(answer, str(html))
        return
    desk.say(answer, answer["text"].rstrip("\n"))


_COLUMNS = {
    "applications": ("id", "state", "kind", "applicant", "regime", "license"),
    "licenses": ("jti", "state", "model", "holder", "list_name", "idx", "reason"),
    "permits": ("jti", "state", "application"),
    "orders": ("ref", "scope", "effective_at", "lifted_at", "models", "modalities", "jurisdictions"),
    "gateways": ("name", "operator", "thumbprint", "streams", "withdrawn_at"),
}


def _ended(desk: Desk, name: str, id_: str, reason: str) -> None:
    jti = _license(desk, id_)
    answer = desk.ask(name, id=jti, reason=reason)
    desk.say(answer, f"{jti}: {answer['state']}{'' if desk.publish or desk.url else '; next: publish'}")


def _license(desk: Desk, id_: str) -> str:
    """The license's id, also when the application was named."""
    found = desk.ask("show", id=id_)
    license_ = found.get("license")
    if license_ is None:
        raise FormError(f"id: no license was issued for {id_} yet; see `licet authority show {id_}`")
    return str(license_["jti"])


def _issued(desk: Desk, answer: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        write(out, desk.ask("token", id=answer["jti"])["jws"] + "\n")
    lines = [f"{answer['jti']}: valid {moment(answer['nbf'])} to {moment(answer['exp'])}"]
    lines += [f"written to {out}"] if out is not None else []
    desk.say(answer, *lines)


def _entered(desk: Desk, application: dict[str, Any]) -> None:
    """The id alone goes to the output, so that a script can take it: ID=$(licet authority submit ...)."""
    desk.say(application, application["id"])
    if not desk.as_json:
        state = application["state"]
        typer.echo(f"state {state}; next: {'hand-in' if state == 'draft' else 'complete'}", err=True)


def _result(words: list[str]) -> dict[str, Any]:
    """An assessment's result from words: passed, failed, or a share by name."""
    made: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign and name in ("passed", "failed"):
            made["passed"] = name == "passed"
            continue
        try:
            made[name] = float(value)
        except ValueError as error:
            raise FormError(f"result: {word[:40]!r} is neither passed, failed nor e.g. gen_pass=0.97") from error
    return made


_COMMANDS = (
    ("submit", submit, False),
    ("amend", amend, False),
    ("hand-in", hand_in, False),
    ("withdraw", withdraw, True),
    ("complete", complete, False),
    ("assess", assess, False),
    ("decide", decide, True),
    ("confirm", confirm, True),
    ("decline", decline, False),
    ("issue", issue, True),
    ("provisional", provisional, True),
    ("suspend", suspend, True),
    ("lift", lift, True),
    ("revoke", revoke, True),
    ("cancel", cancel, True),
    ("end-service", end_service, False),
    ("renew", renew, False),
    ("vary", vary, True),
    ("list", list_, False),
    ("show", show, False),
    ("history", history, False),
)
