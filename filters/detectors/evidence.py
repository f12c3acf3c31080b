"""What the words to the left of a number say it is: the thing itself, or something else.

`Left` reads the CONTEXT_CHARS characters before a number once. `names(words)`: some word there names the kind of number.
`other`: the words directly before it, with nothing between but marks of naming (`: = # "`) and small words (`no`, `is`),
name a number of another kind: an order, a part, a device. The word nearest to the number decides, so a `card for order
17:` names an order and an `order card no.` a card. Keys of JSON and of query strings are words like any others:
`"orderId":` reads order id.

Words are looked for in the view; Chinese ones, which the view does not keep, in the text.
"""

from __future__ import annotations

import re
from typing import Final

from filters.detectors.patterns import CONTEXT_CHARS, LEFT_CHARS

# A word, or what stands for Chinese characters; camelCase and snake_case keys come apart.
_WORD: Final = re.compile(
    rb"[Ww]hats[Aa]pp|[Mm]aster[Cc]ard|[Uu]nion[Pp]ay|[A-Z]?[a-z\x01]+|[A-Z]+(?![a-z])|[A-Z]|[0-9]+|\x02+"
)
NEAR_CHARS: Final = (
    32  # how near a word must be that says more than a plan or an issuer does. Our choice: half of the context
)
_WORDS_MAX: Final = 6  # looked at from the right: a name of two words and four small ones. Our choice
# What may stand between a name and its number. A period ends an abbreviation or a sentence: see _gap.
_MARKS: Final = frozenset(b" \t:=#\"'([{</|_-*>~\\.")
_ABBREVIATION_CHARS: Final = 4
# A line ends what was said, unless it ends with a colon.
_SMALL: Final = frozenset(
    b"no nr num number numbers nos is was are be the a an my your our his her their its this that of to with for as new old here"
    b" code codes value val str string int field like full short current also there it nummer numero".split()
)
_TOWARDS: Final = frozenset(
    b"at on me us him them back or and by via now please directly only anytime today tomorrow line".split()
)
# Kinds of number that a person's identifier is not. What is directly before a number that nobody would mistake.
_OTHERS: Final = frozenset(
    b"rrn stan tracking track parcel shipment waybill awb consignment container pallet sscc bug pr po rma pnr"
    b" trace traceid span spanid correlation batch lot serial serials sn sno model part parts partno pn spare"
    b" drawing item items article artikel sku skus product products asset imei imeisv meid iccid esn eid isbn"
    b" issn ean gtin upc barcode asin doi isin cusip sedol wkn lei pid uid uuid guid hash sha md5 crc checksum"
    b" digest commit rev revision build version ver firmware fw timestamp ts epoch millis nanos micros offset"
    b" size bytes length count qty quantity revenue budget lat lon lng latitude longitude coordinate"
    b" coordinates meter metre reading loyalty membership member miles points voucher coupon promo gift meeting"
    b" webinar zoom patent tariff hs vin chassis engine plate flight seat score page pages row line lines"
    b" column channel snowflake token nonce seq sequence cursor port lottery draw winning stock"
    b" inventory qq usps ups fedex dhl dpd gls ems sf tnt hermes seriennummer sendung sendungsnummer colis envio"
    b" spedizione successor replacement discontinued dossier file backend worker partition".split()
)
# Said of numbers that anything may have: a bare run of digits behind one is that, a number in a person's groups is not.
_PLAIN: Final = frozenset(
    b"order orders orderid orderno ordernumber ref refs reference references refno ticket tickets tkt case"
    b" incident issue booking reservation confirmation transaction transactions txn txnid tx trx trans "
    b" requestid req session sessionid msgid job task receipt invoice inv invoiceno"
    b" amount total sum price cost balance vat usd eur gbp cny rmb jpy fee tax contract policy claim quote"
    b" quotation document doc device terminal merchant mid tid bestellung"
    b" bestellnummer auftrag auftragsnummer rechnung rechnungsnummer referenz commande facture pedido factura"
    b" ordine fattura zamowienie faktura".split()
)
# Said of identifiers in general: they turn a bare run of digits down, and no number in groups.
_KEYS: Final = frozenset(
    b"id ids key keys pk index idx entry record node object resource account acct userid accountid".split()
)
_PAIRS: Final = frozenset({(b"p", b"n"), (b"s", b"n"), (b"b", b"l"), (b"mid", b"id"), (b"h", b"s")})
_HAN_CHARS: Final = 24
_HAN_OTHER: Final = re.compile(
    r"(?:单号|單號|订单|訂單|流水|编号|編號|序号|序號|序列号|批次|批号|工单|发票|發票|票号|条码|條碼|货号|型号|型號|料号|替代料|零件|备件|物料|版本|运单|運單|快递|快遞"
    r"|物流|包裹|采购单|单据|凭证|交易|商户号|请求|追踪|工号|学号|时间戳|毫秒|字节|计数|金额|合计|总计|数量|余额|商品|设备|設備|固件|会议|彩票|开奖|中奖|期号|合同|积分|会员)"
    r"[^\W\d_]{0,3}[ \t:：=#是为為\"'“”(（\[【/]{0,4}\Z"
)


