"""When the engine, the sampler, a grammar or the clock misbehaves: those texts fail once, later ones are served, health says so."""

from __future__ import annotations

import asyncio
import math
import random
import threading

import pytest
from causal_world import VOCAB, SimulatedEngine, text_of
from continuous_world import Reader, World, constraint, model_of, play

from server.batching.text_model import TextLimits
from server.errors import DeadlineExceeded, EngineFault, NotReady, Overloaded
from server.text_domain import Finished

pytestmark = pytest.mark.timeout(60)


def test_an_engine_that_raises_fails_the_texts_of_that_step_and_serves_later_ones() -> None:
    """Its exception is not shown; health says that it failed, until a step goes well."""
    world = World()

    async def scene() -> None:
        world.engine.hold.clear()
        readers = [world.ask([i], 5) for i in (1, 2)]
        await world.inside()
        world.engine.fault = RuntimeError("secret path /x")
        world.engine.hold.set()
        await world.ended(*readers)
        failed = [reader for reader in readers if not isinstance(reader.end, Finished)]
        assert failed
        for reader in failed:
            assert isinstance(reader.error, EngineFault) and "secret" not in str(reader.error)
        later = world.ask([3], 5)
        await world.ended(later)
        assert later.tokens == text_of([3], 5)
        await world.until(lambda: world.batcher.ready() == (True, ""))

    play(world, scene)


def test_an_engine_that_has_failed_is_not_ready_until_it_computes_again() -> None:
    """Nobody has to send a text for that: an idle engine is tried again."""
    world = World()
    world.engine.fault = SystemExit(1)

    async def scene() -> None:
        reader = world.ask([1], 5)
        await world.ended(reader)
        assert isinstance(reader.error, EngineFault)
        ready, why = world.batcher.ready()
        assert not ready and "failed" in why
        await world.until(lambda: world.batcher.ready()[0])

    play(world, scene)


def test_logits_that_are_not_numbers_fail_their_texts_only() -> None:
    """The next text in the same slot is whole."""
    world = World({64: 1})
    world.engine.nan_calls = 1

    async def scene() -> None:
        ill = world.ask([1], 5)
        await world.ended(ill)
        assert isinstance(ill.error, EngineFault) and "finite" in str(ill.error)
        later = world.ask([2], 5)
        await world.ended(later)
        assert later.tokens == text_of([2], 5)

    play(world, scene)


def test_an_engine_that_hangs_fails_its_texts_in_time_and_serves_again_when_it_comes_back() -> None:
    """After ``hang_s`` in one step all its texts are told; new ones are refused until the engine returns."""
    world = World(limits=TextLimits(hang_s=5.0))

    async def scene() -> None:
        world.engine.hold.clear()
        running, waiting = world.ask([1], 5), world.ask([2], 5)
        await world.inside()
        await world.advance(4.9)
        assert running.end is None and world.batcher.ready()[0]
        assert world.batcher.last_progress_s <= world.clock.now - 4.9
        await world.advance(0.2)
        await world.ended(running, waiting)
        assert isinstance(running.error, EngineFault) and "hangs" in str(running.error)
        ready, why = world.batcher.ready()
        assert not ready and "hangs" in why
        with pytest.raises(NotReady, match="hangs"):
            world.ask([3], 5)
        world.engine.hold.set()
        await world.until(lambda: world.batcher.ready()[0])
        later = world.ask([3], 5)
        await world.ended(later)
        assert later.tokens == text_of([3], 5)
        assert world.recorder.ends == ["internal", "internal", "length"]

    play(world, scene)


def test_a_new_version_serves_while_the_old_one_hangs() -> None:
    """A swap gives new texts another engine, whatever the old one does."""
    world = World(limits=TextLimits(hang_s=5.0))

    async def scene() -> None:
        world.engine.hold.clear()
        old = world.ask([1], 5)
        await world.inside()
        await world.advance(6.0)
        await world.ended(old)
        world.batcher.swap(model_of(SimulatedEngine({64: 2}), "2"))
        assert world.batcher.ready()[0]
        new = world.ask([2], 5)
        await world.ended(new)
        assert new.tokens == text_of([2], 5)

    play(world, scene)


