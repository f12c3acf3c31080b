r"""Regular expressions that somebody wrote into a policy: read by a parser of our own, run by RE2, in linear time.

The parser knows less than most dialects, on purpose: no lookaround, no back-reference, no anchor, nothing that RE2 cannot
run in linear time or that asks for text far away (`\b` asks for one character). What it read is written anew for RE2,
so that what was judged is what runs. From the tree follows what a stream needs to know: which characters a match may
hold, what its first ones may be, and how long it can become.

Classes are sets of code points of a view (custom.py): there full-width forms are plain ones, and letters are small
where case is ignored, so classes are folded as the view is. `\d`, `\w`, `\s` and `\b` mean ASCII, as RE2 has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import re2

PATTERN_CHARS_MAX: Final = 1000  # our choice: an identifier's form fits in a line
DEPTH_MAX: Final = 20  # of groups in groups; our choice
REPEAT_MAX: Final = 1000  # RE2's own bound (kMaxRepeat)
# Of the whole program and its lazily built automaton together (RE2's default is 8 MiB). A program that does not fit is
# refused when it is compiled; an automaton that outgrows its part is thrown away and built anew.
MEMORY_BYTES_MAX: Final = 2 << 20
# Instructions of the program. RE2 is linear, but where counts make many readings possible its automaton never settles, and
# a character costs about 10 ns an instruction: 10 us at this size (measured), so what one event loop turn does stays
# bounded. Identifiers take 20 to 200; a count of Han or of any character takes up to 10 each time.
PROGRAM_SIZE_MAX: Final = 600
# Matches up to this length are found wherever they lie, whether or not the expression bounds them. Our choice.
BOUNDED_CHARS_MAX: Final = 512
UNBOUNDED_CHARS: Final = 256
HEAD_CHARS_MAX: Final = 8  # so many first characters are looked for before the expression is run; our choice

_LAST: Final = 0x10FFFF
Ranges = tuple[tuple[int, int], ...]  # of code points, inclusive, sorted, apart from each other


class ExpressionError(ValueError):
    """An expression cannot be used: why, and what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}; {remedy}")


@dataclass(frozen=True, slots=True)
class Expression:
    """What is known about an expression, and the programs that find its matches."""

    program: Any  # RE2, for one unit of text
    head: re.Pattern[str]  # where it ends, the first characters of a match may end
    head_skip: int  # and it begins so many characters behind the first
    cut: re.Pattern[str] | None  # a head that the end of the text cuts off; None: heads have one character
    head_chars: int  # how many first characters that are
    run: re.Pattern[str]  # every match consists of characters of this run
    half_chars: int  # a match that counts is not longer, but where the expression has no bound


@dataclass(frozen=True, slots=True)
class _Chars:
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class _Border:
    inside: bool  # \B


@dataclass(frozen=True, slots=True)
class _Row:
    items: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Either:
    options: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    item: _Node
    low: int
    high: int | None
    lazy: bool


_Node = _Chars | _Border | _Row | _Either | _Repeat


def _merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    made: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if made and first <= made[-1][1] + 1:
            made[-1] = (made[-1][0], max(made[-1][1], last))
        else:
            made.append((first, last))
    return tuple(made)


def _without(ranges: Ranges) -> Ranges:
    made, at = [], 0
    for first, last in ranges:
        if first > at:
            made.append((at, first - 1))
        at = last + 1
    return (*made, (at, _LAST)) if at <= _LAST else tuple(made)


_DIGIT: Final[Ranges] = ((0x30, 0x39),)
_WORD: Final[Ranges] = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE: Final[Ranges] = ((0x09, 0x0D), (0x20, 0x20))
_CLASSES: Final = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS: Final = {"n": 0x0A, "r": 0x0D, "t": 0x09, "f": 0x0C, "v": 0x0B}
# Unicode's Scripts.txt, version 15, without single marks.
_HAN: Final[Ranges] = ((0x3005, 0x3007), (0x3021, 0x3029), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))  # fmt: skip
# Whoever names a few characters means what the view has for them, be it ASCII; of a longer range, such as all that is
# not ASCII, only large and small letters are the same, up to here (Latin, Greek, Cyrillic, Armenian). Our choice.
_FEW: Final = 64
_CASED_END: Final = 0x0600

_HEX: Final = re.compile(r"x([0-9A-Fa-f]{2})|x\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})")
_COUNT: Final = re.compile(r"\{([0-9]{0,5})(?:(,)([0-9]{0,5}))?\}")
_TOO_LARGE: Final = ("its counts multiply to a program that is too large", "use smaller counts, or + and *")
_NO_LOOKAROUND: Final = (
    "it has a lookaround, which cannot be run in linear time",
    r"remove it; \b stands for the border of a word",
)
_NO_BACK: Final = ("it has a back-reference, which cannot be run in linear time", "write the repeated part out")
_NO_ANCHOR: Final = ("it is anchored to a line or text, but a match may stand anywhere", r"remove ^ and $, or write \b")


