"""Entities that a policy defines itself: an expression, or a list of words.

Both look at a view of their own, one character for each code point, so offsets need no map: full-width forms, digits of
other scripts, dashes and blanks are the plain ones, and letters are small where case is ignored. Han stays as it is, so
an expression or a word may be Chinese.

Streams. A match of an expression begins with a head (its first one to eight characters) and consists of characters that
the expression accepts somewhere. A unit is the run of such characters from a head on; where it begins and ends follows
from the text to the left. It is judged when it has ended; one that is longer than two half windows is judged in windows
which overlap by half, at places counted from the unit's start, so matches up to half a window are found wherever they
lie. An expression without a bound may match to the end of a window: then the rest of the run is covered, too. Words are
held while the end of the text could become one. So text in which nothing begins is never held.
"""

from __future__ import annotations

import copy
import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import ahocorasick

from filters.detectors.expressions import ExpressionError, compiled
from filters.detectors.patterns import CONTEXT_BOOST, CONTEXT_CHARS, CONTEXT_FLOOR
from filters.finding import Finding, Scanner
from filters.view import plain_sign

CODE_VERSION: Final = 1  # raise when a change of code here or in expressions.py changes a finding
WORDS_MAX: Final = 100_000  # of one detector; 46 MB of automaton at ten characters each (measured)
WORD_CHARS_MIN: Final = 2  # a single character is no name of anything
WORD_CHARS_MAX: Final = 256
_MEMO_MAX: Final = 1 << 16  # characters whose view is remembered: at most 8 MB a table


class Definition(Protocol):
    """One entity: `pattern` or `words`, of which one is empty."""

    @property
    def entity(self) -> str:
        """Its name."""

    @property
    def pattern(self) -> str:
        """A regular expression."""

    @property
    def words(self) -> Sequence[str]:
        """Words and phrases."""

    @property
    def score(self) -> float:
        """Of a finding without context."""

    @property
    def context(self) -> Sequence[str]:
        """Words that raise the score when they stand in the CONTEXT_CHARS characters before."""

    @property
    def whole_words(self) -> bool:
        """Whether letters and digits beside a word make it another one."""

    @property
    def ignore_case(self) -> bool:
        """Whether large letters are small ones."""


def _plain_char(char: str) -> str:
    """What the view has for a character; always one."""
    code = ord(char)
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"  # no UTF-8, which RE2 reads
    sign = plain_sign(char, unicodedata.category(char))
    if sign is not None:
        return sign
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 else char


def _small_char(char: str) -> str:
    plain = _plain_char(char)
    small = plain.lower()
    return small if len(small) == 1 else plain


class _Table(dict[int, str]):
    def __init__(self, one: Callable[[str], str]) -> None:
        super().__init__()
        self._one = one

    def __missing__(self, code: int) -> str:
        char = chr(code) if 0x3400 <= code <= 0x9FFF or 0xAC00 <= code <= 0xD7A3 else self._one(chr(code))
        if len(self) < _MEMO_MAX:
            self[code] = char
        return char


_PLAIN: Final = _Table(_plain_char)
_SMALL: Final = _Table(_small_char)


def _view(text: str, small: bool) -> str:
    """The view of a text, of the same length."""
    if text.isascii():
        return text.lower() if small else text
    return text.translate(_SMALL if small else _PLAIN)


def _is_word(char: str) -> bool:
    """Whether a character beside a word could be part of it: a letter or digit of a script that is written with blanks."""
    if char.isascii():
        return char.isalnum() or char == "_"
    return char.isalnum() and not (
        0x0E00 <= ord(char) <= 0x0EFF or 0x1000 <= ord(char) <= 0x109F or 0x1780 <= ord(char) <= 0x17FF
        or 0x3040 <= ord(char) <= 0xD7FF or 0xF900 <= ord(char) <= 0xFAFF or ord(char) >= 0x20000
    )  # fmt: skip


class _Context:
    """Raises a score when a context word stands shortly before."""

    def __init__(self, words: Sequence[str]) -> None:
        parts = []
        for word in words:
            small = _view(word, True)
            before = r"(?<![0-9a-z_])" if _is_word(small[0]) else ""
            behind = r"s?(?![0-9a-z_])" if _is_word(small[-1]) else ""
            parts.append(before + re.escape(small) + behind)
        self._words = re.compile("|".join(parts)) if parts else None

    def score(self, score: float, text: str, start: int) -> float:
        """The score of a match at text[start]."""
        if self._words is None or score >= 1.0:
            return score
        # One character more is looked at, never part of a word, so that a word cut by the border does not count.
        left = max(0, start - CONTEXT_CHARS - 1)
        before = _view(text[left:start], True)
        if self._words.search(before, 1 if start > CONTEXT_CHARS else 0) is None:
            return score
        return min(1.0, max(round(score + CONTEXT_BOOST, 4), CONTEXT_FLOOR))


