"""Private keys over many lines: PEM of all kinds, OpenSSH, PGP, PuTTY; also with `\\n` for line breaks, as in JSON and .env.

A block is followed item by item: separators, runs of base64, header lines, until its END line or until something is no
part of a key any more. Up to BLOCK_CHARS_MAX it is one finding; a longer one is cut there and goes on as findings of
that length, so nothing of a key of any length is shown, and what is held stays bounded (L9). Where an item ends
follows from the text before and a few characters behind it, so cuts of a stream change nothing (L3).
"""

from __future__ import annotations

import re
from typing import Final

from filters.detectors.secrets.rules import PRIVATE_KEY, SURE, Secret, secret

# The most of a block that is held: an RSA key of 4,096 bits has 3,300 characters. Our choice: half of what a sieve may hold.
BLOCK_CHARS_MAX: Final = 4096
# A block with fewer characters of base64 is an example ("-----BEGIN PRIVATE KEY-----\n...").
_KEY_CHARS_MIN: Final = 32
# From the dashes: what opens a block, and the most characters it has.
OPENING: Final = re.compile(
    rb"-{4,5} ?BEGIN [A-Z0-9 .,_-]{0,40}?PRIVATE KEY(?: BLOCK)?-{4,5}|-{4} BEGIN SSH2 ENCRYPTED PRIVATE KEY -{4}",
    re.IGNORECASE,
)
OPENING_CHARS_MAX: Final = 5 + 1 + 6 + 40 + 11 + 6 + 5
# A text that may become one.
OPENING_GROWS: Final = re.compile(
    rb"-{1,5}(?: ?(?:B(?:E(?:G(?:I(?:N(?: [A-Z0-9 .,_-]{0,64}+)?)?)?)?)?)?)?\Z", re.IGNORECASE
)

_SEPARATORS: Final = re.compile(
    rb"(?:[\s\"'`,>|*#:]|\\[nrt\"/\\\n])(?:[\s\"'`,>|*#:]|\\[nrt\"/\\\n]|\+(?=[\s\"'])){0,63}+"
)
_RUN: Final = re.compile(rb"[A-Za-z0-9+/=]++")
_CHUNK_CHARS: Final = 16  # a run of this length is no word
_HEADER: Final = re.compile(
    rb"(?:Proc-Type|DEK-Info|Version|Comment|Charset|Hash|MessageID|Encryption|Public-Lines|Private-Lines|Private-MAC|Key-Derivation|Argon2-[A-Za-z]{1,12}"
    rb"|Subject|Bag Attributes|Key Attributes|localKeyID|friendlyName|X-[A-Za-z-]{1,20}): ?[^\n\\\"]{0,120}+"
)
_HEADER_GROWS: Final = re.compile(rb"[A-Z][A-Za-z0-9-]{0,16}(?: [A-Z][a-z]{0,9})?(?::[^\n\\\"]{0,121})?\Z")
_ENDING: Final = re.compile(rb"-{4,5} ?END [A-Z0-9 .,_-]{0,60}?-{4,5}", re.IGNORECASE)
_ENDING_GROWS: Final = re.compile(rb"-{1,5}(?: ?(?:E(?:N(?:D(?: [A-Z0-9 .,_-]{0,66})?)?)?)?)?\Z", re.IGNORECASE)
# What a short run at the end of a key is told by: what follows, this far.
_SHORT_LOOK_CHARS: Final = 24
_SHORT: Final = re.compile(rb"[A-Za-z0-9+/]*[0-9+/=][A-Za-z0-9+/=]*")
_BEFORE_END: Final = re.compile(rb"(?:\s|\\[nrt]){0,8}-{4,5}")


class Block:
    """One private key, from its opening on. Offsets are those of the buffer."""

    def __init__(self, start: int, body: int) -> None:
        self.start = start  # of the part that is not reported yet
        self._at = body  # what was followed up to here
        self._last = body  # the end of the last item that is a part of the key
        self._chars = 0  # of base64
        self._inside = False  # in a run that is a part of the key
        self._cut = False  # a part of it was reported

    def drop(self, chars: int) -> None:
        """The buffer lost its first characters."""
        self.start -= chars
        self._at -= chars
        self._last -= chars

    def follow(self, view: bytes, final: bool, found: list[Secret]) -> int | None:
        """Follows the key as far as the view decides; where it ends, or None while it goes on."""
        while True:
            end = self._item(view, final)
            while self._last - self.start > BLOCK_CHARS_MAX:
                self._report(found, self.start + BLOCK_CHARS_MAX)
            if end is None:
                continue
            if end < 0:
                return None
            if self._chars >= _KEY_CHARS_MIN and self._last > self.start:
                self._report(found, self._last)
            return max(self._last, self.start)

    def _report(self, found: list[Secret], end: int) -> None:
        found.append(secret(PRIVATE_KEY, self.start, end, SURE, "private-key"))
        self.start = end
        self._cut = True

    def _item(self, view: bytes, final: bool) -> int | None:
        """Takes one item: None when there may be more, -1 when the view must grow, else 1 when the key has ended."""
        size = len(view)
        at = self._at
        if self._inside:
            run = _RUN.match(view, at)
            if run is not None:
                self._taken(run.end(), run.end() - at)
            self._inside = self._at == size and not final
            return -1 if self._inside else None
        if at == size:
            return 1 if final else -1
        gap = _SEPARATORS.match(view, at)
        if gap is not None and gap.end() - at <= 64:
            if gap.end() == size and not final:
                return -1
            at = gap.end()
            if at == size:
                return 1
        if view[at] == 0x5C and at + 1 == size and not final:  # half an escape
            return -1
        header = _HEADER.match(view, at)
        if header is not None:
            if header.end() == size and not final:
                return -1
            self._taken(header.end(), 0)
            return None
        return self._ended(view, at, final) if view[at] == 0x2D else self._run(view, at, final)

    def _ended(self, view: bytes, at: int, final: bool) -> int:
        """Whether the dash at `at` begins the END line: either way the key ends there."""
        ending = _ENDING.match(view, at)
        if ending is None:
            return -1 if not final and _ENDING_GROWS.match(view, at) else 1
        if ending.end() == len(view) and not final:
            return -1
        self._taken(ending.end(), 0)
        return 1

    def _run(self, view: bytes, at: int, final: bool) -> int | None:
        """Takes a run of base64, if it is a part of a key."""
        size = len(view)
        run = _RUN.match(view, at)
        if run is None:
            return 1
        length = run.end() - at
        if length >= _CHUNK_CHARS:
            self._taken(run.end(), length)
            self._inside = run.end() == size and not final
            return -1 if self._inside else None
        if not final and (_HEADER_GROWS.match(view, at) or size - run.end() < _SHORT_LOOK_CHARS):
            return -1
        if self._chars and (_BEFORE_END.match(view, run.end()) or _SHORT.fullmatch(run[0])):
            self._taken(run.end(), length)
            return None
        return 1

    def _taken(self, end: int, chars: int) -> None:
        self._at = self._last = end
        self._chars += chars
