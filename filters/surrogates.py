"""Surrogates: values of the same shape and locale that stand for real ones, so that a model can work with them naturally.

A surrogate is chosen by a keyed hash of the value: the same under one key, unrelated under another. Checks hold where a
reader would check (Luhn, ISO 13616, GB 11643), and ranges set aside for examples are used where there are any: example.com
(RFC 2606), documentation addresses (RFC 5737, RFC 3849), 555-01xx numbers, social security areas that are never issued.
Whether a candidate may be used is the vault's to say; where none fits a value, the vault gives it a tag instead.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Final, NamedTuple

from filters.placeholders import FORM_CHARS_MAX
from filters.restore import Kind

DATA: Final = "surrogates.json"
_HAN: Final = "\u3400-\u9fff"
_ONLY_HAN: Final = re.compile(f"[{_HAN}·]+")
_PIECES: Final = re.compile(r"[^\W\d_]+|\d+|[\W_]")
_CHANGED_MIN: Final = 5  # characters of a general value that are replaced, weighted: below, a tag says no less


def _words(listed: str) -> tuple[str, ...]:
    return tuple(listed.split())


# Words that are kept: they say what kind of thing it is, not which.
_TITLES: Final = frozenset(
    _words(
        "dr mr mrs ms miss prof sir madam herr frau monsieur madame señor señora von van de der den la le di da bin ibn al el"
    )
)
_COMPANY: Final = frozenset(
    _words(
        "inc llc ltd limited gmbh ag plc corp corporation company co group holdings bank university college school hospital institute "
        "foundation partners associates international technologies systems services solutions insurance the of and for sa srl bv ab oy"
    )
)
_STREET: Final = frozenset(
    _words(
        "street st road rd avenue ave lane ln drive dr boulevard blvd way court ct place pl square sq terrace close crescent highway hwy route "
        "apt apartment suite ste unit floor room box no north south east west strasse straße str weg platz rue via calle plaza"
    )
)
_ZH_COMPANY: Final = re.compile(
    r"(?:有限责任公司|股份有限公司|有限公司|公司|集团|银行|大学|学院|中学|小学|医院|研究院|研究所|科技|事务所|委员会)+\Z"
)
_ZH_PLACE: Final = re.compile(r"[省市县区州镇乡村]\Z")
_ZH_ADDRESS: Final = frozenset("省市区县镇乡村路街道巷弄号栋幢楼层室单元座东南西北大第")
# Areas of GB/T 2260 that are in force: districts of large cities.
_AREAS: Final = ("110105", "310104", "440106", "510104", "330106", "420106", "610113", "320106", "500103", "120101")
# Country codes of ITU-T E.164 with one digit and with three; the others have two.
_CODES_1: Final = frozenset("17")
_CODES_3: Final = frozenset(("21", "22", "23", "24", "25", "26", "29", "35", "37", "38", "42", "50", "59", "67", "68", "80", "85", "88", "96", "97", "99"))  # fmt: skip
_MONTHS: Final = _words("january february march april may june july august september october november december")
_DATES: Final = (
    (re.compile(r"(?P<y>\d{4})([-/.])(?P<m>\d{1,2})\2(?P<d>\d{1,2})(?!\d)"), Kind.WORDS),
    (re.compile(r"(?P<d>\d{1,2})([-/.])(?P<m>\d{1,2})\2(?P<y>\d{4})(?!\d)"), Kind.WORDS),
    (re.compile(r"(?P<m>\d{1,2})([-/.])(?P<d>\d{1,2})\2(?P<y>\d{4})(?!\d)"), Kind.WORDS),
    (re.compile(r"(?P<y>\d{4}) ?年 ?(?P<m>\d{1,2}) ?月 ?(?P<d>\d{1,2}) ?[日号]"), Kind.WORDS),
    (re.compile(r"(?P<d>\d{1,2})(?:st|nd|rd|th)? (?P<n>[A-Za-z]{3,9})\.?,? (?P<y>\d{4})(?!\d)"), Kind.WORDS),
    (re.compile(r"(?P<n>[A-Za-z]{3,9})\.? (?P<d>\d{1,2})(?:st|nd|rd|th)?,? (?P<y>\d{4})(?!\d)"), Kind.WORDS),
    (re.compile(r"(?P<y>(?:19|20)\d\d)(?P<m>\d\d)(?P<d>\d\d)\Z"), Kind.NUMBER),
)
_VOWELS: Final = "aeiou"
_CONSONANTS: Final = "bcdfghjklmnpqrstvwxz"
_SPREAD: Final = (  # other scripts: letters of the same kind, from ranges in which every character is one
    ("а", "я"), ("А", "Я"), ("α", "ρ"), ("Α", "Ρ"), ("א", "ת"), ("ぁ", "ゖ"), ("ァ", "ヶ"), ("가", "힣"), ("ก", "ฮ"), ("क", "ह"),
)  # fmt: skip


class Surrogate(NamedTuple):
    """A candidate, and how it may be written."""

    text: str
    kind: Kind


class _Data(NamedTuple):
    first: tuple[str, ...]
    last: tuple[str, ...]
    city: tuple[str, ...]
    zh_city: tuple[str, ...]
    zh_surname: str
    zh_surname_double: tuple[str, ...]
    zh_given: str


@functools.cache
def _data() -> _Data:
    raw = json.loads((resources.files("filters") / DATA).read_text("utf-8"))
    return _Data(
        first=_words(raw["first"]),
        last=_words(raw["last"]),
        city=_words(raw["city"]),
        zh_city=_words(raw["zh_city"]),
        zh_surname=raw["zh_surname"],
        zh_surname_double=_words(raw["zh_surname_double"]),
        zh_given=raw["zh_given"],
    )


class _Dice:
    """Numbers that follow from a key and a value."""

    def __init__(self, key: bytes, seed: str, attempt: int) -> None:
        hashed = hashlib.blake2b(seed.encode("utf-8", "surrogatepass"), key=key, digest_size=32)
        hashed.update(attempt.to_bytes(4, "big"))
        self._seed = hashed.digest()
        self._block = b""
        self._at = 0
        self._count = 0

    def pick(self, n: int) -> int:
        """One of 0 to n - 1. The bias is below n / 2**32."""
        if self._at == len(self._block):
            self._block = hashlib.blake2b(self._count.to_bytes(4, "big"), key=self._seed).digest()
            self._count += 1
            self._at = 0
        self._at += 4
        return int.from_bytes(self._block[self._at - 4 : self._at], "big") % n

    def one(self, of: Sequence[str]) -> str:
        """One of these."""
        return of[self.pick(len(of))]

    def digits(self, n: int) -> str:
        """That many digits."""
        return "".join(str(self.pick(10)) for _ in range(n))


def candidate(key: bytes, entity: str, value: str, normal: str, attempt: int) -> Surrogate | None:
    """The `attempt`-th surrogate for a value, whose normal form is what the hash takes; None if there is none for its shape.

    `key` has at most 64 bytes.
    """
    if len(value) > FORM_CHARS_MAX or not value.isprintable() or value != value.strip():
        return None
    made = _maker(entity, value)(_Dice(key, normal, attempt), value, key, attempt)
    if made is None or len(made.text) > FORM_CHARS_MAX or not (made.text[0].isalnum() or made.text[0] in "+("):
        return None
    return made


_Maker = Callable[[_Dice, str, bytes, int], Surrogate | None]


def _maker(entity: str, value: str) -> _Maker:
    digits = sum(c in "0123456789" for c in value)
    if "@" in value and re.fullmatch(r"[^@\s]+@[^@\s]+", value):
        return _mail
    for part, maker in _BY_ENTITY:
        if part in entity:
            if maker is _card and not 12 <= digits <= 19:
                break
            return maker
    return _general


def _cased(like: str, word: str) -> str:
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word.lower() if like.islower() else word


def _fill(shape: str, chars: str) -> str:
    """`shape` with its letters and digits replaced by these, one by one."""
    left = iter(chars)
    return "".join(next(left) if c.isalnum() else c for c in shape)


def _name(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    data = _data()
    if _ONLY_HAN.fullmatch(value):
        if "·" in value or len(value) > 4:
            return Surrogate("".join("·" if c == "·" else dice.one(data.zh_given) for c in value), Kind.NAME)
        if len(value) < 2:
            return None
        surname = dice.one(data.zh_surname_double) if len(value) == 4 else dice.one(data.zh_surname)
        given = [dice.one(data.zh_given) for _ in range(len(value) - len(surname))]
        return Surrogate(surname + "".join(given), Kind.NAME)
    words = value.split()
    own = [i for i, word in enumerate(words) if word.strip(".,").lower() not in _TITLES]
    replaced = 0
    for i in own:
        word = words[i]
        if re.fullmatch(r"[A-Za-z]\.?", word):
            words[i] = _cased(word, chr(65 + dice.pick(26))) + word[1:]
            continue
        if not re.fullmatch(r"[A-Za-zÀ-ɏḀ-ỿ'’.,-]+", word):
            return _general(dice, value, key, attempt)
        names = data.last if i == own[-1] and len(own) > 1 else data.first
        parts = [_cased(part, dice.one(names)) for part in word.strip(".,").split("-")]
        words[i] = "-".join(parts) + ("," if word.endswith(",") else "")
        replaced += len(parts)
    return Surrogate(" ".join(words), Kind.NAME) if replaced else None


def _phone(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    digits = "".join(c for c in value if "0" <= c <= "9")
    if len(digits) < 7 or any(c.isalpha() for c in value):
        return _general(dice, value, key, attempt)
    code = ""
    if value.lstrip(" (").startswith(("+", "00")):
        rest = digits.removeprefix("00")
        code = digits[: len(digits) - len(rest)]
        code += rest[:1] if rest[0] in _CODES_1 else rest[:3] if rest[:2] in _CODES_3 else rest[:2]
    national = digits[len(code) :]
    if not code and len(national) == 11 and national[0] == "1" and national[1] in "2":
        code, national = "1", national[1:]
    if re.fullmatch(r"1[3-9]\d{9}", national):
        own = national[:2] + dice.digits(9)
    elif len(national) == 10 and national[0] in "23456789" and code.removeprefix("00") in ("", "1"):
        own = f"{2 + dice.pick(8)}{dice.pick(9)}{dice.pick(10)}55501{dice.digits(2)}"
    else:
        kept = len(national) - len(national.lstrip("0")) + 1
        own = national[:kept] + dice.digits(len(national) - kept)
    return Surrogate(_fill(value, code + own), Kind.NUMBER)


def _luhn(body: str) -> str:
    total = 0
    for index, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if index % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)


def _card(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    """The first two digits are kept: they say which network's card it is, and 62 a UnionPay one."""
    digits = "".join(c for c in value if "0" <= c <= "9")
    if any(c.isalpha() for c in value):
        return _general(dice, value, key, attempt)
    body = digits[:2] + dice.digits(len(digits) - 3)
    return Surrogate(_fill(value, body + _luhn(body)), Kind.NUMBER)


