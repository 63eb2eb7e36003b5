"""Protobuf messages to domain requests and back; bounds are checked by ``server.request_limits``, as for HTTP."""

from __future__ import annotations

import math

from server.domain import AttributeValue, Filters, RecommendRequest, RecommendResponse, Stage
from server.errors import InvalidRequest, ServeError
from server.grpc_api import vitrine_pb2 as pb
from server.request_limits import BOTH_GIVEN, order_events


def request_of(message: pb.RecommendRequest, timeout_s: float | None = None) -> RecommendRequest:
    """Read one request; of its own deadline and the call's time-out the earlier holds.

    Raises:
        InvalidRequest: history and events are both given, or timestamps are mixed.
    """
    history = tuple(message.history)
    if message.events:
        if history:
            raise InvalidRequest(BOTH_GIVEN, field="events", limit="history or events")
        history = order_events(
            [
                (event.item_id, event.timestamp if event.HasField("timestamp") else None)
                for event in message.events
            ]
        )
    deadline_s = message.deadline_ms * 1e-3 if message.HasField("deadline_ms") else None
    if timeout_s is not None and (deadline_s is None or timeout_s < deadline_s < math.inf):
        deadline_s = max(timeout_s, 1e-6)
    return RecommendRequest(
        history=history,
        k=message.k if message.HasField("k") else 10,
        candidates=tuple(message.candidates.item_ids) if message.HasField("candidates") else None,
        exclude=tuple(message.exclude),
        filters=_filters(message.filters) if message.HasField("filters") else None,
        deadline_s=deadline_s,
        explain=message.explain,
        fields=tuple(message.fields),
        user_id=message.user_id or None,
        allow_seen=message.allow_seen,
        rerank=message.rerank if message.HasField("rerank") else True,
    )


def _filters(message: pb.Filters) -> Filters | None:
    filters = Filters(
        categories=tuple(message.categories),
        brands=tuple(message.brands),
        min_price=message.price_min if message.HasField("price_min") else None,
        max_price=message.price_max if message.HasField("price_max") else None,
        in_stock=message.in_stock or None,
    )
    return None if filters.is_empty() else filters


def response_of(answer: RecommendResponse, total_s: float) -> pb.RecommendResponse:
    """The wire form of an answer."""
    times_s = answer.timings_s.get
    message = pb.RecommendResponse(
        served_by=answer.served_by.value,
        model=pb.Model(name=answer.model.name, version=answer.model.version),
        unknown_items=answer.unknown_items,
        timings_ms=pb.Timings(
            queue_ms=times_s(Stage.QUEUE, 0.0) * 1e3,
            encode_ms=times_s(Stage.ENCODE, 0.0) * 1e3,
            engine_ms=times_s(Stage.ENGINE, 0.0) * 1e3,
            post_ms=times_s(Stage.POST, 0.0) * 1e3,
            total_ms=total_s * 1e3,
            rerank_ms=None if answer.rerank_s is None else answer.rerank_s * 1e3,
        ),
        fallback_reason=answer.fallback_reason,
        unknown_candidates=answer.unknown_candidates,
        ranked_by=None if answer.ranked_by is None else answer.ranked_by.value,
    )
    add = message.items.add
    for rank, (item_id, score) in enumerate(zip(answer.item_ids, answer.scores, strict=True), 1):
        add(item_id=item_id, score=score, rank=rank)
    if answer.reasons is not None or answer.item_fields is not None:
        _add_extras(message, answer)
    return message


def _add_extras(message: pb.RecommendResponse, answer: RecommendResponse) -> None:
    for at, item in enumerate(message.items):
        if answer.reasons is not None:
            item.reason = answer.reasons[at]
        because = None if answer.because is None else answer.because[at]
        if because is not None:
            item.because = because
        if answer.item_fields is not None:
            for name, value in answer.item_fields[at].items():
                _set(item.fields[name], value)


def _set(message: pb.AttributeValue, value: AttributeValue) -> None:
    if isinstance(value, bool):
        message.flag = value
    elif isinstance(value, int):
        message.integer = value
    elif isinstance(value, float):
        message.number = value
    elif value is not None:
        message.text = value


def error_of(error: ServeError, request_id: str) -> pb.Error:
    """An entry of a batch that has no answer."""
    retry_s = error.retry_after_s
    return pb.Error(
        code=error.code.value,
        message=error.message,
        field=error.field,
        limit=error.limit,
        request_id=request_id,
        retry_after_ms=None if retry_s is None else max(1, round(retry_s * 1e3)),
    )
