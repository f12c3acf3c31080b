"""Made-up Chinese identifiers, valid by their standards, in the ways people write them; and numbers that are none."""

from __future__ import annotations

import datetime
import random
from typing import Final

from tests.quality import checkdigits
from tests.quality.writing import Maker, Value, chars, digits, full_width, words

# GB/T 2260 division codes of districts and counties; 810000 to 830000 stand on residence permits for Hong Kong, Macau and Taiwan.
_AREAS: Final = words("""110101 110102 110105 110106 110108 110114 120101 120104 130102 130203 140105 150102 210102 210202 220102 230102
310101 310104 310105 310112 310115 320102 320106 320505 320583 330102 330106 330203 330782 340104 340826 350102 350203 350582 360102
370102 370202 371322 410102 410105 411503 420106 420111 421181 430102 430104 430521 440103 440106 440303 440304 440305 440306 441900
442000 450102 450981 460105 500103 500112 510104 510107 511324 520102 530102 530627 540102 610102 610113 620102 630102 640104 650102
810000 820000 830000""")
# Public mobile network prefixes in service (Ministry of Industry and Information Technology, 2024).
_MOBILE: Final = words("""130 131 132 133 134 135 136 137 138 139 145 147 149 150 151 152 153 155 156 157 158 159 162 165 166 167 170 171 172
173 175 176 177 178 180 181 182 183 184 185 186 187 188 189 190 191 192 193 195 196 197 198 199""")
_CITY_CODES: Final = ("010", "020", "021", "022", "023", "024", "025", "027", "028", "029", "0755", "0571", "0512", "0532", "0592", "0731", "0371", "0851", "0991", "0898")  # fmt: skip
# Issuer numbers of UnionPay debit and credit cards with the length of the whole number.
_BINS: Final = (("622202", 19), ("621226", 19), ("622848", 19), ("621700", 19), ("621661", 19), ("622260", 19), ("621799", 19), ("622588", 16), ("621483", 16), ("622155", 16), ("622908", 18), ("622521", 16), ("622622", 16), ("625965", 16), ("623058", 16), ("621462", 17), ("620058", 19))  # fmt: skip
_PROVINCES: Final = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_PLATE: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
_PLATE_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_SURNAMES: Final = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕"
_DOUBLE: Final = ("欧阳", "司马", "上官", "诸葛", "夏侯")
_GIVEN: Final = (
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华建国文志鹏飞雪梅婷玉兰凤洁梓涵浩宇轩欣怡思晨子豪雨泽嘉琪"
)
_PLACES: Final = (
    "北京市海淀区中关村大街", "上海市浦东新区世纪大道", "广东省深圳市南山区科技园南路", "浙江省杭州市西湖区文三路", "江苏省苏州市昆山市前进中路",
    "四川省成都市武侯区天府大道北段", "湖北省武汉市洪山区珞喻路", "陕西省西安市雁塔区小寨西路", "重庆市渝中区解放碑步行街", "福建省厦门市思明区湖滨南路",
    "山东省青岛市市南区香港中路", "湖南省长沙市岳麓区麓山南路", "河南省郑州市金水区花园路", "辽宁省大连市中山区人民路", "天津市南开区卫津路",
    "广西壮族自治区南宁市青秀区民族大道", "新疆维吾尔自治区乌鲁木齐市天山区解放北路", "内蒙古自治区呼和浩特市新城区成吉思汗大街", "云南省昆明市五华区翠湖南路", "广州市天河区体育西路",
)  # fmt: skip
_ESTATES: Final = ("阳光花园", "万科城市花园", "绿地世纪城", "翠湖名邸", "碧桂园", "金色家园")


def name(rng: random.Random) -> Value:
    """A person, whom another set is about."""
    surname = rng.choice(_DOUBLE) if rng.random() < 0.04 else rng.choice(_SURNAMES)
    return Value(surname + chars(rng, _GIVEN, rng.choice((1, 2, 2))), "PERSON", ignored=True)


def _resident(rng: random.Random) -> str:
    born = datetime.date(1948, 1, 1) + datetime.timedelta(days=rng.randrange(28_000))
    payload = rng.choice(_AREAS) + born.strftime("%Y%m%d") + digits(rng, 3)
    return payload + checkdigits.resident(payload)


def resident_plain(rng: random.Random) -> Value:
    """As a machine writes it."""
    return Value(_resident(rng), "CN_RESIDENT_ID")


def resident(rng: random.Random) -> Value:
    """As people write it: now and then in groups, full-width, or with a small x."""
    number = _resident(rng)
    roll = rng.random()
    if roll < 0.06:
        number = f"{number[:6]} {number[6:14]} {number[14:]}"
    elif roll < 0.09:
        number = f"{number[:6]}-{number[6:14]}-{number[14:]}"
    elif roll < 0.15:
        number = full_width(number)
    elif roll < 0.4:
        number = number.lower()
    return Value(number, "CN_RESIDENT_ID")


