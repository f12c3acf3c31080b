"""Numbers and codes of everyday business that identify no person and open no door, in the forms of those who issue them."""

from __future__ import annotations

import datetime
import hashlib
import random
import string
import uuid
from typing import Final

from tests.quality import checkdigits
from tests.quality.writing import Maker, Value, chars, digits, words

_UPPER: Final = string.ascii_uppercase
_ALNUM: Final = string.ascii_letters + string.digits
_HEX: Final = "0123456789abcdef"
_FIRST: Final = words(
    "Anna Ben Carla David Elena Felix Grace Hugo Irene Jonas Katya Leon Maya Nils Olga Pedro Quinn Rosa Samir Tara Uwe Vera Wei Yuki Zoe"
)
_LAST: Final = words(
    "Meyer Okafor Lindqvist Rossi Novak Haddad Tanaka Dubois Kowalski Ferreira Jensen Murphy Petrov Sharma Weber Costa Nguyen Baker Cole Reyes"
)
_HAN: Final = words("王磊 李静 张敏 刘洋 陈晨 杨帆 赵倩 黄海 周婷 吴昊 徐丽 孙强 胡杰 朱琳 林峰")
# Colleagues who happen to be called like someone famous; HR lists are full of them.
_NAMESAKES: Final = words("Taylor_Swift Michael_Jordan Chris_Evans Emma_Stone James_Brown George_Bush Paul_Simon Kate_Moss Tom_Jones Elon_Musk Bill_Gates Tim_Cook Jack_Ma Adele_Adkins Donald_Trump Boris_Johnson Xi_Chen Will_Smith Kim_Jong Angela_Merkel")  # fmt: skip
_HAN_NAMESAKES: Final = words("马云 刘德华 王菲 李娜 姚明 周杰伦 成龙 马化腾 雷军 董明珠 章子怡 张学友")
_COMPANIES: Final = words("Northwind Contoso Fabrikam Globex Initech Umbra Vandelay Hooli Acme Stark Wonka Cyberdyne")
_TABLE_WORDS: Final = words("bolt bracket gasket sensor relay valve pump filter cable housing bearing spring flange")


def ref16(rng: random.Random) -> Value:
    """A sixteen-digit reference that is simply random; one in ten of them satisfies Luhn."""
    return Value(digits(rng, 16))


def ref_dated(rng: random.Random) -> Value:
    """A reference of sixteen to nineteen digits that begins with its day, as most systems make them."""
    return Value(day(rng).text + digits(rng, rng.choice((8, 9, 10, 11))))


def ref_serial(rng: random.Random) -> Value:
    """A counter padded with noughts."""
    return Value(str(rng.randrange(10**6, 10**9)).rjust(rng.choice((12, 16, 18)), "0"))


def ref19(rng: random.Random) -> Value:
    """A 64-bit identifier of a social network, message or row."""
    return Value("1" + digits(rng, 18))


def grouped(rng: random.Random) -> Value:
    """A loyalty, gift or energy-meter number in fours, on sixteen to twenty digits."""
    return Value(" ".join(digits(rng, 4) for _ in range(rng.choice((4, 5)))))


def rf_reference(rng: random.Random) -> Value:
    """ISO 11649 creditor reference."""
    body = digits(rng, rng.choice((9, 15)))
    return Value(f"RF{checkdigits.iban('RF', body)}{body}")


def esr(rng: random.Random) -> Value:
    """Swiss payment reference: 27 digits in fives."""
    return Value(" ".join(("00", *(digits(rng, 5) for _ in range(5)))))


def ups(rng: random.Random) -> Value:
    """UPS: 1Z, shipper, service, parcel, check digit."""
    payload = chars(rng, string.digits + _UPPER, 6) + rng.choice(("01", "03", "12", "66")) + digits(rng, 7)
    return Value("1Z" + payload + checkdigits.ups(payload))


