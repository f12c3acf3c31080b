"""Ways of writing a value so that a simple search passes it by: one table, each case found or not.

A case's text marks the value with «»; it counts as found when findings of its type cover all of it, whatever else they
cover, because a mask that leaves digits behind hides nothing. The value of an encoded case is the encoded stretch.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from tests.quality.score import Finder, Span, canonical, covers
from tests.quality.writing import full_width

# Numbers from the documentation of card schemes and registrars, the sample number of GB 11643-1999, reserved domains and addresses.
_CARD: Final = "4111111111111111"
_RESIDENT: Final = "11010519491231002X"
_MOBILE: Final = "13812345678"
_MAIL: Final = "emma.larsen@example.com"


@dataclass(frozen=True, slots=True)
class Case:
    """One way of hiding one value."""

    name: str
    text: str
    label: Span


def _case(name: str, entity: str, marked: str) -> Case:
    before, rest = marked.split("«")
    value, after = rest.split("»")
    return Case(name, before + value + after, Span(entity, len(before), len(before) + len(value)))


def _shift(text: str, zero: int) -> str:
    """Other digits: the one for nought is at `zero`."""
    return "".join(chr(zero + int(char)) if char.isdigit() else char for char in text)


def _each(text: str, between: str) -> str:
    return between.join(text)


def _fours(text: str, between: str) -> str:
    return between.join(text[at : at + 4] for at in range(0, len(text), 4))


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _spelled(text: str, names: str, between: str = "") -> str:
    listed = names.split() if " " in names else list(names)
    return between.join(listed[int(char)] for char in text)


_ENGLISH: Final = "zero one two three four five six seven eight nine"
_SUPERSCRIPT: Final = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_CIRCLED: Final = "⓪①②③④⑤⑥⑦⑧⑨"

_TABLE: Final = (
    # Neighbors
    ("card beside Chinese", "CREDIT_CARD", f"我的卡号«{_CARD}»请查收"),
    ("card beside Chinese, in fours", "CREDIT_CARD", f"卡号«{_fours(_CARD, ' ')}»有效期"),
    ("mobile beside Chinese", "CN_MOBILE", f"手机号«{_MOBILE}»谢谢"),
    ("resident ID beside Chinese", "CN_RESIDENT_ID", f"身份证«{_RESIDENT}»号"),
    ("mail beside Chinese", "EMAIL_ADDRESS", f"邮箱«{_MAIL}»电话另发"),
    ("IP beside Chinese", "IP_ADDRESS", "主机«203.0.113.24»已启动"),
    ("IBAN beside Chinese", "IBAN_CODE", "账户«DE89370400440532013000»收款"),
    ("card beside Korean", "CREDIT_CARD", f"카드번호«{_CARD}»입니다"),
    ("mobile beside emoji", "CN_MOBILE", f"📱«{_MOBILE}»📱"),
    ("card between letters and underscores", "CREDIT_CARD", f"card_«{_CARD}»_end"),
    ("resident ID beside a Latin letter", "CN_RESIDENT_ID", f"ID:«{_RESIDENT}»号码,sex:M"),
    ("mobile glued to a name", "CN_MOBILE", f"zhangsan«{_MOBILE}»"),
    ("SSN beside Chinese", "US_SSN", "社会安全号«536-90-4399»是我的"),
    # Other forms of the same characters
    ("full-width card", "CREDIT_CARD", f"card «{full_width(_CARD)}» please"),
    ("full-width mobile", "CN_MOBILE", f"电话：«{full_width(_MOBILE)}»"),
    ("full-width resident ID", "CN_RESIDENT_ID", f"身份证号«{full_width(_RESIDENT)}»"),
    ("full-width mail", "EMAIL_ADDRESS", f"write to «{full_width(_MAIL)}» today"),
    ("half of it full-width", "CREDIT_CARD", f"card «{_CARD[:8]}{full_width(_CARD[8:])}»"),
    ("Arabic-Indic digits", "CREDIT_CARD", f"بطاقة «{_shift(_CARD, 0x660)}»"),
    ("Persian digits", "CREDIT_CARD", f"کارت «{_shift(_CARD, 0x6F0)}»"),
    ("Devanagari digits", "CREDIT_CARD", f"कार्ड «{_shift(_CARD, 0x966)}»"),
    ("mathematical bold digits", "CREDIT_CARD", f"card «{_shift(_CARD, 0x1D7CE)}»"),
    ("mathematical monospace digits", "CN_MOBILE", f"call «{_shift(_MOBILE, 0x1D7F6)}»"),
    ("superscript digits", "CREDIT_CARD", f"card «{_spelled(_CARD, _SUPERSCRIPT)}»"),
    ("subscript digits", "CN_MOBILE", f"tel «{_shift(_MOBILE, 0x2080)}»"),
    ("circled digits", "CN_MOBILE", f"电话«{_spelled(_MOBILE, _CIRCLED)}»"),
    ("keycap emoji", "CN_MOBILE", "打«" + "".join(f"{d}\ufe0f\u20e3" for d in _MOBILE) + "»"),
    ("mathematical letters in a mail address", "EMAIL_ADDRESS", "mail «" + "".join(chr(0x1D41A + ord(c) - 97) if c.isalpha() else c for c in _MAIL) + "»"),
    ("small-form and full-width at sign", "EMAIL_ADDRESS", "mail «emma.larsen＠example.com» now"),
    ("small commercial at", "EMAIL_ADDRESS", "mail «emma.larsen﹫example.com» now"),
    ("ideographic full stop in a host", "EMAIL_ADDRESS", "邮箱«emma@example。com»收"),
    # Invisible characters
    ("zero-width spaces in a card", "CREDIT_CARD", "card «" + _fours(_CARD, "\u200b") + "»"),
    ("zero-width space between all digits", "CREDIT_CARD", "card «" + _each(_CARD, "\u200b") + "»"),
    ("zero-width joiners in a mobile", "CN_MOBILE", "手机«" + _each(_MOBILE, "\u200d") + "»"),
    ("soft hyphens in a card", "CREDIT_CARD", "card «" + _fours(_CARD, "\u00ad") + "»"),
    ("word joiner in a mail address", "EMAIL_ADDRESS", "mail «emma.lar\u2060sen@exam\u2060ple.com»"),
    ("zero-width space before the at sign", "EMAIL_ADDRESS", "mail «emma.larsen\u200b@example.com»"),
    ("byte order mark in a resident ID", "CN_RESIDENT_ID", f"身份证«{_RESIDENT[:6]}\ufeff{_RESIDENT[6:]}»"),
    ("direction marks around groups", "CREDIT_CARD", "card «4111\u200e1111\u200f1111\u200e1111»"),
    ("variation selectors between digits", "CN_MOBILE", "tel «" + _each(_MOBILE, "\ufe0f") + "»"),
    ("combining marks on digits", "CREDIT_CARD", "card «" + _each(_CARD, "\u0336") + "\u0336»"),
    ("combining mark on one letter of a mail address", "EMAIL_ADDRESS", "mail «emma.la\u0301rsen@example.com»"),
    ("tag characters", "CN_MOBILE", f"tel «{_MOBILE[:5]}\U000e0020{_MOBILE[5:]}»"),
    ("zero-width space in a key", "SECRET", "key «AKIA\u200b" + "ZQ3DRSTUVWXY2345" + "»"),
    # Letters that look alike
    ("Cyrillic letters in a mail address", "EMAIL_ADDRESS", "mail «еmmа.lаrsen@exаmple.com»"),
    ("Greek letter in a mail address", "EMAIL_ADDRESS", "mail «emma.lαrsen@example.cοm»"),
    ("Cyrillic Х in a resident ID", "CN_RESIDENT_ID", f"身份证{'«'}{_RESIDENT[:-1]}Х»"),
    ("letters for digits", "CREDIT_CARD", "card «4lll llll llll llll»"),
    ("O for zero in a mobile", "CN_MOBILE", "手机号码«138OO138OOO»，不要打错"),
    ("Cyrillic letters in an IBAN", "IBAN_CODE", "IBAN «GВ29 NWВК 6016 1331 9268 19»"),
    ("Cyrillic letters in a key", "SECRET", "key «АКIА" + "ZQ3DRSTUVWXY2345" + "»"),
    # Separators
    ("en dashes in a card", "CREDIT_CARD", f"card «{_fours(_CARD, '–')}»"),
    ("em dashes in a card", "CREDIT_CARD", f"card «{_fours(_CARD, '—')}»"),
    ("minus signs in an SSN", "US_SSN", "SSN «536−90−4399»"),
    ("non-breaking spaces", "CREDIT_CARD", "card «" + _fours(_CARD, "\u00a0") + "»"),
    ("thin spaces", "CREDIT_CARD", "card «" + _fours(_CARD, "\u2009") + "»"),
    ("ideographic spaces in a mobile", "CN_MOBILE", "电话«138\u30001234\u30005678»"),
    ("two blanks between groups", "CREDIT_CARD", f"card «{_fours(_CARD, '  ')}»"),
    ("dots in a card", "CREDIT_CARD", f"card «{_fours(_CARD, '.')}»"),
    ("slashes in a card", "CREDIT_CARD", f"card «{_fours(_CARD, '/')}»"),
    ("underscores in a card", "CREDIT_CARD", f"card «{_fours(_CARD, '_')}»"),
    ("commas in a card", "CREDIT_CARD", f"card number «{_fours(_CARD, ',')}»"),
    ("pipes in a card", "CREDIT_CARD", f"card number «{_fours(_CARD, '|')}»"),
    ("middle dots in a mobile", "CN_MOBILE", "电话«138·1234·5678»"),
    ("dots in a resident ID", "CN_RESIDENT_ID", "身份证«110105.19491231.002X»"),
    ("blank between all digits of a card", "CREDIT_CARD", f"card «{_each(_CARD, ' ')}»"),
    ("blank between all digits of a mobile", "CN_MOBILE", f"手机«{_each(_MOBILE, ' ')}»"),
    ("hyphen between all digits of a mobile", "CN_MOBILE", f"手机«{_each(_MOBILE, '-')}»"),
    ("blank between all characters of a resident ID", "CN_RESIDENT_ID", f"身份证 «{_each(_RESIDENT, ' ')}»"),
    ("newline inside a card", "CREDIT_CARD", "card «4111 1111\n1111 1111»"),
    ("newline inside a mobile", "CN_MOBILE", "手机«138\n1234\n5678»"),
    ("newline inside a resident ID", "CN_RESIDENT_ID", f"身份证«{_RESIDENT[:9]}\n{_RESIDENT[9:]}»"),
    ("one digit a line", "CN_MOBILE", "电话：\n«" + _each(_MOBILE, "\n") + "»\n"),
    ("parentheses around groups", "CREDIT_CARD", "card «(4111)(1111)(1111)(1111)»"),
    ("quoted pieces that code joins", "CREDIT_CARD", 'card = «"4111" + "1111" + "1111" + "1111"»'),
    # Encodings
    ("percent-encoded at sign", "EMAIL_ADDRESS", "GET /u?mail=«emma.larsen%40example.com»&x=1"),
    ("mail address percent-encoded twice", "EMAIL_ADDRESS", "next=%2Fu%3Fmail%3D«emma.larsen%2540example.com»"),
    ("card wholly percent-encoded", "CREDIT_CARD", f"q=«{_percent(_CARD)}»"),
    ("plus signs for blanks", "CREDIT_CARD", f"q=card+«{_fours(_CARD, '+')}»&s=1"),
    ("percent-encoded blanks", "CREDIT_CARD", f"q=«{_fours(_CARD, '%20')}»"),
    ("mobile behind %2B86", "CN_MOBILE", f"tel=«%2B86{_MOBILE}»&t=1"),
    ("decimal entity for the at sign", "EMAIL_ADDRESS", "<a>«emma.larsen&#64;example.com»</a>"),
    ("hexadecimal entity for the at sign", "EMAIL_ADDRESS", "<a>«emma.larsen&#x40;example.com»</a>"),
    ("named entities", "EMAIL_ADDRESS", "<a>«emma.larsen&commat;example&period;com»</a>"),
    ("card in decimal entities", "CREDIT_CARD", "<td>«" + "".join(f"&#{ord(c)};" for c in _CARD) + "»</td>"),
    ("nbsp entities in a card", "CREDIT_CARD", f"<td>«{_fours(_CARD, '&nbsp;')}»</td>"),
    ("markup inside a number", "CN_MOBILE", "<p>«138<b>1234</b>5678»</p>"),
    ("JSON escape for the at sign", "EMAIL_ADDRESS", '{"m": "«emma.larsen\\u0040example.com»"}'),
    ("card in JSON escapes", "CREDIT_CARD", '{"c": "«' + "".join(f"\\u{ord(c):04x}" for c in _CARD) + '»"}'),
    ("resident ID after escaped Chinese", "CN_RESIDENT_ID", f'{{"t": "\\u8eab\\u4efd\\u8bc1«{_RESIDENT}»"}}'),
    ("backslash x escapes", "CN_MOBILE", "s = '«" + "".join(f"\\x{ord(c):02x}" for c in _MOBILE) + "»'"),
    ("card in base64", "CREDIT_CARD", "decode this: «" + base64.b64encode(f"card: {_CARD} thanks".encode()).decode() + "»"),
    ("resident ID in base64", "CN_RESIDENT_ID", "base64解码：«" + base64.b64encode(f"身份证号{_RESIDENT}".encode()).decode() + "»"),
    ("mail address in base64", "EMAIL_ADDRESS", "blob=«" + base64.b64encode(f"contact {_MAIL}".encode()).decode() + "»"),
    ("card in hexadecimal", "CREDIT_CARD", "hex «" + f"card {_CARD}".encode().hex() + "»"),
    ("quoted-printable mail address", "EMAIL_ADDRESS", "To: «emma.larsen=40example.com»"),
    ("punycode host", "EMAIL_ADDRESS", "mail «info@xn--bcher-kva.example.com» bitte"),
    # Words for characters
    ("card spelled out in English", "CREDIT_CARD", f"my card is «{_spelled(_CARD, _ENGLISH, ' ')}»"),
    ("mobile spelled out in English", "PHONE_NUMBER", "call me at «" + _spelled("2125550142", _ENGLISH, " ") + "»"),
    ("spelled out with hyphens and capitals", "CREDIT_CARD", f"card «{_spelled(_CARD, _ENGLISH, '-').upper()}»"),
    ("oh and double", "PHONE_NUMBER", "ring «oh two oh seven nine four six oh double nine five»"),
    ("mobile in Chinese numerals", "CN_MOBILE", f"手机号«{_spelled(_MOBILE, '零一二三四五六七八九')}»"),
    ("mobile with yao for one", "CN_MOBILE", f"打我电话«{_spelled(_MOBILE, '零幺二三四五六七八九')}»"),
    ("mobile with the ring for nought", "CN_MOBILE", "电话«一三八〇〇一三八〇〇〇»"),
    ("mobile in banker's numerals", "CN_MOBILE", f"电话«{_spelled(_MOBILE, '零壹贰叁肆伍陆柒捌玖')}»"),
    ("traditional banker's numerals", "CN_MOBILE", f"電話«{_spelled(_MOBILE, '零壹貳參肆伍陸柒捌玖')}»"),
    ("Chinese numerals and digits mixed", "CN_MOBILE", "手机«138一二三四5678»"),
    ("resident ID in Chinese numerals", "CN_RESIDENT_ID", f"身份证«{_spelled(_RESIDENT[:-1], '零一二三四五六七八九')}X»"),
    ("card in Chinese numerals", "CREDIT_CARD", f"卡号«{_spelled(_CARD, '零一二三四五六七八九')}»"),
    ("Suzhou numerals", "CN_MOBILE", f"电话«{_spelled(_MOBILE, '〇〡〢〣〤〥〦〧〨〩')}»"),
    ("[at] and [dot]", "EMAIL_ADDRESS", "mail «emma.larsen [at] example [dot] com» please"),
    ("(at) and (dot)", "EMAIL_ADDRESS", "mail «emma.larsen(at)example(dot)com» please"),
    ("at and dot as words", "EMAIL_ADDRESS", "reach me: «emma.larsen at example dot com»"),
    ("艾特 and 点", "EMAIL_ADDRESS", "邮箱«emma艾特example点com»"),
    ("blanks around the at sign", "EMAIL_ADDRESS", "mail «emma.larsen @ example.com» please"),
    ("AT in capitals and brackets", "EMAIL_ADDRESS", "«emma.larsen{AT}example{DOT}com»"),
    ("dots in brackets in an IP", "IP_ADDRESS", "blocked «203[.]0[.]113[.]24» yesterday"),
    ("WeChat by another name", "CN_WECHAT_ID", "➕薇❤️：«lily_2046»"),
    ("QQ as penguin", "CN_QQ", "扣扣«384756102»，有事说"),
    # Two at once
    ("full-width with zero-width", "CN_MOBILE", "电话«" + _each(full_width(_MOBILE), "\u200b") + "»"),
    ("Chinese numerals with blanks", "CN_MOBILE", f"手机«{_spelled(_MOBILE, '零一二三四五六七八九', ' ')}»"),
    ("percent-encoded full-width", "CN_MOBILE", f"tel=«{_percent(full_width(_MOBILE))}»"),
    ("dashes and line ends", "CREDIT_CARD", "card «4111-\n1111-\n1111-\n1111»"),
    ("entity inside a percent-encoded query", "EMAIL_ADDRESS", "q=«emma.larsen%26%2364%3Bexample.com»"),
    ("mixed digits and spelled words", "CREDIT_CARD", "card «4111 one one one one 1111 1111»"),
    ("password with zero-width letters", "PASSWORD", "my pass\u200bword is «Tiger2041!»"),
    ("password behind full-width letters", "PASSWORD", "ｐａｓｓｗｏｒｄ：«Tiger2041!»"),
)  # fmt: skip

CASES: Final = tuple(_case(*row) for row in _TABLE)


def found(case: Case, find: Finder) -> bool:
    """True when findings of the case's type, or of an equivalent one, cover the whole value."""
    wanted = canonical(case.label.entity)
    typed = [f for f in find(case.text) if canonical(f.entity) == wanted]
    return covers(typed, case.label.start, case.label.end)


