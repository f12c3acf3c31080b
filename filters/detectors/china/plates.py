"""License plates (GA 36), whose first character is a province's; and identity cards of Hong Kong with parentheses."""

from __future__ import annotations

import re
from typing import Final

from filters.detectors.china import labels, validators
from filters.detectors.china.anchored import NONE, OPEN, AnchoredScanner
from filters.detectors.patterns import shape
from filters.finding import Finding, quiet_but

PROVINCES: Final = frozenset("京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼滬蘇贛鄂黔遼閩貴粵")
_LETTER: Final = b"\x02a"  # in the shape of a view
_BODY: Final = re.compile(rb"[A-HJ-Za-hj-z](\x02|[ .-])?([A-Za-z0-9]{4,6})(?![A-Za-z0-9_])")
_OPEN_BODY: Final = re.compile(rb"\x02[A-Za-z](?:\x02|[ .-])?[A-Za-z0-9]{0,6}\x02?")
_POINTS: Final = frozenset("·•・‧∙●▪")
# Driving schools, police, Hong Kong, Macau, consulates, trailers, tests, oversize vehicles.
_TAILS: Final = frozenset("学學警港澳领領挂掛试超")
_NEW_ENERGY: Final = re.compile(rb"[A-HJK][A-HJ-NP-Z0-9][0-9]{4}|[0-9]{5}[A-HJK]")
_ORDINARY: Final = re.compile(rb"[A-HJ-NP-Z0-9]{5}")
# Before 新 and 云 these make a word of it: 最新, 更新, 阿里云, 腾讯云.
_WORDS: Final = {
    "新": frozenset("最更全创重刷翻革清崭"),
    "云": frozenset("里讯为度上私公星白"),
    "宁": frozenset("安保济南"),
    "川": frozenset("四"),
    "甘": frozenset("不"),
}

# Rule -> score.
SCORES: Final = {
    "plate": 0.8,
    "plate with few digits": 0.5,
    "plate behind a word": 0.35,
    "hong kong, parentheses": 0.95,
}


class PlateScanner(AnchoredScanner):
    """Plates."""

    foreign = PROVINCES

    def __init__(self) -> None:
        super().__init__()
        self._shape = b""  # of the view from _base on
        self._base = 0

    def _begin(self, text: str, view: bytes, at: int) -> None:
        self._base = at
        self._shape = shape(view[at:]) if view.find(b"\x02", at) >= 0 else b""

    def _next(self, text: str, view: bytes, at: int, final: bool) -> int:
        where = at - self._base
        while True:
            where = self._shape.find(_LETTER, where)
            if where < 0:
                return NONE
            if text[where + self._base] in PROVINCES:
                return where + self._base
            where += 1

    def _judge(self, text: str, view: bytes, anchor: int, final: bool) -> Finding | int:
        if not final and _OPEN_BODY.fullmatch(view, anchor):
            return OPEN
        match = _BODY.match(view, anchor + 1)
        if match is None or (match[1] == b"\x02" and text[match.start(1)] not in _POINTS):
            return NONE
        body = match[2].upper()
        end = match.end()
        digits = len(body) - len(body.translate(None, b"0123456789"))
        rule = "plate"
        if len(body) == 4:
            if digits < 3 or end >= len(text) or text[end] not in _TAILS:
                return NONE
            end += 1
        elif len(body) == 5:
            if digits < 2 or _ORDINARY.fullmatch(body) is None:
                return NONE
            if digits == 2:
                rule = "plate with few digits"
        elif _NEW_ENERGY.fullmatch(body) is None:
            return NONE
        if anchor and text[anchor - 1] in _WORDS.get(text[anchor], ()):
            rule = "plate behind a word"
        score = labels.score(labels.PLATE, SCORES[rule], labels.before(text, anchor))
        return Finding(labels.PLATE, anchor, end, score)

    def _hold(self, text: str, view: bytes, at: int) -> int:
        size = len(text)
        return size - 1 if text[-1] in PROVINCES else size


_CHECK: Final = re.compile(rb"\(([0-9Aa])\)")
_BEFORE_CHECK: Final = re.compile(rb"(?<![A-Za-z0-9_])([A-Za-z]{1,2}[0-9]{6}) ?\Z")
_OPEN_CARD: Final = re.compile(rb"(?<![A-Za-z0-9_])[A-Za-z]{1,2}(?:[0-9]{1,5}|[0-9]{6} ?(?:\([0-9Aa]?)?)?\Z")
_HEAD_CHARS: Final = 9  # before the parenthesis, with a blank
_CARD_CHARS: Final = 12


class HongKongScanner(AnchoredScanner):
    """A123456(7), which no token holds whole."""

    quiet = quiet_but(b"0123456789")  # the letters before them are in the same token

    def _next(self, text: str, view: bytes, at: int, final: bool) -> int:
        where = at
        while True:
            match = _CHECK.search(view, where)
            if match is None:
                return NONE
            where = match.end()
            head = _BEFORE_CHECK.search(view, max(at, match.start() - _HEAD_CHARS), match.start())
            if head is not None:
                return head.start(1)

    def _judge(self, text: str, view: bytes, anchor: int, final: bool) -> Finding | int:
        check = _CHECK.search(view, anchor)
        if check is None:
            return NONE
        value = view[anchor : check.start()].rstrip() + check[1]
        if not validators.hong_kong(value.upper()):
            return NONE
        score = labels.score(labels.HONG_KONG, SCORES["hong kong, parentheses"], labels.before(text, anchor))
        return Finding(labels.HONG_KONG, anchor, check.end(), score)

    def _hold(self, text: str, view: bytes, at: int) -> int:
        match = _OPEN_CARD.search(view, max(at, len(view) - _CARD_CHARS))
        return len(text) if match is None else match.start()
