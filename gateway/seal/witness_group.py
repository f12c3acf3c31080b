"""All witnesses of a gateway, asked at once: what they sign, who is behind, and whether there are enough of them.

Each is asked by a thread of its own, and none is waited for longer than `wait_s`; one that still works on the last question is not asked
another. What is missing is told as places: `witness:<name>` for each, and `witness` for the number that the settings require.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.audit.places import Place
from gateway.errors import ConfigError
from gateway.seal.witness_client import Consistency, WitnessClient, WitnessError
from gateway.settings.audit import WitnessSettings
from gateway.tlog.note import NoteError, read_lines, read_note

WAIT_S = 8.0  # our choice: below the ten seconds between heads
BEHIND_MAX = 10_000  # our choice: origins of which a witness is known to miss something
QUORUM = "witness"

log = logging.getLogger("licet.seal")


@dataclass(slots=True)
class _Behind:
    """Heads that somebody has not cosigned yet, by origin."""

    since_ms: dict[str, int] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=dict)

    def missed(self, origin: str, records: int, now_ms: int) -> None:
        if origin in self.since_ms or len(self.since_ms) < BEHIND_MAX:
            self.since_ms.setdefault(origin, now_ms)
            self.records[origin] = records

    def reached(self, origin: str) -> None:
        self.since_ms.pop(origin, None)
        self.records.pop(origin, None)

    @property
    def oldest_ms(self) -> int | None:
        return min(self.since_ms.values(), default=None)


@dataclass(slots=True, eq=False)
class _Member:
    client: WitnessClient
    behind: _Behind = field(default_factory=_Behind)
    sizes: dict[str, int] = field(default_factory=dict)  # cosigned since this process began
    problem: str = ""
    sent: int = 0
    failures: int = 0
    busy: threading.Thread | None = None


@dataclass(slots=True, eq=False)
class _Question:
    """One head that all are asked about. `lines` and `problems` fill while it is open."""

    origin: str
    note: str
    size: int
    consistency: Consistency
    lines: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    proofs: dict[int, Sequence[bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: bool = False

    def proof(self, old: int) -> Sequence[bytes]:
        """The caller's proof, made by one thread at a time, and not after the caller has gone on: its tree may have changed."""
        with self.lock:
            if self.over:
                raise WitnessError("unreachable: it answered too late")
            if old not in self.proofs:
                self.proofs[old] = self.consistency(old)
            return self.proofs[old]