def fedex(rng: random.Random) -> Value:
    """FedEx: twelve or fifteen digits, or a door tag."""
    return Value(rng.choice((digits(rng, 12), digits(rng, 15), "9612" + digits(rng, 18), " ".join((digits(rng, 4), digits(rng, 4), digits(rng, 4))))))  # fmt: skip


def dhl(rng: random.Random) -> Value:
    """DHL Express, parcel and e-commerce."""
    return Value(rng.choice((digits(rng, 10), "JD0" + digits(rng, 17), "00340434" + digits(rng, 12), "GM" + digits(rng, 16))))  # fmt: skip


def usps(rng: random.Random) -> Value:
    """USPS: 22 digits, or the international form."""
    return Value(rng.choice(("9400" + digits(rng, 18), f"9405 5{digits(rng, 3)} {digits(rng, 4)} {digits(rng, 4)} {digits(rng, 4)} {digits(rng, 2)}", "LZ" + digits(rng, 9) + "US")))  # fmt: skip


def sf(rng: random.Random) -> Value:
    """Chinese carriers."""
    return Value(rng.choice(("SF" + digits(rng, 13), "YT" + digits(rng, 13), "78" + digits(rng, 12), "JDX" + digits(rng, 12))))  # fmt: skip


def isin(rng: random.Random) -> Value:
    """Securities."""
    payload = rng.choice(("US", "DE", "GB", "FR", "CH", "JP", "CN", "IE")) + chars(rng, string.digits + _UPPER, 9)
    return Value(payload + checkdigits.isin(payload))


def gtin(rng: random.Random) -> Value:
    """EAN-13, or GTIN-14 of a case."""
    payload = rng.choice(("400", "501", "690", "871", "976", "0")) + digits(rng, 9)
    return Value(payload[:12] + checkdigits.ean13(payload[:12])) if rng.random() < 0.7 else Value("1" + digits(rng, 13))


def sscc(rng: random.Random) -> Value:
    """Pallet label: application identifier 00 and eighteen digits."""
    return Value("(00)" + digits(rng, 18))


def isbn(rng: random.Random) -> Value:
    """A book, with or without hyphens."""
    payload = "978" + digits(rng, 9)
    number = payload + checkdigits.ean13(payload)
    return Value(number if rng.random() < 0.4 else f"978-{number[3]}-{number[4:8]}-{number[8:12]}-{number[12]}")


def imei(rng: random.Random) -> Value:
    """A device, fifteen digits with a Luhn digit."""
    payload = rng.choice(("35", "86", "01")) + digits(rng, 12)
    return Value(payload + checkdigits.luhn(payload))


def sha(rng: random.Random) -> Value:
    """A digest."""
    data = rng.randbytes(16)
    made = rng.choice((hashlib.sha1, hashlib.sha256, hashlib.md5))
    return Value(made(data, usedforsecurity=False).hexdigest())


def short_sha(rng: random.Random) -> Value:
    """As git abbreviates them; some are digits only."""
    return Value(chars(rng, _HEX, rng.choice((7, 8, 12))))


def guid(rng: random.Random) -> Value:
    """RFC 9562."""
    return Value(str(uuid.UUID(bytes=rng.randbytes(16), version=4)))


def trace(rng: random.Random) -> Value:
    """A span of a trace."""
    return Value(chars(rng, _HEX, rng.choice((16, 32))))


def object_id(rng: random.Random) -> Value:
    """A document's identifier."""
    return Value(rng.choice((chars(rng, _HEX, 24), "01" + chars(rng, "0123456789ABCDEFGHJKMNPQRSTVWXYZ", 24), chars(rng, _ALNUM + "-_", 21))))  # fmt: skip


