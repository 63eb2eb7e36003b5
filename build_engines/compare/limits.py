"""What a comparison is asked: which examples, how many, and what is too much of a loss.

Units: losses as each name says; a speed-up of 1 is as fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from build_engines.proof.fairness_part import FairnessPart


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareLimits:
    """How to judge.

    Attributes:
        metric: of recommenders.
        max_loss: relative, of the metric that counts (NDCG, perplexity).
        max_points: of shares (R@1, intent accuracy), in percentage points.
        max_slice_loss: relative, on a slice; of shares, in points, 100 times that.
        min_speedup: B is slower where the whole interval is below this.
        batch_sizes: at which both are timed.
        rounds: of both in turn, for each size (>= 10); 0: not timed.
        examples: at most so many, the first of each (0: all).
        footprint: measure memory, latency and CPU, each in a process of its own.
        rate_per_s: and p99 of requests that arrive at this rate; None: not asked.
        fairness: groups.
        seed: of resampling.

    Raises:
        ValueError: a limit is out of range; names it.
    """

    metric: str = "ndcg@10"
    max_loss: float = 0.01
    max_points: float = 1.0
    max_slice_loss: float = 0.05
    min_speedup: float = 0.95
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    rounds: int = 40
    examples: int = 0
    footprint: bool = True
    rate_per_s: float | None = None
    fairness: FairnessPart = field(default_factory=FairnessPart)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, low, high in (
            ("max_loss", 0.0, 1.0), ("max_points", 0.0, 100.0), ("max_slice_loss", 0.0, 1.0), ("min_speedup", 0.0, 100.0),
            ("rounds", 0, 100_000), ("examples", 0, 10**9),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}; use {low:g} to {high:g}")
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ValueError(f"batch_sizes are {self.batch_sizes}; give one or more, each 1 or more")
        if self.rate_per_s is not None and not self.rate_per_s > 0:
            raise ValueError(f"rate_per_s is {self.rate_per_s}; use more than 0")