def mobile_plain(rng: random.Random) -> Value:
    """Eleven digits."""
    return Value(rng.choice(_MOBILE) + digits(rng, 8), "CN_MOBILE")


def mobile(rng: random.Random) -> Value:
    """With the separators and country codes that people use."""
    number = mobile_plain(rng).text
    a, b, c = number[:3], number[3:7], number[7:]
    forms = (f"{a} {b} {c}", f"{a}-{b}-{c}", f"+86{number}", f"+86 {number}", f"+86-{number}", f"86-{number}", f"0086{number}", f"(+86){number}", f"+86 {a} {b} {c}", full_width(number))  # fmt: skip
    return Value(number if rng.random() < 0.55 else rng.choice(forms), "CN_MOBILE")


def landline(rng: random.Random) -> Value:
    """Area code and seven or eight digits that begin with 2 to 8."""
    city = rng.choice(_CITY_CODES)
    number = rng.choice("2345678") + digits(rng, 7 if len(city) == 3 or rng.random() < 0.6 else 6)
    forms = (f"{city}-{number}", f"{city}-{number}", f"{city} {number}", f"（{city}）{number}", f"({city}) {number}", f"+86 {city[1:]} {number}", f"{city}-{number}转{digits(rng, 3)}", f"{city}-{number}-{digits(rng, 4)}", full_width(f"{city}-{number}"))  # fmt: skip
    return Value(rng.choice(forms), "CN_LANDLINE")


def card_plain(rng: random.Random) -> Value:
    """A UnionPay number of its bank's length."""
    bank, length = rng.choice(_BINS)
    payload = bank + digits(rng, length - 7)
    return Value(payload + checkdigits.luhn(payload), "CN_BANK_CARD")


def card(rng: random.Random) -> Value:
    """In fours, with hyphens or full-width about half of the time."""
    number = card_plain(rng).text
    fours = [number[at : at + 4] for at in range(0, len(number), 4)]
    roll = rng.random()
    if roll < 0.25:
        number = " ".join(fours)
    elif roll < 0.33:
        number = "-".join(fours)
    elif roll < 0.4:
        number = full_width(number)
    elif roll < 0.45:
        number = f"{number[:6]} {number[6:]}"
    return Value(number, "CN_BANK_CARD")


def uscc(rng: random.Random) -> Value:
    """Enterprises mostly (91), sole traders (92), institutions (12), associations (51)."""
    kind = rng.choice(("91", "91", "91", "92", "12", "51"))
    body = "MA" + chars(rng, checkdigits.USCC_ALPHABET, 6) if rng.random() < 0.6 else digits(rng, 8)
    tail = checkdigits.organisation(body)
    payload = kind + rng.choice(_AREAS[:-3]) + body + tail
    return Value(payload + checkdigits.uscc(payload), "CN_USCC")


def plate(rng: random.Random) -> Value:
    """GA 36-2018: blue, new energy (D or F first or last), police, trailer, and Guangdong's for Hong Kong and Macau."""
    head = rng.choice(_PROVINCES) + rng.choice(_PLATE_LETTERS[:12])
    five = chars(rng, _PLATE, 1) + digits(rng, 2) + chars(rng, _PLATE, 2)
    roll = rng.random()
    if roll < 0.2:
        five = rng.choice("DF") + rng.choice(_PLATE_LETTERS) + digits(rng, 4)
    elif roll < 0.25:
        five = digits(rng, 5) + rng.choice("DF")
    elif roll < 0.3:
        five = digits(rng, 4) + rng.choice("警学挂")
    elif roll < 0.33:
        head, five = "粤Z", digits(rng, 4) + rng.choice("港澳")
    return Value(head + rng.choice(("", "", "·", " ", "-")) + five, "CN_LICENSE_PLATE")


def hong_kong(rng: random.Random) -> Value:
    """One letter, rarely two, six digits and the check character, mostly in parentheses."""
    letters = chars(rng, "ABCDEFGHKMPRSVYZ", 1) if rng.random() < 0.9 else rng.choice(("WX", "XA", "EC"))
    figures = digits(rng, 6)
    check = checkdigits.hong_kong(letters, figures)
    return Value(letters + figures + rng.choice((f"({check})", f"({check})", f"（{check}）", check)), "HK_ID")


def macau(rng: random.Random) -> Value:
    """1, 5 or 7 and six digits; how the check digit comes about is not published, so any is as good."""
    figures = rng.choice("157") + digits(rng, 6)
    check = digits(rng, 1)
    return Value(
        rng.choice((f"{figures}({check})", f"{figures[0]}/{figures[1:]}/{check}", f"{figures}（{check}）")), "MO_ID"
    )


