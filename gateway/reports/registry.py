"""The list of reports, and the one call that makes an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.history.port import Completeness
from gateway.reports.model import Answer, Asked, Missing, Parameter, ReportError, Row, Source

Function = Callable[[Source, Asked], Answer]
WHOLE, PARTLY, NONE = "answered", "partly", "not collected"


@dataclass(frozen=True, slots=True)
class Named:
    """One of the questions."""

    id: str  # Q01 .. Q24
    title: str
    question: str
    columns: tuple[str, ...]
    make: Function
    missing: tuple[Missing, ...] = ()  # what nothing fills, whatever is asked
    parameters: tuple[Parameter, ...] = ()
    answered: str = WHOLE  # WHOLE | PARTLY | NONE: how much of the question the product can answer

    @property
    def rests_on(self) -> str:
        """What the answer is made from."""
        return " ".join((self.make.__doc__ or "").split())


@dataclass(frozen=True, slots=True)
class Result:
    """An answer with all that belongs to it."""

    id: str
    title: str
    question: str
    since_ms: int
    until_ms: int
    parameters: Mapping[str, str]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    rows_in_all: int
    answered: str
    not_collected: tuple[Missing, ...]
    remarks: tuple[str, ...]
    breaches: int
    completeness: Completeness
    rests_on: str

    @property
    def clean(self) -> bool:
        """Whether nothing was found that must not be, in all that there is."""
        return not self.breaches and self.completeness.complete


_named: dict[str, Named] = {}


def report(
    id_: str,
    title: str,
    question: str,
    columns: Sequence[str],
    *,
    missing: Sequence[Missing] = (),
    parameters: Sequence[Parameter] = (),
    answered: str = WHOLE,
) -> Callable[[Function], Function]:
    """Put a function on the list."""

    def put(make: Function) -> Function:
        assert id_ not in _named
        _named[id_] = Named(id_, title, question, tuple(columns), make, tuple(missing), tuple(parameters), answered)
        return make

    return put


def reports() -> list[Named]:
    """All of them, by id."""
    # Each file puts its own on the list when it is read; all are read here, and nowhere at import, for they need this file.
    from gateway.reports import (  # noqa: F401
        authority,
        changed,
        content,
        grants,
        judged,
        licensing,
        outputs,
        people,
        soundness,
    )

    return [_named[id_] for id_ in sorted(_named)]


def find(id_: str) -> Named:
    """The report of that id, in whatever case. Raises ReportError."""
    known = {one.id: one for one in reports()}
    found = known.get(id_.upper())
    if found is None:
        raise ReportError(f"there is no report {id_[:20]!r}; write one of {', '.join(known)}")
    return found


def by_option(name: str) -> str:
    """How a parameter is given at the command line."""
    return f"--{name}" if name in ("from", "to") else f"--param {name}=..."


def by_query(name: str) -> str:
    """How it is given over HTTP."""
    return f"the query parameter `{name}`"


def make(source: Source, id_: str, asked: Asked, *, given_by: Callable[[str], str] = by_option) -> Result:
    """The answer to one question. Raises ReportError, which names parameters as they are given, and what the tables raise."""
    named = find(id_)
    known = {one.name for one in named.parameters}
    for name in asked.parameters:
        if name not in known:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise ReportError(f"{name[:40]}: {named.id} has no such parameter; {takes}")
    for one in named.parameters:
        if one.required and not asked.parameters.get(one.name):
            raise ReportError(f"{one.name}: {named.id} needs it ({one.help}); give {given_by(one.name)}")
    if asked.since_ms >= asked.until_ms:
        order = f"put {given_by('from')} before {given_by('to')}"
        raise ReportError(f"from: the period ends before it begins; {order}")
    completeness = source.tables.completeness()  # before: what is taken in later is asked as well, and not promised
    answer = named.make(source, asked)
    for row in answer.rows:
        assert len(row.values) == len(named.columns), named.id
    in_all = len(answer.rows) if answer.rows_in_all is None else answer.rows_in_all
    remarks = list(answer.remarks)
    if in_all > len(answer.rows):
        remarks.insert(0, f"These are the first {len(answer.rows):,} of {in_all:,} rows; ask for a shorter period.")
    return Result(
        id=named.id,
        title=named.title,
        question=named.question,
        since_ms=asked.since_ms,
        until_ms=asked.until_ms,
        parameters=dict(asked.parameters),
        columns=named.columns,
        rows=tuple(answer.rows),
        rows_in_all=in_all,
        answered=named.answered,
        not_collected=(*named.missing, *answer.missing),
        remarks=tuple(remarks),
        breaches=answer.breaches,
        completeness=completeness,
        rests_on=named.rests_on,
    )
