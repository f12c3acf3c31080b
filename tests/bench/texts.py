"""Texts of several kinds, each different from every other: what a filter is fast on depends on what it has seen.

A text is named by (kind, seed, number, size), and the same name always gives the same text, so that the load generator
can tell what an endpoint in another process must have answered.
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.sample.text import Dice, table

MIX: Final = "mix"  # one of the kinds after the other

# Everyday words; sentences are made of them at random, which no pattern minds.
_CHINESE: Final = tuple(  # two characters each
    text[at : at + 2]
    for text in (
        "我们他们今天明天昨天公司产品服务客户问题可以需要希望知道认为开始结束工作学习时间地方城市国家世界",
        "中国北京上海经济市场技术数据模型系统用户信息安全管理发展研究结果方法报告会议合同价格质量如果因为所以",
        "但是而且已经正在将来非常比较特别一般重要不同新的很多一些所有这个那个这些请问谢谢帮助介绍说明分析总结",
        "翻译写作文章段落句子词语语言孩子老师学生医生医院学校家庭朋友天气春天夏天秋天冬天早上晚上吃饭喝水旅行",
        "飞机火车汽车房子电脑手机网络软件硬件程序代码测试运行速度提高降低增加减少支持反对同意决定选择计划目标",
    )
    for at in range(0, len(text), 2)
)
_GIVEN: Final = ["anna", "omar", "li.wei", "jose", "priya", "tom", "greta", "yuki", "ivan", "fatima", "noah", "chloe"]
_FAMILY: Final = ["weber", "haddad", "chen", "garcia", "patel", "baker", "lind", "sato", "petrov", "khan", "dubois"]
_DOMAINS: Final = ["example.com", "example.org", "mail.example.net", "corp.example.com", "shop.example.org"]
_TYPES: Final = ["int", "str", "float", "bytes", "list[int]", "dict[str, int]", "Path", "None"]

# Tokens as models write them: a word with the space before it, long words in pieces, Chinese by one or two characters.
_TOKEN: Final = re.compile(r"[\u4e00-\u9fff]{1,2}|\s*[^\s\u4e00-\u9fff]{1,6}|\s+")


@dataclass(frozen=True, slots=True)
class Text:
    """A text, and the values in it that the bench's policy masks."""

    text: str
    planted: tuple[str, ...] = ()


