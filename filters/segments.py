"""Segments: the stretches of a channel that a slow detector judges, the same however the text arrived.

A segment ends behind a line break, behind a full stop of Chinese or Japanese, and behind a Latin one that a blank
follows, unless it is that of an initial or a title; it has at least SEGMENT_CHARS_MIN characters, for a model costs the
same for "Yes." as for a sentence. Where none comes within SEGMENT_CHARS_MAX, a grid counted from the segment's start takes over: a stretch of
that length is judged, and the next one starts half of it later, so that a name on a grid line is whole in one of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from filters.finding import Finding, UndecidedError

SEGMENT_CHARS_MAX: Final = 512  # our choice: several sentences' worth; models in use take 512 sub-word pieces
# Shorter ones are joined to the next: half of the cost of chat, and five tokens of a stream at the most. Our choice.
SEGMENT_CHARS_MIN: Final = 24
_TITLES: Final = "".join(
    rf"(?<!\b{title})"
    for title in ("[A-Z]", "Mr", "Mrs", "Ms", "Dr", "St", "Sr", "Jr", "Prof", "Gen", "Sen", "Rep", "Gov")
)
_END: Final = re.compile(rf"{_TITLES}[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+[”’」』）]*|\n")


@dataclass(frozen=True, slots=True)
class Segment:
    """text[start:end] of a channel. Of its findings count those that start before `before`."""

    start: int
    end: int
    before: int
    text: str

    def placed(self, found: Sequence[Finding]) -> list[Finding]:
        """A judge's findings in this segment, in offsets of the channel. Raises UndecidedError if one is not in it."""
        placed = []
        for entity, start, end, score in found:
            if not 0 <= start < end <= len(self.text):
                raise UndecidedError("the judge found something outside its segment")
            if start + self.start < self.before:
                placed.append(Finding(entity, start + self.start, end + self.start, score))
        return placed


class Segmenter:
    """Cuts one channel. Offsets are those of the channel."""

    def __init__(self) -> None:
        self.at = 0  # where the next segment starts

    def cut(self, text: str, base: int, final: bool) -> list[Segment]:
        """The segments that `text`, the channel from offset `base` on, completes."""
        segments: list[Segment] = []
        size = len(text)
        at = self.at - base
        while at < size:
            limit = min(size, at + SEGMENT_CHARS_MAX)
            match = _END.search(text, min(at + SEGMENT_CHARS_MIN - 1, size), min(size, limit + 1))
            end = match.end() if match is not None and match.end() <= limit else -1
            if end >= 0 and (end < size or final or text[end - 1] == "\n"):
                segments.append(Segment(base + at, base + end, base + end, text[at:end]))
                at = end
            elif size - at > SEGMENT_CHARS_MAX:
                half = at + SEGMENT_CHARS_MAX // 2
                segments.append(Segment(base + at, base + limit, base + half, text[at:limit]))
                at = half
            elif final:
                segments.append(Segment(base + at, base + size, base + size, text[at:]))
                at = size
            else:
                break
        self.at = base + at
        return segments
