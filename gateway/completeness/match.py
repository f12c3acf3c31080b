"""Whether a text was delivered: its keyed digest, looked for in the records of answers.

The digest is that of the text without its white space, under each digest key that is here, so only the keys' custodian can ask. Keys of an
adopted volume count for the records that came with it, and for no other. What is found
is the record of the answer, and the proof that it is in the sealed log. Looked for is one delivered text as a whole: the content of an
answer, not a part of it and not a conversation. An answer from before texts were recorded is not found, nor is one whose key is gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from gateway.audit.digest import held_keys
from gateway.audit.held import held_seqs, kept_record, kept_records
from gateway.audit.homes import homes
from gateway.audit.record import OutcomeRecord, decode
from gateway.audit.sealed import (
    SealedError,
    SealedHead,
    first_kept,
    log_dir,
    sealed_head,
)
from gateway.audit.sealed_tree import SealedHashes
from gateway.history.fleet import record_streams
from gateway.history.port import Tables
from gateway.tlog import tree
from gateway.tlog.proof import write_proof

TEXT_BYTES_MAX = 1 << 20  # our choice: some four times the longest answer of today's models
DIGESTS_AT_ONCE = 500  # our choice: below what a question to SQLite may hold
MATCHES_MAX = 1_000  # our choice: a short text ("Yes.") is delivered often


class MatchError(ValueError):
    """The text cannot be looked for. Safe to show: names the remedy, and nothing of the text."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The digests of one text."""

    own: tuple[str, ...]  # under the keys of this gateway
    adopted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by stream, under the keys that came with it
    keys: int = 1  # that were tried
    missing: tuple[str, ...] = ()  # what cannot be looked through, for want of a key

    def of(self, stream: str) -> tuple[str, ...]:
        """As a record of that stream would hold one of them."""
        return self.adopted.get(stream, self.own)

    @property
    def all(self) -> list[str]:
        """Of all streams."""
        return list(dict.fromkeys(itertools.chain(self.own, *dict.fromkeys(self.adopted.values()))))


@dataclass(frozen=True, slots=True)
class Match:
    """An answer that delivered the text."""

    record: str  # <stream>/<seq> of the outcome
    call_id: str
    at_ms: int  # of the outcome
    digest: str  # that was found, with its key's number
    proof: str  # a .tlog-proof, with the record in it


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, and what was looked through."""

    matches: tuple[Match, ...]
    digests: int  # keys that were tried
    streams: int
    records: int  # sealed; fewer were read where an index answered
    missing: tuple[str, ...]  # what could not be looked through

    @property
    def more(self) -> bool:
        """Whether there may be more matches than are told."""
        return len(self.matches) >= MATCHES_MAX


def digests_of(data_dir: Path, text: bytes) -> Wanted:
    """The text's digests under every key that is here. Raises MatchError, OSError."""
    if len(text) > TEXT_BYTES_MAX:
        raise MatchError(f"the text has more than {TEXT_BYTES_MAX:,} bytes; give one delivered text")
    try:
        words = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MatchError("the text is not UTF-8") from error
    if not words.strip():
        raise MatchError("the text is empty, or nothing but white space")
    own: tuple[str, ...] = ()
    adopted: dict[str, tuple[str, ...]] = {}
    keys, missing = 0, []
    for home in homes(data_dir):
        try:
            found = held_keys(home.path)
        except ValueError as error:
            if home.word is None:
                raise MatchError("a digest key cannot be used; restore it") from error
            found = ()
        keys += len(found)
        made = tuple(key.text(words) for key in found)
        if home.word is None:
            own = made
        else:
            adopted |= dict.fromkeys(home.word.streams, made)
        if not found and (home.word is None or home.word.streams):
            whose = (
                "this gateway's own records" if home.word is None else f"records of {home.named}, which were adopted"
            )
            missing.append(f"{whose}: there is no digest key under {home.path / 'keys'}, or one that cannot be used")
    if not keys:
        raise MatchError(
            f"there is no digest key under {data_dir / 'keys'}; only the keys' custodian can look for a text"
        )
    return Wanted(own, adopted, keys, tuple(missing))


