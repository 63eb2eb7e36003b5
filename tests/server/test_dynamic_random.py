"""The batching driver under random arrivals, cancellations, failures, clock jumps, swaps and closing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest
from batching_world import Answer, Engine, World, play, values
from hypothesis import given, settings
from hypothesis import strategies as st

from server.batching.cost import CostModel
from server.batching.policy import BatchLimits
from server.errors import DeadlineExceeded, EngineFault, NotReady

pytestmark = pytest.mark.timeout(60)


class Referee:
    """Checks at every packing what no batch may break."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[Answer] = []
        self.deadlines: list[float] = []
        self.packed: set[int] = set()
        self.ends: dict[int, int] = {}
        self.complaints: list[str] = []

    def watch(self, engine: Engine, limits: BatchLimits, cost: CostModel) -> None:
        engine.on_pack = lambda items: self.check(items, limits, cost)

    def submit(self, within_s: float) -> None:
        item = len(self.calls)
        call = self.world.submit(item, within_s)
        call.add_done_callback(lambda _: self.ends.update({item: self.ends.get(item, 0) + 1}))
        self.calls.append(call)
        self.deadlines.append(self.world.clock.now + within_s)

    def check(self, items: Sequence[int], limits: BatchLimits, cost: CostModel) -> None:
        order = [(self.deadlines[item], item) for item in items]
        waiting = [
            (self.deadlines[item], item)
            for item, call in enumerate(self.calls)
            if item not in self.packed and item not in items and not call.done()
        ]
        self.complain(len(items) > limits.max_items, f"{items} is over {limits}")
        self.complain(order != sorted(order), f"{items} is not in order of deadline and arrival")
        self.complain(bool(waiting) and min(waiting) < order[-1], f"{items} overtook {waiting}")
        self.complain(any(self.calls[item].done() for item in items), f"{items} has those who left")
        self.complain(any(item in self.packed for item in items), f"{items} has those who ran already")
        late = self.world.clock.now + cost.predict_s(len(items)) > order[0][0] + 1e-9
        self.complain(late, f"{items} cannot be on time")
        self.packed.update(items)

    def complain(self, broken: bool, why: str) -> None:
        if broken:
            self.complaints.append(why)


STEPS = st.one_of(
    st.tuples(
        st.just("submit"), st.sampled_from([0.005, 0.012, 0.02, 0.05, 0.05, 0.05, 1.0, math.inf, math.nan])
    ),
    st.tuples(st.just("submit"), st.sampled_from([0.03, 0.05, 0.05])),
    st.tuples(st.just("cancel"), st.integers(0, 40)),
    st.tuples(st.just("pass"), st.sampled_from([0.001, 0.005, 0.0115, 0.03])),
    st.tuples(st.just("jump"), st.sampled_from([10.0, 3600.0, -3600.0])),
    st.tuples(st.just("finish"), st.just(0)),
    st.tuples(st.just("finish"), st.just(0)),
    st.tuples(st.just("turn"), st.just(0)),
    st.tuples(st.just("fail"), st.sampled_from(["pack", "run", "unpack", "short"])),
    st.tuples(st.just("swap"), st.integers(1, 5)),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(STEPS, max_size=40),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.0, 0.004]),
    st.sampled_from([0.0, 10.0]),
    st.booleans(),
)
def test_every_admitted_request_ends_exactly_once(
    script: list[tuple[str, Any]], max_items: int, max_wait_s: float, drain_s: float, hang: bool
) -> None:
    """Whatever arrives, leaves, fails, jumps, swaps and closes: everyone ends once, with their own answer or an error."""
    world = World(max_items=max_items, max_wait_s=max_wait_s)
    referee = Referee(world)
    cost = CostModel(0.010, 0.001)
    world.batcher.swap(world.engine, world.limits, cost)
    referee.watch(world.engine, world.limits, cost)
    engines = [world.engine]

    async def step(verb: str, value: Any) -> None:
        if verb == "submit":
            referee.submit(value)
        elif verb == "cancel" and referee.calls:
            referee.calls[value % len(referee.calls)].cancel()
        elif verb in ("pass", "jump"):
            await world.advance(value)
        elif verb == "fail":
            engines[-1].faults[value] = ValueError("boom")
        elif verb == "swap":
            limits, fresh, engine = BatchLimits(max_items=value), CostModel(0.010, 0.001), Engine()
            referee.watch(engine, limits, fresh)
            engines.append(engine)
            world.batcher.swap(engine, limits, fresh)
        elif verb == "turn":
            await world.turn()
        elif verb == "finish":
            await world.turn()
            if world.batcher.running:
                await world.until(
                    lambda: not world.batcher.running or any(engine.inside for engine in engines)
                )
                for engine in engines:
                    if batch := engine.inside:
                        engine.permits.release()
                        await world.until(lambda: engine.inside is not batch)  # noqa: B023
                        await world.turn()

    async def scene() -> None:
        for verb, value in script:
            await step(verb, value)
        for engine in engines:
            if not hang:
                engine.free = True
                engine.permits.release(100)
        await world.batcher.close(0.0 if hang else drain_s)
        await world.turn()
        assert all(call.done() for call in referee.calls)
        for engine in engines:
            engine.free = True
            engine.permits.release(100)

    play(world, scene)

    assert referee.complaints == []
    assert referee.ends == dict.fromkeys(range(len(referee.calls)), 1)
    allowed = {asyncio.CancelledError, DeadlineExceeded, EngineFault, NotReady}
    for item, value in enumerate(values(referee.calls)):
        assert value == item * 10 or value in allowed
    ran = [item for engine in engines for batch in engine.ran for item in batch]
    assert len(ran) == len(set(ran))
