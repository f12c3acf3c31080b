"""Identifiers in a run of digits and separators.

The shape of a run says which groups of digits stand in it and what separates them, so the forms that could be in it are
worked out once for each shape (`_plan`); only their digits are then looked at. Forms are tables of group lengths.

A form is bordered where its neighbors could not belong to the same number: a letter, a digit or a decimal point beside
it makes it none, unless the letters are a word such as `tel`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from filters.detectors.china import labels, validators
from filters.detectors.china.data import China
from filters.detectors.patterns import CONTEXT_FLOOR, shape
from filters.finding import Finding

_GROUP: Final = re.compile(rb"0+(?:a(?![0a]))?")
_SEPARATOR: Final = re.compile(rb"[ -]{1,3}|\.")  # between the groups of one number
_PLANS_MAX: Final = 4096  # shapes remembered; a shape says where digits stand and not which (L7)
_PLAN_CHARS_MAX: Final = 48

# Folded to a hyphen, and invisible: what they stand in is one group.
_INVISIBLE: Final = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff\u180e")

# How the digits of each kind are grouped.
_RESIDENT_FORMS: Final = frozenset(
    {
        (18,),
        (6, 8, 4),
        (6, 4, 4, 4),
        (6, 4, 2, 2, 4),
        (3, 3, 8, 4),
        (3, 3, 4, 4, 4),
        (6, 12),
        (14, 4),
        (10, 8),
        (6, 6, 6),
    }
)
_OLD_RESIDENT_FORMS: Final = frozenset({(15,), (6, 6, 3)})
_CARD_FORMS: Final = frozenset(
    {(16,), (17,), (18,), (19,), (4, 4, 4, 4), (4, 4, 4, 4, 1), (4, 4, 4, 4, 2), (4, 4, 4, 4, 3), (6, 10), (6, 11), (6, 12), (6, 13), (4, 12), (8, 8), (8, 8, 3), (6, 4, 4, 4, 1), (5, 5, 5, 4), (4, 6, 6, 3)}
)  # fmt: skip
_MOBILE_FORMS: Final = frozenset({(11,), (3, 4, 4), (3, 8), (7, 4), (4, 4, 3), (5, 6), (3, 3, 5)})
_LOCAL_FORMS: Final = frozenset({(7,), (8,), (3, 4), (4, 4)})
_SERVICE_FORMS: Final = frozenset({(10,), (3, 3, 4), (3, 4, 3), (4, 3, 3), (3, 7), (4, 6)})  # 400 and 800 numbers
_GROUPS_MAX: Final = 5
# What some form of these, or of one group, begins with.
_BEGINNINGS: Final = frozenset(
    form[:chars]
    for forms in (
        _RESIDENT_FORMS,
        _OLD_RESIDENT_FORMS,
        _CARD_FORMS,
        _MOBILE_FORMS,
        _LOCAL_FORMS,
        _SERVICE_FORMS,
        {(12,), (13,)},
    )
    for form in forms
    for chars in range(1, len(form) + 1)
)
# Every eighth number in a log could be one of these: without a word that names it, it is not worth a mention.
_SCORE_MIN: Final = 0.2
# Area and birthday of an identity number, but not its check character: a slip of the pen, or a test of a form. It counts
# only under a policy that asks for such a score, whatever words stand before it.
_UNVERIFIED: Final = 0.25
_COUNTRY: Final = frozenset({b"86", b"0086"})
_COUNTRY_LENGTHS: Final = frozenset({2, 4})


@dataclass(frozen=True, slots=True)
class _Form:
    """A place in a run where a kind of number could stand. Offsets are those of the run's shape."""

    kind: str
    start: int
    end: int
    pieces: tuple[tuple[int, int], ...]  # its groups
    area: tuple[int, int] | None = None  # the group of a telephone number's area
    country: tuple[int, int] | None = None
    glued: bool = False  # a neighbor in the run may belong to it


_Plan = tuple[_Form, ...]


class _Group(NamedTuple):
    start: int
    end: int
    x: bool
    size: int


