"""The engine: all detectors of one profile, loaded once a process, and sieves made from them."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, Literal

from filters.detectors.impersonation import ClaimDetector, RequestDetector
from filters.detectors.presidio import PresidioDetector
from filters.finding import Action, Detector, Finding, Release, Rules, UndecidedError
from filters.judge import JUDGE_DEADLINE_S, Judge
from filters.resolve import Resolver
from filters.sieve import Sieve
from filters.view import END, fold

Direction = Literal["prompt", "answer"]

# The memory of findings: chat clients send the whole history with each turn, and only the new turn should cost.
# Bounded in texts and in findings (about 100 bytes each: 6.5 MB at the most). Our choice.
_MEMO_TEXTS_MAX: Final = 4096
_MEMO_FINDINGS_MAX: Final = 65_536
# One number of each kind that the plans of phones.py tell apart.
_WARM: Final = (
    "212-555-1234, 1-800-555-0199, 020 8366 1177, 07400 123456, 030 901820, 0151 23456789, 01 42 68 53 00, 06 12 34 56 78, 02-623-4567, "
    "050-234-5678, 098765 43210, 91 98765 43210, (11) 96123-4567, 0800 123 4567, 4004-1234, +86 10 6552 9988, +61 2 9374 4000"
)
_CHOICES_MAX: Final = 256  # policies x roles x directions in force; a reload leaves old ones behind. Our choice.
# One `examine` is linear in the text, but holds the event loop meanwhile (0.3 ms for this many characters of prose, 30 ms
# where every word is a finding); a caller with a long text feeds a sieve in slices of this size instead, and yields between them.
SLICE_CHARS: Final = 4_096


class TextStream:
    """`Engine.stream`: a sieve that only speaks text."""

    def __init__(self, sieve: Sieve) -> None:
        self._sieve = sieve

    @property
    def blocked(self) -> Finding | None:
        """Set once a finding has cut the text off."""
        return self._sieve.blocked

    def feed(self, text: str) -> str:
        """The text that may be shown now. Raises UndecidedError as `Sieve.feed`."""
        return self._sieve.feed(text).text

    def close(self) -> str:
        """The rest of it."""
        return self._sieve.close().text


class _Memo:
    """Findings by keyed digest of the text: no value can be read off it, nor guessed without the process's key (L7)."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._found: OrderedDict[bytes, tuple[Finding, ...]] = OrderedDict()
        self._size = 0

    def digest(self, text: str, which: str) -> bytes:
        return hashlib.blake2b(
            text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key, person=which.encode()
        ).digest()

    def get(self, digest: bytes) -> tuple[Finding, ...] | None:
        found = self._found.get(digest)
        if found is not None:
            self._found.move_to_end(digest)
        return found

    def put(self, digest: bytes, found: tuple[Finding, ...]) -> None:
        if len(found) > _MEMO_FINDINGS_MAX // 8 or digest in self._found:
            return
        self._found[digest] = found
        self._size += len(found)
        while len(self._found) > _MEMO_TEXTS_MAX or self._size > _MEMO_FINDINGS_MAX:
            self._size -= len(self._found.popitem(last=False)[1])


