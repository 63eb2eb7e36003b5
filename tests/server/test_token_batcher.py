"""The driver of an encoder: requests are split over batches and come back whole, and each ends exactly once."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.batching.token_batcher import HANG_S, TokenLimits
from server.errors import DeadlineExceeded, EngineFault, NotReady, Overloaded
from tests.server.encoder_world import Engine, World, model_of, play, right

pytestmark = pytest.mark.timeout(60)


def test_a_request_of_many_texts_comes_back_whole_and_in_order() -> None:
    """Texts of several lengths go through several batches; every vector is of its own text."""
    world = World(Engine(free=True))

    async def scene() -> None:
        call = world.submit(3, 17, 5, 39, 8, 17, 1, 40, 2)
        together = world.submit(9, 7, 8)
        await world.until(lambda: call.done() and together.done())
        assert right(call) and right(together)

    play(world, scene)
    assert len(world.engine.ran) > 2
    assert all(size <= 40 for size in world.engine.padded)


def test_requests_that_came_together_share_a_batch() -> None:
    """Three questions of one moment are computed once, together, and each has its own answer."""
    world = World()

    async def scene() -> None:
        calls = [world.submit(8), world.submit(9), world.submit(7)]
        await world.turn()
        await world.finish()
        assert all(map(right, calls))

    play(world, scene)
    assert sorted(world.engine.ran[0]) == [1, 2, 3] and len(world.engine.ran) == 1


def test_a_failing_batch_harms_those_in_it_and_nobody_else() -> None:
    """Who had a text in the batch gets EngineFault, at once and for all its texts; who had none goes on."""
    world = World()

    async def scene() -> None:
        world.engine.faults["run"] = RuntimeError("out of memory")
        first, big = world.submit(30), world.submit(30, 30, 30)
        await world.turn()
        await world.entered()
        other = world.submit(8)
        await world.finish()
        assert type(first.exception()) is EngineFault
        while not (big.done() and other.done()):
            await world.finish()
        assert right(big) and right(other)

    play(world, scene)


def test_a_fault_in_one_of_its_batches_ends_a_request_and_frees_its_texts() -> None:
    """What is left of a request that failed is not computed."""
    world = World()

    async def scene() -> None:
        call = world.submit(30, 30, 30, 30, 30)
        await world.turn()
        await world.entered()
        world.engine.faults["run"] = SystemExit("an engine may not take the server with it")
        await world.finish()
        assert type(call.exception()) is EngineFault
        assert world.batcher.queued == 0
        assert world.batcher.ready()[0]

    play(world, scene)
    assert len(world.engine.ran) <= 2  # at most one was packed ahead


def test_vectors_that_are_no_numbers_are_an_error_of_their_request_alone() -> None:
    """NaN reaches nobody; the others of its batch have their answers."""
    world = World()

    async def scene() -> None:
        world.engine.faults["nan"] = {2}
        calls = [world.submit(8), world.submit(8), world.submit(8)]
        await world.turn()
        await world.finish()
        assert right(calls[0]) and right(calls[2])
        assert type(calls[1].exception()) is EngineFault

    play(world, scene)


@pytest.mark.parametrize("fault", ["shape", "no logits"])
def test_an_engine_that_gives_something_else_is_a_fault(fault: str) -> None:
    """Arrays of another shape are never cut up into answers."""
    world = World()

    async def scene() -> None:
        world.engine.faults[fault] = True
        call = world.submit(8)
        await world.turn()
        await world.finish()
        assert type(call.exception()) is EngineFault

    play(world, scene)


def test_who_leaves_is_not_computed() -> None:
    """Cancelling takes the waiting texts out of the queue at once."""
    world = World()

    async def scene() -> None:
        running = world.submit(8)
        await world.turn()
        await world.entered()
        leaver, stayer = world.submit(8), world.submit(8)
        leaver.cancel()
        assert world.batcher.queued == 1
        await world.finish()
        await world.finish()
        assert right(running) and right(stayer)

    play(world, scene)
    assert world.engine.ran == [[1], [3]]


def test_live_questions_go_before_bulk_work() -> None:
    """A question that comes while an index is made waits for the running batch only."""
    world = World()

    async def scene() -> None:
        bulk = world.submit(*[10] * 6, bulk=True)
        await world.turn()
        await world.entered()
        question = world.submit(8)
        await world.finish()
        await world.until(lambda: len(world.engine.ran) > 1)
        assert 7 in world.engine.ran[1]
        while not bulk.done():
            await world.finish()
        assert right(bulk) and right(question)

    play(world, scene)


def test_bulk_work_is_not_packed_ahead() -> None:
    """However near the end of a batch is, a question that comes before it goes before the next batch of an index."""
    world = World()

    async def scene() -> None:
        bulk = world.submit(*[10] * 6, bulk=True)
        await world.turn()
        await world.entered()
        await world.advance(0.5)  # far beyond the predicted end
        question = world.submit(8)
        await world.finish()
        await world.until(lambda: len(world.engine.ran) > 1)
        assert world.engine.ran[1] == [7]
        while not bulk.done():
            await world.finish()
        assert right(bulk) and right(question)

    play(world, scene)


def test_an_engine_that_hangs_keeps_nobody_beyond_the_deadline_and_is_seen() -> None:
    """At its deadline a request ends, whatever the engine does; readiness says that the engine hangs."""
    world = World()

    async def scene() -> None:
        stuck = world.submit(8, within_s=1.0)
        unbounded = world.submit(8)
        await world.turn()
        await world.entered()
        waiting = world.submit(30, within_s=0.5)
        await world.advance(0.6)
        assert type(waiting.exception()) is DeadlineExceeded
        await world.advance(0.6)
        assert type(stuck.exception()) is DeadlineExceeded
        assert not unbounded.done() and world.batcher.ready()[0]
        await world.advance(HANG_S)
        ready, why = world.batcher.ready()
        assert not ready and "one batch" in why
        await world.advance(200.0)
        assert type(unbounded.exception()) is DeadlineExceeded

    play(world, scene)


def test_too_much_that_waits_is_refused_with_a_hint() -> None:
    """Who would wait longer than the limit is told when to come again; bulk work may wait longer."""
    world = World(limits=TokenLimits(max_wait_s=1.0, max_bulk_wait_s=10.0))

    async def scene() -> None:
        world.submit(*[40] * 40)
        await world.turn()
        with pytest.raises(Overloaded) as refused:
            world.submit(*[40] * 40)
        assert refused.value.retry_after_s is not None and 0.1 < refused.value.retry_after_s < 2.0
        world.submit(8)  # a question does not wait for all of those
        world.submit(*[40] * 10, bulk=True)

    play(world, scene)


def test_a_deadline_that_cannot_be_kept_is_told_at_once() -> None:
    """No engine time is spent on an answer that nobody can use."""
    world = World()

    async def scene() -> None:
        call = world.submit(40, within_s=0.02)
        assert type(call.exception()) is DeadlineExceeded

    play(world, scene)
    assert world.engine.ran == []


def test_a_deadline_is_weighed_with_what_goes_before() -> None:
    """Behind a long queue a request that would be late is told so before any of its texts is computed."""
    world = World()

    async def scene() -> None:
        world.submit(*[40] * 10)
        await world.turn()
        late = world.submit(*[40] * 10, within_s=0.5)
        question = world.submit(8, within_s=0.5)
        assert type(late.exception()) is DeadlineExceeded and not question.done()

    play(world, scene)


def test_a_request_stays_with_the_version_whose_tokens_it_has() -> None:
    """After a swap, texts of the old version go through the old engine, never in one batch with the new one's."""
    world = World(Engine(1, free=True))
    new = model_of(Engine(2, free=True))

    async def scene() -> None:
        old_calls = [world.submit(10, 20), world.submit(8)]
        new_calls = [world.submit(10, model=new), world.submit(8, model=new)]
        drained = asyncio.ensure_future(world.batcher.drained(world.model))
        for call in (*old_calls, *new_calls):
            await world.until(call.done)
        await drained
        assert all(right(call, 1) for call in old_calls)
        assert all(right(call, 2) for call in new_calls)

    play(world, scene)


