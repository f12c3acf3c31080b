"""A sealed history to ship, and what a backend must have of it in the end."""

from __future__ import annotations

from pathlib import Path

from gateway.audit.sealed import sealed_head, sealed_records, sealed_streams
from gateway.history.attributes import has_span, kind_of
from gateway.ship.runner import Backoff
from gateway.tlog.tree import leaf_hash
from tests.gateway.history.made import History, history

SOON = Backoff(first_s=0.001, max_s=0.002)


def make(data: Path, *, calls: int = 12) -> History:
    """Two ended streams with that many calls, and half as many."""
    made = history(data, calls=calls)
    made.close()
    made.seal()
    return made


def records(data: Path) -> dict[str, list[bytes]]:
    """All sealed records by stream; the fleet's log is none of them."""
    found = {s: [p for _, p in sealed_records(data, s, 0, sealed_head(data, s).size)] for s in sealed_streams(data)}
    return {stream: payloads for stream, payloads in found.items() if kind_of(payloads[0]) == "start"}


def span_ids(data: Path) -> set[bytes]:
    """Of every span that must arrive, made here from the leaves alone."""
    found: set[bytes] = set()
    for payloads in records(data).values():
        intents = [p for p in payloads if kind_of(p) == "intent"]
        others = [p for p in payloads if has_span(p) and kind_of(p) != "outcome"]
        found |= {leaf_hash(payload)[:8] for payload in (*intents, *others)}
    return found
