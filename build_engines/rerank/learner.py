"""What a re-ranker learns: for each row whether it is the item that came next, and for each list which one is.

The loss of a batch of lists is ``(1 - w) * BCE + w * CE``: binary cross-entropy of every row, so that a logit is a chance (what
AUC and log loss judge), and the cross-entropy of the softmax over each list, so that the order is learnt (what NDCG judges).

Suffixes: L lists, R candidates of each (short ones padded), F dense features, S sparse ones.

Source:
    Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", 2007 (top-one probability).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from build_engines.rerank.network import RerankNetwork
from build_engines.rerank.recipe_parts import RerankTrainPart
from build_engines.tuning_loop import Plan

_JUDGED_LISTS = 512


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Lists:
    """Lists whose right item is among their candidates.

    Attributes:
        dense_LRF: 0 where there is no candidate.
        sparse_LRS: 0 there.
        filled_LR: where there is one.
        right_L: place of the right item.
    """

    dense_LRF: Tensor
    sparse_LRS: Tensor
    filled_LR: Tensor
    right_L: Tensor

    def __len__(self) -> int:
        return len(self.right_L)

    def take(self, at: npt.NDArray[np.int64]) -> Lists:
        """Some of them."""
        index = torch.from_numpy(at)
        return Lists(
            dense_LRF=self.dense_LRF[index],
            sparse_LRS=self.sparse_LRS[index],
            filled_LR=self.filled_LR[index],
            right_L=self.right_L[index],
        )


class RankingLearner:
    """A ``Learner`` of lists."""

    def __init__(self, network: RerankNetwork, part: RerankTrainPart, train: Lists, held_out: Lists) -> None:
        self.network, self.part, self.train, self.held_out = network, part, train, held_out

    def plan(self, epoch: int) -> Plan:
        """Batches of an epoch, in an order of its own."""
        order = np.random.default_rng([self.part.seed, epoch]).permutation(len(self.train)).tolist()
        size = self.part.batch_lists
        return Plan(epoch, tuple(tuple(order[at : at + size]) for at in range(0, len(order), size)))

    def loss(self, batch: Sequence[int]) -> Tensor:
        """See the module."""
        self.network.train()
        return self._loss(self.train, torch.tensor(batch))

    def tokens(self, batch: Sequence[int]) -> int:
        """Candidates in a batch."""
        return int(self.train.filled_LR[torch.tensor(batch)].sum())

    @torch.no_grad()
    def judge(self) -> float:
        """Held-out loss."""
        self.network.eval()
        count = len(self.held_out)
        total = 0.0
        for start in range(0, count, _JUDGED_LISTS):
            at = torch.arange(start, min(start + _JUDGED_LISTS, count))
            total += float(self._loss(self.held_out, at)) * len(at)
        return total / count

    def _loss(self, lists: Lists, at: Tensor) -> Tensor:
        filled_LR, right_L = lists.filled_LR[at], lists.right_L[at]
        logits_LR = self._logits(lists, at, filled_LR)
        wanted_LR = torch.nn.functional.one_hot(right_L, filled_LR.shape[1]).to(logits_LR.dtype)
        rows = torch.nn.functional.binary_cross_entropy_with_logits(
            logits_LR[filled_LR], wanted_LR[filled_LR]
        )
        choice = torch.nn.functional.cross_entropy(logits_LR.masked_fill(~filled_LR, -1e9), right_L)
        weight = self.part.list_weight
        return (1 - weight) * rows + weight * choice

    def _logits(self, lists: Lists, at: Tensor, filled_LR: Tensor) -> Tensor:
        logits_LR = torch.zeros(filled_LR.shape)
        logits_LR[filled_LR] = self.network(lists.dense_LRF[at][filled_LR], lists.sparse_LRS[at][filled_LR])
        return logits_LR


def identity_of(network: RerankNetwork, part: RerankTrainPart, *lists: Lists) -> str:
    """Of model, configuration and data: a checkpoint of another is refused."""
    digest = hashlib.sha256(repr((part, network.shape)).encode())
    for name, one in network.named_parameters():
        digest.update(f"{name}{tuple(one.shape)}{float(one.detach().sum())}".encode())
    for some in lists:
        digest.update(some.dense_LRF.numpy().tobytes() + some.right_L.numpy().tobytes())
    return digest.hexdigest()
