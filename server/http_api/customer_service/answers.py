"""The JSON of an answer, whole and as events; the structs are the one description of it.

Units: milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from server.http_api.calls import sse
from server.http_api.schemas import ModelOut
from server.pipelines.customer_service.events import AnswerPart, IntentHeard, SupportEvent
from server.support_domain import (
    Entity,
    EntityKind,
    Handover,
    HandoverReason,
    Intent,
    Missing,
    Source,
    SupportAnswer,
    Tier,
)
from server.support_telemetry import SUPPORT_STAGES


class IntentOut(Struct):
    """What the question is about."""

    label: Annotated[
        str, Meta(description='of the classifier; "out_of_scope" below its threshold; empty: there is none')
    ]
    confidence: Annotated[float, Meta(description="calibrated probability")]


class EntityOut(Struct):
    """Something that the question names."""

    kind: Annotated[str, Meta(extra_json_schema={"enum": [kind.value for kind in EntityKind]})]
    text: str
    value: Annotated[str, Meta(description="normalized")]
    start: Annotated[int, Meta(description="characters from the message's beginning")]
    end: int


class SourceOut(Struct):
    """Where the answer stands."""

    id: Annotated[str, Meta(description='of the document, with its anchor; "order" for the order')]
    title: str
    quote: Annotated[str, Meta(description="as it stands there, to the byte")]
    url: str


class HandoverOut(Struct):
    """For the person who takes over."""

    reason: Annotated[str, Meta(extra_json_schema={"enum": [reason.value for reason in HandoverReason]})]
    summary: Annotated[str, Meta(description="what was asked and tried, without personal data")]
    evidence: Annotated[list[SourceOut], Meta(description="what was found, best first")]


class SupportTimingsOut(Struct):
    """Milliseconds by stage; ``queue`` is part of ``encode``."""

    queue: float
    encode: float
    retrieve: float
    answer: float
    check: float
    total: float


class SupportEndOut(Struct):
    """The ``done`` event."""

    handover: Annotated[HandoverOut | None, Meta(description="null: the answer stands for itself")]
    served_by: Annotated[str, Meta(extra_json_schema={"enum": [tier.value for tier in Tier]})]
    model: Annotated[ModelOut, Meta(description="the encoder, or the text model where that wrote the answer")]
    missing: Annotated[
        list[str],
        Meta(
            description="what was away; the answer stands all the same",
            extra_json_schema={"items": {"enum": [part.value for part in Missing]}},
        ),
    ]
    confidence: Annotated[
        float, Meta(description="0 to 1, of the best passage, whether it was quoted or not; 1 of the order")
    ]
    timings_ms: SupportTimingsOut


class HeardOut(Struct):
    """The ``intent`` event."""

    intent: IntentOut
    language: str
    entities: list[EntityOut]


class SourcesOut(Struct):
    """The ``sources`` event."""

    sources: list[SourceOut]
    knowledge_epoch: Annotated[int, Meta(description="of the knowledge base that was searched; 0: none was")]


class AnswerPartOut(Struct):
    """The ``answer`` event: a part of the text; all of them in a row are the text."""

    text: str


class SupportOut(SupportEndOut, kw_only=True):
    """An answer that cites, or a person takes over."""

    answer: str
    language: str
    intent: IntentOut
    entities: list[EntityOut]
    sources: list[SourceOut]
    knowledge_epoch: int


def support_out(answer: SupportAnswer, total_s: float) -> SupportOut:
    """The whole answer."""
    end = end_out(answer, total_s)
    return SupportOut(
        end.handover,
        end.served_by,
        end.model,
        end.missing,
        end.confidence,
        end.timings_ms,
        answer=answer.text,
        language=answer.language.value,
        intent=_intent(answer.intent),
        entities=_entities(answer.entities),
        sources=_sources(answer.sources),
        knowledge_epoch=answer.knowledge_epoch,
    )


def end_out(answer: SupportAnswer, total_s: float) -> SupportEndOut:
    """What a stream ends with."""
    times_ms = {stage: round(answer.timings_s.get(stage, 0.0) * 1e3, 3) for stage in SUPPORT_STAGES}
    return SupportEndOut(
        None if answer.handover is None else _handover(answer.handover),
        answer.served_by.value,
        ModelOut(*answer.model),
        [part.value for part in answer.missing],
        round(answer.confidence, 4),
        SupportTimingsOut(**times_ms, total=round(total_s * 1e3, 3)),
    )


def event_bytes(event: SupportEvent) -> bytes:
    """One event of a stream."""
    if isinstance(event, IntentHeard):
        return sse("intent", HeardOut(_intent(event.intent), event.language.value, _entities(event.entities)))
    if isinstance(event, AnswerPart):
        return sse("answer", AnswerPartOut(event.text))
    return sse("sources", SourcesOut(_sources(event.sources), event.knowledge_epoch))


def server_timing(times: SupportTimingsOut) -> bytes:
    """The ``Server-Timing`` value."""
    stages = [*SUPPORT_STAGES, "total"]
    return ", ".join(f"{stage};dur={getattr(times, stage):.3f}" for stage in stages).encode()


def _intent(intent: Intent) -> IntentOut:
    return IntentOut(intent.label, round(intent.confidence, 4))


def _entities(entities: Iterable[Entity]) -> list[EntityOut]:
    return [
        EntityOut(entity.kind.value, entity.text, entity.value, entity.start, entity.end)
        for entity in entities
    ]


def _sources(sources: Iterable[Source]) -> list[SourceOut]:
    return [SourceOut(source.id, source.title, source.quote, source.url) for source in sources]


def _handover(handover: Handover) -> HandoverOut:
    return HandoverOut(handover.reason.value, handover.summary, _sources(handover.evidence))