def _prose(rng: random.Random, chars: int) -> Text:
    tokens = table().write(Dice(rng.getrandbits(62)), chars // 5 + 8, whole=False)
    return Text("".join(tokens)[:chars])


def _base64(rng: random.Random, chars: int) -> Text:
    return Text(base64.b64encode(rng.randbytes(chars * 3 // 4 + 3)).decode()[:chars])


def _uuid(rng: random.Random) -> str:
    bits = f"{rng.getrandbits(128):032x}"
    return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"


def _uuids(rng: random.Random, chars: int) -> Text:
    words = table().vocabulary
    rows = [
        f'{{"id":"{_uuid(rng)}","parent":"{_uuid(rng)}","name":"{rng.choice(words)}","count":{rng.randrange(1000)}}}'
        for _ in range(chars // 118 + 1)
    ]
    return Text("[" + ",\n".join(rows)[: chars - 2] + "]")


def _csv(rng: random.Random, chars: int) -> Text:
    words = table().vocabulary
    rows = ["row,name,amount,share,day"]
    rows += [
        f"{number},{rng.choice(words)},{rng.random() * 5000:.2f},{rng.random():.4f},"
        f"{rng.randrange(2001, 2026)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"
        for number in range(chars // 34 + 2)
    ]
    return Text("\n".join(rows)[:chars])


def _code(rng: random.Random, chars: int) -> Text:
    names = [word.lower() for word in rng.sample(table().vocabulary, 200) if word.isalpha()]
    functions = []
    for _ in range(chars // 170 + 1):
        a, b, c, d = rng.choices(names, k=4)
        functions.append(
            f"def {a}_{b}(self, {c}: {rng.choice(_TYPES)}, *, {d}: int = {rng.randrange(512)}) -> {rng.choice(_TYPES)}:\n"
            f"    # the {b} of each {c}, see {a}.{d}\n"
            f'    if not {c} or self._{a}["{d}"] >= {rng.random():.3f}:\n'
            f'        raise {b.title()}Error(f"{{{c}!r}} has no {d}")\n'
            f"    return self.{b}[{c}] << {rng.randrange(16)}\n\n"
        )
    return Text("".join(functions)[:chars])


def _chinese(rng: random.Random, chars: int) -> Text:
    words = rng.choices(_CHINESE, k=chars // 2 + 1)
    for at in range(5, len(words), rng.randrange(6, 9)):
        words[at] += rng.choice("，，，。？")
    return Text("".join(words)[:chars])


def card(rng: random.Random) -> str:
    """A card number with the right check digit (ISO/IEC 7812-1, Luhn), in groups of four."""
    digits = [4, *(rng.randrange(10) for _ in range(14))]
    total = sum(digit if at % 2 else sum(divmod(2 * digit, 10)) for at, digit in enumerate(digits))
    text = "".join(map(str, [*digits, -total % 10]))
    return " ".join(text[at : at + 4] for at in range(0, 16, 4))


def _mail(rng: random.Random) -> str:
    return f"{rng.choice(_GIVEN)}.{rng.choice(_FAMILY)}{rng.randrange(10_000)}@{rng.choice(_DOMAINS)}"


def _phone(rng: random.Random) -> str:
    return f"({rng.choice([212, 415, 312, 617, 206])}) {rng.randrange(200, 999)}-{rng.randrange(10_000):04d}"


_CHAT: Final[list[tuple[str, Callable[[random.Random], str] | None, str]]] = [
    ("my card is ", card, ", please check it. "),
    ("write to ", _mail, " instead. "),
    ("you can call ", _phone, " after six. "),
    ("the server at ", lambda rng: f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}", " is down. "),
    ("see https://", lambda rng: f"{rng.choice(_DOMAINS)}/o/{rng.randrange(10**6)}", " for the order. "),
    ("I moved on ", lambda rng: f"{rng.randrange(1, 13):02d}/{rng.randrange(1, 29):02d}/2019", " and ask again. "),
]  # fmt: skip
_MASKED: Final = (card, _mail)


def _pii(rng: random.Random, chars: int) -> Text:
    """A chat where each clause holds something personal. It ends with a clause, so that no value is cut in two."""
    parts: list[str] = []
    planted: list[str] = []
    size = 0
    while size < chars:
        before, make, after = rng.choice(_CHAT)
        value = make(rng) if make is not None else ""
        if make in _MASKED:
            planted.append(value)
        clause = rng.choice(("Hello, ", "Also ", "Sorry, ", "And ", "Well, ")) + before + value + after
        parts.append(clause)
        size += len(clause)
    return Text("".join(parts).rstrip(), tuple(planted))


_MAKERS: Final[dict[str, Callable[[random.Random, int], Text]]] = {
    "prose": _prose,
    "base64": _base64,
    "uuids": _uuids,
    "csv": _csv,
    "code": _code,
    "chinese": _chinese,
    "pii": _pii,
}
KINDS: Final = tuple(_MAKERS)
CLEAN: Final = frozenset({"prose", "chinese"})  # no pattern of the bench's policy can match in these


def kind_of(kind: str, number: int) -> str:
    """The kind of the text with that number."""
    return KINDS[number % len(KINDS)] if kind == MIX else kind


def make(kind: str, seed: str, number: int, size_bytes: int) -> Text:
    """The text of that name, about `size_bytes` long in UTF-8."""
    chosen = kind_of(kind, number)
    rng = random.Random(f"{chosen}/{seed}/{number}/{size_bytes}")  # repeatable, nothing secret
    return _MAKERS[chosen](rng, max(size_bytes // 3 if chosen == "chinese" else size_bytes, 20))


def tokens(text: str) -> list[str]:
    """A text in the pieces a stream would bring; joined they are the text."""
    return _TOKEN.findall(text)


def quoted(text: str) -> bytes:
    """A text as a JSON string, characters beyond ASCII as they are (as providers write them)."""
    return json.dumps(text, ensure_ascii=False).encode()


__all__ = ["CLEAN", "KINDS", "MIX", "Text", "card", "kind_of", "make", "quoted", "tokens"]
