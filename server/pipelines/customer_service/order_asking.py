"""What is asked of an order, and of whose: the caller's own, one that was not passed in, or somebody else's.

An order is passed in for the shopper who is asking. Whoever names another order, or asks for another person, is told of
neither: it is for a colleague to see who may know. The same goes for a parcel that is said to be delivered and is not there:
no field of an order settles that.
"""

from __future__ import annotations

import re
from enum import StrEnum

from server.pipelines.customer_service.order_words import order_phrases
from server.pipelines.product_copy.folding import fold
from server.support_domain import Entity, EntityKind, HandoverReason, Order

MOST_CHARS = 400  # of a message


class Topic(StrEnum):
    """What of an order is asked for."""

    WHERE = "where"
    ARRIVAL = "arrival"
    REFUND = "refund"
    CONTENTS = "contents"
    TRACKING = "tracking"
    TOTAL = "total"
    PLACED = "placed"

    @property
    def label(self) -> str:
        """What the intent is called."""
        return _LABELS[self]


_LABELS = {
    Topic.WHERE: "track_order", Topic.ARRIVAL: "delivery_date", Topic.REFUND: "refund_status", Topic.CONTENTS: "order_contents",
    Topic.TRACKING: "track_order", Topic.TOTAL: "order_total", Topic.PLACED: "order_date",
}  # fmt: skip
_ASKED: tuple[tuple[Topic, re.Pattern[str]], ...] = tuple(
    (topic, re.compile(order_phrases(topic.value))) for topic in
    (Topic.REFUND, Topic.TRACKING, Topic.CONTENTS, Topic.TOTAL, Topic.PLACED, Topic.ARRIVAL, Topic.WHERE)
)  # fmt: skip
_POLICY = re.compile(order_phrases("policy"))
_OTHERS = re.compile(order_phrases("others"))
_NAMED_PERSON = re.compile(order_phrases("named_person"))
_DELIVERED = re.compile(order_phrases("says_delivered"))
_NOT_THERE = re.compile(order_phrases("not_there"))
_CODE = re.compile(
    r"(?<![a-z0-9.,€$£])#?[a-z]{0,6}[-_]?\d[a-z0-9]{2,19}(?:[-_/][a-z0-9]{1,12}){0,3}(?![a-z0-9]|[.,]\d)"
)
_YEAR = re.compile(r"(?:19|20)\d\d")
# "order status of B-2002", "订单B-2002": what stands between the word and the number says nothing else.
_ORDER_BEFORE = re.compile(
    r"(?:order|purchase|parcel|package|shipment|订单|单号|包裹|这单|那单)(?: ?(?:status|state|number|no|nr|id|code|called|with|the|is|of|for|on|状态|编号|号码?|号|的|是|为))*[\s.:：#]{0,4}$"
)
_MEASURE = re.compile(
    r"\s?(?:%|€|\$|£|¥|g|kg|ml|l|cm|mm|m|km|w|v|mah|gb|tb|hz|inch|euros?|eur|usd|dollars?|yuan|元|块|欧|克|升|厘米|毫米|米|瓦|天|days?|hours?|weeks?|minutes?|o'clock|times)\b"
)


def topic_of(message: str) -> Topic | None:
    """What of the shopper's own order a message asks for; None: nothing, or how the shop does it in general."""
    plain = fold(message[:MOST_CHARS])
    if _POLICY.search(plain):
        return None
    return next((topic for topic, phrases in _ASKED if phrases.search(plain)), None)


def order_doubt(
    order: Order | None, message: str, topic: Topic | None, entities: tuple[Entity, ...], *, delivered: bool
) -> HandoverReason | None:
    """Why a person must see to what is asked of an order; None: nothing says so.

    Args:
        order: that was passed in; None: none was.
        message: of the shopper.
        topic: what is asked of the order.
        entities: that the message names.
        delivered: whether the order says that it was delivered.
    """
    if disputes_delivery(message, delivered=delivered and topic is not None):
        return HandoverReason.PAYMENT_DISPUTE
    if asks_for_another_person(message):
        return HandoverReason.LOW_CONFIDENCE
    if order is not None and topic is not None and names_another_order(order, message, entities):
        return HandoverReason.LOW_CONFIDENCE
    return None


def asks_for_another_person(message: str) -> bool:
    """Whether the order asked for is somebody else's: a relative's, a named person's."""
    message = message[:MOST_CHARS]
    plain = fold(message)
    return not _POLICY.search(plain) and bool(_OTHERS.search(plain) or _NAMED_PERSON.search(message))


def disputes_delivery(message: str, *, delivered: bool = False) -> bool:
    """Whether a parcel is said to be delivered and is not there.

    Args:
        message: of the shopper.
        delivered: whether the order that was passed in says so; then the shopper need not.
    """
    plain = fold(message[:MOST_CHARS])
    return _NOT_THERE.search(plain) is not None and (delivered or _DELIVERED.search(plain) is not None)


def names_another_order(order: Order, message: str, entities: tuple[Entity, ...]) -> bool:
    """Whether a message names an order that is not the one passed in, alone or beside it.

    Whatever has the form of an order's number counts, in whatever form the shop writes its own; what the order itself says
    (numbers of its parcel and things, in its titles) does not.
    """
    own = plain_number(order.order_id)
    if not own:
        return False
    said = " ".join(
        [order.tracking_number, order.carrier, *(f"{item.title} {item.item_id}" for item in order.items)]
    )
    known = {plain_number(one) for one in re.split(r"[\s,;()]+", said)} | {
        plain_number(order.tracking_number)
    }
    named = {plain_number(one.value or one.text) for one in entities if one.kind is EntityKind.ORDER_NUMBER}
    named |= _codes(message[:MOST_CHARS], order.order_id, entities)
    return any(not _is_own(name, own) and name not in known for name in named)


def _codes(message: str, own: str, entities: tuple[Entity, ...]) -> set[str]:
    """What has the form of an order's number, beside days, amounts, measures and the names of things."""
    plain = fold(message)
    for one in entities:
        if one.kind in (EntityKind.DATE, EntityKind.AMOUNT):
            text = fold(one.text).strip()
            plain = plain.replace(text, " " * len(text))
    things = {fold(one.text).strip() for one in entities if one.kind is EntityKind.PRODUCT}
    found = set()
    for code in _CODE.finditer(plain):
        text = code.group()
        if sum(map(str.isdigit, text)) < 3 or _YEAR.fullmatch(text) or _MEASURE.match(plain, code.end()):
            continue
        alike = _shape(text) == _shape(fold(own).strip())
        if (
            text in things
            and not alike
            and not _ORDER_BEFORE.search(plain, max(0, code.start() - 40), code.start())
        ):
            continue
        found.add(plain_number(text))
    return found


def _shape(number: str) -> str:
    return re.sub(r"\d+", "9", re.sub(r"[a-z]", "a", number.lstrip("#")))


def _is_own(name: str, own: str) -> bool:
    """Whether a number is the order's, whole or but for what stands before its digits."""
    return name == own or (len(name) >= 3 and own.endswith(name)) or (len(own) >= 3 and name.endswith(own))


def plain_number(number: str) -> str:
    """A number's letters and digits, in small letters."""
    return "".join(char for char in number.lower() if char.isalnum())
