"""Secrets that are said: "my password is ...", "密码是 ...", `password x` in files of logins, Bearer and Basic, curl -u.

The key word is the trigger; what leads from it to the value is a short grammar of English or Chinese, and a value has to
look like one: words, measures and pieces of code are none, whatever a sentence says about passwords and keys.
"""

from __future__ import annotations

import re
from typing import Final

from filters.detectors.secrets.rules import GUESSED, NAMED, PASSWORD, SAID, SECRET, Data, Secret, secret
from filters.detectors.secrets.tokens import decoded
from filters.detectors.secrets.values import (
    PUBLIC_KEY,
    STRONG_ENTROPY_MIN,
    code_or_text,
    entropy,
    password_like,
    phrase,
    placeholder,
    scattered,
    secret_like,
)
from filters.detectors.secrets.walker import CONTEXT_CHARS, Verdict

# What may stand between a key word and its value. With the longest trigger less than what is kept to the left of a value.
LEAD_CHARS_MAX: Final = 64
_LEAD: Final = re.compile(
    rb"s?['\"`*]{0,3}(?:[ \t]{1,2}(?:for|of|to|on|in|at|from|with)[ \t](?:[^\s.;!?:=]|[.:=](?=\w)|[ \t]){1,36}?)?[ \t]{1,2}"
    rb"(?:is|was|are|will be|should be|has been (?:changed|set|reset) to|changed to|set to|now|reads|equals)"
    rb"(?:[ \t]{0,2}:)?[ \t\n]{1,3}[\"'`*]{0,3}+(?=[^\s\"'`*:])",
    re.IGNORECASE,
)
# Words between the verb and the value.
_FILLER: Final = re.compile(
    rb"(?:now|still|currently|set|to|simply|just|actually|probably|called|as|follows)(?::|[ \t]){1,3}+[\"'`*]{0,3}+",
    re.IGNORECASE,
)
# The first word behind a key word, and those with which a lead can start.
_FIRST: Final = re.compile(rb"s?['\"`*]{0,3}[ \t]{1,2}([A-Za-z]{1,8})(?=([ \t])?)")
_FIRSTS: Final = frozenset(
    b"for of to on in at from with is was are will should has changed set now reads equals".split()
)
_OPEN: Final = re.compile(rb"s?['\"`*]{0,3}[ \t]{0,3}['\"`*]{0,3}\Z")
_DIRECT: Final = re.compile(
    rb"['\"`]?(?:[ \t]{1,2}(?:-|--|->|\x02)[ \t]{1,2}|[ \t]{0,2}\([ \t]?|[ \t]{1,2})(['\"`]?)(?=[^\s'\"`(\x02])"
)
_DIRECT_OPEN: Final = re.compile(rb"['\"`]?[ \t]{0,2}(?:(?:-|--|->|\x02)[ \t]{0,2}|\([ \t]?)?['\"`]?\Z")
_CHINESE_LEAD: Final = re.compile(
    r"[\"'”」』`*\s]{0,3}(?:[^\n，。；！？,.;!?、\x21-\x7e\s]{0,12}?(?:是|为|為|爲|成|叫|用|：|:|=|＝|为：|是：)了?+[：:]?+)[\s\"'“‘「『`*]{0,3}+(?=[!#-&(-_a-~])"
)
_CHINESE_DIRECT: Final = re.compile(r"[\s\"'“「`*]{0,3}+(?=[!#-&(-_a-~])")
_CHINESE_OPEN: Final = re.compile(
    r"[\"'”」』`*\s]{0,3}[^\n，。；！？,.;!?、\x21-\x7e\s]{0,12}[：:=＝了\s\"'“‘「『`*]{0,5}\Z"
)
_SAID_VALUE: Final = re.compile(rb"[!#-&(-_a-~]{1,129}+")
_SAID_CHARS_MAX: Final = 128
# In Chinese punctuation of a sentence is no ASCII, mostly.
_COUNTED: Final = "位个個字次天分小时時年月种種条條款项项级級层層岁歲号號章节節元块人"
# `--db-password x`, `--token x`.
_OPTION: Final = re.compile(rb"(?:\A|\s)--?[\w-]{1,24}\Z")
_OPTION_CHARS: Final = 28
_BEARER: Final = re.compile(rb":?[ \t]{1,3}[\"']?(?=[^\s\"'])")
_BEARER_VALUE: Final = re.compile(rb"[\w~+/.=%-]{1,1024}+")
_CURL: Final = re.compile(rb"(?:-u|-user)[ \t=]{0,3}([\"']?)([^\s:\"']{1,64}):([^\s\"']{1,128}+)")
# A cell of a table and the one beside it.
_CELL: Final = re.compile(rb"['\"`*]{0,3}[ \t]{0,16}\|[ \t]{0,16}['\"`*]{0,3}+(?=[^\s|'\"`*])")
_CELL_OPEN: Final = re.compile(rb"['\"`*]{0,3}[ \t]{0,16}(?:\|[ \t]{0,16}['\"`*]{0,3})?\Z")
# `changed the password to x`.
_TO: Final = re.compile(
    rb"['\"`*]{0,3}[ \t]{1,2}to(?:[ \t]{0,2}:)?[ \t]{1,2}[\"'`*]{0,3}+(?=[^\s\"'`*:])", re.IGNORECASE
)
_CHANGED: Final = re.compile(
    rb"\b(?:chang|set|sett|reset|updat|switch|mak|made|put|rotat)(?:e|es|ed|ing)?\b", re.IGNORECASE
)
_CHANGED_CHARS: Final = 60
# `credentials: admin / x`.
_PAIR: Final = re.compile(
    rb"s?['\"`*]{0,3}(?:[ \t]{1,2}(?:are|is|were|with|as|using))?(?:[ \t]{0,2}:)?[ \t\n]{1,3}['\"`*]{0,3}+[\w.@+-]{2,64}+['\"`*]{0,3}[ \t]{0,2}[/:][ \t]{0,2}['\"`*]{0,3}+(?=[^\s'\"`*/:])",
    re.IGNORECASE,
)
_LOGIN_WORDS: Final = frozenset((b"gin", b"g in"))
_PAIR_WORDS: Final = frozenset((b"credential", b"creds", b"gin", b"g in"))
_PAIR_OPEN: Final = re.compile(
    rb"s?['\"`*]{0,3}[ \t]{0,2}[a-z]{0,5}[ \t]{0,2}:?[ \t\n]{0,3}['\"`*]{0,3}+[\w.@+-]{0,64}+['\"`*]{0,3}[ \t]{0,2}[/:]?[ \t]{0,2}['\"`*]{0,3}\Z",
    re.IGNORECASE,
)
# Before a key word: what key it is. Hexadecimal digits behind "key" alone may be any.
_KEY_OF: Final = re.compile(
    rb"(?:token|secret|credential|(?:api|access|auth|secret|private|account|storage|shared|client|webhook|signing|encryption|license|service|app|admin|master)[ _-]{0,2}key)s?['\"`*| \t]{0,40}\Z",
    re.IGNORECASE,
)
_NAME_CHARS: Final = 30
_HEX: Final = re.compile(rb"[0-9a-f]{32,128}")
_PADDED: Final = re.compile(rb"[\w+/-]{16,}={1,2}")
# Programs that take a password behind `-p`: directly, or as the next word.
_TYPED: Final = re.compile(rb"-[pP]([ \t]{0,2})([\"']?)(?=[^\s\"'$<=-])")
_PORT: Final = re.compile(rb"[0-9]{1,5}")
_TYPED_OPEN: Final = re.compile(rb"-[pP][ \t]{0,2}[\"']?\Z")
_TAKE_GLUED: Final = re.compile(rb"\b(?:mysql\w*|mariadb[\w-]*|sshpass|7z[ar]?|rar|mongo\w*)\b[^|;&\n]*\Z")
_TAKE_NEXT: Final = re.compile(
    rb"\b(?:sshpass|mongo\w*|influx|(?:docker|podman|oc|helm|az|registry)\b[^|;&\n]*\blogin|(?:un)?zip)\b[^|;&\n]*\Z"
)
_CLOUD_KEY_CHARS_MIN: Final = 16
_CHINESE_LOGIN: Final = re.compile("账号|帐号|账户|帐户|帳號|用户名|用戶名|登录|登錄|登陆|[Uu]ser|[Aa]dmin|[Rr]oot")
_LOGIN_CHARS: Final = 30
_PASSWORD_WORDS: Final = frozenset((b"wd", b"w", b"word", b"phrase", b"code"))
_LOGIN: Final = re.compile(rb"\b(?:login|user(?:name)?|account|machine|admin|root)\b", re.IGNORECASE)


