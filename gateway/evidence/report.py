"""The report of a pack for people: one HTML page that needs nothing else, on a screen or on paper.

Records hold texts from outside, so all of it is escaped, and the page's own policy (CSP) forbids scripts and every load. It is made from what
the pack holds and proves nothing by itself; it says how to check what does.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.audit.sealed import is_fleet_log
from gateway.evidence.charts import bars, over_time, shown
from gateway.evidence.summary import Summary
from gateway.history.tables import CallRow
from gateway.shown_time import shown_ms, shown_s

MISSING_SHOWN = 200  # our choice: the manifest has all
_DOCUMENTS_SHOWN = 500
_STREAMS_SHOWN = 200

_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;max-width:1000px;margin:2em auto;padding:0 1em}
h1{font-size:1.6em;margin-bottom:.2em}h2{font-size:1.2em;margin-top:2em;border-bottom:1px solid #ccc}
table{border-collapse:collapse;width:100%;font-size:12.5px}th,td{text-align:left;padding:.25em .5em;border-bottom:1px solid #ddd;vertical-align:top;overflow-wrap:break-word}
th{background:#f3f3f3}td.n,th.n{text-align:right;white-space:nowrap}code{font-size:.92em;overflow-wrap:anywhere}
svg{width:100%;height:auto;font:12px system-ui,sans-serif}svg.box{width:12px;height:12px;margin-right:.4em}
.legend{list-style:none;padding:0;margin:.3em 0;display:flex;flex-wrap:wrap;gap:.2em 1.2em}
.state{padding:.6em 1em;border-left:6px solid #009e73;background:#f0f8f5}.state.bad{border-color:#d55e00;background:#fdf3ec}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2em 1em}dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}
@media print{body{margin:0;max-width:none;font-size:11px}h2{break-after:avoid}tr,svg{break-inside:avoid}thead{display:table-header-group}table{font-size:9px}}
"""
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; form-action 'none'"


def page(manifest: Mapping[str, Any], summary: Summary, calls: Sequence[CallRow]) -> str:
    """The whole page. `calls`: the first ones, in order."""
    completeness = manifest["completeness"]
    complete = completeness["complete"] and not manifest["missing"]
    title = f"Evidence pack of {', '.join(manifest['gateways']) or 'no gateway'}"
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">',
            f"<title>{shown(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{shown(title)}</h1>",
            f"<p>Made {shown(manifest['made'])} by licet {shown(manifest['generator']['version'])}. Times are UTC.</p>",
            _statement(manifest, complete=complete),
            "<h2>What was asked</h2>",
            _pairs({"asked for": "everything"} if manifest["question"] == {"all": True} else manifest["question"]),
            "<h2>What there is</h2>",
            _pairs(
                {
                    "calls": f"{summary.calls:,}",
                    "of these, without an outcome": f"{summary.open_calls:,}",
                    "records": f"{sum(n for name, n in manifest['records'].items() if not is_fleet_log(name)):,}",
                    "documents": f"{len(manifest['documents']):,}",
                    "notes": ", ".join(f"{name} {count:,}" for name, count in sorted(summary.notes.items())) or "none",
                }
            ),
            _chart(
                "Calls by outcome over time", over_time(summary.slots, summary.slot_ms, shown_ms), summary.decisions
            ),
            _chart("Calls by model", bars(summary.models, "Calls by model"), summary.models),
            _chart("Calls by reason", bars(summary.reasons, "Calls by reason"), summary.reasons),
            _chart("Findings by kind", bars(summary.findings, "Findings by kind"), summary.findings),
            _calls(calls, summary.calls),
            _documents(manifest["documents"]),
            _streams(manifest["streams"]),
            "<h2>How to check this</h2>",
            "<p>This page proves nothing: it is the word of who made the pack. The records, their proofs and the signed heads are in the same ZIP; ",
            "<code>VERIFY.md</code> there says how to check them, without the gateway and offline: <code>licet-verify pack.zip --key ...</code></p>",
            "</body></html>\n",
        )
    )