class Numbers:
    """What looks at runs."""

    def __init__(self, china: China) -> None:
        self._china = china
        self._plans: dict[bytes, _Plan] = {}
        self._checks: dict[str, Callable[[bytes], float]] = {
            labels.RESIDENT: self._resident,
            labels.PERMIT: self._permanent,
            labels.CARD: self._card,
            labels.USCC: self._uscc,
            labels.MACAU: self._macau,
        }

    def find(self, text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
        """Findings in view[start:end], a run of that shape."""
        places: list[int] | None = None
        run = view[start:end]
        if b"-" in form:
            hidden = [i for i, char in enumerate(text[start:end]) if char in _INVISIBLE]
            if hidden:
                gone = set(hidden)
                places = [i for i in range(end - start) if i not in gone]
                run = bytes(run[i] for i in places)
                form = shape(run)
        plan = self._plans.get(form)
        if plan is None:
            plan = self._plan(form)
        found: list[Finding] = []
        taken = 0
        for one in plan:
            if one.start < taken:
                continue
            base = self._base(one, run)
            if base <= 0.0:
                continue
            first, last = one.start, one.end
            if places is not None:
                first, last = places[first], places[last - 1] + 1
            first, last = start + first, start + last
            left = labels.before(text, first)
            if not self._bordered(one, text, view, first, last, left):
                continue
            score = base if base == _UNVERIFIED else labels.score(one.kind, base, left)
            if score >= _SCORE_MIN:
                found.append(Finding(one.kind, first, last, score))
            if score >= CONTEXT_FLOOR:
                taken = one.end
        return found

    def _base(self, one: _Form, run: bytes) -> float:
        digits = b"".join([run[a:b] for a, b in one.pieces]).upper()
        if one.kind == labels.MOBILE or one.kind == labels.LANDLINE:
            return self._telephone(one, run, digits)
        if one.kind == labels.MACAU and len(one.pieces) == 1:
            return 0.1 if digits[:1] in b"157" else 0.0
        return self._checks[one.kind](digits)

    # What the digits say ----------------------------------------------------------------------------------------------

    def _resident(self, digits: bytes) -> float:
        china = self._china
        if len(digits) == 15:
            known = digits[:4] in china.prefectures and validators.short_birthday(digits[6:12])
            return 0.2 if known else 0.0
        if digits[:2] not in china.provinces or not validators.birthday(digits[6:14]):
            return 0.0
        known = digits[:4] in china.prefectures
        if validators.mod_11_2(digits):
            return 1.0 if known else 0.85
        return _UNVERIFIED if known else 0.0

    def _permanent(self, digits: bytes) -> float:
        """A foreigner's permanent residence card since 2023: 9, province, country, birthday, number, check character."""
        known = digits[:1] == b"9" and digits[1:3] in self._china.provinces and validators.birthday(digits[6:14])
        return 0.9 if known and validators.mod_11_2(digits) else 0.0

    def _card(self, digits: bytes) -> float:
        if validators.alike(digits[1:]) or not _luhn(digits):
            return 0.0
        if self._china.card(digits):
            return 1.0
        if digits[:2] == b"62":
            return 0.6
        # ISO/IEC 7812: banks have 3 to 6, and 9 is for each country's own use.
        return 0.1 if digits[:1] in b"34569" and not validators.birthday(digits[6:14]) else 0.0

    def _uscc(self, digits: bytes) -> float:
        """Codes without a letter; and in 15 digits a registration number, or a tax number that holds an organization's code."""
        if len(digits) == 18:
            return uscc_score(digits, self._china)
        if digits[:4] not in self._china.prefectures and digits[:2] != b"10":
            return 0.0
        return 0.1 if validators.registration(digits) or validators.organization(digits[6:]) else 0.0

    def _macau(self, digits: bytes) -> float:
        """The rule of its check digit is not published."""
        return 0.35 if digits[:1] in b"157" else 0.0

    def _telephone(self, one: _Form, run: bytes, digits: bytes) -> float:
        country = run[one.country[0] : one.country[1]] if one.country is not None else b""
        if country and country not in _COUNTRY:
            return 0.0
        plus = run[one.start : one.start + 2] in (b"+8", b"(+")
        if one.kind == labels.MOBILE:
            if len(digits) > 11:
                country, digits = digits[:-11], digits[-11:]
                if country not in _COUNTRY:
                    return 0.0
            if not validators.mobile(digits):
                return 0.0
            return 0.95 if plus else 0.75
        if one.area is None:
            if len(digits) == 10:
                return (0.6 if len(one.pieces) > 1 else 0.2) if digits[:3] in (b"400", b"800") else 0.0
            if len(digits) <= 8:
                dated = len(digits) == 8 and validators.birthday(digits)
                return 0.1 if digits[0] in b"2345678" and not dated else 0.0
            # Area code and number in one group.
            for chars in (3, 4):
                local = len(digits) - chars
                if digits[:chars] in self._china.area_codes and local in (7, 8) and digits[chars] in b"2345678":
                    return 0.3
            return 0.0
        area = run[one.area[0] : one.area[1]]
        if country and area[:1] != b"0":
            area = b"0" + area
        if area not in self._china.area_codes or digits[0] not in b"2345678":
            return 0.0
        if len(area) == 3 and len(digits) != 8:
            return 0.0
        return 0.9 if plus else 0.65

    # What stands beside it --------------------------------------------------------------------------------------------

    def _bordered(self, one: _Form, text: str, view: bytes, first: int, last: int, left: str) -> bool:
        strict = one.kind in _STRICT
        if strict and one.glued:
            return False
        if first and not _left_border(view, first, strict, left):
            return False
        after = view[last] if last < len(view) else 0x0A
        if after in _WORD or (strict and after == 0x25):  # %
            return False
        return not (strict and after == 0x02 and text[last] in _UNITS)

    # What could stand in a shape --------------------------------------------------------------------------------------

    def _plan(self, form: bytes) -> _Plan:
        groups = [
            _Group(start, end, form[end - 1] == 0x61, end - start)
            for start, end in (m.span() for m in _GROUP.finditer(form))
        ]
        forms: list[_Form] = []
        for index in range(len(groups)):
            forms += _forms(form, groups, index)
        forms.sort(key=lambda f: (f.start, f.start - f.end))
        plan = tuple(forms)
        if len(form) <= _PLAN_CHARS_MAX:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[form] = plan
        return plan


# Kinds without a strong check digit: they need clean borders.
_STRICT: Final = frozenset({labels.MOBILE, labels.LANDLINE, labels.MACAU})
_WORD: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_LETTERS: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_UNITS: Final = frozenset("元次条笔件行字块万亿年岁％℃秒页")  # a number before one of these counts something
# Letters directly before a number that name it: `tel13812345678`.
_NAMING: Final = re.compile(
    r"(?<![A-Za-z0-9_])(?:tel|phone|mobile|mob|cell|fax|call|id|idcard|sfz|sfzh|card|no|wx|vx|qq|dh|sj|sjh|m|t|p)\Z",
    re.IGNORECASE,
)


def _left_border(view: bytes, first: int, strict: bool, left: str) -> bool:
    """Whether what stands before a number leaves it a number of its own."""
    before = view[first - 1]
    if before in _LETTERS:
        return _NAMING.search(left) is not None
    if before in _WORD:
        return False
    if not strict:
        return True
    if before in b"$%+#":  # an amount, another country's number, a reference
        return False
    if before in b".-" and first > 1:
        # Behind a letter it is a part of a longer name, unless that is a word as above; groups of digits are _glued's.
        if before == 0x2D and 48 <= view[first - 2] <= 57:
            return True
        return view[first - 2] not in _WORD or _NAMING.search(left[:-1]) is not None
    return True


def _luhn(digits: bytes) -> bool:
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = digit - 48
        total += (value * 2 - 9 if value > 4 else value * 2) if index % 2 else value
    return total % 10 == 0


# Who registers (first character) and what it registers (second), GB 32100-2015 annex A and its first amendment.
_KINDS: Final = {
    b"1": b"1239", b"2": b"19", b"3": b"123459", b"4": b"19", b"5": b"1239", b"6": b"129", b"7": b"129", b"8": b"129", b"9": b"123",
    b"A": b"19", b"N": b"1239", b"Y": b"1",
}  # fmt: skip


def uscc_score(code: bytes, china: China) -> float:
    """How certain it is that 18 characters are a unified social credit code; 0 if its check character is wrong.

    Characters 9 to 17 are an organization code with a check digit of its own; few codes in use break that rule.
    """
    if code[1:2] not in _KINDS.get(code[:1], b"") or not (code[2:4] in china.provinces or code[2:4] == b"10"):
        return 0.0
    if not validators.uscc(code):
        return 0.0
    if validators.organization(code[8:17]):
        return 1.0
    return 0.3 if code.isdigit() else 0.75


def _forms(form: bytes, groups: list[_Group], index: int) -> list[_Form]:
    """All that could start with the group at `index`."""
    forms: list[_Form] = []
    first = groups[index]
    sizes: list[int] = []
    pieces: list[tuple[int, int]] = []
    separator = b""
    for at in range(index, min(index + _GROUPS_MAX, len(groups))):
        group = groups[at]
        if at > index:
            between = form[groups[at - 1].end : group.start]
            if groups[at - 1].x or _SEPARATOR.fullmatch(between) is None or (separator and between != separator):
                break
            separator = between
        sizes.append(group.size)
        if tuple(sizes) not in _BEGINNINGS:
            break
        pieces.append((group.start, group.end))
        kinds = _kinds(tuple(sizes), group.x, separator)
        if kinds:
            glued = _glued(form, groups, index, at, separator)
            if labels.CARD in kinds and len(sizes) > 1 and _in_table(form, groups, index, at, separator):
                kinds.remove(labels.CARD)
            forms += [_Form(kind, first.start, group.end, tuple(pieces), glued=glued) for kind in kinds]
    if not first.x:
        forms += _with_area(form, groups, index)
        forms += _with_country(form, groups, index)
        forms += _macau_forms(form, groups, index)
    return forms


def _kinds(sizes: tuple[int, ...], x: bool, separator: bytes) -> list[str]:
    kinds: list[str] = []
    if sizes in _RESIDENT_FORMS and separator != b".":
        kinds.append(labels.RESIDENT)
        if sizes == (18,):
            kinds.append(labels.PERMIT)
    if x:
        return kinds
    if sizes in _CARD_FORMS:
        kinds.append(labels.CARD)
    if sizes == (18,):
        kinds.append(labels.USCC)
    if sizes in _OLD_RESIDENT_FORMS and separator != b".":
        kinds.append(labels.RESIDENT)
        if len(sizes) == 1:
            kinds.append(labels.USCC)
    if separator == b".":  # 130.84920075 is a coordinate
        return [labels.MOBILE] if sizes == (3, 4, 4) else []
    if sizes in _MOBILE_FORMS or sizes in ((13,), (15,)):
        kinds.append(labels.MOBILE)
    if sizes in _SERVICE_FORMS or sizes in ((11,), (12,)) or sizes in _LOCAL_FORMS:
        kinds.append(labels.LANDLINE)
    if sizes == (8,):
        kinds.append(labels.MACAU)
    return kinds


def _glued(form: bytes, groups: list[_Group], first: int, last: int, separator: bytes) -> bool:
    """Whether the groups beside these may belong to the same number."""
    if first:
        between = form[groups[first - 1].end : groups[first].start]
        size = groups[first - 1].size
        if (
            between in (b".", b"+")
            or (between == b"-" and size < 7)
            or (separator and between == separator and size <= 4)
        ):
            return True
    if last + 1 < len(groups):
        between = form[groups[last].end : groups[last + 1].start]
        size = groups[last + 1].size
        if (
            between in (b".", b"a")
            or (between == b"-" and size < 7)
            or (separator and between == separator and size <= 4)
        ):
            return True
    return False


def _in_table(form: bytes, groups: list[_Group], first: int, last: int, separator: bytes) -> bool:
    """Whether groups of four go on beside these: a table of numbers. (A card's date has fewer digits.)"""
    before = (
        first > 0 and groups[first - 1].size == 4 and form[groups[first - 1].end : groups[first].start] == separator
    )
    after = (
        last + 1 < len(groups)
        and groups[last + 1].size == 4
        and form[groups[last].end : groups[last + 1].start] == separator
    )
    return before or after


_AREA_CLOSE: Final = re.compile(rb"\)[ -]?|[ -]{1,3}|/")


def _local(form: bytes, groups: list[_Group], index: int) -> list[tuple[int, tuple[tuple[int, int], ...]]]:
    """The local numbers that start with a group: index of the last group, and the groups."""
    one = groups[index]
    found: list[tuple[int, tuple[tuple[int, int], ...]]] = []
    if one.size in (7, 8) and not one.x:
        found.append((index, ((one.start, one.end),)))
    elif one.size in (3, 4) and index + 1 < len(groups) and groups[index + 1].size == 4:
        two = groups[index + 1]
        if form[one.end : two.start] in (b" ", b"-") and not two.x:
            found.append((index + 1, ((one.start, one.end), (two.start, two.end))))
    return found


def _area(form: bytes, groups: list[_Group], index: int, start: int, country: tuple[int, int] | None) -> list[_Form]:
    """Landline numbers whose area code is the group at `index`."""
    area = groups[index]
    if area.size not in (2, 3, 4) or (area.size == 2 and country is None) or index + 1 >= len(groups):
        return []
    if _AREA_CLOSE.fullmatch(form[area.end : groups[index + 1].start]) is None:
        return []
    forms = []
    for last, pieces in _local(form, groups, index + 1):
        end = groups[last].end
        # An extension.
        if last + 1 < len(groups) and form[end : groups[last + 1].start] == b"-" and 1 <= groups[last + 1].size <= 6:
            last += 1
            end = groups[last].end
        glued = country is None and start == area.start and _glued(form, groups, index, last, b" ")
        forms.append(_Form(labels.LANDLINE, start, end, pieces, (area.start, area.end), country, glued))
    return forms


def _with_area(form: bytes, groups: list[_Group], index: int) -> list[_Form]:
    start = groups[index].start
    if start and form[start - 1 : start] == b"(":
        start -= 1
    elif index and form[groups[index - 1].end : start] in (b".", b"-", b"+"):
        return []
    return _area(form, groups, index, start, None)


_COUNTRY_CLOSE: Final = re.compile(rb"\)?[ -]{0,2}\(?")


def _with_country(form: bytes, groups: list[_Group], index: int) -> list[_Form]:
    """Numbers behind +86, 0086 or 86, in a group of its own or not."""
    one = groups[index]
    start = one.start
    for mark in (b"+", b"("):
        if start and form[start - 1 : start] == mark:
            start -= 1
    forms: list[_Form] = []
    if one.size in (13, 15) and start < one.start:
        forms.append(_Form(labels.MOBILE, start, one.end, ((one.start, one.end),)))
    if one.size not in _COUNTRY_LENGTHS or index + 1 >= len(groups):
        return forms
    if index and form[groups[index - 1].end : start] in (b".", b"-"):
        return forms
    if _COUNTRY_CLOSE.fullmatch(form[one.end : groups[index + 1].start]) is None:
        return forms
    country = (one.start, one.end)
    forms += _area(form, groups, index + 1, start, country)
    for inner in _forms_of_mobile(form, groups, index + 1):
        forms.append(_Form(labels.MOBILE, start, inner[-1][1], inner, None, country))
    return forms


def _forms_of_mobile(form: bytes, groups: list[_Group], index: int) -> list[tuple[tuple[int, int], ...]]:
    sizes: list[int] = []
    pieces: list[tuple[int, int]] = []
    for at in range(index, min(index + 3, len(groups))):
        if at > index and form[groups[at - 1].end : groups[at].start] not in (b" ", b"-", b"."):
            break
        if groups[at].x:
            break
        sizes.append(groups[at].size)
        pieces.append((groups[at].start, groups[at].end))
        if tuple(sizes) in _MOBILE_FORMS:
            return [tuple(pieces)]
    return []


_MACAU: Final = re.compile(rb"/000000/0(?![0/])")


def _macau_forms(form: bytes, groups: list[_Group], index: int) -> list[_Form]:
    """1234567(8) and 1/234567/8."""
    one = groups[index]
    if one.size == 7 and form[one.end : one.end + 3] == b"(0)":
        return [_Form(labels.MACAU, one.start, one.end + 3, ((one.start, one.end), (one.end + 1, one.end + 2)))]
    if one.size == 1 and _MACAU.match(form, one.end) is not None:
        return [_Form(labels.MACAU, one.start, one.end + 9, tuple((g.start, g.end) for g in groups[index : index + 3]))]
    return []