class _Parser:
    """Reads one expression. `fold` maps a character to what the view has for it."""

    def __init__(self, pattern: str, fold: Callable[[str], str]) -> None:
        self._text = pattern
        self._fold = fold
        self._at = 0

    def read(self) -> _Node:
        node = self._either(0)
        if self._at < len(self._text):
            raise ExpressionError("a group is closed that was not opened", r"remove the ), or write \)")
        return node

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, what: str) -> bool:
        if self._text.startswith(what, self._at):
            self._at += len(what)
            return True
        return False

    def _either(self, depth: int) -> _Node:
        if depth > DEPTH_MAX:
            raise ExpressionError(f"groups are nested deeper than {DEPTH_MAX}", "write it flatter")
        options = [self._row(depth)]
        while self._take("|"):
            options.append(self._row(depth))
        return options[0] if len(options) == 1 else _Either(tuple(options))

    def _row(self, depth: int) -> _Node:
        items: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            items.append(self._counted(self._atom(depth)))
        return _Row(tuple(items))

    def _atom(self, depth: int) -> _Node:
        char = self._text[self._at]
        if char in "*+?":
            raise ExpressionError(f"nothing stands before {char}", rf"remove it, or write \{char}")
        if char in "^$":
            raise ExpressionError(*_NO_ANCHOR)
        self._at += 1
        if char == "(":
            return self._group(depth)
        if char == "[":
            return _Chars(self._class())
        if char == ".":
            return _Chars(_without(((0x0A, 0x0A),)))
        if char != "\\":
            return _Chars(self._folded(((ord(char), ord(char)),)))
        if self._take("b"):
            return _Border(inside=False)
        if self._take("B"):
            return _Border(inside=True)
        if self._peek() in ("A", "Z", "z"):
            raise ExpressionError(*_NO_ANCHOR)
        return _Chars(self._meant(*self._escape()))

    def _group(self, depth: int) -> _Node:
        if self._take("?"):
            if any(self._text.startswith(kind, self._at) for kind in ("=", "!", "<=", "<!")):
                raise ExpressionError(*_NO_LOOKAROUND)
            if self._text.startswith("P=", self._at):
                raise ExpressionError(*_NO_BACK)
            name = re.compile(r"P?<[A-Za-z_][A-Za-z0-9_]{0,31}>").match(self._text, self._at)
            if name is not None:
                self._at = name.end()
            elif not self._take(":"):
                raise ExpressionError("a group begins with flags", "remove them; `ignore_case` is a key of its own")
        node = self._either(depth + 1)
        if not self._take(")"):
            raise ExpressionError("a group is not closed", r"add a ), or write \(")
        return node

    def _counted(self, node: _Node) -> _Node:
        low, high = self._count()
        if low < 0:
            return node
        if isinstance(node, _Border):
            raise ExpressionError("a border is repeated", r"write \b once")
        if (high is not None and (high < low or high > REPEAT_MAX)) or low > REPEAT_MAX:
            raise ExpressionError("a count is out of bounds", f"write {{low,high}} with at most {REPEAT_MAX}")
        lazy = self._take("?")
        if self._peek() in ("*", "+", "?") or _COUNT.match(self._text, self._at):
            raise ExpressionError("a repeat is repeated", "keep one of the two, or put the first into (?: )")
        return _Repeat(node, low, high, lazy)

    def _count(self) -> tuple[int, int | None]:
        """The bounds of a repeat that stands here; (-1, None) if none does."""
        for sign, low, high in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self._take(sign):
                return low, high
        found = _COUNT.match(self._text, self._at)
        if found is None or found[0] in ("{}", "{,}"):
            return -1, None
        self._at = found.end()
        least = int(found[1] or 0)
        return least, least if found[2] is None else int(found[3]) if found[3] else None

    def _class(self) -> Ranges:
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        first = True
        while first or self._peek() != "]":
            first = False
            if self._peek() == "":
                raise ExpressionError("a [ is not closed", r"add a ], or write \[")
            if self._text.startswith("[:", self._at):
                raise ExpressionError("it has a named class", r"write the characters, or \d, \w, \s")
            low, plain = self._member()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("", "]"):
                self._at += 1
                high, also = self._member()
                if not (plain and also):
                    raise ExpressionError("a range begins or ends with a class", r"write \- for the character")
                if low[0][0] > high[0][0]:
                    raise ExpressionError("a range ends before it begins", "turn it around")
                low = ((low[0][0], high[0][0]),)
            ranges += self._meant(low, plain)
        self._at += 1
        made = _without(_merged(ranges)) if negated else _merged(ranges)
        if not made:
            raise ExpressionError("a class holds no character", "remove it")
        return made

    def _member(self) -> tuple[Ranges, bool]:
        char = self._text[self._at]
        self._at += 1
        return self._escape() if char == "\\" else (((ord(char), ord(char)),), True)

    def _escape(self) -> tuple[Ranges, bool]:
        """What an escape stands for, and whether that is one character; its backslash was read."""
        char = self._peek()
        hexadecimal = _HEX.match(self._text, self._at)
        if hexadecimal is not None:
            self._at = hexadecimal.end()
            code = int(next(part for part in hexadecimal.groups() if part), 16)
            if code > _LAST:
                raise ExpressionError("there is no such character", "write its code point")
            return ((code, code),), True
        for name in ("p{Han}", "p{Script=Han}"):
            if self._take(name):
                return _HAN, False
        self._at += 1
        if char in _CLASSES:
            return _CLASSES[char], False
        if char and char.lower() in _CLASSES:
            return _without(_CLASSES[char.lower()]), False
        if char in _CONTROLS:
            return ((_CONTROLS[char], _CONTROLS[char]),), True
        if char == "k" or (char.isdigit() and char != "0"):
            raise ExpressionError(*_NO_BACK)
        if not char or (char.isascii() and char.isalnum()):
            raise ExpressionError(
                f"\\{char} is not known here", r"write the characters, as in [A-Z] or [\u4e00-\u9fff]"
            )
        return ((ord(char), ord(char)),), True

    def _meant(self, ranges: Ranges, written: bool) -> Ranges:
        """The ranges with what the view has for their characters; `written`: they are no class with a name."""
        return self._folded(ranges) if written else ranges

    def _folded(self, ranges: Ranges) -> Ranges:
        made = list(ranges)
        for first, last in ranges:
            few = last - first < _FEW
            for code in range(first, (last if few else min(last, _CASED_END)) + 1):
                form = ord(self._fold(chr(code)))
                if few or form > 0x7F or code <= 0x7F:
                    made.append((form, form))
        return _merged(made)


