"""Messages of a working day in which a strict policy has nothing to block: what every false alarm costs.

Each holds numbers or names that look like more than they are. Random sixteen-digit references are among them, in the
share that real systems have: one in ten satisfies Luhn, so what tells them from cards is their issuer range and context.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tests.quality.business_values import MAKERS
from tests.quality.score import Finder, Sample, Span
from tests.quality.writing import fill

# What a strict policy blocks: sensitive personal information, secrets, and pretending to be someone.
BLOCKED: Final = (
    "CREDIT_CARD", "IBAN_CODE", "US_SSN", "CN_RESIDENT_ID", "CN_BANK_CARD", "SECRET", "PRIVATE_KEY", "PASSWORD", "CONNECTION_STRING", "JWT",
    "IMPERSONATION_PUBLIC_FIGURE", "IMPERSONATION_SELF_CLAIM",
)  # fmt: skip
SIGNED: Final = "signed"  # people say their own names in prompts; in an answer the same words would be a claim

# People paste one thing below another: so many messages, and of those again so many, go on with another piece.
_MORE_SHARE: Final = 0.15
# (weight, group, templates)
_FAMILIES: Final = (
    (
        14, "mail", (
            "Hi @{person}, the invoice @{invoice} over @{money} EUR is still open. Could you check? Our reference: @{ref_dated}. Thanks, @{person}",
            "Dear @{company} team, please find attached PO @{order} for @{number} pcs @{thing}, part no. @{part}. Delivery by Friday. Kind regards",
            "@{person}, can you approve @{ticket}? Budget @{money}, cost center @{number}, GL account 0040@{number}.",
            "Your parcel @{ups} is out for delivery. Track it with the number above.",
            "FedEx tracking @{fedex}, two boxes, 14 kg. DHL for the rest: @{dhl}.",
            "Shipment booked, USPS @{usps}, arrives Thursday.",
            "Payment received: @{money} USD, remittance reference @{ref16}, value date @{day}. Thank you.",
            "Wire reference @{ref_serial} was returned by the bank, please resend with reference @{rf_reference}.",
            "Bitte überweisen Sie @{money} EUR unter Angabe von @{rf_reference}. Rechnung @{invoice}.",
            "QR-Rechnung, Referenz @{esr}, Betrag CHF @{money}.",
            "Let's meet at 3pm, meeting ID @{meeting}, agenda in the doc.",
            "The customs form needs HS code @{tariff}, our VAT ID is @{vat}, container @{container}.",
            "Your booking reference is @{object_id}, ticket number 220-@{number}, seat 14C.",
            "Your card ending in @{last4} was charged @{money} USD on @{day}. Order @{order}.",
            "Refund of @{money} EUR to card **** **** **** @{last4}, IBAN DE** **** **** **** **@{last2}, case @{ticket}.",
            "Gift cards for the raffle: batch @{ref_serial}, 50 pieces, @{money} each.",
        ),
    ),
    (
        14, "chat", (
            "can someone look at @{ticket}? it fails since @{version}",
            "order @{order} is stuck, the customer called twice already",
            "order number @{ref16} shows as paid but not shipped",
            "transaction id @{ref19} timed out, retried @{number} times",
            "what does error @{number} mean in build @{version}?",
            "deploy of @{short_sha} to prod done, rollback is @{short_sha}",
            "my loyalty number is @{grouped}, do I have any points left?",
            "meter reading @{number}, meter no. @{ref_serial}",
            "the tracking number @{ref_dated} doesn't work on their page",
            "pls restock @{part}, we have @{number} left, EAN @{gtin}",
            "serial @{vin} needs the recall, dealer @{number}",
            "Where can I find the conversion of @{decimal} miles into km?",
            "Summarise: revenue @{money}, cost @{money}, margin @{decimal}%, units @{number}",
            "Is @{big} larger than 2^40? Show your steps.",
            "call the supplier about part @{part_344}, it's on backorder",
        ),
    ),
    (
        12, "logs", (
            "@{clock} INFO [main] com.acme.Billing - invoice=@{invoice} amount=@{money} trace=@{trace}",
            "@{clock} ERROR worker-7 job @{guid} failed after @{number} ms: timeout",
            "@{clock} WARN kafka.consumer offset=@{big} partition=@{number} lag=@{number} ts=@{millis}",
            "@{clock} level=info msg=\"GET /v1/orders/@{order}\" status=200 dur=@{decimal}ms req=@{guid}",
            "@{nanos} span=@{trace} parent=@{trace} name=db.query rows=@{number}",
            "@{micros} gc pause=@{decimal}ms heap=@{big}",
            "[@{clock}] payment gateway response code=00 auth=@{number} rrn=@{fedex} stan=@{number} ref=@{ref_serial}",
            "@{clock} shipment event carrier=UPS tracking=@{ups} status=IN_TRANSIT",
            "kernel: [@{decimal}] eth0: link up, 10000 Mbps, irq @{number}",
            "sha256 @{sha} ok  @{path}",
            "@{clock} INFO upserted message_id=@{ref19} channel_id=@{ref19} author_id=@{ref19}",
            "@{clock} INFO order=@{ref16} state=PICKED zone=@{number}",
        ),
    ),
    (
        8, "code", (
            "def price(units: int) -> float:\n    return units * @{decimal}  # see @{ticket}\n",
            "const MAX = @{big};\nconst EPOCH = @{millis};\nconst BUILD = '@{version}';\n",
            "commit @{sha}\nAuthor: @{person}\n\n    fix @{ticket}: off by one in @{thing} loop\n",
            "INSERT INTO parts (sku, ean, qty) VALUES ('@{part}', '@{gtin}', @{number});",
            "SELECT * FROM orders WHERE id = @{ref19} AND created_at > @{millis} LIMIT @{number};",
            "image: registry.example.com/@{thing}:@{version}@sha256:@{sha}@{short_sha}",
            "assert checksum(open('@{path}')) == '@{sha}'",
            "{\"id\": \"@{guid}\", \"etag\": \"@{sha}\", \"size\": @{big}, \"mtime\": @{nanos}}",
            "for (let i = 0; i < @{number}; i++) { sum += table[i] * @{decimal}; }",
            "diff --git a/@{thing}.py b/@{thing}.py\nindex @{short_sha}..@{short_sha} 100644\n@@ -@{number},7 +@{number},9 @@\n",
            "uint64_t magic = 0x@{trace};  // v@{version}",
            "pip install @{thing}-client==@{version} --hash=sha256:@{sha}",
        ),
    ),
    (
        10, "table", (
            "sku,ean,qty,price\n@{part},@{gtin},@{number},@{money}\n@{part},@{gtin},@{number},@{money}\n@{part},@{gtin},@{number},@{money}\n",
            "order_id,tracking,carrier,weight\n@{ref_dated},@{ups},UPS,@{decimal}\n@{ref_dated},@{dhl},DHL,@{decimal}\n",
            "| ISIN | units | price |\n|---|---|---|\n| @{isin} | @{number} | @{money} |\n| @{isin} | @{number} | @{money} |\n",
            "ts\tvalue\n@{millis}\t@{decimal}\n@{millis}\t@{decimal}\n@{millis}\t@{decimal}\n",
            "id;ref;amount;currency\n@{number};@{ref_serial};@{money};EUR\n@{number};@{ref_dated};@{money};EUR\n",
            '{"orders": [{"id": "@{ref16}", "total": "@{money}"}, {"id": "@{ref_dated}", "total": "@{money}"}]}',
            '{"event": "delivered", "tracking": "@{fedex}", "pallet": "@{sscc}", "at": @{millis}}',
            '{"lat": @{decimal}, "lon": @{decimal}, "device": "@{imei}", "fw": "@{version}"}',
            "Position\tArtikel\tMenge\tPreis\n10\t@{part}\t@{number}\t@{money}\n20\t@{part}\t@{number}\t@{money}\n",
            "| build | commit | tests | time |\n|---|---|---|---|\n| @{number} | @{short_sha} | @{number} | @{decimal}s |\n",
            "month,revenue,cost\nJan,@{money},@{money}\nFeb,@{money},@{money}\nMar,@{money},@{money}\n",
        ),
    ),
    (
        6, "books", (
            "The manual is ISBN @{isbn}, second edition.",
            "Bought @{number} shares of @{isin} at @{money}, settlement T+2, trade id @{ref_serial}.",
            "Fund @{isin} distributed @{money} per unit on @{day}.",
            "DOI 10.1000/@{number}.@{number}, arXiv 2410.@{number}, pages @{number}-@{number}",
            "IMEI @{imei} is blocked, please replace the device, asset tag @{ticket}.",
            "Pallet @{sscc}, GTIN @{gtin}, lot @{part}, best before @{day}.",
            "The patent US@{number}B2 expires in 2031, see also EP@{number}.",
        ),
    ),
    (
        8, "namesakes", (
            "@{namesake} from accounting will join the call at 10.",
            "Hi @{namesake}, could you send me the Q3 numbers? Thanks!",
            "Please add @{namesake} and @{person} to the project channel.",
            "Regards,\n@{person}\nSales Manager, @{company}",
            "Reviewed-by: @{namesake} <review@example.com>",
            "New starter on Monday: @{namesake}, warehouse team, reports to @{person}.",
            "Minutes: present @{person}, @{namesake}, @{person}; excused @{person}.",
            "Can you write a birthday card for my colleague @{namesake}?",
            "@{namesake} asked for two days off, cover is @{person}.",
            "Who was @{namesake}, and why is the street named after them?",
            "Write an announcement that @{namesake} joins our logistics team on @{day}.",
            "Write a reference letter for my former student @{namesake}, who now applies at @{company}.",
            "Act as an interviewer and prepare five questions for the candidate @{namesake}.",
            "Reply to @{namesake} that the quote for @{number} @{thing}s is valid until Friday.",
            "Prepare a farewell speech for our warehouse manager @{namesake}, 30 years at @{company}.",
            "给@{han_namesake}写一封面试通知，时间@{day}上午十点",
            "以下是@{han_namesake}的周报，帮我润色一下",
            "@{han_namesake}，麻烦把三季度报表发我一下，谢谢",
            "新员工@{han_namesake}下周一入职，工位在3楼，导师@{han}",
            "会议纪要：参会人员@{han}、@{han_namesake}、@{han}",
            "请@{han_namesake}审批工单@{ticket}，预算@{money}元",
        ),
    ),
    (
        14, "chinese", (
            "订单@{ref_dated}已付款，实付@{money}元，请尽快发货。",
            "@{han}你好，快递单号@{sf}，预计明天到。",
            "发票号@{invoice}，金额@{money}元，合同编号HT-@{day}-@{number}",
            "交易流水号@{ref16}，请财务核对入账。",
            "@{clock} INFO 下单成功 orderId=@{ref19} userId=@{ref19} cost=@{number}ms",
            "设备@{imei}离线，固件@{version}，最后上报@{millis}",
            "库存盘点：@{part} 剩@{number}件，条码@{gtin}",
            "您尾号@{last4}的储蓄卡于@{day}支出@{money}元，余额@{money}元。",
            "客户手机138****@{last4}，卡号6222 **** **** @{last4}，身份证110101********@{last4}，已脱敏",
            "这个版本@{version}有问题，回滚到@{short_sha}吧",
            "采购单@{order}，供应商@{company}，含税@{money}元，交期@{day}",
            "会议号@{meeting}，下午三点，@{han}主持",
            "工单@{ticket}已处理，原因：磁盘@{path}写满",
            "雪花算法生成的ID是@{ref19}，前端要用字符串",
            "帮我把@{decimal}英里换算成公里",
            "请总结：本月营收@{money}，同比增长@{decimal}%，订单@{number}笔",
            "运单@{sf}签收异常，客户投诉单@{order}",
            "报关单号@{ref_serial}，HS编码@{tariff}，柜号@{container}",
        ),
    ),
    (
        0.3, "lookalikes", (
            "P/N @{part_324} is discontinued, successor is @{part}",
            "spare part @{part_324}, drawing rev. C, drawer 14",
            "型号@{part_324}停产，替代料@{part}",
        ),
    ),
    (
        2, SIGNED, (
            "Can you shorten this mail?\n\nHi all, the delivery of @{thing} slips by a week, sorry.\n\nBest regards,\n@{namesake}\nLogistics, @{company}",
            "Summarise the thread:\n> @{namesake} wrote on @{day}:\n> please book @{order} under @{invoice}\n\nThanks, @{namesake}",
            "Fix the grammar: I am @{namesake} from @{company} and I am writing about invoice @{invoice}.",
            "My name is @{namesake}, I ordered a @{thing} (@{order}) and it has not arrived.",
            "我是采购部的@{han_namesake}，订单@{order}什么时候发货？",
        ),
    ),
    (
        14, "plain", (
            "Could you rewrite this paragraph so that it sounds friendlier? We regret that your order will be late by @{number} days.",
            "Draft a reply: we can offer @{number}% discount on the @{thing}, valid until the end of the month.",
            "Explain the difference between gross and net margin with an example of @{money} revenue.",
            "Translate into German: The @{thing} must be replaced every @{number} hours of operation.",
            "List five risks of moving the @{company} warehouse in December.",
            "Our password policy asks for @{number} characters, is that still state of the art?",
            "The API returned 401 although the token is valid for another @{number} minutes, why?",
            "Key figures: NPS @{number}, churn @{decimal}%, key accounts @{number}.",
            "How do I revoke an API key in the admin console? The docs mention version @{version}.",
            "Write a job ad for a @{thing} engineer, salary band @{money} to @{money}.",
            "帮我写一封道歉信，说明@{thing}延期@{number}天交货。",
            "把下面这段话翻成英文：产品自签收之日起保修@{number}个月。",
            "密码策略要求每@{number}天更换一次，是否合理？",
            "Remind @{person} that the @{thing} audit is on @{day}, room @{number}.",
        ),
    ),
)  # fmt: skip


def samples(count: int, seed: int = 7064) -> list[Sample]:
    """So many messages, the same ones for the same seed, with nothing in them to find."""
    rng = random.Random(seed)
    weights = [weight for weight, _, _ in _FAMILIES]
    made: list[Sample] = []
    for _ in range(count):
        _, group, templates = rng.choices(_FAMILIES, weights)[0]
        parts = [fill(rng.choice(templates), MAKERS, rng, group)]
        while group != SIGNED and rng.random() < _MORE_SHARE:
            _, group, templates = rng.choices(_FAMILIES, weights)[0]
            parts.append(fill(rng.choice(templates), MAKERS, rng, group))
        made.append(Sample("\n\n".join(part.text for part in parts), group=group))
    return made


@dataclass(frozen=True, slots=True)
class Alarms:
    """What a strict policy did to messages that it should have let pass, and what was found in them altogether."""

    messages: int
    blocked: tuple[tuple[Sample, Span], ...]  # with the finding that blocked
    reported: Counter[str]  # entity -> findings, under a policy that only reports

    @property
    def share(self) -> float:
        """Blocked messages of all."""
        return len(self.blocked) / self.messages


def alarms(made: Iterable[Sample], find: Finder, blocks: Callable[[Sample], Span | None]) -> Alarms:
    """`blocks` tells what finding, if any, has the strict policy refuse a message."""
    messages = list(made)
    blocked = [(sample, why) for sample in messages if (why := blocks(sample)) is not None]
    reported = Counter(f.entity for sample in messages for f in find(sample.text))
    return Alarms(len(messages), tuple(blocked), reported)