class WitnessGroup:
    """Has heads cosigned (`gateway.seal.witnesses.Witnesses`). For one thread at a time."""

    def __init__(
        self,
        settings: Sequence[WitnessSettings],
        required: int,
        state_dir: Path,
        *,
        wait_s: float = WAIT_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Raises ConfigError for witnesses that are not so many different ones."""
        timeout_s = wait_s / 2  # it may have to be asked twice
        self._members = [_Member(WitnessClient(one, state_dir, timeout_s=timeout_s, now_s=now_s)) for one in settings]
        names = {member.client.key.name for member in self._members}
        publics = {member.client.key.public for member in self._members}
        if min(len(names), len(publics)) < len(self._members):
            raise ConfigError("audit.witnesses: two have one name or one key; each counts once, leave one out")
        if required > len(self._members):
            raise ConfigError(f"audit.witnesses_required: {required} of {len(self._members)} witnesses cannot cosign")
        self._required = required
        self._wait_s = wait_s
        self._now_s = now_s
        self._quorum = _Behind()
        self._quorum_sent = self._quorum_failures = 0

    def cosign(self, origin: str, note: str, size: int, root: bytes, consistency: Callable[[int], list[bytes]]) -> str:
        """The note with the lines of all that cosigned it now, in the place of older ones of theirs. Never longer than `wait_s`."""
        del root  # the note says it
        question = _Question(origin, note, size, consistency)
        asked = []
        for member in self._members:
            if member.busy is not None and member.busy.is_alive():
                question.problems[member.client.name] = "unreachable: it still has not answered the question before"
                continue
            member.busy = threading.Thread(target=_ask, args=(member, question), name="witness", daemon=True)
            member.busy.start()
            asked.append(member)
        deadline = time.monotonic() + self._wait_s
        for member in asked:
            if member.busy is not None:
                member.busy.join(max(deadline - time.monotonic(), 0))
        with question.lock:
            question.over = True
            lines = dict(question.lines)
            problems = dict(question.problems)
        self._count(origin, size, lines, problems)
        return _with(note, lines)

    def places(self) -> Sequence[Place]:
        """Each witness, and whether there are enough (`witness`, which counts for the policy if any are required)."""
        found = [
            Place(
                name=f"witness:{member.client.name}",
                behind_records=sum(member.behind.records.values()),
                since_ms=member.behind.oldest_ms,
                problem=member.problem,
                sent=member.sent,
                failures=member.failures,
            )
            for member in self._members
        ]
        if self._required:
            since_ms = self._quorum.oldest_ms
            found.append(
                Place(
                    name=QUORUM,
                    required=True,
                    behind_records=sum(self._quorum.records.values()),
                    since_ms=since_ms,
                    problem="" if since_ms is None else f"fewer than {self._required} witnesses cosigned",
                    sent=self._quorum_sent,
                    failures=self._quorum_failures,
                )
            )
        return found

    def close(self) -> None:
        """Let go of the connections that nobody uses. Harmless twice."""
        for member in self._members:
            if member.busy is None or not member.busy.is_alive():
                member.client.close()

    def _count(self, origin: str, size: int, lines: Mapping[str, str], problems: Mapping[str, str]) -> None:
        now_ms = int(self._now_s() * 1000)
        before = self._enough(origin)
        for member in self._members:
            name = member.client.name
            known = member.sizes.get(origin, 0)
            if name in lines:
                member.sent += max(size - known, 0)
                if len(member.sizes) >= BEHIND_MAX:
                    del member.sizes[next(iter(member.sizes))]
                member.sizes[origin] = size
                member.behind.reached(origin)
                member.problem = ""
                continue
            problem = problems.get(name, "unreachable: it did not answer in time")
            if problem != member.problem:
                log.warning("witness %s does not cosign: %s", name, problem)
            member.problem = problem
            member.failures += 1
            member.behind.missed(origin, size - known, now_ms)
        if len(lines) >= self._required:
            self._quorum_sent += max(size - before, 0)
            self._quorum.reached(origin)
        else:
            self._quorum_failures += 1
            self._quorum.missed(origin, size - before, now_ms)

    def _enough(self, origin: str) -> int:
        """How many entries of a log so many witnesses cosigned as are required."""
        sizes = sorted((member.sizes.get(origin, 0) for member in self._members), reverse=True)
        return sizes[self._required - 1] if self._required else 0


def _ask(member: _Member, question: _Question) -> None:
    """In a thread of its own: what comes out of it is in the question."""
    name = member.client.name
    try:
        lines = member.client.cosign(question.origin, question.note, question.size, question.proof)
    except (OSError, NoteError) as error:
        told = str(error) if isinstance(error, WitnessError) else f"failing: {type(error).__name__}"
        with question.lock:
            question.problems[name] = told
    except Exception:
        log.exception("asking a witness failed")
        with question.lock:
            question.problems[name] = "failing: it could not be asked; the log tells why"
    else:
        with question.lock:
            question.lines[name] = lines


def _with(note: str, lines: Mapping[str, str]) -> str:
    """The note, in which older lines of the keys that signed now are left out."""
    text, known = read_note(note)
    fresh = [line for one in lines.values() for line in read_lines(one)]
    renewed = {(line.name, line.key_id) for line in fresh}
    kept = [line for line in known if (line.name, line.key_id) not in renewed]
    return text.decode() + "\n" + "".join(str(line) for line in (*kept, *fresh))
