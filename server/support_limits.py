"""What a question to customer service may hold; both wires ask here, so both refuse in the same words.

Units: characters, and seconds.
"""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import dataclass

from server.errors import InvalidRequest
from server.support_domain import Order, OrderItem, Role, SupportRequest

MAX_TURNS = 1_000
MAX_CONTENT_CHARS = 20_000  # of one turn
MAX_FIELD_CHARS = 300
MAX_URL_CHARS = 2_000
MAX_ITEMS = 200
MAX_QUANTITY = 1_000_000
MAX_TOTAL = 1e12
DATES = ("placed_on", "shipped_on", "delivered_on", "expected_on")
_WORDS = ("order_id", "status", "carrier", "tracking_number", "refund_status")
_CURRENCY = re.compile(r"[A-Za-z]{3}")
_URL = re.compile(r"https?://[^\s<>\"'`\\^{|}]+")
_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8}){0,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportRequestLimits:
    """What the server's operator may set.

    Attributes:
        default_deadline_s: of a request that names none (> 0).
        max_deadline_s: longer ones are taken as this (> 0).
    """

    default_deadline_s: float = 5.0
    max_deadline_s: float = 600.0

    def deadline_s(self, asked_s: float | None) -> float:
        """Seconds from arrival that the server works towards."""
        return self.default_deadline_s if asked_s is None else min(asked_s, self.max_deadline_s)


def check_support_request(request: SupportRequest) -> None:
    """Hold a request against the limits.

    Raises:
        InvalidRequest: names the field, its value and the limit.
    """
    turns = request.turns
    if not 1 <= len(turns) <= MAX_TURNS:
        raise _wrong("messages", f"has {len(turns)} entries", f"send 1 to {MAX_TURNS}, the newest last")
    for at, turn in enumerate(turns):
        _check_text(f"messages[{at}].content", turn.content, MAX_CONTENT_CHARS)
    last = len(turns) - 1
    if turns[-1].role is not Role.USER:
        raise _wrong(
            f"messages[{last}].role", f"is {turns[-1].role.value!r}", "the last message is the user's"
        )
    if not turns[-1].content.strip():
        raise _wrong(f"messages[{last}].content", "is empty", "send what the shopper asks")
    if request.locale and not _LOCALE.fullmatch(request.locale):
        raise _wrong(
            "locale", f"is {request.locale[:40]!r}", "give a tag such as en or zh-CN, or leave it out"
        )
    deadline_s = request.deadline_s
    if deadline_s is not None and not (math.isfinite(deadline_s) and deadline_s > 0):
        raise _wrong("deadline_ms", f"is {deadline_s * 1e3:g}", "give milliseconds above 0, or leave it out")
    if request.order is not None:
        _check_order(request.order)


def role_named(field: str, name: str) -> Role:
    """A role by its name.

    Raises:
        InvalidRequest: there is no such role; says which there are.
    """
    try:
        return Role(name)
    except ValueError:
        known = ", ".join(Role)
        raise InvalidRequest(
            f"{field} is {name[:60]!r}; choose one of {known}", field=field, limit=known
        ) from None


def iso_day(text: str) -> datetime.date | None:
    """The day of an ISO 8601 date or time; None where it is none."""
    try:
        return datetime.datetime.fromisoformat(text.strip()).date()
    except ValueError:
        return None


def is_web_address(text: str) -> bool:
    """Whether it is an address that may be shown as a link."""
    return len(text) <= MAX_URL_CHARS and _URL.fullmatch(text) is not None


def _check_order(order: Order) -> None:
    for name in _WORDS:
        _check_text(f"order.{name}", getattr(order, name), MAX_FIELD_CHARS)
    for name in DATES:
        value = getattr(order, name)
        if value and iso_day(value) is None:
            raise _wrong(f"order.{name}", f"is {value[:40]!r}", "give an ISO date such as 2026-03-31")
    if order.tracking_url and not is_web_address(order.tracking_url):
        shown = order.tracking_url[:60]
        raise _wrong(
            "order.tracking_url",
            f"is {shown!r}",
            f"give an address that begins with 'https://', of at most {MAX_URL_CHARS} characters",
        )
    if order.currency and not _CURRENCY.fullmatch(order.currency):
        shown = order.currency[:20]
        raise _wrong("order.currency", f"is {shown!r}", "give a code of three letters, such as EUR")
    total = order.total
    if total is not None and not (math.isfinite(total) and abs(total) <= MAX_TOTAL):
        raise _wrong("order.total", f"is {total:g}", f"give an amount of at most {MAX_TOTAL:g}")
    if len(order.items) > MAX_ITEMS:
        raise _wrong("order.items", f"has {len(order.items)} entries", f"send at most {MAX_ITEMS}")
    for at, item in enumerate(order.items):
        _check_item(f"order.items[{at}]", item)


def _check_item(field: str, item: OrderItem) -> None:
    _check_text(f"{field}.title", item.title, MAX_FIELD_CHARS)
    _check_text(f"{field}.item_id", item.item_id, MAX_FIELD_CHARS)
    if not item.title.strip():
        raise _wrong(f"{field}.title", "is empty", "it is needed")
    if not 1 <= item.quantity <= MAX_QUANTITY:
        raise _wrong(f"{field}.quantity", f"is {item.quantity}", f"give 1 to {MAX_QUANTITY}")


def _check_text(field: str, text: str, most: int) -> None:
    if len(text) > most:
        raise _wrong(field, f"has {len(text)} characters", f"at most {most} are read; shorten it")


def _wrong(field: str, state: str, advice: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {state}; {advice}", field=field, limit=advice)
