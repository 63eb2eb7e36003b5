"""The scheduler: whatever comes, leaves and fails, texts are what they are alone, slots are where they belong, all end."""

from __future__ import annotations

from typing import Any

import pytest
from causal_world import VOCAB, text_of
from continuous_world import FixedCosts
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_world import ScheduleWorld

from server.batching.cost import CostModel
from server.batching.text_model import TextLimits
from server.batching.token_cost import TRY_EVERY, TokenCosts
from server.batching.token_step import RunCall

pytestmark = pytest.mark.timeout(120)

PREFIXES = [[(7 * i + j) % (VOCAB - 1) + 1 for i in range(30)] for j in (0, 1)]

pools = st.fixed_dictionaries(
    {16: st.integers(1, 4), 32: st.integers(1, 3), 64: st.integers(1, 2)}
) | st.just({64: 1})
limits = st.builds(
    TextLimits,
    inter_token_s=st.sampled_from([0.01, 0.05, 0.3]),
    max_step_tokens=st.sampled_from([1, 4, 64]),
    min_chunk=st.sampled_from([1, 4]),
    answer_tokens=st.sampled_from([1, 4, 16]),
    patience_s=st.sampled_from([0.2, 2.0]),
)
texts = st.tuples(
    st.just("add"),
    st.integers(0, 1),
    st.integers(0, 30),
    st.lists(st.integers(1, VOCAB - 1), min_size=1, max_size=10),
    st.integers(1, 45),
    st.sampled_from([0, 0, 5, 9]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([0.3, 2.0, float("inf")]),
    st.booleans(),
)
actions = st.lists(
    texts
    | st.tuples(st.just("again"), st.integers(0, 30), st.integers(1, 20), st.booleans())
    | st.tuples(st.just("turn"), st.sampled_from([0.0, 0.05, 0.05, 5.0, 1e6]))
    | st.tuples(st.just("cancel"), st.integers(0, 30))
    | st.tuples(st.just("raise"))
    | st.tuples(st.just("nan"))
    | st.tuples(st.just("sampler")),
    max_size=60,
)


def act(world: ScheduleWorld, action: tuple[Any, ...]) -> None:
    kind = action[0]
    if kind == "add":
        _, prefix, shared, own, answer, priority, tenant, within_s, repeatable = action
        prompt = PREFIXES[prefix][:shared] + own
        more = {"priority": priority, "tenant": tenant, "repeatable": repeatable}
        world.add(prompt, answer, first_token_at_s=world.now + within_s, **more)
    elif (
        kind == "again" and world.asked
    ):  # a conversation goes on: what was written is part of the next prompt
        before = world.asked[action[1] % len(world.asked)]
        prompt = [*before.prompt, *before.got, 1][: world.engine.limits.max_context - 1]
        world.add(prompt, action[2], repeatable=action[3])
    elif kind == "turn":
        world.turn(action[1])
    elif kind == "cancel" and world.asked:
        world.cancel(action[1] % len(world.asked))
    elif kind == "raise":
        world.engine.fault = RuntimeError("the engine is broken")
    elif kind == "nan":
        world.engine.nan_calls += 1
    elif kind == "sampler":
        world.sampler.sample_fault = RuntimeError("the sampler is broken")


@settings(max_examples=150, deadline=None)
@given(pools, limits, actions, st.integers(1, 8), st.booleans(), st.integers(0, 9))
def test_whatever_happens_texts_are_as_alone_and_end_once(
    pools: dict[int, int],
    limits: TextLimits,
    actions: list[tuple[Any, ...]],
    max_chunk: int,
    light: bool,
    best_rows: int,
) -> None:
    """Arrivals, cancellations, faults and clock jumps: no slot leaks or has two writers, the context holds, all end once,
    every token is the one that the text would have alone, and what the books call computed is in the engine's cache.

    With a light graph, for repeatable texts: whatever else runs, whichever graph decodes how many rows fastest.
    """
    costs = FixedCosts(pools, light=light)
    for capacity in costs.light:  # it is faster up to so many rows
        costs.decode[capacity], costs.light[capacity] = (
            CostModel(0.009, 0.001),
            CostModel(0.009 - best_rows / 1e3, 0.002),
        )
    world = ScheduleWorld(pools, limits, max_chunk=max_chunk, costs=costs, light=light)
    for action in actions:
        act(world, action)
    world.engine.fault = world.sampler.sample_fault = None
    world.engine.nan_calls = 0
    world.finish()


def test_few_rows_are_decoded_in_the_light_graph_and_many_in_the_own() -> None:
    """Of texts that need not be repeatable, a full batch goes where the weights are read once, a single row where they are few;
    with one repeatable text among them all answers are light, and prompts are never.
    """
    for repeatable in (False, True):
        costs = FixedCosts({64: 8}, light=True)
        costs.decode[64], costs.light[64] = CostModel(0.010, 0.001), CostModel(0.003, 0.004)
        world = ScheduleWorld({64: 8}, costs=costs, light=True)
        for i in range(8):
            world.add([i + 1] * 5, 12 + i, repeatable=repeatable and i == 7)
        world.finish()
        decoded = [
            call for call in world.engine.calls if call.n_new_B.max() == 1 and call.write_index_B.max() >= 5
        ]
        assert {len(call.n_new_B) for call in decoded if call.light} >= ({1, 8} if repeatable else {1, 2})
        assert all(call.light == (repeatable or len(call.n_new_B) < 3) for call in decoded)
        assert not any(call.light for call in world.engine.calls if call.write_index_B.min() < 5)


@given(st.integers(1, 16), *[st.floats(0.0, 0.1) for _ in range(4)], st.booleans())
def test_the_graph_is_chosen_by_what_its_call_is_expected_to_take(
    rows: int, base_s: float, row_s: float, light_base_s: float, light_row_s: float, fixed: bool
) -> None:
    """The cheaper one; now and then the other, or its line would never be corrected; the light one where it has to be."""
    costs = TokenCosts([64], light=True)
    costs.decode[64], costs.light[64] = CostModel(base_s, row_s), CostModel(light_base_s, light_row_s)
    cheaper = light_base_s + light_row_s * rows < base_s + row_s * rows

    chosen = [costs.choose(64, rows, light=fixed) for _ in range(2 * TRY_EVERY + 2)]

    assert chosen.count(not (cheaper or fixed)) == (0 if fixed else 2)
    assert costs.decode_line(64, rows).predict_s(rows) == min(
        costs.decode[64].predict_s(rows), costs.light[64].predict_s(rows)
    )
    assert not TokenCosts([64]).choose(64, rows, light=True)


def test_a_call_that_raises_fails_the_texts_in_it_and_no_other() -> None:
    """Of two pools, the one whose call raised loses its text; the other goes on, and later texts are whole."""
    world = ScheduleWorld({16: 1, 64: 1})
    small, large = world.add([1, 2], 10), world.add([3] * 30, 20)
    while not (world.asked[small].got and world.asked[large].got):
        world.turn()
    world.engine.fault = RuntimeError("broken")
    world.turn()
    later = world.add([5], 5)
    world.finish()
    assert world.asked[small].ends == ["failed"]
    assert world.asked[large].ends == world.asked[later].ends == ["length"]


def test_prompts_never_delay_texts_under_way_beyond_the_objective() -> None:
    """With a text under way, each step's calls are predicted within the inter-token objective (and a quarter chunk)."""
    costs = FixedCosts({512: 4})
    costs.decode[512] = CostModel(0.010, 0.002)
    costs.prompt[512] = CostModel(0.010, 0.001)
    world = ScheduleWorld({512: 4}, TextLimits(inter_token_s=0.05, min_chunk=1), max_chunk=256, costs=costs)
    first = world.add([1], 100)
    world.turn()
    for i in range(3):
        world.add([i + 2] * 300, 2)
    while world.scheduler.jobs and first in world.scheduler.jobs:
        step, _ = world.turn()
        assert step.predicted_s <= 0.05 * 1.25
        assert first in step.samples
    world.finish()


def test_a_shared_prefix_is_computed_once_even_by_texts_that_come_together() -> None:
    """Eight prompts with 200 tokens in common: 200 + 8 times the rest are computed, the others are found."""
    world = ScheduleWorld({512: 8}, max_chunk=64)
    shared = [(i * 13) % 96 + 1 for i in range(200)]
    for i in range(8):
        world.add([*shared, i + 1, *([2] * 19)], 4)
    world.finish()
    computed = sum(
        int(operation.call.n_new_B.sum())
        for step in world.steps
        for operation in step.operations
        if isinstance(operation, RunCall)
    )
    least = 200 + 8 * 20 + 8 * 3
    assert least <= computed < least + 16  # nobody waits for less than ``min_chunk``


def test_urgent_texts_take_the_slot_of_one_that_is_not_and_it_goes_on_after() -> None:
    """On one slot a bulk text is preempted by live traffic, at once, and is whole in the end."""
    world = ScheduleWorld({64: 1})
    bulk = world.add([1, 2, 3], 30, priority=9)
    for _ in range(5):
        world.turn()
    live = world.add([4, 5], 5)
    while live in world.scheduler.jobs:
        world.turn()
    assert world.asked[bulk].ends == []
    assert sum(step.preemptions for step in world.steps) == 1
    world.finish()
    assert world.asked[bulk].ends == ["length"]


def test_an_equally_urgent_text_is_never_preempted() -> None:
    """Whoever has a slot keeps it against its equals, so that nobody is computed twice for nothing."""
    world = ScheduleWorld({64: 1})
    for i in range(4):
        world.add([i + 1], 10)
        world.turn()
    world.finish()
    assert sum(step.preemptions for step in world.steps) == 0


@pytest.mark.parametrize("priority", [0, 9])
def test_nobody_starves_behind_a_stream_of_urgent_texts(priority: int) -> None:
    """A bulk text ends although two slots never lack urgent work: it gains a level with each ``patience_s``."""
    world = ScheduleWorld({64: 2}, TextLimits(patience_s=1.0))
    bulk = world.add([1, 2, 3], 20, priority=priority)
    steps = 0
    while bulk in world.scheduler.jobs:
        while len(world.scheduler.jobs) < 5:
            world.add([4 + steps % 50, 5], 6)
        world.turn()
        steps += 1
        assert steps < 600, "the bulk text starves"
    world.finish()


def test_a_long_text_that_needs_the_large_slot_is_not_starved_by_short_ones() -> None:
    """Short texts fit in either pool; the long one gets the large slot when its turn has come."""
    world = ScheduleWorld({16: 1, 64: 1}, TextLimits(answer_tokens=4, patience_s=1.0))
    for i in range(4):
        world.add([i + 1], 8)
    world.turn()
    long = world.add([9] * 40, 10)
    steps = 0
    while long in world.scheduler.jobs:
        while len(world.scheduler.jobs) < 5:
            world.add([4 + steps % 50, 5], 8)
        world.turn()
        steps += 1
        assert steps < 600, "the long text starves"
    world.finish()


def test_tenants_share_the_engine_whatever_they_send() -> None:
    """One tenant queues twenty texts, another five after it: when those five are done, the first has had about as many."""
    world = ScheduleWorld({64: 2})
    many = [world.add([i + 1] * 5, 10, tenant="many") for i in range(20)]
    few = [world.add([i + 30] * 5, 10, tenant="few") for i in range(5)]
    while any(key in world.scheduler.jobs for key in few):
        world.turn()
    done = sum(key not in world.scheduler.jobs for key in many)
    assert 4 <= done <= 8
    world.finish()


def test_the_earlier_deadline_goes_first_among_equals() -> None:
    """Of two waiting texts of one tenant, the one whose first token is due earlier begins first."""
    world = ScheduleWorld({64: 1})
    world.add([1], 5)
    world.turn()
    later = world.add([2], 3, first_token_at_s=100.0)
    sooner = world.add([3], 3, first_token_at_s=50.0)
    while sooner in world.scheduler.jobs:
        world.turn()
    assert later in world.scheduler.jobs and not world.asked[later].got
    world.finish()


def test_a_text_that_waited_too_long_is_given_up_before_it_is_computed() -> None:
    """Its first token is of no use any more: it ends, and takes no step."""
    world = ScheduleWorld({64: 1})
    world.add([1], 20)
    world.turn()
    late = world.add([2], 5, first_token_at_s=world.now + 0.2)
    world.finish()
    assert world.asked[late].ends == ["expired"] and world.asked[late].got == []


def test_a_text_that_outgrows_its_slot_moves_to_a_larger_one_and_loses_nothing() -> None:
    """Room is given for a few tokens at first; the text goes on in the next pool, copied, not computed again."""
    world = ScheduleWorld({8: 1, 64: 1}, TextLimits(answer_tokens=2))
    key = world.add([1, 2, 3], 40)
    world.finish()
    assert world.asked[key].got == text_of([1, 2, 3], 40)
    assert [copy[2] for copy in world.engine.copies] == [7]


def test_rows_that_lie_apart_are_moved_together() -> None:
    """When the texts between them have ended, two rows become neighbours: a step is a call of two rows again."""
    costs = FixedCosts({64: 6})
    costs.decode[64] = CostModel(0.010, 0.005)
    world = ScheduleWorld({64: 6}, costs=costs)
    keys = [world.add([i + 1], 40 if i in (0, 5) else 4) for i in range(6)]
    while len(world.scheduler.jobs) > 2:
        world.turn()
    step, _ = world.turn()
    step, _ = world.turn()
    calls = [operation.call for operation in step.operations if isinstance(operation, RunCall)]
    assert [len(call.n_new_B) for call in calls] == [2]
    world.finish()
    assert world.asked[keys[5]].got == text_of([6], 40)


def test_a_prefix_that_is_being_copied_is_not_given_away_in_the_same_step() -> None:
    """Its slot is counted as read from until the copy was made; who needs it begins one step later."""
    world = ScheduleWorld({64: 2})
    prefix = [(i * 5) % 90 + 1 for i in range(40)]
    world.add([*prefix, 1], 3)
    world.finish()
    first, second = world.add([*prefix, 2], 3), world.add([3] * 50, 3)
    world.scheduler.slots.pools[64].hits[0] = 5  # asked for so often that it is copied, not taken over

    world.turn()
    jobs = world.scheduler.jobs
    assert jobs[first].slot == (64, 1) and jobs[second].slot is None
    world.turn()
    assert jobs[second].slot == (64, 0)
    world.finish()


def test_a_prompt_is_not_padded_beyond_the_end_of_its_neighbours_slot() -> None:
    """A short rest at the end of one slot and a long chunk beside it are two calls, though one would be cheaper."""
    costs = FixedCosts({32: 2})
    costs.prompt[32] = CostModel(1.0, 0.0001)
    limits = TextLimits(inter_token_s=100.0, max_step_tokens=27)
    world = ScheduleWorld({32: 2}, limits, max_chunk=27, costs=costs)
    late = world.add([1] * 30, 1)
    world.turn()
    early = world.add([2] * 20, 1)
    world.finish()
    assert world.asked[late].ends == world.asked[early].ends == ["length"]
