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
class PackedLists:
    """Lists of a batch in item rows, and where each one's rows begin; features are made of it on the engine's thread."""

    histories: list[list[int]]
    candidates: list[list[int]]
    scores: list[tuple[float, ...]]
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

    def pack(self, items: Sequence[RerankAsk]) -> PackedLists:
        """Ids to item rows; on the event loop, and all that is done there."""
        row, most = self.features.index.row, self.features.declaration.max_history
        starts = [0]
        for item in items:
            starts.append(starts[-1] + len(item.item_ids))
        return PackedLists(
            [[row(one) for one in item.history[-most:]] for item in items],
            [[row(one) for one in item.item_ids] for item in items],
            [item.scores for item in items],
            starts,
        )

    def run(self, packed: PackedLists) -> Mapping[str, npt.NDArray[Any]]:
        """Features and one engine run; on the engine's thread."""
        made = self.features.rows(packed.histories, packed.candidates, packed.scores)
        return self._engine.run({DENSE: made.dense_RF, SPARSE: made.sparse_RS})

    def unpack(
        self, packed: PackedLists, raw: Mapping[str, npt.NDArray[Any]], items: Sequence[RerankAsk]
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
