"""Chinese texts with identifiers in them, and number-rich texts with none: chat, forms, logs, tables, JSON, code.

What has a check digit or a shape of its own stands anywhere; what is recognized by its context alone (passports, permits,
Macau's numbers, WeChat and QQ) stands where a person would understand it.
"""

from __future__ import annotations

import random
from typing import Final

from tests.quality.chinese_values import MAKERS
from tests.quality.score import Sample
from tests.quality.writing import fill

IDENTIFIERS: Final = ("CN_RESIDENT_ID", "CN_MOBILE", "CN_LANDLINE", "CN_PASSPORT", "CN_TRAVEL_PERMIT", "CN_BANK_CARD", "CN_USCC", "CN_LICENSE_PLATE", "HK_ID", "MO_ID", "TW_ID")  # fmt: skip
IN_CONTEXT: Final = ("CN_ADDRESS", "CN_WECHAT_ID", "CN_QQ")
# Types that the set does not hold and that a number-rich text must not be taken for.
JUDGED: Final = (*IDENTIFIERS, *IN_CONTEXT, "IBAN_CODE", "US_SSN", "US_ITIN", "UK_NHS", "SECRET", "MEDICAL_LICENSE")

# Genre -> templates. `logs` and `numbers` are those that the goal for precision speaks of.
TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "chat": (
        "我手机@{mobile}，加我微信也行",
        "你好，我叫@{name}，身份证@{resident}，麻烦帮我查一下社保",
        "手机号@{mobile}谢谢",
        "换号了，新号码是@{mobile}，旧的不用了",
        "打我电话：@{mobile}，没人接就打座机@{landline}",
        "@{name}的身份证号是@{resident}，麻烦核对",
        "帮我把钱转到@{card}，户名@{name}，工行的",
        "卡号@{card}，开户行招商银行深圳分行",
        "我的卡@{card}丢了要挂失！！",
        "车停在B2，车牌@{plate}，麻烦挪一下",
        "刚才那辆@{plate}闯红灯了",
        "网约车到了，白色比亚迪 @{plate} 师傅电话@{mobile}",
        "寄到@{address}，收件人@{name}，电话@{mobile}",
        "我家住@{address}",
        "地址：@{address}（@{name}收）",
        "加我微信：@{wechat}",
        "微信号 @{wechat} ，备注来意",
        "vx:@{wechat}，随时聊",
        "QQ：@{qq}",
        "我qq号是@{qq}，加一下",
        "有事加QQ@{qq}，不常看微信",
        "护照号码@{passport}，下个月去日本",
        "我的护照是@{passport}，有效期到2031年",
        "通行证号@{permit}，明天过关",
        "港澳通行证@{permit}丢了怎么补办？",
        "回乡证号码：@{permit}",
        "香港身份证@{hong_kong}，可以开户吗",
        "我系香港人，身份證號碼係@{hong_kong}",
        "澳门居民身份证号码@{macau}",
        "台灣身分證字號@{taiwan}，請幫我查詢",
        "公司税号@{uscc}，开专票",
        "开票信息：@{uscc}，电话@{landline}",
        "统一社会信用代码@{uscc}有误吗",
        "联系电话@{landline}，工作日9点到18点",
        "😀电话@{mobile}😀",
        "【顺丰】您的快件@{waybill}已到驿站，取件码3-2-1008，电话@{mobile}",
        "@{mobile}@{name}，@{mobile}@{name}，这两个人明天来面试",
        "转账给@{name}（尾号不对，完整卡号@{card}）",
        "他说他身份证是@{almost_resident_mute}，我也不知道真假，电话倒是@{mobile}",
        "請致電@{mobile}或@{landline}聯絡陳先生",
    ),
    "form": (
        "姓名：@{name}\n性别：女\n身份证号：@{resident}\n联系电话：@{mobile}\n家庭住址：@{address}\n",
        "甲方：@{name}\n证件号码：@{resident}\n乙方：深圳市某某科技有限公司\n统一社会信用代码：@{uscc}\n电话：@{landline}\n",
        "持卡人：@{name}　卡号：@{card}　预留手机：@{mobile}",
        "【报名表】姓名@{name} 身份证@{resident} 手机@{mobile} 紧急联系人@{name} @{mobile}",
        "收件人: @{name}\n电话: @{mobile}\n地址: @{address}\n邮编: 518000",
        "车主：@{name}\n号牌号码：@{plate}\n联系方式：@{mobile}\n",
        "旅客姓名/Name: @{name}\n护照号码/Passport No.: @{passport}\n国籍: 中国\n",
        "证件类型：港澳居民来往内地通行证\n证件号码：@{permit}\n",
        "單位名稱：某某有限公司\n統一編號：12345678\n負責人身分證字號：@{taiwan}\n",
        "香港永久性居民身份證號碼：@{hong_kong}\n聯絡電話：@{landline}\n",
        "发票抬头：上海某某贸易有限公司\n税号：@{uscc}\n开户行及账号：中国建设银行 @{card}\n",
        "| 姓名 | 身份证号 | 手机 |\n|---|---|---|\n| @{name} | @{resident} | @{mobile} |\n| @{name} | @{resident} | @{mobile} |\n",
        "委托人@{name}（公民身份号码@{resident}）委托@{name}（公民身份号码@{resident}）办理房产过户手续。",
        "本人@{name}，身份证号码@{resident}，现住@{address}，因公司丢失离职证明，特此声明。",
        "被告：@{name}，男，汉族，公民身份号码@{resident}，住@{address}。",
    ),
    "logs": (
        "@{clock} INFO  [http-nio-8080-exec-3] c.e.user.LoginService - 用户登录 phone=@{mobile_plain} ip=10.2.3.4 traceId=@{hexes}",
        "@{clock} WARN  RealNameAuth idCard=@{resident_plain} name=@{name} result=FAIL cost=@{small}ms reqId=@{snowflake}",
        "@{clock} DEBUG order=@{order} uid=@{snowflake} ts=@{millis} amount=@{money}",
        "@{clock} INFO  支付回调 orderNo=@{order} bankCard=@{card_plain} mobile=@{mobile_plain} amt=@{money}",
        '@{clock} ERROR insert into t_user(id,id_card,mobile) values (@{snowflake},"@{resident_plain}","@{mobile_plain}") duplicate key',
        "@{clock} INFO 物流推送 waybill=@{waybill} order=@{order} weight=1.25 sku=@{part} qty=@{small}",
        "@{clock} INFO sms send to @{mobile_plain} template=SMS_@{day} bizId=@{snowflake}^0 status=OK",
        "[@{clock}] 道闸识别 plate=@{plate} lane=3 confidence=0.98 img=@{hexes}.jpg",
        "@{clock} span=@{hexes} parent=@{hexes} start=@{nanos} dur=@{small}us",
        "@{clock} WARN id card check failed: @{almost_resident} seq=@{snowflake}",
        "@{clock} INFO kafka offset=@{snowflake} partition=7 key=@{order} ts=@{millis}",
        "@{clock} INFO gps device=@{imei} sim=@{iccid} loc=@{coordinate} speed=@{small}",
        "@{clock} INFO 企业核验 uscc=@{uscc} legal=@{name} result=PASS",
        "@{clock} INFO 企业核验 code=@{almost_uscc} result=INVALID",
        "@{clock} INFO settle batch=@{order} total=@{money} cnt=@{small} lastId=@{snowflake}",
        "nginx: 10.1.1.7 - - [05/Nov/2024:10:11:12 +0800] \"GET /api/v1/user?mobile=@{mobile_plain}&t=@{millis} HTTP/1.1\" 200 @{small}",
        "GET /h5/order/@{order}?sign=@{hexes}&ts=@{millis}&uid=@{snowflake} 200 @{small}",
    ),
    "csv": (
        "姓名,身份证号,手机号,银行卡号\n@{name},@{resident_plain},@{mobile_plain},@{card_plain}\n@{name},@{resident_plain},@{mobile_plain},@{card_plain}\n",
        "id,name,id_no,phone,created\n@{snowflake},@{name},@{resident_plain},@{mobile_plain},@{millis}\n@{snowflake},@{name},@{resident_plain},@{mobile_plain},@{millis}\n",
        "订单号,金额,SKU,条码,数量\n@{order},@{money},@{part},@{barcode},@{small}\n@{order},@{money},@{part},@{barcode},@{small}\n",
        "企业名称\t统一社会信用代码\t联系电话\n某某商贸\t@{uscc}\t@{landline}\n某某科技\t@{uscc}\t@{mobile_plain}\n",
        "车牌号码,入场时间,出场时间,金额\n@{plate},@{clock},@{clock},@{money}\n@{plate},@{clock},@{clock},@{money}\n",
        '"@{name}","@{mobile_plain}","@{address}"\n"@{name}","@{mobile_plain}","@{address}"\n',
        "流水号,交易时间,金额,余额\n@{almost_card},@{clock},@{money},@{money}\n@{almost_card},@{clock},@{money},@{money}\n",
    ),
    "json": (
        '{"userId":@{snowflake},"name":"@{name}","idCard":"@{resident_plain}","phone":"@{mobile_plain}","ts":@{millis}}',
        '{"code":0,"data":{"orderId":"@{order}","amount":@{money_plain},"skuId":@{snowflake},"traceId":"@{hexes}"}}',
        '{"cardNo":"@{card_plain}","mobile":"@{mobile_plain}","idNo":"@{resident_plain}","acctName":"@{name}"}',
        '{"receiver":{"name":"@{name}","tel":"@{mobile_plain}","addr":"@{address}"},"waybillNo":"@{waybill}"}',
        '[{"lat":31.230416,"lng":121.473701,"imei":"@{imei}"},{"iccid":"@{iccid}","seq":@{snowflake}}]',
        '{"plateNo":"@{plate}","owner":"@{name}","contact":"@{mobile_plain}"}',
        '{"companyName":"某某有限公司","creditCode":"@{uscc}","tel":"@{landline}"}',
        '{"wechat":"@{wechat}","qq":"@{qq}","phone":"@{mobile_plain}"}',
    ),
    "code": (
        'String idCard = "@{resident_plain}"; // 测试数据\nString phone = "@{mobile_plain}";\nlong id = @{snowflake}L;\n',
        "SELECT * FROM t_order WHERE order_no = '@{order}' AND create_time > @{millis};",
        "UPDATE user SET mobile='@{mobile_plain}', id_card='@{resident_plain}' WHERE id=@{snowflake};",
        "curl -X POST https://api.example.cn/v2/verify -d 'name=@{name}&idcard=@{resident_plain}&mobile=@{mobile_plain}'",
        "assert is_valid('@{almost_resident}') is False\nassert is_valid('@{resident_plain}') is True\n",
        "const SALT = 0x1f3d5b79; const EPOCH = @{millis}n; const VERSION = '@{version}'; const MAX = 9007199254740991;",
        "INSERT INTO bank_card VALUES (@{snowflake}, '@{card_plain}', '@{mobile_plain}', NOW());",
        "git log: commit @{hexes}\n    fix(order): @{order} 重复推送\n",
    ),
    "numbers": (
        "订单号：@{order}，下单时间@{clock}，实付￥@{money}，快递单号@{waybill}",
        "您的订单@{order}已发货，运单号@{waybill}，预计后天送达。",
        "发票号码@{invoice}，价税合计@{money}元，校验码@{hexes}",
        "流水号@{snowflake}，批次@{day}-@{small}，合计@{money}",
        "交易参考号@{almost_card}，商户订单@{order}，请财务核对",
        "产品条码@{barcode}，型号@{part}，库存@{small}件，单价@{money}",
        "坐标@{coordinate}，海拔@{small}米，版本@{version}，时间戳@{millis}",
        "工单@{no_mobile}处理完毕，关联单@{order}",
        "设备序列号@{imei}，固件@{version}，SIM卡@{iccid}",
        "会议号 123 456 789，密码 2580，时间@{clock}",
        "客服热线95588，快递查询@{waybill}，退货单@{no_mobile}",
        "脱敏后：@{masked}，@{masked}，原单@{order}",
        "您尾号@{small}的账户@{day}入账@{money}元，余额@{money}元【某某银行】",
        "基金代码110022，净值1.2345，份额@{money}，确认日@{day}",
        "雪花ID@{snowflake}在JS里会丢精度，改成字符串传",
        "彩票期号@{day}@{small}，中奖号码 03 08 15 22 27 31 + 09",
        "招标编号：ZB@{day}-@{small}，预算@{money}元，附件MD5 @{hexes}",
        "ISBN 978-7-111-54742-6，定价@{money}，印次@{small}",
        "箱号@{no_mobile}到@{no_mobile}已盘点，差异见附件",
        "联行号102584000012，金额@{money}，附言：@{order}",
        "学号@{day}@{small}，准考证号@{almost_card}，成绩@{small}",
        "统计：PV @{small}，UV @{small}，GMV @{money}，环比+@{small}%",
        "核验失败：证件号@{almost_resident}校验位错误，代码@{almost_uscc}不存在",
        "@{order}\n@{order}\n@{snowflake}\n@{waybill}\n@{barcode}\n",
        "今天天气不错，气温25.3度，湿度60%，PM2.5 35，出门走了@{small}步",
        "第3章第12节，见第@{small}页图5-3，参考文献[17]-[21]",
    ),
}  # fmt: skip
# In the shares in which such texts are: number-rich ones weigh as much as those with identifiers, since precision hangs on them.
_WEIGHTS: Final = {"chat": 30, "form": 14, "logs": 18, "csv": 6, "json": 8, "code": 6, "numbers": 18}
NUMBER_RICH: Final = frozenset({"logs", "csv", "json", "code", "numbers"})


def samples(count: int, seed: int = 11643) -> list[Sample]:
    """So many texts, the same ones for the same seed."""
    rng = random.Random(seed)
    groups, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    made: list[Sample] = []
    for _ in range(count):
        group = rng.choices(groups, weights)[0]
        made.append(fill(rng.choice(TEMPLATES[group]), MAKERS, rng, group))
    return made
