"""Q20: whether the log is sound, as the verifier says that a regulator can run alone."""

# what is put into statements are names and conditions of this room; values are parameters

from __future__ import annotations

from collections.abc import Iterator

from gateway.audit.sealed import log_dir
from gateway.reports.model import Answer, Asked, Missing, Parameter, ReportError, Row, Source
from gateway.reports.registry import report
from gateway.tlog import frames
from gateway.tlog.note import NoteError, VerifierKey, parse_key
from gateway.tlog.verify import StreamReport, Trust, check


@report(
    "Q20",
    "The log's soundness",
    "Verify chain T1..T2: gaps, bad hashes, checkpoint signatures, external anchors.",
    ("log", "state", "records", "calls", "open calls", "sealed", "pruned", "signed by", "witnesses", "first bad record", "what is wrong", "remarks"),
    parameters=(
        Parameter("key", "verifier keys that are trusted, joined by commas, as `licet audit key` prints them; left out: none is trusted"),
        Parameter("witness", "verifier keys of witnesses, joined by commas"),
        Parameter("required", "how many of the witnesses must have cosigned; left out: 0"),
    ),
)  # fmt: skip
def q20(source: Source, asked: Asked) -> Answer:
    """What `licet audit verify` says of the journals and sealed logs on this disk: frames, numbering, hashes, tiles, signatures, cosignatures, heads that fleet logs name, and that each intent has its outcome. A log is
    verified whole, whatever the period; of streams those are told that were open in it. Without `key` this shows damage and contradictions, not who signed. A breach is a log that is damaged."""
    folders = [one for one in source.data if frames.journal_dir(one).is_dir() or log_dir(one).is_dir()]
    if not folders:
        why = (
            "No log is on this disk: give the gateways' own folders with --data, or run `licet-verify` where they are."
        )
        return Answer([], [why], missing=[Missing("rows", "the logs of the gateways, which are not on this disk")])
    trust = _trust(asked)
    told = check(folders, trust)
    wanted = _open(source, asked)
    known = {stream for (stream,) in source.ask("SELECT stream FROM streams")}
    damaged = {one.stream for one in (*told.fleets, *told.streams) if one.problem is not None}
    shown = [one for one in told.streams if one.stream in wanted or one.stream not in known or one.stream in damaged]
    rows = [_row(one) for one in (*told.fleets, *shown)]
    signed = all(one.signed_by for one in (*told.fleets, *shown)) if trust.keys else None
    remarks = [told.limits, *told.remarks]
    if signed is False:
        remarks.append("Of some logs no head is signed by a key that was given.")
    return Answer(rows, remarks, breaches=len(damaged))


def _trust(asked: Asked) -> Trust:
    try:
        return Trust(tuple(_keys(asked, "key")), tuple(_keys(asked, "witness")), asked.number("required", 0))
    except ValueError as error:
        raise ReportError(str(error)) from error


def _keys(asked: Asked, name: str) -> Iterator[VerifierKey]:
    for part in asked.text(name).split(","):
        if part.strip():
            try:
                yield parse_key(part.strip())
            except NoteError as error:
                raise ReportError(f"{name}: {error}; give what `licet audit key` prints") from error


def _open(source: Source, asked: Asked) -> set[str]:
    """Streams that were written in the period."""
    return {
        stream
        for (stream,) in source.ask(
            "SELECT stream FROM streams WHERE coalesce(started, 0) < ? AND coalesce(ended, ?) >= ?",
            *(asked.until_ms, asked.since_ms, asked.since_ms),
        )
    }


def _row(one: StreamReport) -> Row:
    problem = one.problem
    values = (
        one.stream,
        one.state,
        one.records,
        one.calls,
        len(one.open_calls),
        one.sealed,
        one.pruned,
        ", ".join(one.signed_by) or "no trusted key",
        ", ".join(one.witnesses) or "none",
        "none" if problem is None else problem.record,
        "nothing" if problem is None else problem.problem,
        "; ".join(one.remarks) or "none",
    )
    return Row(values, one.open_calls if problem is None else (problem.record, *one.open_calls))
