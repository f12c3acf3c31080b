"""The pattern recognizers that presidio-analyzer 2.2.366 turns on for English, from data, without presidio.

`presidio_patterns.json` is written by compile_presidio.py; checks are in validators.py, mail addresses and URLs in
hosts.py, phone numbers in phones.py, and the walk over a channel in units.py.

What differs from presidio on purpose (the `hardened` profile): the view of filters/view.py is searched, so full-width
digits and neighbors such as Chinese characters hide nothing; context words are whole words in the CONTEXT_CHARS
characters to the left; a token that is one UUID is nothing else besides; and:
- cards are found by cards.py: more ranges, lengths and groups, and fewer numbers that merely satisfy Luhn;
- every IBAN start is tried on its own, in whatever groups it is written, and it ends where its letters and digits do;
- a check digit that one number in ten or eleven satisfies confirms nothing by itself: NHS and DEA numbers count beside a
  word that names them (an NHS number also in its usual groups);
- numbers of nine digits in the groups of an SSN or ITIN do not count directly behind words that name a part, an order or a
  telephone; areas 900 to 999 are no SSN (the SSA never assigned them); an address does not count as IP_ADDRESS where it is a version;
- and what hosts.py and phones.py name.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

from filters.detectors import validators
from filters.detectors.cards import DIGITS_MIN as CARD_DIGITS_MIN
from filters.detectors.cards import cards
from filters.detectors.evidence import Left
from filters.detectors.hosts import EMAIL, URL, Hosts
from filters.detectors.patterns import FLAGS, Context, Nearby, Pattern, Patterns
from filters.detectors.phones import PHONE, may_hold_phone, phones
from filters.detectors.units import LateStarts
from filters.finding import Finding, Scanner

DATA: Final = "presidio_patterns.json"
CODE_VERSION: Final = 2  # raise when a change of code here or in the files named above changes a finding

_VALIDATORS: Final[dict[str, validators.Validator]] = {
    "CreditCardRecognizer": validators.luhn,
    "UsSsnRecognizer": validators.ssn,
    "NhsRecognizer": validators.nhs,
    "CryptoRecognizer": validators.crypto,
    "IpRecognizer": validators.ip,
    "MedicalLicenseRecognizer": validators.dea,
    "MacAddressRecognizer": validators.mac,
    "UuidRecognizer": validators.uuid,
}
# Those that confirm a value, which then has the score 1.0; the others only turn values down.
_CONFIRMING: Final = frozenset({validators.crypto})
_BLANK_SEPARATED: Final = frozenset({"CreditCardRecognizer", "UsItinRecognizer", "UsSsnRecognizer", "NhsRecognizer"})
_CARDS: Final = "CreditCardRecognizer"  # whose work cards.py does
# Scores of our own, where a check that holds by chance is presidio's evidence.
_SCORES: Final = {"USA DEA Certificate Number (weak)": 0.3}
# Context words besides presidio's.
_WORDS_MORE: Final[dict[str, tuple[str, ...]]] = {
    "US_SSN": ("soc sec", "ss#", "ss number", "social"),
    "US_ITIN": ("itins",),
    "UK_NHS": ("nhs no", "nhs number", "patient", "gp"),
    "MEDICAL_LICENSE": ("license", "licence", "prescriber", "prescribing", "physician", "practitioner", "doctor", "dr", "npi", "registration"),
    "URL": ("visit", "site", "web", "homepage", "home page", "domain", "browse", "blog", "online at"),
    "MAC_ADDRESS": ("wifi", "bssid", "nic"),
    "IP_ADDRESS": ("host", "server", "gateway", "dns", "ping"),
    "CRYPTO": ("address", "eth", "ethereum"),
}  # fmt: skip
# What the words before a number are asked about (evidence.py): the words that name it.
_NAMED: Final[dict[str, frozenset[bytes]]] = {
    "US_SSN": frozenset(b"social security ssn ssns ssid ss".split()),
    "US_ITIN": frozenset(b"itin tin taxpayer taxid individual".split()),
    "UK_NHS": frozenset(b"nhs patient health".split()),
}
_TELEPHONE: Final = frozenset(
    b"phone phones tel telephone mobile cell fax call dial text sms whatsapp ring reach".split()
)
_VERSION: Final = re.compile(
    rb"(?<![a-z])(?:version|ver|release|build|firmware|fw|rev|revision|v)[\s:=\"'.#]{0,4}\Z", re.IGNORECASE
)
_VERSION_CHARS: Final = 16
_DOTTED: Final = frozenset({"IP_ADDRESS", "MAC_ADDRESS"})
_LOWERED: Final = 0.3  # below what counts by default
_NHS_GROUPS: Final = re.compile(rb"[4679][0-9]{2} [0-9]{3} [0-9]{4}")  # NHS numbers of England and Wales, and for tests
_WEIGHED_MAX: Final = 0.5  # above it a context word has confirmed what three groups of digits are

# What every match of a pattern holds (bytes) and at least how many digits. Read off the expressions; a pattern that is
# not listed is always tried. The tests check each entry against strings made from the expression.
_NEEDS: Final[dict[str, tuple[bytes, int]]] = {
    "Bank Account (weak)": (b"", 8),
    "Driver License - Alphanumeric (weak)": (b"", 1),
    "Driver License - Digits (very weak)": (b"", 6),
    "Itin (very weak)": (b"", 9),
    "Itin (weak)": (b"", 9),
    "Itin (medium)": (b"", 9),
    "Passport (very weak)": (b"", 9),
    "Passport Next Generation (very weak)": (b"", 8),
    "SSN1 (very weak)": (b"-", 9),
    "SSN2 (very weak)": (b"-", 9),
    "SSN3 (very weak)": (b"-", 9),
    "SSN4 (very weak)": (b"", 9),
    "SSN5 (medium)": (b"", 9),
    "NHS (medium)": (b"", 10),
    "Crypto (Medium)": (b"", 1),
    "Datetime (yyyy-mm-ddThh:mm[:ss[.f]] with timezone)": (b"--:", 12),
    "mm/dd/yyyy or mm/dd/yy": (b"//", 4),
    "dd/mm/yyyy or dd/mm/yy": (b"//", 4),
    "yyyy/mm/dd": (b"//", 6),
    "mm-dd-yyyy": (b"--", 6),
    "dd-mm-yyyy": (b"--", 6),
    "yyyy-mm-dd": (b"--", 6),
    "dd.mm.yyyy or dd.mm.yy": (b"..", 4),
    "dd-MMM-yyyy or dd-MMM-yy": (b"--", 3),
    "MMM-yyyy or MMM-yy": (b"-", 2),
    "dd-MMM or dd-MMM": (b"-", 1),
    "mm/yyyy or m/yyyy": (b"/", 5),
    "mm/yy or m/yy": (b"/", 3),
    "IPv4_mapped": (b"::...", 4),
    "IPv4_embedded": (b"::...", 4),
    "IPv4": (b"...", 4),
    "IPv6": (b"::", 0),
    "IPv6_unspecified": (b"::", 0),
    "USA DEA Certificate Number (weak)": (b"", 7),
    "MAC_COLON_OR_HYPHEN": (b"", 0),
    "MAC_CISCO_DOT": (b"..", 0),
    "UUID (hyphenated)": (b"----", 0),
}
_LENGTH_MIN: Final = {"MAC_COLON_OR_HYPHEN": 17, "UUID (hyphenated)": 36, "Crypto (Medium)": 26, "MAC_CISCO_DOT": 14}

_WITH_LETTERS: Final = frozenset(
    {
        "Driver License - Alphanumeric (weak)",
        "Passport Next Generation (very weak)",
        "USA DEA Certificate Number (weak)",
        "Datetime (yyyy-mm-ddThh:mm[:ss[.f]] with timezone)",
        "dd-MMM-yyyy or dd-MMM-yy",
        "MMM-yyyy or MMM-yy",
        "dd-MMM or dd-MMM",
    }
)
# What the shape of every match holds: one of these.
_SHAPES: Final[dict[str, tuple[bytes, ...]]] = {
    "Itin (very weak)": (b"000-000000", b"000 000000", b"00000-0000", b"00000 0000"),
    "Itin (weak)": (b"000000000",),
    "Itin (medium)": (b"000-00-0000", b"000 00 0000", b"000-00 0000", b"000 00-0000"),
    "SSN1 (very weak)": (b"00000-0000",),
    "SSN2 (very weak)": (b"000-000000",),
    "SSN3 (very weak)": (b"000-00-0000",),
    "SSN4 (very weak)": (b"000000000",),
    "Datetime (yyyy-mm-ddThh:mm[:ss[.f]] with timezone)": (b"0000-00-00a00:00",),
    "mm/dd/yyyy or mm/dd/yy": (b"0/0",),
    "dd/mm/yyyy or dd/mm/yy": (b"0/0",),
    "yyyy/mm/dd": (b"0000/0",),
    "mm-dd-yyyy": (b"-0000",),
    "dd-mm-yyyy": (b"-0000",),
    "yyyy-mm-dd": (b"0000-0",),
    "dd.mm.yyyy or dd.mm.yy": (b"0.0",),
    "dd-MMM-yyyy or dd-MMM-yy": (b"0-aaa-00",),
    "MMM-yyyy or MMM-yy": (b"aaa-00",),
    "dd-MMM or dd-MMM": (b"0-aaa",),
    "mm/yyyy or m/yyyy": (b"0/0000",),
    "mm/yy or m/yy": (b"0/00",),
    "USA DEA Certificate Number (weak)": (b"a0000000",),
}
# What is found in every match, where a shape cannot say it.
_NEAR: Final = {
    "IPv6": re.compile(rb"::|(?::[0-9A-Fa-f]{1,4}){7}"),
    "IPv6_unspecified": re.compile(rb"::"),
    "MAC_COLON_OR_HYPHEN": re.compile(rb"[:-][0-9A-Fa-f]{2}[:-]"),
}
# And what is found in every match's shape, where a list cannot say it.
_FORMS: Final = {
    "SSN5 (medium)": re.compile(rb"000[- .]00[- .]0000"),
    "NHS (medium)": re.compile(rb"000[- ]?000[- ]?0000"),
    "Crypto (Medium)": re.compile(rb"[a0]{26}"),
    "MAC_COLON_OR_HYPHEN": re.compile(rb"[:-][a0]{2}[:-][a0]{2}[:-]"),
    "MAC_CISCO_DOT": re.compile(rb"[a0]{4}\.[a0]{4}\.[a0]{4}"),
    "IPv4": re.compile(rb"(?:0{1,3}\.){3}0"),
    "IPv4_mapped": re.compile(rb"(?:0{1,3}\.){3}0"),
    "IPv4_embedded": re.compile(rb"(?:0{1,3}\.){3}0"),
    "dd.mm.yyyy or dd.mm.yy": re.compile(rb"(?<![a0_])0{1,2}\.0{1,2}\.00(?:00)?(?![a0_])"),
    "mm/dd/yyyy or mm/dd/yy": re.compile(rb"(?<![a0_])0{1,2}/0{1,2}/00(?:00)?(?![a0_])"),
    "dd/mm/yyyy or dd/mm/yy": re.compile(rb"(?<![a0_])0{1,2}/0{1,2}/00(?:00)?(?![a0_])"),
    "mm/yyyy or m/yyyy": re.compile(rb"(?<![a0_])0{1,2}/0000(?![a0_])"),
    "mm/yy or m/yy": re.compile(rb"(?<![a0_])0{1,2}/00(?![a0_])"),
}
# Patterns whose matches are whole runs of letters and digits (patterns.py, `words`). A slip in an expression, `A-Z]{2}` for
# `[A-Z]{2}`, is a part of that recognizer: it is looked for on its own.
_WORDS: Final = frozenset(
    {
        "Bank Account (weak)",
        "Driver License - Alphanumeric (weak)",
        "Driver License - Digits (very weak)",
        "Passport (very weak)",
        "Passport Next Generation (very weak)",
    }
)
_SLIP: Final = {"Driver License - Alphanumeric (weak)": (b"a-a]]00",)}

# IBAN (ISO 13616): the expression's longest match, and every text that can still grow into one.
_IBAN_LENGTH_MAX: Final = 34
_IBAN_CHARS_MAX: Final = 2 * _IBAN_LENGTH_MAX  # a separator behind each character
_IBAN_START: Final = re.compile(rb"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?=[ .\-A-Za-z0-9]|\Z)")
_IBAN_HEAD_CHARS: Final = 4
_IBAN_GROWING: Final = re.compile(rb"[A-Za-z]{2}[0-9]{2}(?:[ .-]?[A-Za-z0-9]){0,30}[ .-]?")


_IDLE_MAX: Final = 4096
_IDLE_CHARS_MAX: Final = 48
_UUID_CHARS: Final = 36  # RFC 9562, section 4


def _check(recognizer: str) -> validators.Validator | None:
    """The check of a recognizer. One that any tenth number passes only turns numbers down."""
    check = _VALIDATORS.get(recognizer)
    if check not in (validators.nhs, validators.dea):
        return check
    return lambda value: None if check(value) else False


class PresidioPack:
    """Identifiers with a form: cards, accounts, addresses of people and machines, dates, numbers of documents."""

    def __init__(self) -> None:
        raw = resources.files("filters.detectors").joinpath(DATA).read_bytes()
        data: dict[str, Any] = json.loads(raw)
        self.name = "presidio"
        self.version = f"{CODE_VERSION}+{hashlib.sha256(raw).hexdigest()[:16]}"
        self.entities = frozenset({p["entity"] for p in data["patterns"]} | {EMAIL, URL, PHONE})
        self._context_words: dict[str, list[str]] = {
            entity: [*words, *_WORDS_MORE.get(entity, ())] for entity, words in data["context"].items()
        }
        self._context = Context(self._context_words)
        self._hosts = Hosts(data["mail_labels"], data["url_labels"], self._context)
        token: list[Pattern] = []
        words: list[Pattern] = []
        number: list[Pattern] = []
        for item in data["patterns"]:
            name = item["name"]
            if item["recognizer"] == "IbanRecognizer":
                self._iban_score = float(item["score"])
                continue
            if item["recognizer"] == _CARDS:
                continue
            needs, digits_min = _NEEDS.get(name, (b"", 0))
            pattern = Pattern(
                item["entity"], re.compile(item["regex"].encode(), FLAGS), _SCORES.get(name, item["score"]),
                _check(item["recognizer"]), needs, digits_min, _LENGTH_MIN.get(name, 1), name in _WITH_LETTERS,
                _SLIP.get(name) or _SHAPES.get(name, ()), _NEAR.get(name),
                _FORMS.get(name),
            )  # fmt: skip
            if name in _WORDS:
                words.append(pattern)
            if item["recognizer"] in _BLANK_SEPARATED:
                number.append(pattern)
            elif name not in _WORDS or name in _SLIP:
                token.append(pattern)
        self._valid_iban = validators.Iban(data["iban_formats"])
        self._patterns = (token, words, number)
        (uuid,) = [one for one in token if one.entity == "UUID"]
        self._uuid, self._uuid_score = uuid.find, uuid.score
        self._split(0.0)

    def _split(self, score: float) -> None:
        """Patterns that can reach a score by themselves are always tried, the others where a context word could raise them."""
        token, words, number = self._patterns
        weak = [one for one in (*token, *words, *number) if one.score < score and one.validate not in _CONFIRMING]
        self._number = Patterns([p for p in number if p not in weak], self._context)
        self._token = Patterns([p for p in token if p not in weak], self._context, [p for p in words if p not in weak])
        near = Nearby(word for one in weak for word in self._context_words[one.entity])
        self._weak_number: Patterns | None = None
        self._weak_token: Patterns | None = None
        self._idle_tokens: set[bytes] = set()
        self._idle_numbers: set[bytes] = set()
        if weak:
            self._weak_number = Patterns([p for p in number if p in weak], self._context, near=near)
            runs = [p for p in words if p in weak]
            self._weak_token = Patterns([p for p in token if p in weak], self._context, runs, near)

    def at_least(self, score: float) -> PresidioPack:
        """This pack, without what weak patterns find where no context word stands before it."""
        other = copy.copy(self)
        other._split(score)
        return other

    def scanners(self) -> Sequence[Scanner]:
        """None of its own: everything stands in a token or a run of digits, or starts in a token (`late`)."""
        return ()

    def late(self) -> LateStarts:
        """IBANs, whose groups may be written apart."""
        return LateStarts(_IBAN_START, _IBAN_GROWING, _IBAN_CHARS_MAX, self._find_iban, _IBAN_HEAD_CHARS)

    def in_token(self, text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
        """Findings inside one token."""
        if form in self._idle_tokens:
            return []
        if (
            end - start == _UUID_CHARS
            and form[8] == form[23] == 0x2D
            and self._uuid.fullmatch(view, start, end)
            and validators.uuid(view[start:end]) is not False
        ):
            # Nothing else is looked for in what is one UUID as a whole.
            return [Finding("UUID", start, end, self._context.score("UUID", self._uuid_score, view, start))]
        found: list[Finding] = []
        named = b".a" in form or b"://" in form  # every label that ends a name begins with a letter
        if b"@" in form:
            found = self._hosts.mails(view, start, end)
            named = named and not (found and found[0].start == start and found[0].end == end)
        if named:
            found += self._hosts.urls(view, start, end, found)
        strong = self._token.find(view, start, end, form)
        weak = self._weak_token
        if strong:
            found += [one for one in strong if not _dotted(view, one)] if b"." in form else strong
        elif (
            not named
            and not found
            and b"@" not in form
            and self._token.idle(form)
            and (weak is None or weak.idle(form))
        ):
            _remember(self._idle_tokens, form)
            return found
        if weak is not None and (b"0" in form or b"::" in form):  # the one without a digit is the address ::
            found += weak.find(view, start, end, form)
        return found

    def in_number(self, text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
        """Findings inside one run of digits."""
        if form in self._idle_numbers:
            return []
        found = self._number.find(view, start, end, form)
        weak = self._weak_number
        if weak is not None:
            found += weak.find(view, start, end, form)
        if found:
            found = [kept for one in found if (kept := self._weighed(text, view, one)) is not None]
        cards_may = form.count(b"0") >= CARD_DIGITS_MIN
        if cards_may:
            found += cards(text, view, start, end, form)
        if may_hold_phone(form):
            found += phones(text, view, start, end, form)
        elif not (found or cards_may) and self._number.idle(form) and (weak is None or weak.idle(form)):
            _remember(self._idle_numbers, form)
        return found

    @staticmethod
    def _weighed(text: str, view: bytes, one: Finding) -> Finding | None:
        """A number of three groups in the light of what the words before it say."""
        entity, start, end, score = one
        words = _NAMED.get(entity)
        if words is None or score > _WEIGHED_MAX:
            return one
        if entity == "US_SSN" and view[start] == 0x39:
            return None
        if score < _LOWERED:
            return one
        if entity == "UK_NHS" and _NHS_GROUPS.fullmatch(view, start, end) is None:
            return one._replace(score=_LOWERED)
        left = Left(text, view, start)
        if left.other(words, bare=True) or left.clear(_TELEPHONE):
            return one._replace(score=_LOWERED)
        return one

    def _find_iban(self, view: bytes, start: int) -> Finding | None:
        """The IBAN that begins there: as many letters and digits as its country has, in whatever groups."""
        length = self._valid_iban.length(view[start : start + 2])
        if length is None:
            return None
        at = start
        for _ in range(length):
            if view[at : at + 1] in (b" ", b"-", b".") and at > start:
                at += 1
            if not view[at : at + 1].isalnum():
                return None
            at += 1
        if view[at : at + 1].isalnum():
            return None
        valid = self._valid_iban(view[start:at])
        if valid is False:
            return None
        score = 1.0 if valid else self._context.score("IBAN_CODE", self._iban_score, view, start)
        return Finding("IBAN_CODE", start, at, score)


def _remember(idle: set[bytes], form: bytes) -> None:
    """Shapes in which nothing can be: bounded, so that nobody fills memory with them. A shape holds no value (L7)."""
    if len(form) <= _IDLE_CHARS_MAX:
        if len(idle) >= _IDLE_MAX:
            idle.clear()
        idle.add(form)


def _dotted(view: bytes, one: Finding) -> bool:
    """Whether an address is the number of a version, or a part of a longer number with dots."""
    if one.entity not in _DOTTED:
        return False
    start, end = one.start, one.end
    if view[start - 1 : start] == b"." or (view[end : end + 1] == b"." and view[end + 1 : end + 2].isdigit()):
        return True
    return one.entity == "IP_ADDRESS" and _VERSION.search(view, max(0, start - _VERSION_CHARS), start) is not None