# What undoing such tricks must not invent: texts in which nothing is hidden.
CONTROLS: Final = (
    "二〇二四年十一月五日，第一百二十三次会议",
    "一三五七九二四六八十，数数游戏",
    "一一对应，三三两两，四面八方，五湖四海，七上八下",
    "百分之一三点五，约合人民币壹拾贰万叁仟肆佰伍拾陆元整",
    "人民币（大写）：壹仟贰佰叁拾肆万伍仟陆佰柒拾捌元玖角零分",
    "农历八月十五，阳历九月二十八，三十六计走为上",
    "one two three, one two three, the waltz goes on and on",
    "ten nine eight seven six five four three two one zero liftoff",
    "three or four of the seven samurai, two of them at one table, five at nine o'clock",
    "meet me at the corner dot the i and cross the t at five",
    "she works at example and dot products are on page nine",
    "look at example dot product is zero",
    "我在公司点外卖，点完记得艾特我",
    "x² + y² = z², 10⁻⁹ m, H₂O, CO₂, ¹⁴C",
    "①准备 ②开始 ③结束 ④总结 ⑤归档 ⑥复盘 ⑦发布 ⑧监控 ⑨回滚",
    "1️⃣ first 2️⃣ second 3️⃣ third 4️⃣ fourth",
    "0.1, 0.25, 0.333, 0.4142, 1.4142, 2.7182, 3.1415",
    "4111, 2222, 3333 and 4444 are ticket numbers of four customers",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
    "3 1 4 1 5 9 2 6 5 3 5 8 9 7 9 3 2 3 8 4 6 2 6 4 3 3",
    "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n",
    "|138|1234|5678|99|\n|139|2345|6789|98|\n",
    "q=%E4%BD%A0%E5%A5%BD%EF%BC%8C%E4%B8%96%E7%95%8C&page=2",
    "&lt;td&gt;&nbsp;&#169; 2024 &mdash; all rights reserved&lt;/td&gt;",
    '{"title": "\\u4f60\\u597d\\uff0c\\u4e16\\u754c", "emoji": "\\ud83d\\ude00"}',
    "SGVsbG8sIHdvcmxkISBUaGlzIGlzIGp1c3QgYSBncmVldGluZy4=",
    "4c6f72656d20697073756d20646f6c6f722073697420616d6574",
    "20241105 20241106 20241107 20241108",
    "2024-11-05 10:11:12 2024-11-06 10:11:12",
    "192 × 168 ÷ 32 = 1008; 4096 + 4096 = 8192; 1024 / 2048",
    "Привет, это обычное письмо без адресов и телефонов.",
    "Καλημέρα, αυτό είναι ένα απλό μήνυμα.",
    "pass\u200bing through the word\u200bs, nothing to see",
    "l33t sp34k 1s s0 2005, 4ll y0ur b4s3",
    "l1O0 O0l1 Il1| are hard to tell apart in this font",
    "chapter one: five people, four rooms, one killer",
)

_CONTROL_ENTITIES: Final = frozenset(
    canonical(e)
    for e in ("CREDIT_CARD", "CN_MOBILE", "CN_RESIDENT_ID", "EMAIL_ADDRESS", "IBAN_CODE", "US_SSN", "SECRET", "CN_USCC", "CN_PASSPORT")
)  # fmt: skip


def invented(find: Finder) -> list[tuple[str, str]]:
    """Findings in the controls: (entity, text)."""
    return [(f.entity, text) for text in CONTROLS for f in find(text) if canonical(f.entity) in _CONTROL_ENTITIES]