def test_a_deadline_holds_whatever_the_engine_does() -> None:
    """A text whose time is up is told so while its step still runs; the one that waits for its first token as well."""
    world = World({64: 1})

    async def scene() -> None:
        world.engine.hold.clear()
        now = world.clock.now
        running = world.ask([1], 5, deadline_at_s=now + 1.0)
        waiting = world.ask([2], 5, first_token_at_s=now + 0.5)
        await world.inside()
        await world.advance(0.6)
        await world.ended(waiting)
        assert running.end is None
        await world.advance(0.6)
        await world.ended(running)
        for reader in (running, waiting):
            assert isinstance(reader.error, DeadlineExceeded)
        world.engine.hold.set()
        later = world.ask([3], 3)
        await world.ended(later)
        assert later.tokens == text_of([3], 3)

    play(world, scene)


@pytest.mark.parametrize("at_s", [-math.inf, 0.0, -1.0])
def test_a_deadline_that_has_passed_ends_the_text_at_once(at_s: float) -> None:
    """It is told so, once, and takes no step."""
    world = World()

    async def scene() -> None:
        reader = world.ask([1], 5, deadline_at_s=at_s)
        await world.advance(0.01)
        await world.ended(reader)
        assert isinstance(reader.error, DeadlineExceeded)

    play(world, scene)


@pytest.mark.parametrize("name", ["deadline_at_s", "first_token_at_s"])
def test_a_deadline_of_nan_is_never_kept(name: str) -> None:
    """It counts as passed, and no timer is ever set to it."""
    world = World()

    async def scene() -> None:
        world.engine.hold.clear()
        reader = world.ask([1], 5, **{name: math.nan})
        assert not math.isnan(world.batcher._alarm.at_s)
        await world.advance(0.01)
        await world.ended(reader)
        assert isinstance(reader.error, DeadlineExceeded)

    play(world, scene)


def test_a_mask_that_fails_ends_the_masked_texts_only() -> None:
    """``prepare`` raises: the text under the grammar fails, its batchmate is whole."""
    world = World()

    async def scene() -> None:
        world.model.sampler.prepare_fault = ValueError("grammar")  # type: ignore[attr-defined]
        bound, free = world.ask([1], 9, constraint=constraint("7 5")), world.ask([2], 9)
        await world.ended(bound, free)
        assert isinstance(bound.error, EngineFault)
        assert free.tokens == text_of([2], 9)

    play(world, scene)


def test_a_sampler_that_fails_ends_the_texts_it_chose_for() -> None:
    """And no later ones."""
    world = World()

    async def scene() -> None:
        world.model.sampler.sample_fault = ValueError("sampler")  # type: ignore[attr-defined]
        reader = world.ask([1], 9)
        await world.ended(reader)
        assert isinstance(reader.error, EngineFault)
        later = world.ask([2], 9)
        await world.ended(later)
        assert later.tokens == text_of([2], 9)

    play(world, scene)


def test_a_bug_in_the_scheduler_ends_the_texts_under_way_and_no_others() -> None:
    """The books start anew."""
    world = World()

    async def scene() -> None:
        lane = world.batcher._lanes[0]
        lane.scheduler.plan = None  # type: ignore[method-assign,assignment]
        reader = world.ask([1], 9)
        await world.ended(reader)
        assert isinstance(reader.error, EngineFault)
        later = world.ask([2], 9)
        await world.ended(later)
        assert later.tokens == text_of([2], 9)

    play(world, scene)


