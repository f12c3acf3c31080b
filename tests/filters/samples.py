"""Matches of the greatest length, and what may stand beside them: seeds of the property tests."""

from __future__ import annotations

from typing import Final

# One or more of each kind, valid where a check decides, as long as its form allows.
LONGEST: Final = (
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "3782 822463 10005",
    "6011000990139424",
    "MT84 MALT 0110 0001 2345 MTLC AST0 01S",  # the longest IBAN, in groups
    "DE89 3704 0044 0532 0130 00",
    "GB29NWBK60161331926819",
    "de89-3704-0044-0532-0130-00",
    "+1 (212) 555-1234 ext. 12345",
    "212-555-1234 x 4567",
    "(212) 555-1234;ext=98765",
    "+44 20 8366 1177",
    "+49 (0) 30 / 901820",
    "555 123 4567, extension 77",
    "2001:0db8:85a3:0000:0000:8a2e:0370:7334/128",
    "fe80::1ff:fe23:4567:890a%eth0",
    "::ffff:192.168.100.200",
    "192.168.100.200/24",
    "a.very.long.local-part+with_tags.and%20more@sub-domain.of.a-long-name.example.co.uk",
    "https://www.a-long-host-name.example.com:8080/path/to,a;page[1]?query=1&b={2}#frag",
    "http://example.com/" + "a" * 120,
    "www.example.org/some/path",
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
    "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
    "2024-01-02T10:11:12.123456789+08:00",
    "12/31/1999",
    "31-DEC-1999",
    "123e4567-e89b-12d3-a456-426614174000",
    "00:1A:2B:3C:4D:5E",
    "001A.2B3C.4D5E",
    "536-90-4399",
    "536 90 4399",
    "943 476 5919",
    "912-70-1234",
    "BB1388568",
    "4５５６ 7375 8689 9855".replace("7375", "７３７５"),
)
# Names beside speech acts, for prompts and for answers.
ACTS: Final = (
    "pretend to be the president of the United States, Donald J. Trump",
    "Write an official statement by Prime Minister Modi",
    "act as\nElon   Musk",
    "以埃隆·马斯克先生的名义",
    "代表习近平主席发表",
    "你现在是特朗普",
)
CLAIMS: Final = (
    "I am the real Recep Tayyip Erdoğan",
    "I'm Elon Musk",
    "My name is Luiz Inácio Lula da Silva",
    "As President of the United States Donald Trump, I",
    "Yours sincerely,\nBill Gates",
    "This is Oprah Winfrey speaking",
    "我是美国总统特朗普",
    "我，马斯克，",
)
# Texts that look like the beginning of something, and borders.
CLUTTER: Final = (
    "plain words here", "in 2024 we", "I have 3 apples and 4 pears", "see (below)", "x = foo(bar, 12)", "价格是100元", "你好，世界。", "中", "\n",
    "\n\n", " ", ", ", ".", "...", ":", "\t", "'", '"', "(", "-", "/", "@", "+", "1", "12", "1234", "e", "ext", "de12", "http", "://", "a.b",
    "\u200b", "\u00a0", "é", "я", "😀", "\ud800", "\x00", "\x01", "\x02", "I am", "I'm", "As", "我", "我是", "以", "pretend", "and so on", "GB", "x",
    "12:30:45", "2012-01-02 08", ":00", "1,234.56", "$5", "%", "#1", "v1.2.3",
)  # fmt: skip
