"""Clocks that run out: when a license, a list, a permit, a filing or an audit is due, and who has to be told.

Pure functions over facts, without a clock of their own. Terms in working days are those of the rules that each `Clock`
names; a term that ends in years whose days off are not known yet says so and is reckoned from Monday to Friday, which
for China is never late but for a make-up day at a weekend. `Alarms` remembers what was said, so that each alarm rings
once: 30, 7 and 1 days ahead and at the end, as far as the clock runs that long at all.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.license.claims import Claims
from gateway.license.conditions import AuditBy, read_condition
from gateway.license.permits import Permit
from gateway.license.published import Published
from gateway.license.standing import Standing
from gateway.metrics import Gauge
from policies.coming import Break
from policies.model import LicenseRules
from policies.workdays import CHINA, beyond, deadline_s, last_year

DAY_S = 86_400
LEADS_DAYS = (30, 7, 1)  # alarms ring so many days ahead, and at the end
REGISTRATION_WD = 10  # Algorithm Provisions, article 24: filing within ten working days of the start of service
VARIATION_WD = 10  # the same article: within ten working days of a change of what was filed
CANCELLATION_WD = 20  # the same article: within twenty working days of the end of service
LEXICON_DAYS = 7  # GB/T 45654-2025: keywords are to be renewed at least once a week
SUBMITTED, VARIATION, CANCELLED = "submitted", "variation_pending", "cancelled"  # states of a license
SHOWN_MAX = 500  # clocks in metrics, the next due; our choice
SUBJECT_CHARS_MAX = 128  # of a label
TOPIC = "clock"
_FILED_IN = "cn-"  # regimes whose terms are China's


class State(enum.StrEnum):
    """How a clock stands."""

    OK = "ok"
    SOON = "soon"  # the first alarm has rung
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Clock:
    """Something that is due. Times are seconds since 1970."""

    name: str
    subject: str  # of what: a license's id, a list's address, a lexicon's name
    due_s: int
    rule: str  # what makes it due
    since_s: int | None = None  # when it began to run; None: long ago

    def state(self, now_s: float) -> State:
        """How it stands now."""
        lead = self.lead_days(now_s)
        return State.OK if lead is None else State.OVERDUE if lead == 0 else State.SOON

    def lead_days(self, now_s: float) -> int | None:
        """The last alarm that is reached: 30, 7, 1, or 0 for the end; None: none yet.

        A lead that is more than half of the clock's whole run is passed over: a list that is renewed each day is no news.
        """
        if now_s >= self.due_s:
            return 0
        left_s = self.due_s - now_s
        return min((lead for lead in self._leads() if left_s <= lead * DAY_S), default=None)

    def _leads(self) -> Iterator[int]:
        for lead in LEADS_DAYS:
            if self.since_s is None or lead * DAY_S * 2 <= self.due_s - self.since_s:
                yield lead


def license_clocks(claims: Claims, rules: LicenseRules) -> list[Clock]:
    """What is due for one license, under the policy's rules."""
    made = [Clock("license_expiry", claims.jti, claims.exp, "`exp` of the license", claims.nbf)]
    made += _filing_clocks(claims, rules)
    for raw in claims.license.conditions:
        condition = read_condition(raw)
        if isinstance(condition, AuditBy):
            rule = "the condition `audit_by` of the license"
            made.append(Clock("audit", claims.jti, condition.at, rule, claims.iat))
    return made


def _filing_clocks(claims: Claims, rules: LicenseRules) -> Iterator[Clock]:
    terms = claims.license
    filing = terms.filing
    if filing is None:
        return
    calendar = rules.calendar or (CHINA if (terms.regime or "").startswith(_FILED_IN) else "")
    if filing.launched_at is not None and terms.state == SUBMITTED:
        days = REGISTRATION_WD if rules.grace_workdays is None else max(0, rules.grace_workdays)
        yield _workdays("registration", claims, filing.launched_at, days, calendar, "the launch")
    # A change is filed once something was submitted for it, on that day or later. ISO dates compare as text.
    told = max(filing.submitted_at or "", filing.filed_at or "")
    if filing.changed_at is not None and (terms.state == VARIATION or told < filing.changed_at):
        yield _workdays("variation", claims, filing.changed_at, VARIATION_WD, calendar, "the change")
    if filing.ended_at is not None and terms.state != CANCELLED:
        yield _workdays("cancellation", claims, filing.ended_at, CANCELLATION_WD, calendar, "the end of service")


def _workdays(name: str, claims: Claims, text: str, days: int, calendar: str, what: str) -> Clock:
    rule = f"{days} working days after {what} on {text}"
    try:
        start = datetime.date.fromisoformat(text)
    except ValueError:  # 2026-02-30: doubt counts as run out
        return Clock(name, claims.jti, claims.iat, f"{rule}, which is no day", claims.iat)
    if beyond(start, days, calendar):
        rule += f"; days off after {last_year(calendar)} are not known yet"
    since_s = (start - datetime.date(1970, 1, 1)).days * DAY_S
    return Clock(name, claims.jti, deadline_s(start, days, calendar), rule, since_s)


