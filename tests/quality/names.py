"""`python -m tests.quality.names`: how well people, places and organizations are found, by set and mode.

A label is found when a finding of its type overlaps it. Sets: sentences of presidio-evaluator's recipe, seeded
(english.py); natural news, comments and tweets (data/names-*.txt, with their licenses in data/NOTICE.names); Chinese
sentences made here of common names and places; and text without any name, where every finding is a false alarm.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from filters.names import NameFinder
from filters.segments import Segmenter
from tests.quality import english
from tests.quality.score import Finder, Sample, Score, Span, score, show, table

DATA: Final = Path(__file__).parent / "data"
JUDGED: Final = ("PERSON", "LOCATION", "ORGANIZATION")
NATURAL: Final = ("news", "comments", "tweets")
_TYPES: Final = {"P": "PERSON", "L": "LOCATION", "O": "ORGANIZATION"}
_MARK: Final = re.compile(r"\[([PLOX]):([^\[\]]+)\]")

# The most common surnames, and given names of two centuries, as anybody would list them; written for this file.
_SURNAMES: Final = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许邓冯韩曹曾彭萧蔡潘田董袁于余叶蒋杜苏魏程吕丁沈任姚卢傅钟姜崔谭廖范汪陆金石戴贾韦夏邱方侯邹熊孟秦白江阎薛尹段雷黎史龙陶贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
_GIVEN: Final = [
    "伟",
    "芳",
    "娜",
    "敏",
    "静",
    "丽",
    "强",
    "磊",
    "军",
    "洋",
    "勇",
    "艳",
    "杰",
    "娟",
    "涛",
    "明",
    "超",
    "秀英",
    "霞",
    "平",
    "刚",
    "桂英",
    "建国",
    "志强",
    "海燕",
    "晓明",
    "丽华",
    "国庆",
    "文博",
    "子涵",
    "浩然",
    "雨桐",
    "思远",
    "欣怡",
    "俊杰",
    "佳怡",
    "宇航",
    "梓萱",
    "天佑",
    "雅婷",
    "立新",
    "春梅",
    "玉兰",
    "德华",
    "学友",
    "小红",
    "振宇",
    "嘉豪",
    "诗涵",
    "一鸣",
]
_PLACES: Final = [
    "北京",
    "上海",
    "广州",
    "深圳",
    "杭州",
    "成都",
    "武汉",
    "南京",
    "西安",
    "重庆",
    "苏州",
    "天津",
    "青岛",
    "长沙",
    "郑州",
    "沈阳",
    "昆明",
    "哈尔滨",
    "厦门",
    "浙江省",
    "广东省",
    "四川省",
    "北京市朝阳区",
    "上海市浦东新区",
    "广州市天河区",
    "深圳市南山区",
    "杭州市西湖区",
    "成都市武侯区",
    "日本",
    "美国",
    "英国",
    "法国",
    "德国",
]
_CHINESE: Final = (
    "我叫{P}，住在{L}，想咨询一下贷款的事情。", "请帮我给{P}写一封邮件，通知他下周一去{L}开会。", "{P}昨天从{L}出发，今天下午到达{L}。",
    "客户{P}反映订单一直没有发货，地址在{L}。", "会议由{P}主持，{P}和{P}参加了讨论。", "{P}说：“我明天不去公司了。”",
    "据报道，{P}已经辞去在{L}的职务。", "老师，{P}同学今天请假，因为他要回{L}。", "把合同发给{P}，抄送{P}。", "我朋友{P}在{L}开了一家餐厅，味道不错。",
    "患者{P}，男，45岁，{L}人，因头痛入院。", "收件人：{P}，收货地址：{L}。", "{P}你好，你的快递已经到{L}了。", "昨晚和{P}在{L}看了一场电影。",
    "请问{P}的电话是多少？", "本周天气很好，适合出去走走。", "请把下面这段话翻译成英文，并检查语法。",
)  # fmt: skip


def marked(line: str) -> Sample:
    """A sample from a line with marks such as `[P:Maria Novak]`."""
    text, at = "", 0
    labels: list[Span] = []
    ignored: list[Span] = []
    for match in _MARK.finditer(line):
        text += line[at : match.start()]
        end = len(text) + len(match[2])
        kind = _TYPES.get(match[1])
        (ignored if kind is None else labels).append(Span(kind or "", len(text), end))
        text += match[2]
        at = match.end()
    return Sample(text + line[at:], tuple(labels), tuple(ignored))


def natural(name: str) -> list[Sample]:
    """The samples of data/names-NAME.txt."""
    lines = (DATA / f"names-{name}.txt").read_text("utf-8").splitlines()
    return [marked(line) for line in lines if line and not line.startswith("#")]


def chinese(count: int, seed: int = 8) -> list[Sample]:
    """Chinese sentences about people and places."""
    rng = random.Random(seed)
    samples: list[Sample] = []
    for _ in range(count):
        line = rng.choice(_CHINESE)
        while "{" in line:
            name = rng.choice(_SURNAMES) + rng.choice(_GIVEN)
            line = line.replace("{P}", f"[P:{name}]", 1).replace("{L}", f"[L:{rng.choice(_PLACES)}]", 1)
        samples.append(marked(line))
    return samples


def finder(names: NameFinder) -> Finder:
    """A finder over whole texts: segments as the gateway cuts them."""

    def find(text: str) -> list[Span]:
        segments = Segmenter().cut(text, 0, final=True)
        found = names.find([segment.text for segment in segments])
        return [
            Span(one.entity, segment.start + one.start, segment.start + one.end)
            for segment, findings in zip(segments, found, strict=True)
            for one in findings
            if segment.start + one.start < segment.before
        ]

    return find


def measure(names: NameFinder, count: int = 1500) -> dict[str, Score]:
    """The score on every set that can be had here."""
    find = finder(names)
    scores = {name: score(natural(name), find, JUDGED) for name in (*NATURAL, "plain")}
    scores["chinese"] = score(chinese(count // 3), find, ("PERSON", "LOCATION"))
    if english.data() is not None:
        scores["synthetic"] = score(english.samples(count), find, JUDGED)
    return scores


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modes", nargs="*", default=["fast", "thorough"])
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--errors", default="", help="a set whose errors are listed")
    args = parser.parse_args(argv)
    for mode in args.modes:
        for name, result in measure(NameFinder.load(mode), args.count).items():
            print(table(result, f"{mode}, {name}"))
            if name == args.errors:
                for error in result.errors:
                    print("   ", show(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
