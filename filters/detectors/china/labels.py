"""Words to the left of a number that say what it is, or what it is not.

A word raises the score of what it names within LABEL_CHARS; a word such as 订单号 or `seq=` directly before a number
lowers one that is not certain. Chinese words count wherever they stand in the text, Latin ones as whole words.
"""

from __future__ import annotations

import re
from typing import Final

from filters.detectors.patterns import CONTEXT_BOOST, CONTEXT_FLOOR

LABEL_CHARS: Final = 32  # our choice: a clause or two of Chinese, the cells of a short table row before the number
# What a number has at the most behind a word that says it is something else: below what counts.
LOWERED: Final = 0.3

RESIDENT: Final = "CN_RESIDENT_ID"
MOBILE: Final = "CN_MOBILE"
LANDLINE: Final = "CN_LANDLINE"
PASSPORT: Final = "CN_PASSPORT"
PERMIT: Final = "CN_TRAVEL_PERMIT"
CARD: Final = "CN_BANK_CARD"
USCC: Final = "CN_USCC"
PLATE: Final = "CN_LICENSE_PLATE"
HONG_KONG: Final = "HK_ID"
MACAU: Final = "MO_ID"
TAIWAN: Final = "TW_ID"
ADDRESS: Final = "CN_ADDRESS"
WECHAT: Final = "CN_WECHAT_ID"
QQ: Final = "CN_QQ"
BIRTHDATE: Final = "CN_BIRTHDATE"
MILITARY: Final = "CN_MILITARY_ID"

_IDENTITY: Final = "身份证 身分证 身份證 身分證 证件号 证件 證件 证号 身份号码 sfz"
_IDENTITY_LATIN: Final = (
    "id card|identity card|identity number|id number|id no|citizen id|idcard|id_card|idno|id_no|cert_no|certno|sfzh?"
)
_WORDS: Final[dict[str, tuple[str, str]]] = {
    RESIDENT: (_IDENTITY + " 公民身份 户口本", _IDENTITY_LATIN + "|resident id"),
    MOBILE: (
        "手机 手機 电话 電話 移动电话 联系方式 联络 联系人 拨打 致电 来电 短信 热线 机主 号码是 打给 回电 微信同号",
        "phone|mobile|cell|cellphone|tel|telephone|msisdn|call|sms|contact|whatsapp|dial",
    ),
    LANDLINE: (
        "电话 電話 座机 固话 总机 传真 热线 客服 联系方式 拨打 致电 来电 办公室",
        "phone|tel|telephone|landline|fax|hotline|call|contact|dial",
    ),
    PASSPORT: ("护照 護照 证件号 证件 出入境", "passport|travel document"),
    PERMIT: (
        "通行证 通行證 回乡证 台胞证 港澳证 大陆证 入台证 往来港澳 往来台湾 来往内地 来往大陆 永久居留 居留证 居留身份证 五星卡 证件号 证件",
        "travel permit|entry permit|exit-entry permit|home return permit|residence permit|permanent resident",
    ),
    CARD: (
        "银行卡 銀行卡 卡号 卡號 储蓄卡 借记卡 信用卡 银联 账号 账户 帐号 帐户 賬號 收款 汇款 转账 打款 工资卡 开户",
        "(?<!id )(?<!id_)(?<!sim )card|card_no|cardno|bank_?card|unionpay|account|acct|pan",
    ),
    USCC: (
        "统一社会信用代码 社会信用代码 信用代码 统一代码 組織機構代碼 组织机构代码 机构代码 税号 税务登记 纳税人识别号 纳税识别号 营业执照 注册号 開票 开票",
        "uscc|credit code|tax id|tax no|taxpayer id|business license|registration no|organization code|vat no",
    ),
    PLATE: ("车牌 車牌 牌照 号牌 车号 车辆", "plate|license plate|car|vehicle|plate_no"),
    HONG_KONG: (_IDENTITY + " 香港", _IDENTITY_LATIN + "|hkid|hong kong|hk id|hkic"),
    MACAU: (_IDENTITY + " 澳门 澳門", _IDENTITY_LATIN + "|macau|macao|bir"),
    TAIWAN: (_IDENTITY + " 台湾 臺灣 台灣 居留證 統一證號 統一编号", _IDENTITY_LATIN + "|taiwan|arc|national id"),
    ADDRESS: ("地址 住址 住所 家住 住在 收货 收件 寄到 寄往 送到 送至 籍贯 户籍 戶籍 注册地", "address|addr|ship to|deliver to"),
    WECHAT: ("", ""),
    QQ: ("", ""),
    BIRTHDATE: ("", ""),
    MILITARY: ("军官证 士兵证 军人证 警官证 文职证 学员证 军人 证件", "military id"),
}  # fmt: skip


