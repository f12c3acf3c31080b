"""The authority's own log: whoever alters, moves, cuts or adds is found, and the first bad entry is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from gateway.authority.authority import Authority
from gateway.authority.errors import LogError, NotFoundError
from gateway.authority.log import verify
from gateway.authority.store import Store
from gateway.signing.logkey import LogKey
from gateway.tlog import tree
from gateway.tlog.checkpoint import sign_checkpoint
from tests.gateway.authority.offices import APPROVER, ISSUER, Hands, make, to_active

FOLDER = "authority"


@pytest.fixture
def victim(tmp_path: Path, template: Path) -> tuple[Authority, apsw.Connection]:
    """An authority with a short history, and somebody else's hand in its file."""
    shutil.copytree(template, tmp_path / FOLDER)
    made = Authority.open(tmp_path / FOLDER, clock=Hands())
    license_ = to_active(made)
    made.suspend(APPROVER, license_.jti, "under inquiry")
    other = apsw.Connection(str(tmp_path / FOLDER / "authority.db"))
    return made, other


def entry(other: apsw.Connection, seq: int) -> bytes:
    return bytes(next(iter(other.execute("SELECT entry FROM events WHERE seq = ?", (seq,))))[0])


def alter(other: apsw.Connection, seq: int) -> None:
    changed = entry(other, seq).replace(b"olga", b"otto")
    assert changed != entry(other, seq)
    other.execute("UPDATE events SET entry = ? WHERE seq = ?", (changed, seq))


def delete(other: apsw.Connection, seq: int) -> None:
    other.execute("DELETE FROM event_objects WHERE seq = ?", (seq,))
    other.execute("DELETE FROM events WHERE seq = ?", (seq,))


def close_up(other: apsw.Connection, seq: int) -> None:
    """Delete an entry and move those behind it up."""
    delete(other, seq)
    for (at,) in list(other.execute("SELECT seq FROM events WHERE seq > ? ORDER BY seq", (seq,))):
        # The entry's own row comes first, so that its index rows always have one to point at.
        other.execute("INSERT INTO events SELECT seq - 1, entry, signature FROM events WHERE seq = ?", (at,))
        other.execute("UPDATE event_objects SET seq = seq - 1 WHERE seq = ?", (at,))
        other.execute("DELETE FROM events WHERE seq = ?", (at,))


def swap(other: apsw.Connection, seq: int) -> None:
    rows = [
        next(iter(other.execute("SELECT entry, signature FROM events WHERE seq = ?", (at,)))) for at in (seq, seq + 1)
    ]
    for at, row in zip((seq + 1, seq), rows, strict=True):
        other.execute("UPDATE events SET entry = ?, signature = ? WHERE seq = ?", (*row, at))


def unlist(other: apsw.Connection, seq: int) -> None:
    """Hide an entry from the histories."""
    other.execute("DELETE FROM event_objects WHERE seq = ?", (seq,))


@pytest.mark.parametrize("attack", [alter, delete, close_up, swap, unlist])
def test_an_attack_on_the_stored_entries_is_found_at_the_entry(
    victim: tuple[Authority, apsw.Connection], attack: Callable[[apsw.Connection, int], None]
) -> None:
    authority, other = victim
    assert authority.verify().size == 9
    other.execute("PRAGMA foreign_keys = OFF")
    attack(other, 3)
    with pytest.raises(LogError) as caught:
        authority.verify()
    assert caught.value.seq == 3


def test_a_tail_that_was_cut_is_found_by_the_own_head(victim: tuple[Authority, apsw.Connection]) -> None:
    authority, other = victim
    delete(other, 8)
    with pytest.raises(LogError, match="covers 9") as caught:
        authority.verify()
    assert caught.value.seq == 8


def roll_back(folder: Path, authority: Authority, other: apsw.Connection, size: int) -> None:
    """What an operator with the log's key can do: cut the tail, and sign a fitting head and frontier."""
    for seq in range(size, authority.verify().size):
        delete(other, seq)
    frontier: list[bytes] = []
    for seq, (data, signature) in enumerate(other.execute("SELECT entry, signature FROM events ORDER BY seq")):
        tree.push(frontier, seq, tree.leaf_hash(bytes(signature) + bytes(data)))
    head = sign_checkpoint(ISSUER, size, tree.root(frontier), LogKey.load(folder), ISSUER)
    other.execute("UPDATE log SET size = ?, frontier = ?, head = ?", (size, b"".join(frontier), head))


