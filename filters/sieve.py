"""The one class that holds streamed text back.

`feed` takes text as it arrives and returns what may be shown now; `close` ends the channel. Scanners say up to which
offset everything is decided, the judge (if any) up to which segment; the sieve releases up to the smaller of them and
never inside a mask. What it promises: how text arrives never changes what comes out; clean text comes out unchanged and
soon; no released text overlaps a masked or blocked span; what is held is bounded; after an error it stays shut.

One sieve per channel. Not for use by two tasks at once.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Final, Literal

from filters.detectors.patterns import LEFT_CHARS
from filters.finding import Finding, Namer, Release, Restoring, Rules, Scanner, Sleeper, UndecidedError
from filters.resolve import Resolver
from filters.segments import Segment, Segmenter
from filters.view import END, FOREIGN, fold

# The most that is held without a judge: a chain of masks (CLUSTER_CHARS_MAX) before an open token (1,024), and what
# the impersonation scanner holds. Reaching it refuses; it is never released (L9).
HELD_CHARS_MAX: Final = 8192
# The same with a judge, between two calls of it: feed at most SLICE_CHARS at once and settle before the next.
JUDGED_HELD_CHARS_MAX: Final = 65_536
_FOREIGN: Final = FOREIGN.encode()
# Decided text is cut off the buffer in steps of this many characters, so that most feeds copy nothing.
_TRIM_CHARS: Final = 512


class Sieve:
    """Holds back one channel of one answer or prompt."""

    def __init__(
        self,
        scanners: Sequence[Scanner],
        rules: Rules,
        *,
        judged: bool = False,
        namer: Namer | None = None,
        restoring: Restoring | None = None,
        held_chars_max: int = HELD_CHARS_MAX,
        beyond: Literal["refuse", "patterns"] | None = None,
    ) -> None:
        """`judged`: nothing is released before `judged()` has been called for its segment. `beyond` goes before what the
        rules say of texts that are longer than is judged.

        `namer` gives pseudonyms where the rules ask for them, `restoring` turns those in this text into values.
        `held_chars_max` bounds what is held without a judge.
        """
        self._held_chars_max = held_chars_max
        self._scanners = tuple(scanners) if restoring is None else (*scanners, restoring.scanner())
        self._sleepers = tuple(s if isinstance(s, Sleeper) else None for s in self._scanners)
        self._asleep = [True] * len(self._scanners)  # of those that are no sleepers it says nothing
        # While all sleep and a text has nothing but the bytes that are quiet to all, only the others are asked.
        self._quiet = _quiet_to_all(tuple(s.quiet for s in self._sleepers if s is not None))
        self._restless = tuple(index for index, sleeper in enumerate(self._sleepers) if sleeper is None)
        self._resolver = Resolver(rules, namer, restoring)
        self._names = rules.names
        self._beyond = beyond or rules.names.beyond
        self._judged = judged
        self._segmenter = Segmenter() if judged else None
        self._queue: list[Segment] = []
        self._text = ""  # the channel from _base on
        self._view = b""
        self._base = 0
        self._decided = 0  # what starts before it is known to every scanner
        self._released = 0
        self._closed = False
        self._shut = False
        self._unjudged = False

    @property
    def held_chars(self) -> int:
        """How many characters were fed and not yet released."""
        return self._base + len(self._text) - self._released

    @property
    def released(self) -> int:
        """The offset before which everything was released."""
        return self._released

    @property
    def last(self) -> str:
        """The last character fed, or "" where none is left."""
        return self._text[-1:]

    def fork(self) -> Sieve:
        """Another sieve that stands where this one does, to see what would be released if the text ended here."""
        other = copy.copy(self)
        other._scanners = tuple(map(copy.copy, self._scanners))
        other._sleepers = tuple(s if isinstance(s, Sleeper) else None for s in other._scanners)
        other._asleep = list(self._asleep)
        other._resolver = self._resolver.fork()
        other._segmenter = copy.copy(self._segmenter)
        other._queue = list(self._queue)
        return other

    @property
    def blocked(self) -> Finding | None:
        """What cut the channel off, if something did."""
        return self._resolver.blocked

    def feed(self, text: str) -> Release:
        """What may be shown now that `text` has arrived.

        Raises UndecidedError if a detector failed or a bound was hit, and from then on. After a block it returns
        empty releases that bear the blocking finding.
        """
        self._check_open()
        if self._resolver.blocked is not None:
            return self._nothing()
        view = fold(text)
        self._text += text
        self._view += view
        release = self._advance(text, view)
        assert release is not None
        return release

    def pass_on(self, text: str) -> Release | None:
        """As `feed`; None where nothing is found, and `released` says how far the channel may be shown."""
        self._check_open()
        if self._resolver.blocked is not None:
            return self._nothing()
        view = fold(text)
        self._text += text
        self._view += view
        return self._advance(text, view, told=False)

    def close(self) -> Release:
        """What may be shown now that the channel has ended. Without a judge that is all the rest."""
        self._check_open()
        self._closed = True
        if self._resolver.blocked is not None:
            return self._nothing()
        release = self._advance("", b"", final=True)
        assert release is not None
        return release

    @property
    def waits(self) -> bool:
        """Whether it was made to wait for a judge."""
        return self._judged

    @property
    def unjudged(self) -> bool:
        """Whether some text passed without the judge, because the policy says so beyond a bound."""
        return self._unjudged

    def give_up(self) -> Release:
        """Goes on without the judge: what waits for it is decided by patterns alone."""
        if self._shut:
            raise UndecidedError("this sieve is shut")
        self._queue.clear()
        self._segmenter = None
        self._unjudged = True
        return self._nothing() if self._resolver.blocked is not None else self._released_now()

    def pending(self) -> Sequence[str]:
        """The segments that wait for the judge, oldest first; empty without one."""
        return [segment.text for segment in self._queue]

    def judged(self, found: Sequence[Sequence[Finding]]) -> Release:
        """Takes the judge's findings for the oldest `len(found)` pending segments, in their own offsets."""
        if self._shut:
            raise UndecidedError("this sieve is shut")
        if self._resolver.blocked is not None:
            self._queue.clear()
            return self._nothing()
        if len(found) > len(self._queue):
            self.shut()
            raise UndecidedError("the judge answered for segments it was not asked about")
        segments, self._queue = self._queue[: len(found)], self._queue[len(found) :]
        try:
            for segment, listed in zip(segments, found, strict=True):
                self._resolver.add(segment.placed(listed))
        except UndecidedError:
            self.shut()
            raise
        return self._released_now()

    def shut(self) -> None:
        """Lets nothing out any more: every later use raises. Drops the text that was held."""
        self._shut = True
        self._text = ""
        self._view = b""
        self._queue = []

    def _check_open(self) -> None:
        if self._shut:
            raise UndecidedError("this sieve is shut")
        if self._closed:
            raise UndecidedError("this sieve was closed")

    def _nothing(self) -> Release:
        return Release(self._released, self._released, "", blocked=self._resolver.blocked)

    def _advance(self, text: str, more: bytes, *, final: bool = False, told: bool = True) -> Release | None:
        """`more` is the view of `text`, which was just added. Without `told` None stands for a release without findings."""
        view = self._view + END if final else self._view
        base = self._base
        size = decided = len(self._text)
        asleep = self._asleep
        try:
            calm = False not in asleep and not more.translate(None, self._quiet)
            for index in self._restless if calm else range(len(asleep)):
                scanner = self._scanners[index]
                sleeper = self._sleepers[index]
                if sleeper is not None:
                    if asleep[index]:
                        loud = more.translate(None, sleeper.quiet)
                        foreign = sleeper.foreign
                        if not loud or (foreign is not None and not loud.strip(_FOREIGN) and foreign.isdisjoint(text)):
                            continue
                        sleeper.wake(self._released - base)
                    found = scanner.scan(self._text, view, final)
                    asleep[index] = scanner.at >= size and sleeper.sleeps
                else:
                    found = scanner.scan(self._text, view, final)
                at = scanner.at
                if at < decided and not final:
                    decided = at
                if found:
                    low = self._released - base
                    for one in found:
                        if not low <= one.start < one.end <= size:
                            raise UndecidedError("a detector found something outside its text")  # noqa: TRY301
                    self._resolver.add([Finding(f.entity, f.start + base, f.end + base, f.score) for f in found])
            if self._segmenter is not None:
                self._queue += self._segmenter.cut(self._text, base, final)
                if self._segmenter.at > self._names.chars_max:
                    self._judge_no_more()
        except UndecidedError:
            self.shut()
            raise
        except Exception as error:
            self.shut()
            raise UndecidedError(f"a detector failed: {type(error).__name__}") from error
        self._decided = base + decided
        return self._release(told=told)

    def _judge_no_more(self) -> None:
        """The text is longer than the policy has judged: it is refused, or its rest goes on with patterns alone.

        Which segments are judged follows from their places, so it is the same however the text arrived.
        """
        if self._beyond == "refuse":
            raise UndecidedError("the text is longer than the policy lets the judge look at", limit=True)
        self._queue = [s for s in self._queue if s.start <= self._names.chars_max]
        self._segmenter = None
        self._unjudged = True

    def _final_at(self) -> int:
        """The offset before which everything is decided."""
        if self._segmenter is None:
            return min(self._decided, self._queue[0].start) if self._queue else self._decided
        return min(self._decided, self._queue[0].start if self._queue else self._segmenter.at)

    def _released_now(self) -> Release:
        release = self._release(told=True)
        assert release is not None
        return release

    def _release(self, *, told: bool) -> Release | None:
        release: Release | None = None
        final = self._final_at()
        released = self._released
        if final < released:
            final = released
        if told or not self._resolver.idle:
            try:
                release = self._resolver.release(self._text, self._base, released, final)
            except UndecidedError:
                self.shut()
                raise
            final = release.end
            if release.blocked is not None:
                self._released = final
                self._text, self._view, self._queue, self._base = "", b"", [], final
                return release
        self._released = final
        held = self._base + len(self._text) - final
        if held > (self._held_chars_max if self._segmenter is None and not self._queue else JUDGED_HELD_CHARS_MAX):
            self.shut()
            raise UndecidedError("more undecided text than a sieve may hold", limit=True)
        if len(self._text) - held > _TRIM_CHARS + LEFT_CHARS:
            self._trim()
        return release

    def _trim(self) -> None:
        low = min(self._released, self._decided)
        if self._segmenter is not None:
            low = min(low, self._segmenter.at)
        low -= self._base + LEFT_CHARS
        if low <= 0:
            return
        self._text = self._text[low:]
        self._view = self._view[low:]
        self._base += low
        for scanner in self._scanners:
            scanner.drop(low)


@functools.lru_cache(maxsize=256)
def _quiet_to_all(quiet: tuple[bytes, ...]) -> bytes:
    """The bytes that are in each of them."""
    return bytes(byte for byte in range(256) if all(byte in one for one in quiet))
