"""Decisions of continuous batching on costs: rows in calls, chunks, places, and turns between tenants."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.batching.cost import CostModel
from server.batching.fair_share import FairShare
from server.batching.kv_slots import KvSlots
from server.batching.prefix_cache import Hit
from server.batching.text_model import TextLimits
from server.batching.token_cost import TokenCosts
from server.batching.token_policy import better_rows, chunk, decode_s, place, ranges

rows = st.lists(st.integers(0, 15), min_size=1, max_size=8, unique=True).map(sorted)


def costs_of(pools: dict[int, int], decode: tuple[float, float] = (0.010, 0.004)) -> TokenCosts:
    costs = TokenCosts(pools)
    for capacity in pools:
        costs.decode[capacity] = CostModel(*decode)
        costs.prompt[capacity] = CostModel(0.010, 0.001)
    return costs


@given(rows, st.floats(0.0, 0.05), st.floats(0.0, 0.01))
def test_rows_are_grouped_as_cheaply_as_can_be(active: list[int], base_s: float, row_s: float) -> None:
    """Every row is in one call, calls do not overlap, and no other grouping of the gaps costs less."""
    groups = ranges(active, base_s, row_s)

    assert [row for first, end in groups for row in range(first, end) if row in active] == active
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(groups))
    cheapest = min(
        sum(base_s + row_s * (part[-1] - part[0] + 1) for part in parts) for parts in _partitions(active)
    )
    assert decode_s(active, base_s, row_s) == pytest.approx(cheapest, abs=1e-9)


def _partitions(active: list[int]) -> list[list[list[int]]]:
    out = []
    for cuts in itertools.product([False, True], repeat=len(active) - 1):
        parts = [[active[0]]]
        for row, cut in zip(active[1:], cuts, strict=True):
            if cut:
                parts.append([row])
            else:
                parts[-1].append(row)
        out.append(parts)
    return out


@given(
    st.integers(1, 600), st.floats(-1.0, 1.0), st.integers(1, 600), st.integers(1, 32), st.integers(32, 256)
)
def test_a_chunk_keeps_its_bounds_and_its_time(
    pending: int, left_s: float, left_tokens: int, fewest: int, most: int
) -> None:
    """Never more than is pending, allowed or fits; a last quarter may go along; less than ``fewest`` only as a rest."""
    costs = costs_of({1024: 1})

    tokens = chunk(pending, left_s, left_tokens, costs, 1024, (fewest, most))

    assert 0 <= tokens <= min(pending, left_tokens, most)
    if tokens:
        assert costs.prompt[1024].predict_s(tokens) <= max(left_s, 0.0) * 1.25 + 1e-9
        assert tokens >= min(fewest, pending, left_tokens, most)


def test_the_smallest_slot_that_fits_is_taken_and_a_larger_one_where_its_rows_run_anyway() -> None:
    """A row more in a running pool is cheaper than a call of its own; the last large slot is for those who need it."""
    slots = KvSlots({64: 2, 256: 3})
    costs = costs_of({64: 2, 256: 3})
    assert place(slots, costs, 40, 20).slot == (64, 0)  # type: ignore[union-attr]
    slots.take((256, 0), 1)
    assert place(slots, costs, 40, 20).slot == (256, 1)  # type: ignore[union-attr]
    slots.take((256, 1), 2)
    assert place(slots, costs, 40, 20).slot == (64, 0)  # type: ignore[union-attr]
    assert place(slots, costs, 200, 20).slot == (256, 2)  # type: ignore[union-attr]
    slots.take((64, 0), 3)
    slots.take((64, 1), 4)
    assert place(slots, costs, 40, 20).slot == (256, 2)  # type: ignore[union-attr]
    slots.take((256, 2), 5)
    assert place(slots, costs, 40, 20) is None


def test_a_text_that_would_fill_a_slot_to_its_last_token_gets_a_larger_one() -> None:
    """Idle rows are written behind what they hold, so that a full slot would make its neighbours' calls illegal."""
    slots = KvSlots({16: 1, 32: 1})
    costs = costs_of({16: 1, 32: 1})

    assert place(slots, costs, 15, 20).slot == (16, 0)  # type: ignore[union-attr]
    assert place(slots, costs, 16, 20).slot == (32, 0)  # type: ignore[union-attr]
    assert place(slots, costs, 32, 20) is None