def test_closing_answers_what_is_in_flight_and_refuses_what_comes() -> None:
    """Everything admitted before is answered within the drain limit; nothing is let in after."""
    world = World(Engine(free=True))

    async def scene() -> None:
        call = world.submit(30, 30, 30)
        closing = asyncio.ensure_future(world.batcher.close(5.0))
        await world.turn()
        with pytest.raises(NotReady):
            world.submit(8)
        await closing
        assert right(call)

    play(world, scene)


def test_a_broken_recorder_changes_nothing() -> None:
    """Telemetry that raises at every report costs no answer."""
    world = World(Engine(free=True))

    async def scene() -> None:
        call = world.submit(8, 9)
        await world.until(call.done)
        assert right(call)

    play(world, scene)
    reports = dict(world.counter.seen)
    assert reports["batch_done"]["texts"] == 2
    assert reports["batch_done"]["tokens"] == 17 and reports["batch_done"]["padded_tokens"] == 18


STEPS = st.one_of(
    st.tuples(
        st.just("submit"),
        st.tuples(
            st.lists(st.integers(1, 60), min_size=1, max_size=6),
            st.sampled_from([None, None, 0.005, 0.05, 0.2, 1.0, math.nan]),
            st.booleans(),
            st.integers(0, 1),
        ),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 40)),
    st.tuples(st.just("pass"), st.sampled_from([0.001, 0.01, 0.05, 0.3])),
    st.tuples(st.just("jump"), st.sampled_from([10.0, 3600.0, -3600.0])),
    st.tuples(st.just("finish"), st.just(0)),
    st.tuples(st.just("finish"), st.just(0)),
    st.tuples(st.just("turn"), st.just(0)),
    st.tuples(st.just("fail"), st.sampled_from(["run", "shape", "no logits"])),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=30), st.booleans())
