"""How an order is asked for and told of, in both languages: phrases of questions, words of shops, sentences of answers."""

from __future__ import annotations

from server.copy_domain import Language

_THING = r"(?:order|orders|parcel|package|packages|delivery|shipment|stuff|purchase|items?|things?|goods)"
_MINE = rf"(?:my|the|this|our) (?:\w+ ){{0,2}}{_THING}"
_NOT_OTHER = (  # "where are my points?" is not about the parcel
    r"(?!loyalty|points?|invoices?|receipts?|account|cards?|gift|codes?|vouchers?|coupons?|passwords?|data|newsletter|reviews?|"
    r"messages?|e-?mails?|confirmation|nearest|size|warranty|settings?|profile|local)"
)
_ORDER_ZH = r"(?:订单|包裹|快递|快件|东西|货|商品|宝贝)"
_PHRASES = {
    "refund": r"where(?:'s| is) (?:my|the) (?:refund|money)|(?:my|the) refund (?:status|yet|arrived|been)|status of (?:my|the) refund|"
    r"when (?:will|do|am|can) i (?:get|see|receive|have|expect)(?: back)? (?:my|the) (?:refund|money)|have you (?:sent|issued|made|processed) (?:my|the) refund|"
    r"(?:has|is|was) (?:my|the) refund|did (?:you|i) (?:get|receive|send|issue) (?:my|the) refund|refund .{0,20}(?:not|hasn't) (?:arrived|come)|"
    r"(?:waiting|still wait\w*) for (?:my|the) (?:refund|money)|have(?:n't| not) (?:got|received|had) (?:my|the) (?:refund|money)|"
    r"我的退款.{0,8}(?:哪|到|状态|进度|怎么样|怎样|处理|了吗|没|什么时候)|退款(?:到账|到哪|进度|状态|处理|下来|退).{0,6}(?:了吗|没有|了没|哪|怎么样|如何|怎样|多少)?|"
    r"退款.{0,6}(?:到账了吗|还没|到了吗|了没有?)|退款什么时候(?:到|给我|退)|什么时候(?:能)?(?:收到|拿到|退)(?:我的)?(?:退款|钱)|(?:钱|款)(?:退|打).{0,3}(?:了吗|了没|没有)|(?:钱|款).{0,4}什么时候(?:退给我|给我|到我)",
    "tracking": rf"(?:what(?:'s| is)|give me|send me|need|have|tell me) (?:my|the|a) (?:tracking|shipment|parcel) (?:number|link|code|id)|"
    rf"(?:who|which (?:carrier|company|courier)) (?:is )?(?:carrying|delivering|delivers|carries|has|ships|shipped) (?:it|{_MINE})|tracking (?:number|link) (?:for|of) (?:my|the)|"
    rf"(?:我的|这个|这单|给我)?.{{0,4}}(?:快递|运|物流|追踪|跟踪)(?:单号|编号|号码?|链接)(?:是|是多少|多少|给我|发|呢|在哪|[?？]|$)|哪家快递|什么快递|谁(?:家)?送",
    "contents": r"what (?:did i|have i|i)(?: just)? (?:order|buy|bought|purchase)|what(?:'s| is) in (?:my|the|this) (?:order|parcel|package)|"
    r"which (?:items?|products?|things?) (?:did i|have i|are in|is in)|(?:items?|contents) (?:of|in) (?:my|this|the) order\b|"
    r"我(?:都)?(?:买|订|下单|订购|购买)了(?:些|一些)?(?:什么|哪些|啥)|(?:订单|包裹)(?:里|中|里面)(?:都)?(?:有|是|包含)(?:些)?(?:什么|哪些|啥)",
    "total": r"how much (?:did i|have i|do i have to|was i) (?:pay|paid|spend|spent|charged?|owe)|(?:what(?:'s| is|'s| was) )?(?:the|my) (?:order )?total (?:of|for|price|amount)|"
    r"(?:total|price|amount) of (?:my|this|the) order|how much (?:was|is|did) (?:my|this|the) order|"
    r"我(?:一共|总共)?(?:付|花|支付)了多少|(?:订单|这单)(?:的)?(?:总额|总价|金额|总金额|一共|总共)(?:是)?多少|(?:一共|总共)(?:付|花|支付)了?多少",
    "placed": r"when (?:did|was|have) (?:i|my order|the order|this order|it) (?:order|ordered|place|placed|buy)|(?:date|day) (?:of my order|i ordered)|"
    r"(?:我)?(?:是)?(?:什么时候|几号|哪天|何时)(?:下的?单|买的|订的|订购的|下的订单)",
    "arrival": rf"when (?:will|does|is|can|should|would|do) (?:{_MINE}|it|i|they) .{{0,25}}(?:arriv|deliver|come|get here|be here|expect|receive|get (?:it|my))|"
    rf"(?:expected|estimated|delivery) (?:delivery |arrival )?(?:date|day|time) (?:of|for) (?:my|this|the) {_THING}|when (?:can|should) i expect {_MINE}|"
    rf"(?:{_MINE}|it) (?:arrive|be delivered|come) (?:today|tomorrow|this week|on time|before|by)|"
    rf"(?:我的|这个|我买的|我订的).{{0,6}}{_ORDER_ZH}?.{{0,4}}(?:什么时候|几时|何时|哪天|几号|多久|啥时候).{{0,5}}(?:到|送|收|来)|"
    rf"{_ORDER_ZH}.{{0,3}}(?:什么时候|几时|何时|哪天|几号|啥时候).{{0,5}}(?:到|送达|收到|送到|能到|来)|预计.{{0,4}}(?:到|送达).{{0,6}}(?:吗|时间|[?？])",
    "where": rf"where(?:'s| is| are|'re|s) (?:{_MINE}|my {_NOT_OTHER}\w+)\b|where (?:{_MINE}) (?:is|are|went)|(?:status|whereabouts) of (?:{_MINE})|(?:my|this|the) order(?:'s)? status|"
    rf"(?:has|have|did|is|was|are) (?:{_MINE}) .{{0,12}}(?:ship|sent|dispatch|left|leave|on (?:its|the) way|delivered|arrive|lost|packed)|"
    rf"(?:{_MINE}) (?:still )?(?:hasn't|has not|haven't|didn't|did not|isn't|is not|never) .{{0,12}}(?:arriv|come|ship|here|deliver|show|turn)|"
    rf"(?:haven't|have not|didn't|never) (?:received|got|get|gotten|receive) {_MINE}|(?:track|check|trace|follow) (?:on )?{_MINE}|"
    rf"have you (?:shipped|sent|dispatched) (?:it|{_MINE})|what(?:'s| is) (?:happening|going on) with {_MINE}|update on {_MINE}|"
    rf"(?:我的|我买的|我订的|我下的|这个|这单).{{0,8}}(?:到哪|在哪|哪里|哪儿|发货|出库|寄出|发出|状态|还没到|没收到|怎么还没|物流|送到)|{_ORDER_ZH}(?:现在)?(?:到哪|在哪|到了?哪|还没到|怎么还没|没收到)|"
    rf"(?:查|查询|跟踪|追踪|查看)(?:一下)?(?:我的)?(?:订单|包裹|快递|物流|我的)|(?:发货|寄出|发出)了(?:吗|没)|没(?:有)?收到.{{0,4}}{_ORDER_ZH}|订单状态",
    # How the shop does it in general, and wishes to change something: the pages answer these.
    "policy": r"\bhow (?:do|can|could|should|would|does|to)\b(?! much)|\bhow long (?:does|do|will|is) (?:a|an|the|standard|express|delivery|shipping|refund)|\bwhat (?:if|happens|do i do|should i do|can i do)\b|"
    r"\b(?:can|could|may) (?:i|you|we) (?!please|track|check|tell|see|give|find|look|let|expect)|\b(?:cancel|change|return|exchange|replace|modify|redirect|damaged|broken|missing|wrong)\b|"
    r"怎么(?!还没|样)|如何|怎样才|(?:取消|修改|更改|退货|换货|破损|损坏|少发|发错|丢失|丢了)|可以.{0,8}吗|能不能|能否|如果|要是",
}


