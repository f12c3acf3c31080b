"""The pattern recognizers that presidio-analyzer 2.2.366 turns on for English, from data, without presidio.

`presidio_patterns.json` is written by compile_presidio.py; checks are in validators.py, mail addresses and URLs in
hosts.py, phone numbers in phones.py, and the walk over a channel in patterns.py.

What differs from presidio on purpose (the `hardened` profile): the view of filters/view.py is searched, so full-width
digits and neighbors such as Chinese characters hide nothing; context words are whole words in the CONTEXT_CHARS
characters to the left; every IBAN start is tried on its own; a token that is one UUID is nothing else besides; and what
hosts.py and phones.py name.
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
from filters.detectors.hosts import EMAIL, URL, Hosts
from filters.detectors.patterns import FLAGS, Context, LateStarts, Nearby, Pattern, Patterns
from filters.detectors.phones import PHONE, phones
from filters.finding import Finding, Scanner

DATA: Final = "presidio_patterns.json"
CODE_VERSION: Final = 1  # raise when a change of code here or in the files named above changes a finding

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
_CONFIRMING: Final = frozenset({validators.luhn, validators.nhs, validators.crypto, validators.dea})
_BLANK_SEPARATED: Final = frozenset({"CreditCardRecognizer", "UsItinRecognizer", "UsSsnRecognizer", "NhsRecognizer"})
# What every match of a pattern holds (bytes) and at least how many digits. Read off the expressions; a pattern that is
# not listed is always tried. The tests check each entry against strings made from the expression.
_NEEDS: Final[dict[str, tuple[bytes, int]]] = {
    "All Credit Cards (weak)": (b"", 13),
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
_IBAN_CHARS_MAX: Final = 4 + 7 * 5 + 4
_IBAN_START: Final = re.compile(rb"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?=[ \-A-Za-z0-9]|\Z)")
_IBAN_HEAD_CHARS: Final = 4
_IBAN_GROWING: Final = re.compile(rb"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]{4}){0,7}(?:[ -]?[A-Za-z0-9]{0,3})")


_UUID_CHARS: Final = 36  # RFC 9562, section 4


class PresidioPack:
    """Identifiers with a form: cards, accounts, addresses of people and machines, dates, numbers of documents."""

    def __init__(self) -> None:
        raw = resources.files("filters.detectors").joinpath(DATA).read_bytes()
        data: dict[str, Any] = json.loads(raw)
        self.name = "presidio"
        self.version = f"{CODE_VERSION}+{hashlib.sha256(raw).hexdigest()[:16]}"
        self.entities = frozenset({p["entity"] for p in data["patterns"]} | {EMAIL, URL, PHONE})
        self._context = Context(data["context"])
        self._hosts = Hosts(data["mail_labels"], data["url_labels"], self._context)
        token: list[Pattern] = []
        words: list[Pattern] = []
        number: list[Pattern] = []
        for item in data["patterns"]:
            name = item["name"]
            if item["recognizer"] == "IbanRecognizer":
                self._iban = re.compile(item["regex"].encode(), FLAGS)
                self._iban_score = float(item["score"])
                continue
            needs, digits_min = _NEEDS.get(name, (b"", 0))
            pattern = Pattern(
                item["entity"], re.compile(item["regex"].encode(), FLAGS), item["score"],
                _VALIDATORS.get(item["recognizer"]), needs, digits_min, _LENGTH_MIN.get(name, 1), name in _WITH_LETTERS,
                _SLIP.get(name) or _SHAPES.get(name, ()), _NEAR.get(name),
            )  # fmt: skip
            if name in _WORDS:
                words.append(pattern)
            if item["recognizer"] in _BLANK_SEPARATED:
                number.append(pattern)
            elif name not in _WORDS or name in _SLIP:
                token.append(pattern)
        self._valid_iban = validators.Iban(data["iban_formats"])
        self._patterns = (token, words, number)
        self._context_words: dict[str, list[str]] = data["context"]
        self._uuid = Patterns([one for one in token if one.entity == "UUID"], self._context)
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
        if end - start == _UUID_CHARS and form[8] == form[23] == 0x2D:
            found = self._uuid.find(view, start, end, form)
            if found and found[0].end - found[0].start == _UUID_CHARS:
                return found  # nothing else is looked for in what is one UUID as a whole
        found = self._hosts.mails(view, start, end) if b"@" in form else []
        if b".a" in form:  # every label that ends a name begins with a letter
            found += self._hosts.urls(view, start, end, found)
        found += self._token.find(view, start, end, form)
        if self._weak_token is not None and b"0" in form:
            found += self._weak_token.find(view, start, end, form)
        return found

    def in_number(self, text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
        """Findings inside one run of digits."""
        found = self._number.find(view, start, end, form)
        if self._weak_number is not None:
            found += self._weak_number.find(view, start, end, form)
        return found + phones(view, start, end, self._context)

    def _find_iban(self, view: bytes, start: int) -> Finding | None:
        match = self._iban.match(view, start)
        if match is None:
            return None
        # The last groups may be words that follow: the longest end that checks is taken.
        for group in (3, 2, 1):
            end = match.end(group)
            valid = self._valid_iban(match.string[start:end])
            if valid is not False:
                score = 1.0 if valid else self._context.score("IBAN_CODE", self._iban_score, view, start)
                return Finding("IBAN_CODE", start, end, score)
        return None
