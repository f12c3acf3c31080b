"""One application or license as a person reads it: who did what and when, why, under which conditions, and what orders
touched it. As plain text for a terminal and as an HTML page; everything that somebody typed is made harmless in both.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.authority.model import Application, Event, License
from gateway.license.claims import ALL
from gateway.license.orders import Order, Target, reaches
from gateway.shown_time import shown_s

VALUE_CHARS_MAX = 300  # our choice: the log holds all of it, a page need not
# What a step is called in a sentence that begins with a name. A step that is not here is shown under its own name.
WORDS: Mapping[str, str] = {
    "submit": "applied",
    "amend": "changed the application",
    "withdraw": "withdrew the application",
    "check_completeness": "looked whether the application is complete",
    "accept": "found the application complete",
    "attach_assessment": "attached an assessment",
    "approve": "approved",
    "approve_conditional": "approved under conditions",
    "reject": "rejected",
    "draft": "began an application",
    "decide": "decided; a second person has to confirm",
    "decline": "declined to confirm the decision",
    "issue_provisional": "issued a provisional license",
    "issue": "issued the license",
    "suspend": "suspended the license",
    "lift": "lifted the suspension",
    "revoke": "revoked the license",
    "cancel": "canceled the license",
    "end_service": "reported the end of the service",
    "renew": "applied for a renewal",
    "supersede": "put a newer license in its place",
    "begin_variation": "reported a change",
    "complete_variation": "accepted the change",
    "expire": "let the license end",
    "lapse_variation": "suspended the license: the change was not accepted in time",
    "audit_overdue": "suspended the license: an audit is overdue",
    "cancel_ended": "canceled the license: the service has ended",
    "order": "gave an order",
    "lift_order": "lifted an order",
    "grant_permit": "granted a training permit",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One step. `notes` are what goes with it, name and value."""

    at: int
    who: str
    what: str
    notes: tuple[tuple[str, str], ...] = ()
    seq: int | None = None  # of the log's entry


@dataclass(frozen=True, slots=True)
class History:
    """A record's story, oldest step first."""

    title: str
    facts: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """For a terminal."""
        width = max((len(name) for name, _ in self.facts), default=0)
        out = [self.title, "=" * min(len(self.title), 100)]
        out += [f"{name:<{width}}  {value}" for name, value in self.facts]
        out.append("")
        for line in self.lines:
            number = "" if line.seq is None else f"  [log {line.seq}]"
            out.append(f"{moment(line.at)}  {line.who} {line.what}{number}")
            out += [f"{'':22}{name}: {value}" for name, value in line.notes]
        return "\n".join(out) + "\n"

    @property
    def page(self) -> str:
        """A whole HTML page, without scripts and without anything from elsewhere."""
        facts = "".join(f"<dt>{_html(name)}</dt><dd>{_html(value)}</dd>" for name, value in self.facts)
        steps = "".join(_step(line) for line in self.lines)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{_html(self.title)}</title><style>{_STYLE}</style></head><body><main>"
            f"<h1>{_html(self.title)}</h1><dl>{facts}</dl><h2>What happened</h2><ol>{steps}</ol></main></body></html>\n"
        )


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:50rem;padding:0 1rem;color:#1a1a1a}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{color:#555}dd{margin:0;overflow-wrap:anywhere}"
    "ol{list-style:none;padding:0}li{border-left:3px solid #bbb;padding:.1rem 0 .6rem 1rem}"
    "time{color:#555;font-variant-numeric:tabular-nums;margin-right:.6rem}small{color:#555}ul{margin:.2rem 0;padding-left:1.2rem;overflow-wrap:anywhere}"
)


def history(
    application: Application | None,
    licenses: Sequence[License],
    events: Iterable[Event],
    orders: Sequence[Order] = (),
) -> History:
    """The story of an application and of what was issued for it."""
    lines = [_line(event) for event in sorted(events, key=lambda event: event.seq)]
    terms = _terms(application)
    for order in orders:
        if any(touches(order, terms, one.jti) for one in licenses):
            lines += _order_lines(order)
    lines = _in_order(lines)
    if application is not None:
        title = f"Application {application.id}"
    else:
        title = f"License {licenses[0].jti}" if licenses else "Nothing is known of this"
    return History(plain(title), tuple(_facts(application, licenses, terms)), tuple(lines))


