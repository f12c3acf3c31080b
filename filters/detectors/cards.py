"""Payment cards: issuers' ranges, lengths and groups, the Luhn digit, and the words before the number.

One in ten numbers satisfies Luhn, so the rest of the evidence decides. A number in the groups that cards are printed in
is one; so is one behind a word such as `card`; a bare run of digits counts by itself where an issuer in wide use has that
range and length, and does not where the words directly before it say that it is an order, a device or the like.
"""

from __future__ import annotations

import re
from typing import Final

from filters.detectors.evidence import Left
from filters.detectors.validators import luhn
from filters.finding import Finding

CARD: Final = "CREDIT_CARD"
DIGITS_MIN: Final = 12
DIGITS_MAX: Final = 19  # ISO/IEC 7812-1

CERTAIN: Final = 1.0  # in groups, or named
BARE: Final = 0.7  # an issuer's range, length and check digit, and nothing said against it
UNUSUAL: Final = 0.6  # no issuer that is known here, but named just before
DOUBTFUL: Final = 0.3  # below what counts by default: named as something else, or a rare form without a name

# (length of prefix, first, last, lengths): as published by the schemes and by ISO/IEC 7812 registers.
_USUAL: Final = (
    (1, 4, 4, (16, 19)),  # Visa
    (2, 51, 55, (16,)),  # Mastercard
    (4, 2221, 2720, (16,)),
    (2, 34, 34, (15,)),  # American Express
    (2, 37, 37, (15,)),
    (4, 6011, 6011, (16, 19)),  # Discover
    (3, 644, 649, (16, 19)),
    (2, 65, 65, (16, 19)),
    (4, 3528, 3589, (16, 19)),  # JCB
    (4, 2131, 2131, (15,)),
    (4, 1800, 1800, (15,)),
    (3, 300, 305, (14,)),  # Diners Club
    (4, 3095, 3095, (14,)),
    (2, 36, 36, (14, 16)),
    (2, 38, 39, (14, 16)),
    (2, 62, 62, (16, 17, 18, 19)),  # UnionPay
    (2, 81, 81, (16,)),  # UnionPay, RuPay
    (4, 2200, 2205, (16, 19)),  # Mir, Borica
    (4, 5018, 5018, (16,)),  # Maestro
    (4, 5020, 5020, (16,)),
    (4, 5038, 5038, (16,)),
    (4, 6304, 6304, (16, 18, 19)),
    (4, 6759, 6759, (16, 18, 19)),
    (4, 6761, 6763, (16, 18, 19)),
    (2, 60, 60, (16,)),  # RuPay, and cards of shops
    (2, 82, 82, (16,)),  # RuPay
    (4, 9792, 9792, (16,)),  # Troy
    (4, 8600, 8600, (16,)),  # Uzcard
    (4, 9860, 9860, (16,)),  # Humo
    (4, 5019, 5019, (16,)),  # Dankort
    (3, 506, 509, (16,)),  # Verve, Elo, RuPay
    (4, 6362, 6363, (16,)),  # Elo
)
# Seen, but so seldom or of lengths so common elsewhere that they need a name: Maestro of 12 to 19 digits, Visa of 13, UATP.
_RARE: Final = (
    (1, 4, 4, (13,)),
    (2, 50, 50, tuple(range(12, 20))),
    (2, 56, 69, tuple(range(12, 20))),
    (2, 30, 39, tuple(range(14, 20))),
    (1, 1, 1, (15,)),
    (2, 22, 27, (16,)),
)
# E.118: cards of telephones, nineteen digits with a Luhn digit too.
_TELEPHONE: Final = b"89"
_PREFIX_CHARS: Final = 4

# How cards are printed and typed in groups.
_FORMS: Final = frozenset(
    {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 3), (4, 4, 5), (4, 4, 4, 1), (6, 13), (8, 8), (4, 4, 4, 4, 2), (4, 4, 4, 4, 1)}
)  # fmt: skip
# Others that somebody may type behind the word.
_NAMED_FORMS: Final = frozenset(
    {(4, a, b, c) for a in (3, 4) for b in (3, 4) for c in (3, 4, 5)}
    | {(6, 10), (4, 12), (12, 4), (6, 6, 4), (4, 8, 4), (5, 5, 6), (5, 5, 5), (4, 5, 6), (6, 4, 6), (4, 4, 8), (8, 4, 4), (4, 4, 4, 4, 3)}
)  # fmt: skip
_FIRST: Final = frozenset(form[:2] for form in _FORMS | _NAMED_FORMS)
_GROUPS_MAX: Final = 5
_GROUP: Final = re.compile(rb"0+")
_SEPARATOR: Final = re.compile(rb" {1,2}|[.-]| - ")

_WORDS: Final = frozenset(
    b"card cards cardno cardnumber cardnum ccard credit debit creditcard debitcard visa mastercard master amex american express discover jcb diners maestro"
    b" unionpay rupay mir cc ccn ccnum ccnumber pan cvv cvc cvv2 kreditkarte karte karten kartennummer carte tarjeta carta cartao kort kaart karta kartu".split()
)
_HAN: Final = re.compile("卡号|卡號|信用卡|银行卡|銀行卡|储蓄卡|借记卡|银联|付款卡|карт")
_HAN_CHARS: Final = 24


