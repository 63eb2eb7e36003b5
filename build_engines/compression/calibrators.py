"""How wide the range of an activation is taken to be, from what was seen of it: four ways, one histogram.

Values outside the range are cut off and values inside share its codes, so every choice trades one error for the other:

* "minmax": all that was seen; nothing is cut off, and one outlier makes everything else coarse;
* "percentile": all but a share of the values;
* "entropy": the range whose codes keep most of the distribution (least Kullback-Leibler divergence);
* "mse": the range with the least squared error.

None of these looks at what the value is multiplied by. The families' own search does ("product": the range with the least
error of the matrix product, with channel scales tried as well); it is the default where there is one, because it was better
on every model measured here (docs/compression).

Everything is symmetric around zero or from a lowest to a highest value, as the runtime wants it; zero is always a code.

Source:
    Migacz, "8-bit Inference with TensorRT", 2017 (entropy); Nagel et al., "A White Paper on Neural Network Quantization",
    2021, section 3.1 (the four of them).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from build_engines.compression.calibrator_names import CALIBRATORS, Calibrator

BINS = 2048
LEVELS = 128  # of a symmetric range on one side of zero
TINY = 1e-30  # smallest upper end: below it, bins would have no width
_STEPS = 64  # ranges that "mse" and "entropy" try
_NARROWEST = 1 / 16  # of the range seen that they try


class Histogram:
    """Absolute values that were seen, in ``BINS`` of one width; the range doubles when something larger comes.

    Memory does not grow with what is seen, and two histograms of the same values in another order are the same to within a
    bin.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.top = 0.0  # upper end of the last bin
        self.largest = 0.0
        self.low = 0.0  # least and largest values with their sign, zero always among them
        self.high = 0.0

    def add(self, values: npt.NDArray[np.floating[Any]]) -> None:
        """Take in values of any shape.

        Raises:
            ValueError: one is not finite.
        """
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("values are not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        size = np.abs(values).reshape(-1)
        largest = max(-low, high)
        self.largest = max(self.largest, largest)
        if self.top == 0.0:
            if largest == 0.0:  # zeros alone so far
                self.counts[0] += size.size
                return
            self.top = max(largest, TINY)
        while largest > self.top:
            self.counts = np.concatenate(
                [self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)]
            )
            self.top *= 2
        places = np.minimum((size * (BINS / self.top)).astype(np.int64), BINS - 1)
        self.counts += np.bincount(places, minlength=BINS)


def threshold(seen: Histogram, method: Calibrator, *, percentile: float = 99.99) -> float:
    """The absolute value above which is cut off; at least a tiny number and at most the largest seen.

    Args:
        seen: the histogram.
        method: which of the four.
        percentile: of values to keep ("percentile" only; 50..100).

    Raises:
        ValueError: an unknown method, or a percentile out of range.
    """
    if method not in CALIBRATORS:
        raise ValueError(f"calibrator {method!r}: there are {', '.join(CALIBRATORS)}")
    if not 50 <= percentile <= 100:
        raise ValueError(f"percentile {percentile:g}: use 50 to 100")
    if seen.largest <= 0:
        return 1e-8
    if method == "minmax" or (method == "percentile" and percentile == 100):
        return seen.largest
    if method == "percentile":
        inside = np.cumsum(seen.counts) / seen.counts.sum()
        found = (int(np.searchsorted(inside, percentile / 100)) + 1) * seen.top / BINS
        return float(min(found, seen.largest))
    error = _divergence if method == "entropy" else _squared
    last = int(np.flatnonzero(seen.counts).max()) + 1
    least = max(LEVELS, round(last * _NARROWEST))
    tried = np.unique(np.linspace(min(least, last), last, _STEPS).round().astype(int))
    errors = [error(seen.counts, int(bins)) for bins in tried]
    best = int(tried[int(np.argmin(errors))])
    return float(min(best * seen.top / BINS, seen.largest))


def cut(seen: Histogram, method: Calibrator, *, percentile: float = 99.99) -> float:
    """``threshold`` as a share of the largest value, for ranges with two ends: both are multiplied by it."""
    limit = threshold(seen, method, percentile=percentile)
    return min(1.0, limit / seen.largest) if seen.largest > 0 else 1.0


def _squared(counts: npt.NDArray[np.int64], bins: int) -> float:
    middles = np.arange(counts.size) + 0.5
    step = bins / (LEVELS - 1)
    rounded = np.clip(np.rint(middles / step), 0, LEVELS - 1) * step
    return float((counts * np.square(middles - rounded)).sum())


def _divergence(counts: npt.NDArray[np.int64], bins: int) -> float:
    # P: what was seen, with what is cut off added to the last bin. Q: P's own bins through LEVELS codes and back, spread
    # over the bins that hold something (Migacz).
    whole = counts[:bins].astype(np.float64)
    wanted = whole.copy()
    wanted[-1] += counts[bins:].sum()
    codes = np.minimum(np.arange(bins) * LEVELS // bins, LEVELS - 1)
    filled = (whole > 0).astype(np.float64)
    sums, many = np.bincount(codes, whole, LEVELS), np.bincount(codes, filled, LEVELS)
    kept = np.where(filled > 0, (sums / np.maximum(many, 1.0))[codes], 0.0)
    p, q = wanted / wanted.sum(), kept / max(kept.sum(), 1e-300)
    there = p > 0
    # A last bin that holds only what was cut off has no share in Q: a smallest one stands in for it.
    return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-12))).sum())
