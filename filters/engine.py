"""The engine: all detectors of one profile, loaded once a process, and sieves made from them."""

from __future__ import annotations

import functools
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from filters.detectors.china.pack import ChinaPack
from filters.detectors.disguise import Base64Detector, DisguiseDetector
from filters.detectors.impersonation import ClaimDetector, RequestDetector
from filters.detectors.presidio import PresidioPack
from filters.detectors.secrets import SecretsPack
from filters.detectors.walk import Pack, Walk
from filters.finding import Action, Detector, Finding, Namer, Release, Restoring, Rules, UndecidedError
from filters.judge import JUDGE_DEADLINE_S, Judge, Together
from filters.resolve import Resolver
from filters.sieve import HELD_CHARS_MAX, Sieve
from filters.view import END, fold
from filters.whole import WholeDetector

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
# What a stream may hold with the compatible profile, which judges whole texts: four bytes a character of it at the most.
WHOLE_CHARS_MAX: Final = 1 << 20
_EXTENDED_MAX: Final = 64  # policies with entities of their own; as above
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

    def digest(self, text: str, which: bytes) -> bytes:
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=16, key=self._key, person=which).digest()

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


@dataclass(frozen=True, slots=True)
class _Choice:
    """What looks at the texts that one `Rules` is for."""

    rules: Rules
    key: bytes  # of findings that are remembered: tells choices apart
    parts: tuple[Detector | Walk, ...]
    judge: Judge | None


@functools.cache
def _hardened() -> tuple[tuple[Pack, ...], Mapping[Direction, tuple[Detector, ...]]]:
    """The packs and detectors of the profile, compiled once a process: they find the same for whoever asks."""
    return (
        (PresidioPack(), ChinaPack(), SecretsPack()),
        {"prompt": (RequestDetector(),), "answer": (ClaimDetector(),)},
    )


