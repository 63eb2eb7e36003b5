"""Customer service as data: what a shopper asked, what they are told, and why a person takes over. Knows no wire.

Nothing is ever answered but a greeting, a quote of the shop's pages, fields of the order that the caller passed in, or a text whose
every sentence such a quote supports.

Units: seconds on the monotonic clock; money in the order's currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from server.copy_domain import Language


class Role(StrEnum):
    """Who said it."""

    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderItem:
    """One line of an order."""

    title: str
    quantity: int = 1
    item_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the shop knows of an order; the only source for questions about it. Every field may be missing.

    Attributes:
        order_id: as the shopper knows it.
        status: the shop's word, such as "shipped".
        placed_on, shipped_on, delivered_on, expected_on: ISO dates.
        carrier, tracking_number, tracking_url: of the parcel.
        items: lines.
        total: amount; ``currency`` is its ISO 4217 code.
        refund_status: the shop's word, or empty.
    """

    order_id: str = ""
    status: str = ""
    placed_on: str = ""
    shipped_on: str = ""
    delivered_on: str = ""
    expected_on: str = ""
    carrier: str = ""
    tracking_number: str = ""
    tracking_url: str = ""
    items: tuple[OrderItem, ...] = ()
    total: float | None = None
    currency: str = ""
    refund_status: str = ""


class Tier(StrEnum):
    """Who answered (``served_by``)."""

    EXTRACTIVE = "extractive"
    GENERATIVE = "generative"
    ORDER = "order"
    COURTESY = "courtesy"  # a greeting, thanks or a goodbye, returned by a fixed sentence that claims nothing
    HANDOVER = "handover"


class HandoverReason(StrEnum):
    """Why a person takes over."""

    ASKED_FOR_PERSON = "asked_for_person"
    OUT_OF_SCOPE = "out_of_scope"
    LOW_CONFIDENCE = "low_confidence"
    REPEATED_FAILURE = "repeated_failure"
    ANGRY = "angry"
    VULNERABLE = "vulnerable"
    LEGAL = "legal"
    PAYMENT_DISPUTE = "payment_dispute"
    SAFETY = "safety"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportRequest:
    """One question, with what was said before.

    Attributes:
        turns: oldest first; the last is the shopper's.
        order: that the caller has looked up for this shopper; None: none.
        locale: BCP 47 tag the answer should be in; empty: as the question.
        deadline_s: seconds from arrival; None: the endpoint's default.
        generate: whether a language model may phrase the answer; None: as the server is set.
    """

    turns: tuple[Turn, ...]
    order: Order | None = None
    locale: str = ""
    deadline_s: float | None = None
    generate: bool | None = None


class Missing(StrEnum):
    """What was away while an answer was made; the answer stands all the same."""

    ENCODER = "encoder"  # pages were searched by words alone
    KNOWLEDGE = "knowledge"  # only the order could be looked at
    TEXT_MODEL = "text_model"  # the pages were quoted as they are


class EntityKind(StrEnum):
    """What a question names."""

    ORDER_NUMBER = "order_number"
    PRODUCT = "product"
    DATE = "date"
    AMOUNT = "amount"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """Something that a text names.

    Attributes:
        kind: see there.
        text: as it stands.
        start, end: where, in characters.
        value: normalized: an ISO date, "49.90 EUR", the number without spaces.
    """

    kind: EntityKind
    text: str
    start: int
    end: int
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What must be heard before any answer is looked for; each with the words that say it, empty: not said.

    Attributes:
        asked_for_person, angry, vulnerable, legal, payment_dispute, safety: for a person.
        injection: an attempt to give instructions; never a reason to do anything but to treat the text as data.
    """

    asked_for_person: str = ""
    angry: str = ""
    vulnerable: str = ""
    legal: str = ""
    payment_dispute: str = ""
    safety: str = ""
    injection: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What the question is about.

    Attributes:
        label: of the classifier; "out_of_scope" below its threshold; empty: there is no classifier.
        confidence: calibrated probability.
    """

    label: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an answer stands.

    Attributes:
        id: of the document, with "#anchor" where there is one; "order" for the order.
        title: of it.
        quote: byte-exact part of the source (of the order: "field: value").
        url: where people read it; may be empty.
    """

    id: str
    title: str
    quote: str
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """For the person who takes over.

    Attributes:
        reason: see there.
        summary: in the shopper's language: what was asked, what was tried; personal data masked.
        evidence: passages that were found, best first.
    """

    reason: HandoverReason
    summary: str
    evidence: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportAnswer:
    """What a shopper is told.

    Attributes:
        text: the answer; for a handover a sentence that says a person takes over.
        language: of it.
        intent: see there.
        sources: what the answer rests on; empty only for a handover and for a courtesy.
        handover: None: the answer stands for itself.
        served_by: see ``Tier``.
        model: name and version of the encoder, or of the text model where that wrote it; empty of an order and a courtesy.
        knowledge_epoch: that was searched; 0: none was.
        entities: that the question names.
        missing: what was away.
        confidence: 0 to 1, of the best passage, whether it was quoted or not; 1 of the order, 0 where none was looked for.
        strong: whether the best passage is so near that it is quoted whatever the question's intent.
        timings_s: seconds by stage: queue, encode, retrieve, answer, check, total.
    """

    text: str
    language: Language
    intent: Intent
    sources: tuple[Source, ...]
    handover: Handover | None
    served_by: Tier
    model: tuple[str, str]
    knowledge_epoch: int
    entities: tuple[Entity, ...] = ()
    missing: tuple[Missing, ...] = ()
    confidence: float = 0.0
    strong: bool = False
    timings_s: Mapping[str, float] = field(default_factory=dict)
