"""Q19: what was changed, and when."""

# ruff: noqa: S608  # what is put into statements are names and conditions of this room; values are parameters

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.audit import changes
from gateway.reports.documents import Documents
from gateway.reports.model import (
    NOT_COLLECTED,
    NOT_STATED,
    NOTES_MAX,
    Answer,
    Asked,
    Missing,
    Row,
    Source,
    record_id,
    stated,
    when,
)
from gateway.reports.registry import PARTLY, report

_APPROVAL = "signatures of a policy's approver (`licet policy sign`)"
_TOPICS = ("config", changes.TOPIC, "key_change", "adopted", "pruned", "erasure")
_OWNERS = {"policy"}
_JUDGED = "verdict <> ''"  # the license gate was asked. A call that was refused before, for its rate, tells nothing of the license


@dataclass(frozen=True, slots=True)
class _Change:
    ts: int
    stream: str
    what: str
    name: str
    before: str
    after: str
    published: str
    digest: str  # whole, of the document that came into force; "" where none is named
    record: str
    told_by: str


@report(
    "Q19",
    "Changes of policy, lexicon and license",
    "Who changed policy/lexicon/license between T1 and T2, two-person rule kept?",
    (
        "time",
        "stream",
        "what",
        "name",
        "before",
        "after",
        "published",
        "digest",
        "owner",
        "told by",
        "approved by",
        "two persons",
    ),
    missing=(Missing("approved by", _APPROVAL), Missing("two persons", _APPROVAL)),
    answered=PARTLY,
)
def q19(source: Source, asked: Asked) -> Answer:
    """Notes of each worker: `config` (policy and license files taken up while it ran), `standing` (statuses and orders of authorities, with the digest of their list), and notes on keys,
    pruning, erasures and adopted journals; and calls, which show what a restart brought: the first call of a model under another policy, license or set of
    detectors and lexicons than the calls before. The owner is the kept policy's. Who approved a change is in no record yet."""
    documents = Documents(source.data)
    told = [*_notes(source, documents, asked)]
    noted = {(one.what, one.name, one.after) for one in told}
    told += [one for one in _seen(source, asked) if (one.what, one.name, one.after) not in noted]
    rows = []
    for one in sorted(told, key=lambda change: (change.ts, change.stream, change.what, change.name)):
        policy = documents.policy(one.digest) if one.what in _OWNERS else None
        owner = policy.owner if policy is not None else NOT_STATED if one.what in _OWNERS else "none"
        values = (
            when(one.ts),
            one.stream,
            one.what,
            one.name,
            one.before,
            one.after,
            one.published or "none",
            stated(one.digest),
        )
        rows.append(Row((*values, owner, one.told_by, NOT_COLLECTED, NOT_COLLECTED), (one.record,)))
    remarks = [] if rows else ["Nothing was changed, as far as records tell."]
    if (
        source.count(
            f"FROM notes WHERE topic IN ({', '.join('?' for _ in _TOPICS)}) AND ts < ?", *_TOPICS, asked.until_ms
        )
        > NOTES_MAX
    ):
        remarks.append(f"Only the first {NOTES_MAX:,} notes were read; ask about an earlier time, too.")
    return Answer(rows, remarks)


def _notes(source: Source, documents: Documents, asked: Asked) -> Iterator[_Change]:
    """What notes tell. Configurations are told whole each time: what differs from before is a change."""
    known: dict[tuple[str, str, str], str] = {}
    gateways = dict(source.ask("SELECT stream, gateway FROM streams"))
    for stream, seq, ts, topic, text in source.ask(
        f"SELECT stream, seq, ts, topic, detail FROM notes WHERE topic IN ({', '.join('?' for _ in _TOPICS)}) AND ts < ? ORDER BY ts, stream, seq LIMIT {NOTES_MAX}",
        *(*_TOPICS, asked.until_ms),
    ):
        detail, record = orjson.loads(text or b"{}"), record_id(stream, seq)
        if topic == "config":
            made = list(_configured(source, documents, known, gateways.get(stream, ""), stream, seq, ts, detail))
        elif topic == changes.TOPIC:
            made = [_standing(stream, ts, detail, record)] if "subject" in detail else []
        else:
            what = ", ".join(f"{name} {value}" for name, value in sorted(detail.items()))
            made = [_Change(ts, stream, str(topic).replace("_", " "), "", NOT_STATED, what, "", "", record, "note")]
        if ts >= asked.since_ms:
            yield from made


