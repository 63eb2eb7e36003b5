"""Which examples go together in a step, epoch by epoch; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Plan:
    """Batches of one epoch: indices of examples."""

    epoch: int
    batches: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        """Batches."""
        return len(self.batches)


def plan_epoch(lengths: Sequence[int], *, seed: int, epoch: int, batch_tokens: int) -> Plan:
    """Batches of like length in a random order, the same for the same seed and epoch.

    The number of batches is the same in every epoch, so that a step's place in the whole is known.
    """
    order = np.random.default_rng([seed, epoch])
    # Examples of one length change places between epochs, borders of batches do not.
    ranked = np.lexsort((order.permutation(len(lengths)), np.asarray(lengths)))
    groups: list[list[int]] = []
    for one in ranked.tolist():
        if groups and lengths[one] * (len(groups[-1]) + 1) <= batch_tokens:
            groups[-1].append(one)
        else:
            groups.append([one])
    return Plan(epoch, tuple(tuple(groups[at]) for at in order.permutation(len(groups))))
