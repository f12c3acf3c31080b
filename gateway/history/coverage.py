"""What an answer rests on, in numbers and sentences: what an adapter holds, against what the disk and the fleet log know."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.history.disk import OnDisk, Ranges, Sight
from gateway.history.port import Completeness, StreamCoverage
from gateway.history.rows import PRUNED

_Say = Callable[[str], None]
NAMED_MAX = 16  # gaps of one stream that are named one by one. Our choice


@dataclass(frozen=True, slots=True)
class Held:
    """What an adapter holds of one stream."""

    first: int = 0
    next: int = 0
    root: str = ""  # of the log at `next`, hex
    gaps: Ranges = ()  # bundles that were gone when it was read
    lost: Ranges = ()  # records whose rows are gone
    ended: bool = False
    unread: tuple[tuple[str, int, int], ...] = ()  # (problem, how many, the first of them)
    problems: tuple[str, ...] = ()
    kept: frozenset[int] | None = (
        None  # pruned records that it has, since they are held; None: it has what it ever took in
    )


@dataclass(frozen=True, slots=True)
class Words:
    """How an adapter speaks of itself."""

    adapter: str
    catch_up: str  # the command that takes in what is sealed
    restore: str  # what to do about rows that are gone
    stands_alone: bool  # whether it keeps what the log no longer has


def cover(sight: Sight, held: dict[str, Held], words: Words, problems: Iterable[str] = ()) -> Completeness:
    """The statement."""
    streams: list[StreamCoverage] = []
    missing = [*problems, *sight.problems]
    for name in sorted({*sight.streams, *held}):
        streams.append(_stream(name, sight.streams.get(name), held.get(name, Held()), words, missing))
    sealed = {one.stream: one.sealed for one in streams}
    for origin, size in sorted(sight.known.items()):
        gateway, _, name = origin.rpartition("/")
        if not sealed.get(name):
            missing.append(
                f"stream {name} of gateway {gateway}: the fleet log knows {size:,} records of it, and it is not here; "
                "ask where it is kept, or bring its log to this disk"
            )
        elif sealed[name] < size:
            missing.append(
                f"stream {name}: the fleet log knows {size:,} sealed records, here are {sealed[name]:,}; restore the newer log"
            )
    return Completeness(words.adapter, tuple(streams), tuple(missing))


def _stream(name: str, disk: OnDisk | None, held: Held, words: Words, missing: list[str]) -> StreamCoverage:
    on_disk = disk.sealed if disk else 0
    sealed = max(on_disk, held.next)
    kept = disk.first if disk else 0
    first = held.first if held.next else kept
    behind = max(held.next, first)

    def say(what: str) -> None:
        missing.append(f"stream {name}: {what}")

    _compare(disk, held, words, say)
    for gap in _named(held.lost, say):
        say(f"the rows of {gap} are gone; {words.restore}")
    absent = disk.absent if disk else ()
    gone = _from(kept, held.gaps)  # what was pruned before it was taken in is not missing: it was past its time
    for gap in _named(_outside(gone, absent), say):
        say(f"{gap} were not in the log when it was read; {words.restore}")
    told = (
        absent
        if not words.stands_alone
        else tuple(r for r in absent if r[1] > behind or _outside((r,), held.gaps) == ())
    )
    for gap in _named(told, say):
        say(f"{gap} are gone from the sealed log; restore the bundles from a copy")
    if behind < sealed:
        say(f"{_told(behind, sealed)} are sealed and not taken in yet; {words.catch_up}")
    for problem, count, at in held.unread:
        if problem != PRUNED:
            say(
                f"{count:,} records gave no row, the first of them {at}: {problem}; read them with the version that wrote them"
            )
    missing.extend(held.problems)
    waiting = sorted(set(disk.held if disk else ()) - held.kept) if held.kept is not None else []
    if waiting:
        say(
            f"{len(waiting):,} records that are held, the first of them {waiting[0]}, are not taken in yet; {words.catch_up}"
        )
    if disk:
        missing.extend(disk.problems)
    lost = _from(first, held.lost)  # without held records, which are not counted
    gaps = merged([*gone, *lost, *([(behind, sealed)] if behind < sealed else [])])
    pruned = sum(stop - start for start, stop in held.gaps) - sum(stop - start for start, stop in gone)
    return StreamCoverage(
        stream=name,
        first=first,
        sealed=sealed,
        present=sealed - first - pruned - sum(stop - start for start, stop in gaps),
        written=disk.written if disk else None,
        gaps=gaps,
        ended=held.ended or bool(disk and disk.ended),
        held=len(disk.held) if disk else 0,
    )


def _compare(disk: OnDisk | None, held: Held, words: Words, say: _Say) -> None:
    """Whether the log on the disk is still the one that was taken in."""
    if disk is None or disk.head is None:
        if held.next and not words.stands_alone:
            say("its sealed log is no longer on this disk; restore it from a copy")
    elif disk.sealed < held.next:
        say(f"{held.next:,} sealed records were taken in, and the log has {disk.sealed:,} now: it was cut; ask who did")
    elif disk.sealed == held.next and held.root and held.root != disk.head.root.hex():
        say(
            f"its log was rewritten since {held.next:,} records of it were taken in; this answer is of the former; ask who did"
        )


def _outside(ranges: Ranges, other: Ranges) -> Ranges:
    """Those that are not inside one of the other."""
    return tuple(r for r in ranges if not any(o[0] <= r[0] and r[1] <= o[1] for o in other))


def _from(first: int, ranges: Ranges) -> Ranges:
    """What of them is at `first` or behind it."""
    return tuple((max(start, first), stop) for start, stop in ranges if stop > first)


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ascending, and none touches another."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return tuple(found)


def _told(start: int, stop: int) -> str:
    return f"record {start}" if stop == start + 1 else f"records {start} to {stop - 1}"


def _named(ranges: Ranges, say: _Say) -> list[str]:
    if len(ranges) > NAMED_MAX:
        count = sum(stop - start for start, stop in ranges[NAMED_MAX:])
        say(f"{count:,} records in {len(ranges) - NAMED_MAX:,} more places like the following are missing")
    return [_told(*one) for one in ranges[:NAMED_MAX]]
