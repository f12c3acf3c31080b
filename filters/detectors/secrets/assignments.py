"""`name = value` in all its spellings: code, JSON, YAML, XML, .env, headers, connection strings.

Judged from the operator: the name to its left says what the value may be (NAME_CHARS of it, as gitleaks has it: a key
word, at most 20 more characters, quotes), and the value's form decides.
"""

from __future__ import annotations

import re
from typing import Final

from filters.detectors.secrets.rules import (
    CONNECTION_STRING,
    GUESSED,
    NAMED,
    PASSWORD,
    PRIVATE_KEY,
    SECRET,
    Data,
    Secret,
    alternation,
    secret,
)
from filters.detectors.secrets.tokens import decoded
from filters.detectors.secrets.values import (
    ENTROPY_MIN,
    PUBLIC_KEY,
    STRONG_ENTROPY_MIN,
    entropy,
    password_like,
    placeholder,
    scattered,
    secret_like,
)
from filters.detectors.secrets.walker import CONTEXT_CHARS, VALUE, VALUE_CHARS_MAX, LongValue, Verdict

NAME_CHARS: Final = 72
_QUOTED_CHARS_MAX: Final = 256
# Operators, and what has to stand before one, read backwards: `>` ends a tag, `,` stands in a call, `|` is doubled.
_CALL: Final = re.compile(rb"([\"'`])[\w .-]{1,40}\1\(")
# A call that takes a user and a password: `auth=("bob", "x")`, `smtp.login("bob", "x")`.
_LOGIN_CALL: Final = re.compile(
    rb"([\"'])[\w.@+-]{1,40}\1\(\s?(?:(?:=\s?)?htua|nigol|htuacisab(?:ptth)?|resu_etaerc)(?![a-z])"
)
_OPERATOR: Final = re.compile(rb"=|:|>(?<=[\w\"'-]>)|,(?<=[\"'],)|\|(?<=\|\|)")
_BEHIND: Final = rb"[\s'\"\\`*\])|]{0,4}+"
# Read backwards from the operator: quotes, then the name.
_NAME: Final = re.compile(_BEHIND + rb"([\w.\-][\w .\t\-]{0,71})")
# Quotes, 20 characters behind a key word, and the longest key word.
_NAME_REACH: Final = 4 + 20 + 36
_LEAD: Final = re.compile(rb"(?::{1,3}=|\?=|[=!]={1,2}|=>|[=:>,|])[`'\"\s=\\*]{0,6}+")
_PLAIN: Final = re.compile(VALUE + rb"{1,%d}+" % VALUE_CHARS_MAX)
_QUOTED: Final = {
    quote: re.compile(rb"[^\n\\\x00" + bytes([quote]) + rb"]{1,%d}+" % _QUOTED_CHARS_MAX) for quote in b"\"'`"
}
_QUOTES: Final = frozenset(b"\"'`")

