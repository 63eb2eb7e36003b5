"""Precision by measurement: the choice is the best there is, keeps its budget, and says what it was made by."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_engines.compression import knapsack
from build_engines.compression.knapsack import Choice, choose
from build_engines.compression.mixed import mix
from build_engines.errors import BuildError
from build_engines.progress import Silent

FIGURE = st.floats(0, 10, allow_nan=False)
PLACES = st.lists(
    st.lists(
        st.builds(Choice, st.just("p"), st.floats(-1, 10, allow_nan=False), FIGURE), min_size=1, max_size=3
    ),
    min_size=1,
    max_size=6,
)


def spent(places: list[list[Choice]], picks: tuple[int, ...]) -> tuple[float, float]:
    chosen = [place[pick] for place, pick in zip(places, picks, strict=True)]
    return sum(max(one.loss, 0.0) for one in chosen), sum(one.seconds for one in chosen)


@given(PLACES, st.floats(0, 30, allow_nan=False))
@settings(max_examples=300, deadline=None)
def test_the_choice_is_the_best_of_all_combinations(places: list[list[Choice]], budget: float) -> None:
    """Against every combination tried one by one: never over the budget, never slower than the best that holds."""
    everything = list(itertools.product(*(range(len(place)) for place in places)))
    held = [picks for picks in everything if spent(places, picks)[0] <= budget]
    if not held:
        with pytest.raises(ValueError, match="the least that the losses add up to"):
            choose(places, budget)
        return

    picks = choose(places, budget)

    loss, seconds = spent(places, picks)
    assert loss <= budget * (1 + 1e-9) + 1e-12
    assert seconds <= min(spent(places, one)[1] for one in held) + 1e-9


@given(PLACES, st.floats(0.1, 30, allow_nan=False))
@settings(max_examples=60, deadline=None)
def test_a_coarse_table_still_keeps_the_budget(places: list[list[Choice]], budget: float) -> None:
    """Where too many sums would be kept they are rounded up: the budget holds, and the time is nearly the best."""
    most = knapsack.MOST_KEPT
    knapsack.MOST_KEPT = 2
    try:
        picks = choose(places, budget)
    except ValueError:
        return
    finally:
        knapsack.MOST_KEPT = most

    loss, seconds = spent(places, picks)
    assert loss <= budget * (1 + 1e-9) + 1e-12
    smaller = budget * (1 - knapsack.GRAIN * 2 * len(places))
    held = [
        spent(places, picks)[1]
        for picks in itertools.product(*(range(len(place)) for place in places))
        if spent(places, picks)[0] <= smaller
    ]
    assert not held or seconds <= min(held) + 1e-9


def test_nothing_that_cannot_be_is_chosen_from() -> None:
    """No choice, a loss that is no number, a budget below zero: each says which."""
    with pytest.raises(ValueError, match="place 1 has no choice"):
        choose([[Choice("a", 0, 1)], []], 1.0)
    with pytest.raises(ValueError, match="place 0 has a loss"):
        choose([[Choice("a", float("nan"), 1)]], 1.0)
    with pytest.raises(ValueError, match="budget -1"):
        choose([[Choice("a", 0, 1)]], -1.0)


PRODUCTS = ("layers.0.qkv", "layers.0.down", "layers.1.qkv", "layers.1.down")
LOSSES = dict(zip(PRODUCTS, (0.001, 0.02, 0.001, 0.05), strict=True))
SECONDS = {"fp32": [4.0, 4.0, 4.0, 4.0], "int8": [1.0, 1.0, 1.0, 1.0]}


def test_the_sensitive_product_stays_as_it_was() -> None:
    """With a budget for all but the worst, the worst alone stays in float32, and the record says so by name."""
    found = mix(
        PRODUCTS,
        ("fp32", "int8"),
        loss=lambda plan: sum(LOSSES[name] for name, one in plan.items() if one == "int8"),
        seconds=SECONDS,
        budget=0.03,
        unit="1 - cosine",
        progress=Silent(),
    )

    assert [name for name, one in found.plan.items() if one == "fp32"] == ["layers.1.down"]
    assert found.seconds == (7.0, 16.0, 4.0)
    assert "layers.1.down" in found.record.said
    assert found.record.figures["products in int8"] == 3
    assert {curve.name for curve in found.record.curves} >= {
        "loss with only this product in it",
        "loss with all but this product in it",
    }


def test_losses_that_do_not_add_up_are_found_and_less_is_spent() -> None:
    """Where two products together lose far more than each alone, the measured whole is what counts."""

    def together(plan: dict[str, str]) -> float:
        low = [name for name, one in plan.items() if one == "int8"]
        return sum(LOSSES[name] for name in low) * (10 if len(low) > 2 else 1)

    found = mix(
        PRODUCTS,
        ("fp32", "int8"),
        loss=together,  # type: ignore[arg-type]
        seconds=SECONDS,
        budget=0.06,
        unit="x",
        progress=Silent(),
    )

    assert found.loss <= 0.06
    assert found.loss == together(dict(found.plan))


def test_a_broken_precision_is_refused() -> None:
    """A loss that is no number names the product."""
    with pytest.raises(BuildError, match=r"the loss of layers\.0\.down is nan"):
        mix(
            PRODUCTS,
            ("fp32", "int8"),
            loss=lambda plan: float("nan") if list(plan) == ["layers.0.down"] else 0.0,
            seconds=SECONDS,
            budget=0.03,
            unit="x",
            progress=Silent(),
        )
