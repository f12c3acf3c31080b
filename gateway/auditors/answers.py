"""What auditors are shown, read from the sealed log by the door's one thread. Nothing here knows who asks.

Heads are those that the sealer signed and put there; proofs come from its tiles, and are checked against the head before they are given out. What
was pruned away is said to be, and so is a stream that is damaged behind its head.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from gateway.audit import query as journal
from gateway.audit import sealed_tree
from gateway.audit.held import kept_record
from gateway.audit.sealed import SealedHead, log_dir, sealed_head
from gateway.auditors.paths import Asked
from gateway.completeness.match import Found, MatchError, digests_of, find_delivered, prove
from gateway.history.fleet import record_streams
from gateway.history.local import LocalHistory
from gateway.history.port import Completeness, HistoryError, Query, QueryError
from gateway.history.unnamed import unnamed
from gateway.tlog import frames, tree

SEVERAL = frozenset({"reason", "jurisdiction", "entity"})  # of which a call may have more than one
STREAMS_MAX = 2_000  # of one answer, some 1 MB; `after` asks for those that follow
JSON, TEXT, BYTES = "application/json", "text/plain; charset=utf-8", "application/octet-stream"


class AnswerError(ValueError):
    """There is no such stream, record, size or proof; safe to show. `status` is 404, or 400 for a question that cannot be asked."""

    def __init__(self, message: str, status: int = 404) -> None:
        self.status = status
        super().__init__(message)


class ChangedError(Exception):
    """The log on the disk is no longer what was signed."""


class Answer(NamedTuple):
    """What goes out."""

    type: str
    body: bytes


class Answers:
    """Reads one data folder. For one thread at a time; `pause` may raise to give up."""

    def __init__(self, data_dir: Path, pause: Callable[[], None]) -> None:
        self._data_dir = data_dir
        self._pause = pause
        self._history: LocalHistory | None = None

    def answer(self, asked: Asked, body: bytes) -> Answer:
        """The answer to a question. Raises AnswerError, ChangedError, SealedError, OSError."""
        try:
            return getattr(self, f"_{asked.what}")(asked, body)  # type: ignore[no-any-return]  # all of them answer so
        except QueryError as problem:
            raise AnswerError(str(problem), 400) from problem
        except HistoryError as problem:
            raise AnswerError(str(problem), 503) from problem

    def close(self) -> None:
        """Let go of what is open. By the thread that answers."""
        if self._history is not None:
            self._history.close()
            self._history = None

    def _index(self) -> LocalHistory:
        """The index, with all that is sealed now in it. Raises HistoryError, OSError."""
        if self._history is None:
            self._history = LocalHistory(self._data_dir, fresh=False)
        self._history.refresh(told=lambda *_: self._pause())
        return self._history

    # -- heads and proofs

    def _checkpoints(self, asked: Asked, _: bytes) -> Answer:
        sealed = set(record_streams(self._data_dir))
        damaged = {d.name for d in frames.streams(self._data_dir) if (d / frames.DAMAGED_NAME).exists()}
        names = [name for name in sorted(sealed | damaged) if name > asked.name]
        return _json({"streams": [self._checkpoint(name, name in damaged) for name in names[:STREAMS_MAX]]})

    def _checkpoint(self, stream: str, damaged: bool) -> Mapping[str, Any]:
        self._pause()
        try:
            head = sealed_head(self._data_dir, stream)
        except FileNotFoundError:
            head = SealedHead(stream, 0, tree.EMPTY_ROOT, "")
        told = {"stream": stream, "size": head.size, "root": head.root.hex(), "note": head.note}
        return {**told, "problem": "the journal is damaged behind these records"} if damaged else told

    def _consistency(self, asked: Asked, _: bytes) -> Answer:
        self._head(asked.stream)
        try:
            return _json({"proof": _hexes(sealed_tree.consistency(self._data_dir, asked.stream, *asked.numbers))})
        except ValueError as error:
            raise AnswerError(str(error)) from error

    def _record(self, asked: Asked, _: bytes) -> Answer:
        stream, (seq, size) = asked.stream, asked.numbers
        head = self._head(stream)
        if not seq < size <= head.size:
            raise AnswerError(f"record {seq} is not in a tree of {size}; {head.size} records are sealed")
        payload = self._payload(head, seq)
        if payload is None:
            raise AnswerError(f"record {seq} was pruned away; /audit/proof still proves that it was there")
        hashes = sealed_tree.SealedHashes(log_dir(self._data_dir) / stream, head.size)
        proof = tree.inclusion_proof(seq, size, hashes)
        if not tree.verify_inclusion(tree.leaf_hash(payload), seq, size, proof, hashes.root(size)):
            raise ChangedError(f"{stream}: records are no longer what was sealed")
        return _json({"record": base64.b64encode(payload).decode(), "proof": _hexes(proof)})

    def _proof(self, asked: Asked, _: bytes) -> Answer:
        head, seq = self._head(asked.stream), asked.numbers[0]
        if seq >= head.size:
            raise AnswerError(f"record {seq} is not sealed; {head.size} records of this stream are")
        return Answer(TEXT, prove(self._data_dir, head, seq, self._payload(head, seq)).encode())

    def _log(self, asked: Asked, _: bytes) -> Answer:
        path = log_dir(self._data_dir) / asked.stream / asked.name
        try:
            found = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise AnswerError("this log has no such file") from error
        return Answer(BYTES if asked.name.startswith("tile/") else TEXT, found)

    def _head(self, stream: str) -> SealedHead:
        if not frames.STREAM_NAME.fullmatch(stream):
            raise AnswerError("there is no such stream")
        try:
            return sealed_head(self._data_dir, stream)
        except FileNotFoundError as error:
            raise AnswerError("there is no such stream, or nothing of it is sealed yet") from error

    def _payload(self, head: SealedHead, seq: int) -> bytes | None:
        """A sealed record, also one that is held; None if it was pruned away."""
        return kept_record(self._data_dir, head.stream, seq)

    # -- calls

    def _call(self, asked: Asked, _: bytes) -> Answer:
        page = self._index().find(Query(ids=frozenset({asked.name})), limit=1)
        for row in page.rows:
            if row.outcome is not None:
                found = [("intent", row.intent), ("outcome", row.outcome)]
                return _json({"call_id": asked.name, "records": [self._sealed(row.stream, *one) for one in found]})
        # Not sealed whole: what of it is in the journal is told, and not shown.
        call = journal.find(self._data_dir, asked.name)
        if not isinstance(call, journal.Call):
            raise AnswerError("no record of this call is in the journal of this gateway")
        entries = [("intent", call.intent), ("outcome", call.outcome)]
        records = [self._sealed(one.stream, kind, one.seq) for kind, one in entries if one is not None]
        return _json({"call_id": asked.name, "records": records})

    def _sealed(self, stream: str, kind: str, seq: int) -> Mapping[str, Any]:
        """A record as it is sealed; of one that is not, only that it is there."""
        told = {"record": f"{stream}/{seq}", "kind": kind, "sealed": False}
        try:
            head = sealed_head(self._data_dir, stream)
        except FileNotFoundError:
            return told
        if seq >= head.size:
            return told
        payload = self._payload(head, seq)
        content = {"pruned": True} if payload is None else {"content": msgspec.Raw(payload)}
        return {**told, "sealed": True, "size": head.size, **content}

    def _query(self, asked: Asked, _: bytes) -> Answer:
        history = self._index()
        if asked.by is not None:
            counts = history.count(asked.query, by=asked.by)
            # A call with several reasons, territories or entities is counted under each: their sum is no number of calls.
            total = history.count(asked.query).total if SEVERAL.intersection(asked.by) else counts.total
            return _json(
                {
                    "by": counts.by,
                    "counts": [{"values": values, "count": count} for values, count in counts.counts],
                    "total": total,
                    "completeness": completeness(counts.completeness),
                    "unnamed": () if counts.counts else unnamed(history, asked.query),
                }
            )
        page = history.find(asked.query, cursor=asked.cursor, limit=asked.limit)
        found = {"rows": page.rows, "cursor": page.cursor, "completeness": completeness(page.completeness)}
        return _json({**found, "unnamed": () if page.rows or asked.cursor else unnamed(history, asked.query)})

    def _report(self, asked: Asked, _: bytes) -> Answer:
        # Here, since the reports know all rooms whose records they explain, and most workers never make one.
        from gateway.reports import model, registry, render

        now_ms = time.time_ns() // 1_000_000
        params = {name: value for name, value in asked.params.items() if name not in ("from", "to")}
        since = 0 if asked.since_ms is None else asked.since_ms
        until = now_ms if asked.until_ms is None else asked.until_ms
        source = model.Source(self._index(), (self._data_dir,), now_ms)
        try:
            result = registry.make(source, asked.name, model.Asked(since, until, params), given_by=registry.by_query)
        except model.ReportError as problem:
            raise AnswerError(str(problem), 400) from problem
        return Answer(JSON, render.as_json(result))

    # -- texts

    def _match(self, _: Asked, body: bytes) -> Answer:
        try:
            digests = digests_of(self._data_dir, body)
        except MatchError as error:
            raise AnswerError(str(error), 400) from error
        return _json(told(find_delivered(self._data_dir, digests, self._index(), pause=self._pause)))


def told(found: Found) -> Mapping[str, Any]:
    """What was found, as JSON says it."""
    return {
        "matches": [asdict(match) for match in found.matches],
        "more": found.more,
        "keys": found.digests,
        "streams": found.streams,
        "records": found.records,
        "missing": list(found.missing),
    }


def completeness(of: Completeness) -> Mapping[str, Any]:
    """As JSON says it."""
    return {**asdict(of), "complete": of.complete}


def _json(value: Mapping[str, Any]) -> Answer:
    return Answer(JSON, msgspec.json.encode(value))


def _hexes(hashes: Sequence[bytes]) -> list[str]:
    return [one.hex() for one in hashes]


def error(message: str) -> bytes:
    """The body of an answer that is none."""
    return orjson.dumps({"error": {"message": message}})
