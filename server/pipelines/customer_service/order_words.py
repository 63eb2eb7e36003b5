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
_KIN = (
    r"(?:wife|husband|spouse|partner|girlfriend|boyfriend|fiancee?|mother|father|mum|mom|mummy|dad|daddy|son|daughter|brother|sister|parent|grandmother|grandfather|"
    r"grandma|grandpa|grandad|nan|granny|aunt|uncle|cousin|niece|nephew|friend|flatmate|roommate|housemate|neighbou?r|colleague|co-?worker|boss|client|customer|mate|ex|"
    r"(?:mother|father|brother|sister|son|daughter)-in-law)"
)
_KIN_ZH = (
    r"(?:老婆|老公|妻子|丈夫|太太|先生|爱人|对象|男朋友|女朋友|男友|女友|未婚[妻夫]|朋友|闺蜜|哥们|同事|邻居|室友|同学|爸爸?|妈妈?|父亲|母亲|儿子|女儿|孩子|哥哥?|姐姐?|弟弟?|"
    r"妹妹?|爷爷|奶奶|外公|外婆|姥姥|姥爷|婆婆|公公|岳[父母]|亲戚|老板|客户|领导)"
)
_SURNAME_ZH = r"[王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范石廖贾夏韦付邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严]"
_ORDERED = r"(?:order|parcel|package|delivery|shipment|purchase|refund|tracking(?: number)?)s?"
_NO_OWNER = (  # what stands before "'s order" and is nobody
    r"(?!(?:what|where|it|that|there|who|how|when|here|let|he|she|today|yesterday|tomorrow|week|month|year|night|morning|evening|monday|tuesday|wednesday|thursday|"
    r"friday|saturday|sunday|shop|store|company|dhl|ups|gls|fedex|dpd|hermes|carrier|courier|warehouse)'s)"
)
_PHRASES = {
    "refund": r"(?:has|have|is|was|did) (?:my|the) (?:money|refund) .{0,14}(?:sent|refunded|returned|paid|back|issued|processed|through|come|arriv)|退款.{0,3}(?:弄|办|处理|搞)?好了?[吗没]|where(?:'s| is) (?:my|the) (?:refund|money)|(?:my|the) refund (?:status|yet|arrived|been)|status of (?:my|the) refund|"
    r"when (?:will|do|am|can) i (?:get|see|receive|have|expect)(?: back)? (?:my|the) (?:refund|money)|have you (?:sent|issued|made|processed) (?:my|the) refund|"
    r"(?:has|is|was) (?:my|the) refund|did (?:you|i) (?:get|receive|send|issue) (?:my|the) refund|refund .{0,20}(?:not|hasn't) (?:arrived|come)|"
    r"(?:waiting|still wait\w*) for (?:my|the) (?:refund|money)|have(?:n't| not) (?:got|received|had) (?:my|the) (?:refund|money)|"
    r"我的退款.{0,8}(?:哪|到|状态|进度|怎么样|怎样|处理|了吗|没|什么时候)|退款(?:到账|到哪|进度|状态|处理|下来|退).{0,6}(?:了吗|没有|了没|哪|怎么样|如何|怎样|多少)?|"
    r"退款.{0,6}(?:到账了吗|还没|到了吗|了没有?)|退款什么时候(?:到|给我|退)|什么时候(?:能)?(?:收到|拿到|退)(?:我的)?(?:退款|钱)|(?:钱|款)(?:退|打).{0,3}(?:了吗|了没|没有)|(?:钱|款).{0,4}什么时候(?:退给我|给我|到我)",
    "tracking": rf"^\W*(?:(?:my|the) )?tracking (?:number|link|code|id)(?: please| pls)?\W*$|(?:which|what) (?:courier|carrier|delivery company|shipping company) .{{0,24}}(?:{_MINE}|it)\b|(?:快递|运|物流)?单号.{{0,3}}(?:发|给)(?:我|一下)|"
    rf"(?:what(?:'s| is)|give me|send me|need|have|tell me) (?:my|the|a) (?:tracking|shipment|parcel) (?:number|link|code|id)|"
    rf"(?:who|which (?:carrier|company|courier)) (?:is )?(?:carrying|delivering|delivers|carries|has|ships|shipped) (?:it|{_MINE})|tracking (?:number|link) (?:for|of) (?:my|the)|"
    rf"(?:我的|这个|这单|给我)?.{{0,4}}(?:快递|运|物流|追踪|跟踪)(?:单号|编号|号码?|链接)(?:是|是多少|多少|给我|发|呢|在哪|[?？]|$)|哪家快递|什么快递|谁(?:家)?送",
    "contents": r"how many \w+(?: \w+)? (?:did i|have i|are in my|are in the|do i have in my) (?:order|bought|buy|package|parcel)|what (?:did i|have i|i)(?: just)? (?:order|buy|bought|purchase)|what(?:'s| is) in (?:my|the|this) (?:order|parcel|package)|"
    r"which (?:items?|products?|things?) (?:did i|have i|are in|is in)|(?:items?|contents) (?:of|in) (?:my|this|the) order\b|"
    r"我(?:都)?(?:买|订|下单|订购|购买)了(?:些|一些)?(?:什么|哪些|啥)|(?:订单|包裹)(?:里|中|里面)(?:都)?(?:有|是|包含)(?:些)?(?:什么|哪些|啥)",
    "total": r"what (?:did i|have i|was i) (?:pay|paid|charged|spend|spent)\b|how much (?:did i|have i|do i have to|was i) (?:pay|paid|spend|spent|charged?|owe)|(?:what(?:'s| is|'s| was) )?(?:the|my) (?:order )?total (?:of|for|price|amount)|"
    r"(?:total|price|amount) of (?:my|this|the) order|how much (?:was|is|did) (?:my|this|the) order|"
    r"我(?:一共|总共)?(?:付|花|支付)了多少|(?:订单|这单)(?:的)?(?:总额|总价|金额|总金额|一共|总共)(?:是)?多少|(?:一共|总共)(?:付|花|支付)了?多少",
    "placed": r"when (?:did|was|have) (?:i|my order|the order|this order|it) (?:order|ordered|place|placed|buy)|(?:date|day) (?:of my order|i ordered)|"
    r"(?:我)?(?:是)?(?:什么时候|几号|哪天|何时)(?:下的?单|买的|订的|订购的|下的订单)",
    "arrival": rf"(?:^\W*(?:and )?|(?:tell|let|know|say|see|check|idea|find out|sure|said|clue|remember)\b[^.?!]{{0,20}})\bwhen (?:my|the|our|this) (?:\w+ ){{1,3}}(?:will |should |is going to |is )*(?:comes?|coming|arrives?|arriving|gets? here|get here|be here|be delivered|delivered|due)\b|"
    rf"how (?:long|soon|many (?:more )?days)(?: more)? (?:until|till|before|will it be (?:until|before)|can i expect) (?:{_MINE}|it|i)\b(?! (?:can|could|may|must|have to|should))|(?:what|which) day (?:is|does|will|do) (?:{_MINE}|it|i)\b|"
    rf"^\W*(?:(?:my|the) )?(?:expected |estimated )?(?:delivery|arrival) (?:date|day)(?: please)?\W*$|^\W*(?:and |so )?when (?:will|does|is|should|can) (?:it|they|that)(?: be)?(?: actually| finally)? (?:arrive|arriving|come|coming|delivered|get here|here|due|show up)|^\W*(?:and )?(?:eta|expected (?:date|delivery))\W*$|what(?:'s| is) the eta|"
    rf"^\W*(?:那)?(?:大概|预计)?(?:什么时候|几时|何时|哪天|几号|啥时候)(?:能|会|可以)?(?:送?到|送达|收到|送来)|"
    rf"when (?:will|does|is|can|should|would|do) (?:{_MINE}|it|i|they) .{{0,25}}(?:arriv|deliver|come|get here|be here|expect|receive|get (?:it|my))|"
    rf"(?:expected|estimated|delivery) (?:delivery |arrival )?(?:date|day|time) (?:of|for) (?:my|this|the) {_THING}|when (?:can|should) i expect {_MINE}|"
    rf"(?:{_MINE}|it) (?:arrive|be delivered|come) (?:today|tomorrow|this week|on time|before|by)|"
    rf"(?:我的|这个|我买的|我订的).{{0,6}}{_ORDER_ZH}?.{{0,4}}(?:什么时候|几时|何时|哪天|几号|多久|啥时候).{{0,5}}(?:到|送|收|来)|"
    rf"{_ORDER_ZH}.{{0,3}}(?:什么时候|几时|何时|哪天|几号|啥时候).{{0,5}}(?:到|送达|收到|送到|能到|来)|预计.{{0,4}}(?:到|送达).{{0,6}}(?:吗|时间|[?？])",
    "where": rf"(?:is|are|was) (?:{_MINE}) (?:already |still |now |being )*(?:in transit|confirmed|processed|being processed|packed|paid|ready|on hold|with the (?:courier|carrier)|out for delivery|cancell?ed|here|there|shipped|sent)\b|"
    rf"(?:hold-?up|delay|problem|progress|latest|story|wrong) (?:with|on|of) {_MINE}|(?:快递|包裹|订单|货)(?:现在|目前|已经)?(?:走|送|运|发)?到(?:哪|什么地方)|怎么还[没不](?:发货|发|到|送|寄)|为什么还[没不](?:发货|发|到|送|寄)|"
    rf"(?:has|have|did|is|was|are|hasn't|isn't|wasn't|didn't) (?:it|they)(?: not)?(?: been| being)?(?: already| yet| now| still| finally| even)*(?: been)? (?:ship|sent|dispatch|left|leave|on (?:its|the|their) way|deliver|arriv|packed|out for|in transit|delayed|late|here)|"
    rf"^\W*(?:(?:hi|hello|hey|please|and|so)\b[ ,]*)*(?:what(?:'s| is) (?:the|my) )?(?:current )?(?:order |delivery |parcel |shipping )?status(?: please| of (?:it|that|this))?\W*$|order status\b|status of (?:order|parcel)|"
    rf"(?:any|an|some) (?:news|update|word)s?(?: (?:on|about|of|from) (?:it|{_MINE}|where it is))?\W*$|where(?:'s| is| are) (?:it|they|order)\b|where (?:it|they) (?:is|are)\b|"
    rf"(?:is|are|was|were) (?:{_MINE}|it|they) (?:still )?(?:delayed|late|lost|stuck|on hold|on time|running late)|(?:{_MINE}) (?:delivered|shipped|sent|dispatched|arrived)(?: yet| already)?\W*$|"
    rf"^\W*(?:现在)?(?:到哪(?:了|里|儿)|在哪(?:了|里|儿)?|发货了?[吗没]|发了[吗没]|送到了?[吗没]|到了[吗没]|寄了[吗没]|签收了[吗没]|有(?:什么)?(?:进展|消息)[吗没]?|什么状态|状态(?:是什么|如何|呢)?)\W*$|(?:有没有|是否)(?:已经?)?(?:发货|寄出|送达|发出|送到)|"
    rf"where(?:'s| is| are|'re|s) (?:{_MINE}|my {_NOT_OTHER}\w+)\b|where (?:{_MINE}) (?:is|are|went)|(?:status|whereabouts) of (?:{_MINE})|(?:my|this|the) order(?:'s)? status|"
    rf"(?:has|have|did|is|was|are) (?:{_MINE}) .{{0,12}}(?:ship|sent|dispatch|left|leave|on (?:its|the) way|delivered|arrive|lost|packed)|"
    rf"(?:{_MINE}) (?:still )?(?:hasn't|has not|haven't|didn't|did not|isn't|is not|never) .{{0,12}}(?:arriv|come|ship|here|deliver|show|turn)|"
    rf"(?:haven't|have not|didn't|never) (?:received|got|get|gotten|receive) {_MINE}|(?:track|check|trace|follow) (?:on )?{_MINE}|"
    rf"have you (?:shipped|sent|dispatched) (?:it|{_MINE})|what(?:'s| is) (?:happening|going on) with {_MINE}|update on {_MINE}|"
    rf"(?:我的|我买的|我订的|我下的|这个|这单).{{0,8}}(?:到哪|在哪|哪里|哪儿|发货|出库|寄出|发出|状态|还没到|没收到|怎么还没|物流|送到)|{_ORDER_ZH}(?:现在)?(?:到哪|在哪|到了?哪|还没到|怎么还没|没收到)|"
    rf"(?:查|查询|跟踪|追踪|查看)(?:一下)?(?:我的)?(?:订单|包裹|快递|物流|我的)|(?:发货|寄出|发出)了(?:吗|没)|没(?:有)?收到.{{0,4}}{_ORDER_ZH}|订单状态",
    # Somebody else's: a relative's, that of a person who is named (as written, since names are known by their capitals).
    "others": rf"\b(?:my|our|his|her|their|a|the|this) (?:\w+ ){{0,2}}{_KIN}s?'s? (?:\w+ ){{0,2}}{_ORDERED}\b|\b(?:his|her|(?:somebody|someone|another (?:person|customer|man|woman)|other (?:people|customers))(?: else)?'s?) (?:\w+ ){{0,1}}{_ORDERED}\b|"
    rf"\b{_ORDERED} (?:of|by|under|belonging to|placed by|made by|in the name of|under the name of|for the account of) (?:(?:my|our|his|her|their|a) (?:\w+ ){{0,2}}{_KIN}|mr|mrs|ms|miss|dr|him|her|them|(?:somebody|someone|another))\b|"
    rf"\b(?:my|our) (?:\w+ )?{_KIN} (?:has |had |just |recently )*(?:ordered|bought|placed|purchased)\b(?! (?:me|us|for me|it for me))|\bon behalf of\b|\b{_NO_OWNER}[a-z]{{2,20}}'s (?:\w+ )?{_ORDERED}\b|"
    rf"{_KIN_ZH}(?:的|那个|买的|下的|订的|那[单件]).{{0,6}}(?:订单|包裹|快递|货|东西|退款|快件|单)|(?:他|她|他们|她们|别人|人家)(?:的|买的|下的|订的|那个).{{0,4}}(?:订单|包裹|快递|退款|快件)|"
    rf"[\u4e00-\u9fff]{{1,3}}(?:先生|女士|小姐)的?.{{0,3}}(?:订单|包裹|快递|退款)|(?:^|[查看问是叫我给一下，。 ]){_SURNAME_ZH}[\u4e00-\u9fff]{{1,2}}的(?:订单|包裹|快递|退款)|(?:帮|替|代)(?:我的?)?{_KIN_ZH}(?:查|看|问)",
    "named_person": r"(?<![Mm]y )(?<![Oo]ur )\b(?i:orders?|parcels?|packages?|deliver(?:y|ies)|purchases?|refunds?) (?i:of|for|by|under(?: the name)?(?: of)?|in the name(?: of)?|belonging to|placed by) (?i:mr\.? |mrs\.? |ms\.? |dr\.? )?[A-Z][a-z'-]+ (?:[A-Z]\. )?[A-Z][a-zA-Z'-]+",
    # What is told of a parcel, and what is there; both together are for a person to settle.
    "says_delivered": r"\b(?:says?|said|saying|shows?|showed|showing|marked|marks?|status|listed|claims?|claimed|tracking|reads|supposedly|according|apparently|allegedly|was|is|it's|been|being|confirm\w*|told|proof|as)\b.{0,40}\b(?:delivered|signed(?: for)?|handed over|dropped off|left (?:at|with|in|on))\b|\bdelivered\b.{0,20}\b(?:but|yet|though|however)\b|"
    r"(?:显示|说|写着?|提示|状态|系统|物流).{0,8}(?:签收|送达|妥投|完成|收货|派送成功|送到)|已(?:经)?(?:签收|送达|妥投)",
    "not_there": r"\b(?:never|not|haven't|hasn't|didn't|don't|wasn't|weren't|isn't|doesn't|without|havent|hasnt|didnt|dont|no one|nobody|nothing|none|no (?:parcel|package|box|order|delivery|sign|trace)) ?(?:\w+ ){0,4}(?:received?|receiving|arriv\w*|got|gotten|get|come|came|here|turned up|turn up|showed up|show up|delivered|have|had|there|seen?|found?|find|at (?:home|my)|signed)\b|"
    r"\bno (?:parcel|package|box|delivery|sign of|trace of)\b|\b(?:never (?:received|got|came|arrived|had)|nowhere (?:to be|in)|still (?:waiting|missing)|isn't (?:here|there)|not (?:here|there)|nothing (?:here|there|came|arrived|was|in|at|on)|empty (?:porch|doorstep|mailbox|box))\b|\bmissing\b|"
    r"没有?(?:收到|拿到|见到|看到|签收|人签|人收)|未收到|(?:不是|并非)我?(?:本人)?(?:签|收)|没见(?:到|着)|还没到|找不到|不见了|根本没(?:有|收|到)|没签",
    # How the shop does it in general, and wishes to change something: the pages answer these.
    "policy": r"\bwhere (?:can|do|could) i\b|在?哪(?:里|儿)?(?:可以|能|查|看)|(?:会|能|可以)[放送]到?哪|\bhow (?:do|can|could|should|would|does|to)\b(?! much)|\bhow long (?:does|do|will|is) (?:a|an|the|standard|express|delivery|shipping|refund)|\bwhat (?:if|happens|do i do|should i do|can i do)\b|"
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
