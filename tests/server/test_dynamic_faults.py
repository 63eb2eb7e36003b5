"""The batching driver when callers leave, engines fail or hang, clocks jump and servers close: everyone ends, once."""

from __future__ import annotations

import asyncio
import math

import pytest
from batching_world import Engine, World, play, values

from server.batching.cost import CostModel
from server.batching.waiting import OVERDUE
from server.errors import DeadlineExceeded, EngineFault, InvalidRequest, NotReady

pytestmark = pytest.mark.timeout(60)


def test_a_caller_who_leaves_never_disturbs_its_batchmates() -> None:
    """One leaves while waiting and is not computed; one leaves in the engine; the rest get their answers."""
    world = World()

    async def scene() -> None:
        answers = [world.submit(i) for i in (1, 2)]
        await world.entered()
        answers += [world.submit(i) for i in (3, 4)]
        await world.turn()
        answers[0].cancel()
        answers[2].cancel()
        assert world.batcher.queued == 1
        world.engine.permits.release(2)
        await asyncio.wait(answers)

        assert values(answers) == [asyncio.CancelledError, 20, asyncio.CancelledError, 40]
        assert world.engine.ran == [[1, 2], [4]]
        assert ("cancelled", "engine") in world.counter.seen and ("cancelled", "queue") in world.counter.seen

    play(world, scene)


def test_a_packed_batch_whose_callers_all_left_is_not_run() -> None:
    """Nothing is computed for people who are gone."""
    world = World()

    async def scene() -> None:
        answers = [world.submit(1)]
        await world.entered()
        answers.append(world.submit(2))
        await world.turn()
        await world.advance(0.0105)
        answers[1].cancel()
        world.engine.permits.release()
        await world.until(lambda: world.batcher.running == 0)

        assert world.engine.packed == [[1], [2]]
        assert world.engine.ran == [[1]]

    play(world, scene)


@pytest.mark.parametrize(
    ("stage", "fault"),
    [(stage, ValueError("boom")) for stage in ("pack", "run", "unpack", "short")] + [("run", SystemExit(3))],
)
def test_a_failing_batch_fails_alone(stage: str, fault: BaseException) -> None:
    """Its callers get an ``EngineFault`` with the cause; the next batch is served."""
    world = World(Engine(free=True))

    async def scene() -> None:
        world.engine.faults[stage] = fault
        failed = [world.submit(1), world.submit(2)]
        await asyncio.wait(failed)
        answer = world.submit(3)
        await asyncio.wait([answer])

        assert values([*failed, answer]) == [EngineFault, EngineFault, 30]
        errors = [call.exception() for call in failed]
        assert errors[0] is not errors[1]
        assert errors[0] is not None and (errors[0].__cause__ is fault or stage == "short")

    play(world, scene)


def test_one_bad_item_fails_alone() -> None:
    """A ``ServeError`` among the answers goes to its own caller only."""
    world = World(Engine(free=True))

    async def scene() -> None:
        world.engine.bad_items = {2}
        answers = [world.submit(i) for i in (1, 2, 3)]
        await asyncio.wait(answers)

        assert values(answers) == [10, InvalidRequest, 30]

    play(world, scene)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_jumps_leaves_nobody_waiting(jump_s: float) -> None:
    """Forward: everyone whose time has passed is told now, in the queue and in the engine. Back: all are served."""
    world = World()

    async def scene() -> None:
        answers = [world.submit(1)]
        await world.entered()
        answers += [world.submit(2), world.submit(3, math.inf)]
        await world.turn()
        await world.advance(jump_s)

        if jump_s > 0:
            assert values(answers[:2]) == [DeadlineExceeded] * 2
            assert {("missed", "queue"), ("missed", "engine")} <= set(world.counter.seen)
        world.engine.permits.release(2)
        await asyncio.wait(answers)
        expected = [DeadlineExceeded, DeadlineExceeded, 30] if jump_s > 0 else [10, 20, 30]
        assert values(answers) == expected

    play(world, scene)


