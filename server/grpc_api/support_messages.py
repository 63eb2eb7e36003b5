"""Protobuf messages of customer service to the domain and back; bounds are checked by ``server.support_limits``, as for HTTP."""

from __future__ import annotations

from collections.abc import Iterable

from server.grpc_api import vitrine_pb2 as pb
from server.pipelines.customer_service.events import AnswerPart, IntentHeard, SourcesFound, SupportEvent
from server.support_domain import (
    Order,
    OrderItem,
    Source,
    SupportAnswer,
    SupportRequest,
    Turn,
)
from server.support_limits import role_named


def support_request_of(message: pb.CustomerServiceRequest) -> SupportRequest:
    """Read a request.

    Raises:
        InvalidRequest: a role is none of those there are.
    """
    return SupportRequest(
        turns=tuple(
            Turn(role=role_named(f"messages[{at}].role", turn.role), content=turn.content)
            for at, turn in enumerate(message.messages)
        ),
        order=_order(message.order) if message.HasField("order") else None,
        locale=message.locale.strip(),
        deadline_s=message.deadline_ms * 1e-3 if message.HasField("deadline_ms") else None,
        generate=message.generate if message.HasField("generate") else None,
    )


def support_response_of(answer: SupportAnswer, total_s: float) -> pb.CustomerServiceResponse:
    """The wire form of a whole answer."""
    return pb.CustomerServiceResponse(
        answer=answer.text,
        heard=_heard(IntentHeard(answer.intent, answer.language, answer.entities)),
        sources=_sources_found(SourcesFound(answer.sources, answer.knowledge_epoch)),
        end=support_end_of(answer, total_s),
    )


def support_end_of(answer: SupportAnswer, total_s: float) -> pb.SupportEnd:
    """What a stream ends with."""
    times_s = answer.timings_s
    end = pb.SupportEnd(
        served_by=answer.served_by.value,
        model=pb.Model(name=answer.model[0], version=answer.model[1]),
        confidence=answer.confidence,
        missing=[part.value for part in answer.missing],
        timings_ms=pb.SupportTimings(
            queue_ms=times_s.get("queue", 0.0) * 1e3,
            encode_ms=times_s.get("encode", 0.0) * 1e3,
            retrieve_ms=times_s.get("retrieve", 0.0) * 1e3,
            answer_ms=times_s.get("answer", 0.0) * 1e3,
            check_ms=times_s.get("check", 0.0) * 1e3,
            total_ms=total_s * 1e3,
        ),
    )
    if answer.handover is not None:
        end.handover.reason = answer.handover.reason.value
        end.handover.summary = answer.handover.summary
        end.handover.evidence.extend(_sources(answer.handover.evidence))
    return end


def support_event_of(event: SupportEvent) -> pb.CustomerServiceEvent:
    """The wire form of an event."""
    if isinstance(event, IntentHeard):
        return pb.CustomerServiceEvent(heard=_heard(event))
    if isinstance(event, AnswerPart):
        return pb.CustomerServiceEvent(answer=event.text)
    return pb.CustomerServiceEvent(sources=_sources_found(event))


def _order(message: pb.SupportOrder) -> Order:
    return Order(
        order_id=message.order_id,
        status=message.status,
        placed_on=message.placed_on,
        shipped_on=message.shipped_on,
        delivered_on=message.delivered_on,
        expected_on=message.expected_on,
        carrier=message.carrier,
        tracking_number=message.tracking_number,
        tracking_url=message.tracking_url,
        items=tuple(
            OrderItem(
                title=item.title,
                quantity=item.quantity if item.HasField("quantity") else 1,
                item_id=item.item_id,
            )
            for item in message.items
        ),
        total=message.total if message.HasField("total") else None,
        currency=message.currency,
        refund_status=message.refund_status,
    )


def _heard(event: IntentHeard) -> pb.SupportHeard:
    return pb.SupportHeard(
        intent=pb.SupportIntent(label=event.intent.label, confidence=event.intent.confidence),
        language=event.language.value,
        entities=[
            pb.SupportEntity(
                kind=entity.kind.value,
                text=entity.text,
                value=entity.value,
                start=entity.start,
                end=entity.end,
            )
            for entity in event.entities
        ],
    )


def _sources_found(event: SourcesFound) -> pb.SupportSources:
    return pb.SupportSources(sources=_sources(event.sources), knowledge_epoch=event.knowledge_epoch)


def _sources(sources: Iterable[Source]) -> list[pb.SupportSource]:
    return [
        pb.SupportSource(id=source.id, title=source.title, quote=source.quote, url=source.url)
        for source in sources
    ]
