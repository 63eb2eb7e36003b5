"""Two classifiers on the same examples: only those that one gets right and the other wrong say anything.

Units: losses are percentage points, parent minus candidate; negative: the candidate is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engines.proof.sample_size import examples_to_decide


def wilson_interval(right: int, texts: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share.

    Source:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share = right / texts
    middle = share + z * z / (2 * texts)
    spread = z * math.sqrt(share * (1 - share) / texts + z * z / (4 * texts * texts))
    return (middle - spread) / (1 + z * z / texts), (middle + spread) / (1 + z * z / texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTexts:
    """Two classifiers on the same texts.

    Attributes:
        texts: judged.
        parent_accuracy, candidate_accuracy: shares.
        only_parent: texts that only the parent gets right.
        only_candidate: texts that only the candidate gets right.
        p_value: of McNemar's exact test, two-sided: how likely so uneven a division is by chance.
        p_worse: the same, one-sided: how likely it is that so many or more of them are lost.
        loss_points: parent minus candidate in percentage points; negative: the candidate is better.
        loss_ci: its 95 % interval, from the discordant texts.
    """

    texts: int
    parent_accuracy: float
    candidate_accuracy: float
    only_parent: int
    only_candidate: int
    p_value: float
    loss_points: float
    loss_ci: tuple[float, float]
    p_worse: float = 1.0

    def sentence(self, parent: str, candidate: str) -> str:
        """For a person."""
        return (
            f"{parent} {self.parent_accuracy:.4f}, {candidate} {self.candidate_accuracy:.4f}: loss "
            f"{self.loss_points:+.2f} points (95 % interval {self.loss_ci[0]:+.2f} to {self.loss_ci[1]:+.2f}); only {parent} right "
            f"{self.only_parent}, only {candidate} right {self.only_candidate}, McNemar p = {self.p_value:.3f}, n = {self.texts}"
        )

    def decided(self, limit_points: float) -> bool:
        """Whether the whole interval lies on one side of a limit."""
        return not self.loss_ci[0] <= limit_points <= self.loss_ci[1]

    def texts_to_decide(self, limit_points: float) -> int | None:
        """How many texts would decide it; None where none would, or it is decided."""
        if self.decided(limit_points):
            return None
        return examples_to_decide(
            self.texts, self.loss_ci[1] - self.loss_points, limit_points - self.loss_points
        )


def paired_texts(parent_N: npt.NDArray[np.bool_], candidate_N: npt.NDArray[np.bool_]) -> PairedTexts:
    """Compare who is right, text by text.

    Args:
        parent_N: whether the parent is right.
        candidate_N: the same of the candidate.

    Raises:
        ValueError: the lengths differ, or there are no texts.

    Source:
        McNemar, "Note on the sampling error of the difference between correlated proportions", 1947; the exact form.
    """
    if parent_N.shape != candidate_N.shape or not parent_N.size:
        raise ValueError(f"{parent_N.shape} texts of the parent, {candidate_N.shape} of the candidate")
    texts = int(parent_N.size)
    lost, won = int((parent_N & ~candidate_N).sum()), int((~parent_N & candidate_N).sum())
    share = (lost - won) / texts
    # The variance of a difference of paired shares; one more of either kind, as none seen is not none there.
    spread = 1.96 * math.sqrt(max(0.0, (lost + won + 1) / texts - share * share) / texts)
    return PairedTexts(
        texts=texts,
        parent_accuracy=float(parent_N.mean()),
        candidate_accuracy=float(candidate_N.mean()),
        only_parent=lost,
        only_candidate=won,
        p_value=min(1.0, 2 * _tail(min(lost, won), lost + won)),
        p_worse=_tail(won, lost + won),
        loss_points=100 * share,
        loss_ci=(100 * (share - spread), 100 * (share + spread)),
    )


def _tail(fewer: int, all_: int) -> float:
    # Of a fair coin: so few or fewer of all.
    if not all_:
        return 1.0
    log_half = all_ * math.log(0.5)
    tail = math.fsum(
        math.exp(math.lgamma(all_ + 1) - math.lgamma(one + 1) - math.lgamma(all_ - one + 1) + log_half)
        for one in range(fewer + 1)
    )
    return min(1.0, tail)