class Engine:
    """Detectors and what is remembered of their work. Safe to share between tasks of one process."""

    def __init__(
        self,
        packs: Sequence[Pack],
        detectors: Mapping[Direction, tuple[Detector, ...]],
        *,
        judges: Mapping[str, Judge] | None = None,
        judge: Judge | None = None,
        judge_deadline_s: float = JUDGE_DEADLINE_S,
        undo: Callable[[Sequence[Pack]], Detector] | None = None,
        held_chars_max: int = HELD_CHARS_MAX,
    ) -> None:
        """`packs` serve both directions and share a walk, `detectors` one. `undo` makes a detector of what the packs find
        in disguise. `held_chars_max`: what a stream without a judge may hold. See `load` for the rest.
        """
        self._packs = tuple(packs)
        self._detectors = dict(detectors)
        self._undo = undo
        self._held_chars_max = held_chars_max
        listed = [*packs, *self._undone(packs), *(d for some in detectors.values() for d in some)]
        self._all: tuple[Detector, ...] = tuple({d.name: d for d in listed}.values())
        self.judges = dict(judges or {})
        self.judge = judge
        self._judge_deadline_s = judge_deadline_s
        self._versions = {d.name: d.version for d in self._all}
        for one in (*self.judges.values(), *([judge] if judge is not None else [])):
            self._versions[one.name] = one.version
        self._memo = _Memo()
        self._choices: dict[tuple[int, Direction], _Choice] = {}
        self._extended: dict[bytes, Engine] = {}
        self._together: dict[str, Together] = {}
        self._thresholds: dict[tuple[str, float], Pack] = {}  # packs by the least score that counts
        self._everything = _Choice(Rules(), _key(self._all), self._parts(self._packs, self._all[len(packs) :]), None)

    @classmethod
    def load(
        cls,
        profile: Literal["hardened", "compatible"] = "hardened",
        *,
        judges: Mapping[str, Judge] | None = None,
        judge: Judge | None = None,
        judge_deadline_s: float = JUDGE_DEADLINE_S,
    ) -> Engine:
        """The engine of a profile: "hardened", or "compatible", which finds exactly what presidio-analyzer 2.2.366 does
        (without a language model) and holds all of a stream until it has ended.

        `judges`: who looks for names, by the mode that rules ask for ("fast", "thorough"). `judge`: one that is asked
        about every text, whatever mode the rules say, within `judge_deadline_s` or the deadline for names.
        Raises ValueError for a profile that this build does not have.
        """
        if profile == "compatible":
            from filters.compatible import CompatibleEngine

            compatible = CompatibleEngine.load()
            whole = WholeDetector("compatible", compatible.find, compatible.entities, compatible.versions)
            return cls(
                (),
                {"prompt": (whole,), "answer": (whole,)},
                judges=judges,
                judge=judge,
                judge_deadline_s=judge_deadline_s,
                held_chars_max=WHOLE_CHARS_MAX,
            )
        if profile != "hardened":
            raise ValueError(f"profile {profile!r} is not available; use 'hardened' or 'compatible'")
        packs, detectors = _hardened()
        return cls(
            packs,
            detectors,
            judges=judges,
            judge=judge,
            judge_deadline_s=judge_deadline_s,
            undo=DisguiseDetector,
        )

    def extended(self, detectors: Sequence[Detector]) -> Engine:
        """This engine with more detectors, for both directions. Models and what is remembered are shared.

        The same detectors give the same engine again.
        """
        if not detectors:
            return self
        more = tuple(detectors)
        key = _key(more)
        known = self._extended.get(key)
        if known is not None:
            return known
        if len(self._extended) >= _EXTENDED_MAX:
            self._extended.clear()
        other = self._extended[key] = Engine(
            self._packs,
            {direction: (*listed, *more) for direction, listed in self._detectors.items()},
            judges=self.judges,
            judge=self.judge,
            judge_deadline_s=self._judge_deadline_s,
            undo=self._undo,
            held_chars_max=self._held_chars_max,
        )
        other._memo = self._memo
        return other

    def add_judge(self, mode: str, judge: Judge) -> None:
        """A judge that was loaded later. Rules that were refused for want of it are served from now on."""
        self.judges[mode] = judge
        self._versions[judge.name] = judge.version
        self._choices.clear()
        self._together.clear()

    def set_judge(self, judge: Judge, deadline_s: float) -> None:
        """A judge, loaded later, that is asked about every text; `deadline_s` holds where rules have no deadline for names."""
        self.judge = judge
        self._judge_deadline_s = deadline_s
        self._versions[judge.name] = judge.version
        self._choices.clear()
        self._together.clear()
        self._extended.clear()

    def warm(self) -> None:
        """Has the phone library build its tables now rather than in the first calls (0.15 s of CPU, 35 MB, measured)."""
        self.find(_WARM)

    @property
    def versions(self) -> Mapping[str, str]:
        """Detector name -> version of its rules and data, as recorded with each call (L10)."""
        return self._versions

    @property
    def entities(self) -> frozenset[str]:
        """Every entity that some detector or judge of this engine may report."""
        judges = (*self.judges.values(), *([self.judge] if self.judge is not None else []))
        return frozenset().union(*(d.entities for d in self._all), *(j.entities for j in judges))

    def find(self, text: str) -> list[Finding]:
        """All findings of all pattern detectors in a whole text, whatever their score, sorted by place."""
        return list(self._find(text, self._everything))

    @property
    def judged(self) -> bool:
        """Whether there is any judge."""
        return self.judge is not None or bool(self.judges)

    def judge_for(self, rules: Rules, direction: Direction) -> Judge | None:
        """Who has to look at texts under these rules besides the detectors. Raises UndecidedError if it is not loaded."""
        return self._chosen(rules, direction).judge

    def deadline_s(self, rules: Rules) -> float:
        """How long that may take, for all segments that wait at once."""
        return rules.names.deadline_s if rules.names.mode != "off" else self._judge_deadline_s

    def beyond(self, rules: Rules) -> Literal["refuse", "patterns"]:
        """What happens beyond the deadline and size for judges: a judge that is asked about every text is never left out."""
        required = self.judge is not None and _wanted(self.judge.entities, rules)
        return "refuse" if required else rules.names.beyond

    def sieve(
        self,
        rules: Rules,
        *,
        direction: Direction,
        judged: bool | None = None,
        namer: Namer | None = None,
        restoring: Restoring | None = None,
    ) -> Sieve:
        """A sieve for one channel. `judged` (default: if the rules ask for a judge) makes it wait for the judge.

        `namer` gives pseudonyms where the rules ask for them, `restoring` turns those in this text into values.
        """
        chosen = self._chosen(rules, direction)
        scanners = [scanner for part in chosen.parts for scanner in part.scanners()]
        waits = chosen.judge is not None if judged is None else judged
        return Sieve(
            scanners,
            rules,
            judged=waits,
            namer=namer,
            restoring=restoring,
            held_chars_max=self._held_chars_max,
            beyond=self.beyond(rules),
        )

    def examine(
        self,
        text: str,
        rules: Rules,
        *,
        direction: Direction,
        namer: Namer | None = None,
        restoring: Restoring | None = None,
    ) -> Release:
        """What a sieve without a judge would release for the whole text. Findings of a text seen before are remembered.

        Raises UndecidedError as the sieve does.
        """
        chosen = self._chosen(rules, direction)
        found = self._find(text, chosen) if chosen.parts else ()
        return self.decide(text, found, rules, namer=namer, restoring=restoring)

    def found(self, text: str, rules: Rules, *, direction: Direction) -> tuple[Finding, ...] | None:
        """What `search` gives in the end, at once; None for a text that is longer than SLICE_CHARS.

        Raises UndecidedError.
        """
        chosen = self._chosen(rules, direction)
        if not chosen.parts:
            return ()
        return self._find(text, chosen) if len(text) <= SLICE_CHARS else None

    def search(self, text: str, rules: Rules, *, direction: Direction) -> Generator[None, None, tuple[Finding, ...]]:
        """The detectors' findings in a whole text, as the value of a generator that yields behind each SLICE_CHARS.

        Findings of a text seen before are remembered. Raises UndecidedError.
        """
        chosen = self._chosen(rules, direction)
        if not chosen.parts:
            return ()
        if len(text) <= SLICE_CHARS or self._held_chars_max > HELD_CHARS_MAX:
            return self._find(text, chosen)
        digest = self._memo.digest(text, chosen.key)
        known = self._memo.get(digest)
        if known is not None:
            return known
        sieve = Sieve([s for part in chosen.parts for s in part.scanners()], _REPORT_ALL)
        found: list[Finding] = []
        for at in range(0, len(text), SLICE_CHARS):
            found += sieve.feed(text[at : at + SLICE_CHARS]).findings
            yield
        found += sieve.close().findings
        found.sort(key=_place)
        self._memo.put(digest, tuple(found))
        return tuple(found)

    def decide(
        self,
        text: str,
        found: Sequence[Finding],
        rules: Rules,
        *,
        namer: Namer | None = None,
        restoring: Restoring | None = None,
    ) -> Release:
        """What the rules make of all findings in a whole text. Raises UndecidedError."""
        if restoring is not None:
            view = fold(text) + END
            found = [*found, *restoring.scanner().scan(text, view, True)]
        if not found:
            return Release(0, len(text), text)
        resolver = Resolver(rules, namer, restoring)
        resolver.add(list(found))
        return resolver.release(text, 0, 0, len(text))

    def stream(
        self,
        rules: Rules | None = None,
        *,
        direction: Direction = "answer",
        namer: Namer | None = None,
        restoring: Restoring | None = None,
    ) -> TextStream:
        """A text stream without a judge; without rules everything that is found is masked."""
        rules = rules or Rules(default=Action.MASK)
        return TextStream(self.sieve(rules, direction=direction, judged=False, namer=namer, restoring=restoring))

    def _chosen(self, rules: Rules, direction: Direction) -> _Choice:
        """The detectors that may find something that the rules do not allow. Remembered for each Rules object."""
        known = self._choices.get((id(rules), direction))
        if known is not None and known.rules is rules:
            return known
        packs: list[Pack] = []
        detectors: list[Detector] = []
        judge: Judge | None = None
        least = 0.0
        if not rules.off:
            least = min((rules.min_score, *rules.scores.values()))
            packs = [self._at_least(p, least) for p in self._packs if _wanted(p.entities, rules)]
            detectors = [*self._undone(packs), *(d for d in self._detectors[direction] if _wanted(d.entities, rules))]
            if rules.decode_base64 and packs:
                detectors.append(Base64Detector(packs))
            judge = self._judge(rules)
        chosen = _Choice(rules, _key([*packs, *detectors], least), self._parts(packs, detectors), judge)
        if len(self._choices) >= _CHOICES_MAX:
            self._choices.clear()
        self._choices[id(rules), direction] = chosen
        return chosen

    def _at_least(self, pack: Pack, score: float) -> Pack:
        known = self._thresholds.get((pack.name, score))
        if known is None:
            known = self._thresholds[pack.name, score] = pack.at_least(score)
        return known

    def _judge(self, rules: Rules) -> Judge | None:
        asked = [self.judge] if self.judge is not None else []
        mode = rules.names.mode
        if mode != "off":
            judge = self.judges.get(mode)
            if judge is None:
                raise UndecidedError(f"nobody is loaded who looks for names in mode {mode!r}")
            asked.append(judge)
        asked = [judge for judge in asked if _wanted(judge.entities, rules)]
        if len(asked) < 2:
            return asked[0] if asked else None
        names = "+".join(judge.name for judge in asked)
        if names not in self._together:
            self._together[names] = Together(asked)
        return self._together[names]

    def _undone(self, packs: Sequence[Pack]) -> list[Detector]:
        """What finds in disguise what those packs find."""
        return [self._undo(packs)] if self._undo is not None and packs else []

    @staticmethod
    def _parts(packs: Sequence[Pack], detectors: Sequence[Detector]) -> tuple[Detector | Walk, ...]:
        return (*([Walk(packs)] if packs else []), *detectors)

    def _find(self, text: str, chosen: _Choice) -> tuple[Finding, ...]:
        digest = self._memo.digest(text, chosen.key)
        known = self._memo.get(digest)
        if known is not None:
            return known
        view = fold(text) + END
        found: list[Finding] = []
        try:
            for part in chosen.parts:
                for scanner in part.scanners():
                    found += scanner.scan(text, view, True)
        except UndecidedError:
            raise
        except Exception as error:
            raise UndecidedError(f"a detector failed: {type(error).__name__}") from error
        size = len(text)
        for one in found:
            if not 0 <= one.start < one.end <= size:
                raise UndecidedError("a detector found something outside its text")
        if len(found) > 1:
            found.sort(key=_place)
        result = tuple(found)
        self._memo.put(digest, result)
        return result


_REPORT_ALL: Final = Rules(default=Action.REPORT, min_score=0.0)


def _wanted(entities: Iterable[str], rules: Rules) -> bool:
    return any(rules.action(entity) is not Action.ALLOW for entity in entities)


def _key(detectors: Iterable[Detector], least: float = 0.0) -> bytes:
    """Sixteen bytes that stand for these detectors with these rules and data, and the least score that they report."""
    names = "\0".join((f"{least}", *(f"{d.name}={d.version}" for d in detectors)))
    return hashlib.blake2b(names.encode(), digest_size=16).digest()


def _place(finding: Finding) -> tuple[int, int, str, float]:
    return finding.start, finding.end, finding.entity, finding.score
