"""Questions about an order, answered from the order that the caller passed in and from nothing else.

A field is data whatever it says (``order_fields``): a status is said in our words where it is one of those that shops use and
else quoted if it reads like a status; what promises, gives an address or gives instructions is not repeated. What a field
does not say is said to be not known.

Units: money in the order's currency.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from server.copy_domain import Language
from server.pipelines.customer_service.order_asking import Topic
from server.pipelines.customer_service.order_fields import (
    shown_carrier,
    shown_order_id,
    shown_status,
    shown_title,
    shown_tracking_number,
    shown_url,
    status_words,
)
from server.pipelines.customer_service.order_words import REFUND_STATUSES, SAID, STATUSES
from server.pipelines.product_copy.folding import visible
from server.support_domain import Order, Source
from server.support_limits import iso_day

ORDER_SOURCE = "order"
MOST_SHOWN = 20  # lines of an order in one answer


@dataclass(frozen=True, slots=True)
class OrderAnswer:
    """What the order says.

    Attributes:
        text: in the shopper's language.
        sources: "field: value" of each field that was used, at least one.
    """

    text: str
    sources: tuple[Source, ...]


class _Reading:
    """An order being read: what was used of it is remembered."""

    def __init__(self, order: Order, language: Language, suspicious: Callable[[str], bool]) -> None:
        self.order = order
        self.said = SAID[language]
        self.language = language
        self._suspicious = suspicious
        self._used: dict[str, str] = {}

    def use(self, name: str, shown: object) -> None:
        self._used.setdefault(name, visible(str(shown)))

    def sources(self) -> tuple[Source, ...]:
        title = self.said["order"].format(id=self.name()).strip()
        kept = self._used.items()
        return tuple(Source(id=ORDER_SOURCE, title=title, quote=f"{name}: {value}") for name, value in kept)

    def name(self) -> str:
        number = shown_order_id(self.order.order_id)
        return number if number and not self._suspicious(number) else ""

    def day(self, field: str) -> str:
        day = iso_day(getattr(self.order, field))
        if day is None:
            return ""
        self.use(field, day.isoformat())
        return self.said["date"].format(
            year=day.year, month=day.month, day=day.day, month_name=day.strftime("%B")
        )

    def status(self, field: str, known: dict[str, str]) -> tuple[str, str]:
        """Its meaning, or empty, and the sentence of it, or empty."""
        raw = visible(getattr(self.order, field))
        if not raw:
            return "", ""
        meaning = known.get(status_words(raw), "")
        if meaning:
            self.use(field, raw)
            return meaning, self.said[f"{field}_{meaning}"]
        quoted = shown_status(raw)
        if quoted and not self._suspicious(quoted):
            self.use(field, quoted)
            return "", self.said[f"{field}_quoted"].format(status=quoted)
        return "", ""

    def parcel(self) -> list[str]:
        """The sentences that say who carries it and where to follow it."""
        order, told = self.order, []
        carrier, number = shown_carrier(order.carrier), shown_tracking_number(order.tracking_number)
        if carrier and self._suspicious(carrier):
            carrier = ""
        if carrier:
            self.use("carrier", carrier)
        if number:
            self.use("tracking_number", number)
        if carrier and number:
            told.append(self.said["carrier_number"].format(carrier=carrier, number=number))
        elif carrier:
            told.append(self.said["carrier"].format(carrier=carrier))
        elif number:
            told.append(self.said["number"].format(number=number))
        url = shown_url(order.tracking_url)
        if url:
            self.use("tracking_url", url)
            told.append(self.said["url"].format(url=url))
        return told


def is_delivered(order: Order) -> bool:
    """Whether the order says that it was delivered."""
    meaning = STATUSES.get(status_words(order.status), "")
    return meaning == "delivered" or (not meaning and iso_day(order.delivered_on) is not None)


def order_answer(
    order: Order, topic: Topic, language: Language, suspicious: Callable[[str], bool]
) -> OrderAnswer | None:
    """Answer from the order.

    Args:
        order: as the caller passed it in.
        topic: what is asked.
        language: of the answer.
        suspicious: whether a text gives instructions; such a field is not repeated.

    Returns:
        The answer, or None where the order does not say it.
    """
    reading = _Reading(order, language, suspicious)
    told = _WRITERS[topic](reading)
    sources = reading.sources()
    if not told or not sources:
        return None
    text = (" " if language is Language.EN else "").join(told)
    return OrderAnswer(re.sub(" {2,}", " ", text), sources)  # where the number is not known


def _where(reading: _Reading) -> list[str]:
    meaning, sentence = reading.status("status", STATUSES)
    told = [reading.said["lead"].format(id=reading.name()) + sentence] if sentence else []
    delivered = reading.day("delivered_on") if meaning in ("", "delivered") else ""
    if delivered:
        told.append(reading.said["delivered_on"].format(day=delivered))
    elif meaning not in ("cancelled", "returned", "delivered"):
        shipped = reading.day("shipped_on") if meaning not in ("received", "packing") else ""
        if shipped:
            told.append(reading.said["shipped_on"].format(day=shipped))
        expected = reading.day("expected_on")
        if expected:
            told.append(reading.said["expected_on"].format(day=expected))
    if not told:
        return []
    return told if meaning in ("cancelled", "received", "packing") else told + reading.parcel()


def _arrival(reading: _Reading) -> list[str]:
    meaning, sentence = reading.status("status", STATUSES)
    delivered = reading.day("delivered_on") if meaning in ("", "delivered") else ""
    if delivered:
        return [reading.said["delivered_on"].format(day=delivered)]
    if meaning in ("cancelled", "returned", "delivered"):
        return [reading.said["lead"].format(id=reading.name()) + sentence]
    expected = reading.day("expected_on")
    lead = [reading.said["lead"].format(id=reading.name()) + sentence] if sentence else []
    if expected:
        return [reading.said["expected_on"].format(day=expected), *lead]
    parcel = reading.parcel() if meaning not in ("received", "packing") else []
    return [*lead, reading.said["no_expected"], *parcel] if lead or parcel else []


def _refund(reading: _Reading) -> list[str]:
    _, sentence = reading.status("refund_status", REFUND_STATUSES)
    return [reading.said["refund_lead"].format(id=reading.name()) + sentence] if sentence else []


def _contents(reading: _Reading) -> list[str]:
    lines: list[str] = []
    hidden = 0
    for at, item in enumerate(reading.order.items):
        title = shown_title(item.title)
        if len(lines) == MOST_SHOWN or not title or reading._suspicious(title):
            hidden += 1
            continue
        reading.use(f"items[{at}]", f"{item.quantity} × {title}")
        lines.append(reading.said["item"].format(quantity=item.quantity, title=title))
    if not lines:
        return []
    told = [reading.said["contents"].format(id=reading.name(), items=reading.said["list"].join(lines))]
    return told if not hidden else [*told, reading.said["more"].format(count=hidden)]


def _tracking(reading: _Reading) -> list[str]:
    told = reading.parcel()
    if told:
        return told
    _, sentence = reading.status("status", STATUSES)
    return (
        [reading.said["lead"].format(id=reading.name()) + sentence, reading.said["no_number"]]
        if sentence
        else []
    )


def _total(reading: _Reading) -> list[str]:
    order = reading.order
    if order.total is None:
        return []
    currency = order.currency.upper() if re.fullmatch(r"[A-Za-z]{3}", order.currency) else ""
    amount = f"{order.total:,.2f} {currency}".strip()
    reading.use("total", amount)
    return [reading.said["total"].format(id=reading.name(), amount=amount)]


def _placed(reading: _Reading) -> list[str]:
    day = reading.day("placed_on")
    return [reading.said["placed_on"].format(day=day)] if day else []


_WRITERS: dict[Topic, Callable[[_Reading], list[str]]] = {
    Topic.WHERE: _where, Topic.ARRIVAL: _arrival, Topic.REFUND: _refund, Topic.CONTENTS: _contents,
    Topic.TRACKING: _tracking, Topic.TOTAL: _total, Topic.PLACED: _placed,
}  # fmt: skip
