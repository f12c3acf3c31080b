"""Addresses in Chinese: a place, then what stands in it, down to a number: 浙江省杭州市西湖区文三路478号3幢501室.

An address begins with the name of a place (a province, prefecture or county) or behind a word such as 地址. From there
it is read part by part: names that end in 区, 镇, 路, 村, 小区 ... and numbers that end in 号, 栋, 室 ... It ends behind its
last number, and counts only if a road, village or estate stands before a number. The whole has ADDRESS_CHARS
at the most.

Most prose has no number of a house, so that is looked for first.
"""

from __future__ import annotations

import re
from typing import Final

from filters.detectors.china import labels
from filters.detectors.china.anchored import NONE, OPEN, AnchoredScanner
from filters.detectors.china.data import China
from filters.finding import Finding

ADDRESS_CHARS: Final = (
    96  # the longest of 200 addresses of companies in registers has 61; our choice, half as many more
)
_ANCHOR_CHARS: Final = 8  # a word that announces one, with what may follow it

_DIGITS: Final = "0-9０-９"
_NUMERALS: Final = _DIGITS + "一二三四五六七八九十百零〇两"
# Where a number of a house ends; what it counts is looked at where the address is read.
_HOUSE: Final = re.compile(
    "[0-9０-９一二三四五六七八九十百零〇甲乙丙丁A-Za-zＡ-Ｚ东西南北中][号號弄栋棟幢座室楼樓户組组层層]"
)
# Words of sentences, in no name of a road or place worth the false alarms.
_NO_NAME: Final = "的了是我你您他她它们吗呢吧啊很请把被给在到就也这那没说与及或"
_NAME: Final = rf"[\u3400-\u9fffA-Za-zＡ-Ｚａ-ｚ{_DIGITS}·•]"
_CHAR: Final = rf"(?:(?![{_NO_NAME}]){_NAME})"

_NUMBER: Final = re.compile(
    rf"(?:第|[A-Za-zＡ-Ｚ甲乙丙丁东西南北中附东]{{0,2}})[{_NUMERALS}]{{1,6}}(?:[-－—之/][A-Za-z{_NUMERALS}]{{1,5}}){{0,3}}[A-Za-zＡ-Ｚ]?"
    r"(?:号大院|号院|号楼|號樓|号|號|弄|栋|棟|幢|座|单元|單元|室|房间|房|层|層|楼|樓|[Ff](?![A-Za-z])|组|組|户|队|巷|排|期|铺|店|门|鄰|邻|段|里)"
    r"|[A-Za-zＡ-Ｚ甲乙丙丁东西南北][座栋棟幢区]"
)
# A number of a room without a word behind it: 3号楼1203.
_ROOM: Final = re.compile(
    rf"[A-Za-zＡ-Ｚ]?[-－]?[{_DIGITS}]{{2,5}}(?:[-－][{_DIGITS}]{{1,5}}){{0,2}}(?![{_DIGITS}A-Za-z年月日元.:：%])"
)
_REGION: Final = "特别行政区 壮族自治区 自治区 自治州 自治县 自治旗 开发区 高新区 新区 地区 办事处 街道 省 市 区 區 县 縣 旗 盟 州 镇 鎮 乡 鄉 苏木"
_ROAD: Final = (
    "大道 大街 公路 国道 省道 路 街 巷 胡同 弄 道 里 坊 村 庄 屯 寨 社区 小区 花园 花苑 苑 公寓 大厦 大楼 广场 家园 园 城 府 湾 庭 居 轩 中心 科技园 工业园 园区 新村 宿舍 "
    "大学 学院 医院 酒店 商场 基地 楼 埔 圩 塘 段"
)
_MORE: Final = "大道|大街|路|街|巷|弄|道|里|村|小区|公寓|大厦|广场"  # 花园路 is a road, 园区大厦 a building
_PART: Final = re.compile(rf"{_CHAR}{{1,12}}?(?:({'|'.join(_REGION.split())})|({'|'.join(_ROAD.split())}))({_MORE})?")
_SUFFIX: Final = re.compile(rf"(?:{'|'.join(_REGION.split())})?")
# A building named behind its number: 100号世纪大厦; or an estate by any name that a number of a house follows: 8号翠湖3栋.
_BUILDING: Final = re.compile(
    rf"{_CHAR}{{2,8}}?(?:大厦|大楼|小区|花园|公寓|广场|花苑|家园|新村|苑|(?=(?<![{_NUMERALS}A-Za-z])[A-Za-z{_NUMERALS}]{{1,4}}(?:号楼|號樓|栋|棟|幢|座|单元|單元)))"
)
# What may still become a part, a number or a building: as many characters as the expressions above can take, and two more.
_OPEN_PART: Final = re.compile(
    rf"[ \u3000]?(?:{_CHAR}{{0,20}}|第?[A-Za-zＡ-Ｚ甲乙丙丁东西南北中附]{{0,2}}[A-Za-zＡ-Ｚ{_NUMERALS}\-－—之/]{{0,30}}{_CHAR}{{0,3}})"
)
_OPEN_BUILDING: Final = re.compile(rf"[ \u3000]?{_CHAR}{{0,16}}")
_LOOKAHEAD_CHARS: Final = 3  # 号 may become 号大院, 街 may become 街道
_SUFFIX_CHARS: Final = 6  # and 自治 or 特别行 a whole suffix
_LEAD: Final = re.compile("地址|住址|住所|家住|住在|寄到|寄往|送到|送至|送货至|籍贯|户籍")
_LEAD_STARTS: Final = frozenset("地住家寄送籍户") | {"送货"}
_LEAD_FIRSTS: Final = frozenset("地住家寄送籍户")
_LEAD_GAP: Final = re.compile(r"[:：是为在於于\s\"“]{0,4}")
_LEAD_GAP_CHARS: Final = 4
_ROOM_OF: Final = frozenset("楼樓元座栋棟幢层層号")