def order_phrases(name: str) -> str:
    """The expression of one topic, or of "policy"; over folded text."""
    return _PHRASES[name]


# The words of shops, folded, with single spaces, to what they mean.
STATUSES = {
    **dict.fromkeys(["received", "placed", "confirmed", "new", "pending", "open", "created", "accepted", "paid", "processing",
                     "in process", "in progress", "已接收", "待发货", "已下单", "已确认", "处理中", "待处理", "已付款"], "received"),
    **dict.fromkeys(["packing", "packed", "preparing", "picking", "ready to ship", "打包中", "备货中", "已打包", "配货中"], "packing"),
    **dict.fromkeys(["shipped", "sent", "dispatched", "in transit", "on its way", "fulfilled", "partially shipped", "已发货", "运输中", "在途", "已寄出"], "shipped"),
    **dict.fromkeys(["out for delivery", "in delivery", "派送中", "配送中", "派件中"], "out"),
    **dict.fromkeys(["ready for collection", "ready for pickup", "ready for pick up", "待自提", "待取件"], "pickup"),
    **dict.fromkeys(["delivered", "completed", "complete", "closed", "arrived", "已送达", "已签收", "已完成", "已收货"], "delivered"),
    **dict.fromkeys(["cancelled", "canceled", "已取消", "取消"], "cancelled"),
    **dict.fromkeys(["returned", "returning", "已退货", "退货中"], "returned"),
    **dict.fromkeys(["delayed", "late", "延误", "已延误"], "delayed"),
    **dict.fromkeys(["on hold", "held", "暂停", "挂起"], "held"),
}  # fmt: skip
REFUND_STATUSES = {
    **dict.fromkeys(["none", "not requested", "no refund", "无", "未申请"], "none"),
    **dict.fromkeys(["requested", "pending", "open", "in review", "under review", "received", "申请中", "待处理", "审核中", "已申请"], "pending"),
    **dict.fromkeys(["approved", "accepted", "confirmed", "已批准", "已同意", "审核通过"], "approved"),
    **dict.fromkeys(["processing", "in progress", "in process", "initiated", "处理中", "退款中"], "processing"),
    **dict.fromkeys(["sent", "issued", "refunded", "paid", "paid out", "completed", "complete", "done", "已退款", "已完成", "已到账", "退款成功"], "sent"),
    **dict.fromkeys(["partially refunded", "partial", "部分退款"], "partial"),
    **dict.fromkeys(["rejected", "declined", "denied", "refused", "failed", "已拒绝", "退款失败", "已驳回"], "rejected"),
}  # fmt: skip

