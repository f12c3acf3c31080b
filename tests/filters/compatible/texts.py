"""Texts to compare on: generated sentences, values with a form, and mutations that character classes disagree about."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator

_PLAIN = (
    "Please summarize the report in 3 points and keep it under 200 words. The v2.3 build of foo.bar() failed at 10:30 on Monday; "
    "see docs/setup.md, section 4.1, or ask in #help. Thanks in advance!",
    "Can you explain why std::vector<int> is faster here? My code: for (int i = 0; i < 10; ++i) { a[i] = b.size(); } // 5%",
    "The U.S. team didn't say 'yes', they'd rather wait... It's 7km to the lake & $5.50 a head (approx. 20-30 min).",
    "请帮我总结一下这份报告，电话13812345678，邮箱wang@qq.com电话，卡号4111111111111111，身份证号码11010519491231002X。",
)
_CONTEXT = (
    "card", "credit", "bank account", "account#", "acct:", "passport", "us", "license", "lic#", "driver", "permit", "ssn",
    "social security", "itin", "tax", "phone number", "call", "cell", "telephone:", "date", "birthday", "ip", "ipv6", "mac address",
    "url", "website", "email", "iban", "wallet", "btc", "medical certificate", "DEA", "nhs", "uuid", "link:", "the", "is", "be", "of",
)  # fmt: skip
_MUTATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "digits": lambda c, r: chr(ord(c) + r.choice((0xFEE0, 0x0630, 0x06C0, 0x1D79E))) if c.isascii() and c.isdigit() else c,
    "wide": lambda c, r: chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c,
    "cases": lambda c, r: {"i": "\u0131", "I": "\u0130", "s": "\u017f", "k": "\u212a", "K": "\u212a", "S": "\u017f"}.get(c, c),
    "spaces": lambda c, r: r.choice("\u00a0\u2028\u3000\u200b\u2009\x85\x1c\n\t ") if c == " " else c,
    "hyphens": lambda c, r: r.choice("\u2010\u2011\u2013\u2212\uff0d\u00ad-") if c == "-" else c,
    "marks": lambda c, r: c + r.choice("\u200b\u200d\u0301\ufeff\u2060\ufb01\ud800\U0001f600中は한é_"),
    "gone": lambda c, r: "",
    "twice": lambda c, r: c + c,
    "upper": lambda c, r: c.swapcase(),
    "any": lambda c, r: r.choice(string.printable),
}  # fmt: skip


def _digits(r: random.Random, form: str) -> str:
    return "".join(
        r.choice(string.digits) if c == "0" else r.choice(string.ascii_letters) if c == "a" else c for c in form
    )


def _luhn(r: random.Random) -> str:
    body = r.choice(("4", "51", "37", "6011", "35", "1")) + "".join(r.choice(string.digits) for _ in range(14))
    body = body[: r.choice((12, 14, 15, 15, 15))]
    for check in string.digits:
        total = 0
        for index, digit in enumerate(reversed(body + check)):
            twice = int(digit) * (1 + index % 2)
            total += twice - 9 if twice > 9 else twice
        if total % 10 == 0:
            body += check
            break
    mark = r.choice(("", "", " ", "-"))
    return mark.join(body[i : i + 4] for i in range(0, len(body), 4))


_FORMS = (
    "000-00-0000", "000 00 0000", "000.00.0000", "00000-0000", "000-000000", "000000000", "00000000", "0000000000000", "900-70-0000",
    "(000) 000-0000", "+1 000 000 0000", "+44 20 0000 0000", "020 0000 0000", "0000 000000", "01 00 00 00 00", "+49 30 000000",
    "030/0000000", "(00) 90000-0000", "+91 98000 00000", "02-000-0000", "+972-50-000-0000", "000-0000 ext. 000", "000.000.0000x00",
    "1-800-000-0000", "0000 0000", "1640", "16 80", "12345", "0000-0000", "000000", "00 00 00 00 00", "+33 6 00 00 00 00", "0 0 0 0 0 0 0",
    "00/00/0000", "0/0/00", "0000-00-00", "0000/00/00", "00.00.0000", "00-00-0000", "00-JAN-0000", "MAR-00", "3-Dec", "00/0000", "1/20",
    "2024-05-0300T10:00:00Z", "2024-05-03T10:20:30.123+02:00", "2024-05-03T10:20Z", "20240503 10", "20240503 10:30",
    "100.20.3.4", "10.0.0.0/24", "256.1.0.0", "::1", "fe80::aa00:0aa0", "2001:db8:0:0:0:0:0:0", "::ffff:10.0.0.1", "1::", "::", "a::b/64",
    "00:1a:2b:0c:0d:0e", "aa-bb-cc-dd-ee-ff", "aabb.ccdd.eeff", "0000.0000.0000", "ff:ff:ff:ff:ff:ff", "a:b:c:d:e:f:a:b",
    "00000000-0000-4000-8000-000000000000", "abcdefab-abcd-4bcd-9bcd-abcdefabcdef", "a0000000", "aa0000000", "a00000000", "aa00000",
    "A-Z]]000", "00aaa00000", "000000000a", "a0a0a", "AB1234563", "b91234560", "h00000000", "a000000R", "aa000000a",
    "DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "GB82 WEST 1234 5698 7654 32 and more", "FR1420041010050500013M02606", "DE00000000000000000000",
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "000 000 0000",
    "aaa@aaa.com", "a.a+a@aa.co.uk", "aaa@co.uk", "a@b.c", "foo/bar@x.com", "a..b@c.de.", "x@xn--80ak6aa92e.com", "a@b@c.com", "'q@w.org'", "_a@b_c.io", "p?q@r.net",
    "www.aaa.com", "http://www.aaa.com/aa?a=0&b=a", "https://aa.a-a.org", "'http://aa.com'", '"aa.net/x"', "self.name", "os.path.join", "a.b.c.d", "aa.co...com",
    "www1.aa.uk.", "ftp://aa.tv", "aa.COM'", "http://a", "https://10.0.0.1/aa", "foo.py:00", "https://x.museum", "-aa.io", "......", "www.com", "http://www.de/'",
    "0,000.00", "$000", "00%", "v0.0.0", "#000", "0x00aa", "00:00:00", "00h", "00km", "00GB/s", "a=0;b=00", "[0]", "{0}", "No.00", "§0", "x000-0000", "0000x0000",
)  # fmt: skip


def value(r: random.Random) -> str:
    """Something with the form of an identifier, or nearly."""
    return _luhn(r) if r.random() < 0.08 else _digits(r, r.choice(_FORMS))


def sentence(r: random.Random) -> str:
    """Words, context words and values."""
    pieces: list[str] = []
    for _ in range(r.randrange(1, 9)):
        kind = r.random()
        if kind < 0.4:
            pieces.append(value(r))
        elif kind < 0.65:
            pieces.append(r.choice(_CONTEXT))
        else:
            words = r.choice(_PLAIN).split(" ")
            at = r.randrange(len(words))
            pieces.append(" ".join(words[at : at + r.randrange(1, 7)]))
    glue = (" ", " ", " ", " ", ", ", ": ", "", "\n", ";", "  ", ",", "/", " - ", "(", "\t", '","', ":", "中", ". ")
    return "".join(piece + r.choice(glue) for piece in pieces)


def mutated(r: random.Random, text: str) -> str:
    """The text with some characters replaced, each in one way."""
    change = _MUTATIONS[r.choice(tuple(_MUTATIONS))]
    share = r.choice((0.02, 0.1, 0.3, 1.0))
    return "".join(change(c, r) if r.random() < share else c for c in text)


def noise(r: random.Random) -> str:
    """Characters that the expressions are about, in any order."""
    alphabet = r.choice(
        (
            "0123456789-./ ()+x",
            "ab01:.-/",
            "a.b@-'\"c/com",
            "0123456789abcdefABCDEF-:.",
            "Aa0-Z]{}",
            " \u00a0\n0aı中٣ſK,:'",
            string.printable,
        )
    )
    return "".join(r.choice(alphabet) for _ in range(r.randrange(1, 90)))


def texts(seed: int, count: int) -> Iterator[str]:
    """Texts of all kinds, for ever the same ones."""
    r = random.Random(seed)
    for _ in range(count):
        kind = r.random()
        if kind < 0.4:
            yield sentence(r)
        elif kind < 0.85:
            text = mutated(r, sentence(r))
            yield mutated(r, text) if r.random() < 0.3 else text
        elif kind < 0.95:
            yield noise(r)
        else:
            yield r.choice(_PLAIN) + sentence(r)
