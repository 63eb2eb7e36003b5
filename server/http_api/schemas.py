"""The JSON of ``POST /v1/recommendations``: bytes to domain request, domain response to bytes.

The structs below are the one description of the wire: they decode, they encode, and ``openapi.py`` prints their schema.
Bounds are in their schema for readers only (``extra_json_schema``); ``server.request_limits`` is what checks them, so
that both wires refuse in the same words. Unknown fields are refused: a misspelt filter must not be a filter that is off.

Units: milliseconds on the wire, seconds in the domain.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.domain import AttributeValue, Filters, RecommendRequest, RecommendResponse, Stage
from server.errors import InvalidRequest
from server.http_api.status import ErrorDetail
from server.http_api.wrong_fields import Shapes, explain, malformed
from server.request_limits import BOTH_GIVEN, MAX_FIELDS, MAX_FILTER_VALUES, MAX_ID_CHARS, order_events

Id = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_ID_CHARS})]


def _ids(about: str, most: int) -> Meta:
    return Meta(description=about, extra_json_schema={"maxItems": most})


class EventIn(msgspec.Struct, forbid_unknown_fields=True, rename=None):
    """One thing a shopper did."""

    item_id: Id
    timestamp: Annotated[float | None, Meta(description="Unix seconds; every event has one, or none has")] = (
        None
    )
    type: Annotated[str | None, Meta(description="view, cart, purchase ...: accepted, not used today")] = None


class FiltersIn(msgspec.Struct, forbid_unknown_fields=True):
    """Business filters; an item must satisfy all that are set."""

    category: Annotated[Id | None, Meta(description="short for categories with one entry")] = None
    categories: Annotated[tuple[Id, ...], _ids("any of these", MAX_FILTER_VALUES)] = ()
    brand: Annotated[Id | None, Meta(description="short for brands with one entry")] = None
    brands: Annotated[tuple[Id, ...], _ids("any of these", MAX_FILTER_VALUES)] = ()
    price_min: Annotated[float | None, Meta(description="inclusive")] = None
    price_max: Annotated[float | None, Meta(description="inclusive")] = None
    in_stock: Annotated[
        bool | None, Meta(description="true: only items in stock; false is the same as leaving it out")
    ] = None


class RecommendIn(msgspec.Struct, forbid_unknown_fields=True):
    """One shopper, one page render."""

    history: Annotated[tuple[Id, ...], _ids("item ids, oldest first", 1000)] = ()
    events: Annotated[tuple[EventIn, ...], _ids("instead of history", 1000)] = ()
    k: Annotated[int, Meta(description="how many items to return", extra_json_schema={"minimum": 1})] = 10
    candidates: Annotated[
        tuple[Id, ...] | None, _ids("rank only these; leave out for the whole catalogue", 10_000)
    ] = None
    exclude: Annotated[tuple[Id, ...], _ids("never return these", 10_000)] = ()
    filters: FiltersIn | None = None
    deadline_ms: Annotated[
        float | None,
        Meta(
            description="milliseconds from arrival within which the answer is of use; above the server's limit counts as it",
            extra_json_schema={"exclusiveMinimum": 0},
        ),
    ] = None
    explain: Annotated[bool, Meta(description="say for each item why")] = False
    fields: Annotated[
        tuple[Id, ...],
        _ids("item data to return with each item: names of item_fields in /v1/models", MAX_FIELDS),
    ] = ()
    user_id: Annotated[Id | None, Meta(description="opaque; never logged")] = None
    allow_seen: Annotated[bool, Meta(description="items of the history may be returned again")] = False
    rerank: Annotated[
        bool, Meta(description="false: the recommender's own order, also where a re-ranker is configured")
    ] = True


class ItemOut(msgspec.Struct, gc=False):
    """One recommended item."""

    item_id: str
    score: Annotated[float, Meta(description="comparable within this answer only")]
    rank: Annotated[int, Meta(description="1 is best")]
    reason: str | UnsetType = UNSET
    because: str | UnsetType | None = UNSET
    fields: dict[str, AttributeValue] | UnsetType = UNSET


class ModelOut(msgspec.Struct, gc=False):
    """Which published version answered."""

    name: str
    version: str


class TimingsOut(msgspec.Struct, gc=False):
    """Milliseconds per stage; the Server-Timing header has the same."""

    queue: float
    encode: float
    engine: float
    post: float
    total: float
    rerank: Annotated[float | UnsetType, Meta(description="with a re-ranker: the second stage")] = UNSET


class RecommendOut(msgspec.Struct):
    """Ranked items, best first, at most k."""

    items: list[ItemOut]
    served_by: Annotated[
        str, Meta(description="the tier that answered", extra_json_schema={"enum": ["model", "fallback"]})
    ]
    model: ModelOut
    unknown_items: Annotated[int, Meta(description="ids of the history that are not in the catalogue")]
    timings_ms: TimingsOut
    fallback_reason: (
        Annotated[
            str, Meta(extra_json_schema={"enum": ["cold_start", "deadline", "engine_fault", "not_ready"]})
        ]
        | UnsetType
    ) = UNSET
    unknown_candidates: (
        Annotated[int, Meta(description="with candidates: how many of them are not in the catalogue")]
        | UnsetType
    ) = UNSET
    ranked_by: (
        Annotated[
            str,
            Meta(
                description="with a re-ranker: whose order this is; the recommender's where there was no time for it",
                extra_json_schema={"enum": ["reranker", "recommender"]},
            ),
        ]
        | UnsetType
    ) = UNSET


class BatchIn(msgspec.Struct, forbid_unknown_fields=True):
    """Many shoppers; each entry is decoded by itself, so that one wrong entry fails alone."""

    requests: list[msgspec.Raw]


class BatchOut(msgspec.Struct):
    """One result a request, in their order: an answer, or ``{"error": ...}``."""

    results: list[RecommendOut | Failed]
    timings_ms: dict[str, float]


class Failed(msgspec.Struct):
    """An entry of a batch that has no answer."""

    error: ErrorDetail


_SHAPES: Shapes = {"": RecommendIn, "filters": FiltersIn, "events": EventIn}
_BATCH_SHAPES: Shapes = {"": BatchIn}
_decoder = msgspec.json.Decoder(RecommendIn)
_batch_decoder = msgspec.json.Decoder(BatchIn)
_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def decode_request(body: bytes | bytearray | msgspec.Raw, where: str = "") -> RecommendRequest:
    """Read one request; ``where`` is its place in a batch, such as ``requests[3].``.

    Raises:
        MalformedRequest: the bytes are not JSON.
        InvalidRequest: a field has a wrong type or name; names it, with its value.
    """
    try:
        wire = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise explain(error, body, where, _SHAPES) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise malformed(error) from error
    filters = wire.filters
    deadline_ms = wire.deadline_ms
    return RecommendRequest(
        history=_history_of_events(wire, where) if wire.events else wire.history,
        k=wire.k,
        candidates=wire.candidates,
        exclude=wire.exclude,
        filters=None if filters is None else _filters(filters),
        deadline_s=None if deadline_ms is None else deadline_ms * 1e-3,
        explain=wire.explain,
        fields=wire.fields,
        user_id=wire.user_id,
        allow_seen=wire.allow_seen,
        rerank=wire.rerank,
    )


def decode_batch(body: bytes | bytearray, most: int) -> list[msgspec.Raw]:
    """Split a batch into its entries, none of which is looked at yet.

    Raises:
        MalformedRequest: the bytes are not JSON.
        InvalidRequest: not ``{"requests": [...]}``, empty, or too many.
    """
    try:
        entries = _batch_decoder.decode(body).requests
    except msgspec.ValidationError as error:
        raise explain(error, body, "", _BATCH_SHAPES) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise malformed(error) from error
    if not 1 <= len(entries) <= most:
        raise InvalidRequest(
            f"requests has {len(entries)} entries; send 1 to {most}",
            field="requests",
            limit=f"1 .. {most} entries",
        )
    return entries


def answer_struct(answer: RecommendResponse, total_s: float) -> RecommendOut:
    """The wire form of an answer, before encoding."""
    if answer.reasons is None and answer.item_fields is None:
        items = list(map(ItemOut, answer.item_ids, answer.scores, range(1, len(answer.item_ids) + 1)))
    else:
        items = _items_with_extras(answer)
    times_s = answer.timings_s.get
    return RecommendOut(
        items,
        answer.served_by.value,
        ModelOut(answer.model.name, answer.model.version),
        answer.unknown_items,
        TimingsOut(
            round(times_s(Stage.QUEUE, 0.0) * 1e3, 3),
            round(times_s(Stage.ENCODE, 0.0) * 1e3, 3),
            round(times_s(Stage.ENGINE, 0.0) * 1e3, 3),
            round(times_s(Stage.POST, 0.0) * 1e3, 3),
            round(total_s * 1e3, 3),
            UNSET if answer.rerank_s is None else round(answer.rerank_s * 1e3, 3),
        ),
        UNSET if answer.fallback_reason is None else answer.fallback_reason,
        UNSET if answer.unknown_candidates is None else answer.unknown_candidates,
        UNSET if answer.ranked_by is None else answer.ranked_by.value,
    )


def _items_with_extras(answer: RecommendResponse) -> list[ItemOut]:
    items = []
    for at, item_id in enumerate(answer.item_ids):
        items.append(
            ItemOut(
                item_id,
                answer.scores[at],
                at + 1,
                UNSET if answer.reasons is None else answer.reasons[at],
                UNSET if answer.because is None else answer.because[at],
                UNSET if answer.item_fields is None else dict(answer.item_fields[at]),
            )
        )
    return items


def _history_of_events(wire: RecommendIn, where: str) -> tuple[str, ...]:
    try:
        if wire.history:
            raise InvalidRequest(BOTH_GIVEN, field="events", limit="history or events")
        return order_events([(event.item_id, event.timestamp) for event in wire.events])
    except InvalidRequest as error:
        error.inside(where)
        raise


def _filters(wire: FiltersIn) -> Filters | None:
    filters = Filters(
        categories=wire.categories if wire.category is None else (*wire.categories, wire.category),
        brands=wire.brands if wire.brand is None else (*wire.brands, wire.brand),
        min_price=wire.price_min,
        max_price=wire.price_max,
        in_stock=wire.in_stock or None,
    )
    return None if filters.is_empty() else filters