def cards(text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
    """Cards in view[start:end], a run of digits and separators of that shape. What borders it is looked at."""
    found: list[Finding] = []
    if form.count(b"0") < DIGITS_MIN:
        return found
    groups = [match.span() for match in _GROUP.finditer(form)]
    sizes = [last - first for first, last in groups]
    at = 0
    while at < len(groups):
        taken = 0
        if (sizes[at] >= DIGITS_MIN or tuple(sizes[at : at + 2]) in _FIRST) and _begins(view, start + groups[at][0]):
            one, taken = _from(text, view, start, form, groups, at)
            if one is not None:
                found.append(one)
        at += taken or 1
    return found


def _begins(view: bytes, at: int) -> bool:
    """Whether no letter or digit, and no decimal point, stands before."""
    if at == 0:
        return True
    before = view[at - 1]
    if before == 0x2E:  # a fraction; but `No.4111` is none
        return at < 2 or not 48 <= view[at - 2] <= 57
    if before == 0x29 and at > 3 and view[at - 4] == 0x28 and view[at - 3 : at - 1].isdigit():
        return False  # GS1: (00) and the number of a pallet
    return not (48 <= before <= 57 or 65 <= before <= 90 or 97 <= before <= 122 or before == 1)


def _ends(view: bytes, at: int) -> bool:
    after = view[at : at + 1]
    return not (after.isalnum() or after == b"\x01")


def _from(
    text: str, view: bytes, start: int, form: bytes, groups: list[tuple[int, int]], at: int
) -> tuple[Finding | None, int]:
    """The card whose first group is groups[at], if there is one, and how many groups it has."""
    sizes: list[int] = []
    readings: list[int] = []  # counts of groups
    total = 0
    for count in range(1, min(_GROUPS_MAX, len(groups) - at) + 1):
        first, last = groups[at + count - 1]
        if count > 1 and _SEPARATOR.fullmatch(form, groups[at + count - 2][1], first) is None:
            break
        sizes.append(last - first)
        total += last - first
        if total > DIGITS_MAX:
            break
        if total >= DIGITS_MIN and (count == 1 or tuple(sizes) in _FORMS or tuple(sizes) in _NAMED_FORMS):
            readings.append(count)
    left: Left | None = None
    for count in reversed(readings):
        begin, stop = start + groups[at][0], start + groups[at + count - 1][1]
        if not _ends(view, stop):
            continue
        digits = view[begin:stop].translate(None, b" .-")
        rank = _rank(digits)
        if rank == 0 or not luhn(digits):
            continue
        if left is None:
            left = Left(text, view, begin)
        grouped = tuple(sizes[:count]) in _FORMS
        if grouped and _continued(view, start, form, groups, at, count):
            grouped = False
        score = _score(left, rank, grouped=grouped, bare=count == 1)
        if score > 0.0:
            return Finding(CARD, begin, stop, score), count
    return None, 0


def _score(left: Left, rank: int, *, grouped: bool, bare: bool) -> float:
    if left.other(_WORDS, bare=bare):
        return DOUBTFUL
    named = left.names(_WORDS) or (left.foreign and left.matches(_HAN, _HAN_CHARS))
    if rank == _UNKNOWN:
        near = left.near(_WORDS) or (left.foreign and left.matches(_HAN, _HAN_CHARS))
        return UNUSUAL if near else 0.0
    if named or (grouped and rank == _WIDE):
        return CERTAIN
    if rank == _WIDE and bare:
        return BARE
    return DOUBTFUL


_WIDE: Final = 3
_SELDOM: Final = 2
_UNKNOWN: Final = 1


def _rank(digits: bytes) -> int:
    size = len(digits)
    prefix = int(digits[:_PREFIX_CHARS])
    for rank, table in ((_WIDE, _USUAL), (_SELDOM, _RARE)):
        for chars, first, last, sizes in table:
            if size in sizes and first <= prefix // 10 ** (_PREFIX_CHARS - chars) <= last:
                return rank
    # One digit over and over, or a counter behind noughts, is nobody's card.
    return 0 if digits.startswith((_TELEPHONE, b"00")) or len(set(digits)) < 3 else _UNKNOWN


def _continued(view: bytes, start: int, form: bytes, groups: list[tuple[int, int]], at: int, count: int) -> bool:
    """Whether the groups are a part of a longer number: fours before it that are no card, or fours behind it that are no expiry."""
    first = groups[at][0]
    if at and groups[at - 1][1] - groups[at - 1][0] == 4 and first - groups[at - 1][1] == 1:
        before = view[max(0, start + first - 20) : start + first - 1]
        digits = before.translate(None, b" .-")
        if not (digits.isdigit() and len(digits) == 16 and luhn(digits)):
            return True
    last = at + count
    if last < len(groups) and groups[last][0] - groups[last - 1][1] == 1 and form[groups[last - 1][1]] in b" .-":
        a, b = groups[last]
        follows = view[start + a : start + b]
        more = last + 1 < len(groups) and groups[last + 1][1] - groups[last + 1][0] == 4
        if b - a == 4 and not more:
            return not (b"01" <= follows[:2] <= b"12" or follows[:2] == b"20")
        return b - a == 2 and form[b : b + 1] != b"/"
    return False
