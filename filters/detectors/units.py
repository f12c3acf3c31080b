"""A channel cut into units, so that what is found in streams and in whole texts agrees.

Two kinds of unit, found from the left by character class alone:
- a token: characters between blanks, quotes, angle brackets or parentheses; `,;[]\\` end one too, unless a `/` came before;
- a number run: digits with the blanks and punctuation that people put between their groups, and an extension label.

A unit longer than its window is judged in windows of that length which overlap by half, at offsets counted from the
unit's start: matches up to half a window are found wherever they lie, and work and memory stay bounded (L9).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Final

from filters.finding import Finding, Sleeper, quiet_but

# Half a window. RFC 5321 allows 64 + 1 + 255 characters for a mail address, the longest thing with a stated length;
# a longer URL is covered to its end by `carry` below. Our choice: the smallest power of two above it.
TOKEN_HALF_CHARS: Final = 512
# Half a window of a number run: the longest card or phone number with an extension is below 64 characters.
NUMBER_HALF_CHARS: Final = 128


def without_contained(found: list[Finding]) -> list[Finding]:
    """Drops a finding that another of its entity contains with no lower score, as presidio does."""
    if len(found) < 2:
        return found
    kept: list[Finding] = []
    for one in sorted(found, key=lambda f: (f.start, -f.end, -f.score)):
        if not any(
            k.entity == one.entity and k.start <= one.start and one.end <= k.end and k.score >= one.score
            for k in reversed(kept)
            if k.end > one.start
        ):
            kept.append(one)
    return kept


def count_digits(value: bytes) -> int:
    """How many ASCII digits."""
    return len(value) - len(value.translate(None, b"0123456789"))


Judge = Callable[[str, bytes, int, int], list[Finding]]  # (text, view, start, end) -> findings inside the unit

_BREAK: Final = rb"\x00\x02-\x20\x7f-\xff\"<>()"  # end a token everywhere
_SOFT: Final = rb",;\[\]\\"  # end it unless it has a slash before
_HEAD: Final = rb"[^" + _BREAK + _SOFT + rb"/]"
_UNIT: Final = re.compile(_HEAD + rb"++(?:/[^" + _BREAK + rb"]*+)?|/[^" + _BREAK + rb"]*+")
# Blanks, and closed tokens in which nothing can be: no digit, no @, no dot or colon inside a name; or a number so short
# that no pattern takes it (the least is six digits, or three groups). A run of 20 letters may be a key without any digit.
_DULL: Final = (
    rb"(?:[" + _BREAK + _SOFT + rb"]++"
    rb"|(?:[^" + _BREAK + _SOFT + rb"/0-9@.:]{1,19}+(?![^" + _BREAK + _SOFT + rb"/0-9@.:])"
    rb"|\.(?![0-9A-Za-z])|:(?![0-9A-Fa-f:/]))++(?=[" + _BREAK + _SOFT + rb"])"
    rb"|[+=*-]*+[0-9]{1,5}+(?:\.[0-9]{1,5}+)?+(?=[" + _BREAK + _SOFT + rb"]))*+"
)
_SKIP: Final = re.compile(_DULL)
_HARD_END: Final = re.compile(rb"[" + _BREAK + rb"]")
_ANY_END: Final = re.compile(rb"[" + _BREAK + _SOFT + rb"/]")


class TokenScanner:
    """Walks from token to token. `late` takes starts of matches that may go on past their token."""

    def __init__(self, judge: Judge, late: LateStarts | None = None) -> None:
        self._judge = judge
        self._late = late
        self._at = 0
        self._known = 0  # view[_at:_known] is one open token
        self._slashed = False  # and it has a slash
        self._carry: Finding | None = None  # reached the end of a window: covers the token to its end

    def __copy__(self) -> TokenScanner:
        other = TokenScanner(self._judge, copy.copy(self._late))
        other._at, other._known, other._slashed = self._at, self._known, self._slashed
        other._carry = self._carry
        return other

    @property
    def at(self) -> int:
        return self._at if self._late is None else self._late.open_at(self._at)

    def drop(self, chars: int) -> None:
        self._at -= chars
        self._known -= chars
        if self._carry is not None:
            carry = self._carry
            self._carry = Finding(carry.entity, carry.start - chars, carry.end - chars, carry.score)
        if self._late is not None:
            self._late.drop(chars)

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        found: list[Finding] = []
        size = len(view)
        at = self._at
        if at == size:
            return self._late.scan(view, at, final) if self._late is not None and self._late.waiting else found
        if at < self._known <= size:
            # The common case of a long open token: look only at what came.
            end = (_HARD_END if self._slashed else _ANY_END).search(view, self._known)
            if end is None and size - at <= 2 * TOKEN_HALF_CHARS:
                self._known = size
                return self._late.scan(view, at, final) if self._late is not None and self._late.waiting else found
        while True:
            if self._carry is None:
                at = _SKIP.match(view, at).end()  # type: ignore[union-attr]  # it matches the empty string
            if at >= size:
                break
            unit = _UNIT.match(view, at, at + 2 * TOKEN_HALF_CHARS + 1)  # no farther than what says that it is long
            end_at = at if unit is None else unit.end()
            if end_at - at > 2 * TOKEN_HALF_CHARS:
                self._window(text, view, at, at + 2 * TOKEN_HALF_CHARS, at + TOKEN_HALF_CHARS, found)
                at += TOKEN_HALF_CHARS
                continue
            if end_at == size:
                self._known = size
                self._slashed = b"/" in view[at:]
                break
            self._window(text, view, at, end_at, None, found)
            at = end_at
        self._at = at
        if self._late is not None and self._late.waiting:
            found += self._late.scan(view, at, final)
        return found

    def _window(self, text: str, view: bytes, start: int, end: int, before: int | None, found: list[Finding]) -> None:
        """Judges one unit, or (`before` set) a window of a longer one, of which it reports what starts before that."""
        carry, self._carry = self._carry, None
        if carry is not None and carry.end < end:
            found.append(Finding(carry.entity, carry.end, end, carry.score))
        covered = carry.entity if carry is not None else None
        judged = self._judge(text, view, start, end)
        for one in without_contained(judged) if len(judged) > 1 else judged:
            if one.entity == covered or (before is not None and one.start >= before):
                continue
            found.append(one)
            if before is not None and one.end == end and carry is None:
                carry = one
        if before is not None and carry is not None:
            self._carry = Finding(carry.entity, carry.start, end, carry.score)
        if self._late is not None and (before is not None or end - start >= self._late.head_chars):
            self._late.start(view, start, end if before is None else before)


class LateStarts:
    """Matches that start in a token and may go on over blanks, up to a known length: IBANs in groups of four.

    Each start is tried on its own, so nothing depends on what another start matched. A start has `head_chars` characters
    of one token.
    """

    def __init__(
        self,
        start: re.Pattern[bytes],
        growing: re.Pattern[bytes],
        length_max: int,
        find: Callable[[bytes, int], Finding | None],
        head_chars: int,
    ) -> None:
        self._start = start
        self._growing = growing  # fullmatch: the text from a start to the end of the view can still become longer
        self._length_max = length_max
        self._find = find
        self.head_chars = head_chars
        self.waiting: list[int] = []

    def __copy__(self) -> LateStarts:
        other = LateStarts(self._start, self._growing, self._length_max, self._find, self.head_chars)
        other.waiting = list(self.waiting)
        return other

    def open_at(self, at: int) -> int:
        return min(at, self.waiting[0]) if self.waiting else at

    def drop(self, chars: int) -> None:
        self.waiting = [start - chars for start in self.waiting]

    def start(self, view: bytes, start: int, end: int) -> None:
        """Notes the starts in view[start:end]."""
        for match in self._start.finditer(view, start, end + self.head_chars):
            if match.start() < end:
                self.waiting.append(match.start())

    def scan(self, view: bytes, at: int, final: bool) -> list[Finding]:
        found: list[Finding] = []
        size = len(view)
        while self.waiting:
            start = self.waiting[0]
            if not final and size - start <= self._length_max and self._growing.fullmatch(view, start):
                break
            del self.waiting[0]
            one = self._find(view, start)
            if one is not None:
                found.append(one)
        return found


# Digits and the punctuation of libphonenumber's VALID_PUNCTUATION as it folds. Runs shorter than the fewest digits that
# any pack looks at are passed over by the expression itself; at the end of a view such a run may still grow.
RUN_DIGITS_MIN: Final = 7
_RUN_START: Final = rb"[0-9+(\[]"
_RUN_REST: Final = rb"[0-9 \-.()\[\]/~+xX]"
# No farther than what says that a run is longer than a window.
_NUMBER_RUN: Final = re.compile(_RUN_START + _RUN_REST + rb"{%d,%d}+" % (RUN_DIGITS_MIN - 1, 2 * NUMBER_HALF_CHARS))
_SHORT_RUN: Final = re.compile(_RUN_START + _RUN_REST + rb"{0,%d}\Z" % (RUN_DIGITS_MIN - 2))
# What may follow a number as its extension (libphonenumber's EXTN_PATTERNS_FOR_MATCHING, blanks capped), or make it a time.
_LABELS: Final = tuple(
    sorted(
        {e + "xt" + more for e in ("e", "") for more in ("", "n", "ensi", "ensin", "ensio", "ension")}
        | {"anexo", "int", "ext="}
    )
)
# What says behind a number whose it is, where a line or clause ends with it: signatures do so.
_NAMES: Final = ("office", "mobile", "cell", "fax", "home", "work", "desk", "tel", "phone", "direct")
_PREFIXES: Final = tuple(
    sorted({label[:n] for label in _LABELS for n in range(1, len(label) + 1)}, key=lambda p: (-len(p), p))
)
_TAIL: Final = re.compile(
    rb"(?:[\t,;][ \t,]{0,16}+)?(?:(?:"
    + "|".join(sorted(_LABELS, key=len, reverse=True)).encode()
    + rb")[:.]?[ \t,-]{0,16}+[0-9]{1,20}+#?"
    rb"|#[:.]?[ \t,-]{0,16}+[0-9]{1,9}+#?|#)|:[0-5][0-9]|(?:" + "|".join(_NAMES).encode() + rb")(?=[\r\n,;.)\]|/\\])",
    re.IGNORECASE,
)
_TAIL_OPEN: Final = re.compile(
    rb"(?:[\t,;][ \t,]{0,16})?(?:(?:"
    + "|".join(_PREFIXES).encode()
    + rb"|#)[:.]?[ \t,-]{0,16}[0-9]{0,20}#?)?|:[0-5]?[0-9]?|"
    + "|".join(sorted({name[:n] for name in _NAMES for n in range(1, len(name) + 1)}, key=len, reverse=True)).encode(),
    re.IGNORECASE,
)
# What a tail begins with; most runs have none.
_TAIL_HEADS: Final = frozenset(
    b"\t,;#:"
    + b"".join({one for label in (*_LABELS, *_NAMES) for one in (label[:1].encode(), label[:1].upper().encode())})
)
# Six digits are looked at only in the groups that telephone numbers of small countries have.
_SIX_DIGITS: Final = re.compile(rb"\(?[0-9]{2,3}\)?[ -][0-9]{2,4}(?:[ -][0-9]{2,3})?")
# The longest tail: separator, blanks, label, mark, blanks, digits, hash.
_TAIL_CHARS: Final = 1 + 16 + 10 + 1 + 16 + 20 + 1


class NumberScanner(Sleeper):
    """Walks from number run to number run, those with at least RUN_DIGITS_MIN digits."""

    quiet = quiet_but(b"0123456789+([")

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._at = 0

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        found: list[Finding] = []
        size = len(view)
        at = self._at
        while True:
            run = _NUMBER_RUN.search(view, at)
            if run is None:
                open_ = _SHORT_RUN.search(view, max(at, size - RUN_DIGITS_MIN + 1))
                at = size if open_ is None else open_.start()
                break
            at, end = run.span()
            if end - at > 2 * NUMBER_HALF_CHARS:
                self._window(text, view, at, at + 2 * NUMBER_HALF_CHARS, at + NUMBER_HALF_CHARS, found)
                at += NUMBER_HALF_CHARS
                continue
            if end == size:
                break
            if view[end] in _TAIL_HEADS:
                if not final and size - end <= _TAIL_CHARS and _TAIL_OPEN.fullmatch(view, end):
                    break
                tail = _TAIL.match(view, end)
                # A time's minutes are only looked at, they are no part of the run.
                if tail is not None and view[end] != 0x3A:
                    end = tail.end()
            self._window(text, view, at, end, None, found)
            at = end
        self._at = at
        return found

    def _window(self, text: str, view: bytes, start: int, end: int, before: int | None, found: list[Finding]) -> None:
        digits = count_digits(view[start:end])
        if digits < RUN_DIGITS_MIN and (digits < RUN_DIGITS_MIN - 1 or _SIX_DIGITS.match(view, start, end) is None):
            return
        judged = self._judge(text, view, start, end)
        if len(judged) > 1:
            judged = without_contained(judged)
        found += judged if before is None else [f for f in judged if f.start < before]