# Rule -> score.
SCORES: Final = {"place, road, number": 0.75, "behind a word: road, number": 0.6}


class Places:
    """Names of places by their first two characters, the longest first."""

    def __init__(self, china: China) -> None:
        self.by_pair: dict[str, tuple[str, ...]] = {}
        pairs: dict[str, list[str]] = {}
        for name in {*china.places, *china.divisions}:
            pairs.setdefault(name[:2], []).append(name)
        self.by_pair = {pair: tuple(sorted(names, key=lambda n: (-len(n), n))) for pair, names in pairs.items()}
        self.firsts = frozenset(pair[0] for pair in pairs)
        self.firsts_and_leads = self.firsts | _LEAD_FIRSTS
        self.chars_max = max(len(name) for names in pairs.values() for name in names)

    def end(self, text: str, at: int) -> int:
        """Where the longest name that starts at `at` ends; or NONE."""
        for name in self.by_pair.get(text[at : at + 2], ()):
            if text.startswith(name, at):
                return at + len(name)
        return NONE

    def grows(self, text: str, at: int) -> bool:
        """Whether the text from `at` to its end is the beginning of a longer name."""
        rest = text[at:]
        if len(rest) == 1:
            return rest in self.firsts
        return any(len(name) > len(rest) and name.startswith(rest) for name in self.by_pair.get(rest[:2], ()))


