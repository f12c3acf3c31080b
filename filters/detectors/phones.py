"""Phone numbers, by the way they are written: groups of digits, what separates them, plans, and the words before them.

A run of digits and separators is cut into groups once. From each group that a number may begin with, the longest reading
is taken that one of these accepts:
- international: `+` or `00` (or `011`), a calling code, and as many digits as that country has (phone_plans.json);
- national, in the plans of presidio's eight regions, where libphonenumber's expression holds: with a leading zero; in the
  groups of the North American plan; with the calling code as a group of its own; ten digits as India and Brazil group them;
- by form: a North American number with its area in parentheses or with an extension, whatever its area;
- behind words that say so (`call`, `fax:`, 电话), or before one (`office`, `(mobile)`): six to twelve digits in groups, of
  whatever country.
Words directly before that name another kind of number (evidence.py), a letter or a decimal point beside it turn one down.

Everything is looked at a fixed number of times: work is linear in the text, about 2 us for each group that may begin a
number, and there is no candidate that costs more (L9).

Differences from presidio-analyzer 2.2.366, which asks libphonenumber for every way to read a candidate in eight regions:
- more is found: other countries' numbers with `+`, `00` or a phone word, and those whose area is not in service;
- numbers without leading zero count only in the groups that people write; a bare run of digits of the Indian or the
  Brazilian plan, one that follows a calling code without `+`, and short service numbers only behind a phone word;
- what is part of a longer number, of a version or of an amount, and what follows `order no.` or `"id":` bare, is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final, NamedTuple

from filters.detectors.evidence import NEAR_CHARS, Left
from filters.finding import Finding

PHONE: Final = "PHONE_NUMBER"
PHONE_DIGITS_MIN: Final = 6
_NAMED_DIGITS_MAX: Final = 12
DIGITS_MAX: Final = 17  # E.164 allows 15; an international prefix adds two or three
_GROUPS_MAX: Final = 8  # of one number: +41 (0) 44 123 45 67 has seven
_INTERNATIONAL_DIGITS_MIN: Final = 8
DATA: Final = "phone_plans.json"

VALID: Final = 0.4  # presidio's PhoneRecognizer.SCORE
INTERNATIONAL: Final = 0.6
BOOST: Final = 0.35  # what a phone word adds, as patterns.CONTEXT_BOOST
NAMED: Final = 0.5  # six to twelve digits in groups behind a phone word
DOUBTFUL: Final = 0.3  # below what counts by default
UNASSIGNED: Final = 0.25  # the North American groups, but no area in service: counts only behind a word

_data: dict[str, Any] = json.loads(resources.files("filters.detectors").joinpath(DATA).read_bytes())
_LENGTHS: Final[Mapping[bytes, frozenset[int]]] = {
    code.encode(): frozenset(sizes) for code, sizes in _data["lengths"].items()
}
_PLANS: Final[Mapping[bytes, re.Pattern[bytes]]] = {
    code.encode(): re.compile(f"(?:{plan})".encode()) for code, plan in _data["plans"].items()
}
_US, _GB, _DE, _FR, _IL, _IN, _BR = (_PLANS[code] for code in (b"1", b"44", b"49", b"33", b"972", b"91", b"55"))

_GROUP: Final = re.compile(rb"[0-9]+")
_SEPARATOR: Final = re.compile(rb"[ .\-/~]|[ ]?[\-/~.()\[\]][ ]?|[ ]?\)[ ]?[\-/.][ ]?|\) ?\(|  ")
_EXTENSION: Final = re.compile(
    rb"(?:[ \t,;-]{0,3}(?:ext(?:ensi(?:on?)?|n)?|xtn?|x|X|int|anexo|#)[:.=]?[ \t]{0,3}|;ext=)([0-9]{1,7})(?![0-9])",
    re.IGNORECASE,
)
# The label of a number that stands behind it; patterns.NumberScanner makes it a part of the unit.
_BEHIND: Final = re.compile(
    rb"[ \-(\[]{1,3}(?:office|mobile|cell|fax|home|work|desk|tel|phone|direct)\Z", re.IGNORECASE
)
# The groups of the North American plan.
_NORTH_AMERICAN: Final = frozenset({(3, 3, 4), (10,), (3, 7), (6, 4), (1, 3, 3, 4), (1, 10), (1, 3, 7), (11,)})
_AMERICAN_FIRST: Final = frozenset(sizes[0] for sizes in _NORTH_AMERICAN)
_AMERICAN_FORM: Final = re.compile(rb"[2-9][0-9]{2}([-. ])[0-9]{3}\1[0-9]{4}")
_AREA_FORM: Final = re.compile(rb"\([0-9]{3}\)[ -]?[0-9]{3}[-. ]?[0-9]{4}")
# Other groups without a leading zero, in the plans that write so: 98765 43210, (11) 96123-4567, 1-800-123-456, 1800 123 4567.
_GROUPS: Final = {
    (5, 5): _IN,
    (2, 5, 4): _BR,
    (2, 4, 4): _BR,
    (1, 3, 3, 3): _IL,
    (4, 2, 4): _IN,
    (4, 3, 4): _IN,
    (4, 3, 3, 3): _IN,
}
_FRENCH: Final = frozenset({(2, 2, 2, 2, 2), (1, 3, 2, 2, 2)})
_CODES: Final = {b"44": _GB, b"49": _DE, b"33": _FR, b"972": _IL, b"91": _IN, b"55": _BR}
# Dates, decimals, amounts, times and addresses, as their shapes say: never a number by the words before it.
_NO_PHONE: Final = re.compile(
    rb"0{1,2}[./-]0{1,2}[./-](?:0000|00)|0000[./-]0{1,2}[./-]0{1,2}(?: 0.*)?|0+\.0{1,2}|0{1,3}(?:\.0{1,3}){3}|0+[./]0+|0{1,3}(?:\.0{3})+"
    rb"|0(?: 000)+"
)
_YEARS: Final = re.compile(rb"(?:19|20)[0-9]{2}(?:\W{1,3}(?:19|20)[0-9]{2})+")
# Six digits, thousands, and seven digits but for 555-1234.
_DOUBTED: Final = re.compile(rb"[0-9]{1,3}(?: [0-9]{3})+|(?!\(?[0-9]{3}\)?[ -][0-9]{4}\Z)(?:[^0-9]*[0-9]){6,7}[^0-9]*")

_WORDS: Final = frozenset(
    b"phone phones telephone telephones tel cell cellphone cellular mobile mobiles mob call calls called calling caller callback dial dialed ring fax sms"
    b" text texted texting whatsapp viber telegram wechat signal reach contact hotline helpline landline handset voicemail messages answering desk switchboard ph"
    b" fon telefon telefono handy mobil mobilnummer telefonnummer rufnummer durchwahl festnetz appeler portable telephonique movil celular llamar"
    b" llame telefone ligue cellulare chiamare telefoon bellen nummer ext phonenumber mobileno phoneno msisdn tfno tlf tlfn telf fono".split()
)  # fmt: skip
# Names of the thing itself, which no word before them takes back.
# What a number without an area in service may stand behind besides.
_PLACES: Final = frozenset(b"number home work office direct".split())
_HAN: Final = re.compile(
    "手机|手機|电话|電話|移动电话|联系方式|联络|拨打|致电|来电|短信|热线|座机|固话|传真|打给|回电|号码是|телефон|тел|phone",
    re.IGNORECASE,
)
_HAN_CHARS: Final = 24
_CURRENCIES: Final = frozenset("$€£¥₹₽₩￥元")
# What a number without words of its own does not stand behind: a part of an identifier, a path, an amount.
_BEFORE: Final = frozenset(b"/#$@&_^%*~")


class _Reading(NamedTuple):
    """A way to read some groups as a number."""

    groups: int
    begin: int
    last: int
    sizes: tuple[int, ...]
    kinds: int
    label: bool  # nothing but a label may stand behind


class _Start(NamedTuple):
    """A group that a number may begin with. Offsets are those of the shape."""

    group: int
    begin: int
    free: bool  # nothing before belongs to what begins here
    readings: tuple[_Reading, ...]  # the longest first


# What a reading may be, as its shape says.
_PLUS: Final = 1
_PREFIXED: Final = 2  # if it begins with 00 or 011
_ZERO: Final = 4  # if it begins with 0
_AMERICAN: Final = 8
_CODED: Final = 16
_GROUPED: Final = 32
_BARE: Final = 64
_NAMED: Final = 128
_NATIONAL: Final = _ZERO | _AMERICAN | _CODED | _GROUPED | _BARE

# Shapes that are remembered, bounded so that nobody fills memory with them; a shape holds no digit of a value (L7).
_PLANS_MAX: Final = 4096
_PLAN_CHARS_MAX: Final = 48
_plans: dict[bytes, tuple[_Start, ...]] = {}


def _planned_for(form: bytes) -> tuple[_Start, ...]:
    plan = _plans.get(form)
    if plan is None:
        plan = _plan(form)
        if len(form) <= _PLAN_CHARS_MAX:
            if len(_plans) >= _PLANS_MAX:
                _plans.clear()
            _plans[form] = plan
    return plan


def may_hold_phone(form: bytes) -> bool:
    """Whether a phone number can be in a run of that shape; true for those that are too long to be remembered."""
    return len(form) > _PLAN_CHARS_MAX or bool(_planned_for(form))


def phones(text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
    """Phone numbers in view[start:end], a run of digits and separators of that shape, with an extension or a label behind."""
    plan = _planned_for(form)
    found: list[Finding] = []
    taken = 0  # offset behind the last number
    after = -1  # the group that follows it
    for one in plan:
        if one.begin < taken:
            continue
        read = _read(text, view, start, end, one, free=one.free or one.group == after)
        if read is not None:
            finding, count = read
            taken = finding.end - start
            after = one.group + count
            found.append(finding)
    return found


def _plan(form: bytes) -> tuple[_Start, ...]:
    """The places in a run of that shape where a number may stand."""
    groups = [match.span() for match in _GROUP.finditer(form)]
    count = len(groups)
    gaps = [form[groups[at][1] : groups[at + 1][0]] for at in range(count - 1)] + [b""]
    joined = [_SEPARATOR.fullmatch(gap) is not None for gap in gaps]
    labelled = form[-1:] == b"a"
    starts = []
    for index in range(count):
        first = groups[index][0]
        begin, plus = _opening(form, first)
        free = index == 0 or _breaks(gaps[index - 1])
        if not plus and not free and groups[index][1] - first not in _AMERICAN_FIRST:
            continue
        sizes: list[int] = []
        readings: list[_Reading] = []
        total = 0
        for at in range(index, min(index + _GROUPS_MAX, count)):
            if sizes and not joined[at - 1]:
                break
            size = groups[at][1] - groups[at][0]
            sizes.append(size)
            total += size
            if total > DIGITS_MAX:
                break
            if total < PHONE_DIGITS_MIN or (not plus and not free and tuple(sizes) not in _NORTH_AMERICAN):
                continue
            reading = _reading(
                form, begin, groups[at][1], tuple(sizes), total, gaps[at], plus=plus, last=at + 1 == count
            )
            if reading is not None and (index == 0 or labelled or reading.kinds != _NAMED):
                readings.append(reading)
        if readings:
            starts.append(_Start(index, begin, free, tuple(reversed(readings))))
    return tuple(starts)


def _reading(
    form: bytes, begin: int, end: int, sizes: tuple[int, ...], total: int, behind: bytes, *, plus: bool, last: bool
) -> _Reading | None:
    value = form[begin:end]
    if value[:1] == b"(" and b")" not in value:
        begin += 1  # it opens what is around the number
        value = value[1:]
    if value.count(b"(") != value.count(b")") or value.count(b"[") != value.count(b"]"):
        return None
    kinds = _kinds(value, sizes, total, behind, plus=plus)
    return _Reading(len(sizes), begin, end, sizes, kinds, last) if kinds else None


def _opening(form: bytes, first: int) -> tuple[int, bool]:
    """Where a number begins whose first digit is at `first`, and whether with a plus: `+`, `(`, `(+`, `+(`."""
    head = form[max(0, first - 2) : first]
    if head[-1:] == b" ":
        return (first - 2, True) if head == b"+ " else (first, False)
    if head in (b"(+", b"+("):
        return first - 2, True
    if head[-1:] == b"+":
        return first - 1, True
    return (first - 1, False) if head[-1:] == b"(" else (first, False)


def _kinds(value: bytes, sizes: tuple[int, ...], total: int, behind: bytes, *, plus: bool) -> int:
    """What a reading of such groups may be."""
    if plus:
        return _PLUS if total >= _INTERNATIONAL_DIGITS_MIN else 0
    kinds = 0
    # 123-456-7890-12: the separator inside a number is also behind it.
    goes_on = behind in (b"-", b".", b"/") and (behind in value or len(sizes) == 1)
    if not goes_on:
        if total >= 10 and sizes[0] >= 2:
            kinds |= _PREFIXED
        if 9 <= total <= 14:
            kinds |= _ZERO
        if sizes in _NORTH_AMERICAN:
            kinds |= _AMERICAN
        if len(sizes) > 2 and sizes[0] in (2, 3) and 9 <= total <= 15:
            kinds |= _CODED
        if sizes in _GROUPS and b"." not in value:
            kinds |= _GROUPED
        if sizes in ((10,), (11,)):
            kinds |= _BARE
    whole = not behind or len(behind) > 1 or behind in b"/~"
    if whole and PHONE_DIGITS_MIN <= total <= _NAMED_DIGITS_MAX and _written(value, sizes):
        kinds |= _NAMED
    return kinds


def _breaks(gap: bytes) -> bool:
    """Whether what stands between two groups ends a number: more than one separator of one number."""
    return len(gap) > 1 or gap in b"/~"


def _written(value: bytes, sizes: tuple[int, ...]) -> bool:
    """Whether groups of such lengths are how somebody writes a phone number, and no date, amount or address."""
    if len(sizes) == 1:
        return sizes[0] > PHONE_DIGITS_MIN
    return len(sizes) <= 6 and max(sizes) <= 8 and min(sizes[1:]) > 1 and _NO_PHONE.fullmatch(value) is None


def _read(text: str, view: bytes, start: int, end: int, one: _Start, *, free: bool) -> tuple[Finding, int] | None:
    """The longest reading that holds, as a finding, and how many groups it has."""
    begin = start + one.begin
    before = view[begin - 1] if begin else 0x20
    if 65 <= before <= 90 or 97 <= before <= 122 or before in (1, 0x5F) or (48 <= before <= 57 and one.group == 0):
        return None
    for reading in one.readings:
        kinds = reading.kinds if free else reading.kinds & (_PLUS | _AMERICAN)
        begin = start + reading.begin
        stop = last = start + reading.last
        value = view[begin:last]
        digits = value.translate(None, b" .-/~()[]+")
        if digits[0] != 0x30:
            kinds &= ~(_PREFIXED | _ZERO)
        elif kinds & _PREFIXED and not digits.startswith((b"00", b"011")):
            kinds &= ~_PREFIXED
        if not kinds:
            continue
        extension = _EXTENSION.match(view, last, end) if last < end else None
        if extension is not None:
            stop = extension.end()
        if not _ends(text, view, stop):
            continue
        score = _planned(value, digits, reading.sizes, kinds, free=free, extended=extension is not None)
        if score:
            found = Finding(PHONE, begin, stop, score)
            return _weighed(found, text, view, bare=value.isdigit()), reading.groups
        if kinds & _NAMED:
            label = reading.label and _BEHIND.search(view, last, end) is not None
            if (label or (one.group == 0 and _spoken(view, begin))) and _is_named(
                text, view, begin, value, label=label
            ):
                return Finding(PHONE, begin, stop, NAMED), reading.groups
    return None


def _is_named(text: str, view: bytes, begin: int, value: bytes, *, label: bool) -> bool:
    """Whether the words around say that groups of digits are a phone number, and nothing says that they are not."""
    if (len(value) <= 8 and value.isdigit() and value.startswith((b"19", b"20", b"000"))) or _YEARS.fullmatch(value):
        return False
    left = Left(text, view, begin)
    spoken = label or (left.foreign and left.matches(_HAN, _HAN_CHARS))
    # What may well be an amount needs the word directly before it.
    if not spoken and not (left.said(_WORDS) if _DOUBTED.fullmatch(value) else left.clear(_WORDS)):
        return False
    return not left.other(_WORDS, bare=True) and not _amount(text, begin, begin + len(value)) and b" 000" not in value


def _spoken(view: bytes, begin: int) -> bool:
    """Whether a phone word may stand before: a wider net than `Left`, at a tenth of its price."""
    near = view[max(0, begin - NEAR_CHARS) : begin]
    return not _WORDS.isdisjoint(_TOKEN.findall(near.lower())) or b"\x02" in near or b"\x01" in near


_TOKEN: Final = re.compile(rb"[a-z]++")


def _ends(text: str, view: bytes, stop: int) -> bool:
    """Whether what stands behind leaves a number whole."""
    after = view[stop : stop + 1]
    return not (after.isalnum() or after in (b"\x01", b"@", b"%", b"_") or text[stop : stop + 1] in _CURRENCIES)


def _international(digits: bytes) -> bool:
    """Whether these are a calling code and as many digits as numbers have there; a trunk zero may stand between."""
    if len(digits) < _INTERNATIONAL_DIGITS_MIN:
        return False
    for size in (1, 2, 3):
        sizes = _LENGTHS.get(digits[:size])
        if sizes is not None:
            rest = len(digits) - size
            # A local number has no code before it: the least length of the North American plan is none.
            return (rest in sizes and (size > 1 or rest > 7)) or (digits[size] == 0x30 and rest - 1 in sizes)
    return False


def _planned(value: bytes, digits: bytes, sizes: tuple[int, ...], kinds: int, *, free: bool, extended: bool) -> float:
    """The score of a number by its form and the plans, without words."""
    if kinds & _PLUS and _international(digits):
        return INTERNATIONAL
    if kinds & _PREFIXED and _international(digits[2 if digits.startswith(b"00") else 3 :]):
        return INTERNATIONAL
    return _national(value, digits, sizes, kinds, free=free, extended=extended) if kinds & _NATIONAL else 0.0


def _national(value: bytes, digits: bytes, sizes: tuple[int, ...], kinds: int, *, free: bool, extended: bool) -> float:
    """The score of a number without `+` by its form and the plans, without words."""
    size = len(digits)
    if kinds & _AMERICAN:
        if (size == 10 or digits[0] == 0x31) and _US.fullmatch(digits[-10:]):
            # What is not free is a number only if other marks hold it together than those before it.
            return VALID if free or b" " not in value else 0.0
        if size == 10 and free and (_AREA_FORM.fullmatch(value) or (extended and sizes == (3, 3, 4))):
            return VALID
        if free and _AMERICAN_FORM.fullmatch(value):
            return UNASSIGNED
    if kinds & _ZERO:
        return _with_zero(value, digits, sizes)
    if digits[0] == 0x30:
        return 0.0
    if kinds & _CODED:
        plan = _CODES.get(digits[: sizes[0]])
        rest = digits[sizes[0] :]
        if plan is not None and (plan.fullmatch(rest) or (rest[0] == 0x30 and plan.fullmatch(rest[1:]))):
            return VALID
    if kinds & _GROUPED and _GROUPS[sizes].fullmatch(digits):
        return VALID
    # Every ten digits from 6 on are an Indian mobile number, and most eleven with 9 in the third place a Brazilian one.
    return DOUBTFUL if kinds & _BARE and (_IN if size == 10 else _BR).fullmatch(digits) else 0.0


def _with_zero(value: bytes, digits: bytes, sizes: tuple[int, ...]) -> float:
    """The same for a number that begins with its trunk's zero."""
    body = digits[1:]
    size = len(body)
    if b"." in value and (len(sizes) < 3 or value.count(b".") != len(sizes) - 1):
        return 0.0
    if 9 <= size <= 10 and _GB.fullmatch(body):
        return VALID
    if size == 9 and (len(sizes) < 5 or sizes in _FRENCH) and _FR.fullmatch(body):
        return VALID
    if b"." in value:
        return 0.0
    if (8 <= size <= 9 and _IL.fullmatch(body)) or (size == 10 and _IN.fullmatch(body)):
        return VALID
    if 10 <= size <= 11 and (size == 10 or len(sizes) > 1) and _BR.fullmatch(body):
        return VALID
    if len(sizes) > 1:
        # Subscribers' numbers in Germany have any length: an area of its own tells them from counters.
        return VALID if 3 <= sizes[0] <= 6 and _area(value, sizes) and _DE.fullmatch(body) else 0.0
    return VALID if 10 <= size <= 11 and body[:2] in (b"15", b"16", b"17") and _DE.fullmatch(body) else 0.0