def _expression(chinese: str, latin: str) -> re.Pattern[str] | None:
    parts = [re.escape(word) for word in chinese.split()]
    if latin:
        parts.append(rf"(?<![A-Za-z0-9])(?:{latin})(?![A-Za-z])")
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None


_NAMED: Final = {entity: _expression(*words) for entity, words in _WORDS.items()}

# Directly before a number, with at most a mark of naming between: it counts, orders or dates something. `id` and the like
# may well name an identity: they lower only what is all digits.
_MARKS: Final = r"[ \t:：=#是为為\"'“”(（\[【/]{0,4}"
_OTHER: Final = re.compile(
    r"(?:(?:单号|單號|订单|訂單|流水|编号|編號|序号|序列号|批次|批号|工单|发票|票号|条码|货号|型号|版本|运单|快递|物流|包裹|单据|凭证|交易号|商户号"
    r"|请求号|追踪码|工号|学号|时间戳|毫秒|字节|计数|金额|合计|总计|数量|余额|商品)(?:号码|编号|号)?"
    r"|(?<![A-Za-z])(?:orders?|order_?(?:id|no)|trade_?no|out_trade_no|invoice|tracking|waybill|trace_?id|span_?id|request_?id|req_?id|txn|transaction|seq|sequence"
    r"|serial|sn|s/n|sku|part(?: no)?|p/n|batch|lot|ticket|bytes|size|offset|count|total|amount|price|ts|timestamp|time|epoch|version|ver|build|rev|revision|commit"
    r"|hash|checksum|isbn|ean|upc|barcode|imei|iccid|nonce|model|duration|elapsed|latency|(?P<digits>uid|pid|tid|ref|reference|item|index|cursor|id|key))"
    r"(?:\.|\s?no\.?)?)" + _MARKS + r"\Z",
    re.IGNORECASE,
)
_ALL_DIGITS: Final = frozenset({MOBILE, LANDLINE, CARD})
_OTHER_CHARS: Final = 24
_BETWEEN_CHARS: Final = (
    3  # 身份证编号, "passport id": the word that names it stands at most so far before the other one
)


def before(text: str, start: int) -> str:
    """What labels are looked for in: the characters to the left of `start` that count."""
    return text[max(0, start - LABEL_CHARS) : start]


def labelled(entity: str, left: str) -> bool:
    """Whether a word in `left` names the entity."""
    words = _NAMED[entity]
    return words is not None and words.search(left) is not None


def misnamed(entity: str, left: str) -> bool:
    """Whether the word directly before a number says that it is something else than `entity`."""
    other = _OTHER.search(left, max(0, len(left) - _OTHER_CHARS))
    if other is None or (other["digits"] is not None and entity not in _ALL_DIGITS):
        return False
    words = _NAMED[entity]
    if words is None:
        return True
    named = [m.end() for m in words.finditer(left)]
    return not named or named[-1] < other.start() - _BETWEEN_CHARS


def score(entity: str, base: float, left: str) -> float:
    """The score of a form of `entity` behind `left`."""
    if base >= 1.0:
        return base
    named = labelled(entity, left)
    if not named and base <= LOWERED:
        return base
    if misnamed(entity, left):
        return min(base, LOWERED)
    return min(1.0, max(round(base + CONTEXT_BOOST, 4), CONTEXT_FLOOR)) if named else base
