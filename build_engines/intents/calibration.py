"""What a probability is worth: temperature, calibration error, and where "I do not know" begins.

Everything here is chosen on validation and told on test. Temperature is one number, so it cannot change which intent is best,
and a thousand examples are plenty for it.

Suffixes: N texts, C intents, T thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 15
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
_GOLDEN = (math.sqrt(5) - 1) / 2


def negative_log_likelihood(logits_NC: Floats, labels_N: Labels, temperature: float = 1.0) -> float:
    """Mean loss in nats."""
    scaled_NC = logits_NC.astype(np.float64) / temperature
    top_N = scaled_NC.max(axis=1)
    log_sum_N = top_N + np.log(np.exp(scaled_NC - top_N[:, None]).sum(axis=1))
    return float(np.mean(log_sum_N - scaled_NC[np.arange(len(labels_N)), labels_N]))


def fitted_temperature(logits_NC: Floats, labels_N: Labels) -> float:
    """The temperature with the smallest loss, by golden section in its logarithm; 1 where nothing is known.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2.
    """
    if len(labels_N) == 0:
        return 1.0
    low, high = math.log(0.02), math.log(50.0)

    def loss(logarithm: float) -> float:
        return negative_log_likelihood(logits_NC, labels_N, math.exp(logarithm))

    for _ in range(60):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return math.exp((low + high) / 2)


def expected_calibration_error(probabilities_NC: Floats, labels_N: Labels, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over bins of equal width, weighted by their texts.

    Source:
        Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015.
    """
    confidence_N = probabilities_NC.max(axis=1)
    right_N = probabilities_NC.argmax(axis=1) == labels_N
    bin_N = np.minimum((confidence_N * bins).astype(np.int64), bins - 1)
    error = 0.0
    for number in np.unique(bin_N):
        inside = bin_N == number
        error += inside.mean() * abs(float(right_N[inside].mean()) - float(confidence_N[inside].mean()))
    return float(error)


def reliability(
    probabilities_NC: Floats, labels_N: Labels, bins: int = BINS
) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and texts of each bin that has any."""
    confidence_N = probabilities_NC.max(axis=1)
    right_N = probabilities_NC.argmax(axis=1) == labels_N
    bin_N = np.minimum((confidence_N * bins).astype(np.int64), bins - 1)
    return [
        (
            float(confidence_N[bin_N == number].mean()),
            float(right_N[bin_N == number].mean()),
            int((bin_N == number).sum()),
        )
        for number in np.unique(bin_N)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdPoint:
    """What one threshold does.

    Attributes:
        threshold: of the best probability.
        coverage: in-scope texts at or above it.
        accuracy: of those; NaN where there are none.
        out_answered: out-of-scope texts at or above it (0 where none are known).
    """

    threshold: float
    coverage: float
    accuracy: float
    out_answered: float


def threshold_curve(
    probabilities_NC: Floats, labels_N: Labels, outside_MC: Floats, thresholds_T: Sequence[float]
) -> tuple[ThresholdPoint, ...]:
    """Coverage against accuracy, and what is answered though it should not be.

    Args:
        probabilities_NC: of texts that are about an intent.
        labels_N: of the same.
        outside_MC: of texts that are about none; may have no rows.
        thresholds_T: to look at.
    """
    confidence_N, right_N = probabilities_NC.max(axis=1), probabilities_NC.argmax(axis=1) == labels_N
    outside_M = outside_MC.max(axis=1) if len(outside_MC) else np.zeros(0, np.float32)
    points = []
    for threshold in thresholds_T:
        kept_N = confidence_N >= threshold
        points.append(
            ThresholdPoint(
                threshold=float(threshold),
                coverage=float(kept_N.mean()),
                accuracy=float(right_N[kept_N].mean()) if kept_N.any() else math.nan,
                out_answered=float((outside_M >= threshold).mean()) if len(outside_M) else 0.0,
            )
        )
    return tuple(points)


def chosen_threshold(
    probabilities_NC: Floats,
    labels_N: Labels,
    outside_MC: Floats,
    *,
    max_out_answered: float,
    max_wrong: float,
    min_coverage: float,
) -> float:
    """The lowest threshold that keeps both promises, but never one that leaves less than ``min_coverage`` answered.

    Args:
        probabilities_NC: of validation texts that are about an intent.
        labels_N: of the same.
        outside_MC: of validation texts that are about none.
        max_out_answered: share of texts about nothing that may get an intent.
        max_wrong: share of the texts that get an intent that may get a wrong one.
        min_coverage: share of texts about an intent that must get one; it wins over the other two.
    """
    confidence_N = np.sort(probabilities_NC.max(axis=1))
    # Above every candidate at which something changes, and 0: nothing is out of scope.
    outside_M = np.sort(outside_MC.max(axis=1)) if len(outside_MC) else np.zeros(0, np.float32)
    candidates = np.unique(np.concatenate([[0.0], confidence_N, np.nextafter(outside_M, np.float32(2.0))]))
    most = float(confidence_N[min(len(confidence_N) - 1, int((1 - min_coverage) * len(confidence_N) + 1e-9))])
    allowed = [float(one) for one in candidates if one <= most]
    for point in threshold_curve(probabilities_NC, labels_N, outside_MC, allowed):
        if point.out_answered <= max_out_answered and 1 - point.accuracy <= max_wrong:
            return min(1.0, point.threshold)
    return min(1.0, most)
