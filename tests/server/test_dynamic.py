"""The batching driver: batches by deadline, the engine never idle while work waits, no wait that was not configured."""

from __future__ import annotations

import asyncio
import gc
import math
import time
import weakref

import pytest
from batching_world import PATIENCE_S, Engine, World, play, values

from server.batching.cost import CostModel
from server.batching.policy import BatchLimits
from server.errors import DeadlineExceeded

pytestmark = pytest.mark.timeout(60)


def test_an_idle_engine_starts_at_once_with_all_who_came_together() -> None:
    """Requests of one loop iteration share a batch, and no time passes before it starts."""
    world = World()

    async def scene() -> None:
        answers = [world.submit(i) for i in (1, 2, 3)]
        await world.entered()
        assert world.engine.ran == [[1, 2, 3]]
        world.engine.permits.release()
        await asyncio.wait(answers)

        assert values(answers) == [10, 20, 30]
        timings = answers[0].result()[1]
        assert (timings.batch_size, timings.queue_s, timings.engine_s) == (3, 0.0, 0.0)

    play(world, scene)


def test_the_engine_takes_the_packed_batch_without_the_event_loop() -> None:
    """While the loop is busy elsewhere, the next batch runs as soon as the first ends."""
    world = World()

    async def scene() -> None:
        answers = [world.submit(1)]
        await world.entered()
        answers.append(world.submit(2))
        await world.turn()
        await world.advance(0.0105)  # near the predicted end: packed
        assert world.engine.packed == [[1], [2]]

        world.engine.permits.release()
        assert world.engine.entered.acquire(timeout=PATIENCE_S)  # the loop is blocked here

        assert world.engine.ran == [[1], [2]]
        world.engine.permits.release()
        await asyncio.wait(answers)
        assert values(answers) == [10, 20]

    play(world, scene)


def test_the_next_batch_is_packed_late_and_so_is_large() -> None:
    """Requests that arrive one by one while the engine runs share the next batch."""
    world = World()

    async def scene() -> None:
        answers = [world.submit(0)]
        await world.entered()
        for i in (1, 2, 3):
            answers.append(world.submit(i))
            await world.advance(0.002)
        assert world.engine.packed == [[0]]
        await world.advance(0.0045)

        assert world.engine.packed == [[0], [1, 2, 3]]
        world.engine.permits.release(2)
        await asyncio.wait(answers)
        assert values(answers) == [0, 10, 20, 30]

    play(world, scene)


def test_an_engine_that_ends_early_is_fed_before_anyone_is_answered() -> None:
    """The prediction was wrong: whatever waits is packed as soon as the engine is seen idle."""
    world = World()

    async def scene() -> None:
        answers = [world.submit(0)]
        await world.entered()
        answers.append(world.submit(1))
        await world.turn()
        world.engine.permits.release(2)
        await asyncio.wait(answers)

        assert world.engine.packed_at_unpack == [2, 2]

    play(world, scene)


def test_the_most_urgent_go_first_and_equals_in_order_of_arrival() -> None:
    """Earliest deadline first; first come first served among equals."""
    world = World(max_items=2)

    async def scene() -> None:
        answers = [world.submit(0)]
        await world.entered()
        answers += [world.submit(1, 2.0), world.submit(2, 1.0), world.submit(3, 2.0), world.submit(4, 0.5)]
        world.engine.free = True
        world.engine.permits.release()
        await asyncio.wait(answers)

        assert world.engine.ran == [[0], [4, 2], [1, 3]]
        assert values(answers) == [0, 10, 20, 30, 40]

    play(world, scene)


def test_who_cannot_be_on_time_is_told_at_once() -> None:
    """By the cost of a batch, by the rest of the running one, by the line ahead; and nonsense deadlines too."""
    world = World(max_items=1)

    async def scene() -> None:
        hopeless = [world.submit(1, within) for within in (0.0105, 0.0, -1.0, math.nan, -math.inf)]
        assert values(hopeless) == [DeadlineExceeded] * 5
        answers = [world.submit(2, math.inf)]
        await world.entered()
        answers += [world.submit(i, 0.050) for i in (3, 4, 5, 6)] + [world.submit(7, 0.021)]

        assert values(answers[4:]) == [DeadlineExceeded] * 2
        world.engine.free = True
        world.engine.permits.release()
        await asyncio.wait(answers)
        assert values(answers) == [20, 30, 40, 50, DeadlineExceeded, DeadlineExceeded]
        assert world.engine.packed == [[2], [3], [4], [5]]

    play(world, scene)


def test_a_swap_neither_drops_nor_mixes() -> None:
    """Batches packed before are answered by the old runner, later ones by the new; the old one is then let go."""
    world = World()

    async def scene() -> None:
        answers = [world.submit(1)]
        await world.entered()
        answers.append(world.submit(2))
        await world.turn()
        new = Engine(free=True, factor=100)
        old = world.batcher.swap(new, BatchLimits(max_items=1), CostModel(0.0, 0.0))
        assert old is world.engine
        answers.append(world.submit(3))
        drained = asyncio.create_task(world.batcher.drained(old))
        await world.turn()
        assert not drained.done()
        world.engine.permits.release()
        await asyncio.wait(answers)
        await drained

        assert values(answers) == [10, 200, 300]
        assert new.ran == [[2], [3]]

    play(world, scene)


def test_a_replaced_runner_is_let_go() -> None:
    """After a swap nobody holds the old engine's memory, not even the thread that ran it last."""
    world = World(Engine(free=True))

    async def scene() -> None:
        answer = world.submit(1)
        await asyncio.wait([answer])
        gone = weakref.ref(world.engine)
        world.engine = Engine(free=True)
        world.batcher.swap(world.engine, world.limits, CostModel(0.010, 0.001))
        await world.turn()
        gc.collect()

        limit = time.monotonic() + PATIENCE_S
        while (
            gone() is not None and time.monotonic() < limit
        ):  # the thread may still be on its way back to its queue
            await world.turn()
        assert gone() is None

    play(world, scene)


def test_a_window_waits_for_company_and_not_longer() -> None:
    """With a configured wait an idle engine waits for the window to close, or for the batch to be full."""
    world = World(max_wait_s=0.005)

    async def scene() -> None:
        answers = [world.submit(1)]
        await world.turn()
        await world.advance(0.003)
        assert world.engine.packed == []
        answers.append(world.submit(2))
        await world.advance(0.0021)
        assert world.engine.packed == [[1, 2]]
        world.engine.permits.release()
        await asyncio.wait(answers)
        answers += [world.submit(i) for i in (3, 4, 5, 6)]
        await world.turn()
        assert world.engine.packed == [[1, 2], [3, 4, 5, 6]]
        world.engine.permits.release()
        await asyncio.wait(answers)

        assert [entry for entry in world.counter.seen if entry[0] != "missed"] == [
            (2, "window", 2),
            (4, "full", 4),
        ]

    play(world, scene)


def test_predicted_wait_counts_the_running_batch_and_the_line() -> None:
    """Idle: one batch. Busy with a line of five, four to a batch: the rest, a full batch, and a batch of two."""
    world = World()

    async def scene() -> None:
        assert world.batcher.predicted_wait_s() == pytest.approx(0.011)
        answers = [world.submit(0)]
        await world.entered()
        answers += [world.submit(i) for i in range(1, 6)]

        assert world.batcher.predicted_wait_s() == pytest.approx(0.011 + 0.014 + 0.012)
        assert (world.batcher.queued, world.batcher.running) == (5, 1)
        world.engine.free = True
        world.engine.permits.release()
        await asyncio.wait(answers)

    play(world, scene)