def _area(value: bytes, sizes: tuple[int, ...]) -> bool:
    """Whether an area is set off: by a mark, or by a blank from what is long enough or in groups itself."""
    if b" " not in value or b"/" in value or b"(" in value or b"-" in value:
        return True
    return sizes[1] >= 5 if len(sizes) == 2 else min(sizes) >= 2


def _weighed(one: Finding, text: str, view: bytes, *, bare: bool) -> Finding:
    """What the words and marks around make of a number of a known plan."""
    begin, score = one.start, one.score
    left = Left(text, view, begin)
    named = left.names(_WORDS) or (left.foreign and left.matches(_HAN, _HAN_CHARS))
    if score == UNASSIGNED:
        named = named or left.near(_PLACES)
    if score < INTERNATIONAL:
        joined = begin > 1 and view[begin - 1] in b"-." and view[begin - 2 : begin - 1].isalnum()
        if (
            left.other(_WORDS, bare=bare)
            or _amount(text, begin, one.end)
            or (not named and (joined or (begin and view[begin - 1] in _BEFORE) or (bare and left.keyed())))
        ):
            return one._replace(score=min(score, DOUBTFUL))
    return one._replace(score=round(score + BOOST, 4)) if named else one


def _amount(text: str, begin: int, stop: int) -> bool:
    """Whether a sign of currency stands beside it."""
    head = text[max(0, begin - 2) : begin].rstrip()
    return head[-1:] in _CURRENCIES or text[stop : stop + 1] in _CURRENCIES