def test_a_prefix_that_is_asked_for_is_spared_while_another_slot_can_be_had() -> None:
    """Of two cached slots the one that nobody ever asked for is overwritten."""
    slots = KvSlots({64: 2})
    for index in (0, 1):
        slots.take((64, index), index)
        slots.write((64, index), [index + 1] * 50)
        slots.pools[64].filled_N[index] = 50
        slots.release((64, index), index, keep=True)
    slots.pools[64].hits[0] = 3

    found = place(slots, costs_of({64: 2}), 40, 20)
    assert found is not None and found.slot == (64, 1)


def test_a_slot_whose_prefix_is_held_elsewhere_is_taken_over_without_a_copy() -> None:
    """Two slots hold the prompt's beginning: one is continued in place."""
    slots = KvSlots({64: 2})
    for index in (0, 1):
        slots.take((64, index), index)
        slots.write((64, index), [1] * 40)
        slots.pools[64].filled_N[index] = 40
        slots.release((64, index), index, keep=True)

    found = place(slots, costs_of({64: 2}), 60, 20, Hit((64, 1), 40))
    assert found is not None and found.slot == (64, 1)


def test_a_row_is_moved_only_where_that_pays() -> None:
    """Far from its neighbours and with long to go: moved. About to end, or near by: left where it is."""
    slots = KvSlots({64: 8})
    for index in (0, 1, 7):
        slots.take((64, index), index)
    costs, pool = costs_of({64: 8}), slots.pools[64]

    assert better_rows(slots, costs, pool, [(0, 30, 40), (7, 30, 40)]) == (7, 2)
    assert better_rows(slots, costs, pool, [(0, 30, 0), (7, 30, 0)]) is None
    slots.release((64, 7), 7, keep=False)
    assert better_rows(slots, costs, pool, [(0, 30, 40), (1, 30, 40)]) is None


def test_turns_go_to_whoever_was_served_least_and_are_not_saved_up() -> None:
    """A tenant that was away does not come back with credit for the time it was away."""
    fair = FairShare()
    for tenant in ("a", "b"):
        fair.enter(tenant)
    fair.charge("a", 1000)
    assert fair.served("b") < fair.served("a")
    fair.charge("b", 1200)
    fair.enter("c")
    assert fair.served("c") == 1000
    for tenant in ("a", "b", "c"):
        fair.leave(tenant)
    fair.enter("d")
    fair.charge("d", 1)
    assert fair.served("d") > 1


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(0, 999))
def test_tenants_that_always_ask_are_served_alike(order: list[str], seed: int) -> None:
    """Serving the least served each time, nobody is ever ahead by more than one portion."""
    pick, fair = random.Random(seed), FairShare()
    for tenant in "abc":
        fair.enter(tenant)
    for _ in order:
        fair.charge(min("abc", key=fair.served), pick.randrange(1, 100))
        served = [fair.served(tenant) for tenant in "abc"]
        assert max(served) - min(served) <= 100


@pytest.mark.parametrize(
    "name", ["max_texts", "max_step_tokens", "min_chunk", "answer_tokens", "max_compiles", "compile_threads"]
)
def test_limits_out_of_range_are_named(name: str) -> None:
    """Each limit says its own name and value."""
    with pytest.raises(ValueError, match=f"{name} = 0"):
        TextLimits(**{name: 0})


@pytest.mark.parametrize("name", ["first_token_s", "inter_token_s", "patience_s", "hang_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_times_out_of_range_are_named(name: str, value: float) -> None:
    """NaN is no time."""
    with pytest.raises(ValueError, match=name):
        TextLimits(**{name: value})