def policy_clocks(breaks: Iterable[Break]) -> list[Clock]:
    """When policies end that break rows of their presets which begin later on."""
    return [Clock("policy_row", f"{one.policy} {one.key}", one.due_s, f"{one.what}; {one.remedy}") for one in breaks]


def permit_clock(permit: Permit) -> Clock:
    """When a training permit ends."""
    return Clock("permit_expiry", permit.id, permit.exp, "`exp` of the training permit", permit.nbf)


def list_clock(kind: str, published: Published, subject: str) -> Clock:
    """When a published list ends: `status_list`, `orders` or `gateways`."""
    return Clock(f"{kind}_expiry", subject, published.exp, "`exp` of the signed list", published.iat)


def standing_clocks(standing: Standing) -> list[Clock]:
    """When the lists in force end."""
    return [
        *(list_clock("status_list", one, one.uri) for one in standing.statuses.values()),
        *(list_clock("orders", one, one.iss) for one in standing.orders),
        *(list_clock("gateways", one, one.iss) for one in standing.gateways.values()),
    ]


def metadata_clocks(expires_at_s: Mapping[str, int], *, since_s: Mapping[str, int] | None = None) -> list[Clock]:
    """When the metadata of an authority's repository ends, by role.

    `since_s`: when each was first seen. Without it the role says how long such metadata commonly lasts: root and targets
    are signed by people for months, the others by a machine for hours or days, where only the end is news.
    """
    made = []
    for role, due_s in sorted(expires_at_s.items()):
        since = (since_s or {}).get(role, None if role in ("root", "targets") else due_s)
        made.append(Clock("metadata_expiry", role, due_s, "the repository's signed metadata", since))
    return made


def lexicon_clock(name: str, updated_s: int, *, days: int = LEXICON_DAYS) -> Clock:
    """When a lexicon has to be renewed."""
    rule = f"renewed at least every {days} days"
    return Clock("lexicon", name, updated_s + days * DAY_S, rule, updated_s)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A clock that reached a lead."""

    clock: Clock
    lead_days: int  # 0: it has run out

    @property
    def text(self) -> str:
        """For the log."""
        when = datetime.datetime.fromtimestamp(min(self.clock.due_s, 253_402_300_799), datetime.UTC)
        clock = self.clock
        name = clock.name.replace("_", " ")
        if self.lead_days == 0:
            return f"{name} of {clock.subject}: overdue since {when:%Y-%m-%d %H:%M} UTC ({clock.rule})"
        days = "a day" if self.lead_days == 1 else f"{self.lead_days} days"
        return f"{name} of {clock.subject}: due {when:%Y-%m-%d %H:%M} UTC, within {days} ({clock.rule})"

    @property
    def detail(self) -> dict[str, str | int | bool]:
        """For a note on `clock` in the journal."""
        clock = self.clock
        return {
            "clock": clock.name,
            "subject": clock.subject[:SUBJECT_CHARS_MAX],
            "due_s": clock.due_s,
            "lead_days": self.lead_days,
            "rule": clock.rule[:256],
        }


class Alarms:
    """What was said already. Holds no more than the clocks it is shown."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], tuple[int, int]] = {}  # due_s and lead

    def ring(self, clocks: Iterable[Clock], now_s: float) -> list[Alarm]:
        """The alarms that are new. A clock that was put off begins anew."""
        said: dict[tuple[str, str], tuple[int, int]] = {}
        rung: list[Alarm] = []
        for clock in clocks:
            lead = clock.lead_days(now_s)
            if lead is None:
                continue
            key = (clock.name, clock.subject)
            before = self._said.get(key)
            # A time that goes back a little does not take an alarm back.
            reached = min(lead, before[1]) if before is not None and before[0] == clock.due_s else lead
            said[key] = (clock.due_s, reached)
            if before is None or before[0] != clock.due_s or reached < before[1]:
                rung.append(Alarm(clock, reached))
        self._said = said
        return rung


def by_due(clocks: Iterable[Clock]) -> list[Clock]:
    """The next due first, each once."""
    return sorted(set(clocks), key=lambda clock: (clock.due_s, clock.name, clock.subject))


def measure(gauge: Gauge, clocks: Sequence[Clock], now_s: float) -> None:
    """Show the seconds left, below 0 where overdue, of the clocks that are due next; those that are gone disappear."""
    gauge.series.values.clear()
    for clock in reversed(by_due(clocks)[:SHOWN_MAX]):  # of two with one label the one due next holds
        gauge.set_(clock.due_s - now_s, clock.name, clock.subject[:SUBJECT_CHARS_MAX])
