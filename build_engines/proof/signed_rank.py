"""Wilcoxon's signed-rank test: is one of two models better on most examples, whatever the size of a few large differences?

For figures whose mean a few examples rule (the perplexity of one odd text, the latency of one slow run). Differences of zero
are left out, as Wilcoxon did; ties share their ranks. Up to ``EXACT`` differences without ties are decided exactly.

Source:
    Wilcoxon, "Individual comparisons by ranking methods", 1945; the normal form with its correction for ties as in Hollander
    and Wolfe, "Nonparametric Statistical Methods", 1973, section 3.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

EXACT = 50  # differences: above, the normal form is exact enough


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRank:
    """What the ranks say.

    Attributes:
        n: differences that are not zero.
        above: sum of ranks of positive differences.
        below: of negative ones.
        p_two_sided: how likely so uneven a division is by chance.
        p_above: how likely differences so far above zero are by chance.
        exact: by counting, not by the normal form.
        effect: rank-biserial correlation, -1..1; 0: none.
    """

    n: int
    above: float
    below: float
    p_two_sided: float
    p_above: float
    exact: bool
    effect: float


def signed_rank(differences: npt.NDArray[np.floating]) -> SignedRank:
    """Test whether differences lie around zero.

    Args:
        differences: one an example, candidate's figure minus parent's.

    Raises:
        ValueError: one is not finite.
    """
    values = np.asarray(differences, np.float64).ravel()
    if not np.isfinite(values).all():
        raise ValueError(f"difference {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite")
    values = values[values != 0]
    n = values.size
    if not n:
        return SignedRank(n=0, above=0.0, below=0.0, p_two_sided=1.0, p_above=1.0, exact=True, effect=0.0)
    ranks, ties = _ranks(np.abs(values))
    above = float(ranks[values > 0].sum())
    total = n * (n + 1) / 2
    exact = n <= EXACT and ties == 0
    upper, lower = _exact_tails(n, above) if exact else _normal_tails(n, above, ties)
    return SignedRank(
        n=n,
        above=above,
        below=total - above,
        p_two_sided=min(1.0, 2 * min(upper, lower)),
        p_above=upper,
        exact=exact,
        effect=(2 * above - total) / total,
    )


def _ranks(sizes: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    order = np.argsort(sizes, kind="stable")
    _, first, counts = np.unique(sizes[order], return_index=True, return_counts=True)
    shared = np.repeat(first + (counts + 1) / 2, counts)
    ranks = np.empty(sizes.size)
    ranks[order] = shared
    return ranks, float((counts.astype(np.float64) ** 3 - counts).sum())


def _exact_tails(n: int, above: float) -> tuple[float, float]:
    # How many of the 2^n signs give each sum: one more rank adds its own value, or nothing.
    ways = np.zeros(n * (n + 1) // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, n + 1):
        ways[rank:] = ways[rank:] + ways[: ways.size - rank]
    ways /= ways.sum()
    place = round(above)
    return float(min(1.0, ways[place:].sum())), float(min(1.0, ways[: place + 1].sum()))


def _normal_tails(n: int, above: float, ties: float) -> tuple[float, float]:
    mean = n * (n + 1) / 4
    variance = n * (n + 1) * (2 * n + 1) / 24 - ties / 48
    z = (above - mean) / math.sqrt(variance)
    upper = 0.5 * math.erfc(z / math.sqrt(2))
    return upper, 1 - upper