_GENERIC: Final = (
    b"access", b"auth", b"api", b"credential", b"creds", b"key", b"password", b"passwd", b"passphrase", b"passcode",
    b"pwd", b"pass", b"pw", b"secret", b"token", b"signature", b"session", b"sessid", b"connect.sid", b"value", b"cookie",
)  # fmt: skip
_PASSWORD_NAME: Final = re.compile(
    rb"(?:passw(?:or)?d|pwd|passphrase|passcode|(?:\A|[\W_]|db|user|admin|smtp|ftp|sql|sudo|root|mail|my|redis|login|key|store)pass|(?:\A|[\W_])pw)"
    rb"(s?)[ \t\w.-]{0,20}\Z"
)
_GENERIC_NAME: Final = re.compile(rb"(access|auth|api|credential|creds|key|secret|token|signature)s?[ \t\w.-]{0,20}\Z")
_STRONG_NAME: Final = re.compile(
    rb"(?:api|access|auth|app|application|account|encrypt\w*|sign\w*|master|license|shared|service|storage|subscription|deploy|admin|consumer|hmac|aes|des|ssh|webhook|user)"
    rb"[\s_.-]{0,2}(?:secret[\s_.-]{0,2})?(?:access[\s_.-]{0,2})?key|secret|token|credential|creds|key[_-]?data|private|auth[_-]?code|signature"
)
# What a name is about rather than being one: its policy, its length, where it is kept.
_ABOUT: Final = re.compile(
    rb"(?:passw(?:or)?d|pwd|passphrase|passcode|pass|secret|token|key|auth|access|api|credential|signature)s?[\s_.-]*"
    rb"(?:polic(?:y|ies)|requirements?|rules?|length|len|min(?:imum)?|max(?:imum)?|strength|counts?|limits?|usage|budget|fields?|input|labels?|hints?|types?|kind"
    rb"|expir\w*|ttl|age|reset|manager|hash\w*|salt|ur[li]s?|endpoint|paths?|files?|names?|ids?|window|size|per|versions?|formats?|errors?|status|valid\w*|confirm\w*"
    rb"|changed?|updated?|created|last|at|date|time\w*|regex|pattern|prefix|column|index|points?|board|features?|takeaways?|findings?|differences?|metrics?|stats?"
    rb"|finger\w*(?:[\s_.:-]*(?:sha|md)-?\d*)?|facts?|terms?|steps?|person|bindings?|press|frame|number|algorithm|rotation|family|usages?|ring|vault|store|pair|map|space|stone|note|levels?|control"
    rb"|log|point|ors?|ibility|ed|able|or|ess|itect\w*|ority|entic\w*|oriz\w*)[\d_.-]*\Z"
)
_CLOUD_NAME: Final = re.compile(rb"(?:\A|[\W_])[as]k\Z")
_CLOUD_KEY: Final = re.compile(
    rb"(?=[A-Z]{0,24}[0-9][A-Z]{0,24}[0-9])[A-Z0-9]{16,32}|(?=[a-f]{0,24}[0-9])[0-9a-f]{32,64}"
)
# Other names of a connection string, with which a password in it is one whatever its letters are.
_CONNECTION: Final = re.compile(
    rb"(?:\A|[\s;\"'?&])(?:server|host|data source|addr(?:ess)?|database(?:name)?|dbname|initial catalog|endpoint|user(?:[ _]?(?:id|name))?|uid|port) ?= ?[^\s;=]{1,64}[;\s]"
)
_CONNECTION_CHARS: Final = 72
_COOKIE_NAME: Final = re.compile(rb"(?:sess(?:ion)?(?:_?id)?|connect\.sid|_session|session[_-]?token|sid)\Z")
_ACCOUNT_KEY: Final = re.compile(rb"(?:accountkey|sharedaccesskey)\Z")
# The name of a variable whose value stands under `value` (Kubernetes, Terraform, .NET settings).
_NAMED_BEFORE: Final = re.compile(
    rb"(?:name|key)[\"']?\s{0,3}[:=]\s{0,3}[\"']?([\w.-]{1,40})[\"']?[\s,;]{1,24}(?:-\s)?[\"']?value[\"']?\s{0,2}\Z"
)
_HASH: Final = re.compile(
    rb"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{56}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128}|[0-9A-F]{32,64})"
)
# What stands directly before a name inside a value: were each judged, their work would grow with the value's length.
_JOINING: Final = frozenset(b"=|/+~!@#$%^*")
_BEFORE_STAR: Final = (b"", b"*", b" ", b"\n", b"\t")  # of emphasis: `**Password:** x`
_VALUE_FORM: Final = re.compile(rb"[\w.=+/~!@#$%^&*:|-]+")
_NEXT_PARAMETER: Final = re.compile(rb"&[\w.-]{1,40}=")
# A mask of ours, with a keyed digest of what it hides (finding.Mask): answers quote it, and the next turn brings it back.
_OWN_MASK: Final = re.compile(rb"<[A-Z_]{1,48}:[a-p]{12}>")
_PEM_BASE64: Final = b"LS0tLS1CRUdJTi"