def test_every_admitted_request_ends_exactly_once(script: list[tuple[str, Any]], hang: bool) -> None:
    """Whatever arrives, leaves, fails, jumps and closes: everyone ends once, with their own vectors or an error."""
    world = World()
    engines = [world.engine, Engine(2)]
    models = [world.model, model_of(engines[1])]
    calls: list[tuple[Any, int]] = []
    ends: dict[int, int] = {}

    async def step(verb: str, value: Any) -> None:
        if verb == "submit":
            lengths, within_s, bulk, which = value
            try:
                call = world.submit(*lengths, within_s=within_s, bulk=bulk, model=models[which])
            except Overloaded:
                return
            at = len(calls)
            call.add_done_callback(lambda _: ends.update({at: ends.get(at, 0) + 1}))
            calls.append((call, which + 1))
        elif verb == "cancel" and calls:
            calls[value % len(calls)][0].cancel()
        elif verb in ("pass", "jump"):
            await world.advance(value)
        elif verb == "fail":
            for engine in engines:
                engine.faults[value] = True if value != "run" else ValueError("boom")
        else:
            await world.turn()
            running = next((engine for engine in engines if engine.inside is not None), None)
            if verb == "finish" and running is not None:
                await world.finish(running)

    async def scene() -> None:
        for verb, value in script:
            await step(verb, value)
        for engine in engines:
            if not hang:
                engine.free = True
                engine.permits.release(100)
        await world.batcher.close(0.0 if hang else 10.0)
        await world.turn()
        assert all(call.done() for call, _ in calls)
        assert world.batcher.queued == 0
        for engine in engines:
            engine.free = True
            engine.permits.release(100)

    play(world, scene)

    assert ends == dict.fromkeys(range(len(calls)), 1)
    for call, version in calls:
        if call.cancelled():
            continue
        if error := call.exception():
            assert type(error) in (DeadlineExceeded, EngineFault, NotReady)
        else:
            assert right(call, version)
    ran = [number for engine in engines for batch in engine.ran for number in batch]
    assert len(ran) == len(set(ran))
    assert all(
        size <= 40 or len(batch) == 1
        for engine in engines
        for size, batch in zip(engine.padded, engine.ran, strict=True)
    )
