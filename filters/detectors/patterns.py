"""Expressions, the words that raise their scores, and which of them could match in a text of some shape at all.

Expressions run on Python's `re` (bytes, ASCII classes), never on unbounded text: each has bounded repeats or runs
within one window (`units`), and needs no automaton that is built on first sight. Runs of one class use possessive repeats.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from filters.finding import Finding

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
