"""What makes a value a secret: entropy, and not being a word, a placeholder, a measure or a piece of code."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final

# Shannon entropy in bits a character that gitleaks asks of a value beside a generic name.
ENTROPY_MIN: Final = 3.5
# Beside a name that stands for nothing but a secret: 16 hexadecimal digits have 3.2 on average.
STRONG_ENTROPY_MIN: Final = 3.0  # Our choice: 1,446 words, most of four letters and more, stand in one of a hundred random values of this length.
STOP_WORDS_CHARS_MAX: Final = 64
# Letters and digits to a run of one kind (a capital goes with the small letters behind it). Random ones of 62 kinds have 1.9 in
# the middle and 2.7 at most in 99 of 100; of 8,043 names of code with capitals and digits 40 have less, most of them encoded data.
RUN_CHARS_MAX: Final = 2.7
# The same of letters alone: 9 of 10 random ones have less, and 1 of 90 names of code with that many capitals.
LETTER_RUN_CHARS_MAX: Final = 3.2

# What stands where a secret would: template variables, stars, and the words of examples.
_PLACEHOLDER: Final = re.compile(
    rb"""[<\[{(%$]?[<\[{(%$]?(?:
      (?:x|X|\*|\.|-|_|\#|0|\?)++
    | (?:your?|my|the|a|an|our|insert|enter|replace|some|put|add|paste|type|set|fake|dummy|mock|demo|dev|user|new|old|current)?[\s_.-]?
      (?:own|real|actual|secret|super|api|access|db|database|admin|app|service|client|bot|auth|login|user|root|new|strong|very|long|random)?[\s_.-]?
      (?:secret|private|api|access|auth|db|client|bot|bearer|jwt|strong|safe|secure)?[\s_.-]?
      (?:pass|passw(?:or)?d|pwd|passphrase|secret|token|key|apikey|credentials?|value|string|text|id)[\s_.-]?(?:here|goes|value|string|[12])?[\s_.-]?(?:here)?
    | change_?-?(?:me|it|this)[0-9]{0,3}!?|changeme.{0,8}|null|none|nil|true|false|undefined|empty|n/?a|tbd|todo|unset|unknown|required|optional|string|str|bytes|bool(?:ean)?
    | number|int(?:eger)?|text|varchar(?:\(\d+\))?|hidden|redacted|removed|masked|filtered|placeholder|sample|dummy|foo|bar|baz|foobar|password|default|default1
    )[>\]})%$]?[>\]})%$]?""",
    re.IGNORECASE | re.VERBOSE,
)
# Anywhere in a value: it is made up, or it is code that fetches one.
_MADE_UP: Final = re.compile(
    rb"""\$\{|\$\(|\{\{|\}\}|<%|%>|\*\*\*|\.\.\.|x{4}|\#\{|%\(|:\#|@\{
    | (?:^|[^a-z])(?:example|your|redacted|placeholder|insert|replace|changeme|change[_-]me|dummy|sample|fake|mock|lorem|foobar|not[_-]?a[_-]?real)
    | (?:^|[^a-z])(?:process\.env|os\.environ|os\.getenv|getenv|env\.|vault:|secret:|ssm:|arn:|file:|ref\+)""",
    re.IGNORECASE | re.VERBOSE,
)
_VARIABLE: Final = re.compile(
    rb"(?:required|nullable|sometimes|confirmed|string|min|max)[|:,].*|\$[A-Za-z_]\w*|%[A-Za-z_]\w*%|@[A-Za-z_]+@|%[a-z]|:[a-z_]+|&[a-z_]+|[{][a-zA-Z_.]*[}]|<[^<>]*>|\[[^\[\]]*\]"
)
# Words, joined as names of code and files are, with a small number behind.
_WORDS: Final = re.compile(rb"[A-Za-z]{2,}(?:[ _./:-][A-Za-z]+)*[_.-]?[0-9]{0,2}")
_NAME: Final = re.compile(rb"[A-Za-z_]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)+")
_PATH: Final = re.compile(rb"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//|\.{0,2}/[a-z]|~/|[A-Za-z]:\\|www\.")
_VARIABLE_NAME: Final = re.compile(
    rb"[a-z]+(?:_[a-z0-9]+)+|[A-Z]+(?:_[A-Z0-9]+)+|(?i:[a-z]*(?:pass|passw(?:or)?d|pwd|secret|token|key|value|input)[0-9]?)"
)
# Words that a hyphen joins, four of them as people and password managers choose them; names of parts of a page are such, too.
_PHRASE: Final = re.compile(rb"[A-Za-z]{3,12}(?:-[A-Za-z]{3,12}){3,9}[0-9]{0,4}")
_PHRASE_NAMES: Final = re.compile(
    rb"(?:\A|-)(?:pass(?:word)?|input|fields?|form|labels?|button|reset|login|log|keys?|secrets?|tokens?|users?|names?|values?|error|text|page|icon|link"
    rb"|the|and|for|not|with|your|are|was|has|can|all|any|one|who|you|case|time|only|based|free|auth|app|config|file|test|default|example|correct)(?=[-0-9]|\Z)",
    re.IGNORECASE,
)
# Keys that lock nothing: of tables and pages, and those made to be known.
PUBLIC_KEY: Final = re.compile(
    rb"(?:public|pub|primary|foreign|partition|sort|cache|idempotency|routing|row|range|page|cursor|continuation|next|host|known)[\s_.-]{0,2}(?:key|token)s?",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(rb"0x[0-9a-fA-F]{40}")  # of a wallet or a contract
_RUNS: Final = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_MAIL: Final = re.compile(rb"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_UUID: Final = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_MEASURE: Final = re.compile(
    rb"""\d{1,4}(?:[-~+]|\.\.)?(?:\d{0,4})[-+_ ]?(?:chars?|characters?|letters?|digits?|bits?|bytes?|kb|mb|gb|tb|kib|mib|min(?:ute)?s?|hours?|hrs?|h|d|days?
      |weeks?|months?|years?|yrs?|s|sec(?:ond)?s?|ms|us|ns|st|nd|rd|th|x|%|k|m|b|px|em|pt|fa|am|pm|times|usd|eur|rmb|d|p|tokens?|keys?|words?|attempts?|tries|per)?
    | \d{1,4}[-/.:]\d{1,2}(?:[-/.:]\d{1,4})?(?:[T ].*)? | [+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)? | v?\d{1,3}(?:\.\d{1,4}){1,3}[a-z]?\d?
    | \d{1,3}-[a-z]+(?:-[a-z]+)* | [a-z]+-\d{1,3}""",
    re.IGNORECASE | re.VERBOSE,
)
# Names of methods and standards that have digits.
_TECHNICAL: Final = re.compile(
    rb"""(?:hmac|pbkdf|rsa|aes|sha|md|utf|base|oauth|http|https|h|ipv|argon|scrypt|bcrypt|b?crypt|ed|x|secp|curve|ecdsa|p|es|rs|hs|ps|chacha|crc|ripemd|blake|des|rc|tls|ssl
      |iso|rfc|nist|fips|web|win|windows|mac|ios|android|python|java|node|php|mysql|sql|postgres|md5|s|ec|k|l|q|step|part|section|chapter|version|option|item|row|col|line|page
      |test|user|file|room|level|grade|type|class|group|phase|day|week|q|api|app|server|node|host|db|vm|key|token|field|arg|param|var|value|string|passw(?:or)?d|pass|pwd|pw|secret|input)
      [-_.]?\d{1,5}(?:[-_/.](?:\d{1,4}|[a-z]{1,6}|sha\d{1,3}|\d+[a-z]+))*(?:id|d|k1|r1|f|s|gb|h)?""",
    re.IGNORECASE | re.VERBOSE,
)
# Common passwords of letters alone that nobody says of a password otherwise (public lists of leaked passwords).
_COMMON: Final = frozenset(
    b"qwerty qwertyuiop qwertz azerty asdfgh asdfghjkl zxcvbn zxcvbnm letmein iloveyou trustno sunshine princess football baseball superman batman"
    b" dragon monkey shadow michael jennifer ashley charlie starwars whatever hunter buster killer soccer hockey pokemon naruto liverpool chelsea"
    b" cheese computer corvette mercedes maggie pepper ginger flower freedom lovely woaini wodemima nihao loveyou qazwsx passw0rd pa55word admin".split()
)
_PREDICATES: Final = frozenset(
    b"weak strong wrong correct incorrect invalid valid required missing empty expired secure safe unsafe short long simple complex same different bad good set"
    b" password passwort mot secret admin root user guest hidden blank optional encrypted hashed stored known unknown unique easy hard forgot forgotten reset show hide".split()
)


def entropy(value: bytes) -> float:
    """Shannon entropy in bits a character."""
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values())


def placeholder(value: bytes) -> bool:
    """Whether it stands for a value rather than being one."""
    return (
        len(set(value)) < 3
        or _PLACEHOLDER.fullmatch(value) is not None
        or _MADE_UP.search(value) is not None
        or _VARIABLE.fullmatch(value) is not None
    )


class StopWords:
    """Words that show a value to be no secret, wherever they stand in it."""

    def __init__(self, words: list[str]) -> None:
        self._by_start: dict[bytes, list[bytes]] = {}
        for word in words:
            self._by_start.setdefault(word[:3].encode(), []).append(word.encode())

    def __contains__(self, value: bytes) -> bool:
        lower = value.lower()
        for at in range(len(lower) - 2):
            words = self._by_start.get(lower[at : at + 3])
            if words is not None and any(lower.startswith(word, at) for word in words):
                return True
        return False


def scattered(value: bytes) -> bool:
    """Whether small letters, capitals and, in a shorter value, digits alternate in it as they only do by chance."""
    runs = _RUNS.findall(value)
    if len(value) < 16 or not runs:
        return False
    run = sum(map(len, runs)) / len(runs)
    capitals = sum(65 <= c <= 90 for c in value)
    digits = sum(48 <= c <= 57 for c in value)
    small = sum(97 <= c <= 122 for c in value)
    if digits >= 2:
        return run <= RUN_CHARS_MAX and capitals >= 2 and small >= 2
    return run <= LETTER_RUN_CHARS_MAX and len(value) >= 24 and capitals >= 6 and small >= 6


def code_or_text(value: bytes) -> bool:
    """Whether it is a name of code, words, a path, a mail address, a measure, a date or the name of a method."""
    return (
        _WORDS.fullmatch(value) is not None
        or _NAME.fullmatch(value) is not None
        or _PATH.match(value) is not None
        or _MAIL.fullmatch(value) is not None
        or _MEASURE.fullmatch(value) is not None
        or _TECHNICAL.fullmatch(value) is not None
    )


def _code(value: bytes, *, quoted: bool, said: bool) -> bool:
    """Whether what has letters and digits beside "password" is no password after all."""
    if _MEASURE.fullmatch(value) or _MAIL.fullmatch(value) or _TECHNICAL.fullmatch(value):
        return True
    if quoted:
        return value.startswith((b"/", b"http:", b"https:"))
    if _NAME.fullmatch(value) or _PATH.match(value):
        return True
    return not said and _VARIABLE_NAME.fullmatch(value) is not None


def phrase(value: bytes) -> bool:
    """Whether it is four words or more that a hyphen joins, and no name of a part of a program or a page."""
    return _PHRASE.fullmatch(value) is not None and _PHRASE_NAMES.search(value) is None


def _irregular(word: bytes) -> bool:
    """Whether capitals stand in it as in no name of code."""
    capitals = sum(65 <= c <= 90 for c in word)
    return 3 <= capitals <= len(word) - 3 and len(word) <= LETTER_RUN_CHARS_MAX * len(_RUNS.findall(word))


def secret_like(value: bytes, stop_words: StopWords, *, weak: bool, entropy_min: float = ENTROPY_MIN) -> bool:
    """Whether a value beside a name such as "token" is one. `weak`: the name may as well stand for something public."""
    if len(value) < 10 or placeholder(value):
        return False
    if scattered(value):
        return _ADDRESS.fullmatch(value) is None and _PATH.match(value) is None and entropy(value) >= entropy_min
    if not any(48 <= c <= 57 for c in value) or code_or_text(value):
        return False
    if _UUID.fullmatch(value):
        return not weak
    # In a long random value some word stands by chance.
    return entropy(value) >= entropy_min and (len(value) > STOP_WORDS_CHARS_MAX or value not in stop_words)


def password_like(value: bytes, *, quoted: bool, said: bool, assigned: bool = False) -> bool:
    """Whether a value beside "password" is one.

    `quoted`: it stood in quotes; `said`: in a sentence; `assigned`: behind `=` beside a name that code or a settings file
    would give it, where a word of letters alone may be one, too.
    """
    if len(value) < 4 or len(value) > 128 or placeholder(value):
        return False
    bare = value.rstrip(b"!?*.")
    lower = bare.lower()
    if lower in _COMMON:
        return True
    digits = sum(48 <= c <= 57 for c in bare)
    letters = sum(65 <= (c & 0xDF) <= 90 for c in bare)
    if letters and digits:
        return len(value) >= 5 and not _code(bare, quoted=quoted, said=said)
    if digits:
        return digits == len(bare) >= 4 or (_MEASURE.fullmatch(bare) is None and digits >= 4)
    if phrase(bare):
        return True
    if letters == len(bare):
        if len(bare) >= 12 and _irregular(bare):
            return True
        irregular = not (bare.islower() or bare.isupper() or bare[1:].islower()) and len(bare) >= 8
        if lower in _PREDICATES:
            return False
        if quoted and (said or assigned):
            return len(bare) >= 4 and (said or len(bare) >= 6)
        return (irregular and quoted) or (assigned and len(bare) >= 6)
    others = len(bare) - letters
    if quoted and b" " in bare:
        return said and len(bare) >= 12
    return (
        letters >= 3
        and others >= 1
        and len(bare) >= 6
        and not code_or_text(bare)
        and any(c in b"!@#$%^&*+~|" for c in bare)
    )
