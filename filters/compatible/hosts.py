"""Mail addresses and URLs as presidio's expressions find them, in time linear in the text.

The expressions start anew at every character and walk to the end of a run each time; here every run is walked once.
What they find follows from few places: a mail address from its `@`, a URL from the dots that a known top-level domain
follows. All works on the canonical form (data.py).
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from filters.compatible.data import DIGIT

_ATOM: Final = r"!#$%&'*+\-/=?^_`{|}~\w"
_LOCAL_BREAK: Final = re.compile(rf"(?s:.*)[^{_ATOM}.]")
_LOCAL_START: Final = re.compile(rf"\b[{_ATOM}]")
_DOMAIN: Final = re.compile(r"\w++(?:-++\w++)*+(?:\.\w++(?:-++\w++)*+)++")

_DOT: Final = re.compile(r"\.(?=[a-z][a-z])", re.IGNORECASE)
_HOST_BREAK: Final = re.compile(r"(?s:.*)[^a-z0-9.\-]", re.IGNORECASE)
_HOST: Final = re.compile(r"[a-z0-9.\-]*+", re.IGNORECASE)
_WWW: Final = re.compile(r"www\d{0,3}\.", re.IGNORECASE)
_SCHEME: Final = re.compile(r"https?://", re.IGNORECASE)
_QUOTE: Final = re.compile("[\"']")
# The class of the expression, with `\s` written out: `re` counts four control characters as spaces, `regex` does not.
_PATH: Final = re.compile("/[^ \t\n\r\v\f\u00a0()<>\"']*+")
_HOST_CHARS_MAX: Final = 253
_LETTERS: Final = str.maketrans("\u0130\u017f\u212a", "isk")

Span = tuple[int, int]


def may_hold_url(text: str) -> bool:
    """False where no URL can be: for a look at a text before it is brought into canonical form."""
    return _DOT.search(text) is not None


def mails(view: str) -> Iterator[Span]:
    """What the expression for mail addresses matches, from left to right."""
    left = 0
    at = view.find("@")
    while at >= 0:
        if at > left and view[at - 1] != ".":
            domain = _DOMAIN.match(view, at + 1)
            if domain is not None:
                stop = _LOCAL_BREAK.match(view, left, at)
                first = _LOCAL_START.search(view, left if stop is None else stop.end(), at)
                if first is not None:
                    left = domain.end()
                    yield first.start(), left
                    at = view.find("@", left)
                    continue
        left = at + 1
        at = view.find("@", left)


class _Run:
    """A run of characters of host names, and the dots in it that a top-level domain follows."""

    __slots__ = ("dots", "end", "ends", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.dots: list[int] = []
        self.ends: list[int] = []  # of the domain that is tried first behind each dot

    def has(self, low: int, high: int) -> bool:
        """True if there is a dot in low..high, both included."""
        at = bisect.bisect_right(self.dots, high) - 1
        return at >= 0 and self.dots[at] >= low


class _Runs:
    """The runs of a text that have such a dot, in order."""

    __slots__ = ("_starts", "listed")

    def __init__(self, listed: list[_Run]) -> None:
        self.listed = listed
        self._starts = [run.start for run in listed]

    def at(self, place: int) -> _Run | None:
        """The run that holds the character at `place`."""
        index = bisect.bisect_right(self._starts, place) - 1
        return self.listed[index] if index >= 0 and place < self.listed[index].end else None

    def last(self, place: int, low: int, high: int) -> int:
        """The end of the domain behind the last dot in low..high, both included, of the run at `place`; -1 without one."""
        run = self.at(place)
        if run is None:
            return -1
        at = bisect.bisect_right(run.dots, high) - 1
        return run.ends[at] if at >= 0 and run.dots[at] >= low else -1


class Urls:
    """The four expressions of the URL recognizer, by their place in its list."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = frozenset(labels)
        by_head: dict[str, list[str]] = {}
        for label in labels:
            by_head.setdefault(label[:2], []).append(label)
        self._by_head = by_head
        self._label_chars_max = max(map(len, labels))

    def find(self, view: str) -> Iterable[tuple[int, Span]]:
        """(number of the expression, span) of every match."""
        listed = self._runs(view)
        if not listed:
            return ()
        runs = _Runs(listed)
        found: list[tuple[int, Span]] = []
        if "://" in view:
            found += ((0, span) for span in self._with_scheme(view, runs))
        found += ((1, span) for span in self._bare(view, runs))
        if '"' in view or "'" in view:
            found += ((2, span) for span in self._quoted(view, runs, scheme=True))
            found += ((3, span) for span in self._quoted(view, runs, scheme=False))
        return found

    def _runs(self, view: str) -> list[_Run]:
        runs: list[_Run] = []
        end = 0
        for match in _DOT.finditer(view):
            dot = match.start()
            folded = view[dot + 1 : dot + 1 + self._label_chars_max].translate(_LETTERS).lower()
            for label in self._by_head.get(folded[:2], ()):
                if folded.startswith(label):
                    break
            else:
                continue
            if dot >= end:
                stop = _HOST_BREAK.match(view, end, dot)
                start = end if stop is None else stop.end()
                end = _HOST.match(view, dot).end()  # type: ignore[union-attr]  # it matches the empty string
                runs.append(_Run(start, end))
            runs[-1].dots.append(dot)
            runs[-1].ends.append(dot + 1 + len(label))
        return runs

    @staticmethod
    def _path(view: str, at: int) -> int:
        match = _PATH.match(view, at)
        return at if match is None else match.end()

    def _name(self, view: str, runs: _Runs, start: int) -> int:
        """The end of the host name that starts there, without its path; -1 if there is none."""
        www = _WWW.match(view, start)
        if www is not None:
            # The digits of `www` may be others than those of a host name, so what follows may be a run of its own.
            end = runs.last(www.end(), www.end() + 1, www.end() + _HOST_CHARS_MAX)
            if end >= 0:
                return end
        return runs.last(start, start + 1, start + _HOST_CHARS_MAX)

    def _with_scheme(self, view: str, runs: _Runs) -> Iterator[Span]:
        at = 0
        while (match := _SCHEME.search(view, at)) is not None:
            at = match.end()
            end = self._name(view, runs, at)
            if end >= 0:
                at = self._path(view, end)
                yield match.start(), at

    def _bare(self, view: str, runs: _Runs) -> Iterator[Span]:
        at = 0
        for run in runs.listed:
            low = max(at, run.start)
            while low < run.end:
                start = self._first(view, at, low, run)
                if start < 0:
                    break
                at = low = self._path(view, self._name(view, runs, start))
                yield start, at

    @staticmethod
    def _first(view: str, at: int, low: int, run: _Run) -> int:
        """The first place from which a name may reach to a dot of the run; -1 if there is none."""
        if low == run.start and low > at and view[low - 1] == DIGIT:
            for early in range(max(at, low - len("www000")), low - len("www")):
                www = _WWW.match(view, early)
                if www is not None and run.has(www.end() + 1, www.end() + _HOST_CHARS_MAX):
                    return early
        index = bisect.bisect_right(run.dots, low)
        if index == len(run.dots):
            return -1
        dot = run.dots[index]
        start = max(low, dot - _HOST_CHARS_MAX)
        if start > low:
            for early in range(max(low, start - len("www000.")), start):
                www = _WWW.match(view, early)
                if www is not None and www.end() < dot <= www.end() + _HOST_CHARS_MAX:
                    return early
        return start

    def _quoted(self, view: str, runs: _Runs, *, scheme: bool) -> Iterator[Span]:
        at = 0
        while (quote := _QUOTE.search(view, at)) is not None:
            at = first = quote.end()
            if scheme:
                match = _SCHEME.match(view, first)
                if match is None:
                    continue
                first = match.end()
            end = self._whole(view, runs, first)
            if end >= 0 and view[end : end + 1] in ('"', "'"):
                at = end + 1
                yield quote.start(), at

    def _whole(self, view: str, runs: _Runs, start: int) -> int:
        """The end of the path of a host name that is the rest of its run, as a quote behind it demands; else -1."""
        www = _WWW.match(view, start)
        for first in (start,) if www is None else (www.end(), start):
            run = runs.at(first)
            if run is not None and first < run.dots[-1] <= first + _HOST_CHARS_MAX:
                label = view[run.dots[-1] + 1 : run.end].translate(_LETTERS).lower()
                if label in self._labels:
                    return self._path(view, run.end)
        return -1
