"""Matching expressions over a channel in units, so that streams and whole texts agree.

Two kinds of unit, found from the left by character class alone:
- a token: characters between blanks, quotes, angle brackets or parentheses; `,;[]\\` end one too, unless a `/` came before;
- a number run: digits with the blanks and punctuation that people put between their groups, and an extension label.

A unit longer than its window is judged in windows of that length which overlap by half, at offsets counted from the
unit's start: matches up to half a window are found wherever they lie, and work and memory stay bounded (L9).

Expressions run on Python's `re` (bytes, ASCII classes), never on unbounded text: each has bounded repeats or runs
within one window, and needs no automaton that is built on first sight. Runs of one class use possessive repeats.
"""

from __future__ import annotations

import bisect
import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from filters.finding import Finding, Sleeper, quiet_but

# Half a window. RFC 5321 allows 64 + 1 + 255 characters for a mail address, the longest thing with a stated length;
# a longer URL is covered to its end by `carry` below. Our choice: the smallest power of two above it.
TOKEN_HALF_CHARS: Final = 512
# Half a window of a number run: the longest card or phone number with an extension is below 64 characters.
NUMBER_HALF_CHARS: Final = 128
# How far to the left a context word counts (our choice: about ten words; presidio looks at five tokens).
CONTEXT_CHARS: Final = 64
# What a scanner needs to the left of its open offset: the context and one character to see that its first word is whole.
LEFT_CHARS: Final = CONTEXT_CHARS + 32
# presidio-analyzer's LemmaContextAwareEnhancer: what a context word adds, and the least a score is beside one.
CONTEXT_BOOST: Final = 0.35
CONTEXT_FLOOR: Final = 0.4

FLAGS: Final = re.IGNORECASE | re.DOTALL | re.MULTILINE  # as presidio compiles its patterns


@dataclass(frozen=True, slots=True)
class Pattern:
    """One expression, and what is known about its matches without running it."""

    entity: str
    find: re.Pattern[bytes]
    score: float
    validate: Callable[[bytes], bool | None] | None = None
    needs: bytes = b""  # every match holds all of these bytes, of `-/.:`, each as often as it stands here
    digits_min: int = 0  # and as many digits
    length_min: int = 1
    letters: bool = False  # and an ASCII letter
    shapes: tuple[bytes, ...] = ()  # and one of these in its shape, if any are given
    near: re.Pattern[bytes] | None = None  # and something that this finds
    form: re.Pattern[bytes] | None = None  # and its shape, borders included, something that this finds


class Context:
    """Raises a score when one of an entity's context words stands shortly before the match."""

    def __init__(self, words: Mapping[str, Sequence[str]]) -> None:
        # The border before a word is matched with it: an expression that begins with a class is found fastest.
        self._words = {
            entity: re.compile(
                rb"[^a-z0-9_](?:" + b"|".join(re.escape(w.lower().encode()) for w in listed) + rb")s?(?![a-z0-9_])"
            )
            for entity, listed in words.items()
            if listed
        }

    def score(self, entity: str, score: float, view: bytes, start: int) -> float:
        """The score of a match of `entity` at `start`, its left context considered. Pure in the 65 bytes before it."""
        if score >= 1.0 or start == 0:
            return score
        return self.raised(entity, score, self.before(view, start))

    @staticmethod
    def before(view: bytes, start: int) -> bytes:
        """The left context of a match at `start`, as `raised` takes it: the characters that count, and a border."""
        left = start - CONTEXT_CHARS
        # One character more is looked at, never part of a word, so that a word cut by the border does not count.
        return view[left - 1 : start].lower() if left > 0 else b"\0" + view[:start].lower()

    def raised(self, entity: str, score: float, before: bytes) -> float:
        """The score of a match of `entity` behind that context."""
        words = self._words.get(entity)
        if words is None or score >= 1.0 or words.search(before) is None:
            return score
        return min(1.0, max(round(score + CONTEXT_BOOST, 4), CONTEXT_FLOOR))


class Nearby:
    """Whether any of some context words could stand before a match: a wider net than Context's, at a tenth of its price."""

    def __init__(self, words: Iterable[str]) -> None:
        heads = {match[0] for word in words if (match := _CONTEXT_WORD.search(word.lower().encode())) is not None}
        self._heads = frozenset(heads | {head + b"s" for head in heads})

    def __call__(self, view: bytes, start: int, end: int) -> bool:
        """For every match that starts in view[start:end]."""
        return not self._heads.isdisjoint(_CONTEXT_WORD.findall(view[max(0, start - CONTEXT_CHARS) : end].lower()))


_CONTEXT_WORD: Final = re.compile(rb"[a-z0-9_]++")


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


# The shape of a text: `a` for every ASCII letter, `0` for every digit, all else as it is.
_SHAPE: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz123456789", b"a" * 52 + b"0" * 9)
# The runs that word patterns may match: most runs of hexadecimal digits change between letters and digits more often.
WORD: Final = re.compile(rb"(?<!\w)a{0,2}+0{1,18}+a{0,3}+0{0,18}+a?+(?!\w)")
_WORD_BYTES: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
# Shapes that are remembered, of units up to that length and of words: bounded, so that nobody fills memory with them.
# A shape says where digits stand and not which, so no value can be read off it (L7).
_SHAPES_MAX: Final = 4096
_SHAPE_CHARS_MAX: Final = 48


def shape(text: bytes) -> bytes:
    """`a` for every ASCII letter, `0` for every digit, all else as it is."""
    return text.translate(_SHAPE)


