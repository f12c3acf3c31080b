"""The pack: what stands in tokens, and two walks, of English and of Chinese triggers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from filters.detectors.secrets import rules
from filters.detectors.secrets.assignments import NAME_CHARS, Assignments
from filters.detectors.secrets.blocks import OPENING, OPENING_CHARS_MAX, OPENING_GROWS, Block
from filters.detectors.secrets.rules import CONNECTION_STRING, JWT, PASSWORD, PRIVATE_KEY, SECRET
from filters.detectors.secrets.sentences import Sentences
from filters.detectors.secrets.tokens import TOKEN_CHARS_MIN, Tokens
from filters.detectors.secrets.walker import TRIGGER_CHARS, Verdict, Walker, begun
from filters.detectors.units import LateStarts
from filters.finding import Finding, Scanner, Sleeper, quiet_but

CODE_VERSION: Final = 2  # raise when a change of code in this package changes a finding

# Key words, headers, private keys, in lower case. Each alternative begins with a literal, so that places are found at the
# speed of a look-up, and none is the beginning of another. A word is known by its rarest letter: few places are tried.
_WORD: Final = re.compile(
    rb"""k(?:ey|en(?<=token)|(?=\x02)(?<=[as]k)(?<![a-z0-9][as]k))
    | w(?:d(?:(?<=pwd)|(?<=passwd))|ord(?<=password)|(?=[ \t"'`*|\x02])(?<=pw)(?<![a-z0-9]pw))
    | c(?:ret(?<=secret)|red(?:ential|s(?=[ \t\n:"'`*]))|ode(?<=passcode))
    | g[ ]?in(?:(?<=login)|(?<=log[ ]in))(?=[ \t\n:"'`*])
    | phrase(?<=passphrase)
    | b(?:earer|asic|egin(?:(?<=-begin)|(?<=-[ ]begin)))
    | -u(?:ser)?(?=[ \t="'])
    | -p(?<=[ \t]-p)""",
    re.VERBOSE,
)
_ANY: Final = re.compile(_WORD.pattern + rb"|=|:|,(?<=[\"'`],)|>|\|", re.VERBOSE)
_FEW_CHARS: Final = 64
_CHINESE: Final = re.compile("密(?:码|碼|钥|鑰)|口令|秘[钥鑰]|私[钥鑰]|金鑰|令牌|授权码|授權碼|凭证|憑證|通行码|暗号")
_CHINESE_PASSWORDS: Final = frozenset({"密码", "密碼", "口令", "通行码", "暗号"})
_PUTTY_HEAD: Final = b"putty-user-"
_PUTTY: Final = re.compile(rb"-File-[0-9]{1,2}: ?[^\n\\\"]{0,48}+", re.IGNORECASE)
_PUTTY_CHARS_MIN: Final = 9  # of the line: `-File-3:`
_OPENING_TAIL: Final = 11  # "-----", a blank and the most of "BEGIN" that is no trigger yet
_DASHES: Final = re.compile(rb"-{4,5} ?\Z")


class SecretWalk(Walker):
    """Triggers of ASCII."""

    def __init__(self, assignments: Assignments, sentences: Sentences) -> None:
        super().__init__()
        self._assignments = assignments
        self._sentences = sentences

    def _fresh(self) -> SecretWalk:
        return SecretWalk(self._assignments, self._sentences)

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        """Walks on. The common case of a stream, a few words without any trigger, is seen at once."""
        at = self._next
        size = len(view)
        if size - at < _FEW_CHARS and not self._waiting and not self._long and self._block is None:
            base = at - NAME_CHARS if at > NAME_CHARS else 0
            low = view[base:].lower()
            none = _ANY.search(low, at - base) is None or not self._places(low, at - base)
            if none and (low.find(b"-", -_OPENING_TAIL) < 0 or self._growing(view) == size):
                self._at = size
                self._next = max(at, begun(view))
                return []
        return super().scan(text, view, final)

    def _triggers(self, text: str, view: bytes, at: int) -> Sequence[tuple[int, int]]:
        base = max(0, at - NAME_CHARS)
        low = view[base:].lower()
        return [(start + base, end + base) for start, end in self._places(low, at - base)]

    def _places(self, low: bytes, at: int) -> list[tuple[int, int]]:
        """Start and end of the triggers in a text in lower case, from an offset on, in order."""
        places = [m.span() for m in _WORD.finditer(low, at)]
        operators = self._assignments.operators(low, at)
        if operators:
            places += [(place, place + 1) for place in operators]
            places.sort()
        return places

    def _judged(self, text: str, view: bytes, place: int, end: int, final: bool) -> Verdict:
        kind = view[place]
        if kind in b"=:>,|":
            verdict, rest = self._assignments.judge(view, place, final)
            if rest is not None:
                self._long.append(rest)
            return verdict
        word = view[place:end].lower()
        if word in (b"earer", b"bearer", b"basic"):
            return self._sentences.bearer(view, word, end, final)
        if word == b"begin":
            return self._opened(view, place, final)
        if word == b"key" and view[max(0, place - len(_PUTTY_HEAD)) : place].lower() == _PUTTY_HEAD:
            return self._putty(view, end, final)
        if kind == 0x2D:
            return self._sentences.curl(view, place, final)
        return self._sentences.judge(text, view, word, end, final)

    def _putty(self, view: bytes, end: int, final: bool) -> Verdict:
        """A key of PuTTY begins behind its first line, whose beginning is the trigger."""
        line = _PUTTY.match(view, end)
        size = len(view)
        if line is None:
            return size if not final and size - end < _PUTTY_CHARS_MIN else []
        if line.end() == size and not final:
            return size
        self._block = Block(line.end(), line.end())
        return []

    def _opened(self, view: bytes, place: int, final: bool) -> Verdict:
        low = max(0, place - 6)
        dashes = _DASHES.search(view[low:place])
        if dashes is None:
            return []
        start = low + dashes.start()
        opening = OPENING.match(view, start)
        if opening is not None and (opening.end() < len(view) or final):
            self._block = Block(start, opening.end())
            return []
        if not final and len(view) - start <= OPENING_CHARS_MAX and OPENING_GROWS.match(view, start):
            return start
        return []

    def _growing(self, view: bytes) -> int:
        size = len(view)
        tail = max(0, size - _OPENING_TAIL)
        if view.find(b"-", tail) < 0:
            return size
        opening = OPENING_GROWS.search(view, tail)
        return size if opening is None else opening.start()


class ChineseWalk(Walker, Sleeper):
    """Triggers of Chinese, which the view does not show."""

    quiet = quiet_but(b"\x02")
    foreign = frozenset("密码碼钥鑰口令秘私金牌授权權凭证憑證通行暗号")  # every character of a trigger: it is not held

    def __init__(self, sentences: Sentences) -> None:
        super().__init__()
        self._sentences = sentences

    def _fresh(self) -> ChineseWalk:
        return ChineseWalk(self._sentences)

    @property
    def sleeps(self) -> bool:
        """Whether no value is waited for."""
        return not (self._waiting or self._long or self._block)

    def wake(self, at: int) -> None:
        """Walk on from `at`, or from where it stands if that is later."""
        self._at = max(self._at, at)
        self._next = max(self._next, at - TRIGGER_CHARS)

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        """Walks on; a text of ASCII has no trigger."""
        if text.isascii():
            self._at = self._next = len(view)
            return []
        return super().scan(text, view, final)

    def _triggers(self, text: str, view: bytes, at: int) -> Sequence[tuple[int, int]]:
        return [m.span() for m in _CHINESE.finditer(text, at)]

    def _judged(self, text: str, view: bytes, place: int, end: int, final: bool) -> Verdict:
        return self._sentences.chinese(text, view, end, text[place:end] in _CHINESE_PASSWORDS, final)


class SecretsPack:
    """Keys, tokens, passwords, connection strings and private keys."""

    def __init__(self) -> None:
        data = rules.load()
        self.name = "secrets"
        self.version = f"{CODE_VERSION}+{data.version}"
        self.entities = frozenset({SECRET, PASSWORD, PRIVATE_KEY, CONNECTION_STRING, JWT})
        self._tokens = Tokens(data)
        self._assignments = Assignments(data)
        self._sentences = Sentences(data)

    def scanners(self) -> Sequence[Scanner]:
        """The walks."""
        return SecretWalk(self._assignments, self._sentences), ChineseWalk(self._sentences)

    def at_least(self, score: float) -> SecretsPack:
        """This pack: it has no weak findings that would be costly to look for."""
        return self

    def late(self) -> LateStarts | None:
        """None: what goes on behind a token is followed by the walks."""
        return None

    def in_token(self, text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
        """Findings inside one token."""
        return [*self._tokens.find(view, start, end, form)] if end - start >= TOKEN_CHARS_MIN else []

    def in_number(self, text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
        """None: a number alone is no secret."""
        return []
