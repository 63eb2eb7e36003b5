"""The batching policy, tried on thousands of queues without a clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.batching.cost import CostModel
from server.batching.policy import IDLE, BatchLimits, Moment, decide, finish_s

pytestmark = pytest.mark.timeout(60)

COST = CostModel(2.0, 1.0)  # a batch of n takes 2 + n seconds
MAX = 4
NOW = 100.0


def at(*, start: float = NOW, pack_at: float = IDLE, oldest: float = NOW) -> Moment:
    """An idle engine at ``NOW``, unless told otherwise."""
    return Moment(NOW, start, pack_at, 0.5, oldest)


@st.composite
def queues(draw: st.DrawFn) -> tuple[list[float], Moment, BatchLimits, CostModel]:
    """Sorted deadlines around now, an engine idle or busy, with and without a window."""
    deadlines = sorted(
        draw(st.lists(st.floats(80.0, 180.0) | st.sampled_from([110.0, 120.0, math.inf]), max_size=24))
    )
    start = NOW + draw(st.floats(0.0, 20.0))
    pack_at = draw(st.sampled_from([IDLE, NOW, NOW - 1.0, NOW + 3.0]))
    moment = Moment(NOW, start, pack_at, draw(st.floats(0.0, 2.0)), NOW - draw(st.floats(0.0, 10.0)))
    limits = BatchLimits(max_items=draw(st.integers(1, 8)), max_wait_s=draw(st.sampled_from([0.0, 0.0, 5.0])))
    return deadlines, moment, limits, CostModel(draw(st.floats(0.0, 5.0)), draw(st.floats(0.0, 3.0)))


@given(queues())
def test_every_decision_is_lawful(case: tuple[list[float], Moment, BatchLimits, CostModel]) -> None:
    """Batches fit the engine and keep their earliest deadline; nobody doomed runs; the sleep has an end."""
    deadlines, moment, limits, cost = case

    refuse, take, strand, _, wake_at_s = decide(*case)

    assert refuse >= 0 and strand >= 0 and 0 <= take <= limits.max_items
    assert refuse + take + strand <= len(deadlines)
    if take:
        assert moment.start_s + cost.predict_s(take) <= deadlines[refuse] + 1e-9
        done = moment.start_s + cost.predict_s(take)
        for deadline in deadlines[refuse + take : refuse + take + strand]:
            assert done + cost.predict_s(1) > deadline
        for deadline in deadlines[refuse + take + strand :]:
            assert done + cost.predict_s(1) <= deadline
    elif len(deadlines) > refuse:
        assert wake_at_s < math.inf and wake_at_s > moment.now_s
        assert moment.now_s < moment.pack_at_s or limits.max_wait_s > 0.0
        assert wake_at_s <= max(moment.pack_at_s, moment.oldest_s + limits.max_wait_s)


@given(queues())
def test_an_idle_engine_never_waits_unless_told_to(
    case: tuple[list[float], Moment, BatchLimits, CostModel],
) -> None:
    """With no window and a free engine, whoever can be on time makes a batch now."""
    deadlines, moment, limits, cost = case
    moment = moment._replace(start_s=NOW, pack_at_s=IDLE)

    decision = decide(deadlines, moment, BatchLimits(max_items=limits.max_items), cost)

    assert decision.take or decision.refuse == len(deadlines)


@given(queues())
@example(([103.0, 103.0, 103.0, 103.0], at(), BatchLimits(max_items=MAX), COST))
def test_equals_are_served_in_order_of_arrival(
    case: tuple[list[float], Moment, BatchLimits, CostModel],
) -> None:
    """Of two with the same deadline the first is never refused while the second runs."""
    deadlines = case[0]

    refuse, take, _, _, _ = decide(*case)

    if take and refuse:
        assert deadlines[refuse - 1] < deadlines[refuse]


def test_a_head_that_is_due_now_and_costs_nothing_to_speak_of_is_served() -> None:
    """Its cost is less than the clock can tell: it is not late, so it is one that fits."""
    tiny = CostModel(0.0, 1e-33)

    assert decide([100.0], at(), BatchLimits(max_items=MAX), tiny)[:2] == (0, 1)


def test_a_full_batch_is_the_first_by_deadline() -> None:
    """Six wait, four fit: the four most urgent go."""
    assert decide([200.0] * 6, at(), BatchLimits(max_items=MAX), COST) == (0, 4, 0, "full", math.inf)


def test_the_batch_shrinks_to_keep_its_earliest_deadline() -> None:
    """The head can afford two; the others have time and go next."""
    assert decide([104.0] + [150.0] * 4, at(), BatchLimits(max_items=MAX), COST)[:4] == (0, 2, 0, "deadline")


def test_in_overload_the_hopeless_few_do_not_starve_the_many() -> None:
    """Where a batch of one would leave the rest late as well, the one gives way to a full batch."""
    deadlines = [103.0, 106.0, 106.0, 106.0, 106.0]

    assert decide(deadlines, at(), BatchLimits(max_items=MAX), COST)[:4] == (1, 4, 0, "deadline")


def test_who_cannot_be_on_time_behind_the_running_batch_is_refused_now() -> None:
    """The engine is free at 110: a deadline of 112 cannot be kept, one of 113 can, just."""
    decision = decide([112.0, 113.0], at(start=110.0, pack_at=109.0), BatchLimits(max_items=MAX), COST)

    assert decision == (1, 0, 0, "idle", 109.0)


def test_the_next_batch_is_packed_late() -> None:
    """While the running batch has long to go nothing is packed; near its end it is, at once."""
    early = decide([150.0], at(start=110.0, pack_at=109.0), BatchLimits(max_items=MAX), COST)
    late = decide([150.0], at(start=100.5, pack_at=99.5), BatchLimits(max_items=MAX), COST)

    assert (early.take, early.wake_at_s) == (0, 109.0)
    assert late.take == 1


@pytest.mark.parametrize(
    ("deadlines", "oldest", "expected"),
    [
        ([200.0], 99.0, (0, 0, 0, "idle", 104.0)),
        ([200.0], 95.0, (0, 1, 0, "window", math.inf)),
        ([200.0] * 4, 99.0, (0, 4, 0, "full", math.inf)),
        ([105.0], 99.0, (0, 0, 0, "idle", 100.5)),
        ([104.0], 99.0, (0, 1, 0, "deadline", math.inf)),
    ],
)
def test_a_configured_wait_ends(deadlines: list[float], oldest: float, expected: tuple[object, ...]) -> None:
    """A window closes when it is over, when the batch is full, or when waiting would make the head late."""
    limits = BatchLimits(max_items=MAX, max_wait_s=5.0)

    assert decide(deadlines, at(oldest=oldest), limits, COST) == expected


def test_place_in_line_tells_the_time_of_the_answer() -> None:
    """The tenth in line waits for two full batches and runs in a batch of two."""
    assert finish_s(9, NOW, BatchLimits(max_items=MAX), COST) == NOW + 6.0 + 6.0 + 4.0


@pytest.mark.parametrize(
    ("items", "wait", "name"), [(0, 0.0, "max_items"), (1, -1.0, "max_wait_s"), (1, math.nan, "max_wait_s")]
)
def test_limits_out_of_range_are_refused(items: int, wait: float, name: str) -> None:
    """A limit that makes no sense is refused, and named."""
    with pytest.raises(ValueError, match=name):
        BatchLimits(max_items=items, max_wait_s=wait)