def version(rng: random.Random) -> Value:
    """A program's."""
    return Value(rng.choice((f"{rng.randrange(20)}.{rng.randrange(40)}.{rng.randrange(200)}", f"10.0.{rng.randrange(10**4, 3 * 10**4)}.{rng.randrange(5000)}", f"v{rng.randrange(9)}.{rng.randrange(9)}.0-rc.{rng.randrange(9)}+build.{digits(rng, 6)}", f"20{digits(rng, 2)}.{rng.randrange(1, 13)}.{rng.randrange(1, 30)}")))  # fmt: skip


def millis(rng: random.Random) -> Value:
    """Unix time in ms."""
    return Value("17" + digits(rng, 11))


def micros(rng: random.Random) -> Value:
    """Unix time in us: sixteen digits."""
    return Value("17" + digits(rng, 14))


def nanos(rng: random.Random) -> Value:
    """Unix time in ns: nineteen digits."""
    return Value("17" + digits(rng, 17))


def last4(rng: random.Random) -> Value:
    """What is left of a number that somebody has masked already."""
    return Value(digits(rng, 4))


def last2(rng: random.Random) -> Value:
    """The same, of two digits."""
    return Value(digits(rng, 2))


def day(rng: random.Random) -> Value:
    """Eight digits."""
    return Value((datetime.date(2022, 1, 1) + datetime.timedelta(days=rng.randrange(1200))).strftime("%Y%m%d"))


def clock(rng: random.Random) -> Value:
    """RFC 3339."""
    when = datetime.datetime(2024, 1, 1) + datetime.timedelta(seconds=rng.randrange(3 * 10**7))
    return Value(when.strftime("%Y-%m-%dT%H:%M:%S") + f".{digits(rng, 3)}Z")


def part(rng: random.Random) -> Value:
    """Part numbers, some of them in the groups of other numbers."""
    forms = (f"{chars(rng, _UPPER, 3)}-{digits(rng, 5)}-{chars(rng, _UPPER, 2)}", f"{digits(rng, 3)}-{digits(rng, 4)}-{digits(rng, 2)}", f"{digits(rng, 2)}.{digits(rng, 4)}.{digits(rng, 3)}", f"{chars(rng, _UPPER, 2)}{digits(rng, 7)}", f"{digits(rng, 4)}-{digits(rng, 4)}", f"{chars(rng, _UPPER, 1)}{digits(rng, 3)}{chars(rng, _UPPER, 2)}{digits(rng, 4)}")  # fmt: skip
    return Value(rng.choice(forms))


def part_344(rng: random.Random) -> Value:
    """A part number that is written as phone numbers are."""
    return Value(f"{digits(rng, 3)}-{digits(rng, 3)}-{digits(rng, 4)}")


def part_324(rng: random.Random) -> Value:
    """A part number that is written as social security numbers are."""
    return Value(f"{rng.randrange(100, 899)}-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}")


def order(rng: random.Random) -> Value:
    """Shops' order numbers: three groups, a prefix, a counter."""
    return Value(rng.choice((f"{rng.choice(('028', '111', '113', '302'))}-{digits(rng, 7)}-{digits(rng, 7)}", f"SO-{digits(rng, 6)}", f"#{digits(rng, 5)}", f"45{digits(rng, 8)}", f"PO{day(rng).text}{digits(rng, 4)}", digits(rng, 11))))  # fmt: skip


def invoice(rng: random.Random) -> Value:
    """An invoice's number."""
    return Value(rng.choice((f"INV-{day(rng).text[:4]}-{digits(rng, 5)}", f"RE{digits(rng, 8)}", digits(rng, 10), f"{digits(rng, 2)}/{digits(rng, 6)}")))  # fmt: skip


def ticket(rng: random.Random) -> Value:
    """A ticket of a tracker or help desk."""
    return Value(rng.choice((f"OPS-{rng.randrange(9999)}", f"INC{digits(rng, 7)}", f"CS{digits(rng, 9)}", f"#{rng.randrange(99999)}", f"CHG00{digits(rng, 5)}")))  # fmt: skip


