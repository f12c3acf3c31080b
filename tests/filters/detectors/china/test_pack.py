"""What the pack finds and what it leaves, by entity; how sure it is; and that cuts change nothing (L3)."""

from __future__ import annotations

import datetime
import random
import uuid
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import Engine
from filters.detectors.china import addresses, labels
from filters.detectors.china.pack import ChinaPack
from filters.finding import Action, Finding, Rules
from filters.sieve import HELD_CHARS_MAX
from filters.view import END, fold

COUNTS = 0.4
RULES = Rules(default=Action.REPORT, min_score=0.0)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine((ChinaPack(),), {"prompt": (), "answer": ()})


def found(engine: Engine, text: str, least: float = COUNTS) -> list[tuple[str, str]]:
    return [(f.entity, text[f.start : f.end]) for f in engine.find(text) if f.score >= least]


# Check digits, written from the standards a second time ------------------------------------------------------------------


def resident(payload: str) -> str:
    return payload + "10X98765432"[sum(int(d) * (1 << (17 - i)) for i, d in enumerate(payload)) % 11]


def luhn(payload: str) -> str:
    for check in "0123456789":
        doubled = (int(d) * (2 if i % 2 else 1) for i, d in enumerate(reversed(payload + check)))
        if sum(n // 10 + n % 10 for n in doubled) % 10 == 0:
            return payload + check
    raise AssertionError


def organization(body: str) -> str:
    values = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    rest = 11 - sum(w * values.index(c) for w, c in zip((3, 7, 9, 10, 5, 8, 4, 2), body, strict=True)) % 11
    return body + {10: "X", 11: "0"}.get(rest, str(rest))


def uscc(payload: str) -> str:
    letters = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    total = sum(letters.index(c) * 3**i for i, c in enumerate(payload))
    return payload + letters[-total % 31]


def hong_kong(head: str) -> str:
    body = head.rjust(8)
    total = sum((9 - i) * (36 if c == " " else int(c, 36)) for i, c in enumerate(body))
    return head + f"({'0123456789A'[-total % 11]})"


def taiwan(head: str) -> str:
    first = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(head[0]) + 10
    digits = [first // 10, first % 10, *map(int, head[1:])]
    return head + str(-sum(w * d for w, d in zip((1, 9, 8, 7, 6, 5, 4, 3, 2, 1), digits, strict=True)) % 10)


ID = resident("11010519491231002")
CARD = luhn("622202123456789012")
CODE = uscc("91110108" + organization("MA01KPC0"))
TW = taiwan("A12345678")
HK = hong_kong("A123456")
ADDRESS = "浙江省杭州市西湖区文三路478号翠湖名邸3幢2单元501室"


def test_the_second_writing_of_the_standards_agrees_with_published_numbers() -> None:
    assert (ID, HK, TW) == ("11010519491231002X", "A123456(3)", "A123456789")


POSITIVE = [
    pytest.param(f"身份证号{ID}。", labels.RESIDENT, ID, id="resident beside Chinese"),
    pytest.param(ID.lower(), labels.RESIDENT, ID.lower(), id="resident with a small x"),
    pytest.param("我：１１０１０５１９４９１２３１００２Ｘ", labels.RESIDENT, "１１０１０５１９４９１２３１００２Ｘ", id="resident full-width"),
    pytest.param(f"{ID[:6]} {ID[6:14]} {ID[14:]}", labels.RESIDENT, f"{ID[:6]} {ID[6:14]} {ID[14:]}", id="resident in groups"),
    pytest.param(f"{ID[:6]}-{ID[6:14]}-{ID[14:]}", labels.RESIDENT, f"{ID[:6]}-{ID[6:14]}-{ID[14:]}", id="resident with hyphens"),
    pytest.param("1101051949\u200b1231002X", labels.RESIDENT, "1101051949\u200b1231002X", id="resident with a zero-width space"),
    pytest.param("老身份证110105491231002", labels.RESIDENT, "110105491231002", id="resident of 15 digits"),
    pytest.param("打13812345678找我", labels.MOBILE, "13812345678", id="mobile"),
    pytest.param("138 1234 5678", labels.MOBILE, "138 1234 5678", id="mobile in groups"),
    pytest.param("139-1234-5678/13812345678", labels.MOBILE, "13812345678", id="mobile behind a slash"),
    pytest.param("+86 138 1234 5678", labels.MOBILE, "+86 138 1234 5678", id="mobile with country code"),
    pytest.param("(+86)13812345678", labels.MOBILE, "(+86)13812345678", id="mobile with country code in parentheses"),
    pytest.param("008613812345678", labels.MOBILE, "008613812345678", id="mobile dialled from abroad"),
    pytest.param("tel13812345678", labels.MOBILE, "13812345678", id="mobile behind a word"),
    pytest.param("138\u200b12345678", labels.MOBILE, "138\u200b12345678", id="mobile with a zero-width space"),
    pytest.param("010-88888888", labels.LANDLINE, "010-88888888", id="landline"),
    pytest.param("（０１０）８８８８－８８８８", labels.LANDLINE, "（０１０）８８８８－８８８８", id="landline full-width"),
    pytest.param("+86 10 8888 8888", labels.LANDLINE, "+86 10 8888 8888", id="landline with country code"),
    pytest.param("0571-87654321-801", labels.LANDLINE, "0571-87654321-801", id="landline with extension"),
    pytest.param("400-820-8820", labels.LANDLINE, "400-820-8820", id="service number"),
    pytest.param("电话88881234", labels.LANDLINE, "88881234", id="local number in context"),
    pytest.param("护照E12345678", labels.PASSPORT, "E12345678", id="passport"),
    pytest.param("护照号码：EA1234567", labels.PASSPORT, "EA1234567", id="passport since 2017"),
    pytest.param("港澳通行证C12345678", labels.PERMIT, "C12345678", id="permit"),
    pytest.param("回乡证H1234567890", labels.PERMIT, "H1234567890", id="home return permit"),
    pytest.param("永久居留证 " + resident("93111519900307123"), labels.PERMIT, resident("93111519900307123"), id="residence of a foreigner"),
    pytest.param(CARD, labels.CARD, CARD, id="card of 19 digits"),
    pytest.param("卡号" + CARD[:4] + " " + CARD[4:8] + " " + CARD[8:12] + " " + CARD[12:16] + " " + CARD[16:], labels.CARD, " ".join((CARD[:4], CARD[4:8], CARD[8:12], CARD[12:16], CARD[16:])), id="card in groups"),
    pytest.param(CODE, labels.USCC, CODE, id="credit code"),
    pytest.param(f"税号{CODE.lower()}", labels.USCC, CODE.lower(), id="credit code in small letters"),
    pytest.param("组织机构代码" + organization("MA01KPC0"), labels.USCC, organization("MA01KPC0"), id="organization code"),
    pytest.param("京A12345", labels.PLATE, "京A12345", id="plate"),
    pytest.param("车牌沪A·D1234学", labels.PLATE, "沪A·D1234", id="plate with a point"),
    pytest.param("粤BD12345停在", labels.PLATE, "粤BD12345", id="plate of an electric car"),
    pytest.param("粤Z1234港", labels.PLATE, "粤Z1234港", id="plate for Hong Kong"),
    pytest.param("京Ａ１２３４警", labels.PLATE, "京Ａ１２３４警", id="plate of the police, full-width"),
    pytest.param(HK, labels.HONG_KONG, HK, id="Hong Kong"),
    pytest.param("香港身份證A１２３４５６（３）", labels.HONG_KONG, "A１２３４５６（３）", id="Hong Kong full-width"),
    pytest.param("HKID A1234563", labels.HONG_KONG, "A1234563", id="Hong Kong without parentheses"),
    pytest.param("澳门身份证1234567(8)", labels.MACAU, "1234567(8)", id="Macau"),
    pytest.param("澳門身份證 5/123456/7", labels.MACAU, "5/123456/7", id="Macau with slashes"),
    pytest.param(f"身分證{TW}", labels.TAIWAN, TW, id="Taiwan"),
    pytest.param(f"居留證號 {taiwan('A80000001')}", labels.TAIWAN, taiwan("A80000001"), id="Taiwan, resident"),
    pytest.param(f"寄到{ADDRESS}，谢谢", labels.ADDRESS, ADDRESS, id="address"),
    pytest.param("内蒙古自治区呼和浩特市新城区成吉思汗大街959号A座26层", labels.ADDRESS, "内蒙古自治区呼和浩特市新城区成吉思汗大街959号A座26层", id="address with a long province"),
    pytest.param("家住幸福路12号3栋", labels.ADDRESS, "幸福路12号3栋", id="address behind a word"),
    pytest.param("微信：lily_2020，", labels.WECHAT, "lily_2020", id="WeChat"),
    pytest.param("加我微信号weixiaobao", labels.WECHAT, "weixiaobao", id="WeChat without digits"),
    pytest.param("wxid_abcdefgh1234ij", labels.WECHAT, "wxid_abcdefgh1234ij", id="WeChat's own number"),
    pytest.param("QQ：123456789", labels.QQ, "123456789", id="QQ"),
    pytest.param("出生日期：1990年3月7日", labels.BIRTHDATE, "1990年3月7日", id="birthday"),
    pytest.param("军官证 军字第1234567号", labels.MILITARY, "1234567号", id="military"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "entity", "value"), POSITIVE)
def test_found(engine: Engine, text: str, entity: str, value: str) -> None:
    assert (entity, value) in found(engine, text)


NEGATIVE = [
    pytest.param(ID[:17] + "1", id="resident with a wrong check character"),
    pytest.param(f"身份证{ID[:17]}1", id="the same behind a word"),
    pytest.param(resident("11010519491331002"), id="resident born in month 13"),
    pytest.param(resident("99010519491231002"), id="resident from nowhere"),
    pytest.param("1" + ID, id="resident within a longer number"),
    pytest.param("110105491231002", id="resident of 15 digits without a word"),
    pytest.param("1380013800012345", id="mobile within a longer number"),
    pytest.param("13812345678.25", id="decimal"),
    pytest.param("0.13812345678", id="fraction"),
    pytest.param("130.84920075", id="coordinate"),
    pytest.param("+13812345678", id="number of another country"),
    pytest.param("order_id=13812345678", id="order"),
    pytest.param("订单号：13812345678", id="order in Chinese"),
    pytest.param("13812345678元", id="amount"),
    pytest.param("img_13812345678.jpg", id="part of a name"),
    pytest.param("a13812345678", id="behind a letter"),
    pytest.param("12012345678", id="prefix of nobody"),
    pytest.param("1712345678901", id="milliseconds"),
    pytest.param("6171 8619 8259 9893 4002 0914 2441 9467", id="rows of a table"),
    pytest.param("E12345678 G12345678 C12345678", id="forms without a word"),
    pytest.param(CARD[:-1] + str((int(CARD[-1]) + 1) % 10), id="card with a wrong check digit"),
    pytest.param(luhn("100000123456789012"), id="row id that passes the check of cards"),
    pytest.param(CODE[:-1] + ("A" if CODE[-1] != "A" else "B"), id="credit code with a wrong check character"),
    pytest.param("最新A12345", id="word before a model"),
    pytest.param("阿里云A12345", id="cloud before a model"),
    pytest.param("京A1234567890", id="plate too long"),
    pytest.param("A123456(4)", id="Hong Kong with a wrong check digit"),
    pytest.param("A123456780", id="Taiwan with a wrong check digit"),
    pytest.param("1234567(8)", id="Macau without a word"),
    pytest.param("北京3号线和上海10号线", id="subway"),
    pytest.param("北京市和上海市的经济", id="places"),
    pytest.param("我在杭州路过3号楼的时候", id="passing by"),
    pytest.param("微信小程序weixinapi开发", id="WeChat's programs"),
    pytest.param("vx = velocity_x1", id="variable"),
    pytest.param("QQ 12345678@qq.com", id="mail address"),
    pytest.param("123e4567-e89b-12d3-a456-426614174000", id="UUID"),
    pytest.param("10.0.19041.1234 2024-03-07 10:22:33.123456", id="versions and times"),
]  # fmt: skip


@pytest.mark.parametrize("text", NEGATIVE)
def test_left_alone(engine: Engine, text: str) -> None:
    assert found(engine, text) == []


@pytest.mark.parametrize(
    ("weak", "named"),
    [("E12345678", "护照E12345678"), ("C12345678", "通行证C12345678"), ("1234567(8)", "澳门身份证1234567(8)"), ("A1234563", "HKID A1234563")],
)  # fmt: skip
def test_a_weak_form_counts_only_behind_its_word(engine: Engine, weak: str, named: str) -> None:
    assert [f.score < COUNTS for f in engine.find(weak)] == [True]
    assert any(f.score >= COUNTS for f in engine.find(named))


def test_certain_numbers_are_certain_whatever_stands_before(engine: Engine) -> None:
    for value in (ID, CARD, CODE):
        assert [f.score for f in engine.find(f"订单号：{value}") if f.score >= COUNTS] == [1.0]


# Generated numbers --------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_valid_numbers_are_found_beside_anything(engine: Engine, seed: int) -> None:
    rng = random.Random(seed)

    def digits(count: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(count))

    born = datetime.date(1930, 1, 1) + datetime.timedelta(days=rng.randrange(34_000))
    kinds: Sequence[tuple[str, str]] = (
        (
            labels.RESIDENT,
            resident(rng.choice(("110105", "330106", "440304", "810000")) + f"{born:%Y%m%d}" + digits(3)),
        ),
        (labels.MOBILE, rng.choice(("130", "159", "166", "177", "188", "199")) + "1" + digits(6) + "2"),
        (labels.CARD, luhn("622848" + digits(12))),
        (labels.USCC, uscc("91330106" + organization("MA" + digits(6)))),
        (labels.HONG_KONG, hong_kong(rng.choice("ABCKZ") + digits(6))),
        (labels.TAIWAN, taiwan(rng.choice("AFHIOW") + rng.choice("1289") + digits(7))),
    )
    for entity, value in kinds:
        before, after = (
            rng.choice(("", "值", "，", " ", "(", "“", "：")),
            rng.choice(("", "的", "。", " ", ")", ",", "\n")),
        )
        assert (entity, value) in found(engine, before + value + after), entity


NOISE: dict[str, Callable[[random.Random], str]] = {
    "order numbers": lambda r: f"2024{r.randrange(1, 13):02}{r.randrange(1, 29):02}{r.randrange(10**10):010}",
    "row ids": lambda r: f"1{r.randrange(10**18):018}",
    "milliseconds": lambda r: f"17{r.randrange(10**11):011}",
    "nanoseconds": lambda r: f"17{r.randrange(10**17):017}",
    "17 digits": lambda r: f"{r.randrange(10**17):017}",
    "18 digits": lambda r: f"{r.randrange(10**17, 10**18)}",
    "UUIDs": lambda r: str(uuid.UUID(int=r.getrandbits(128))),
    "digests": lambda r: f"{r.getrandbits(256):064x}",
    "versions": lambda r: f"{r.randrange(20)}.{r.randrange(30)}.{r.randrange(9999)}.{r.randrange(99999)}",
    "coordinates": lambda r: f"{r.uniform(18, 54):.8f}, {r.uniform(73, 135):.8f}",
    "tables": lambda r: " ".join(f"{r.randrange(10 ** r.randrange(1, 6))}" for _ in range(8)),
    "counters": lambda r: f"seq={r.randrange(10**11)} bytes={r.randrange(10**11)} took {r.randrange(9999)}ms",
}


def test_of_ten_thousand_other_numbers_hardly_one_is_taken_for_a_persons(engine: Engine) -> None:
    rng = random.Random(7)
    texts = [f"{rng.choice(('', 'log ', '处理'))}{make(rng)}" for make in NOISE.values() for _ in range(800)]
    alarms = [text for text in texts if found(engine, text)]
    assert len(alarms) <= len(texts) // 500, alarms[:5]


# L3 -----------------------------------------------------------------------------------------------------------------------

PIECES = [
    *(p.values[0] for p in POSITIVE), *(p.values[0] for p in NEGATIVE),
    "北京", "上海市", "路", "号", "12", "1203", "世纪大厦", "微信", "wx", "wxid_", "QQ", "：", "，", "。", " ", "特别行政区", "黔西", "南", "住", "送货", "至", "字第",
    "123456", "1990年", "3月", "京", "·", "A12345", "出生", "广场", "楼", "街", "道", "的", "V信", "-", "ID", "号大院", "室", "(", "7)", "1" * 300, "北京" * 60, "路1号" * 40,
]  # fmt: skip


def in_pieces(engine: Engine, text: str, cuts: Sequence[int]) -> list[Finding]:
    sieve = engine.sieve(RULES, direction="answer")
    listed: list[Finding] = []
    at = 0
    for cut in [*cuts, len(text)]:
        listed += sieve.feed(text[at:cut]).findings
        at = cut
    return sorted([*listed, *sieve.close().findings])


@settings(max_examples=250, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=9), st.data())
def test_l3_cuts_change_nothing(engine: Engine, pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    assert in_pieces(engine, text, cuts) == sorted(engine.find(text))


@pytest.mark.parametrize("text", [f"前文，{p.values[0]}后文。" for p in POSITIVE])
def test_l3_every_cut_and_one_character_at_a_time(engine: Engine, text: str) -> None:
    whole = sorted(engine.find(text))
    assert whole
    assert in_pieces(engine, text, range(1, len(text))) == whole
    for cut in range(1, len(text)):
        assert in_pieces(engine, text, [cut]) == whole


def test_a_copy_of_a_scanner_stands_where_the_first_one_does() -> None:
    import copy

    for scanner in ChinaPack().scanners():
        text = "我的微信：lily_2020，京A12345，A123456(3)，杭州市文三路12号"
        scanner.scan(text[:8], fold(text[:8]), False)
        other = copy.copy(scanner)
        view = fold(text) + END
        assert scanner.scan(text, view, True) == other.scan(text, view, True)


# L9 -----------------------------------------------------------------------------------------------------------------------


class _Counting(addresses.AddressScanner):
    judged = 0

    def _judge(self, text: str, view: bytes, anchor: int, final: bool) -> Finding | int:
        type(self).judged += 1
        return super()._judge(text, view, anchor, final)


@pytest.mark.parametrize("unit", ["北京", "北京路1号", "杭州1号", "地址", "微信qq", "京A", "A123456(", "13812345678 "])
def test_l9_work_grows_with_the_text_and_the_hold_is_bounded(unit: str, engine: Engine) -> None:
    places = next(s for s in ChinaPack().scanners() if isinstance(s, addresses.AddressScanner))._places
    judged = []
    for count in (500, 1000):
        text = unit * count
        _Counting.judged = 0
        _Counting(places).scan(text, fold(text) + END, True)
        judged.append(_Counting.judged)
    assert judged[1] <= 2.1 * judged[0] + 2
    sieve = engine.sieve(RULES, direction="answer")
    for _ in range(1000):
        sieve.feed(unit)
        assert sieve.held_chars < HELD_CHARS_MAX // 4
