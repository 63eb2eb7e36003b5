"""Four ways to find a range, held to what each of them promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from build_engines.compression.calibrator_names import CALIBRATORS, check_ranges
from build_engines.compression.calibrators import BINS, Histogram, threshold

VALUES = arrays.arrays(
    np.float32, st.integers(1, 3000), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
)


def seen(*parts: np.ndarray) -> Histogram:
    found = Histogram()
    for part in parts:
        found.add(part)
    return found


def error(values: np.ndarray, limit: float) -> float:
    step = limit / 127
    return float(np.square(values - np.clip(np.rint(values / step), -127, 127) * step).mean())


@given(VALUES, st.sampled_from(CALIBRATORS))
@settings(max_examples=150, deadline=None)
def test_no_range_is_wider_than_what_was_seen_or_empty(values: np.ndarray, method: str) -> None:
    """Whatever the values, a threshold is above zero, finite, and at most the largest."""
    limit = threshold(seen(values), method)  # type: ignore[arg-type]

    largest = float(np.abs(values).max())
    assert 0 < limit <= max(largest, 1e-8) * (1 + 1e-6)


@given(VALUES, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_every_value_is_counted_once_however_it_comes(values: np.ndarray, parts: int) -> None:
    """In one piece or in several, growing or not: counts add up, ends are the true ones."""
    found = seen(*np.array_split(values, parts))

    assert found.counts.sum() == values.size
    assert found.largest == float(np.abs(values).max())
    assert (found.low, found.high) == (min(0.0, float(values.min())), max(0.0, float(values.max())))
    assert found.top >= found.largest


@given(VALUES, st.floats(50, 100))
@settings(max_examples=100, deadline=None)
def test_a_percentile_keeps_that_share(values: np.ndarray, percentile: float) -> None:
    """Of the absolute values no fewer than asked for are inside, to within a bin."""
    found = seen(values)

    limit = threshold(found, "percentile", percentile=percentile)

    inside = float((np.abs(values) <= limit + found.top / BINS).mean())
    assert inside * 100 >= percentile - 100 / values.size - 1e-6


def test_least_squares_beats_the_others_at_their_squared_error() -> None:
    """On a heavy tail, no other calibrator has less squared error than the one that minimizes it, but for its grid."""
    values = np.random.default_rng(0).standard_t(2.5, 60_000).astype(np.float32)
    found = seen(values)

    errors = {method: error(values, threshold(found, method)) for method in CALIBRATORS}

    assert errors["mse"] <= min(errors.values()) * 1.05
    assert errors["mse"] < 0.9 * errors["minmax"]


@pytest.mark.parametrize("seed", range(4))
def test_entropy_never_cuts_into_the_bulk(seed: int) -> None:
    """It gives up outliers, and never more than a thousandth of a bell curve with some of them."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(40_000).astype(np.float32)
    values[:8] = 40.0

    limit = threshold(seen(values), "entropy")

    assert limit < 39
    assert float((np.abs(values) > limit).mean()) < 1e-3


def test_even_values_are_not_cut() -> None:
    """Where every size is as common, all calibrators keep nearly all of the range."""
    values = np.random.default_rng(1).uniform(-1, 1, 50_000).astype(np.float32)
    for method in CALIBRATORS:
        assert threshold(seen(values), method) > 0.93, method


def test_min_max_is_the_largest_and_a_whole_percentile_is_too() -> None:
    """Nothing is cut off by either."""
    values = np.array([0.5, -3.0, 2.0], np.float32)
    assert threshold(seen(values), "minmax") == 3.0
    assert threshold(seen(values), "percentile", percentile=100.0) == 3.0


def test_what_cannot_be_meant_is_refused() -> None:
    """A value that is no number, a calibrator or a share that there is not."""
    with pytest.raises(ValueError, match="not finite"):
        seen(np.array([1.0, np.inf], np.float32))
    with pytest.raises(ValueError, match="there are minmax"):
        threshold(seen(np.ones(3, np.float32)), "maximum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use 50 to 100"):
        threshold(seen(np.ones(3, np.float32)), "percentile", percentile=10.0)
    with pytest.raises(ValueError, match="smooth is 2"):
        check_ranges("product", 99.0, 2.0)
    assert threshold(seen(np.zeros(5, np.float32)), "mse") > 0
