"""How much higher one model's loss a token is than another's, text by text: perplexity, paired.

Tokens of one text are not independent, so texts are drawn, not tokens.

Units: nats; a rise is relative (0.01: perplexity is 1 % higher). Suffix: N texts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engines.proof.sample_size import examples_to_decide

MIN_TEXTS = 5  # fewer: a bootstrap of them knows nothing of others


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRise:
    """Perplexity of a candidate over its parent's, less 1.

    Attributes:
        n: texts.
        rise: of the figure; NaN for no texts.
        low, high: its 95 % interval.
        p_at_limit: how often so large a rise would be seen were the true one at the limit; one-sided.
        n_to_decide: texts that would decide, four times in five; None: none would, or it is decided.
    """

    n: int
    rise: float
    low: float
    high: float
    p_at_limit: float
    n_to_decide: int | None


def paired_rise(
    lost_N: npt.NDArray[np.float64],
    tokens_N: npt.NDArray[np.float64],
    *,
    limit: float = 0.0,
    seed: int = 0,
    resamples: int = 2000,
) -> PairedRise:
    """Draw texts again and again.

    Args:
        lost_N: nats that the candidate needs for a text beyond what the parent needs.
        tokens_N: of each text (> 0).
        limit: that the rise is held against.
        seed: of the resampling.
        resamples: how many (>= 100).

    Raises:
        ValueError: the lengths differ, a text has no tokens, or resamples are too few.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval).
    """
    if lost_N.shape != tokens_N.shape or lost_N.ndim != 1:
        raise ValueError(f"{lost_N.shape} losses, {tokens_N.shape} numbers of tokens")
    if resamples < 100 or (tokens_N.size and tokens_N.min() <= 0):
        raise ValueError(f"{resamples} resamples (100 or more are needed), or a text without tokens")
    n = lost_N.size
    if not n:
        return PairedRise(n=0, rise=math.nan, low=-math.inf, high=math.inf, p_at_limit=1.0, n_to_decide=None)
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
    with np.errstate(over="ignore"):
        rises = np.expm1(lost_N[drawn].sum(axis=1) / tokens_N[drawn].sum(axis=1))
        rise = float(np.expm1(lost_N.sum() / tokens_N.sum()))
        low, high = (float(one) for one in np.quantile(rises, [0.025, 0.975]))
    p_at_limit = (1 + int(np.count_nonzero(rises <= limit))) / (1 + resamples)
    needed = None
    if low <= limit <= high:
        needed = examples_to_decide(n, high - rise if rise < limit else rise - low, limit - rise)
    return PairedRise(
        n=n,
        rise=rise,
        low=low,
        high=high,
        p_at_limit=p_at_limit if n >= MIN_TEXTS else 1.0,
        n_to_decide=needed,
    )