class Sentences:
    """The judge of key words."""

    def __init__(self, data: Data) -> None:
        self._data = data

    def judge(self, text: str, view: bytes, word: bytes, end: int, final: bool) -> Verdict:
        """What a key word of English that ends at `end` leads to."""
        size = len(view)
        if end == size:
            return [] if final else size
        if (view[end : end + 1].isalnum() and view[end] not in b"sS") or view[end] == 0x5F:
            return []
        if word == b"k":
            return self._cloud_key(text, view, end, final)
        password = word in _PASSWORD_WORDS
        early = self._paired(view, end, final) if word in _PAIR_WORDS else self._changed(view, end, password, final)
        if early != [] or word in _LOGIN_WORDS:
            return early
        lead = _LEAD.match(view, end, end + LEAD_CHARS_MAX)
        if lead is None:
            return self._other(text, view, end, password, final)
        if lead.end() == size:
            return size
        return self._said(view, lead.end(), password, final, direct=False)

    def _cloud_key(self, text: str, view: bytes, end: int, final: bool) -> Verdict:
        """AK or SK of a cloud, in Chinese."""
        verdict = self.chinese(text, view, end, False, final)
        if isinstance(verdict, int):
            return verdict
        return [one for one in verdict if one.end - one.start >= _CLOUD_KEY_CHARS_MIN]

    def _changed(self, view: bytes, end: int, password: bool, final: bool) -> Verdict:
        """The password that another was changed to."""
        to = _TO.match(view, end) if password else None
        if to is None or _CHANGED.search(view[max(0, end - _CHANGED_CHARS) : end]) is None:
            return []
        return self._said(view, to.end(), password, final, direct=False)

    def _paired(self, view: bytes, end: int, final: bool) -> Verdict:
        """The password of a user and a password."""
        pair = _PAIR.match(view, end)
        if pair is None:
            return end if not final and _PAIR_OPEN.match(view, end) else []
        return self._said(view, pair.end(), True, final, direct=True)

    def _other(self, text: str, view: bytes, end: int, password: bool, final: bool) -> Verdict:
        if not final and len(view) - end < 2:
            return end  # the second character may be Chinese, and the first the beginning of a value
        if not text[end : end + 2].isascii():
            chinese = self.chinese(text, view, end, password, final)
            if chinese or isinstance(chinese, int):
                return chinese
        if not final and (_OPEN.match(view, end) or _CELL_OPEN.match(view, end) or _DIRECT_OPEN.match(view, end)):
            return len(view)
        cell = _CELL.match(view, end)
        if cell is not None:
            return self._said(view, cell.end(), password, final, direct=True)
        first = _FIRST.match(view, end)
        if first is not None:
            if first.end() == len(view) and not final:
                return len(view)
            if first[1].lower() in _FIRSTS:
                return [] if final or len(view) - end >= LEAD_CHARS_MAX else len(view)
        option = _OPTION.search(view[max(0, end - _OPTION_CHARS) : end]) is not None
        direct = _DIRECT.match(view, end)
        return [] if direct is None else self._said(view, direct.end(), password, final, direct=not option)

    def _said(self, view: bytes, start: int, password: bool, final: bool, *, direct: bool) -> Verdict:
        """The secret that starts at `start`, if there is one."""
        size = len(view)
        while (filler := _FILLER.match(view, start)) is not None:
            start = filler.end()
            if start == size:
                return [] if final else size
        quote = view[start - 1]
        quoted = quote in b"\"'`"
        match = _SAID_VALUE.match(view, start)
        if quoted:
            close = view.find(bytes([quote]), start, start + _SAID_CHARS_MAX)
            if close < 0:
                if size - start < _SAID_CHARS_MAX and not final and b"\n" not in view[start : start + _SAID_CHARS_MAX]:
                    return start
                quoted = False
            else:
                value = view[start:close]
                if b"\n" in value:
                    quoted = False
        if not quoted:
            if match is None:
                return []
            if match.end() == size and not final and match.end() - start <= _SAID_CHARS_MAX:
                return start
            value = match[0].rstrip(b".,;:?)]}").removesuffix(b"**")
            if (
                len(value) > _SAID_CHARS_MAX
                or b"(" in value
                or b"[" in value[1:]
                or (value.endswith(b"=") and not _PADDED.fullmatch(value))
            ):
                return []
        if direct and not (quoted and password) and not (_plain if password else _bare)(view, start, value):
            return []
        return self._rated(start, value, password, quoted=quoted, direct=direct)

    def _rated(self, start: int, value: bytes, password: bool, *, quoted: bool, direct: bool) -> list[Secret]:
        """The secret that a value is which was said to be one."""
        end = start + len(value)
        if password:
            known = password_like(value, quoted=quoted and not direct, said=True)
            return [secret(PASSWORD, start, end, SAID, "password-said")] if known else []
        if value.isalpha() and not quoted and not scattered(value):
            return []
        known = secret_like(value, self._data.stop_words, weak=True, entropy_min=STRONG_ENTROPY_MIN)
        return [secret(SECRET, start, end, SAID, "secret-said")] if known else []

    def chinese(self, text: str, view: bytes, end: int, password: bool, final: bool) -> Verdict:
        """What a key word that ends at `end` leads to in Chinese."""
        size = len(view)
        if end >= len(text):
            return [] if final else size
        lead = _CHINESE_LEAD.match(text, end)
        direct = lead is None
        if lead is None:
            if not final and size - end < LEAD_CHARS_MAX and _CHINESE_OPEN.match(text, end):
                return size
            lead = _CHINESE_DIRECT.match(text, end)
            if lead is None:
                return []
        start = lead.end()
        match = _SAID_VALUE.match(view, start)
        if match is None:
            return []
        if match.end() == size and not final and match.end() - start <= _SAID_CHARS_MAX:
            return start
        value = match[0].rstrip(b".,;:?)]}").removesuffix(b"**")
        last = start + len(value)
        if last < len(text) and text[last] in _COUNTED and (value.isdigit() or len(value) < 6):
            return []
        if b"(" in value or b"[" in value:
            return []
        login = direct and password and _CHINESE_LOGIN.search(text, max(0, end - _LOGIN_CHARS), end) is not None
        if login and value.isdigit():
            return [secret(PASSWORD, start, last, SAID, "password-said-chinese")] if len(value) >= 6 else []
        if direct and not _bare_chinese(value, password, login):
            return []
        if password:
            if not password_like(value, quoted=False, said=True):
                return []
            return [secret(PASSWORD, start, last, SAID, "password-said-chinese")]
        # 密钥, 令牌: shorter ones are said, too.
        random = scattered(value) or (len(value) >= 8 and _mixed(value) and not code_or_text(value))
        if not random or placeholder(value) or entropy(value) < 2.5:
            return []
        return [secret(SECRET, start, last, SAID, "secret-said-chinese")]

    def bearer(self, view: bytes, word: bytes, end: int, final: bool) -> Verdict:
        """The token behind "Bearer", the credentials behind "Basic"."""
        size = len(view)
        lead = _BEARER.match(view, end)
        if lead is None:
            return size if not final and size - end < 5 and not view[end:].strip() else []
        start = lead.end()
        match = _BEARER_VALUE.match(view, start)
        if match is not None and match[0].lower() in (b"token", b"token="):
            lead = _BEARER.match(view, match.end())
            if lead is None:
                return size if not final and size - match.end() < 5 and not view[match.end() :].strip() else []
            start = lead.end()
            match = _BEARER_VALUE.match(view, start)
        if match is None:
            return []
        if match.end() == size and not final and match.end() - start < 1024:
            return start
        value = match[0].rstrip(b".,")
        if word == b"basic":
            plain = decoded(value) if len(value) >= 8 else b""
            if b":" in plain[1:-1] and plain.isascii() and plain.decode("ascii").isprintable():
                return [secret(SECRET, start, start + len(value), NAMED, "basic-auth-header")]
            return []
        if len(value) < 16 or not _mixed(value) or placeholder(value) or code_or_text(value) or entropy(value) < 3.0:
            return []
        return [secret(SECRET, start, start + len(value), NAMED, "bearer-token")]

    def curl(self, view: bytes, place: int, final: bool) -> Verdict:
        """User and password behind `-u` or `--user`, a password behind `-p`."""
        size = len(view)
        if view[place + 1] in b"pP":
            return self._typed(view, place, final)
        match = _CURL.match(view, place)
        if match is None:
            grows = not final and size - place < 80 and _CURL_GROWS.match(view, place)
            return place if grows else []
        if match.end() == size and not final:
            return place
        word = match[3]
        if placeholder(word) or match[2].isdigit() or b"${" in match[2] or word.startswith(b"//"):
            return []
        before = view[max(0, place - CONTEXT_CHARS) : place].lower()
        if ((b"curl" in before or b"wget" in before or b"http" in before) and not word.startswith(b"$")) or (
            _mixed(word) and len(word) >= 6
        ):
            return [secret(PASSWORD, match.start(3), match.end(3), GUESSED, "curl-auth-user")]
        return []

    def _typed(self, view: bytes, place: int, final: bool) -> Verdict:
        """The password behind `-p` of a program that takes one there."""
        left = view[max(0, place - CONTEXT_CHARS) : place].lower()
        glued = _TAKE_GLUED.search(left) is not None
        after_blank = _TAKE_NEXT.search(left) is not None
        if not (glued or after_blank):
            return []
        typed = _TYPED.match(view, place)
        if typed is None:
            return len(view) if not final and _TYPED_OPEN.match(view, place) else []
        if not (after_blank if typed[1] else glued):
            return []
        verdict = self._said(view, typed.end(), True, final, direct=False)
        if isinstance(verdict, int):
            return verdict
        return [one for one in verdict if _PORT.fullmatch(view, one.start, one.end) is None]


