"""The two networks: DLRM and DCN-v2, dense numbers and hashed ids in, one logit a candidate out.

All sparse features share one table; each has its own rows of it (``offsets_S``, a constant of the graph), so that a run looks up
once. Normalisation of the dense features is part of the network: whoever serves it cannot forget it.

Suffixes: B candidate rows, F dense features, S sparse ones, D width of a table's row.

Source:
    Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation Systems" (DLRM), 2019;
    Wang et al., "DCN V2: Improved Deep & Cross Network", 2021, section 3 (stacked, full-rank cross layers).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from build_engines.rerank.shape import RerankShape

DENSE, SPARSE, LOGIT = "dense", "sparse", "logit"
CLIP = 6.0  # standard deviations that a dense feature is read to


class RerankNetwork(nn.Module):
    """What both have in common: normalised numbers, and vectors of ids.

    Args:
        shape: its sizes.
        mean_F: of each dense feature in training.
        deviation_F: its standard deviation (> 0).
        buckets: rows of the table that each sparse feature has.
    """

    mean_F: Tensor
    inverse_F: Tensor
    offsets_S: Tensor

    def __init__(
        self,
        shape: RerankShape,
        mean_F: npt.NDArray[np.float32],
        deviation_F: npt.NDArray[np.float32],
        buckets: Sequence[int],
    ) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean_F", torch.from_numpy(mean_F.astype(np.float32)))
        self.register_buffer("inverse_F", torch.from_numpy((1 / deviation_F).astype(np.float32)))
        offsets = np.concatenate([[0], np.cumsum(list(buckets))])
        self.register_buffer("offsets_S", torch.from_numpy(offsets[:-1].astype(np.int32)))
        self.table = nn.Embedding(int(offsets[-1]), shape.dim)
        nn.init.normal_(self.table.weight, std=0.05)
        self.features, self.ids = mean_F.size, len(buckets)

    def normalised(self, dense: Tensor) -> Tensor:
        """Dense features around 0, ``[B, F]``."""
        return ((dense - self.mean_F) * self.inverse_F).clamp(-CLIP, CLIP)

    def vectors(self, sparse: Tensor) -> Tensor:
        """Rows of the table, ``[B, S, D]``."""
        found: Tensor = self.table(sparse + self.offsets_S)
        return found


class Dlrm(RerankNetwork):
    """Bottom layers bring the numbers to the ids' width; all pairs of vectors are multiplied; top layers judge."""

    pairs_P: Tensor

    def __init__(
        self,
        shape: RerankShape,
        mean_F: npt.NDArray[np.float32],
        deviation_F: npt.NDArray[np.float32],
        buckets: Sequence[int],
    ) -> None:
        super().__init__(shape, mean_F, deviation_F, buckets)
        self.bottom = _layers([self.features, *shape.hidden, shape.dim], shape.dropout, last=True)
        vectors = self.ids + 1
        rows, columns = np.tril_indices(vectors, -1)
        self.register_buffer("pairs_P", torch.from_numpy((rows * vectors + columns).astype(np.int64)))
        self.top = _layers([shape.dim + rows.size, *shape.hidden, 1], shape.dropout, last=False)

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        """Logits ``[B]`` of ``dense [B, F]`` and ``sparse [B, S]``."""
        numbers_BD = self.bottom(self.normalised(dense))
        vectors_BVD = torch.cat([numbers_BD.unsqueeze(1), self.vectors(sparse)], dim=1)
        products_BVV = torch.matmul(vectors_BVD, vectors_BVD.transpose(1, 2))
        pairs_BP = products_BVV.flatten(1).index_select(1, self.pairs_P)
        logit: Tensor = self.top(torch.cat([numbers_BD, pairs_BP], dim=1)).squeeze(1)
        return logit


class DcnV2(RerankNetwork):
    """Cross layers, ``x0 * (W x + b) + x``, and then deep ones: the stacked form."""

    def __init__(
        self,
        shape: RerankShape,
        mean_F: npt.NDArray[np.float32],
        deviation_F: npt.NDArray[np.float32],
        buckets: Sequence[int],
    ) -> None:
        super().__init__(shape, mean_F, deviation_F, buckets)
        width = self.features + self.ids * shape.dim
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(shape.cross_layers))
        self.deep = _layers([width, *shape.hidden, 1], shape.dropout, last=False)

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        """Logits ``[B]`` of ``dense [B, F]`` and ``sparse [B, S]``."""
        first = torch.cat([self.normalised(dense), self.vectors(sparse).flatten(1)], dim=1)
        crossed = first
        for cross in self.crosses:
            crossed = first * cross(crossed) + crossed
        logit: Tensor = self.deep(crossed).squeeze(1)
        return logit


def make_network(
    shape: RerankShape,
    mean_F: npt.NDArray[np.float32],
    deviation_F: npt.NDArray[np.float32],
    buckets: Sequence[int],
) -> RerankNetwork:
    """A network of the architecture, with fresh weights by torch's generator."""
    kind = Dlrm if shape.architecture == "dlrm" else DcnV2
    return kind(shape, mean_F, deviation_F, buckets)


def _layers(widths: Sequence[int], dropout: float, *, last: bool) -> nn.Sequential:
    parts: list[nn.Module] = []
    for at, (before, after) in enumerate(itertools.pairwise(widths)):
        parts.append(nn.Linear(before, after))
        if last or at < len(widths) - 2:
            parts.append(nn.ReLU())
            if dropout:
                parts.append(nn.Dropout(dropout))
    return nn.Sequential(*parts)
