"""What only the word before it shows: accounts of WeChat and QQ, dates of birth, numbers of the armed forces.

The word, at most GAP_CHARS of naming (`号码是：`), then the thing itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from filters.detectors.china import labels, validators
from filters.detectors.china.anchored import NONE, OPEN, AnchoredScanner
from filters.finding import Finding, quiet_but

GAP_CHARS: Final = 12  # our choice: "账号（ID）是：" and a blank or two

_WECHAT: Final = "wechat"
_QQ: Final = "qq"
_BIRTH: Final = "birth"
_MILITARY: Final = "military"

_HAN_WORDS: Final = {
    "微信": _WECHAT, "薇信": _WECHAT, "威信": _WECHAT, "扣扣": _QQ, "V信": _WECHAT, "v信": _WECHAT, "企鹅": _QQ, "出生": _BIRTH, "生日": _BIRTH, "生于": _BIRTH, "字第": _MILITARY,
}  # fmt: skip
_HAN: Final = re.compile("[微薇威Vv]信|扣扣|企鹅|出生|生[日于]|字第")  # these words, as fast as `re` finds them
_HAN_STARTS: Final = frozenset(word[:n] for word in _HAN_WORDS for n in range(1, len(word)))
_CORPS: Final = frozenset("军兵士文职警参政后装海空北沈兰济南成广")  # before 字第
_LATIN: Final = re.compile(rb"(?<![a-z0-9_])(?:(qq)|wxid_|wechat|weixin|[wv]x)", re.IGNORECASE)
_LATIN_GATES: Final = (b"qq", b"wx", b"vx", b"wechat", b"weixin")
_LATIN_OPEN: Final = re.compile(
    rb"(?<![a-z0-9_])(?:q|w|v|wx(?:id?)?|we|wec|wech|wecha|wei|weix|weixi)\Z", re.IGNORECASE
)
_LATIN_CHARS: Final = 7
_WXID: Final = re.compile(rb"wxid_[a-z0-9]{8,24}(?![a-z0-9_])", re.IGNORECASE)
_OPEN_WXID: Final = re.compile(rb"wxid_[a-z0-9]{0,24}", re.IGNORECASE)

_GAPS: Final = {
    _WECHAT: re.compile(r"(?:账号|帐号|賬號|号码|号|號|[Ii][Dd](?![A-Za-z0-9])|同号|同步|信|是|为|為|我|请|加|添加|搜索|搜|[:：=\s\"'“”「『（(【\[])*"),
    _QQ: re.compile(r"(?:账号|帐号|号码|号|號|[Ii][Dd]|群|邮箱|同号|是|为|為|我|请|加|添加|搜索|搜|[:：=\s\"'“”「『（(【\[])*"),
    _BIRTH: re.compile(r"(?:日期|年月日|年月|时间|日|于|是|为|為|在|[:：=\s\"'“”「（(【\[])*"),
    _MILITARY: re.compile(r"(?:号|[\s:：])*"),
}  # fmt: skip
# In a gap: that an account follows, and not the next word of a sentence.
_NAMES_ONE: Final = re.compile(r"号|號|[Ii][Dd]|[:：]|是|为|為|加|搜")
_COLON: Final = re.compile(r"号|號|[Ii][Dd]|[:：]")
_THINGS: Final = {
    _WECHAT: re.compile(rb"[A-Za-z][A-Za-z0-9_-]{5,19}(?![A-Za-z0-9_@-]|\.[A-Za-z0-9])"),
    _QQ: re.compile(rb"[1-9][0-9]{4,10}(?![A-Za-z0-9_@-]|\.[A-Za-z0-9])"),
    _BIRTH: re.compile(rb"((?:19|20)[0-9]{2})([-./\x02])([0-9]{1,2})([-./\x02])([0-9]{1,2})(?![0-9])|((?:19|20)[0-9]{6})(?![0-9A-Za-z])"),
    _MILITARY: re.compile(rb"[0-9]{5,9}(?![0-9A-Za-z])"),
}  # fmt: skip
# The end of a text that may go on as such a thing.
_OPEN_THINGS: Final = {
    _WECHAT: re.compile(rb"[A-Za-z0-9_-]{0,20}\.?"),
    _QQ: re.compile(rb"[0-9]{0,11}\.?"),
    _BIRTH: re.compile(rb"[0-9]{1,4}(?:[-./\x02](?:[0-9]{1,2}(?:[-./\x02](?:[0-9]{1,2}\x02?)?)?)?)?|[0-9]{0,8}"),
    _MILITARY: re.compile(rb"[0-9]{0,9}\x02?"),
}
_LOOKAHEAD_CHARS: Final = (
    2  # of a gap: the longest word in it has two characters more than the one that it may seem to be
)
_COUNTED: Final = frozenset("元次条笔件行字块万亿年岁％个人名位月")

# Rule -> score without more words.
SCORES: Final = {
    "wxid": 0.95, "wechat, named": 0.75, "wechat, beside the word": 0.5, "qq, named": 0.85, "qq, beside the word": 0.7,
    "birth": 0.85, "military": 0.35,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Anchor:
    kind: str
    end: int
    latin: bytes = b""


class SaidScanner(AnchoredScanner):
    """Things that a word names."""

    # Every word in Latin letters has one of these, and all of it is in one token; the v of v信 is in the token before 信.
    quiet = quiet_but(b"\x02qQwWxX")
    foreign = frozenset(word[0] for word in _HAN_WORDS) | {"信"}

    def __init__(self) -> None:
        super().__init__()
        self._found: _Anchor | None = None  # what _next has seen, for _judge right behind it
        self._han: re.Match[str] | None = None  # the next word in Chinese
        self._latin: list[re.Match[bytes]] = []  # those in Latin letters, the last one first

    def _begin(self, text: str, view: bytes, at: int) -> None:
        self._han = _HAN.search(text, at) if view.find(b"\x02", at) >= 0 else None
        low = view[at:].lower()
        found: list[re.Match[bytes]] = []
        for gate in _LATIN_GATES:
            where = low.find(gate)
            while where >= 0:
                latin = _LATIN.match(view, at + where)
                if latin is not None:
                    found.append(latin)
                where = low.find(gate, where + 1)
        found.sort(key=lambda m: -m.start())
        self._latin = found

    def _next(self, text: str, view: bytes, at: int, final: bool) -> int:
        if self._han is not None and self._han.start() < at:
            self._han = _HAN.search(text, at)
        while self._latin and self._latin[-1].start() < at:
            self._latin.pop()
        han = self._han
        latin = self._latin[-1] if self._latin else None
        if latin is not None and (han is None or latin.start() < han.start()):
            if not final and _LATIN_OPEN.match(view, latin.start()):
                return NONE
            self._found = _Anchor(_QQ if latin[1] else _WECHAT, latin.end(), latin[0].lower())
            return latin.start()
        if han is None:
            return NONE
        self._found = _Anchor(_HAN_WORDS[han[0]], han.end())
        return han.start()

    def _judge(self, text: str, view: bytes, anchor: int, final: bool) -> Finding | int:
        seen = self._found
        assert seen is not None
        size = len(text)
        if seen.latin == b"wxid_":
            return self._wxid(view, anchor, final)
        limit = min(size, seen.end + GAP_CHARS)
        gap = _GAPS[seen.kind].match(text, seen.end, limit)
        end = gap.end() if gap is not None else seen.end
        if not final and end < seen.end + GAP_CHARS and size - end < _LOOKAHEAD_CHARS:
            return OPEN
        if not final and _OPEN_THINGS[seen.kind].fullmatch(view, end):
            return OPEN
        thing = _THINGS[seen.kind].match(view, end)
        if thing is None or (
            text[anchor] in "Vv" and anchor and text[anchor - 1].isascii() and text[anchor - 1].isalpha()
        ):
            return NONE
        between = text[seen.end : end]
        if seen.kind == _BIRTH:
            return self._birth(text, thing)
        if seen.kind == _MILITARY:
            if not anchor or text[anchor - 1] not in _CORPS:
                return NONE
            score = labels.score(labels.MILITARY, SCORES["military"], labels.before(text, anchor))
            stop = thing.end()
            return Finding(labels.MILITARY, thing.start(), stop + 1 if text[stop : stop + 1] == "号" else stop, score)
        named = _NAMES_ONE.search(between) is not None
        if seen.kind == _QQ:
            if text[thing.end() : thing.end() + 1] in _COUNTED:
                return NONE
            rule = "qq, named" if named else "qq, beside the word"
            return Finding(labels.QQ, thing.start(), thing.end(), SCORES[rule])
        if seen.latin and not named:
            return NONE
        # A word without digits is an account only behind 号 or a colon, and never behind wx or vx, which are variables too.
        if thing[0].isalpha() and (seen.latin or _COLON.search(between) is None):
            return NONE
        rule = "wechat, named" if named else "wechat, beside the word"
        return Finding(labels.WECHAT, thing.start(), thing.end(), SCORES[rule])

    @staticmethod
    def _wxid(view: bytes, anchor: int, final: bool) -> Finding | int:
        if not final and _OPEN_WXID.fullmatch(view, anchor):
            return OPEN
        match = _WXID.match(view, anchor)
        if match is None:
            return NONE
        return Finding(labels.WECHAT, anchor, match.end(), SCORES["wxid"])

    @staticmethod
    def _birth(text: str, thing: re.Match[bytes]) -> Finding | int:
        start, end = thing.span()
        if thing[6] is not None:
            return Finding(labels.BIRTHDATE, start, end, SCORES["birth"]) if validators.birthday(thing[6]) else NONE
        for group, char in ((2, "年"), (4, "月")):
            if thing[group] == b"\x02" and text[thing.start(group)] != char:
                return NONE
        if not validators.birthday(thing[1] + thing[3].zfill(2) + thing[5].zfill(2)):
            return NONE
        if text[end : end + 1] in ("日", "号"):
            end += 1
        return Finding(labels.BIRTHDATE, start, end, SCORES["birth"])

    def _hold(self, text: str, view: bytes, at: int) -> int:
        size = len(text)
        for length in (2, 1):
            if size - length >= at and text[size - length :] in _HAN_STARTS:
                return size - length
        match = _LATIN_OPEN.search(view, max(at, size - _LATIN_CHARS))
        return size if match is None else match.start()