def _resident(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    """GB 11643: area, birthday, sequence, check by ISO 7064 mod 11-2."""
    if sum(c.isalnum() for c in value) != 18:
        return _general(dice, value, key, attempt)
    body = dice.one(_AREAS) + f"{1950 + dice.pick(55)}{1 + dice.pick(12):02}{1 + dice.pick(28):02}{dice.pick(1000):03}"
    total = sum(int(digit) * pow(2, 17 - at, 11) for at, digit in enumerate(body))
    return Surrogate(_fill(value, body + "10X98765432"[total % 11]), Kind.NUMBER)


def _iban(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    """ISO 13616; national check digits inside the account number are not kept."""
    plain = "".join(c for c in value if c.isalnum()).upper()
    if not re.fullmatch(r"[A-Z]{2}\d\d[A-Z0-9]{8,30}", plain):
        return _general(dice, value, key, attempt)
    account = "".join(str(dice.pick(10)) if c.isdigit() else chr(65 + dice.pick(26)) for c in plain[4:])
    number = int("".join(str(int(c, 36)) for c in account + plain[:2]) + "00")
    return Surrogate(_fill(value, f"{plain[:2]}{98 - number % 97:02}{account}"), Kind.NUMBER)


def _ssn(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    """Areas from 900 on are never issued, nor are they taxpayer numbers with a group below 50."""
    if len("".join(c for c in value if c.isalnum())) != 9 or any(c.isalpha() for c in value):
        return _general(dice, value, key, attempt)
    return Surrogate(_fill(value, f"9{dice.digits(2)}{1 + dice.pick(49):02}{1 + dice.pick(9999):04}"), Kind.NUMBER)


def _mail(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate:
    local = value.partition("@")[0].lower()[:32]
    shaped = "".join(c if c in ".-" else "." if c in "_+" else _letter(dice, i) for i, c in enumerate(local)).strip(
        ".-"
    )
    while len(shaped) < 6:
        shaped += _letter(dice, len(shaped))
    return Surrogate(f"{shaped}@example.{dice.one(('com', 'org', 'net'))}", Kind.EXACT)


def _letter(dice: _Dice, at: int) -> str:
    return dice.one(_VOWELS if at % 2 else _CONSONANTS)


def _url(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate:
    scheme, mark, rest = value.partition("://")
    if not mark:
        scheme, rest = "", value
    path = re.split(r"[/?#]", rest, maxsplit=1)
    tail = rest[len(path[0]) :]
    host = "".join(_letter(dice, i) for i in range(8)) + ".example.com"
    return Surrogate(scheme + mark + host + "".join(_like(dice, c) for c in tail), Kind.EXACT)


def _ip(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate:
    if ":" in value:
        groups = ":".join(f"{1 + dice.pick(0xFFFF):x}" for _ in range(4))
        return Surrogate(f"2001:db8::{groups}", Kind.EXACT)
    return Surrogate(f"{dice.one(('192.0.2', '198.51.100', '203.0.113'))}.{1 + dice.pick(254)}", Kind.EXACT)


def _date(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    """Every date of a tenant is moved by the same number of days, so that what lies between two dates stays."""
    days = 31 + _Dice(key, "days", 0).pick(300) + attempt
    for pattern, kind in _DATES:
        found = pattern.search(value)
        if found is None:
            continue
        groups = found.groupdict()
        name = groups.get("n")
        month = _month(name) if name else int(groups["m"])
        try:
            moved = datetime.date(int(groups["y"]), month, int(groups["d"])) - datetime.timedelta(days)
        except (ValueError, OverflowError):
            continue  # not a date in this order of its parts
        parts = {"y": f"{moved.year:04}", "d": _padded(groups["d"], moved.day)}
        if name:
            full = _MONTHS[moved.month - 1].capitalize()
            parts["n"] = _cased(name, full if len(name) > 3 or name.lower() == "may" else full[:3])
        else:
            parts["m"] = _padded(groups["m"], moved.month)
        text = value
        for group in sorted(parts, key=found.start, reverse=True):
            text = text[: found.start(group)] + parts[group] + text[found.end(group) :]
        return Surrogate(text, kind)
    return None


def _month(name: str) -> int:
    for number, month in enumerate(_MONTHS, 1):
        if month.startswith(name.lower()) or (name.lower() == "sept" and number == 9):
            return number
    return 0


def _padded(like: str, number: int) -> str:
    return f"{number:02}" if len(like) == 2 else str(number)


def _place(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    if _ONLY_HAN.fullmatch(value):
        kept = _ZH_PLACE.search(value)
        return Surrogate(dice.one(_data().zh_city) + (kept[0] if kept and len(value) > 2 else ""), Kind.WORDS)
    if any(c.isdigit() for c in value) or "," in value:
        return _address(dice, value, key, attempt)
    if not value.isascii():
        return _general(dice, value, key, attempt)
    return Surrogate(_cased(value, dice.one(_data().city)), Kind.WORDS)


def _company(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    data = _data()
    if _ONLY_HAN.fullmatch(value):
        kept = _ZH_COMPANY.search(value)
        own = dice.one(data.zh_city) + dice.one(data.zh_given) + dice.one(data.zh_given)
        return Surrogate(own + (kept[0] if kept else ""), Kind.WORDS)
    return _spelled(dice, value, _COMPANY)


def _address(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    if re.search(f"[{_HAN}]", value):
        given = _data().zh_given
        chars = [
            c if c in _ZH_ADDRESS else dice.one(given) if re.match(f"[{_HAN}]", c) else _like(dice, c) for c in value
        ]
        return Surrogate("".join(chars), Kind.WORDS) if len(value) > 3 else None
    return _spelled(dice, value, _STREET)


def _spelled(dice: _Dice, value: str, kept: frozenset[str]) -> Surrogate | None:
    """Words by family names, digits by digits; what is kept, and words of two letters, stay."""
    pieces = []
    replaced = 0
    for piece in _PIECES.findall(value):
        if piece.isdigit():
            pieces.append(str(1 + dice.pick(9)) + dice.digits(len(piece) - 1))
            replaced += 1
        elif piece.isalpha() and piece.lower() not in kept and len(piece) > 2:
            pieces.append(_cased(piece, dice.one(_data().last)))
            replaced += 2
        else:
            pieces.append(piece)
    return Surrogate("".join(pieces), Kind.WORDS) if replaced > 1 else None


def _plate(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    """GA 36: a province, then letters and digits."""
    if value[0] not in _PROVINCES:
        return _general(dice, value, key, attempt)
    return Surrogate(dice.one(_PROVINCES) + "".join(_like(dice, c) for c in value[1:]), Kind.EXACT)


_PROVINCES: Final = "京津沪渝冀豫云辽黑湘皖鲁苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁新琼"
_HEX: Final = re.compile(r"(?=.*[0-9])(?=.*[a-fA-F])[0-9a-fA-F]+(?:[-:][0-9a-fA-F]+)*")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _like(dice: _Dice, char: str) -> str:
    """Another character of the same kind; the same one if there is no other."""
    if "0" <= char <= "9":
        return str(dice.pick(10))
    low = char.lower()
    if "a" <= low <= "z":
        return _cased(char + char, dice.one(_VOWELS if low in _VOWELS else _CONSONANTS))
    if "\u3400" <= char <= "\u9fff":
        return dice.one(_data().zh_given)
    for first, last in _SPREAD:
        if first <= char <= last:
            return chr(ord(first) + dice.pick(ord(last) - ord(first) + 1))
    return char


def _weight(char: str) -> int:
    """How much a replaced character hides: scripts of many characters count more."""
    if char.isascii():
        return char.isalnum()
    if "\u3400" <= char <= "\u9fff" or "가" <= char <= "힣":
        return 3
    return any(first <= char <= last for first, last in _SPREAD)


def _general(dice: _Dice, value: str, key: bytes, attempt: int) -> Surrogate | None:
    if _HEX.fullmatch(value):
        text = "".join(
            str(dice.pick(10)) if c.isdigit() else _cased(c + c, "abcdef"[dice.pick(6)]) if c.isalpha() else c
            for c in value
        )
        if _UUID.fullmatch(value):  # version and variant stay
            text = text[:14] + value[14] + text[15:19] + value[19] + text[20:]
    else:
        text = "".join(_like(dice, c) for c in value)
    if sum(_weight(c) for c in value) < _CHANGED_MIN:
        return None
    digits = sum("0" <= c <= "9" for c in value)
    if digits >= _CHANGED_MIN and re.fullmatch(r"[0-9A-Za-z](?:[ ()/-]?[0-9A-Za-z])*\)?", value):
        return Surrogate(text, Kind.NUMBER)
    return Surrogate(text, Kind.WORDS if any(c.isspace() for c in value) else Kind.EXACT)


# By a part of the entity's name, first come first served.
_BY_ENTITY: Final[tuple[tuple[str, _Maker], ...]] = (
    ("PERSON", _name),
    ("NAME", _name),
    ("EMAIL", _general),  # one with an @ was seen before; this is "a at b dot c"
    ("PHONE", _phone),
    ("MOBILE", _phone),
    ("LANDLINE", _phone),
    ("RESIDENT_ID", _resident),
    ("CARD", _card),
    ("PLATE", _plate),
    ("IBAN", _iban),
    ("SSN", _ssn),
    ("MAC_ADDRESS", _general),
    ("IP_ADDRESS", _ip),
    ("ADDRESS", _address),
    ("DATE", _date),
    ("BIRTH", _date),
    ("URL", _url),
    ("LOCATION", _place),
    ("CITY", _place),
    ("GPE", _place),
    ("ORG", _company),
)


@functools.cache
def lexicon() -> frozenset[str]:
    """The words that names and places are put together from, in lower case."""
    data = _data()
    return frozenset(word.lower() for word in (*data.first, *data.last, *data.city))