def find_delivered(
    data_dir: Path,
    wanted: Wanted,
    tables: Tables | None = None,
    *,
    pause: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> Found:
    """Answers that delivered a text of one of these digests: by the index, or by a look at every sealed record.

    `pause` is called after each 256 records that were read. Raises OSError, and what the tables raise.
    """
    heads = {name: sealed_head(data_dir, name) for name in record_streams(data_dir)}
    sealed = sum(head.size for head in heads.values())
    if tables is not None:
        places = _indexed(tables, wanted.all)
        missing = [*wanted.missing, *tables.completeness().missing]
    else:
        missing = list(wanted.missing)
        places = _scan(data_dir, heads, wanted, missing, pause, progress)
    matches = []
    for stream, seq in places[:MATCHES_MAX]:
        match = _match(data_dir, heads.get(stream), stream, seq, wanted.of(stream))
        if match is not None:
            matches.append(match)
    return Found(tuple(matches), wanted.keys, len(heads), sealed, tuple(missing))


def _indexed(tables: Tables, digests: Sequence[str]) -> list[tuple[str, int]]:
    """Where the index has one of these digests, newest first. A digest in a stream that its key is not of is left out later."""
    found = []
    for at in range(0, len(digests), DIGESTS_AT_ONCE):
        some = digests[at : at + DIGESTS_AT_ONCE]
        marks = ", ".join("?" * len(some))
        found += tables.rows(
            "SELECT t.stream, c.outcome, c.ts FROM texts t JOIN calls c ON c.stream = t.stream AND c.intent = t.intent"  # noqa: S608
            f" WHERE t.digest IN ({marks}) ORDER BY c.ts DESC LIMIT {MATCHES_MAX}",
            list(some),
        )
    found.sort(key=lambda row: int(str(row[2])), reverse=True)
    return [(str(stream), int(str(seq))) for stream, seq, _ in found if seq is not None]


def _scan(
    data_dir: Path,
    heads: dict[str, SealedHead],
    wanted: Wanted,
    missing: list[str],
    pause: Callable[[], None],
    progress: Callable[[int, int], object],
) -> list[tuple[str, int]]:
    total, done = sum(head.size for head in heads.values()), 0
    places: list[tuple[str, int]] = []
    for stream, head in heads.items():
        needles = [f'"{digest}"'.encode() for digest in wanted.of(stream)]
        first = first_kept(data_dir, stream)
        if first:
            left = sum(seq < first for seq in held_seqs(data_dir, stream))
            kept = f"of the first {first:,} records all but {left:,}" if left else f"the first {first:,} records"
            missing.append(f"{stream}: {kept} were pruned")
        at = 0
        try:
            for number, (at, payload) in enumerate(kept_records(data_dir, stream, head.size)):
                if number % 256 == 0:
                    pause()
                    progress(done + at, total)
                if any(needle in payload for needle in needles):
                    places.append((stream, at))
                    if len(places) >= MATCHES_MAX:
                        return places
        except SealedError as error:
            missing.append(f"{stream}: records from {at:,} on could not be read ({error})")
        done += head.size
    return places


def _match(data_dir: Path, head: SealedHead | None, stream: str, seq: int, digests: Sequence[str]) -> Match | None:
    """The record there, if it tells that the text was delivered."""
    payload = kept_record(data_dir, stream, seq) if head is not None and seq < head.size else None
    if head is None or payload is None:
        return None
    try:
        record = decode(payload)
    except msgspec.MsgspecError as error:
        raise SealedError(f"{stream}/{seq}: not a record of this version; verify the log") from error
    if not isinstance(record, OutcomeRecord) or record.answer is None:
        return None
    held = next((digest for digest in digests if digest in (record.answer.texts or ())), None)
    if held is None:
        return None
    return Match(f"{stream}/{seq}", record.call_id, record.ts, held, prove(data_dir, head, seq, payload))


def prove(data_dir: Path, head: SealedHead, seq: int, payload: bytes | None) -> str:
    """The .tlog-proof of one record under a head; the record itself is in it, unless it was pruned away. Raises SealedError."""
    hashes = SealedHashes(log_dir(data_dir) / head.stream, head.size)
    path = tree.inclusion_proof(seq, head.size, hashes)
    leaf = hashes.leaf(seq) if payload is None else tree.leaf_hash(payload)
    if not tree.verify_inclusion(leaf, seq, head.size, path, head.root):
        raise SealedError(f"{head.stream}: records or tiles are no longer what was signed")
    return write_proof(seq, path, head.note, payload)
