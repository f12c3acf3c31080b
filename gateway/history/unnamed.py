"""Why an answer is empty: values that no call has, at whatever time. A misspelled model would else read as a finding.

Decisions and reasons are words of ours, and unknown ones are refused before anything is asked (`ask.check`). Names of models, tenants and entities
come from settings that change, so only the records know them.
"""

from __future__ import annotations

from gateway.history.port import AuditQuery, Query
from gateway.printable import printable

_FIELDS = ("models", "licenses", "tenants", "jurisdictions", "entities", "ids")
ASKED_MAX = 16  # values that are looked for, one question each. Our choice


def unnamed(history: AuditQuery, query: Query) -> tuple[str, ...]:
    """A sentence for each value that is in no call. For a question that found nothing. Raises HistoryError."""
    values = [(field, value) for field in _FIELDS for value in sorted(getattr(query, field))]
    if not values:
        return ()
    pruned = any(one.first for one in history.completeness().streams)
    here = "no call that is still here" if pruned else "no call of any time"
    return tuple(
        f"{field.removesuffix('s') if field != 'entities' else 'entity'}: {here} has `{printable(value[:64])}`"
        for field, value in values[:ASKED_MAX]
        if not history.count(Query(**{field: frozenset({value})})).total  # type: ignore[arg-type]  # the fields are sets of texts
    )