_Fitting = tuple[tuple[Pattern, bool], ...]  # patterns, and whether each matches every run of its shape
_Plan = tuple[tuple[tuple[int, int, _Fitting], ...], tuple[Pattern, ...]]


class Patterns:
    """Patterns, and for each shape of a unit those of them that could match in it.

    `words` are patterns whose every match is one whole run of letters and digits as WORD has them, and which tell no digit from
    another and no letter from another but R: one look at the shape of a run decides all of them. They come first.
    """

    def __init__(
        self,
        patterns: Sequence[Pattern],
        context: Context,
        words: Sequence[Pattern] = (),
        near: Nearby | None = None,
    ) -> None:
        """`near`: findings count only where it says so, so that they need not be looked for elsewhere."""
        self._near = near
        self._patterns = tuple(patterns)
        self._words = tuple(words)
        self._context = context
        self._by_shape: dict[bytes, _Plan] = {}
        self._by_marks: dict[tuple[int, ...], tuple[Pattern, ...]] = {}
        self._by_word: dict[bytes, _Fitting] = {}
        self._lengths = sorted({p.length_min for p in patterns})
        self._digits_max = max((p.digits_min for p in patterns), default=0)

    def find(self, view: bytes, start: int, end: int, shape: bytes) -> list[Finding]:
        """Findings in view[start:end], a text of that shape; the character on each side is seen as its border."""
        near = self._near
        plan = self._by_shape.get(shape)
        if plan is None:
            # A form seen for the first time costs more than the look at what stands before.
            if near is not None and not near(view, start, end):
                return []
            near = None
            plan = self._plan(shape)
        words, patterns = plan
        found: list[Finding] = []
        if near is not None and (words or patterns) and not near(view, start, end):
            return found
        for first, last, fitting in words:
            if (first == 0 and start and view[start - 1] in _WORD_BYTES) or (
                start + last == end < len(view) and view[end] in _WORD_BYTES
            ):
                continue
            self._add_words(found, fitting, view, start + first, start + last)
        for pattern in patterns:
            if pattern.near is None or pattern.near.search(view, start, end) is not None:
                self._add(found, pattern, view, start, end)
        return found

    def idle(self, shape: bytes) -> bool:
        """Whether nothing can be in a text of that shape. Only asked of shapes that `find` has seen."""
        plan = self._by_shape.get(shape)
        return plan is not None and not plan[0] and not plan[1]

    def _plan(self, shape: bytes) -> _Plan:
        """The runs of a unit of this shape that word patterns match, and the other patterns that could match in it."""
        digits = shape.count(b"0")
        words = []
        if digits and self._words:
            for match in WORD.finditer(shape):
                fitting = self._by_word.get(match[0])
                if fitting is None:
                    fitting = self._fitting(match[0])
                if fitting:
                    words.append((match.start(), match.end(), fitting))
        letters = b"a" in shape
        marks = (
            min(digits, self._digits_max),
            shape.count(b"-"),
            shape.count(b"/"),
            shape.count(b"."),
            shape.count(b":"),
            letters,
            bisect.bisect(self._lengths, len(shape)),
        )
        patterns = self._by_marks.get(marks)
        if patterns is None:
            if len(self._by_marks) >= _SHAPES_MAX:
                self._by_marks.clear()
            patterns = self._by_marks[marks] = tuple(
                p
                for p in self._patterns
                if digits >= p.digits_min
                and len(shape) >= p.length_min
                and all(shape.count(byte) >= p.needs.count(byte) for byte in p.needs)
                and (letters or not p.letters)
            )
        chosen = []
        for pattern in patterns:
            if pattern.form is not None and pattern.form.search(shape) is None:
                continue
            for one in pattern.shapes:
                if one in shape:
                    chosen.append(pattern)
                    break
            else:
                if not pattern.shapes:
                    chosen.append(pattern)
        plan = (tuple(words), tuple(chosen))
        if len(shape) <= _SHAPE_CHARS_MAX:
            if len(self._by_shape) >= _SHAPES_MAX:
                self._by_shape.clear()
            self._by_shape[shape] = plan
        return plan

    def _fitting(self, word: bytes) -> _Fitting:
        """The word patterns that a run of this shape can match, and for each whether every such run does."""
        fitting = []
        for pattern in self._words:
            usual = pattern.find.fullmatch(word.replace(b"a", b"b"))
            spelled = pattern.find.fullmatch(word.replace(b"a", b"r"))
            if usual or spelled:
                fitting.append((pattern, usual is not None and spelled is not None))
        if len(self._by_word) >= _SHAPES_MAX:
            self._by_word.clear()
        result = self._by_word[word] = tuple(fitting)
        return result

    def _add_words(self, found: list[Finding], fitting: _Fitting, view: bytes, first: int, last: int) -> None:
        before = self._context.before(view, first)
        for pattern, always in fitting:
            if always or pattern.find.fullmatch(view[first:last]):
                score = self._context.raised(pattern.entity, pattern.score, before)
                found.append(Finding(pattern.entity, first, last, score))

    def _add(self, found: list[Finding], pattern: Pattern, view: bytes, start: int, end: int) -> None:
        for match in pattern.find.finditer(view, start, end + 1):
            first, last = match.span()
            if last > end:
                continue
            score = pattern.score
            if pattern.validate is not None:
                valid = pattern.validate(match[0])
                if valid is False:
                    continue
                if valid:
                    score = 1.0
            found.append(Finding(pattern.entity, first, last, self._context.score(pattern.entity, score, view, first)))


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
