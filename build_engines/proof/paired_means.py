"""Is the candidate as good as its parent?  Pass, fail, or not decidable with this many users.

Both models answer the same users, and only the users that they answer differently carry information: a
paired bootstrap sees a 1 % loss where two separate means would need a hundred times the users.

The interval of the relative loss decides: wholly below the limit is a pass, wholly above a fail,
anything else undecidable.  The mean alone never decides.

Where hardly anybody differs a bootstrap knows nothing about the users it has not seen; the interval is then widened by the rule
of three over the users that either model served (none in n seen: up to 3/n, at 95 %).

Units: losses are relative to the parent's mean; positive is worse, 0.01 is 1 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from build_engines.proof.sample_size import examples_to_decide

Outcome = Literal["pass", "fail", "undecidable"]
MIN_DIFFERENT = 5  # fewer users than this with different values: the bootstrap interval is not to be trusted
CELLS_PER_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedVerdict:
    """One metric of two models over the same cases, against a limit.

    Attributes:
        metric: its name.
        parent_mean: mean of the parent.
        candidate_mean: mean of the candidate.
        relative_loss: ``(parent - candidate) / parent``; NaN where the parent's mean is 0.
        ci_low: lower end of its confidence interval.
        ci_high: upper end.
        limit: the loss that the candidate must stay below (0: it must beat the parent).
        n: cases.
        verdict: ``pass``, ``fail`` or ``undecidable``.
        n_to_decide: cases that would decide at this loss, four times in five; None where none would.
        p_at_limit: how often a loss so far above the limit, or further, would be seen were the true one at the limit;
            one-sided, by the same resampling. Small: the loss is above the limit.
    """

    metric: str
    parent_mean: float
    candidate_mean: float
    relative_loss: float
    ci_low: float
    ci_high: float
    limit: float
    n: int
    verdict: Outcome
    n_to_decide: int | None
    p_at_limit: float = 1.0

    @property
    def passed(self) -> bool:
        """Whether the verdict is ``pass``; undecidable is not."""
        return self.verdict == "pass"

    def as_json(self) -> dict[str, object]:
        """Plain values for a report; None where a figure is not finite, which JSON cannot say."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }

    def sentence(self) -> str:
        """The verdict with its figure, limit and sample size, for a person."""
        text = (
            f"{self.metric} {self.parent_mean:.4f} -> {self.candidate_mean:.4f}: loss {self.relative_loss:+.2%} "
            f"(95 % interval {self.ci_low:+.2%} to {self.ci_high:+.2%}), limit {self.limit:.2%}, "
            f"n = {self.n}: {self.verdict}"
        )
        if self.verdict != "undecidable":
            return text
        needed = "no number of cases" if self.n_to_decide is None else f"about {self.n_to_decide} cases"
        return f"{text}; {needed} would decide"


def paired_verdict(
    parent_C: npt.NDArray[np.floating],
    candidate_C: npt.NDArray[np.floating],
    *,
    metric: str,
    limit: float,
    seed: int = 0,
    resamples: int = 2000,
) -> PairedVerdict:
    """Compare two models case by case.

    Args:
        parent_C: the metric of the parent for each case (>= 0).
        candidate_C: the same of the candidate, the same cases in the same order.
        metric: its name.
        limit: relative loss that the candidate must stay below.
        seed: of the resampling.
        resamples: how many (>= 100).

    Raises:
        ValueError: the lengths differ, a value is negative or not finite, or resamples are too few.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval).
    """
    parent, candidate = np.asarray(parent_C, np.float64), np.asarray(candidate_C, np.float64)
    if parent.shape != candidate.shape or parent.ndim != 1:
        raise ValueError(f"{metric}: {parent.shape} values of the parent, {candidate.shape} of the candidate")
    both = np.concatenate([parent, candidate])
    if not np.isfinite(both).all() or both.min(initial=0.0) < 0:
        raise ValueError(f"{metric}: a value is negative or not finite")
    if resamples < 100 or not math.isfinite(limit):
        raise ValueError(f"{metric}: limit {limit} must be finite and resamples {resamples} at least 100")
    n = parent.size
    parent_mean, candidate_mean = (
        (float(parent.mean()), float(candidate.mean())) if n else (math.nan, math.nan)
    )
    loss, low, high, needed, p_at_limit = math.nan, math.nan, math.nan, None, 1.0
    if n and parent_mean > 0:
        loss = (parent_mean - candidate_mean) / parent_mean
        drawn = _drawn_losses(parent, candidate, seed, resamples)
        low, high = _interval(drawn)
        p_at_limit = (1 + int(np.count_nonzero(drawn <= limit))) / (1 + resamples)
        width, shrinks_with = (high - loss if loss < limit else loss - low), 0.5
        unseen = 3.0 / float(np.count_nonzero((parent > 0) | (candidate > 0)))
        if np.count_nonzero(parent != candidate) < MIN_DIFFERENT or not math.isfinite(width):
            low, high = min(low, loss - unseen), max(high, loss + unseen)
            width, shrinks_with = unseen, 1.0  # the rule of three narrows with n
            p_at_limit = p_at_limit if low > limit else 1.0
        needed = examples_to_decide(n, width, limit - loss, shrinks_with=shrinks_with)
    return PairedVerdict(
        metric=metric,
        parent_mean=parent_mean,
        candidate_mean=candidate_mean,
        relative_loss=loss,
        ci_low=low,
        ci_high=high,
        limit=limit,
        n=n,
        verdict="pass" if high < limit else "fail" if low > limit else "undecidable",  # NaN is neither
        n_to_decide=needed,
        p_at_limit=p_at_limit,
    )


def _drawn_losses(
    parent: npt.NDArray[np.float64], candidate: npt.NDArray[np.float64], seed: int, resamples: int
) -> npt.NDArray[np.float64]:
    # Ranks give few distinct values: resampling the counts of distinct pairs is the same bootstrap, much faster.
    pairs, counts = np.unique(np.stack([parent, candidate], axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    losses = []
    chunk = max(1, CELLS_PER_CHUNK // len(pairs))
    for start in range(0, resamples, chunk):
        drawn = generator.multinomial(parent.size, counts / parent.size, size=min(chunk, resamples - start))
        parents, candidates = (drawn @ pairs).T
        with np.errstate(divide="ignore", invalid="ignore"):
            losses.append(np.where(parents > 0, (parents - candidates) / parents, np.nan))
    every = np.concatenate(losses)
    every[np.isnan(every)] = np.inf  # a resample in which the parent served nobody decides nothing
    return every


def _interval(drawn: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return (float(low) if math.isfinite(low) else -math.inf), float(high)