def test_a_hanging_engine_is_seen_and_nobody_waits_for_it() -> None:
    """Callers end at their deadlines, new ones are refused at once, the age grows, close returns."""
    world = World()

    async def scene() -> None:
        assert world.batcher.oldest_running_s is None
        assert world.batcher.last_progress_s == world.clock.now
        began = world.clock.now
        answers = [world.submit(1, 0.050), world.submit(2, math.inf)]
        await world.entered()
        answers.append(world.submit(3, 0.100))
        await world.turn()
        await world.advance(0.060)
        assert values(answers[:1]) == [DeadlineExceeded]
        await world.advance(0.060)
        assert values(answers[2:]) == [DeadlineExceeded]

        assert world.batcher.oldest_running_s == pytest.approx(0.120)
        assert world.batcher.last_progress_s == began
        assert values([world.submit(4, 0.050)]) == [DeadlineExceeded]
        await world.batcher.close(0.0)
        assert values(answers[1:2]) == [NotReady]

    play(world, scene)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_engine_thread_is_noticed() -> None:
    """If the thread dies all the same, everyone in it or waiting for it is told, and new work is refused."""
    world = World()

    async def scene() -> None:
        answers = [world.submit(1)]
        await world.entered()
        answers.append(world.submit(2))
        await world.turn()
        world.clock.broken = True
        world.engine.permits.release()
        await asyncio.wait(answers)

        assert values(answers) == [EngineFault, EngineFault]
        await world.batcher.drained(world.engine)
        with pytest.raises(NotReady, match="lost its engine thread"):
            world.submit(3)

    play(world, scene)


def test_close_answers_those_in_flight_and_refuses_new_ones() -> None:
    """A drain finishes the queue, also what waits in a window; before start and after close there is no entry."""
    world = World(max_wait_s=60.0)
    with pytest.raises(NotReady, match="has not started"):
        world.submit(0)

    async def scene() -> None:
        answers = [world.submit(i, math.inf) for i in (1, 2)]
        await world.turn()
        assert world.engine.packed == []
        world.engine.free = True
        await world.batcher.close(10.0)

        assert values(answers) == [10, 20]
        with pytest.raises(NotReady, match="closing"):
            world.submit(3)
        await world.batcher.close(0.0)

    play(world, scene)


def test_close_without_patience_fails_everyone() -> None:
    """Whoever is not answered within the drain is told so: queued, packed and running."""
    world = World(max_items=1)

    async def scene() -> None:
        answers = [world.submit(1)]
        await world.entered()
        answers += [world.submit(2), world.submit(3)]
        await world.turn()
        await world.advance(0.0105)
        await world.batcher.close(0.0)

        assert values(answers) == [NotReady] * 3

    play(world, scene)


def test_a_cost_that_was_once_too_high_is_forgotten() -> None:
    """After a bad minute an idle engine does not refuse for ever what it could do."""
    world = World(Engine(free=True))

    async def scene() -> None:
        world.batcher.swap(world.engine, world.limits, cost := CostModel(0.010, 0.001))
        for _ in range(200):
            cost.observe(1, 1.0)
        ends = []
        for i in range(100):
            answer = world.submit(i, 0.050)
            await asyncio.wait([answer])
            ends += values([answer])

        assert ends[0] is DeadlineExceeded
        assert ends[-1] == 990

    play(world, scene)


def test_who_is_given_up_at_its_deadline_has_not_left() -> None:
    """The service answers an overdue caller itself: its call is dropped as if it had left, but nobody is counted as gone."""
    world = World()

    async def scene() -> None:
        answers = [world.submit(1)]
        await world.entered()
        answers += [world.submit(2), world.submit(3)]
        answers[0].cancel(OVERDUE)
        answers[1].cancel(OVERDUE)
        answers[2].cancel()

        assert [report for report in world.counter.seen if report[0] == "cancelled"] == [
            ("cancelled", "queue")
        ]
        assert world.batcher.queued == 0

    play(world, scene)


@pytest.mark.parametrize("drain_s", [0.0, math.inf])
def test_a_cancelled_close_still_ends_everyone(drain_s: float) -> None:
    """Whoever gives up on the drain leaves nobody behind."""
    world = World()

    async def scene() -> None:
        answers = [world.submit(1, math.inf)]
        await world.entered()
        closing = asyncio.create_task(world.batcher.close(drain_s))
        await world.turn()
        closing.cancel()
        await asyncio.wait([closing])

        assert values(answers) == [NotReady]

    play(world, scene)