def _statement(manifest: Mapping[str, Any], *, complete: bool) -> str:
    completeness = manifest["completeness"]
    streams = completeness["streams"]
    sealed = sum(one["sealed"] - one["first"] for one in streams)
    present = sum(one["present"] for one in streams)
    waiting = sum(max(0, one["written"] - one["sealed"]) for one in streams if one["written"] is not None)
    head = "Complete" if complete else "INCOMPLETE"
    said = f"<strong>{head}.</strong> The answer rests on {present:,} of {sealed:,} sealed records of {len(streams):,} streams ({shown(completeness['adapter'])})."
    if waiting:
        said += f" {waiting:,} records were written and not sealed yet: they were not asked."
    missing = [*completeness["missing"], *manifest["missing"]]
    more = [f"{len(missing) - MISSING_SHOWN:,} more; manifest.json lists all"] if len(missing) > MISSING_SHOWN else []
    items = "".join(f"<li>{shown(one)}</li>" for one in (*missing[:MISSING_SHOWN], *more))
    listed = f"<p>Missing:</p><ul>{items}</ul>" if items else ""
    return f'<div class="state{"" if complete else " bad"}"><p>{said}</p>{listed}</div>'


def _chart(title: str, drawn: str, counts: Counter[str]) -> str:
    """The chart, and its numbers for those who read rather than look."""
    if not drawn:
        return f"<h2>{shown(title)}</h2><p>None.</p>"
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f"<h2>{shown(title)}</h2>{drawn}{_table(('', '#'), rows)}"


def _calls(calls: Sequence[CallRow], total: int) -> str:
    rows = [
        (
            shown_ms(one.ts),
            one.decision,
            one.reason,
            one.model,
            one.tenant,
            one.license,
            f"{one.status or one.verdict}",
            one.call_id,
            f"{one.stream}/{one.intent}",
        )
        for one in calls
    ]
    head = ("time", "outcome", "reason", "model", "tenant", "license", "its status", "call", "record")
    first = f" (the first {len(calls):,} of {total:,}; records/ has all)" if len(calls) < total else ""
    return f"<h2>Calls{first}</h2>{_table(head, rows)}"


def _documents(documents: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in documents[:_DOCUMENTS_SHOWN]:
        claims, use = one["claims"], one["use"]
        said = ", ".join(f"{name} {claims[name]}" for name in ("iss", "jti", "sub") if name in claims)
        until = claims.get("exp")
        since = claims.get("nbf", claims.get("iat"))
        valid = f"{_when_s(since)} to {_when_s(until)}" if since is not None or until is not None else ""
        used = (
            f"{use['records']:,} records, {shown_ms(use['since_ms'])} to {shown_ms(use['until_ms'])}"
            if use
            else "no record"
        )
        rows.append((one["kind"], one["digest"], said, valid, used))
    more = f" (the first {_DOCUMENTS_SHOWN} of {len(documents):,})" if len(documents) > _DOCUMENTS_SHOWN else ""
    head = ("kind", "SHA-256", "it says of itself", "valid, as it says", "named by")
    return f"<h2>Documents in force{more}</h2>{_table(head, rows)}"


def _streams(streams: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in streams[:_STREAMS_SHOWN]:
        fleet = one["committed"]
        by = f"{fleet['fleet']}/{fleet['entry']}, {fleet['size']:,} records" if fleet else "none yet"
        rows.append((one["origin"], f"{one['sealed']:,}", one["root"], by))
    return f"<h2>Logs</h2>{_table(('log', 'sealed records', 'root of its head', 'committed by'), rows)}"


def _pairs(told: Mapping[str, Any]) -> str:
    items = []
    for name, value in told.items():
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        items.append(f"<dt>{shown(name)}</dt><dd>{shown(text)}</dd>")
    return f"<dl>{''.join(items)}</dl>"


def _table(head: Iterable[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p>None.</p>"
    numbers = [isinstance(value, int) for value in rows[0]]
    names = "".join(
        f'<th class="n">{shown(name)}</th>' if number else f"<th>{shown(name)}</th>"
        for name, number in zip(head, numbers, strict=True)
    )
    lines = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>"


def _cell(value: object) -> str:
    return f'<td class="n">{value:,}</td>' if isinstance(value, int) else f"<td>{shown(value)}</td>"


def _when_s(at_s: object) -> str:
    return shown_s(at_s) if type(at_s) is int else "?"
