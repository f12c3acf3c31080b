"""Presidio's pattern recognizers over a text: each expression runs only where something in a text could match it.

Every expression but those of mail addresses and URLs (hosts.py) matches inside one of three kinds of stretch, found
from the digits: a chunk between blanks, a run of letters and digits in it, or a run of digits and the marks that people
put between them. A stretch has a shape (data.py), and the shape says which expressions could match: each has an
expression over shapes beside it, derived from its parse tree (build.py). Shapes are remembered, so most stretches cost
one look into a table. What a match holds is looked at where it stands, with the text around it as its border.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from filters.compatible.checks import Check, checks
from filters.compatible.data import DOTLESS, DOTTED, WORD, Table, shape
from filters.compatible.hosts import Urls, mails, may_hold_url
from filters.compatible.phones import Phones, runs_of_digits

FLAGS: Final = re.DOTALL | re.MULTILINE | re.IGNORECASE  # as presidio compiles its expressions
_RECOGNIZERS_BY_CODE: Final = frozenset({"EmailRecognizer", "UrlRecognizer", "PhoneRecognizer", "IbanRecognizer"})
# Expressions whose every match is one whole run of letters and digits, but for a slip: `A-Z]{2}` for `[A-Z]{2}`.
WORDS: Final = frozenset(
    {
        "Bank Account (weak)",
        "Driver License - Alphanumeric (weak)",
        "Driver License - Digits (very weak)",
        "Itin (weak)",
        "Passport (very weak)",
        "Passport Next Generation (very weak)",
        "SSN4 (very weak)",
    }
)
_SLIP: Final = "Driver License - Alphanumeric (weak)"
# Expressions that take digits with single blanks or marks between them, and nothing else.
NUMBERS: Final = frozenset(
    {
        "All Credit Cards (weak)",
        "Itin (very weak)",
        "Itin (medium)",
        "NHS (medium)",
        "SSN1 (very weak)",
        "SSN2 (very weak)",
        "SSN3 (very weak)",
        "SSN5 (medium)",
    }
)
_NUMBER_DIGITS_MIN: Final = 9
_MARKS: Final = frozenset("-/.:")  # what expressions may need

_DIGIT: Final = re.compile(r"\d")
WORD_CHARS_MIN: Final = 2  # a shorter word fits none of WORDS; a test says so
_WORD: Final = re.compile(rf"\b(?=\w{{{WORD_CHARS_MIN}}})[a-z]{{0,2}}+\d[a-z\d]{{0,18}}+\b", re.IGNORECASE)
_SHAPE_WORD: Final = re.compile(rf"\b(?=\w{{{WORD_CHARS_MIN}}})[a0]*0[a0]*\b")
_NUMBER: Final = re.compile(r"\d(?:[ \-.]?+\d){8,}+")
_UNIT: Final = re.compile(r"[\w\-./:+]++")
_IBAN_START: Final = re.compile(r"(?<![A-Z0-9])[A-Z]{2}[0-9]{2}", re.IGNORECASE)
# What may match without a digit: IPv6 and MAC addresses, UUIDs. Each begins with the mark that it is searched by.
_COLONS: Final = re.compile(r"::|:[a-f]{2}:[a-f]{2}:|:(?:[a-f]{1,4}:){5}", re.IGNORECASE)
_HYPHENS: Final = re.compile(r"-[a-f]{2}-[a-f]{2}-|-[a-f]{4}-[a-f]{4}-", re.IGNORECASE)
_DOTS: Final = re.compile(r"\.[a-f]{4}\.[a-f]{4}", re.IGNORECASE)

_DIGITLESS_MIN: Final = len("abcd.abcd.abcd")  # the shortest of them but for `::`

# Shapes that are remembered, and the longest: bounded, so that nobody fills memory with them. No value can be read off a
# shape (L7).
_SHAPES_MAX: Final = 8192
_SHAPE_CHARS_MAX: Final = 48


class Letters(enum.IntEnum):
    """Which letters an expression names: says what it takes for one of them (data.py, DOTTED)."""

    UPPER = 0
    LOWER = 1
    BOTH = 2


_LETTERS: Final = {"CryptoRecognizer": Letters.LOWER, "MedicalLicenseRecognizer": Letters.BOTH}


class Pattern(NamedTuple):
    """One expression of a recognizer."""

    recognizer: int
    number: int  # its place in the recognizer's list
    find: re.Pattern[str]
    shape: re.Pattern[str]
    needs: str
    score: float
    check: Check | None
    letters: Letters


class Hit(NamedTuple):
    """What a recognizer found, before context and before what contains what."""

    recognizer: int
    start: int
    end: int
    score: float
    pattern: int
    valid: bool | None


class _Plan(NamedTuple):
    """What could match in a stretch of some shape."""

    words: tuple[tuple[int, int, tuple[Pattern, ...]], ...]  # runs, by their place in it
    patterns: tuple[Pattern, ...]
    iban: bool


_NOTHING: Final = _Plan((), (), False)


class Scan:
    """The recognizers of the data, ready to run."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._table = Table(data)
        self._urls = Urls(data["url_labels"])
        self._phones = Phones(data["short_numbers"], data["plans"])
        by_name = {item["name"]: index for index, item in enumerate(data["recognizers"])}
        self.mail, self.url, self.phone, self.iban = (
            by_name[f"{kind}Recognizer"] for kind in ("Email", "Url", "Phone", "Iban")
        )
        listed = data["recognizers"]
        check = checks(data)
        self.is_mail = check["EmailRecognizer"]
        self.url_scores = [float(p["score"]) for p in listed[self.url]["patterns"]]
        self.phone_score = float(listed[self.phone]["score"])
        iban = listed[self.iban]["patterns"][0]
        self.iban_find = re.compile(iban["regex"], FLAGS)
        self.iban_score = float(iban["score"])
        self.is_iban = check["IbanRecognizer"]
        patterns = [
            (
                p["name"],
                Pattern(
                    index, number, re.compile(p["regex"], FLAGS), re.compile(p["shape"]), p["needs"],
                    float(p["score"]), check.get(item["name"]), _LETTERS.get(item["name"], Letters.UPPER),
                ),
            )
            for index, item in enumerate(listed)
            if item["name"] not in _RECOGNIZERS_BY_CODE
            for number, p in enumerate(item["patterns"])
        ]  # fmt: skip
        self._words = tuple(p for name, p in patterns if name in WORDS)
        self._numbers = tuple(p for name, p in patterns if name in NUMBERS)
        self.tokens = tuple(p for name, p in patterns if name not in WORDS and name not in NUMBERS)
        self.slip = next(p for name, p in patterns if name == _SLIP)
        self._plans: dict[str, _Plan] = {}
        self._number_plans: dict[str, tuple[Pattern, ...]] = {}
        self._word_plans: dict[str, tuple[Pattern, ...]] = {}

    def hits(self, text: str) -> list[Hit]:
        """Everything the recognizers match, and whose check does not fail."""
        view = text if text.isascii() else text.translate(self._table)
        look = _Look(self, text, view)
        if "@" in view:
            for start, end in mails(view):
                if self.is_mail(text[start:end]):
                    look.hits.append(Hit(self.mail, start, end, 1.0, 0, True))
        if "." in view and may_hold_url(view):
            look.hits += [
                Hit(self.url, start, end, self.url_scores[number], number, None)
                for number, (start, end) in self._urls.find(look.views[Letters.LOWER])
            ]
        look.without_digits()
        cores = runs_of_digits(view)
        if cores:
            look.with_digits(cores)
            numbers = self._phones.find(text, cores if view is text else runs_of_digits(text))
            look.hits += [Hit(self.phone, s, e, self.phone_score, -1, None) for s, e in numbers]
        return look.hits

    def plan(self, form: str) -> _Plan:
        """What could match in a stretch without blanks of that shape."""
        plan = self._plans.get(form)
        if plan is None:
            words = []
            for word in _SHAPE_WORD.finditer(form):
                fitting = self.fitting(word[0])
                if fitting:
                    words.append((word.start(), word.end(), fitting))
            marks = _MARKS.intersection(form)
            patterns = tuple(p for p in self.tokens if marks.issuperset(p.needs) and p.shape.search(form))
            iban = "aa00" in form
            plan = _Plan(tuple(words), patterns, iban) if words or patterns or iban else _NOTHING
            _remember(self._plans, form, plan)
        return plan

    def fitting(self, form: str) -> tuple[Pattern, ...]:
        """Which of the expressions for whole words could match a word of that shape."""
        fitting = self._word_plans.get(form)
        if fitting is None:
            fitting = tuple(p for p in self._words if p.shape.fullmatch(form))
            _remember(self._word_plans, form, fitting)
        return fitting

    def numbers(self, found: re.Match[str]) -> tuple[Pattern, ...]:
        """What could match in a run of digits with marks."""
        if found.end() - found.start() > _SHAPE_CHARS_MAX:
            return self._numbers
        form = shape(found[0])
        plan = self._number_plans.get(form)
        if plan is None:
            plan = tuple(p for p in self._numbers if p.shape.search(form))
            _remember(self._number_plans, form, plan)
        return plan