class AddressScanner(AnchoredScanner):
    """Addresses, from a place or from a word that announces one."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self._places = places
        self.foreign: frozenset[str] = places.firsts_and_leads

    def _next(self, text: str, view: bytes, at: int, final: bool) -> int:
        size = len(text)
        if view.find(b"\x02", at) < 0:
            return NONE
        where = at
        while at < size:
            # Only what stands shortly before a number of a house can be an address; and what has not been followed by enough yet.
            house = _HOUSE.search(text, where)
            if house is None and final:
                return NONE
            stop = size if house is None else house.end() - 1
            anchor = self._anchor(text, max(at, stop - ADDRESS_CHARS - _ANCHOR_CHARS), stop, final)
            if anchor != NONE:
                return anchor
            at = where = stop
        return NONE

    def _anchor(self, text: str, start: int, stop: int, final: bool) -> int:
        """The first name of a place or word that announces an address, from `start` to `stop`; or NONE.

        The end of a text that goes on counts as a name where it could become one.
        """
        places = self._places
        by_pair = places.by_pair
        lead = _LEAD.search(text, start, min(len(text), stop + 2))
        limit = min(stop, lead.start()) if lead is not None else stop
        tail = len(text) if final else len(text) - places.chars_max
        firsts = places.firsts
        for place in range(start, limit):
            if text[place] not in firsts:
                continue
            if (text[place : place + 2] in by_pair and places.end(text, place) != NONE) or (
                place > tail and places.grows(text, place)
            ):
                return place
        return lead.start() if lead is not None and lead.start() < stop else NONE

    def _judge(self, text: str, view: bytes, anchor: int, final: bool) -> Finding | int:
        size = len(text)
        lead = _LEAD.match(text, anchor)
        if lead is None:
            if not final and self._places.grows(text, anchor):
                return OPEN
            start = anchor
            at = self._places.end(text, anchor)
            if not final and size - at < _SUFFIX_CHARS:
                return OPEN
            suffix = _SUFFIX.match(text, at)
            at = at if suffix is None else suffix.end()
            rule = "place, road, number"
        else:
            gap = _LEAD_GAP.match(text, lead.end())
            at = start = lead.end() if gap is None else gap.end()
            if not final and start == size and start < lead.end() + _LEAD_GAP_CHARS:
                return OPEN
            rule = "behind a word: road, number"
        end = _read(text, start, at, final)
        if end < 0:
            return end
        if _HOUSE.search(text, start, end) is None:
            return NONE
        left = labels.before(text, start)
        score = labels.score(labels.ADDRESS, SCORES[rule], left)
        return Finding(labels.ADDRESS, start, end, score)

    def _hold(self, text: str, view: bytes, at: int) -> int:
        size = len(text)
        low = max(at, size - self._places.chars_max)
        if view.find(b"\x02", low) < 0:
            return size
        firsts = self.foreign
        for start in range(low, size):
            if text[start] in firsts and (self._places.grows(text, start) or text[start:] in _LEAD_STARTS):
                return start
        return size


def _read(text: str, start: int, at: int, final: bool) -> int:
    """The end of the address whose parts go on at `at`; or OPEN or NONE."""
    size = len(text)
    limit = min(size, start + ADDRESS_CHARS)
    grows = not final and size < start + ADDRESS_CHARS
    if grows and at >= limit:
        return OPEN
    end = NONE
    road = False
    last = ""
    while at < limit:
        inner = _skip_blank(text, at, limit)
        number = building = False
        part: re.Match[str] | None = None
        if road:
            part = _NUMBER.match(text, inner, limit)
            if part is None and last in _ROOM_OF and inner == at:
                part = _ROOM.match(text, inner, limit)
            number = part is not None
            if part is None and last:
                part = _BUILDING.match(text, inner, limit)
                building = part is not None
                if grows and part is None and _OPEN_BUILDING.fullmatch(text, at, size) is not None:
                    return OPEN
        if part is None:
            part = _PART.match(text, inner, limit)
        if grows and (part is None or size - part.end() < _LOOKAHEAD_CHARS) and _OPEN_PART.fullmatch(text, at, size):
            return OPEN
        if part is None:
            break
        at = part.end()
        last = text[at - 1] if number else ""
        if number or building:
            end = at
        else:
            road = road or part[2] is not None or part[3] is not None
    return end


def _skip_blank(text: str, at: int, limit: int) -> int:
    return at + 1 if at < limit and text[at] in " \u3000" else at
