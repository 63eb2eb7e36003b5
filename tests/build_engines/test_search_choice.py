"""What a search takes of what it has measured."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from build_engines.search.choose import chosen, front_ranks, going_on, holds, pareto
from build_engines.search.outcome import Outcome
from build_engines.search.part import Objective

points = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=20)


@given(points)
def test_the_first_front_is_what_nobody_dominates(values: list[tuple[int, int, int]]) -> None:
    """By the definition, point by point; and every other front is dominated by the one before it."""
    ranks = front_ranks(values)

    def dominates(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    for one, rank in zip(values, ranks, strict=True):
        above = [other for other, level in zip(values, ranks, strict=True) if level == rank - 1]
        assert (rank == 0) == (not any(dominates(other, one) for other in values))
        assert rank == 0 or any(dominates(other, one) for other in above)


outcomes = st.builds(
    Outcome,
    sets=st.tuples(st.sampled_from(["a=1", "a=2", "a=3"])),
    rung=st.just(0),
    loss=st.floats(-0.1, 0.3),
    p99_s=st.floats(1e-3, 1e-1),
    size_bytes=st.integers(1, 100),
    memory_bytes=st.integers(1, 100),
)


@given(
    st.lists(outcomes, max_size=12),
    st.floats(0.05, 1.0),
    st.sampled_from(["smallest", "fastest", "best", "least_memory"]),
)
def test_what_is_taken_holds_and_nothing_better_that_holds_is_left(
    found: list[Outcome], keep: float, take: Any
) -> None:
    """Whatever the figures; whoever holds is never left behind for one that does not; the front has the best of each."""
    objective = Objective(max_loss=0.05, decided=False, p99_ms=50.0, take=take)
    wish = {"best": 0, "fastest": 1, "smallest": 2, "least_memory": 3}[take]

    taken = chosen(found, objective)
    held = [one for one in found if holds(one, objective)]
    assert (taken is None) == (not held)
    assert taken is None or taken.objectives[wish] == min(one.objectives[wish] for one in held)
    climbing = going_on(found, objective, keep)
    if any(not holds(one, objective) for one in climbing):
        assert all(one in climbing for one in held)
    front = pareto(found)
    for place in range(4 if found else 0):
        assert min(one.objectives[place] for one in front) == min(one.objectives[place] for one in found)
