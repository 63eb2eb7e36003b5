"""The cost model: learns a + b * n from what is measured, and is not fooled by a stall."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.batching.cost import CostModel

pytestmark = pytest.mark.timeout(60)

coefficients = st.floats(min_value=0.0, max_value=1.0)
observations = st.lists(
    st.tuples(st.integers(min_value=-1, max_value=256), st.floats(allow_nan=True, allow_infinity=True)),
    max_size=60,
)


def test_it_learns_the_line_of_the_engine_it_serves() -> None:
    """An engine three times slower than its manifest says is predicted right after a few dozen batches."""
    rng = random.Random(7)
    cost = CostModel(0.001, 0.0001)

    for _ in range(300):
        n = rng.randint(1, 32)
        cost.observe(n, (0.003 + 0.0003 * n) * rng.uniform(0.95, 1.05))

    assert cost.predict_s(1) == pytest.approx(0.0033, rel=0.1)
    assert cost.predict_s(32) == pytest.approx(0.0126, rel=0.1)


def test_one_stall_is_not_the_engines_speed() -> None:
    """A batch that took five seconds once moves the prediction by less than a fifth."""
    cost = CostModel(0.002, 0.0002)
    for _ in range(50):
        cost.observe(8, 0.0036)

    cost.observe(8, 5.0)

    assert cost.predict_s(8) < 0.0036 * 1.2


def test_batches_of_one_size_leave_the_slope_alone() -> None:
    """A server that only ever saw batches of four still knows what thirty-two cost."""
    cost = CostModel(0.001, 0.0002)

    for _ in range(500):
        cost.observe(4, 0.0018)

    assert cost.predict_s(32) == pytest.approx(0.0074, rel=0.1)


def test_what_is_forgotten_is_what_is_above_the_seed() -> None:
    """Relaxing leads back to the manifest's figures, never below them, and a faster engine stays fast."""
    slow, fast = CostModel(0.001, 0.0001), CostModel(0.001, 0.0001)
    for _ in range(200):
        slow.observe(4, 0.1)
        fast.observe(4, 0.0005)
    before = fast.predict_s(4)

    for _ in range(200):
        slow.relax()
        fast.relax()

    assert slow.predict_s(4) == pytest.approx(0.0014, rel=0.01)
    assert fast.predict_s(4) == before


@given(coefficients, coefficients, observations)
def test_no_observation_makes_it_nonsense(base: float, slope: float, seen: list[tuple[int, float]]) -> None:
    """Whatever is observed, both coefficients stay finite and >= 0."""
    cost = CostModel(base, slope)

    for n, elapsed in seen:
        cost.observe(n, elapsed)
        cost.relax()

    assert 0.0 <= cost.base_s < math.inf
    assert 0.0 <= cost.per_item_s < math.inf


@given(coefficients, coefficients, st.floats(min_value=-1.0, max_value=100.0), st.integers(1, 512))
def test_what_fits_is_the_most_that_fits(base: float, slope: float, budget: float, limit: int) -> None:
    """``fits`` never exceeds the budget or the limit; one more would exceed one of them (but for rounding)."""
    cost = CostModel(base, slope)

    n = cost.fits(budget, limit)

    assert 0 <= n <= limit
    assert n == 0 or cost.predict_s(n) <= budget
    assert n == limit or cost.predict_s(n + 1) > budget - 1e-9


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_line_out_of_range_is_refused(value: float) -> None:
    """A seed that is negative, NaN or infinite is refused, and named."""
    with pytest.raises(ValueError, match="base_s"):
        CostModel(value, 0.0)
    with pytest.raises(ValueError, match="per_item_s"):
        CostModel(0.0, value)
