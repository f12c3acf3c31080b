"""`licet audit ...`: what every room of the audit trail lets people do, put together."""

from __future__ import annotations

import typer

from gateway.lazy import rooms

COMMANDS = {
    # looking
    "tail": "gateway.audit.cli:tail_command",
    "show": "gateway.audit.cli:show_command",
    "query": "gateway.history.cli:query_command",
    "report": "gateway.reports.cli:report_command",
    "reports": "gateway.reports.cli:reports_command",
    "effect": "gateway.audit.cli:effect_command",
    "reasons": "gateway.reason_cli:reasons_command",
    # proving
    "schema": "gateway.audit.schema:schema_command",
    "verify": "gateway.audit.cli:verify_command",
    "export": "gateway.evidence.cli:export_command",
    "key": "gateway.signing.cli:app",
    "seal": "gateway.seal.cli:seal_command",
    "witness": "gateway.seal.witness_cli:app",
    # whether all is there
    "reconcile": "gateway.completeness.cli:reconcile_command",
    "probe": "gateway.completeness.cli:probe_command",
    "match": "gateway.completeness.cli:match_command",
    "adopt": "gateway.completeness.cli:adopt_command",
    # where it goes, and how long it stays
    "index": "gateway.history.cli:index_command",
    "archive": "gateway.history.cli:archive_command",
    "ship": "gateway.ship.cli:app",
    "fetch": "gateway.ship.s3_fetch:fetch_command",
    "prune": "gateway.vault.cli:prune_command",
    # what is locked away
    "transcript": "gateway.vault.cli:transcript_app",
    "case": "gateway.vault.cli:case_app",
    "custodian": "gateway.vault.cli:custodian_app",
    "erase": "gateway.vault.cli:erase_command",
}

app = typer.Typer(
    cls=rooms(COMMANDS),
    no_args_is_help=True,
    help="Ask the audit trail, prove what it says, and look after it.",
    pretty_exceptions_show_locals=False,
)


@app.callback()
def audit() -> None:
    """Ask the audit trail, prove what it says, and look after it."""
