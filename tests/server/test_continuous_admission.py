"""Admission of texts: who is let in has its first token in time, who is refused is told an honest time to come back."""

from __future__ import annotations

import pytest
from continuous_world import World, play
from trace_world import TraceWorld, shop_trace

from server.batching.text_model import TextLimits
from server.batching.token_backlog import Backlog, Forecast, TooLate
from server.text_domain import GenerateRequest

pytestmark = pytest.mark.timeout(60)


def asking(rate: float, count: int = 150, seed: int = 7) -> TraceWorld:
    world = TraceWorld({640: 12}, noise=0.3)
    world.run(shop_trace(rate, count, seed=seed))
    return world


def test_at_twice_the_rate_it_can_hold_the_engine_does_nearly_as_much_in_time() -> None:
    """Goodput (first token within 2 s) at twice the load of saturation stays over 85 % of its best."""
    best = max(asking(rate).goodput(2.0) for rate in (1.0, 1.5, 2.0, 2.5, 3.0))

    assert asking(5.0).goodput(2.0) >= 0.85 * best


@pytest.mark.parametrize("rate", [2.5, 5.0, 10.0])
def test_who_is_let_in_has_its_first_token_in_time(rate: float) -> None:
    """In overload at least nine in ten of those let in, and nobody by more than half of the objective late."""
    world = asking(rate)

    assert world.percentile(0.9) <= 2.0
    assert world.percentile(1.0) <= 3.0
    assert any(told.refused is not None for told in world.told.values())


def test_below_its_rate_nobody_is_refused() -> None:
    """Half the load of saturation: bursts wait, but nobody is sent away."""
    world = asking(1.2)

    assert all(told.refused is None for told in world.told.values())


def test_who_comes_back_when_told_is_let_in_or_told_a_shorter_time() -> None:
    """A burst of forty: each refusal names a time; a text that comes after the longest of them is let in."""
    world = TraceWorld({640: 12})
    burst = [(0.0, request) for _, request in shop_trace(1.0, 40)]
    world.run(burst)
    waits = [told.refused for told in world.told.values() if told.refused is not None]
    assert waits and min(waits) > 0.0

    again = TraceWorld({640: 12})
    again.run([*burst, (max(waits), burst[0][1])])
    assert again.told[40].refused is None
    assert again.told[40].first_s is not None and again.told[40].first_s <= 2.0


def test_a_long_prompt_alone_is_let_in_however_long_it_takes() -> None:
    """What takes longer than the objective by itself is not told to come back later: later is no better."""
    world = TraceWorld({4096: 2})
    world.run([(0.0, GenerateRequest(prompt_ids=tuple(range(1, 3900)), max_tokens=2))])

    assert world.told[0].refused is None
    assert world.first_tokens_s()[0] > 2.0


def test_bulk_work_ahead_does_not_keep_live_traffic_out() -> None:
    """Texts of less priority are no backlog of a live one: it is let in and overtakes them."""
    world = TraceWorld({640: 4})
    bulk = [(0.0, request) for _, request in shop_trace(1.0, 8, priority=9, answer=400, own=200)]
    (live,) = shop_trace(1.0, 1, seed=8)
    world.run([*bulk, (0.5, live[1])])

    key = max(world.told, key=lambda key: world.told[key].arrival_s)
    assert world.told[key].refused is None
    assert world.told[key].first_s is not None and world.told[key].first_s <= 2.0


def test_a_shared_prefix_is_no_backlog() -> None:
    """Forty texts whose prompts are nearly all in common are let in where forty different ones are not."""
    same, other = TraceWorld({1024: 40}), TraceWorld({1024: 40})
    same.run([(0.0, request) for _, request in shop_trace(1.0, 20, shared=600, own=10, answer=4)])
    other.run([(0.0, request) for _, request in shop_trace(1.0, 20, shared=0, own=610, answer=4)])

    assert all(told.refused is None for told in same.told.values())
    assert any(told.refused is not None for told in other.told.values())


def test_an_engine_that_is_slower_than_it_was_is_learned() -> None:
    """Costs are corrected as calls are measured: at a third of the speed those let in are still in time."""
    world = TraceWorld({640: 12}, slower=3.0)
    world.run(shop_trace(2.0, 150))
    late = sorted(
        told.first_s for told in world.told.values() if told.first_s is not None and told.arrival_s > 20.0
    )

    assert late[int(0.9 * len(late))] <= 2.0


def test_the_refusal_names_both_times() -> None:
    """The message says when the first token would come, and the objective; the wire gets ``retry_after_s``."""
    world = World({1024: 1}, TextLimits(first_token_s=0.5))

    async def scene() -> None:
        world.engine.hold.clear()
        first = world.ask([1] * 900, 10)
        with pytest.raises(
            TooLate, match=r"first token would come in .* objective is 0\.5 s; retry in"
        ) as refused:
            world.ask([2] * 900, 10)
        assert refused.value.retry_after_s is not None and refused.value.retry_after_s > 0.0
        assert world.recorder.refusals == ["backlog"]
        world.engine.hold.set()
        await world.ended(first)

    play(world, scene)


def test_a_nonsensical_measurement_teaches_nothing_lasting() -> None:
    """Infinite, negative or absurd times leave the correction within its bounds."""
    backlog = Backlog()
    for actual in (float("inf"), float("nan"), -1.0, 1e9, 0.0):
        backlog.began(1.0, actual)
    assert 0.5 <= backlog.bias <= 3.0
    assert Forecast(5.0, 1.0, 0.1).refused(2.0) is not None
    assert Forecast(0.0, 9.0, 0.1).refused(2.0) is None