def test_a_lost_engine_thread_ends_every_text_and_a_new_version_serves_again() -> None:
    """Whatever killed the thread: its texts are told, health says so, and a swap brings another thread."""
    world = World()

    async def scene() -> None:
        lane = world.batcher._lanes[0]
        lane._turn = None  # type: ignore[method-assign,assignment]
        reader = world.ask([1], 9)
        await world.ended(reader)
        assert isinstance(reader.error, EngineFault)
        await world.until(lambda: not world.batcher.ready()[0])
        assert "lost its engine thread" in world.batcher.ready()[1]
        with pytest.raises(NotReady, match="lost its engine thread"):
            world.ask([2], 9)
        world.batcher.swap(model_of(SimulatedEngine({64: 2}), "2"))
        assert world.batcher.ready() == (True, "")
        later = world.ask([2], 9)
        await world.ended(later)
        assert later.tokens == text_of([2], 9)

    play(world, scene)


def test_a_compiler_that_never_returns_holds_its_own_text_only() -> None:
    """Its text ends at its deadline, others are written, and closing does not wait for it."""
    world = World()

    async def scene() -> None:
        world.model.compiler.gate = threading.Event()  # type: ignore[attr-defined]
        bound = world.ask([1], 9, constraint=constraint("7 5"), deadline_at_s=world.clock.now + 1.0)
        free = world.ask([2], 9)
        await world.ended(free)
        await world.advance(1.1)
        await world.ended(bound)
        assert isinstance(bound.error, DeadlineExceeded)

    play(world, scene)
    world.model.compiler.gate.set()  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_every_text_ends_once_and_as_alone(seed: int) -> None:
    """Random arrivals, departures, faults, hangs and a swap on real threads: each reader has one end or left, and whoever
    finished has the text it would have alone; no slot is held after.
    """
    pick = random.Random(seed)
    world = World({32: 2, 64: 2}, TextLimits(hang_s=5.0, answer_tokens=4, first_token_s=1e9))
    shared = [pick.randrange(1, VOCAB) for _ in range(20)]

    async def scene() -> None:
        asked: list[tuple[Reader, list[int], int]] = []
        left: set[int] = set()
        for turn in range(60):
            await asyncio.sleep(0)
            action = pick.random()
            if action < 0.6:
                prompt = [*shared[: pick.randrange(21)], pick.randrange(1, VOCAB)]
                answer = pick.randrange(1, 30)
                more = {"constraint": constraint("7 3")} if pick.random() < 0.2 else {}
                try:
                    reader = world.ask(prompt, answer, priority=pick.choice([0, 9]), **more)
                except (NotReady, Overloaded):
                    continue
                alone = [7] * min(3, answer) if more else text_of(prompt, answer)
                asked.append((reader, alone, answer))
            elif action < 0.75 and asked:
                index = pick.randrange(len(asked))
                if asked[index][0].end is None:
                    left.add(index)
                asked[index][0].generation.cancel()
            elif action < 0.8:
                world.engine.fault = RuntimeError("broken")
            elif action < 0.83:
                world.engine.nan_calls += 1
            elif action < 0.88:
                world.engine.hold.clear()
                await world.advance(6.0)
                world.engine.hold.set()
            elif turn == 40:
                world.batcher.swap(model_of(SimulatedEngine({64: 3}), "2"))
            for _ in range(pick.randrange(20)):
                await asyncio.sleep(0)
        world.engine.hold.set()
        await world.until(lambda: world.batcher.texts == 0)
        for index, (reader, alone, _) in enumerate(asked):
            if index in left:
                assert reader.end is None
            elif isinstance(reader.end, Finished):
                assert reader.tokens == alone
            else:
                assert reader.tokens == alone[: len(reader.tokens)] and reader.error
        lane = world.batcher._lanes[-1]
        await world.until(lambda: not lane._mine and not lane.scheduler.jobs)
        assert lane.scheduler.slots.in_use() == 0
        assert len(world.recorder.ends) == len(asked)

    play(world, scene)
