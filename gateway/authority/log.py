"""The authority's own log: each step an entry that it signs, each entry a leaf of a Merkle tree (RFC 6962).

    entry      JSON: {"v": "authority.v1", "seq", "at", "actor", "roles", "action", "object", "about": [other objects],
               "before", "after", "detail", "digests": {name: digest}}
    signature  Ed25519 by the log's key over the entry's bytes as they are stored
    leaf       signature and entry, one behind the other

Beside the entries stands the head: a signed checkpoint of the whole tree, written in the transaction of each entry. Who
keeps a head elsewhere can show later that what it covers was neither changed, moved nor cut off: `verify(..., heads)`.
The store's index of objects only finds entries; `verify` checks it against them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.authority.errors import FormError, LogError, NotFoundError
from gateway.authority.model import Actor, Event
from gateway.authority.store import Store
from gateway.signing.logkey import LogKey
from gateway.tlog import tree
from gateway.tlog.checkpoint import Checkpoint, CheckpointError, open_checkpoint, sign_checkpoint

VERSION = "authority.v1"
ENTRY_BYTES_MAX = 262_144  # our choice: a change of terms is told in full
_BATCH = 500  # entries read at once while verifying


class Log:
    """Writes entries; only inside a transaction of the store, so that no change is without its entry."""

    def __init__(self, store: Store, origin: str, key: LogKey) -> None:
        self._store = store
        self._origin = origin
        self._key = key

    @property
    def public_key(self) -> bytes:
        """What the log is verified with; 32 bytes."""
        return self._key.public

    def begin(self) -> None:
        """An empty log, in the transaction that makes the store."""
        head = sign_checkpoint(self._origin, 0, tree.EMPTY_ROOT, self._key, self._origin)
        self._store.insert("log", one=1, size=0, frontier=b"", head=head)

    def append(
        self,
        at: int,
        actor: Actor,
        action: str,
        object_: str,
        *,
        before: str | None = None,
        after: str | None = None,
        detail: Mapping[str, Any] | None = None,
        digests: Mapping[str, str] | None = None,
        about: Sequence[str] = (),
    ) -> Event:
        """Tell a step. `about` are other objects in whose history it belongs."""
        row = self._store.row("SELECT size, frontier FROM log")
        assert row is not None
        seq, frontier = int(row[0]), split(bytes(row[1]))
        others = sorted({*about} - {object_})
        entry: dict[str, Any] = {
            "v": VERSION,
            "seq": seq,
            "at": at,
            "actor": actor.name,
            "roles": sorted(actor.roles),
            "action": action,
            "object": object_,
            "about": others,
            "before": before,
            "after": after,
            "detail": detail or {},
            "digests": digests or {},
        }
        data = json.dumps(entry, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        if len(data) > ENTRY_BYTES_MAX:
            raise FormError(f"the step has {len(data):,} bytes to tell; keep reasons and terms shorter")
        signature = self._key.private.sign(data)
        tree.push(frontier, seq, tree.leaf_hash(signature + data))
        head = sign_checkpoint(self._origin, seq + 1, tree.root(frontier), self._key, self._origin)
        self._store.insert("events", seq=seq, entry=data, signature=signature)
        for name in (object_, *others):
            self._store.insert("event_objects", object=name, seq=seq)
        self._store.run("UPDATE log SET size = ?, frontier = ?, head = ?", seq + 1, b"".join(frontier), head)
        return read_event(data)

    @property
    def size(self) -> int:
        """How many entries there are."""
        return int(self._store.value("SELECT size FROM log"))

    @property
    def head(self) -> str:
        """The newest signed checkpoint. Keep copies where the authority's operator cannot reach them."""
        return str(self._store.value("SELECT head FROM log"))

    def mark(self) -> tuple[int, str]:
        """How many entries there are, and the hash of the last one's leaf: tells whether another log goes on from this one."""
        size = self.size
        return size, self._leaf(size - 1)

    def goes_on_from(self, size: int, leaf: str) -> bool:
        """Whether this log has the entries of a mark."""
        return size <= self.size and self._leaf(size - 1) == leaf

    def _leaf(self, seq: int) -> str:
        row = self._store.row("SELECT signature, entry FROM events WHERE seq = ?", seq)
        return "" if row is None else tree.leaf_hash(bytes(row[0]) + bytes(row[1])).hex()

    def history(self, object_: str) -> tuple[Event, ...]:
        """What happened to an object, oldest first. Raises NotFoundError."""
        sql = "SELECT e.entry FROM event_objects o JOIN events e ON e.seq = o.seq WHERE o.object = ? ORDER BY o.seq"
        found = self._store.rows(sql, object_)
        if not found:
            raise NotFoundError(f"nothing is known about {object_}")
        return tuple(read_event(bytes(entry)) for (entry,) in found)

    def events(self, after: int = -1, limit: int = 100) -> tuple[Event, ...]:
        """Entries in order, from the one behind `after`."""
        found = self._store.rows("SELECT entry FROM events WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)
        return tuple(read_event(bytes(entry)) for (entry,) in found)


def read_event(data: bytes) -> Event:
    """An entry as a value. Raises LogError when it is none."""
    try:
        entry = json.loads(data)
        return Event(
            seq=int(entry["seq"]),
            at=int(entry["at"]),
            actor=str(entry["actor"]),
            roles=tuple(entry["roles"]),
            action=str(entry["action"]),
            object=str(entry["object"]),
            before=entry["before"],
            after=entry["after"],
            detail=dict(entry["detail"]),
            digests=dict(entry["digests"]),
            about=tuple(entry["about"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LogError("the entry is not one of this log") from error


def split(frontier: bytes) -> list[bytes]:
    """The hashes of a stored frontier."""
    step = tree.HASH_BYTES
    return [frontier[at : at + step] for at in range(0, len(frontier), step)]


def verify(store: Store, origin: str, public_key: bytes, heads: Sequence[str] = ()) -> Checkpoint:
    """The log's own head, once every stored byte agrees with it and with all `heads` that others kept.

    Raises LogError that names the first bad entry. Reads the entries in order, a few hundred at a time; those that come in
    meanwhile are left to the next time.
    """
    kept = [_open(note, origin, public_key) for note in heads]
    head = store.value("SELECT head FROM log")
    if head is None:
        raise LogError("the log has no head")
    own = _open(str(head), origin, public_key)
    wanted = {checkpoint.size: checkpoint for checkpoint in (own, *kept)}
    for checkpoint in (own, *kept):  # two heads of one size have to agree
        if wanted[checkpoint.size].root != checkpoint.root:
            raise LogError(f"two signed heads of {checkpoint.size} entries disagree: the log was rewritten")
    key = Ed25519PublicKey.from_public_bytes(public_key)
    frontier: list[bytes] = []
    seq = 0
    for at, entry, signature in _entries(store, own.size):
        if at != seq:
            raise LogError("it is missing; the next one stored is " + str(at), seq)
        try:
            key.verify(signature, entry)
        except InvalidSignature as error:
            raise LogError("its signature does not hold: it was altered", seq) from error
        event = read_event(entry)
        if event.seq != seq:
            raise LogError(f"it says of itself that it is entry {event.seq}: the order was changed", seq)
        _index(store, event)
        tree.push(frontier, seq, tree.leaf_hash(signature + entry))
        seq += 1
        if seq in wanted and wanted[seq].root != tree.root(frontier):
            raise LogError(f"it and those before it are not what the head of {seq} entries was signed for", seq - 1)
    if seq < max(wanted):
        raise LogError(f"it is missing: a signed head covers {max(wanted)} entries, and {seq} are there", seq)
    # One statement, so that no entry can come in between: what is stored is what the log says of itself.
    sql = "SELECT (SELECT size FROM log), (SELECT count(*) FROM events), (SELECT coalesce(max(seq), -1) FROM event_objects)"
    size, stored, listed = store.rows(sql)[0]
    if stored != size or listed >= size:
        raise LogError("entries are stored, or listed, that no head covers", min(int(size), int(stored), own.size))
    return own


def _open(note: str, origin: str, public_key: bytes) -> Checkpoint:
    try:
        checkpoint = open_checkpoint(note, public_key, name=origin)
    except CheckpointError as error:
        raise LogError(f"a head does not count: {error}") from error
    if checkpoint.origin != origin:
        raise LogError("a head is of another log")
    return checkpoint


def _entries(store: Store, end: int) -> Iterator[tuple[int, bytes, bytes]]:
    after = -1
    while True:
        sql = "SELECT seq, entry, signature FROM events WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?"
        batch = store.rows(sql, after, end, _BATCH)
        if not batch:
            return
        for seq, entry, signature in batch:
            yield int(seq), bytes(entry), bytes(signature)
        after = int(batch[-1][0])


def _index(store: Store, event: Event) -> None:
    found = store.rows("SELECT object FROM event_objects WHERE seq = ?", event.seq)
    if {str(name) for (name,) in found} != {event.object, *event.about}:
        raise LogError("the index of objects does not name it, so a history would leave it out", event.seq)