def _length(node: _Node) -> tuple[int, int | None]:
    """The least and the greatest length of a match; None: there is no greatest."""
    match node:
        case _Chars():
            return 1, 1
        case _Border():
            return 0, 0
        case _Row(items):
            low, high = 0, 0
            unbounded = False
            for item in items:
                least, most = _length(item)
                low += least
                unbounded |= most is None
                high += most or 0
            return low, None if unbounded else high
        case _Either(options):
            lengths = [_length(option) for option in options]
            most_of = [most for _, most in lengths]
            return min(least for least, _ in lengths), None if None in most_of else max(m or 0 for m in most_of)
        case _Repeat(item, low_count, high_count):
            least, most = _length(item)
            if most == 0:
                return 0, 0
            return least * low_count, None if high_count is None or most is None else most * high_count


def _characters(node: _Node) -> Ranges:
    """All characters that a match may hold."""
    match node:
        case _Chars(ranges):
            return ranges
        case _Border():
            return ()
        case _Row(items) | _Either(items):
            return _merged(one for item in items for one in _characters(item))
        case _Repeat(item):
            return _characters(item)


class _Heads:
    """What the first characters of a match may be."""

    def __init__(self, count: int) -> None:
        self.ranges: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        self._known: dict[tuple[int, frozenset[int]], frozenset[int]] = {}  # keeps nested repeats from multiplying

    def fill(self, node: _Node, offsets: frozenset[int]) -> frozenset[int]:
        """Notes what `node` puts where it begins at one of the offsets; the offsets where it may end, without those beyond."""
        key = (id(node), offsets)
        if key not in self._known:
            self._known[key] = self._fill(node, offsets)
        return self._known[key]

    def _fill(self, node: _Node, offsets: frozenset[int]) -> frozenset[int]:
        count = len(self.ranges)
        match node:
            case _Chars(ranges):
                for offset in offsets:
                    self.ranges[offset] += ranges
                return frozenset(offset + 1 for offset in offsets if offset + 1 < count)
            case _Border():
                return offsets
            case _Row(items):
                for item in items:
                    offsets = self.fill(item, offsets)
                return offsets
            case _Either(options):
                return frozenset[int]().union(*(self.fill(option, offsets) for option in options))
            case _Repeat(item, low, high):
                # As many turns as there are heads reach whatever can be reached.
                turns = count if high is None else min(count, high)
                reached = offsets if low == 0 else frozenset[int]()
                for turn in range(1, turns + 1):
                    offsets = self.fill(item, offsets)
                    if turn >= low:
                        reached |= offsets
                return reached if low <= turns else offsets