def test_a_head_that_was_kept_elsewhere_finds_what_the_operator_did(
    tmp_path: Path, victim: tuple[Authority, apsw.Connection]
) -> None:
    authority, other = victim
    kept = authority.head()
    roll_back(tmp_path / FOLDER, authority, other, 8)
    assert authority.verify().size == 8  # from the inside all is well
    with pytest.raises(LogError, match="covers 9") as caught:
        authority.verify([kept])
    assert caught.value.seq == 8
    authority.revoke(APPROVER, authority.licenses()[0].jti, "another story")  # as long as before, and different
    assert authority.verify().size == 9
    with pytest.raises(LogError, match="rewritten"):
        authority.verify([kept])
    to_active(authority)  # and longer than before
    with pytest.raises(LogError, match="head of 9") as caught:
        authority.verify([kept])
    assert caught.value.seq == 8


@pytest.mark.slow
def test_heads_of_any_time_hold(authority: Authority) -> None:
    heads = [authority.head()]
    for _ in range(3):
        to_active(authority)
        heads.append(authority.head())
    assert authority.verify(heads).size == 20


def test_a_head_of_another_log_does_not_count(tmp_path: Path, authority: Authority) -> None:
    stranger = make(tmp_path / "stranger")
    with pytest.raises(LogError, match="does not count"):
        authority.verify([stranger.head()])
    with pytest.raises(LogError, match="does not count"):
        authority.verify(["nonsense"])
    stranger.close()


def test_an_entry_that_is_added_by_hand_is_found(victim: tuple[Authority, apsw.Connection]) -> None:
    authority, other = victim
    other.execute("INSERT INTO events SELECT 9, entry, signature FROM events WHERE seq = 8")
    with pytest.raises(LogError) as caught:
        authority.verify()
    assert caught.value.seq == 9


def test_entries_that_come_in_meanwhile_are_no_fault(victim: tuple[Authority, apsw.Connection], tmp_path: Path) -> None:
    authority, _ = victim
    head = authority.head()
    beside = Authority.open(tmp_path / FOLDER, clock=Hands())

    class Busy(Store):
        def value(self, sql: str, *bindings: object) -> object:
            found = super().value(sql, *bindings)
            if sql == "SELECT head FROM log":  # right after the head was read, another process works
                to_active(beside)
            return found

    store = Busy(tmp_path / FOLDER / "authority.db")
    assert verify(store, ISSUER, authority.log_key(), [head]).size == 9
    assert authority.verify([head]).size == 15
    store.close()
    beside.close()


def test_the_history_reads_like_a_story(authority: Authority) -> None:
    license_ = to_active(authority)
    authority.revoke(APPROVER, license_.jti, "obtained by deceit")
    lines = [str(event) for event in authority.history(f"application/{license_.application}")]
    assert lines[0].endswith(f"alice submit application/{license_.application} - -> submitted")
    assert lines[-1].endswith(f"ann revoke license/{license_.jti} active -> revoked: obtained by deceit")
    assert "2026-11-18 17:46:40Z" in lines[0]
    with pytest.raises(NotFoundError):
        authority.history("license/nope")


def test_l7_no_key_is_in_the_log_or_the_store_in_clear(tmp_path: Path, authority: Authority) -> None:
    from tests.gateway.authority.offices import ADMIN

    key = authority.add_key(ADMIN, "olga", ["officer", "assessor"])
    assert authority.actor(key).name == "olga"
    assert {role.value for role in authority.actor(key).roles} == {"officer", "assessor"}
    stored = b"".join(path.read_bytes() for path in sorted((tmp_path / FOLDER).glob("authority.db*")))
    assert key.encode() not in stored
    assert key not in json.dumps([event.detail for event in authority.events()], default=str)