def _in_order(lines: Sequence[Line]) -> list[Line]:
    """Steps as the log has them, whatever its clock said; orders where their time belongs among them."""
    reached = 0
    keys = []
    for at, line in enumerate(lines):
        reached = line.at if line.seq is None else max(reached, line.at)
        keys.append((reached, line.seq is None, at))
    return [lines[at] for *_, at in sorted(keys)]


def touches(order: Order, terms: Mapping[str, Any], jti: str) -> bool:
    """Whether an order is about such a license, at whatever time: as the gate sees it, for any of its uses."""
    used = {*terms.get("modalities_in", ()), *terms.get("modalities_out", ())}
    places = tuple(map(str, terms.get("jurisdictions", ())))
    target = Target(
        names=frozenset({str((terms.get("model") or {}).get("name", "")).lower(), jti.lower()}),
        modalities=frozenset(str(name).lower() for name in (used | set(order.modalities) if ALL in used else used)),
        territories=() if ALL in places else places,
        caller_since_s=None,
    )
    return reaches(order, target)


def moment(seconds: int) -> str:
    """A time as people read it, in UTC."""
    return shown_s(seconds, zone=True)


def plain(value: object) -> str:
    """A value on one line, bounded, with nothing in it that steers a terminal or turns text around."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: VALUE_CHARS_MAX + 1])
    return shown if len(shown) <= VALUE_CHARS_MAX else shown[:VALUE_CHARS_MAX] + "…"


def _terms(application: Application | None) -> Mapping[str, Any]:
    found = application.form.get("license") if application is not None else None
    return found if isinstance(found, Mapping) else {}


def _facts(
    application: Application | None, licenses: Sequence[License], terms: Mapping[str, Any]
) -> Iterable[tuple[str, str]]:
    if application is not None:
        yield "state", plain(application.state.value)
        yield "kind", application.kind
        yield "applicant", plain(application.applicant)
        if application.regime:
            yield "regime", plain(application.regime)
        if terms:
            yield "model", plain(str(terms.get("model", {}).get("name", "")))
            yield "holder", plain(str((terms.get("holder") or {}).get("legal_name", "")))
        if application.pending is not None:
            waits = f"{application.pending.outcome} by {application.pending.by}, waits for a second person"
            yield "decision", plain(waits)
        for condition in application.conditions:
            yield "condition", plain(condition)
    for one in licenses:
        reason = f" ({plain(one.reason)})" if one.reason else ""
        yield "license", f"{plain(one.jti)}: {one.state.value}{reason}, {moment(one.nbf)} to {moment(one.exp)}"
        if one.due_at is not None:
            yield "clock", f"{moment(one.due_at)}: end of the time for a change"
        if one.audit_by is not None:
            yield "audit", f"due by {moment(one.audit_by)}"


def _line(event: Event) -> Line:
    notes = (
        [("status", f"{event.before or 'none'} -> {event.after}")] if event.after not in (None, event.before) else []
    )
    notes += [(plain(name), plain(value)) for name, value in event.detail.items() if value not in (None, "", [], {})]
    notes += [(plain(name), plain(value)) for name, value in event.digests.items()]
    roles = f" ({', '.join(event.roles)})" if event.roles else ""
    what = WORDS.get(event.action, event.action.replace("_", " "))
    return Line(event.at, plain(event.actor + roles), plain(what), tuple(notes), event.seq)


def _order_lines(order: Order) -> Iterable[Line]:
    who = plain(order.authority or "an authority")
    notes: list[tuple[str, str]] = [("scope", order.scope)]
    notes += [("reason", plain(order.reason))] if order.reason else []
    if order.jurisdictions:
        notes.append(("jurisdictions", plain(", ".join(order.jurisdictions))))
    yield Line(order.effective_at, who, f"put order {plain(order.ref)} in force", tuple(notes))
    if order.lifted_at is not None:
        yield Line(order.lifted_at, who, f"ended order {plain(order.ref)}")


def _step(line: Line) -> str:
    notes = "".join(f"<li>{_html(name)}: {_html(value)}</li>" for name, value in line.notes)
    number = "" if line.seq is None else f" <small>log {line.seq}</small>"
    more = f"<ul>{notes}</ul>" if notes else ""
    return f"<li><time>{_html(moment(line.at))}</time><b>{_html(line.who)}</b> {_html(line.what)}{number}{more}</li>"


def _html(text: str) -> str:
    return html.escape(text, quote=True)