def taiwan(rng: random.Random) -> Value:
    """Nationals 1 and 2, residents 8 and 9."""
    letter = rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    figures = rng.choice("121289") + digits(rng, 7)
    return Value(letter + figures + checkdigits.taiwan(letter, figures), "TW_ID")


def passport(rng: random.Random) -> Value:
    """Ordinary E (since 2017 with a letter after it) and G; diplomatic, service and public affairs since 2011."""
    forms = ("E" + digits(rng, 8), "E" + chars(rng, "ABCDEFGHJK", 1) + digits(rng, 7), "G" + digits(rng, 8), rng.choice(("DE", "SE", "PE")) + digits(rng, 7))  # fmt: skip
    number = rng.choice(forms[:2]) if rng.random() < 0.6 else rng.choice(forms)
    return Value(number.lower() if rng.random() < 0.05 else number, "CN_PASSPORT")


def permit(rng: random.Random) -> Value:
    """To Hong Kong and Macau (C), from there (H, M), to Taiwan (L)."""
    forms = ("C" + digits(rng, 8), "C" + chars(rng, "ABCDEFGH", 1) + digits(rng, 7), rng.choice("HM") + digits(rng, 8), rng.choice("HM") + digits(rng, 10), "L" + digits(rng, 8))  # fmt: skip
    return Value(rng.choice(forms), "CN_TRAVEL_PERMIT")


def address(rng: random.Random) -> Value:
    """Division, road, number, and what stands behind it."""
    text = rng.choice(_PLACES) + f"{rng.randrange(1, 999)}号"
    roll = rng.random()
    if roll < 0.35:
        text += f"{rng.choice(_ESTATES)}{rng.randrange(1, 30)}栋{rng.randrange(1, 4)}单元{rng.randrange(101, 3305)}室"
    elif roll < 0.6:
        text += f"{rng.choice(_ESTATES)}{rng.randrange(1, 30)}号楼{rng.randrange(101, 3305)}"
    elif roll < 0.7:
        text += f"{rng.choice('ABCD')}座{rng.randrange(2, 40)}层"
    return Value(text, "CN_ADDRESS")


def wechat(rng: random.Random) -> Value:
    """A letter and 5 to 19 letters, digits, hyphens or underscores; or the number that the service gives."""
    if rng.random() < 0.25:
        return Value("wxid_" + chars(rng, "abcdefghijklmnopqrstuvwxyz0123456789", 14), "CN_WECHAT_ID")
    word = rng.choice(("lily", "xiaoming", "sunny", "zhang", "coolcat", "leo", "amy", "weiwei", "ocean", "daxiong"))
    return Value(word + rng.choice(("_", "-", "", "")) + digits(rng, rng.choice((3, 4, 6))), "CN_WECHAT_ID")


def qq(rng: random.Random) -> Value:
    """Five to eleven digits, not from 0."""
    return Value(rng.choice("123456789") + digits(rng, rng.choice((7, 8, 8, 9))), "CN_QQ")


# Numbers that are none ------------------------------------------------------------------------------------------------


def _is_resident(number: str) -> bool:
    return len(number) == 18 and number[:17].isdigit() and checkdigits.resident(number[:17]) == number[17].upper()


def _day(rng: random.Random) -> str:
    return (datetime.date(2021, 1, 1) + datetime.timedelta(days=rng.randrange(1500))).strftime("%Y%m%d")


def order(rng: random.Random) -> Value:
    """Order numbers of shops and of payment services."""
    return Value(rng.choice((_day(rng) + "220014" + digits(rng, 14), "4200001" + digits(rng, 3) + _day(rng) + digits(rng, 10), "DD" + _day(rng) + digits(rng, 6), rng.choice("23") + digits(rng, 11), "3" + digits(rng, 18), "XS-" + _day(rng) + "-" + digits(rng, 4))))  # fmt: skip


def snowflake(rng: random.Random) -> Value:
    """64-bit row identifiers: 18 or 19 digits that begin with 1."""
    number = "1" + digits(rng, rng.choice((17, 18)))
    while _is_resident(number):
        number = "1" + digits(rng, 17)
    return Value(number)


def almost_resident(rng: random.Random) -> Value:
    """Eighteen characters of the right shape whose check character is wrong."""
    number = _resident(rng)
    return Value(number[:17] + rng.choice([c for c in "0123456789" if c != number[17]]))


def almost_card(rng: random.Random) -> Value:
    """Sixteen or nineteen digits that begin as UnionPay numbers do, with a wrong check digit."""
    number = card_plain(rng).text
    return Value(number[:-1] + str((int(number[-1]) + rng.randrange(1, 10)) % 10))


def almost_uscc(rng: random.Random) -> Value:
    """A wrong check character."""
    number = uscc(rng).text
    return Value(number[:-1] + rng.choice([c for c in checkdigits.USCC_ALPHABET if c != number[-1]]))


