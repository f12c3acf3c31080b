r"""Offsets to lines and columns, while a text goes by: only its last stretch is kept.

Lines and columns count from 1, columns in code points; a line ends behind `\n`.
"""

from __future__ import annotations

from typing import Final

from filters import HELD_CHARS_MAX, UndecidedError
from filters.sieve import JUDGED_HELD_CHARS_MAX

# What a finding may reach back: what a sieve holds, and the longest finding (a private key).
KEPT_CHARS: Final = 4 * HELD_CHARS_MAX
JUDGED_KEPT_CHARS: Final = 2 * JUDGED_HELD_CHARS_MAX


class Places:
    """The last stretch of a text, and where it stands."""

    def __init__(self, kept: int = KEPT_CHARS) -> None:
        """`kept`: the characters that are surely there, counted from the end."""
        self._kept = kept
        self._text = ""
        self._new: list[str] = []  # what follows _text: joined when somebody asks
        self._size = 0  # of both
        self._base = 0  # offset of _text[0]
        self._line = 1  # the line of _cursor
        self._cursor = 0  # an offset in the stretch, or its end
        self._first_line_at = 0  # where the line begins in which the stretch begins

    def add(self, text: str) -> None:
        """The text goes on."""
        self._new.append(text)
        self._size += len(text)
        if self._size > 2 * self._kept + len(text):
            self._trim()

    def at(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset. Raises UndecidedError where the text is gone."""
        text = self._joined()
        if not self._base <= offset <= self._base + len(text):
            raise UndecidedError("a finding reaches back farther than text is kept", limit=True)
        self._move(offset)
        last = text.rfind("\n", 0, offset - self._base)
        begin = self._first_line_at if last < 0 else self._base + last + 1
        return self._line, offset - begin + 1

    def around(self, start: int, end: int, left: int, right: int) -> tuple[str, int]:
        """The text around a stretch, as far as it is kept, and the offset at which it begins."""
        first = max(self._base, start - left)
        return self._joined()[first - self._base : end - self._base + right], first

    def slice(self, start: int, end: int) -> str:
        """The text of a stretch, as far as it is kept."""
        return self._joined()[max(0, start - self._base) : end - self._base]

    def _joined(self) -> str:
        if self._new:
            self._text = "".join([self._text, *self._new])
            self._new = []
        return self._text

    def _trim(self) -> None:
        text = self._joined()
        cut = len(text) - self._kept
        self._move(self._base + cut)
        last = text.rfind("\n", 0, cut)
        if last >= 0:
            self._first_line_at = self._base + last + 1
        self._text = text[cut:]
        self._size = self._kept
        self._base += cut

    def _move(self, offset: int) -> None:
        """Moves the cursor, counting the lines between."""
        here, there = self._cursor - self._base, offset - self._base
        if there >= here:
            self._line += self._text.count("\n", here, there)
        else:
            self._line -= self._text.count("\n", there, here)
        self._cursor = offset
