"""Who trains together: one process alone, or several (``build_engines.distributed``); the loop does not know which.

Every method but ``part`` is called by all processes of a crew at the same place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from build_engines.tuning_loop.learner import Learner
from build_engines.tuning_loop.state import Facts, RunState, load_file, save_file


class Crew(Protocol):
    """The processes that train one model together."""

    @property
    def rank(self) -> int:
        """Of this process, from 0."""

    @property
    def size(self) -> int:
        """Processes; the mean of their gradients is what each of them has after the backward pass."""

    def part(self, batch: Sequence[int]) -> Sequence[int]:
        """The examples of a batch that are this process's; every example is of exactly one."""

    def loss(self, batch: Sequence[int]) -> Tensor:
        """The learner's loss, computed so that its gradients meet those of the others."""

    def turn(self, *, last: bool) -> contextlib.AbstractContextManager[object]:
        """Around forward and backward of one batch; gradients meet in the last of a step."""

    def judge(self) -> float:
        """The learner's held-out loss, the same number in every process."""

    def summed(self, value: float) -> float:
        """Of all processes."""

    def clipped(self, parameters: Iterable[Tensor], most: float) -> float:
        """Cut the gradient to a norm; the norm that it had."""

    def save(self, path: Path, state: RunState, facts: Facts, identity: str) -> None:
        """Write a checkpoint atomically."""

    def has(self, path: Path) -> bool:
        """Whether there is a checkpoint."""

    def load(self, path: Path, state: RunState, identity: str, device: str) -> Facts:
        """Put a checkpoint into ``state``; raises as ``load_file``."""


class Alone:
    """A crew of one."""

    rank, size = 0, 1

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def part(self, batch: Sequence[int]) -> Sequence[int]:
        """All of it."""
        return batch

    def loss(self, batch: Sequence[int]) -> Tensor:
        """The learner's."""
        return self.learner.loss(batch)

    def turn(self, *, last: bool) -> contextlib.AbstractContextManager[object]:
        """Nobody to meet."""
        return contextlib.nullcontext()

    def judge(self) -> float:
        """The learner's."""
        return self.learner.judge()

    def summed(self, value: float) -> float:
        """Its own."""
        return value

    def clipped(self, parameters: Iterable[Tensor], most: float) -> float:
        """By torch."""
        return float(torch.nn.utils.clip_grad_norm_(parameters, most))

    def save(self, path: Path, state: RunState, facts: Facts, identity: str) -> None:
        """One file."""
        save_file(path, state, facts, identity)

    def has(self, path: Path) -> bool:
        """Whether the file is there."""
        return path.exists()

    def load(self, path: Path, state: RunState, identity: str, device: str) -> Facts:
        """One file."""
        return load_file(path, state, identity, device)
