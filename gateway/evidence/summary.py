"""What the records of a pack say, taken together: counts for the report, and which documents they name.

Bounded whatever the records hold: names beyond a bound are counted together under `OTHER`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

OTHER = "(others)"
NAMES_MAX = 1000  # our choice: different models, reasons or entities that are counted by themselves
DOCUMENTS_MAX = 50_000  # our choice: different documents that records of one pack may name
SLOTS_MAX = 4096  # our choice: of time, before two become one
_SLOT_MS = 60_000


@dataclass(slots=True)
class Use:
    """Who names a document."""

    record: str  # the first that does
    since_ms: int
    until_ms: int
    records: int = 1

    def again(self, ts: int) -> None:
        """One more record."""
        self.records += 1
        self.since_ms, self.until_ms = min(self.since_ms, ts), max(self.until_ms, ts)


@dataclass(slots=True)
class Summary:
    """Collects, record by record."""

    calls: int = 0
    ended: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)  # by entity, whatever was done with them
    slots: Counter[tuple[int, str]] = field(default_factory=Counter)  # (time // slot_ms, outcome)
    slot_ms: int = _SLOT_MS
    named: dict[tuple[str, str], Use] = field(default_factory=dict)  # (kind, digest, whole or its beginning)
    statuses: dict[int, Use] = field(default_factory=dict)  # status lists by when they were published, s
    notes: Counter[str] = field(default_factory=Counter)  # by topic
    unnamed: int = 0  # names of documents beyond DOCUMENTS_MAX

    def take(self, id_: str, record: Any) -> None:
        """One record as JSON; `id_` is its place. What is not of a known form is passed over."""
        if not isinstance(record, dict) or type(record.get("ts")) is not int:
            return
        kind, ts = record.get("kind"), record["ts"]
        if kind == "intent":
            self._intent(id_, ts, record)
        elif kind == "outcome":
            self._outcome(ts, record)
        elif kind == "note":
            self._note(id_, ts, record)

    @property
    def open_calls(self) -> int:
        """Intents without an outcome."""
        return self.calls - self.ended

    def _intent(self, id_: str, ts: int, record: dict[str, Any]) -> None:
        self.calls += 1
        _count(self.models, _text(record.get("model")) or "(none)")
        self._findings(record.get("prompt"))
        for field_, kind in (("policy", "policies"), ("license", "licenses"), ("training", "permits")):
            part = _part(record.get(field_))
            digest = _text(part.get("digest"))
            if digest:
                self._name(kind, digest, id_, ts)
            published = part.get("status_iat") if field_ == "license" else None
            if type(published) is int:
                if published in self.statuses:
                    self.statuses[published].again(ts)
                elif len(self.statuses) < DOCUMENTS_MAX:
                    self.statuses[published] = Use(id_, ts, ts)
                else:
                    self.unnamed += 1

    def _outcome(self, ts: int, record: dict[str, Any]) -> None:
        self.ended += 1
        how = _text(record.get("outcome")) or "(none)"
        _count(self.decisions, how)
        self.slots[ts // self.slot_ms, how] += 1
        if len(self.slots) > SLOTS_MAX:
            self._coarser()
        reasons = record.get("reasons")
        for code in dict.fromkeys(map(_text, reasons if isinstance(reasons, list) else ())):
            _count(self.reasons, code)
        self._findings(record.get("answer"))

    def _note(self, id_: str, ts: int, record: dict[str, Any]) -> None:
        topic, detail = _text(record.get("topic")), _part(record.get("detail"))
        _count(self.notes, topic)
        if topic == "config":
            for said in detail.values():
                words = _text(said).split()  # policy <name>@<digest> license <digest>, as catalogs tell it
                if len(words) == 4:
                    self._name("policies", words[1].rpartition("@")[2], id_, ts)
                    if words[3] != "none":
                        self._name("licenses", words[3], id_, ts)
        elif topic == "standing":
            kind = {"license": "status", "order": "orders"}.get(_text(detail.get("subject")))
            digest = _text(detail.get("digest"))
            if kind and digest:
                self._name(kind, digest, id_, ts)

    def _findings(self, text: Any) -> None:
        for entity, actions in _part(_part(text).get("findings")).items():
            _count(self.findings, entity, sum(n for n in _part(actions).values() if type(n) is int))

    def _name(self, kind: str, digest: str, id_: str, ts: int) -> None:
        use = self.named.get((kind, digest))
        if use is not None:
            use.again(ts)
        elif len(self.named) < DOCUMENTS_MAX:
            self.named[kind, digest] = Use(id_, ts, ts)
        else:
            self.unnamed += 1

    def _coarser(self) -> None:
        while len(self.slots) > SLOTS_MAX // 2:
            self.slot_ms *= 2
            wider: Counter[tuple[int, str]] = Counter()
            for (slot, how), count in self.slots.items():
                wider[slot // 2, how] += count
            self.slots = wider


def _count(counter: Counter[str], name: str, by: int = 1) -> None:
    counter[name if name in counter or len(counter) < NAMES_MAX else OTHER] += by


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _part(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
