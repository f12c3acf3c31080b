"""Phone numbers as presidio's PhoneRecognizer finds them: libphonenumber's matcher, asked only where it could find one.

The matcher takes candidates from left to right, and from where the last one ended; this module cuts the same ones, and
for each asks the `rphonenumbers` port in those of the eight regions in whose plans something in it could be a number.
What the matcher tries in a candidate (the whole, then parts of it) is repeated here by count of digits and first
digits alone. No number is valid with fewer than four digits; with four to six only in the German plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rphonenumbers import PhoneNumberMatcher

from filters.compatible.data import shape
from filters.finding import UndecidedError

# Canada is covered by the United States: one plan.
REGIONS: Final = ("US", "GB", "DE", "FR", "IL", "IN", "BR")
_GERMAN: Final = ("DE",)
_LENIENCY: Final = 1  # VALID
_TRIES_MAX: Final = 65_535  # as PhoneNumberMatcher has it
# How often the port is asked about one text: 4,000 numbers in all plans, 0.15 s of CPU (measured). Our choice.
ASKED_MAX: Final = 28_000
_DIGITS_MIN: Final = 4
_SHORT_DIGITS_MAX: Final = 6
# A national number has 15 digits at most, a country code three, an international prefix five.
_DIGITS_MAX: Final = 23
_GROUPS_MAX: Final = 20

# libphonenumber's own classes and expressions.
_MARKS: Final = (
    "-x\u2010-\u2015\u2212\u30fc\uff0d-\uff0f \u00a0\u00ad\u200b\u2060\u3000()\uff08\uff09\uff3b\uff3d"
    ".\\[\\]/~\u2053\u223c\uff5e"
)
_LEAD: Final = "(\\[\uff08\uff3b+\uff0b"
_EXTENSION: Final = (
    ";ext=(?:\\d{1,20})"
    "|[ \u00a0\\t,]*(?:e?xt(?:ensi(?:o\u0301?|\u00f3))?n?|\uff45?\uff58\uff54\uff4e?|\u0434\u043e\u0431|anexo)"
    "[:\\.\uff0e]?[ \u00a0\\t,-]*(?:\\d{1,20})#?"
    "|[ \u00a0\\t,]*(?:[x\uff58#\uff03~\uff5e]|int|\uff49\uff4e\uff54)[:\\.\uff0e]?[ \u00a0\\t,-]*(?:\\d{1,9})#?"
    "|[- ]+(?:\\d{1,6})#"
)
_CANDIDATE: Final = re.compile(
    f"(?:[{_LEAD}][{_MARKS}]{{0,4}}){{0,2}}\\d{{1,20}}(?:[{_MARKS}]{{0,4}}\\d{{1,20}}){{0,20}}(?:{_EXTENSION})?",
    re.IGNORECASE,
)
_RUN_CHARS_MAX: Final = 20 * 21  # digits that a candidate takes without a mark between them
_LEAD_CHARS_MAX: Final = 10  # two marks with four characters behind each
_SECOND: Final = re.compile(r"[\\/] *x")
_SLASH_DATE: Final = re.compile(r"(?:(?:[0-3]?\d/[01]?\d)|(?:[01]?\d/[0-3]?\d))/(?:[12]\d)?\d{2}")
_INNER: Final = (
    re.compile(r"/+(.*)"),
    re.compile(r"(\([^(]*)"),
    re.compile(r"(?:\s-|-\s)\s*(.+)"),
    re.compile(r"\.+\s*([^.]+)"),
    re.compile(r"\s+(\S+)"),
)
# Runs of digits as the core of a candidate has them: nothing else holds one. A set of ASCII digits is searched faster.
_CORE: Final = re.compile(f"\\d(?:[{_MARKS}]{{0,4}}+\\d)*+", re.IGNORECASE)
_CORE_ASCII: Final = re.compile(r"[0-9](?:[-xX \.()\[\]/~]{0,4}+[0-9])*+")
# One run of digits behind the first other character: what may be an extension.
_PLAIN: Final = re.compile(r"[0 \-./()]*")
_EXTENDED_ONCE: Final = re.compile(r"([0 \-./()]*)[^0 \-./()][^0]*0+#?")
_LAST_DIGITS: Final = re.compile(r"0+[^0]*\Z")
_BEFORE_EXTENSION_MIN: Final = 3  # digits; with fewer its letters may be read as digits
_NOT_DIGITS: Final = str.maketrans("", "", "".join(c for c in map(chr, range(0x80)) if not c.isdigit()))
# Forms of candidates that are remembered, and the longest: no value can be read off a form (L7).
_FORMS_MAX: Final = 4096
_FORM_CHARS_MAX: Final = 64
_LATIN_BORDER: Final = re.compile("[A-Za-z%$]")
_TIME: Final = re.compile(r":[0-5]\d")
_STAMP: Final = re.compile(r"[12]\d{3}[-/]?[01]\d[-/]?[0-3]\d +[0-2]\d$")

# Where the port (rphonenumbers 0.1.0, plans of 9.0.41) is known to differ from phonenumbers 9.0.43, the original is asked,
# which is ten times slower: the port reads an `x` before more than an extension in another way, cuts at other dashes than
# `-` in another way, tries only the first of several parts behind slashes or dashes, and seven plans have changed (110,000
# random numbers over all plans and types).
_OTHER: Final = re.compile(r"[^\0-\x7f]|[xX](?!\d+\Z)")
_TWICE: Final = re.compile(r"/[^/]+/|(?:\s-|-\s)\s*[^\s-].*(?:\s-|-\s)")
_CHANGED: Final = re.compile(
    r"(?:[+\uff0b]\D*|(?<!\d)0\D*(?:0\D*(?:\d\D*\d\D*)?|1\D*[1-9]\D*|1\D*0\D*5\D*))"  # a plus, or 00, 00xx, 01x, 0105
    r"(?:2\D*(?:6\D*7|9\D*0|3\D*[38])|5\D*(?:9\D*2|0\D*6)|4\D*5)"
)
_DIFFERENT: Final = (_OTHER, _TWICE, _CHANGED)
_ORIGINAL_COST: Final = 10

Span = tuple[int, int]
Regions = tuple[str, ...]


class Asked(NamedTuple):
    """Which regions to ask about a candidate."""

    alone: Regions = ()  # in whose plans something in it could be a number
    alike: Regions = ()  # that all say the same of it
    parts: Regions = ()  # in which not only the whole could be one


_NONE: Final = Asked()
_ALL: Final = Asked(alone=REGIONS, parts=REGIONS)


class _Form(NamedTuple):
    """What the shape of a candidate says."""

    nothing: bool = False
    opaque: bool = False  # no look inside: any region could find something
    plus: bool = False
    whole: bool = False  # it could be a number as it is dialled
    parts: tuple[Span, ...] = ()  # what in it the matcher may take for one, by place
    plus_parts: bool = False  # a part with the plus could be one


_NOTHING: Final = _Form(nothing=True)
_OPAQUE: Final = _Form(opaque=True)


def runs_of_digits(text: str) -> list[re.Match[str]]:
    """All digits of a text, in runs with at most four of the marks between them that a phone number may have."""
    return list((_CORE_ASCII if text.isascii() else _CORE).finditer(text))


class Phones:
    """Finds spans of phone numbers.

    Data: `short`, how numbers of four to six digits begin that the German plan knows; `plans`, by region what every longer
    number looks like as it is dialled there.
    """

    def __init__(self, short: Mapping[str, Sequence[str]], plans: Mapping[str, Sequence[str]]) -> None:
        # One call tells all regions: each has a group, which takes nothing and is set where its plan fits.
        self._coarse = re.compile("".join(rf"(?:(?=(?:{plans[region][0]})\Z)())?" for region in REGIONS))
        self._valid = {region: valid for region, (_, valid) in plans.items()}
        self._valid_compiled: dict[str, re.Pattern[str]] = {}
        self._short = {int(digits): frozenset(heads) for digits, heads in short.items()}
        self._forms: dict[str, _Form] = {}

    def find(self, text: str, cores: Sequence[re.Match[str]]) -> list[Span]:
        """All spans, those of each region's own walk, each once. `cores` are the text's runs of digits.

        Raises UndecidedError where ASKED_MAX is hit.
        """
        return _Walk(text, self).find(cores)

    def regions(self, candidate: str) -> Asked:
        """Whom to ask about a candidate."""
        if not candidate.isascii():
            return _ALL if sum(c.isdecimal() for c in candidate) >= _DIGITS_MIN else _NONE
        form = self._form(shape(candidate))
        if form is _NOTHING:
            return _NONE
        if form is _OPAQUE:
            return _ALL
        if "/" in candidate and _SLASH_DATE.search(candidate):
            return _NONE
        if form.plus and candidate.translate(_NOT_DIGITS)[0] == "0":
            return _ALL  # no country has that code: read as dialled from the region
        whole = self._dialled(candidate.translate(_NOT_DIGITS)) if form.whole else ()
        parts: list[str] = []
        for start, end in form.parts:
            parts += self._dialled(candidate[start:end].translate(_NOT_DIGITS))
        if not form.plus and not parts:
            return Asked(tuple(whole)) if whole else _NONE
        alone = tuple(dict.fromkeys([*whole, *parts]))
        # With a plus it is the same number in each, but what follows it in the candidate may be one in some.
        alike = tuple(region for region in REGIONS if region not in alone) if form.plus else ()
        return Asked(alone, alike, REGIONS if form.plus_parts else tuple(parts))

    def _form(self, form: str) -> _Form:
        known = self._forms.get(form)
        if known is None:
            known = _formed(form)
            if len(form) <= _FORM_CHARS_MAX:
                if len(self._forms) >= _FORMS_MAX:
                    self._forms.clear()
                self._forms[form] = known
        return known

    def _dialled(self, digits: str) -> list[str]:
        """The regions in which that could be dialled."""
        if len(digits) <= _SHORT_DIGITS_MAX:
            return list(_GERMAN) if self._is_short(digits) else []
        fits = self._coarse.match(digits)
        if fits is None or fits.lastindex is None:
            return []
        return [
            region
            for region, group in zip(REGIONS, fits.groups(), strict=True)
            if group is not None and self._exact(region).fullmatch(digits)
        ]

    def _exact(self, region: str) -> re.Pattern[str]:
        """Compiled when first asked for: 0.05 s of CPU for all (measured)."""
        compiled = self._valid_compiled.get(region)
        if compiled is None:
            compiled = self._valid_compiled[region] = re.compile(self._valid[region])
        return compiled

    def _is_short(self, digits: str) -> bool:
        heads = self._short.get(len(digits))
        return heads is not None and digits[:_DIGITS_MIN] in heads


def _formed(form: str) -> _Form:
    """Looks a candidate over by its shape."""
    count = form.count("0")
    if count < _DIGITS_MIN:
        return _NOTHING
    plus = "+" in form
    plain = form.replace("+", " ", 1) if plus else form
    extended = _PLAIN.fullmatch(plain) is None
    if extended:
        match = _EXTENDED_ONCE.fullmatch(plain)
        if match is None or match[1].count("0") < _BEFORE_EXTENSION_MIN:
            return _OPAQUE
    tried: dict[Span, None] = {}
    if len(form) != count and count > _DIGITS_MIN:
        # What it could be a part of has more characters than digits.
        tried = dict.fromkeys(_inner(form))
    for start, end in ((0, len(form)), *tried):
        part = plain[start:end]
        if extended and _PLAIN.fullmatch(part) is None:
            # With its extension, or without what may be one.
            tried[start, start + _PLAIN.match(part).end()] = None  # type: ignore[union-attr]  # it takes the empty string
            last = _LAST_DIGITS.search(part)
            if last is not None:
                tried[start, start + last.start()] = None
    tried.pop((0, len(form)), None)
    spans = [(s, e) for s, e in tried if _DIGITS_MIN <= form.count("0", s, e) <= _DIGITS_MAX]
    plus_parts = any("+" in form[s:e] for s, e in spans)
    parts = tuple((s, e) for s, e in spans if "+" not in form[s:e])
    whole = not plus and count <= _DIGITS_MAX
    return _Form(plus=plus, whole=whole, parts=parts, plus_parts=plus_parts) if plus or whole or parts else _NOTHING


def _inner(form: str) -> Iterator[Span]:
    """The parts of a candidate that the matcher tries."""
    for inner in _INNER:
        match = inner.search(form)
        if match is not None:
            yield 0, match.start()
        while match is not None:
            yield match.span(1)
            match = inner.search(form, match.start() + 1)


class _Walk:
    """One text. Candidates are cut once for all regions, unless one found a number in a part of a candidate."""

    def __init__(self, text: str, phones: Phones) -> None:
        self._text = text
        self._phones = phones
        self._asked = 0
        self._spans: set[Span] = set()
        self._ahead: dict[
            str, int
        ] = {}  # where a region is that took a candidate which goes on behind that of the others

    def find(self, cores: Sequence[re.Match[str]]) -> list[Span]:
        text = self._text
        at = 0
        for core in cores:
            first, last = core.span()
            if last <= at:
                continue
            if first >= at and self._dull(core[0], first, last) and _EXTENDED.match(text, last) is None:
                at = last  # it is a candidate all the same: the next one starts behind it
                continue
            at = self._walk(max(at, first - _LEAD_CHARS_MAX), last)
        return list(self._spans)

    def _dull(self, core: str, first: int, last: int) -> bool:
        """True for a run that is no number, whatever stands before it, unless an extension makes what follows a part of it."""
        if len(core) < _DIGITS_MIN or len(core.translate(_NOT_DIGITS)) < _DIGITS_MIN:
            return True
        # A run of more digits than a candidate takes goes on in another one, which may have no letter beside it.
        return len(core) <= _RUN_CHARS_MAX and core.isdecimal() and self._beside_letter(first, last)

    def _beside_letter(self, first: int, last: int) -> bool:
        """True if a letter rules out a number there that has no parts."""
        text = self._text
        return bool((first and _LATIN_BORDER.match(text, first - 1)) or _LATIN_BORDER.match(text, last))

    def _walk(self, at: int, last: int) -> int:
        """Judges the candidates that begin before `last`; returns where the search goes on."""
        while at < last:
            match = _CANDIDATE.search(self._text, at)
            if match is None or match.start() >= last:
                return max(at, last)
            at = self._judge(match)
        return at

    def _judge(self, match: re.Match[str]) -> int:
        end = self._end(match)
        asked = self._regions(match, end)
        regions = asked.alone + asked.alike
        if self._ahead:
            regions += tuple(r for r in self._ahead if r not in regions)
        said = -1
        for region in regions:
            at = self._ahead.pop(region, 0)
            if at <= match.start():
                if region in asked.alone:
                    at = self._ask(match, end, region, asked)
                elif region not in asked.alike:
                    at = end
                else:
                    at = said = said if said >= 0 else self._ask(match, end, region, asked)
                if (match.start(), end) in self._spans and not self._ahead and match[0].isascii() and at == end:
                    # The whole is a number: other regions could only find it too, or what it contains.
                    break
            # Behind a number inside the candidate this region cuts candidates of its own.
            while at < end:
                inner = _CANDIDATE.search(self._text, at)
                if inner is None or inner.start() >= end:
                    break
                inner_end = self._end(inner)
                inner_asked = self._regions(inner, inner_end)
                asks = region in inner_asked.alone or region in inner_asked.alike
                at = self._ask(inner, inner_end, region, inner_asked) if asks else inner_end
            if at > end:
                self._ahead[region] = at
        return end

    @staticmethod
    def _end(match: re.Match[str]) -> int:
        if "/" in match[0] or "\\" in match[0]:
            second = _SECOND.search(match[0])
            if second is not None:
                return match.start() + second.start()
        return match.end()

    def _regions(self, match: re.Match[str], end: int) -> Asked:
        text = self._text
        candidate = match[0] if end == match.end() else text[match.start() : end]
        if candidate.isdecimal() and self._beside_letter(match.start(), end):
            return _NONE
        if _STAMP.search(candidate) is not None and _TIME.match(text, end) is not None:
            return _NONE
        return self._phones.regions(candidate)

    def _ask(self, match: re.Match[str], end: int, region: str, asked: Asked) -> int:
        """Notes the first number that the matcher finds in a candidate; returns where its walk goes on.

        It is shown the candidate and what is beside it.
        """
        self._asked += 1
        if self._asked > ASKED_MAX:
            raise UndecidedError("more phone candidates than are looked at in one text", limit=True)
        text = self._text
        start = match.start()
        before = _border(text[start - 1]) if start else ""
        behind = text[match.end() : match.end() + 3]
        if not _TIME.match(behind):
            behind = _border(behind[:1])
        shown = before + match[0] + behind
        number: Any = None
        if not any(e.search(match[0]) for e in _DIFFERENT):
            number = next(iter(PhoneNumberMatcher(shown, region, _LENIENCY, _TRIES_MAX)), None)
            if number is not None and (number.start != len(before) or number.end != len(before) + end - start):
                number = None
            elif number is None and region not in asked.parts:
                return end
        if number is None:
            # The port is believed about the whole: what it tries beyond that is not all that the original tries.
            self._asked += _ORIGINAL_COST
            number = next(iter(_original(shown, region)), None)
            if number is None:
                return end
        first, last = number.start - len(before) + start, number.end - len(before) + start
        if first >= end:
            return end
        self._spans.add((first, last))
        return int(last)


def _original(shown: str, region: str) -> Any:
    """The matcher of the library that the port was made from."""
    from phonenumbers import PhoneNumberMatcher as Original

    return Original(shown, region, _LENIENCY, _TRIES_MAX)


_EXTENDED: Final = re.compile(
    "[ \u00a0\\t,]*(?:[xei#~\uff58\uff45\uff49\uff03\uff5e\u0434a]|;)|[- ]+\\d", re.IGNORECASE
)


def _border(char: str) -> str:
    """What the matcher takes at a number's border as it takes this character, and what is no part of a number."""
    if char in "xX":
        return "z" if char else ""
    # A lone surrogate cannot be shown to the port; it is neither a letter nor a mark.
    return "\n" if char.isdecimal() or char in _OPENING or "\ud800" <= char <= "\udfff" else char


_OPENING: Final = frozenset("([+\uff08\uff3b\uff0b")
