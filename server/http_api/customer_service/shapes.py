"""The JSON of ``POST /v1/customer-service``: bytes to a domain request.

The structs are the one description of what may be sent; bounds are in their schema for readers only, and checked by
``server.support_limits``, so that both wires refuse in the same words.

Units: milliseconds on the wire, seconds in the domain.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from server.http_api.wrong_fields import Shapes, explain, malformed
from server.support_domain import Order, OrderItem, Role, SupportRequest, Turn
from server.support_limits import MAX_CONTENT_CHARS, MAX_FIELD_CHARS, MAX_ITEMS, MAX_TURNS, role_named

_FIELD = Meta(extra_json_schema={"maxLength": MAX_FIELD_CHARS})
_DAY = Meta(description="ISO date, such as 2026-03-31", extra_json_schema={"maxLength": 40})


class MessageIn(Struct, forbid_unknown_fields=True):
    """One message of the conversation."""

    role: Annotated[str, Meta(extra_json_schema={"enum": [role.value for role in Role]})]
    content: Annotated[str, Meta(extra_json_schema={"maxLength": MAX_CONTENT_CHARS})]


class OrderItemIn(Struct, forbid_unknown_fields=True):
    """One line of an order."""

    title: Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_FIELD_CHARS})]
    quantity: Annotated[int, Meta(extra_json_schema={"minimum": 1})] = 1
    item_id: Annotated[str | None, _FIELD] = None


class OrderIn(Struct, forbid_unknown_fields=True):
    """What the shop knows of this shopper's order: the only source for questions about it. All of it may be left out."""

    order_id: Annotated[str | None, _FIELD] = None
    status: Annotated[str | None, Meta(description="the shop's word, such as shipped")] = None
    placed_on: Annotated[str | None, _DAY] = None
    shipped_on: Annotated[str | None, _DAY] = None
    delivered_on: Annotated[str | None, _DAY] = None
    expected_on: Annotated[str | None, _DAY] = None
    carrier: Annotated[str | None, _FIELD] = None
    tracking_number: Annotated[str | None, _FIELD] = None
    tracking_url: Annotated[str | None, Meta(description="begins with https://")] = None
    items: Annotated[list[OrderItemIn], Meta(extra_json_schema={"maxItems": MAX_ITEMS})] = []
    total: float | None = None
    currency: Annotated[str | None, Meta(description="ISO 4217, such as EUR")] = None
    refund_status: Annotated[str | None, Meta(description="the shop's word, such as approved")] = None


class SupportIn(Struct, forbid_unknown_fields=True):
    """A question, with what was said before."""

    messages: Annotated[
        list[MessageIn],
        Meta(
            description="oldest first; the last is the user's",
            extra_json_schema={"minItems": 1, "maxItems": MAX_TURNS},
        ),
    ]
    order: OrderIn | None = None
    locale: Annotated[str | None, Meta(description="language of the answer; left out: the question's")] = None
    stream: Annotated[bool, Meta(description="answer by server-sent events")] = False
    generate: Annotated[
        bool | None,
        Meta(description="let a language model phrase it from the pages; left out: as the server is set"),
    ] = None
    deadline_ms: Annotated[
        float | None,
        Meta(
            description="milliseconds from arrival within which the answer is of use",
            extra_json_schema={"exclusiveMinimum": 0},
        ),
    ] = None


SHAPES: Shapes = {"": SupportIn, "messages": MessageIn, "order": OrderIn, "items": OrderItemIn}
_decoder = msgspec.json.Decoder(SupportIn)


def decode_support(body: bytes | bytearray) -> tuple[SupportRequest, bool]:
    """Read a request, and whether it is to be streamed.

    Raises:
        MalformedRequest: the bytes are not JSON.
        InvalidRequest: a field has a wrong type, name or choice; names it, with its value.
    """
    try:
        wire = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise explain(error, body, "", SHAPES) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise malformed(error) from error
    request = SupportRequest(
        turns=tuple(_turn(at, message) for at, message in enumerate(wire.messages)),
        order=None if wire.order is None else _order(wire.order),
        locale=(wire.locale or "").strip(),
        deadline_s=None if wire.deadline_ms is None else wire.deadline_ms * 1e-3,
        generate=wire.generate,
    )
    return request, wire.stream


def _turn(at: int, message: MessageIn) -> Turn:
    return Turn(role=role_named(f"messages[{at}].role", message.role), content=message.content)


def _order(wire: OrderIn) -> Order:
    return Order(
        order_id=wire.order_id or "",
        status=wire.status or "",
        placed_on=wire.placed_on or "",
        shipped_on=wire.shipped_on or "",
        delivered_on=wire.delivered_on or "",
        expected_on=wire.expected_on or "",
        carrier=wire.carrier or "",
        tracking_number=wire.tracking_number or "",
        tracking_url=wire.tracking_url or "",
        items=tuple(
            OrderItem(title=item.title, quantity=item.quantity, item_id=item.item_id or "")
            for item in wire.items
        ),
        total=wire.total,
        currency=wire.currency or "",
        refund_status=wire.refund_status or "",
    )