class Engine:
    """Detectors and what is remembered of their work. Safe to share between tasks of one process."""

    def __init__(
        self, detectors: Mapping[Direction, tuple[Detector, ...]], judge: Judge | None, judge_deadline_s: float
    ) -> None:
        self._detectors = dict(detectors)
        self._all = tuple({d.name: d for listed in detectors.values() for d in listed}.values())
        self.judge = judge
        self.judge_deadline_s = judge_deadline_s
        self._versions = {d.name: d.version for d in self._all}
        if judge is not None:
            self._versions[judge.name] = judge.version
        self._memo = _Memo()
        self._choices: dict[tuple[int, Direction], tuple[Rules, tuple[Detector, ...]]] = {}

    @classmethod
    def load(
        cls, profile: str = "hardened", judge: Judge | None = None, judge_deadline_s: float = JUDGE_DEADLINE_S
    ) -> Engine:
        """The engine of a profile. `judge`: for sieves made with `judged=True`; its deadline is a default for `settle`.

        Raises ValueError for a profile that this build does not have.
        """
        if profile != "hardened":
            raise ValueError(f"profile {profile!r} is not available; use 'hardened'")
        presidio = PresidioDetector()
        return cls(
            {"prompt": (presidio, RequestDetector()), "answer": (presidio, ClaimDetector())}, judge, judge_deadline_s
        )

    def warm(self) -> None:
        """Has the phone library build its tables now rather than in the first calls (0.15 s of CPU, 35 MB, measured)."""
        self.find(_WARM)

    @property
    def versions(self) -> Mapping[str, str]:
        """Detector name -> version of its rules and data, as recorded with each call (L10)."""
        return self._versions

    @property
    def entities(self) -> frozenset[str]:
        """Every entity that some detector of this engine may report."""
        return frozenset().union(*(d.entities for d in self._all))

    def find(self, text: str) -> list[Finding]:
        """All findings of all pattern detectors in a whole text, whatever their score, sorted by place."""
        return list(self._find(text, self._all, "all"))

    def sieve(self, rules: Rules, *, direction: Direction, judged: bool | None = None) -> Sieve:
        """A sieve for one channel. `judged` (default: if the engine has a judge) makes it wait for the judge."""
        scanners = [scanner for detector in self._chosen(rules, direction) for scanner in detector.scanners()]
        waits = self.judge is not None if judged is None else judged
        return Sieve(scanners, rules, judged=waits and not rules.off)

    def examine(self, text: str, rules: Rules, *, direction: Direction) -> Release:
        """What a sieve without a judge would release for the whole text. Findings of a text seen before are remembered.

        Raises UndecidedError as the sieve does.
        """
        chosen = self._chosen(rules, direction)
        if not chosen:
            return Release(0, len(text), text)
        resolver = Resolver(rules)
        resolver.add(list(self._find(text, chosen, direction + "/" + "+".join(d.name[:2] for d in chosen))))
        return resolver.release(text, 0, 0, len(text))

    def stream(self, rules: Rules | None = None, *, direction: Direction = "answer") -> TextStream:
        """A text stream; without rules everything that is found is masked."""
        return TextStream(self.sieve(rules or Rules(default=Action.MASK), direction=direction, judged=False))

    def _chosen(self, rules: Rules, direction: Direction) -> tuple[Detector, ...]:
        """The detectors that may find something that the rules do not allow. Remembered for each Rules object."""
        known = self._choices.get((id(rules), direction))
        if known is not None and known[0] is rules:
            return known[1]
        chosen: tuple[Detector, ...] = ()
        if not rules.off:
            chosen = tuple(
                d for d in self._detectors[direction] if any(rules.action(e) is not Action.ALLOW for e in d.entities)
            )
        if len(self._choices) >= _CHOICES_MAX:
            self._choices.clear()
        self._choices[id(rules), direction] = rules, chosen
        return chosen

    def _find(self, text: str, detectors: tuple[Detector, ...], which: str) -> tuple[Finding, ...]:
        digest = self._memo.digest(text, which)
        known = self._memo.get(digest)
        if known is not None:
            return known
        view = fold(text) + END
        found: list[Finding] = []
        for detector in detectors:
            try:
                for scanner in detector.scanners():
                    found += scanner.scan(text, view, True)
            except UndecidedError:
                raise
            except Exception as error:
                raise UndecidedError(f"detector {detector.name} failed: {type(error).__name__}") from error
        for one in found:
            if not 0 <= one.start < one.end <= len(text):
                raise UndecidedError("a detector found something outside its text")
        found.sort(key=lambda f: (f.start, f.end, f.entity, f.score))
        result = tuple(found)
        self._memo.put(digest, result)
        return result