def money(rng: random.Random) -> Value:
    """An amount."""
    amount = rng.uniform(1, 10 ** rng.randrange(2, 7))
    return Value(rng.choice((f"{amount:,.2f}", f"{amount:.2f}", f"{amount:,.2f}".replace(",", " ").replace(".", ","), f"{int(amount)}")))  # fmt: skip


def number(rng: random.Random) -> Value:
    """A count."""
    return Value(str(rng.randrange(1, 10 ** rng.randrange(1, 6))))


def decimal(rng: random.Random) -> Value:
    """A measurement, at times with many places."""
    return Value(f"{rng.uniform(-180, 180):.{rng.choice((2, 4, 6, 15))}f}")


def big(rng: random.Random) -> Value:
    """A number of bytes or of rows."""
    return Value(rng.choice((str(rng.randrange(10**9, 10**13)), f"{rng.randrange(10**9, 10**12):,}", "9007199254740991", "18446744073709551615")))  # fmt: skip


def meeting(rng: random.Random) -> Value:
    """Meeting numbers of nine to eleven digits."""
    return Value(rng.choice((f"{digits(rng, 3)} {digits(rng, 3)} {digits(rng, 3)}", f"{digits(rng, 3)} {digits(rng, 4)} {digits(rng, 4)}", f"{digits(rng, 3)}-{digits(rng, 3)}-{digits(rng, 3)}")))  # fmt: skip


def vat(rng: random.Random) -> Value:
    """VAT numbers of companies."""
    return Value(rng.choice(("DE", "ATU", "FR", "NL", "PL", "GB")) + digits(rng, 9))


def tariff(rng: random.Random) -> Value:
    """A customs tariff number."""
    return Value(f"{digits(rng, 4)}.{digits(rng, 2)}.{digits(rng, 4)}")


def container(rng: random.Random) -> Value:
    """ISO 6346."""
    return Value(chars(rng, _UPPER, 3) + "U" + digits(rng, 7))


def vin(rng: random.Random) -> Value:
    """A vehicle."""
    return Value(rng.choice(("WVW", "WBA", "LSG", "1HG", "JTD")) + chars(rng, "ABCDEFGHJKLMNPRSTUVWXYZ0123456789", 14))


def path(rng: random.Random) -> Value:
    """A file."""
    return Value(f"/srv/{rng.choice(_TABLE_WORDS)}/{day(rng).text}/{chars(rng, _HEX, 8)}.{rng.choice(('csv', 'parquet', 'log', 'pdf'))}")  # fmt: skip


def person(rng: random.Random) -> Value:
    """A colleague."""
    return Value(f"{rng.choice(_FIRST)} {rng.choice(_LAST)}")


def han(rng: random.Random) -> Value:
    """A colleague in China."""
    return Value(rng.choice(_HAN))


def namesake(rng: random.Random) -> Value:
    """A colleague called like someone famous."""
    return Value(rng.choice(_NAMESAKES).replace("_", " "))


def han_namesake(rng: random.Random) -> Value:
    """The same in China."""
    return Value(rng.choice(_HAN_NAMESAKES))


def company(rng: random.Random) -> Value:
    """A customer or supplier."""
    return Value(rng.choice(_COMPANIES))


def thing(rng: random.Random) -> Value:
    """An item."""
    return Value(rng.choice(_TABLE_WORDS))


MAKERS: Final[dict[str, Maker]] = {
    made.__name__: made
    for made in (
        ref16, ref_dated, ref_serial, ref19, grouped, rf_reference, esr, ups, fedex, dhl, usps, sf, isin, gtin, sscc, isbn, imei, sha, short_sha,
        guid, trace, object_id, version, millis, micros, nanos, day, clock, part, part_344, part_324, order, invoice, ticket, money, number,
        decimal, big, meeting, vat, tariff, container, vin, last4, last2, path, person, han, namesake, han_namesake, company, thing,
    )
}  # fmt: skip