def _configured(
    source: Source,
    documents: Documents,
    known: dict[tuple[str, str, str], str],
    gateway: str,
    stream: str,
    seq: int,
    ts: int,
    detail: dict[str, Any],
) -> Iterator[_Change]:
    begins = detail.get("@first") is True  # the stream's own beginning: no call of it came before
    for model, said in sorted(detail.items()):
        words = str(said).split()
        if len(words) != 4:  # of a form that is not known
            continue
        for what, kind, now in (("policy", "policies", words[1]), ("license", "licenses", words[3])):
            # Of the stream itself; of a stream that begins, what another of the gateway had last.
            before = known.get((stream, model, what)) or ("" if begins else _before(source, stream, seq, model, what))
            before = before or known.get((gateway, model, what), "")
            known[stream, model, what] = known[gateway, model, what] = now
            if before == now:
                continue
            whole = documents.whole(kind, now.rpartition("@")[2])
            yield _Change(
                ts, stream, what, model, before or "first known", now, "", whole, record_id(stream, seq), "note"
            )


def _before(source: Source, stream: str, seq: int, model: str, what: str) -> str:
    """As the last call of the stream before a note had it, in the note's own words."""
    found = source.ask(
        "SELECT policy, policy_digest, license_digest FROM calls WHERE stream = ? AND intent < ? AND model = ? AND policy_digest <> ''"
        f" AND {_JUDGED} ORDER BY intent DESC LIMIT 1",
        *(stream, seq, model),
    )
    if not found:
        return ""
    ((policy, policy_digest, license_digest),) = found
    return f"{policy}@{policy_digest[:12]}" if what == "policy" else license_digest[:12] or "none"


def _standing(stream: str, ts: int, detail: dict[str, Any], record: str) -> _Change:
    subject = str(detail["subject"])
    name = str(detail.get(subject, ""))
    after = str(detail.get("status", detail.get("state", NOT_STATED)))
    published_s = detail.get("published_s")
    return _Change(
        ts,
        stream,
        "standing of a license" if subject == changes.LICENSE else "order" if subject == changes.ORDER else subject,
        name,
        str(detail.get("was", "start of the worker" if subject == changes.LICENSE or detail.get("first") else "none")),
        after,
        when(int(published_s) * 1000) if isinstance(published_s, int) and published_s else "",
        str(detail.get("digest", "")),
        record,
        "note",
    )


def _seen(source: Source, asked: Asked) -> Iterator[_Change]:
    """What the first call of a model under another policy, license or set of detectors shows, by gateway."""
    last: dict[tuple[str, str, str], str] = {}
    for gateway, model, policy, policy_digest, license_digest, detectors, ts in source.ask(
        "SELECT gateway, model, policy, policy_digest, license_digest, detectors, min(ts) FROM calls"
        f" WHERE policy_digest <> '' AND {_JUDGED} AND ts < ? GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY min(ts), gateway, model",
        asked.until_ms,
    ):
        lexicon = f"{hashlib.sha256(detectors.encode()).hexdigest()[:12]} ({detectors.count('=')} versions)"
        for what, now, digest in (
            ("policy", f"{policy}@{policy_digest[:12]}", policy_digest),
            ("license", license_digest[:12] or "none", license_digest),
            ("detectors and lexicons", lexicon, ""),
        ):
            before, last[gateway, model, what] = last.get((gateway, model, what), ""), now
            if not before or before == now or ts < asked.since_ms:
                continue
            ((stream, intent),) = source.ask(
                "SELECT stream, intent FROM calls WHERE gateway = ? AND model = ? AND policy_digest = ? AND license_digest = ? AND detectors = ?"
                f" AND {_JUDGED} AND ts = ? ORDER BY stream, intent LIMIT 1",
                *(gateway, model, policy_digest, license_digest, detectors, ts),
            )
            yield _Change(ts, stream, what, model, before, now, "", digest, record_id(stream, intent), "first call")