def _re2(node: _Node) -> str:
    match node:
        case _Chars(ranges):
            return "[" + "".join(f"\\x{{{a:x}}}-\\x{{{b:x}}}" for a, b in ranges) + "]"
        case _Border(inside):
            return "\\B" if inside else "\\b"
        case _Row(items):
            return "".join(map(_re2, items))
        case _Either(options):
            return "(?:" + "|".join(map(_re2, options)) + ")"
        case _Repeat(item, low, high, lazy):
            count = f"{{{low},{'' if high is None else high}}}"
            if high is None and low < 2:
                count = "+" if low else "*"
            return f"(?:{_re2(item)}){count}" + ("?" if lazy else "")


def _python(ranges: Iterable[tuple[int, int]]) -> str:
    """The class for Python's engine."""
    return "[" + "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in _merged(ranges)) + "]"


_NO_WORD_BEFORE: Final = "(?<![0-9A-Za-z_])"


def _bordered(node: _Node) -> bool:
    """Whether every match begins with a border of a word."""
    match node:
        case _Border(inside):
            return not inside
        case _Row(items):
            return bool(items) and _bordered(items[0])
        case _Either(options):
            return all(map(_bordered, options))
    return False


def _within(ranges: Ranges, others: Ranges) -> bool:
    return all(any(low <= first and last <= high for low, high in others) for first, last in ranges)


# How often characters come by in prose, roughly, in parts of a hundred: a letter 4, a blank 17.
_BLANK: Final = 17.0
_OFTEN: Final = ((0x30, 0x39, 0.1), (0x41, 0x5A, 0.3), (0x61, 0x7A, 4.0), (0x80, _LAST, 0.02))
_SIGN: Final = 0.05


def _frequency(ranges: Iterable[tuple[int, int]]) -> float:
    """About how often a character of these comes by."""
    total = 0.0
    for first, last in _merged(ranges):
        total += _BLANK if first <= 0x20 <= last else 0.0
        total += _SIGN * max(0, min(last, 0x7F) - first + 1)
        for low, high, often in _OFTEN:
            total += often * max(0, min(last, high) - max(first, low) + 1)
    return total


def compiled(pattern: str, fold: Callable[[str], str]) -> Expression:
    """The expression, ready to run on views made by `fold`. Raises ExpressionError with the reason and a remedy."""
    if not 1 <= len(pattern) <= PATTERN_CHARS_MAX:
        raise ExpressionError(f"it has {len(pattern)} characters", f"write 1 to {PATTERN_CHARS_MAX}")
    node = _Parser(pattern, fold).read()
    least, most = _length(node)
    if least == 0:
        raise ExpressionError("it can match nothing at all", "make a part of it necessary: + for *, or no ?")
    if least > BOUNDED_CHARS_MAX:
        raise ExpressionError(f"no match has fewer than {least} characters", f"ask for at most {BOUNDED_CHARS_MAX}")
    options = re2.Options()
    options.max_mem = MEMORY_BYTES_MAX
    options.log_errors = False
    options.never_capture = True
    try:
        program = re2.compile(_re2(node), options=options)
    except re2.error as error:
        raise ExpressionError(*_TOO_LARGE) from error
    if program.programsize > PROGRAM_SIZE_MAX:
        raise ExpressionError(*_TOO_LARGE)
    heads = _Heads(min(least, HEAD_CHARS_MAX))
    heads.fill(node, frozenset((0,)))
    classes = [_python(head) for head in heads.ranges]
    border = _NO_WORD_BEFORE if _bordered(node) and _within(_merged(heads.ranges[0]), _WORD) else ""
    # The rarest of the first characters is what is searched for, the others are looked at where it stands.
    skip = min(range(len(classes)), key=lambda place: _frequency(heads.ranges[place]))
    whole = border + "".join(classes)
    head = "".join(classes[skip:]) + f"(?<={whole})" if skip or border else whole
    cut = ""
    for one in reversed(classes[:-1]):
        cut = f"{one}(?:{cut})?" if cut else one
    bounded = most is not None and most <= BOUNDED_CHARS_MAX
    return Expression(
        program=program,
        head=re.compile(head),
        head_skip=skip,
        cut=re.compile(rf"{border}(?:{cut})\Z") if cut else None,
        head_chars=len(classes),
        run=re.compile(_python(_characters(node)) + "*+"),
        half_chars=max(16, most if bounded and most is not None else max(UNBOUNDED_CHARS, least)),
    )