SAID: dict[Language, dict[str, str]] = {
    Language.EN: {
        "order": "Order {id}",
        "date": "{day} {month_name} {year}",
        "lead": "Your order {id} ",
        "refund_lead": "The refund for your order {id} ",
        "status_received": "has been received and has not been shipped yet.",
        "status_packing": "is being packed.",
        "status_shipped": "has been shipped.",
        "status_out": "is out for delivery.",
        "status_pickup": "is ready for collection.",
        "status_delivered": "has been delivered.",
        "status_cancelled": "has been cancelled.",
        "status_returned": "is marked as returned.",
        "status_delayed": "is delayed.",
        "status_held": "is on hold.",
        "status_quoted": "has the status “{status}”.",
        "refund_status_none": "has not been requested.",
        "refund_status_pending": "has been requested and is waiting to be checked.",
        "refund_status_approved": "has been approved.",
        "refund_status_processing": "is being processed.",
        "refund_status_sent": "has been sent.",
        "refund_status_partial": "has been sent in part.",
        "refund_status_rejected": "is marked as declined.",
        "refund_status_quoted": "has the status “{status}”.",
        "shipped_on": "It left us on {day}.",
        "delivered_on": "It was delivered on {day}.",
        "expected_on": "Delivery is expected on {day}.",
        "no_expected": "The day of delivery is not known here.",
        "no_number": "There is no tracking number for it yet.",
        "placed_on": "You placed the order on {day}.",
        "carrier_number": "{carrier} carries it under the number {number}.",
        "carrier": "{carrier} carries it.",
        "number": "The tracking number is {number}.",
        "url": "Follow it here: {url}",
        "contents": "Your order {id} holds: {items}.",
        "item": "{quantity} × {title}",
        "list": ", ",
        "more": "Further lines: {count}.",
        "total": "The total of your order {id} is {amount}.",
    },
    Language.ZH: {
        "order": "订单{id}",
        "date": "{year}年{month}月{day}日",
        "lead": "您的订单{id}",
        "refund_lead": "您的订单{id}的退款",
        "status_received": "已接收，尚未发货。",
        "status_packing": "正在打包。",
        "status_shipped": "已发货。",
        "status_out": "正在派送。",
        "status_pickup": "可以自提了。",
        "status_delivered": "已送达。",
        "status_cancelled": "已取消。",
        "status_returned": "显示为已退货。",
        "status_delayed": "有延误。",
        "status_held": "已暂停处理。",
        "status_quoted": "的状态是“{status}”。",
        "refund_status_none": "尚未申请。",
        "refund_status_pending": "已申请，等待审核。",
        "refund_status_approved": "已批准。",
        "refund_status_processing": "正在处理。",
        "refund_status_sent": "已退出。",
        "refund_status_partial": "已部分退出。",
        "refund_status_rejected": "显示为未通过。",
        "refund_status_quoted": "的状态是“{status}”。",
        "shipped_on": "包裹于{day}发出。",
        "delivered_on": "包裹于{day}送达。",
        "expected_on": "预计{day}送达。",
        "no_expected": "这里没有预计送达日期。",
        "no_number": "目前还没有运单号。",
        "placed_on": "您于{day}下单。",
        "carrier_number": "承运商{carrier}，运单号{number}。",
        "carrier": "承运商是{carrier}。",
        "number": "运单号是{number}。",
        "url": "查询链接：{url}",
        "contents": "您的订单{id}包含：{items}。",
        "item": "{quantity} × {title}",
        "list": "，",
        "more": "其他商品：{count}行。",
        "total": "您的订单{id}总额为{amount}。",
    },
}
