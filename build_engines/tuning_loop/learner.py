"""What is learnt, and what a learner may offer beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from build_engines.tuning_loop.plan import Plan


class Learner(Protocol):
    """What is learnt.

    It may also offer ``weight`` (``Weighed``) and ``checkpoint_activations`` (``SavesMemory``).
    """

    def plan(self, epoch: int) -> Plan:
        """Batches of an epoch: as many in each, the same for the same epoch."""

    def loss(self, batch: Sequence[int]) -> Tensor:
        """Mean loss of a batch, with gradients; all randomness is torch's."""

    def tokens(self, batch: Sequence[int]) -> int:
        """Tokens in a batch."""

    def judge(self) -> float:
        """Held-out loss of the parameters as they are; without gradients."""


@runtime_checkable
class Weighed(Protocol):
    """A learner whose mean is not over examples: what parts of a batch count when they are put together again."""

    def weight(self, batch: Sequence[int]) -> float:
        """What the mean loss of the batch is taken over: positions, or answers' tokens (>= 0; 0: nothing in it counts)."""


@runtime_checkable
class SavesMemory(Protocol):
    """A learner that can compute activations again in the backward pass, in place of keeping them."""

    def checkpoint_activations(self) -> None:
        """From now on; called once, before the first step."""


def weight_of(learner: Learner, batch: Sequence[int]) -> float:
    """What a batch counts beside others of its step."""
    return float(learner.weight(batch)) if isinstance(learner, Weighed) else float(len(batch))


def check_activations(learner: Learner) -> None:
    """Turn gradient checkpointing on.

    Raises:
        ValueError: the learner has none.
    """
    if not isinstance(learner, SavesMemory):
        raise ValueError(
            f"checkpoint_activations is true, and {type(learner).__name__} has no gradient checkpointing; "
            "leave it off, or make batches smaller and accumulate more of them"
        )
    learner.checkpoint_activations()