class Left:
    """What stands to the left of `start`. Pure in the LEFT_CHARS characters before it."""

    __slots__ = ("_direct", "_near", "_raw", "_start", "_text", "_view")

    def __init__(self, text: str, view: bytes, start: int) -> None:
        self._text = text
        self._view = view
        self._start = start
        left = max(0, start - CONTEXT_CHARS)
        # A word that the border cuts is read whole where LEFT_CHARS allow; a longer one is none that is known.
        while left and start - left < LEFT_CHARS and view[left - 1 : left].isalnum():
            left -= 1
        raw = view[left:start]
        self._raw = b"" if raw.upper() == raw.lower() and b"\x01" not in raw else raw  # without letters it says nothing
        self._near: list[tuple[int, int, bytes]] | None = None
        self._direct: tuple[bytes, bool] | None = None

    @property
    def words(self) -> list[tuple[int, int, bytes]]:
        """The words of the last NEAR_CHARS characters, with their places in the view."""
        if self._near is None:
            left = max(self._start - len(self._raw), self._start - NEAR_CHARS)
            while left > self._start - len(self._raw) and self._view[left - 1 : left].isalnum():
                left -= 1
            self._near = [(m.start(), m.end(), m[0].lower()) for m in _WORD.finditer(self._view, left, self._start)]
        return self._near

    def names(self, words: frozenset[bytes]) -> bool:
        """Whether one of `words` stands anywhere to the left."""
        return not words.isdisjoint([word.lower() for word in _WORD.findall(self._raw)])

    def near(self, words: frozenset[bytes]) -> bool:
        """Whether one of `words` stands in the last NEAR_CHARS characters."""
        return any(word in words for _, _, word in self.words)

    def clear(self, words: frozenset[bytes]) -> bool:
        """Whether one of `words` stands in the last NEAR_CHARS characters, and between it and the number no other number."""
        for _, _, word in reversed(self.words):
            if 0x2F < word[0] < 0x3A:
                return False
            if word in words:
                return True
        return False

    def said(self, words: frozenset[bytes]) -> bool:
        """Whether the nearest word that is no small one is one of `words`: `call me back at`."""
        for _, _, word in reversed(self.words):
            if word not in _SMALL and word not in _TOWARDS:
                return word in words
        return False

    def matches(self, words: re.Pattern[str], chars: int) -> bool:
        """Whether an expression is found in the last `chars` characters of the text. For Chinese words."""
        return words.search(self._text, max(0, self._start - chars), self._start) is not None

    @property
    def foreign(self) -> bool:
        """Whether there is anything to the left that only the text knows."""
        near = self._view[max(0, self._start - _HAN_CHARS) : self._start]
        return b"\x02" in near or b"\x01" in near

    def other(self, words: frozenset[bytes], *, bare: bool) -> bool:
        """Whether what is directly before names a number of another kind than `words` do.

        `bare`: the number is a run of digits without groups, so that even an `id` turns it down.
        """
        if self._direct is None:
            self._direct = self._nearest()
        word, key = self._direct
        if word in words:
            return False
        if word in _OTHERS or (bare and (word in _PLAIN or (key and not self._named_key(words)))):
            return True
        return self.foreign and _HAN_OTHER.search(self._text, max(0, self._start - _HAN_CHARS), self._start) is not None

    def keyed(self) -> bool:
        """Whether the number is the value of a key: `"size": 12`, `n=12`."""
        last = self.words[-1] if self.words else None
        if last is None or last[2].isdigit():
            return False
        gap = self._view[last[1] : self._start].translate(None, b" \t\"'")
        return gap in (b"=", b":=", b"==") or (gap == b":" and b'"' in self._view[last[1] : self._start])

    def _named_key(self, words: frozenset[bytes]) -> bool:
        """`card id`, `phone key`: the word before the general one names the kind."""
        known = [word for _, _, word in self.words[-3:]]
        return any(word in words for word in known)

    def _nearest(self) -> tuple[bytes, bool]:
        """The nearest word that is no small one, and whether a general one stands before the number."""
        end = self._start
        key = False
        looked = self.words[-_WORDS_MAX:]
        for at in range(len(looked) - 1, -1, -1):
            begin, stop, word = looked[at]
            if not self._gap(stop, end, stop - begin):
                break
            if at and len(word) <= 3 and (looked[at - 1][2], word) in _PAIRS and begin - looked[at - 1][1] == 1:
                return b"part", key
            if word in _KEYS:
                key = True
            elif word not in _SMALL:
                return word, key
            end = begin
        return b"", key

    def _gap(self, start: int, end: int, word_chars: int) -> bool:
        """Whether view[start:end], what stands behind a word of that length, leaves it bound to what follows."""
        gap = self._view[start:end]
        for byte in gap:
            if byte not in _MARKS and (byte != 0x0A or b":" not in gap):
                return False
        at = gap.find(b".")
        return at < 0 or (word_chars <= _ABBREVIATION_CHARS and gap[at + 1 : at + 2] != b"\n")
