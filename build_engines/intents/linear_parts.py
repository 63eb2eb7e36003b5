"""How a head on frozen vectors is trained: plain values, without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearConfig:
    """How the head is trained ([intents.linear]).

    Attributes:
        l2: strengths to try, of the squared weights over a mean loss (> 0); the best on validation is taken.
        balance: 0 counts examples alike, 1 intents alike (0..1).
        outside_weight: what the texts about nothing count together, over what the others do (>= 0).
        refit: learn from validation too, once L2, temperature and threshold are chosen.

    Raises:
        ValueError: a value is out of range; names it.
    """

    l2: tuple[float, ...] = (3e-5, 1e-5, 3e-6, 1e-6)
    balance: float = 0.5
    outside_weight: float = 0.5
    refit: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.l2 or min(self.l2) <= 0:
            raise ValueError(f"l2 is {list(self.l2)}; use numbers above 0")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance is {self.balance}; use a number from 0 to 1")
        if self.outside_weight < 0:
            raise ValueError(f"outside_weight is {self.outside_weight}; use 0 or more")
