"""Numbers written otherwise: in words or numerals, digit by digit, in groups with unusual separators, with letters in them.

A chain is a run of things that stand for digits with separators between. It is cut as units.py cuts its units: borders
follow from the left, and a chain longer than a window is looked at in windows that overlap by half. What a chain could
stand for are its runs: all of it, its parts between strong separators, and its parts of one style. Each run with as many
digits as some number has is written as plain digits and shown to the inner detectors.

Prose counts, lists and tabulates, so a run needs more than its digits: each style has its own conditions (`_plausible`),
what is found must be the whole run, and its score must be one that a check digit, a context word or a strong form gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from filters.detectors.disguise.decoded import Decoded, Inner, Span, before
from filters.detectors.disguise.numerals import HAN, HAN_BEHIND, LETTERS, NUMERALS, TIMES, WORDS
from filters.finding import Finding
from filters.view import fold

# Half a window: a card of 19 digits spelled out takes about 130 characters.
HALF_CHARS: Final = 128
# Fewer digits are no number that stands without its form; more are none that any pattern takes.
DIGITS_MIN: Final = 7
DIGITS_MAX: Final = 21
# The score that a finding in rewritten digits needs: presidio's phone number (0.4) does not have it without a context word.
SCORE_MIN: Final = 0.5
# So many digits in words are no counting and no prose: a valid number among them needs no more than a policy asks for.
SPOKEN_DIGITS_MIN: Final = 10
SPOKEN_SCORE_MIN: Final = 0.4
# Digits said in words count where so many stand in a row, or beside so many in figures.
WORDS_MIN: Final = 8
DOUBLED_WORDS_MIN: Final = 5  # or so many with a "double" among them
FIGURES_MIN: Final = 6

_WORD: Final = "(?:(?i:" + "|".join(WORDS) + ")|[Dd]ouble|[Tt]riple)"
HANS: Final = NUMERALS + "".join(HAN_BEHIND)
_LETTER: Final = "[" + "".join(LETTERS) + "]"
_SEPARATORS: Final = r"\s\-‐-―−._/,:;*~|+·•・…、，。．'\"`()\[\]{}\\"
_TAG: Final = r"</?[A-Za-z]{1,5}/?>"
_SEPARATOR: Final = rf"(?:[{_SEPARATORS}]{{1,5}}+(?:{_TAG})?+|{_TAG})"
_ITEM: Final = (
    rf"(?:\d++(?:{_LETTER}{{1,19}}+(?=\d|[^A-Za-z\d]|\Z)\d*+)*+|[{NUMERALS}][{HANS}]*+"
    rf"|(?<![A-Za-z])(?:{_WORD}{{1,8}}+(?![A-Za-z])|{_LETTER}{{3,19}}+(?![A-Za-z])))"
)
_CHAIN: Final = re.compile(rf"[(\[{{\"']?{_ITEM}(?:{_SEPARATOR}?+{_ITEM})*+")
# Where a chain begins, without walking along it.
_HEAD: Final = re.compile(
    rf"[(\[{{\"']?(?:\d|[{NUMERALS}]|(?<![A-Za-z])(?:{_WORD}{{1,8}}+(?![A-Za-z])|{_LETTER}{{3,19}}+(?![A-Za-z])))"
)
# What no chain begins with: other words, marks, and figures so few that they are no number, behind which nothing goes on.
# Each step needs to see behind itself, so it stops short of an end.
_HEAD_WORD: Final = rf"(?:{_WORD}{{1,8}}+|{_LETTER}{{3,19}}+)(?![A-Za-z])"
_DULL: Final = re.compile(
    rf"(?:(?:[^A-Za-z\d{NUMERALS}(\[{{\"']++|(?:(?<=[A-Za-z])|(?!{_HEAD_WORD}))[A-Za-z]++"
    rf"|[(\[{{\"'](?:(?=[^A-Za-z\d{NUMERALS}])|(?!{_HEAD_WORD})[A-Za-z]++)"
    rf"|\d{{1,{DIGITS_MIN - 1}}}+(?!{_LETTER}|\d)(?=[\s\S]{{64}})(?!{_SEPARATOR}?+{_ITEM}))(?!\Z))*+"
)
_MARGIN_CHARS: Final = 96  # above a separator with markup and the longest item of words
_BEGUN: Final = "|".join(sorted({w[:n] for w in (*WORDS, *TIMES) for n in range(1, len(w) + 1)}, key=len, reverse=True))
# The end of a text behind a chain that may still go on.
_GROWING: Final = re.compile(
    rf"[{_SEPARATORS}]{{0,5}}(?:<[^<>]{{0,7}}>?)?(?:{_WORD}{{0,8}}+(?i:{_BEGUN})?|{_LETTER}{{0,2}}|[xXＸｘХх])\Z|{_LETTER}{{0,19}}\Z"
)
# A number word that is being written, at the end of a text.
_BEGINNING: Final = re.compile(rf"(?:(?:{_WORD}){{0,8}}+(?i:{_BEGUN})?|{_LETTER}{{0,19}}+)\Z")
_BEGINNING_CHARS: Final = 64
# Letters, and what stands for one of them where case does not matter.
_LETTERS_OF_WORDS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\u017f\u0130\u0131\u212a"
_GROWING_CHARS: Final = 64
_PARTS: Final = re.compile(rf"(\d++)|([{HANS}])|({_WORD})|({_LETTER})|({_SEPARATOR})")
_X: Final = re.compile(rf"[{_SEPARATORS}]{{0,3}}([xXＸｘХх])(?![A-Za-z0-9])")
# Numerals in a row, which a text with a number in numerals has (see `_spoken`).
HAN_ROW: Final = rf"[{HANS}](?:[{_SEPARATORS}]{{0,2}}[{HANS}]){{2}}"
_HAN_ROW: Final = 3
_HAN_GAP_CHARS: Final = 2
# All that digits in words are written with, as it folds, but for what says "double".
SPOKEN_BYTES: Final = bytes(
    sorted(set(b"".join(w.encode() + w.upper().encode() for w in WORDS) + b"\t\n\v\f\r -._/,:;*~|+'\"`()[]{}\\"))
)
SPOKEN_CHARS_MIN: Final = 32  # so many such letters in a row are rare in prose; ten words "one" take 39
# Between digits in words, for a row.
_USUAL_GAP: Final = re.compile(r"[\t\n\v\f\r \-._/,:;*~|+'\"`()\[\]{}\\]*")
_BRACKETS: Final = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}
_ENDS_OF_BEGINNINGS: Final = frozenset((*_LETTERS_OF_WORDS, *_BRACKETS))
_HARD: Final = re.compile(r"[\n,;:，、。…<]")

_FIGURES, _HAN, _WORDS, _LETTERS = "figures", "han", "words", "letters"
# Groups of figures that some number is written in; others in a row are a list or a table.
_CARD_GROUPS: Final = frozenset(
    ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 4, 2), (8, 8), (6, 13), (6, 10))
)
_GROUPS: Final = _CARD_GROUPS | {(3, 4, 4), (3, 8), (7, 4), (6, 8, 4), (6, 8, 3), (6, 4, 4, 4), (6, 4, 4, 3), (6, 4, 2, 2, 4), (6, 4, 2, 2, 3), (3, 2, 4), (3, 3, 4)}  # fmt: skip
# The two parts of a number that was broken at the end of a line, by all digits: cards, mobiles, resident IDs.
_BROKEN_DIGITS: Final = frozenset((11, 15, 16, 17, 18, 19))
# What a chain of figures alone must have to be looked at: digit by digit, one of those groups, or two parts on two lines.


def _shaped(shapes: Iterable[tuple[int, ...]], gap: str) -> str:
    """An expression for figures in groups of these lengths, what they begin with in common written once."""
    tails: dict[int, list[tuple[int, ...]]] = {}
    for shape in shapes:
        tails.setdefault(shape[0], []).append(shape[1:])
    parts = []
    for first, rest in sorted(tails.items()):
        more = [tail for tail in rest if tail]
        behind = gap + _shaped(more, gap) if more else ""
        parts.append(rf"\d{{{first}}}(?!\d)" + (f"(?:{behind})?" if more and len(more) < len(rest) else behind))
    return "(?:" + "|".join(parts) + ")"


_ROW: Final = re.compile(r"(?<!\d)\d(?!\d)(?:[^\d\n]++\d(?!\d)){6,}+")
_SOFT_ROW: Final = re.compile(r"(?<!\d)\d(?!\d)(?:[^\d\n,;:，、。…<]++\d(?!\d)){6,}+")
_SHAPED: Final = re.compile(r"(?<!\d)" + _shaped(_GROUPS, r"[^\d\n]++"))
_BROKEN: Final = re.compile(
    rf"\D*+(?:\d(?:\D++\d){{{DIGITS_MIN - 1},{DIGITS_MAX - 1}}}+|\d{{1,18}}\D++\d{{1,18}}|"
    + _shaped(_GROUPS, r"\D++")
    + r")\D*+"
)
# Whether there are such groups in a chain of figures, by its form: `0` for every digit. Bounded; a form tells no digits.
_FORM: Final = str.maketrans("123456789", "000000000")
_FORM_CHARS_MAX: Final = 48
_KNOWN_MAX: Final = 4096
_KNOWN: Final[dict[str, bool]] = {}
_FIGURE: Final = re.compile(r"\d")
_OTHER: Final = re.compile(rf"[{HANS}A-Za-z]")
# Between figures these are read by the patterns themselves.
_USUAL: Final = re.compile(r"[ \-\u00a0\u2000-\u200a\u3000‐-―−]")
# The groups of telephone numbers in North America, with what they are usually written with, are read by them, too.
_TELEPHONE: Final = (3, 3, 4)
_TELEPHONE_GAPS: Final = frozenset((" ", "-", ".", ") ", ")", ")-"))
# Card schemes (ISO/IEC 7812 prefixes as the schemes publish them): presidio's expression also takes any number in 1 and 3.
_CARD: Final = re.compile(
    r"4\d{12}(?:\d{3}(?:\d{3})?)?|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}|6\d{15,18}"
)
_COUNTING: Final = "012345678901234567890123"


@dataclass(frozen=True, slots=True)
class _Group:
    """Digits with no separator between. `gap` is what stands between it and the group before."""

    digits: str
    spans: tuple[Span, ...]
    styles: frozenset[str]
    letters: int  # how many of them are written as letters
    doubled: bool  # a "double" among them
    gap: str


class Numbers:
    """Finds them from a place in a text on, and says from where on a text to come could change something."""

    def __init__(self, inner: Inner) -> None:
        self._inner = inner

    def look(self, text: str, start: int, final: bool) -> tuple[list[Finding], int]:
        """Findings in chains that start at or behind `start` and are complete, and where the first other one starts."""
        found: list[Finding] = []
        at = start
        size = len(text)
        dull_to = size if final else size - _GROWING_CHARS
        while True:
            if at < dull_to:
                at = _DULL.match(text, at, dull_to).end()  # type: ignore[union-attr]  # it matches the empty string
            head = _HEAD.search(text, at)
            if head is None:
                break
            at = head.start()
            chain = _CHAIN.match(text, at, at + 2 * HALF_CHARS + _MARGIN_CHARS)
            end = head.end() if chain is None else chain.end()
            if end - at > 2 * HALF_CHARS:
                self._window(text, at, at + 2 * HALF_CHARS, found)
                at += HALF_CHARS
                continue
            if not final and size - end <= _GROWING_CHARS and _GROWING.match(text, end):
                return found, at
            self._window(text, at, end, found)
            at = end
        if final:
            return found, size
        return found, _beginning(text, at)

    def _window(self, text: str, start: int, end: int, found: list[Finding]) -> None:
        if end - start <= DIGITS_MIN:
            return
        if _OTHER.search(text, start, end) is None:
            window = text[start:end]
            if window.isdigit() or not _unusual(window):
                return
        groups = list(_groups(text, start, end))
        if not _spoken(groups):
            return
        seen: set[Span] = set()
        for run in _runs(groups):
            digits = sum(len(g.digits) for g in run)
            span = (run[0].spans[0][0], run[-1].spans[-1][1])
            if DIGITS_MIN <= digits <= DIGITS_MAX and span not in seen:
                seen.add(span)
                if _plausible(run):
                    found += self._judged(text, start, run)

    def _judged(self, text: str, first: int, run: list[_Group]) -> list[Finding]:
        digits = "".join(g.digits for g in run)
        spans = [span for g in run for span in g.spans]
        if len(digits) == 17:
            last = _X.match(text, spans[-1][1])
            if last is not None:  # the check character of a resident ID
                digits += "X"
                spans.append(last.span(1))
        start, end = spans[0][0], spans[-1][1]
        closing = _BRACKETS.get(text[start - 1 : start], "-")
        if start > first and closing == text[end : end + 1] and any(closing in g.gap for g in run[1:]):
            start, end = start - 1, end + 1
        left = before(text, start)
        right = text[end : end + 1]
        forms = [Decoded(digits, spans)]
        if len(digits) == 9:  # a social security number is only told by its groups
            forms.append(_grouped(digits, spans, (3, 5)))
        kept: dict[str, Finding] = {}
        least = (
            SPOKEN_SCORE_MIN
            if len(digits) >= SPOKEN_DIGITS_MIN and all(g.styles == {_WORDS} for g in run)
            else SCORE_MIN
        )
        for form in forms:
            for one in self._inner.find(left, form.text, right):
                if one.start > 0 or one.end < len(form.text) or one.score < least:
                    continue
                if form is not forms[0] and one.score <= SCORE_MIN:
                    continue  # groups of ours prove nothing: a context word has to
                if one.entity == "CREDIT_CARD" and not _CARD.fullmatch(digits):
                    continue
                known = kept.get(one.entity)
                if known is None or known.score < one.score:
                    kept[one.entity] = Finding(one.entity, start, end, one.score)
        if not kept:
            return []
        # What the patterns read as it stands is theirs to report.
        plain = self._inner.find(left, text[start:end], right)
        return [f for f in kept.values() if not any(_covers(one, f.entity, end - start) for one in plain)]


def _beginning(text: str, at: int) -> int:
    """Where, from `at` on, a chain may begin at the end of a text that goes on."""
    size = len(text)
    if text[-1:] not in _ENDS_OF_BEGINNINGS:
        return size
    low = max(at, size - _BEGINNING_CHARS)
    tail = text[low:]
    word = size - len(tail) + len(tail.rstrip(_LETTERS_OF_WORDS))
    if word > low and text[word - 1] in _BRACKETS and _BEGINNING.match(text, word):
        return word - 1
    if word == low and low and text[low - 1] in _LETTERS_OF_WORDS:
        return size  # in the midst of a longer word
    return word if _BEGINNING.match(text, word) else size


def _unusual(window: str) -> bool:
    """Whether figures stand in a chain as `_plausible` asks of one of its runs."""
    if len(window) > _FORM_CHARS_MAX or not window.isascii():
        return _may_fit(window)
    form = window.translate(_FORM)
    known = _KNOWN.get(form)
    if known is None:
        if len(_KNOWN) >= _KNOWN_MAX:
            _KNOWN.clear()
        known = _KNOWN[form] = _may_fit(form) and any(
            DIGITS_MIN <= sum(map(_length, run)) <= DIGITS_MAX and _fits(run)
            for run in _runs(list(_groups(form, 0, len(form))))
        )
    return known


def _may_fit(window: str) -> bool:
    """The same, with more that is not."""
    if "\n" in window and _BROKEN.fullmatch(window) is not None:
        return True
    if _SHAPED.search(window) is not None:
        return True
    for row in (_ROW, _SOFT_ROW):
        for match in row.finditer(window):
            if len(_FIGURE.findall(match[0])) <= DIGITS_MAX:
                return True
    return False


def _covers(one: Finding, entity: str, size: int) -> bool:
    return one.entity == entity and one.start == 0 and one.end == size


def _grouped(digits: str, spans: list[Span], cuts: tuple[int, ...]) -> Decoded:
    text, places, at = "", [], 0
    for cut in (*cuts, len(digits)):
        if at:
            text += "-"
            places.append(spans[at])
        text += digits[at:cut]
        places += spans[at:cut]
        at = cut
    return Decoded(text, places)


def _groups(text: str, start: int, end: int) -> Iterator[_Group]:
    digits, spans, styles, letters, doubled = "", list[Span](), set[str](), 0, False
    gap = ""
    times, since = 1, -1
    for part in _PARTS.finditer(text, start, end):
        kind = part.lastindex
        if kind == 5:
            if since >= 0:
                continue  # between "double" and its digit
            if digits:
                yield _Group(digits, tuple(spans), frozenset(styles), letters, doubled, gap)
                digits, spans, styles, letters, doubled, gap = "", [], set(), 0, False, ""
            gap += part[0]
            continue
        if kind == 1 and since < 0:
            digits += fold(part[0]).decode()
            spans += [(n, n + 1) for n in range(*part.span())]
            styles.add(_FIGURES)
            continue
        if kind == 1:
            value, style = fold(part[0]).decode(), _FIGURES
        elif kind == 2:
            value, style = HAN.get(part[0]) or HAN_BEHIND[part[0]], _HAN
        elif kind == 3:
            word = fold(part[0]).decode().lower()
            if word in TIMES:
                times, since = TIMES[word], part.start()
                continue
            value, style = WORDS[word], _WORDS
        else:
            value, style = LETTERS[part[0]], _LETTERS
            letters += 1
        first = part.start() if since < 0 else since
        digits += value * times
        spans += [(first, part.end())] * (len(value) * times)
        styles.add(style)
        doubled |= times == 2
        times, since = 1, -1
    if digits:
        yield _Group(digits, tuple(spans), frozenset(styles), letters, doubled, gap)


def _spoken(groups: list[_Group]) -> bool:
    """Whether so many digits stand in figures, in words in a row, or in numerals in a row, as some number would have.

    The gate of scanner.py stands on these counts: it turns a text down that cannot reach any of them.
    """
    words = han = figures = row = doubled = 0
    for group in groups:
        said = len(group.spans)
        spoken = group.styles == {_WORDS}
        different = len(set(group.spans))
        if not spoken or said > 1 or not _USUAL_GAP.fullmatch(group.gap):
            words = 0
        if spoken and said == 1:
            row = row if words else group.spans[0][0]
            words += said
        # Counted from the first "double" on, which is what the gate looks for.
        doubled = doubled + different if spoken and (doubled or group.doubled) else 0
        if group.styles != {_HAN} or len(group.gap) > _HAN_GAP_CHARS or "<" in group.gap:
            han = 0
        if group.styles == {_HAN}:
            han += said
        if _FIGURES in group.styles:
            figures += sum(end - start == 1 for start, end in group.spans)
        long = group.spans[-1][1] - row >= SPOKEN_CHARS_MIN
        if (words >= WORDS_MIN and long) or doubled >= DOUBLED_WORDS_MIN or han >= _HAN_ROW or figures >= FIGURES_MIN:
            return True
    return False


def _runs(groups: list[_Group]) -> Iterator[list[_Group]]:
    """Everything, then the parts between strong separators, then the parts of one style."""
    yield groups
    for cut in (_is_hard, _changes_style):
        run: list[_Group] = []
        for group in groups:
            if run and cut(run[-1], group):
                yield run
                run = []
            run.append(group)
        yield run


def _is_hard(_: _Group, group: _Group) -> bool:
    return _HARD.search(group.gap) is not None


def _changes_style(left: _Group, group: _Group) -> bool:
    if group.styles != left.styles and not (left.styles | group.styles) <= {_FIGURES, _LETTERS}:
        return True
    return (len(left.digits) == 1) != (len(group.digits) == 1) or "\n" in group.gap


def _plausible(run: list[_Group]) -> bool:
    """Whether a run is written as somebody writes a number, and not as the patterns read it anyway."""
    digits = "".join(g.digits for g in run)
    if digits in _COUNTING or digits[::-1] in _COUNTING or len(set(digits)) == 1:
        return False
    return _fits(run)


def _fits(run: list[_Group]) -> bool:
    """The same, but for which digits they are."""
    styles = frozenset().union(*(g.styles for g in run))
    gaps = [g.gap for g in run[1:]]
    kinds = {re.sub(r"\s+", " ", gap) for gap in gaps}
    if _HAN in styles or _WORDS in styles:
        return len(kinds) <= 3
    if _LETTERS in styles:
        letters = sum(g.letters for g in run)
        size = sum(map(_length, run))
        few = letters * 2 <= size
        return size >= 10 and len(kinds) <= 1 and (few or tuple(map(_length, run)) in _CARD_GROUPS)
    if len(run) < 2:
        return False
    shape = tuple(map(_length, run))
    if set(shape) == {1}:
        # Digit by digit, in one manner: a grid of digits has two.
        return len(kinds) <= 2 and ("\n" not in "".join(gaps) or set(gaps) <= {"\n", "\r\n"})
    if len(run) == 2 and "\n" in gaps[0]:
        return sum(shape) in _BROKEN_DIGITS
    if shape not in _GROUPS or len(kinds) > 2:
        return False
    if shape == _TELEPHONE and all(gap in _TELEPHONE_GAPS for gap in gaps):
        return False
    return shape == (6, 13) or not (len(set(gaps)) == 1 and _USUAL.fullmatch(gaps[0]))


def _length(group: _Group) -> int:
    return len(group.digits)