class _Expression:
    """One definition's expression, compiled."""

    def __init__(self, one: Definition) -> None:
        try:
            made = compiled(one.pattern, _small_char if one.ignore_case else _plain_char)
        except ExpressionError as error:
            raise ValueError(f"{one.entity}: {error}") from error
        self.entity = one.entity
        self.score = one.score
        self.small = one.ignore_case
        self.context = _Context(one.context)
        self.find = made.program.finditer
        self.head = made.head.search
        self.cut = made.cut
        self.head_chars = made.head_chars
        self.skip = made.head_skip
        self.run = made.run.match
        self.half = made.half_chars

    def walk(self) -> _ExpressionWalk:
        return _ExpressionWalk(self)


class _Walk(Protocol):
    """One definition's way through a channel. `at` is an offset of the buffer."""

    at: int

    @property
    def small(self) -> bool: ...
    def scan(self, text: str, view: str, low: int, final: bool, found: list[Finding]) -> None: ...
    def drop(self, chars: int) -> None: ...


class _ExpressionWalk:
    """Walks from unit to unit. `view` is that of text[low:]."""

    __slots__ = ("_carry", "_one", "at", "small")

    def __init__(self, one: _Expression) -> None:
        self._one = one
        self.at = 0
        self.small = one.small
        self._carry: float | None = (
            None  # the score of a match that reached the end of a window, and goes on as far as the run does
        )

    def drop(self, chars: int) -> None:
        self.at -= chars

    def scan(self, text: str, view: str, low: int, final: bool, found: list[Finding]) -> None:
        one = self._one
        at = self.at - low
        size = len(view)
        while True:
            if self._carry is not None:
                limit = at + one.half
                end = one.run(view, at, limit).end()  # type: ignore[union-attr]  # it matches the empty string
                if end == size and end < limit and not final:
                    break
                if end > at:
                    found.append(Finding(one.entity, low + at, low + end, self._carry))
                if end < limit:
                    self._carry = None
                at = end
                continue
            head = one.head(view, at + one.skip)
            if head is None:
                at = size if final else self._cut(view, at)
                break
            at = head.end() - one.head_chars
            limit = at + 2 * one.half
            end = one.run(view, at, limit).end()  # type: ignore[union-attr]
            if end == limit:
                at = self._judge(text, view, low, at, limit, at + one.half, found)
            elif end == size and not final:
                break
            else:
                self._judge(text, view, low, at, end, end, found)
                at = end
        self.at = low + at

    def _cut(self, view: str, at: int) -> int:
        """Where the end of the text could be the beginning of a head."""
        cut = self._one.cut
        if cut is None:
            return len(view)
        head = cut.search(view, max(at, len(view) - self._one.head_chars + 1))
        return head.start() if head is not None else len(view)

    def _judge(self, text: str, view: str, low: int, start: int, end: int, before: int, found: list[Finding]) -> int:
        """Reports the matches in view[start:end] that start before `before`; returns where the walk goes on.

        A window (`before` < `end`) is judged without its neighbor to the right, which may not be there yet.
        """
        one = self._one
        left = start - 1 if start else 0
        part = view[left : end + 1] if before == end else view[left:end]
        unit = part.encode() if part.isascii() else part  # offsets of bytes need no map: twice as fast
        at = before
        for match in one.find(unit, start - left, end - left):
            first, last = match.span()
            if left + first >= before:
                break
            score = one.context.score(one.score, text, low + left + first)
            found.append(Finding(one.entity, low + left + first, low + left + last, score))
            at = max(at, left + last)
            if before < end == left + last:
                self._carry = score
        return at


class _Words:
    """All words of all definitions that ignore case alike, in one automaton."""

    def __init__(self, definitions: Sequence[Definition], small: bool) -> None:
        self.small = small
        self.definitions = [(one.entity, one.score, _Context(one.context)) for one in definitions]
        meant: dict[str, list[tuple[int, bool]]] = {}  # word -> (definition, whether it must stand alone)
        for index, one in enumerate(definitions):
            for word in one.words:
                if not WORD_CHARS_MIN <= len(word) <= WORD_CHARS_MAX:
                    raise ValueError(f"{one.entity}: a word has {len(word)} characters, not 2 to {WORD_CHARS_MAX}")
                meant.setdefault(_line(_view(word, small)), []).append((index, one.whole_words))
        if len(meant) > WORDS_MAX:
            raise ValueError(f"{len(meant):,} words are more than {WORDS_MAX:,}")
        self.chars_max = max(map(len, meant))
        self.automaton: Any = ahocorasick.Automaton()
        for word, listed in meant.items():
            first, last = _is_word(word[0]), _is_word(word[-1])
            alone = sorted({(index, whole and first, whole and last) for index, whole in listed})
            self.automaton.add_word(word, (len(word), tuple(alone)))
        self.automaton.make_automaton()

    def walk(self) -> _WordsWalk:
        return _WordsWalk(self)


