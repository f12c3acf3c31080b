"""Q15, Q16, Q17 and Q22: answers that were delivered, and their marks. Nothing marks answers yet, which is told."""

# ruff: noqa: S608  # what is put into statements are names and conditions of this room; values are parameters

from __future__ import annotations

from gateway.history.port import Value
from gateway.reports.content import marks
from gateway.reports.documents import Documents
from gateway.reports.model import (
    IN_PERIOD,
    NOT_COLLECTED,
    SERVED,
    Answer,
    Asked,
    Missing,
    Parameter,
    ReportError,
    Row,
    Source,
    record_id,
    stated,
    when,
)
from gateway.reports.registry import NONE, PARTLY, report
from policies.territories import EU, lies_in

_LABELS = "labels on answers (explicit and implicit marks, and their read-back)"


@report(
    "Q15",
    "Which call made this",
    "Given a file or `ProduceID`: which trace, license, model digest, label, waiver made it? (detector reverse look-up)",
    ("time", "call", "model", "tenant", "license", "license digest", "served model", "model digest", "outcome", "policy", "label", "waiver", "ProduceID"),
    missing=(Missing("label", _LABELS), Missing("waiver", _LABELS), Missing("ProduceID", _LABELS)),
    parameters=(Parameter("digest", "keyed digests of the text, joined by commas, as `licet audit match` prints them", required=True),),
    answered=PARTLY,
)  # fmt: skip
def q15(source: Source, asked: Asked) -> Answer:
    """Calls that delivered a text of that keyed digest. Who has the digest key makes the digest of a text with `licet audit match`; the model digest is that of the kept license. Answers of
    policies with `record.content: none` have no digests, and texts without letters or digits are not told apart."""
    digests = [part.strip() for part in asked.text("digest").split(",") if part.strip()]
    if not digests:
        raise ReportError("digest: is empty; give what `licet audit match` prints")
    documents, rows = Documents(source.data), []
    where = (
        f"FROM calls c WHERE {IN_PERIOD} AND (c.stream, c.intent) IN (SELECT t.stream, t.intent FROM texts t"
        f" WHERE t.digest IN ({', '.join('?' for _ in digests)}))"
    )
    columns = "c.stream, c.intent, c.outcome, c.ts, c.call_id, c.model, c.tenant, c.license, c.license_digest, c.served_model, c.decision, c.policy_digest"
    found, in_all = source.listed(columns, where, (asked.since_ms, asked.until_ms, *digests))
    for stream, intent, outcome, ts, call, model, tenant, license_, digest, served, decision, policy in found:
        claims = documents.claims(digest)
        weights = claims.license.model.weights if claims is not None else None
        told: tuple[Value, ...] = (when(ts), call, model, tenant, stated(license_), stated(digest), stated(served))
        told += (stated(weights.root_digest if weights is not None else None), decision, policy, *(NOT_COLLECTED,) * 3)
        rows.append(Row(told, (record_id(stream, intent), record_id(stream, outcome))))
    undigested = source.count(
        f"FROM calls c WHERE {IN_PERIOD} AND {SERVED} AND c.answer_digest = ''", *(asked.since_ms, asked.until_ms)
    )
    remarks = (
        [f"Served calls of the period whose answers have no digest, in which nothing can be found: {undigested:,}."]
        if undigested
        else []
    )
    return Answer(rows, remarks, rows_in_all=in_all)


@report(
    "Q16",
    "Delivered without an explicit label",
    "Outputs delivered without explicit label; for each the agreement version and recipient ref.",
    ("delivered answers", "without explicit label", "agreement version", "recipient"),
    missing=(
        Missing("without explicit label", _LABELS),
        Missing("agreement version", "label waivers, which hold the agreement and the recipient"),
        Missing("recipient", "label waivers, which hold the agreement and the recipient"),
    ),
    answered=NONE,
)
def q16(source: Source, asked: Asked) -> Answer:
    """How many answers were delivered. Whether they were labeled is not recorded: this gateway puts no labels on answers yet."""
    served = source.count(f"FROM calls c WHERE {IN_PERIOD} AND {SERVED}", asked.since_ms, asked.until_ms)
    return Answer([Row((served, NOT_COLLECTED, NOT_COLLECTED, NOT_COLLECTED))])


@report(
    "Q17",
    "Delivered although a label failed",
    "Outputs where label write/read-back failed and were still delivered (must be 0).",
    ("delivered answers", "labels that failed", "delivered nevertheless"),
    missing=(Missing("labels that failed", _LABELS), Missing("delivered nevertheless", _LABELS)),
    answered=NONE,
)
def q17(source: Source, asked: Asked) -> Answer:
    """How many answers were delivered. No label is written, and so none is read back."""
    served = source.count(f"FROM calls c WHERE {IN_PERIOD} AND {SERVED}", asked.since_ms, asked.until_ms)
    return Answer([Row((served, NOT_COLLECTED, NOT_COLLECTED))])


@report(
    "Q22",
    "Deep fakes without a label in the EU",
    "Deep-fake or public-interest text delivered in EU with neither label nor editorial reference.",
    ("answers delivered in the EU", "deep-fake or public-interest", "label", "editorial reference"),
    missing=(
        Missing("deep-fake or public-interest", "a class of content (`content_class`) that policies or callers state"),
        Missing("label", _LABELS),
        Missing("editorial reference", "callers' claims with a signature (`editorial_ref`)"),
    ),
    answered=NONE,
)
def q22(source: Source, asked: Asked) -> Answer:
    """How many answers were delivered to the territory `eu`, a member state or a part of one. What they are about, and how they were marked, is not recorded."""
    told = source.ask("SELECT DISTINCT territory FROM territories")
    here = sorted({EU, *(code for (code,) in told if lies_in(code.lower(), (EU,)))})
    served = source.count(
        f"FROM calls c WHERE {IN_PERIOD} AND {SERVED} AND EXISTS (SELECT 1 FROM territories t WHERE t.stream = c.stream"
        f" AND t.intent = c.intent AND t.territory IN ({marks(here)}))",
        *(asked.since_ms, asked.until_ms, *here),
    )
    return Answer([Row((served, NOT_COLLECTED, NOT_COLLECTED, NOT_COLLECTED))])