def no_mobile(rng: random.Random) -> Value:
    """Eleven digits from 1 whose prefix no subscriber has."""
    prefix = rng.choice((*range(100, 130), 142, 143, 154, 160, 161, 163, 164, 168, 169, 179, 194))
    return Value(str(prefix) + digits(rng, 8))


def masked(rng: random.Random) -> Value:
    """What somebody has masked already."""
    last = digits(rng, 4)
    return Value(
        rng.choice((f"138****{last}", f"6222 **** **** {last}", f"110101********{last}", f"6222************{last}"))
    )


def waybill(rng: random.Random) -> Value:
    """Parcel numbers."""
    return Value(rng.choice(("SF" + digits(rng, 13), "YT" + digits(rng, 13), "JDVA" + digits(rng, 11), "7" + digits(rng, 13), "EA" + digits(rng, 9) + "CN", "JT" + digits(rng, 13))))  # fmt: skip


def imei(rng: random.Random) -> Value:
    """Fifteen digits with a Luhn digit that is no card's."""
    payload = "86" + digits(rng, 12)
    return Value(payload + checkdigits.luhn(payload))


def iccid(rng: random.Random) -> Value:
    """The number on a SIM card: 8986, nineteen digits and a Luhn digit."""
    payload = "8986" + digits(rng, 15)
    return Value(payload + checkdigits.luhn(payload))


def barcode(rng: random.Random) -> Value:
    """EAN-13 of a Chinese product."""
    payload = "69" + digits(rng, 10)
    return Value(payload + checkdigits.ean13(payload))


def invoice(rng: random.Random) -> Value:
    """Digital invoices have 20 digits, paper ones a code of 12 and a number of 8."""
    return Value(rng.choice((f"24{digits(rng, 18)}", f"0{digits(rng, 11)}", digits(rng, 8))))


def millis(rng: random.Random) -> Value:
    """Unix time in ms."""
    return Value(f"17{digits(rng, 11)}")


def nanos(rng: random.Random) -> Value:
    """Unix time in ns: nineteen digits."""
    return Value(f"17{digits(rng, 17)}")


def hexes(rng: random.Random) -> Value:
    """Trace ids and digests."""
    return Value(chars(rng, "0123456789abcdef", rng.choice((16, 32, 40, 64))))


def coordinate(rng: random.Random) -> Value:
    """Latitude and longitude."""
    return Value(f"{rng.uniform(20, 45):.6f},{rng.uniform(85, 125):.6f}")


def money(rng: random.Random) -> Value:
    """Yuan."""
    return Value(
        rng.choice((f"{rng.uniform(1, 9e5):,.2f}", f"{rng.uniform(1, 9e3):.2f}", str(rng.randrange(1, 10**8))))
    )


def money_plain(rng: random.Random) -> Value:
    """Without thousands separators, as JSON needs it."""
    return Value(f"{rng.uniform(1, 9e5):.2f}")


def almost_resident_mute(rng: random.Random) -> Value:
    """A wrong one that someone calls an identity number: to find it or not is a matter of taste."""
    return Value(almost_resident(rng).text, "CN_RESIDENT_ID", ignored=True)


def version(rng: random.Random) -> Value:
    """Of a program."""
    return Value(f"{rng.randrange(1, 12)}.{rng.randrange(20)}.{rng.randrange(3000)}.{rng.randrange(10_000)}")


def part(rng: random.Random) -> Value:
    """Stock keeping units and models; some begin as passports and permits do."""
    return Value(rng.choice((f"SKU{digits(rng, 8)}", f"E{digits(rng, 7)}A", f"GB/T {digits(rng, 5)}-20{digits(rng, 2)}", f"HM-{digits(rng, 6)}", f"M{digits(rng, 2)}x1.5", f"RTX{digits(rng, 4)}", f"C{digits(rng, 4)}-{digits(rng, 3)}")))  # fmt: skip


def clock(rng: random.Random) -> Value:
    """Date and time of a log line."""
    return Value(f"2024-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d} {rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}.{digits(rng, 3)}")  # fmt: skip


def day(rng: random.Random) -> Value:
    """Eight digits."""
    return Value(_day(rng))


def small(rng: random.Random) -> Value:
    """A count."""
    return Value(str(rng.randrange(1, 5000)))


MAKERS: Final[dict[str, Maker]] = {
    made.__name__: made
    for made in (
        name, resident_plain, resident, mobile_plain, mobile, landline, card_plain, card, uscc, plate, hong_kong, macau, taiwan, passport, permit,
        address, wechat, qq, order, snowflake, almost_resident, almost_card, almost_uscc, no_mobile, masked, waybill, imei, iccid, barcode, invoice,
        millis, nanos, hexes, coordinate, money, money_plain, almost_resident_mute, version, part, clock, day, small,
    )
}  # fmt: skip