_CURL_GROWS: Final = re.compile(rb"(?:-u|-user)[ \t=]{0,3}[\"']?[^\s:\"']{0,64}(?::)?\Z")


def _plain(view: bytes, start: int, value: bytes) -> bool:
    """Whether a value is a secret though nothing but a blank stands between it and the key word."""
    if len(value) < 6 or (code_or_text(value) and not phrase(value)):
        return False
    login = _LOGIN.search(view[max(0, start - CONTEXT_CHARS) : start]) is not None
    return (login and (_mixed(value) or phrase(value))) or _strong(value)


def _bare_chinese(value: bytes, password: bool, login: bool) -> bool:
    """Whether a value that directly follows a key word of Chinese is one; `login`: behind the name of an account."""
    if scattered(value) or (password and phrase(value)):
        return True
    return _mixed(value) and len(value) >= (5 if login else 6) and (login or not code_or_text(value))


def _bare(view: bytes, start: int, value: bytes) -> bool:
    """Whether a value behind "key" or "token" and a blank is one: nothing but chance writes so."""
    left = view[max(0, start - CONTEXT_CHARS) : start]
    if scattered(value):
        return len(value) >= 20 and PUBLIC_KEY.search(left, max(0, len(left) - _NAME_CHARS)) is None
    return (
        _HEX.fullmatch(value) is not None
        and _KEY_OF.search(left) is not None
        and PUBLIC_KEY.search(left, max(0, len(left) - _NAME_CHARS)) is None
    )


def _mixed(value: bytes) -> bool:
    """Whether it has a letter and a digit."""
    return any(48 <= c <= 57 for c in value) and any(65 <= (c & 0xDF) <= 90 for c in value)


def _strong(value: bytes) -> bool:
    """Whether it has a lower-case letter, an upper-case letter or a sign, and a digit inside: nobody writes words so."""
    return (
        _mixed(value) and not value.islower() and not value.isupper() and len(value) >= 8 and not value[:-2].isalpha()
    ) or (_mixed(value) and any(c in b"!@#$%^&*" for c in value))
