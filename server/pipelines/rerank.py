"""A batch of re-rank requests through one engine: candidates to rows of features, logits to an order.

The builder makes its training rows by the same ``RerankFeatures``; see there.

Suffixes: B requests, R candidate rows of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from server.encoding.rerank_features import RerankFeatures
from server.engines.tensors import TensorEngine
from server.errors import EngineFault, ServeError

DENSE, SPARSE, LOGIT = "dense", "sparse", "logit"


@dataclass(frozen=True, slots=True)
class RerankAsk:
    """One shopper's candidates.

    Attributes:
        history: item ids, oldest first.
        item_ids: the first stage's, best first; at least one.
        scores: the first stage's, parallel.
    """

    history: tuple[str, ...]
    item_ids: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RerankAnswer:
    """The new order.

    Attributes:
        order: places in ``item_ids``, best first; equal logits keep the first stage's order.
        logits: of each, falling.
    """

    order: tuple[int, ...]
    logits: tuple[float, ...]


@dataclass(slots=True)
class PackedRows:
    """Rows of a batch, and where each request's begin."""

    inputs: dict[str, npt.NDArray[Any]]
    starts: list[int]


class RerankRunner:
    """Packs, runs and unpacks batches for one published version; a ``BatchRunner``.

    Args:
        features: of the version.
        engine: of the version.
    """

    def __init__(self, features: RerankFeatures, engine: TensorEngine) -> None:
        self.features = features
        self._engine = engine

    def pack(self, items: Sequence[RerankAsk]) -> PackedRows:
        """Requests to rows; on the event loop."""
        row = self.features.index.row
        made = self.features.rows(
            [[row(one) for one in item.history[-self.features.declaration.max_history :]] for item in items],
            [[row(one) for one in item.item_ids] for item in items],
            [item.scores for item in items],
        )
        starts = [0]
        for item in items:
            starts.append(starts[-1] + len(item.item_ids))
        return PackedRows({DENSE: made.dense_RF, SPARSE: made.sparse_RS}, starts)

    def run(self, packed: PackedRows) -> Mapping[str, npt.NDArray[Any]]:
        """One engine run; on the engine's thread."""
        return self._engine.run(packed.inputs)

    def unpack(
        self, packed: PackedRows, raw: Mapping[str, npt.NDArray[Any]], items: Sequence[RerankAsk]
    ) -> list[RerankAnswer | ServeError]:
        """Logits to orders, in the order of ``items``."""
        logits_R = raw[LOGIT]
        finite_R = np.isfinite(logits_R)
        answers: list[RerankAnswer | ServeError] = []
        for start, end in zip(packed.starts[:-1], packed.starts[1:], strict=True):
            if not finite_R[start:end].all():
                answers.append(EngineFault("the re-ranker gave a logit that is no number"))
                continue
            own = logits_R[start:end]
            order = np.argsort(-own, kind="stable")
            answers.append(RerankAnswer(tuple(order.tolist()), tuple(own[order].tolist())))
        return answers

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()
