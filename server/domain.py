"""What the three products are asked and what they answer, without a wire and without an array.

Requests here have been validated by a wire and are bounded; ids are the shop's own strings. Response lists are parallel
tuples and not one object per item: at 20 items and thousands of answers a second, objects are what costs.

Units: seconds, except where a name says ``_ms``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

AttributeValue = str | float | int | bool | None
RERANK_TASK = "reranking"  # of a re-ranker's manifests


class ServedBy(Enum):
    """Which tier answered: the model, or the fallback tier (transition counts, then popularity)."""

    MODEL = "model"
    FALLBACK = "fallback"


class RankedBy(Enum):
    """Whose order an answer of the model tier has, where a re-ranker is configured."""

    RERANKER = "reranker"
    RECOMMENDER = "recommender"


class Stage(Enum):
    """Where a request spends its time; the keys of ``timings``."""

    QUEUE = "queue"
    ENCODE = "encode"
    ENGINE = "engine"
    POST = "post"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Business filters on item attributes; an item must satisfy all that are set.

    Attributes:
        categories: the item's category is one of these (empty: any).
        brands: the item's brand is one of these (empty: any).
        min_price: lowest price, inclusive, in the catalogue's currency; None: no bound.
        max_price: highest price, inclusive; None: no bound.
        in_stock: True: only items in stock; None: any.
    """

    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None
    in_stock: bool | None = None

    def is_empty(self) -> bool:
        """Whether every item passes."""
        return (
            not self.categories
            and not self.brands
            and self.min_price is None
            and self.max_price is None
            and self.in_stock is None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendRequest:
    """One shopper, one page render.

    Attributes:
        history: item ids, oldest first, as the shop writes them; unknown ones are counted and skipped.
        k: how many items to return (1..the model's limit).
        candidates: rank only these ids; None: the whole catalogue. An empty tuple is refused by the wire.
        exclude: never return these ids (the history is never returned either, unless ``allow_seen``).
        filters: business filters; None: none.
        deadline_s: seconds from arrival within which the answer is of use; None: the endpoint's default.
        explain: say for each item which history item contributed most.
        fields: item data to return with each item ("title", "price", an attribute's name ...).
        user_id: opaque; never logged, never a metric label.
        allow_seen: items of the history may be returned (repeat purchases).
        rerank: let the re-ranker order the best candidates, where one is configured.
    """

    history: tuple[str, ...] = ()
    k: int = 10
    candidates: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    filters: Filters | None = None
    deadline_s: float | None = None
    explain: bool = False
    fields: tuple[str, ...] = ()
    user_id: str | None = None
    allow_seen: bool = False
    rerank: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """Which published version answered."""

    name: str
    version: str


@dataclass(slots=True, kw_only=True)
class RecommendResponse:
    """Ranked items, best first; the tuples are parallel and at most ``k`` long.

    Attributes:
        item_ids: recommended ids.
        scores: the score each was ranked by (comparable within one answer only).
        served_by: the tier.
        model: the published version that answered.
        unknown_items: how many ids of the history (or events) are not in the catalogue.
        unknown_candidates: how many of the candidates are not; None when there were no candidates.
        reasons: parallel to ``item_ids`` when ``explain`` was asked, else None: a sentence per item.
        because: parallel to ``reasons``: the history item that contributed most, or None.
        item_fields: parallel to ``item_ids`` when ``fields`` was asked, else None.
        fallback_reason: why the fallback tier answered ("cold_start", "deadline", "engine_fault", "not_ready"), or None.
        timings_s: seconds per stage.
        ranked_by: whose order it is; None where no re-ranker is configured, or the fallback tier answered.
        rerank_s: seconds in the second stage, its queue included; None where ``ranked_by`` is.
    """

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    served_by: ServedBy
    model: ModelRef
    unknown_items: int = 0
    unknown_candidates: int | None = None
    reasons: tuple[str, ...] | None = None
    because: tuple[str | None, ...] | None = None
    item_fields: tuple[Mapping[str, AttributeValue], ...] | None = None
    fallback_reason: str | None = None
    timings_s: dict[Stage, float] = field(default_factory=dict)
    ranked_by: RankedBy | None = None
    rerank_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model as ``GET /v1/models`` lists it.

    Attributes:
        name: model name in the repository.
        version: published version that serves now.
        task: "recommendation", later "text-generation", "embedding".
        engine: runner ("onnxruntime", "tensorrt" ...).
        precision: "fp32", "int8" ...
        items: catalogue size, for recommenders.
        limits: named limits a request must keep ("max_history", "max_k", "max_batch" ...).
        created_unix_s: when it was published.
        sample_ids: a few ids to try, for recommenders.
        ready: whether it answers now.
        item_fields: item data that ``fields`` of a request may name, for recommenders.
        flags: what a reader must know of the version ("trained_small").
    """

    name: str
    version: str
    task: str
    engine: str
    precision: str
    items: int
    limits: Mapping[str, int]
    created_unix_s: float
    sample_ids: tuple[str, ...]
    ready: bool
    item_fields: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