class _Look:
    """One text while it is looked at."""

    __slots__ = ("_iban_at", "_scan", "_slip", "_text", "_view", "hits", "views")

    def __init__(self, scan: Scan, text: str, view: str) -> None:
        self.hits: list[Hit] = []
        self._scan = scan
        self._text = text
        self._view = view
        self.views = (view, view, view)
        if not view.isascii() and (DOTTED in view or DOTLESS in view):
            self.views = (view.replace(DOTTED, WORD), view.replace(DOTLESS, WORD), view)
        self._iban_at = 0  # an IBAN starts only behind the one before
        self._slip = "]]" in view

    def with_digits(self, cores: Sequence[re.Match[str]]) -> None:
        """All chunks with a digit, and all numbers."""
        view = self._view
        size = len(view)
        left = 0
        for core in cores:
            at, last = core.span()
            while at < last:
                if at >= left:
                    start = max(left, view.rfind(" ", left, at) + 1)
                    left = view.find(" ", at)
                    if left < 0:
                        left = size
                    self._chunk(start, left)
                if last <= left:
                    break
                at = _DIGIT.search(view, left).start()  # type: ignore[union-attr]  # a run ends with a digit
            if last - core.start() >= _NUMBER_DIGITS_MIN:
                for match in _NUMBER.finditer(view, core.start(), last):
                    for pattern in self._scan.numbers(match):
                        self._run(pattern, match.start(), match.end())
        if self._slip:
            self._run(self._scan.slip, 0, size)

    def without_digits(self) -> None:
        """The chunks without a digit in which something may match."""
        view = self._view
        seeds: set[int] = set()
        if ":" in view and ("::" in view or view.count(":") >= 5):
            seeds.update(match.start() for match in _COLONS.finditer(view))
        if view.count("-") >= 4:
            seeds.update(match.start() for match in _HYPHENS.finditer(view))
        if "." in view:
            seeds.update(match.start() for match in _DOTS.finditer(view))
        left = 0
        for seed in sorted(seeds):
            if seed >= left:
                start = max(left, view.rfind(" ", left, seed) + 1)
                left = view.find(" ", seed)
                left = len(view) if left < 0 else left
                if _DIGIT.search(view, start, left) is None:
                    self._chunk(start, left)

    def _chunk(self, start: int, end: int) -> None:
        """Runs over a stretch without blanks what could match in it, but for numbers with marks inside."""
        view = self._view
        if end - start <= _SHAPE_CHARS_MAX:
            plan = self._scan.plan(shape(view[start:end]))
            if plan is _NOTHING:
                return
            for first, last, patterns in plan.words:
                self._words(patterns, start + first, start + last)
            for pattern in plan.patterns:
                self._run(pattern, start, end)
            if plan.iban:
                self._ibans(start, end)
            return
        unit = _UNIT.search(view, start, end)
        if unit is not None and unit.span() != (start, end):
            for unit in _UNIT.finditer(view, start, end):
                first, last = unit.span()
                if last - first > 1 and (
                    last - first >= _DIGITLESS_MIN
                    or _DIGIT.search(view, first, last) is not None
                    or view.find("::", first, last) >= 0
                ):
                    self._chunk(first, last)
            return
        for word in _WORD.finditer(view, start, end + 1):
            if word.end() <= end:
                self._words(self._scan.fitting(shape(word[0])), word.start(), word.end())
        for pattern in self._scan.tokens:
            if all(view.find(mark, start, end) >= 0 for mark in pattern.needs):
                self._run(pattern, start, end)
        self._ibans(start, end)

    def _words(self, patterns: tuple[Pattern, ...], start: int, end: int) -> None:
        for pattern in patterns:
            if not (self._slip and pattern is self._scan.slip):
                self._run(pattern, start, end)

    def _run(self, pattern: Pattern, start: int, end: int) -> None:
        # The character behind is seen as a border; no match takes it, for it is not of the kind of the stretch.
        for match in pattern.find.finditer(self.views[pattern.letters], start, end + 1):
            first, last = match.span()
            score = pattern.score
            valid = None
            if pattern.check is not None:
                valid = pattern.check(self._text[first:last])
                if valid is False:
                    continue
                if valid:
                    score = 1.0
            self.hits.append(Hit(pattern.recognizer, first, last, score, pattern.number, valid))

    def _ibans(self, start: int, end: int) -> None:
        """IBANs that start in that stretch; their groups may stand behind it."""
        scan = self._scan
        view = self.views[Letters.UPPER]
        at = max(start, self._iban_at)
        while at < end and (head := _IBAN_START.search(view, at, end)) is not None:
            at = head.start() + 1
            match = scan.iban_find.match(view, head.start())
            if match is None:
                continue
            at = self._iban_at = match.end()
            # The last groups may be words that follow: the longest end that checks is taken.
            for group in (3, 2, 1):
                last = match.end(group)
                valid = scan.is_iban(self._text[match.start() : last])
                if valid is not False:
                    score = 1.0 if valid else scan.iban_score
                    self.hits.append(Hit(scan.iban, match.start(), last, score, 0, valid))
                    break


def _remember(table: dict[str, Any], key: str, value: object) -> None:
    if len(table) >= _SHAPES_MAX:
        table.clear()
    table[key] = value
