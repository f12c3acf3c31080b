"""The check of one log, record after record: its journal, its sealed log, and every head that somebody holds it to, side by side.

Each step is checked in the order of FORMAT.md, section "Verdict"; the first that fails ends the walk. Memory does not grow with
the log, but for the calls that are open.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable

from . import frames, tree
from .heads import Held, Inclusion
from .heldproofs import HeldProofs, held_file
from .records import Meaning, Records, RootHex, WrongError
from .sealedlog import SealedLog
from .segments import Journal
from .tiles import TILE_LEVEL
from .tree import EMPTY_ROOT, verify_inclusion


class Walk:
    """Where the check of one log stands. `seq` is the next record, and the frontier that of the tree over all before it."""

    def __init__(
        self,
        name: str,
        meaning: Meaning,
        *,
        journal: Journal | None = None,
        log: SealedLog | None = None,
        root: bytes = EMPTY_ROOT,
        heads: Iterable[Held] = (),
        sealed_to: Held | None = None,
        inclusions: Iterable[Inclusion] = (),
        proofs: HeldProofs | None = None,
    ) -> None:
        """`root`: the signed one, of the log's size. `heads`: ascending; `sealed_to`: the largest that the log itself must have.
        `proofs`: those that the log keeps of pruned records."""
        self.name = name
        self.seq = 0
        self.frontier: list[bytes] = []
        self._meaning = meaning
        self._journal = journal
        self._log = log
        self._root = root
        self._heads = iter(heads)
        self._held: Held | None = next(self._heads, None)
        self._sealed_to = sealed_to
        self._inclusions = sorted(inclusions)
        self._proofs = proofs
        self._later: list[Held] = []  # a heap: heads that proofs lead to, each once

    def root_hex(self) -> str:
        """Of the tree over the records before `seq`."""
        return tree.root(self.frontier).hex()

    def run(self) -> None:
        """Check all there is. Raises WrongError, frames.DamagedError; `seq` is then the record to name unless the error has its own."""
        log, journal, meaning = self._log, self._journal, self._meaning
        size = log.size if log is not None else 0
        kept = log.kept if log is not None else 0
        begins = journal.first if journal is not None else -1  # the journal's first record; -1: it has no more
        meaning.begin(min(kept, begins) if begins >= 0 else kept)
        payloads = journal.records(self._follows) if journal is not None else iter(())
        sha256, frontier, root_hex = hashlib.sha256, self.frontier, self.root_hex
        take = meaning.take if journal is not None else self._take
        seq = 0
        proved = self._proofs.next if self._proofs is not None else -1
        while True:
            if self._held is not None or seq == size or self._inclusions or self._later:
                self._check_heads(seq, size)
            payload = next(payloads, None) if 0 <= begins <= seq else None
            if payload is None and 0 <= begins <= seq:
                begins = -1
            if seq < size:
                assert log is not None
                if seq >= kept:
                    payload = self._sealed(log, seq, payload, journal, begins)
                elif payload is None and journal is not None and begins < 0:
                    raise WrongError("the journal ends before the records that are sealed")
            elif payload is None:
                break
            if payload is None:
                assert log is not None
                leaf = log.leaf(seq)
            else:
                leaf = sha256(b"\x00" + payload).digest()
                if seq < size and log is not None:
                    log.check_hash(0, seq, leaf)
                take(seq, payload, root_hex)
            if self._inclusions:
                self._check_inclusions(seq, leaf)
            if seq == proved:
                proved = self._meet(seq, leaf)
            # The leaf joins the complete subtrees of equal size to its left; the whole tiles among them have their hash above.
            count, level = seq, 0
            while count & 1:
                leaf = sha256(b"\x01" + frontier.pop() + leaf).digest()
                count >>= 1
                level += 1
                if not level % TILE_LEVEL and seq < size and log is not None:
                    log.check_hash(level // TILE_LEVEL, seq >> level, leaf)
            frontier.append(leaf)
            seq += 1
            self.seq = seq
        self._finish(seq, size)

    def _take(self, seq: int, payload: bytes, root_hex: RootHex) -> None:
        """An entry that no journal has: what is wrong with it is in its bundle."""
        try:
            self._meaning.take(seq, payload, root_hex)
        except WrongError as error:
            if self._log is None or error.file is not None:
                raise
            raise self._log.wrong_entry(seq, payload, error.problem) from error

    def _sealed(self, log: SealedLog, seq: int, payload: bytes | None, journal: Journal | None, begins: int) -> bytes:
        """The sealed record, which must be that of the journal where the journal has it."""
        if payload is None and journal is not None and begins < 0:
            raise WrongError("the journal ends before the records that are sealed")
        entry = log.entry(seq)
        if payload is not None and payload != entry:
            raise log.wrong_entry(seq, entry, "the sealed entry is not the journal's record")
        return entry

    def _follows(self, header: frames.Header) -> bool:
        """Whether a segment's header says what the records before it say."""
        place = (header.stream, header.first_seq, header.frontier)
        if place != (self.name, self.seq, tuple(self.frontier)):
            return False
        return not isinstance(self._meaning, Records) or self._meaning.meet_open(self.seq, header.open)

    def _check_heads(self, seq: int, size: int) -> None:
        """The signed head, and those that others hold the log to."""
        if seq == size and self._log is not None and tree.root(self.frontier) != self._root:
            raise WrongError("the records do not have the root that the checkpoint signs", file="checkpoint")
        while self._held is not None and self._held.size == seq:
            if tree.root(self.frontier) != self._held.root:
                raise WrongError(f"the records before this one do not have the root that {self._held.witness} holds")
            self._held = next(self._heads, None)
        while self._later and self._later[0].size == seq:
            head = heapq.heappop(self._later)
            if tree.root(self.frontier) != head.root:
                raise WrongError(f"the records before this one do not have the root that {head.witness} holds")
        owed = self._sealed_to
        if seq == size and owed is not None and owed.size > size:
            raise WrongError(
                f"the log has {size} records, and {owed.witness} holds a head of {owed.size}: its tail is lost"
            )

    def _meet(self, seq: int, leaf: bytes) -> int:
        """A record that is held with its proof; the number of the next."""
        assert self._proofs is not None
        head = self._proofs.meet(seq, leaf)
        if head is not None and all((one.size, one.root) != (head.size, head.root) for one in self._later):
            heapq.heappush(self._later, head)
        return self._proofs.next

    def _check_inclusions(self, seq: int, leaf: bytes) -> None:
        while self._inclusions and self._inclusions[0].seq <= seq:
            one = self._inclusions.pop(0)
            if not verify_inclusion(leaf, one.seq, one.size, one.path, one.root):
                raise WrongError(f"the record is not the one that {one.witness} proves")

    def _finish(self, seq: int, size: int) -> None:
        journal, meaning = self._journal, self._meaning
        if self._proofs is not None and self._proofs.next >= 0:
            raise WrongError("a record is held that is not in the log", file=held_file(self._proofs.next))
        if self._later:
            head = self._later[0]
            raise WrongError(
                f"there are {seq} records, and {head.witness} holds a head of {head.size}: the tail is lost"
            )
        if self._held is not None:
            raise WrongError(
                f"there are {seq} records, and {self._held.witness} holds a head of {self._held.size}: the tail is lost"
            )
        ended = isinstance(meaning, Records) and meaning.ended
        if journal is None:
            return
        if journal.torn_bytes and ended:
            raise WrongError("bytes follow the end of the stream")
        # Of a stream that was pruned to its end, only the marker tells that it ended.
        ended = ended or (isinstance(meaning, Records) and 0 < seq <= meaning.first)
        if journal.mark is not None and (not ended or journal.mark != (seq, self.root_hex())):
            raise WrongError(
                f"the stream was ended with {journal.mark[0]} records, and these are not they: its tail is lost"
            )