class Assignments:
    """The judge of operators."""

    def __init__(self, data: Data) -> None:
        self._data = data
        words = {*_GENERIC, *data.named}
        # Backwards from an operator: quotes, what may stand behind a key word, and the word.
        # AK and SK, access and secret key of clouds, are names by themselves or behind a mark.
        self._keyed = re.compile(
            _BEHIND + rb"(?:[\w .\t-]{0,20}?" + alternation(w[::-1] for w in words) + rb"|k[as](?![a-z0-9]))"
        )
        self._service = re.compile(alternation(data.named))

    def operators(self, low: bytes, at: int) -> list[int]:
        """Where operators stand from `at` on in a text in lower case that have a key word to their left, in no order."""
        places = []
        for match in _OPERATOR.finditer(low, at):
            place = match.start()
            name = low[place - _NAME_REACH : place] if place > _NAME_REACH else low[:place]
            name = name[::-1]
            if (self._keyed.match(name) and (low[place] != 0x2C or _CALL.match(name))) or (
                low[place] == 0x2C and _LOGIN_CALL.match(name)
            ):
                places.append(place)
        return places

    def judge(self, view: bytes, place: int, final: bool) -> tuple[Verdict, LongValue | None]:
        """What the operator that starts at `place` leads to."""
        called = view[place] == 0x2C and _LOGIN_CALL.match(view[max(0, place - _NAME_REACH) : place][::-1].lower())
        behind = _NAME.match(view[max(0, place - NAME_CHARS) : place][::-1].lower())
        if behind is None:
            return [], None
        name_at = place - behind.end()
        name = behind[1][::-1]
        marked = name_at > 0 and view[name_at - 1] == 0x2A and view[max(0, name_at - 2) : name_at - 1] in _BEFORE_STAR
        if name_at > 0 and view[name_at - 1] in _JOINING and view[name_at] > 0x20 and not (marked or called):
            blank = max(name.rfind(b" "), name.rfind(b"\t")) + 1
            if not 0 < blank < len(name):
                return [], None
            # `host=db user=app password=`: what stands before the blank is the value of another name.
            name, name_at = name[blank:], name_at + blank
        if view[place] == 0x3E and view[max(0, name_at - 2) : name_at] == b":<":
            return [], None  # `<user>:<password>@host`
        lead = _LEAD.match(view, place)
        assert lead is not None
        start = lead.end()
        size = len(view)
        if start == size:
            return ([], None) if final else (size, None)
        quote = view[start - 1]
        quoted = quote in _QUOTES
        end = start
        if quoted:
            match = _QUOTED[quote].match(view, start)
            end = start if match is None else match.end()
            if end == size and not final:
                return start, None
            quoted = end < size and view[end] == quote
        if not quoted:
            match = _PLAIN.match(view, start)
            if match is None:
                return [], None
            end = match.end()
            if end == size and not final and end - start < VALUE_CHARS_MAX:
                return start, None
        if called:
            value = view[start:end]
            known = quoted and len(value) >= 6 and password_like(value, quoted=True, said=False)
            return ([secret(PASSWORD, start, end, GUESSED, "login-call")] if known else []), None
        one = self._value(view, name, name_at, place, start, end, quoted)
        if one is None:
            return [], None
        if one.end - one.start >= VALUE_CHARS_MAX:
            return [one], LongValue(one)
        return [one], None

    def _value(
        self, view: bytes, name: bytes, name_at: int, place: int, start: int, end: int, quoted: bool
    ) -> Secret | None:
        """The secret in view[start:end], or none."""
        if name_at > 0 and _OWN_MASK.fullmatch(view, name_at - 1, end + 1):
            return None
        value = view[start:end]
        if not quoted:
            parameter = _NEXT_PARAMETER.search(value)
            if parameter is not None and (
                (name_at > 0 and view[name_at - 1] in b"?&") or b"=" in value[: parameter.start()]
            ):
                value = value[: parameter.start()]
            if len(value) < VALUE_CHARS_MAX:
                value = value.rstrip(b".,:)]}?").removesuffix(b"**")
        if len(value) < 4:
            return None
        end = start + len(value)
        if name.strip() == b"value":
            named = _NAMED_BEFORE.search(view[max(0, start - CONTEXT_CHARS) : place].lower())
            if named is None:
                return None
            name = named[1]
        written = view[name_at:place].rstrip(b" \t\n\r\"'\\`*")
        for service in set(self._service.findall(name)):
            for rule in self._data.named[service]:
                if (
                    rule.value.fullmatch(value)
                    and (rule.name.search(written) or rule.name.search(name))
                    and entropy(value) >= rule.entropy
                    and not any(a.search(value) for a in self._data.allowed)
                ):
                    return secret(SECRET, start, end, NAMED, rule.id)
        if not quoted and (b"(" in value or b"[" in value or b"{" in value):
            return None
        found = self._password(view, name, name_at, place, value, start, end, quoted)
        return (
            found if found is not _NO_PASSWORD else self._generic(view, name, name_at, place, value, start, end, quoted)
        )

    def _password(
        self, view: bytes, name: bytes, name_at: int, place: int, value: bytes, start: int, end: int, quoted: bool
    ) -> Secret | None:
        """The password that the value is; _NO_PASSWORD where the name is that of something else."""
        words = _PASSWORD_NAME.search(name)
        if words is None:
            return _NO_PASSWORD
        # Only settings and code give a bare word: `DB_PASSWORD=sunshine`, `password = "sunshine"`.
        among = _CONNECTION.search(view[max(0, name_at - _CONNECTION_CHARS) : name_at].lower()) is not None
        written = view[place : place + 1] == b"=" and (quoted or among or view[name_at:place].isupper())
        if (
            _ABOUT.search(name)
            or (words[1] and value.isdigit())
            or not password_like(value, quoted=quoted, said=False, assigned=written)
        ):
            return None
        joined = among or (name_at > 0 and view[name_at - 1] == 0x3B)
        return secret(CONNECTION_STRING if joined else PASSWORD, start, end, GUESSED, "password-assignment")

    def _generic(
        self, view: bytes, name: bytes, name_at: int, place: int, value: bytes, start: int, end: int, quoted: bool
    ) -> Secret | None:
        """The secret that a value beside a name of no service is."""
        if _ACCOUNT_KEY.search(name) and len(value) >= 32:
            return secret(CONNECTION_STRING, start, end, NAMED, "account-key")
        generic = _GENERIC_NAME.search(name)
        if generic is None:
            if (
                _CLOUD_NAME.search(name)
                and (scattered(value) or _CLOUD_KEY.fullmatch(value))
                and not placeholder(value)
            ):
                return secret(SECRET, start, end, GUESSED, "cloud-key-pair")
            if (
                _COOKIE_NAME.search(name)
                and b"cookie" in view[max(0, start - CONTEXT_CHARS) : place].lower()
                and secret_like(value, self._data.stop_words, weak=True, entropy_min=3.2)
            ):
                return secret(SECRET, start, end, GUESSED, "session-cookie")
            return None
        if name.endswith(b"auth"):
            plain = decoded(value)
            if b":" in plain[1:-1] and plain.isascii() and not placeholder(plain.split(b":", 1)[1]):
                return secret(SECRET, start, end, NAMED, "basic-auth")
        if value.startswith(_PEM_BASE64) and b"key" in name:
            return secret(PRIVATE_KEY, start, end, NAMED, "private-key-base64")
        if not self._random(name, value):
            return None
        entity = CONNECTION_STRING if name_at > 0 and view[name_at - 1] == 0x3B else SECRET
        return secret(entity, start, end, GUESSED, "generic-api-key")

    def _random(self, name: bytes, value: bytes) -> bool:
        """Whether a value is random enough for its name."""
        data = self._data
        if value.isdigit() or _VALUE_FORM.fullmatch(value) is None or any(a.search(value) for a in data.allowed):
            return False
        if _ABOUT.search(name) or data.names_allowed.search(name) or PUBLIC_KEY.search(name):
            return False
        weak = _STRONG_NAME.search(name) is None
        if weak and (len(value) < 16 or _HASH.fullmatch(value)):
            return False
        return secret_like(value, data.stop_words, weak=weak, entropy_min=ENTROPY_MIN if weak else STRONG_ENTROPY_MIN)


# Stands for "the name is not that of a password".
_NO_PASSWORD: Final = secret(PASSWORD, 0, 0, 0.0, "")
