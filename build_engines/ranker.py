"""A finished engine as the evaluation sees it: histories to rows, through the serving code.

The gate knows the protocol only; ``ServedRanker`` is the one that counts, because its packing, masking and
cutting are the server's own. Rows become ids and ids become rows again on the way, as they do for a
storefront.

Suffixes: B histories, K ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from build_engines.data.sequences import Sequences
from server.artifacts.repository import OpenedVersion
from server.domain import RecommendRequest, RecommendResponse
from server.errors import ServeError
from server.pipelines.loading import LoadedModel, load_model

Rows = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]


class RankerUnderTest(Protocol):
    """What the gate measures."""

    def top_k(self, histories: Sequences, k: int) -> tuple[Rows, Scores]:
        """Unseen item rows [B, K], best first, 0 where there are fewer; and their scores, -inf there."""
        ...

    def prepared(self, histories: Sequences) -> Callable[[], object]:
        """One engine run over these histories, packed already; called from one thread."""
        ...


class ServedRanker:
    """A version opened and loaded as the server does it, golden replay included.

    Raises:
        ArtifactError: it cannot be loaded, or does not reproduce its golden answers.
    """

    def __init__(self, opened: OpenedVersion, *, threads: int = 1) -> None:
        self.opened = opened
        self.loaded: LoadedModel = load_model(opened, engine="onnxruntime", threads=threads)
        self._runner = self.loaded.runner
        self._index = self._runner.catalogue.index
        self._max_batch = opened.manifest.limits["max_batch"]
        self._max_k = opened.manifest.limits["max_k"]

    def top_k(self, histories: Sequences, k: int) -> tuple[Rows, Scores]:
        """See ``RankerUnderTest``; never more than the engine's own K."""
        k = min(k, self._max_k)
        rows_BK = np.zeros((len(histories), k), np.int32)
        scores_BK = np.full((len(histories), k), -np.inf, np.float32)
        for start in range(0, len(histories), self._max_batch):
            requests = self._requests(histories.slice(start, start + self._max_batch), k)
            packed = self._runner.pack(requests)
            answers = self._runner.unpack(packed, self._runner.run(packed), requests)
            for place, answer in enumerate(answers, start=start):
                if isinstance(answer, ServeError):
                    raise answer
                assert isinstance(answer, RecommendResponse), "requests of this kind have no other answer"
                found = self._index.rows(answer.item_ids)
                rows_BK[place, : len(found)] = found
                scores_BK[place, : len(found)] = answer.scores
        return rows_BK, scores_BK

    def prepared(self, histories: Sequences) -> Callable[[], object]:
        """See ``RankerUnderTest``."""
        packed = self._runner.pack(self._requests(histories, self._max_k))
        return lambda: self._runner.run(packed)

    def _requests(self, histories: Sequences, k: int) -> list[RecommendRequest]:
        ids = self._index.ids
        return [RecommendRequest(history=tuple(ids[row] for row in rows.tolist()), k=k) for rows in histories]