def _line(view: str) -> str:
    """Line breaks and tabs as blanks, so that a phrase may stand on two lines."""
    return view.replace("\n", " ").replace("\t", " ").replace("\r", " ")


class _WordsWalk:
    """The longest word from each place on; words of one definition do not overlap."""

    __slots__ = ("_taken", "_words", "at", "small")

    def __init__(self, words: _Words) -> None:
        self._words = words
        self.at = 0
        self.small = words.small
        self._taken: dict[int, int] = {}  # definition -> where its last finding ended, if behind `at`

    def __copy__(self) -> _WordsWalk:
        other = _WordsWalk(self._words)
        other.at, other._taken = self.at, dict(self._taken)
        return other

    def drop(self, chars: int) -> None:
        self.at -= chars
        self._taken = {index: end - chars for index, end in self._taken.items()}

    def scan(self, text: str, view: str, low: int, final: bool, found: list[Finding]) -> None:
        words = self._words
        view = _line(view)
        at = self.at - low
        size = len(view)
        upto = size if final else self._open(view, at)
        if at >= upto:
            return
        longest: dict[tuple[int, int], int] = {}  # of words that end later are longer
        for last, (length, listed) in words.automaton.iter(view, at, size):
            start, end = last + 1 - length, last + 1
            if start >= upto:
                continue
            for index, alone_left, alone_right in listed:
                if (alone_left and start and _is_word(view[start - 1])) or (
                    alone_right and end < size and _is_word(view[end])
                ):
                    continue
                longest[start, index] = end
        taken = self._taken
        for (start, index), end in sorted(longest.items()):
            if low + start < taken.get(index, 0):
                continue
            entity, score, context = words.definitions[index]
            found.append(Finding(entity, low + start, low + end, context.score(score, text, low + start)))
            taken[index] = low + end
        self.at = low + upto
        self._taken = {index: end for index, end in taken.items() if end > self.at}

    def _open(self, view: str, at: int) -> int:
        """The first place from which on the text could become a word, or longer than the word it is."""
        size = len(view)
        longest = self._words.automaton.longest_prefix
        for start in range(max(at, size - self._words.chars_max), size):
            if longest(view[start:]) == size - start:
                return start
        return size


class CustomScanner:
    """All walks of one channel, which share the views."""

    def __init__(self, walks: Sequence[_Walk]) -> None:
        self._walks = tuple(walks)

    def __copy__(self) -> CustomScanner:
        return CustomScanner([copy.copy(walk) for walk in self._walks])

    @property
    def at(self) -> int:
        return min(walk.at for walk in self._walks)

    def drop(self, chars: int) -> None:
        for walk in self._walks:
            walk.drop(chars)

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        found: list[Finding] = []
        low = max(0, self.at - 1)  # one character to the left is a border
        tail = text[low:]
        views: dict[bool, str] = {}
        for walk in self._walks:
            seen = views.get(walk.small)
            if seen is None:
                seen = views[walk.small] = _view(tail, walk.small)
            walk.scan(text, seen, low, final, found)
        return found


class CustomDetector:
    """Finds what definitions say. Raises ValueError for one that cannot be used."""

    def __init__(self, definitions: Sequence[Definition]) -> None:
        """At least one definition."""
        if not definitions:
            raise ValueError("nothing is defined")
        for one in definitions:
            if bool(one.pattern) == bool(one.words):
                raise ValueError(f"{one.entity}: give a pattern or words")
        self.name = "custom"
        self.entities = frozenset(one.entity for one in definitions)
        said = repr([
            (d.entity, d.pattern, tuple(d.words), d.score, tuple(d.context), d.whole_words, d.ignore_case)
            for d in definitions
        ])  # fmt: skip
        self.version = f"{CODE_VERSION}+{hashlib.sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
        self._parts: list[_Expression | _Words] = [_Expression(one) for one in definitions if one.pattern]
        for small in (False, True):
            listed = [one for one in definitions if one.words and one.ignore_case is small]
            if listed:
                self._parts.append(_Words(listed, small))

    def scanners(self) -> Sequence[Scanner]:
        """One for everything."""
        return (CustomScanner([part.walk() for part in self._parts]),)


def check(pattern: str) -> tuple[str, str] | None:
    """Why an expression cannot be used and what to do about it; None if it can."""
    try:
        compiled(pattern, _small_char)
    except ExpressionError as error:
        return error.what, error.remedy
    return None


__all__ = ["CustomDetector", "Definition", "check"]
