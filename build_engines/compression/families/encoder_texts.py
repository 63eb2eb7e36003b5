"""What an encoder learns from: texts as tokens, and what the uncompressed encoder says of them.

Suffixes: N texts, E width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from build_engines.intents.linear import OUTSIDE, fit_linear
from build_engines.intents.linear_parts import LinearConfig
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.network import EncoderNetwork, load_network, pooled
from build_engines.models.encoder.sentence import SentenceForm, weights_folder
from build_engines.tuning_loop import plan_epoch

HEAD_SCALE = 16.0  # vectors have length 1 and differ little: weights of a size that an optimizer likes
HELD_OUT = 0.1  # of the texts, to judge by
UNLABELLED = -2  # label of a text that nobody labelled
JUDGED_TOKENS = 4096  # of a batch that is read without gradients


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Texts:
    """Texts as tokens, and what each is about.

    Attributes:
        ids: of each.
        labels_N: intents, ``OUTSIDE``, or -2 where nobody said.
    """

    ids: tuple[Ids, ...]
    labels_N: npt.NDArray[np.int64]


@dataclass(slots=True, eq=False, kw_only=True)
class TextData:
    """What an encoder learns from and is looked into with; shared by a teacher and its students.

    Attributes:
        checkpoint: the uncompressed encoder's folder.
        form: how its vectors are made.
        learn: to learn from, and (the last of them) to judge by.
        calibration: for looking.
        intents: how many there are; 0: none.
        seed: of batches.
    """

    checkpoint: Path
    form: SentenceForm
    learn: Texts
    calibration: tuple[Ids, ...]
    intents: int = 0
    seed: int = 0
    _wanted: Tensor | None = field(default=None, init=False)

    def wanted_NE(self) -> Tensor:
        """The uncompressed encoder's vectors of the texts to learn from."""
        if self._wanted is None:
            network = load_network(weights_folder(self.checkpoint)).eval()
            self._wanted = read_NE(network, self.learn.ids, self.form)
        return self._wanted

    def taught(self, vectors_NE: Tensor) -> None:
        """Take these vectors, which were read before."""
        if len(vectors_NE) == len(self.learn.ids):
            self._wanted = vectors_NE


@torch.no_grad()
def read_NE(network: EncoderNetwork, ids: Sequence[Ids], form: SentenceForm) -> Tensor:
    """Unit vectors of texts in their order."""
    plan = plan_epoch([len(one) for one in ids], seed=0, epoch=0, batch_tokens=JUDGED_TOKENS)
    found = torch.zeros(len(ids), min(form.dim, network.arch.dim))
    for batch in plan.batches:
        ids_BT, lengths_B = (torch.from_numpy(one) for one in padded([ids[one] for one in batch]))
        hidden_BTD = network(ids_BT, lengths_B)
        found[list(batch)] = pooled(
            hidden_BTD, lengths_B, pooling=form.pooling, dim=found.shape[1], normalize=True
        )
    return found


def fitted_head(data: TextData) -> tuple[Tensor, Tensor]:
    """Weights and bias of a linear head on the uncompressed encoder's vectors, over ``HEAD_SCALE``."""
    labelled = np.flatnonzero(data.learn.labels_N != UNLABELLED)
    vectors_ND, labels_N = data.wanted_NE().numpy()[labelled], data.learn.labels_N[labelled]
    held = max(1, round(HELD_OUT * len(labelled)))
    inside = np.flatnonzero(labels_N != OUTSIDE)
    fit = fit_linear(
        vectors_ND,
        labels_N,
        vectors_ND[inside[-held:]],
        labels_N[inside[-held:]],
        data.intents,
        LinearConfig(),
    )
    return torch.from_numpy(fit.weights_CD / HEAD_SCALE), torch.from_numpy(fit.bias_C / HEAD_SCALE)
