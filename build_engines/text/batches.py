"""Pairs as arrays: which go together in a step, how they are padded, and what the loss of a batch is.

Padding is on the right and needs no mask: attention is causal, so no token of a pair sees it, and no loss is taken there.

Suffixes: B pairs of a batch, T tokens, D width, P answer tokens of all pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from build_engines.text.pairs import EncodedPair
from build_engines.tuning_loop import plan_epoch as plan_epoch  # also offered here: pairs are planned by it


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """``ids_BT`` (int64, 0 where padded) and ``answer_BT``: where a token is of an answer."""

    ids_BT: npt.NDArray[np.int64]
    answer_BT: npt.NDArray[np.bool_]


def padded(batch: Sequence[EncodedPair]) -> Batch:
    """Pairs as one matrix."""
    longest = max(len(pair.ids) for pair in batch)
    ids_BT = np.zeros((len(batch), longest), np.int64)
    answer_BT = np.zeros((len(batch), longest), np.bool_)
    for row, pair in enumerate(batch):
        ids_BT[row, : len(pair.ids)] = pair.ids
        answer_BT[row, pair.prompt_tokens : len(pair.ids)] = True
    return Batch(ids_BT, answer_BT)


def answer_loss(model: nn.Module, batch: Batch, device: str, *, bfloat16: bool) -> tuple[Tensor, int]:
    """Summed cross-entropy of the answers' tokens, and how many there are.

    The head is computed where a loss is taken and nowhere else: at these vocabularies it is a third of a small model.
    """
    wrapped: Any = model
    causal = (
        wrapped.get_base_model() if hasattr(model, "get_base_model") else wrapped
    )  # peft's layers sit inside
    ids_BT = torch.from_numpy(batch.ids_BT).to(device)
    answer_BT = torch.from_numpy(batch.answer_BT).to(device)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=bfloat16):
        hidden_BTD = causal.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
        logits_PV = causal.lm_head(hidden_BTD[answer_BT[:, 1:]])
    wanted_P = ids_BT[:, 1:][answer_BT[:, 1:]]
    loss = torch.nn.functional.cross_entropy(logits_PV.float(), wanted_P, reduction="sum")
    return loss, int(wanted_P.numel())
