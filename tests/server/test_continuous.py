"""The continuous batcher: every text is what it would be alone, is told in order, and ends once."""

from __future__ import annotations

import asyncio
import random

import pytest
from causal_world import VOCAB, SimulatedEngine
from continuous_world import EOS, Reader, World, constraint, model_of, play, text_of

from server.batching.text_model import TextLimits
from server.errors import InvalidRequest, NotReady, Overloaded
from server.text_domain import Chunk, FinishReason, SamplingParams

pytestmark = pytest.mark.timeout(60)


def test_texts_that_run_together_are_what_they_are_alone() -> None:
    """Twelve texts over four slots, some sharing a prefix, each get their own tokens, and say what they took."""
    world = World({64: 2, 32: 2})
    pick = random.Random(1)
    shared = [pick.randrange(1, VOCAB) for _ in range(12)]
    prompts = [shared[: pick.randrange(13)] + [i + 1] * pick.randrange(1, 5) for i in range(12)]

    async def scene() -> None:
        readers = [world.ask(prompt, 5 + i) for i, prompt in enumerate(prompts)]
        await world.ended(*readers)
        for i, (prompt, reader) in enumerate(zip(prompts, readers, strict=True)):
            assert reader.tokens == text_of(prompt, 5 + i)
            assert reader.finished.reason is FinishReason.LENGTH
            assert reader.finished.usage.prompt_tokens == len(prompt)
            assert reader.finished.usage.completion_tokens == 5 + i
        assert world.batcher.texts == 0
        assert world.recorder.ends == ["length"] * 12

    play(world, scene)


def test_a_text_ends_at_the_models_own_end_unless_that_is_ignored() -> None:
    """EOS ends a text with ``stop`` and is not shown; with ``ignore_eos`` it is a token like any other."""
    prompt = next(
        p for p in ([i, j] for i in range(1, 97) for j in range(1, 97)) if EOS in text_of(p, 20)[3:]
    )
    world = World()

    async def scene() -> None:
        ends, goes_on = world.ask(prompt, 20, ignore_eos=False), world.ask(prompt, 20)
        await world.ended(ends, goes_on)
        alone = text_of(prompt, 20, EOS)
        assert ends.tokens == alone[:-1] and EOS not in ends.tokens
        assert ends.finished.reason is FinishReason.STOP and ends.finished.stop == EOS
        assert ends.finished.usage.completion_tokens == len(alone)
        assert goes_on.tokens == text_of(prompt, 20)

    play(world, scene)


def test_a_stop_string_ends_a_text_across_tokens_and_is_not_part_of_it() -> None:
    """A stop string of three tokens: nothing of it is shown, and what would have been written after it is not either."""
    tokens = text_of([5, 6], 30)
    stop = "".join(chr(33 + token) for token in tokens[4:7])
    world = World()

    async def scene() -> None:
        reader = world.ask([5, 6], 30, stop=(stop,))
        await world.ended(reader)
        assert reader.text == "".join(chr(33 + token) for token in tokens[:4])
        assert reader.finished.reason is FinishReason.STOP and reader.finished.stop == stop

    play(world, scene)


def test_a_second_text_with_the_same_prompt_is_not_computed_again() -> None:
    """All of a prompt but its last token is found in the slot of the one before; usage says so."""
    world = World({64: 2})
    prompt = list(range(1, 31))

    async def scene() -> None:
        first = world.ask(prompt, 4)
        await world.ended(first)
        second = world.ask(prompt, 4)
        await world.ended(second)
        assert first.finished.usage.cached_tokens == 0
        assert second.finished.usage.cached_tokens == 29
        assert second.tokens == first.tokens == text_of(prompt, 4)

    play(world, scene)


def test_a_reader_who_leaves_frees_its_slot_and_is_told_nothing_more() -> None:
    """Cancelling one of two texts, on one slot: the other begins at the next step; twice cancelled is once."""
    world = World({64: 1})

    async def scene() -> None:
        world.engine.hold.clear()
        leaves, stays = world.ask([1, 2, 3], 50), world.ask([4, 5, 6], 3)
        await world.inside()
        leaves.generation.cancel()
        leaves.generation.cancel()
        world.engine.hold.set()
        await world.ended(stays)
        assert leaves.events == []
        assert stays.tokens == text_of([4, 5, 6], 3)
        assert world.recorder.ends == ["cancelled", "length"]
        assert len(world.engine.calls) <= 1 + 3  # the one it was in, and those of the other
        assert world.batcher.texts == 0

    play(world, scene)


def test_a_reader_may_leave_while_it_is_told() -> None:
    """``cancel`` inside the sink, at its first chunk: that chunk was its last event."""
    world = World()

    async def scene() -> None:
        reader = world.ask([1, 2], 10)
        reader.on_event = lambda event: reader.generation.cancel()
        await world.until(lambda: world.batcher.texts == 0)
        assert len(reader.events) == 1

    play(world, scene)


def test_a_constraint_is_compiled_beside_and_ends_its_text() -> None:
    """A text waits for its own grammar only, its masks are made, and it stops when nothing may follow."""
    world = World()

    async def scene() -> None:
        world.model.compiler.gate.clear()  # type: ignore[attr-defined]
        bound, free = world.ask([1], 20, constraint=constraint("7 3")), world.ask([2], 3)
        await world.ended(free)
        assert bound.events == []
        world.model.compiler.gate.set()  # type: ignore[attr-defined]
        await world.ended(bound)
        assert bound.tokens == [7, 7, 7]
        assert bound.finished.reason is FinishReason.STOP
        assert world.model.sampler.prepared == 3  # type: ignore[attr-defined]

    play(world, scene)


def test_a_constraint_that_does_not_compile_fails_its_text_with_the_reason() -> None:
    """The compiler's sentence reaches the reader; a bug of the compiler is an internal error."""
    world = World()

    async def scene() -> None:
        wrong, bug = world.ask([1], constraint=constraint("no")), world.ask([1], constraint=constraint("bug"))
        await world.ended(wrong, bug)
        assert isinstance(wrong.error, InvalidRequest) and wrong.error.field == "response_format"
        assert "KeyError" not in str(bug.error) and bug.error.code.value == "internal"

    play(world, scene)


def test_too_many_constraints_to_compile_are_refused() -> None:
    """The line for the compiler is bounded, and says what is full."""
    world = World(limits=TextLimits(max_compiles=2))

    async def scene() -> None:
        world.model.compiler.gate.clear()  # type: ignore[attr-defined]
        readers = [world.ask([1], 2, constraint=constraint("7 1")) for _ in range(2)]
        with pytest.raises(Overloaded, match="constraints"):
            world.ask([1], 2, constraint=constraint("7 1"))
        assert world.recorder.refusals == ["compiles"]
        world.model.compiler.gate.set()  # type: ignore[attr-defined]
        await world.ended(*readers)

    play(world, scene)


def test_what_does_not_fit_is_told_both_numbers() -> None:
    """A prompt over the context names its length and the limit; an answer is cut at the context instead."""
    world = World({16: 1, 32: 1})

    async def scene() -> None:
        with pytest.raises(InvalidRequest, match=r"32 tokens.*room for 32.*31 tokens"):
            world.ask([1] * 32)
        with pytest.raises(InvalidRequest, match="empty"):
            world.ask([])
        with pytest.raises(InvalidRequest, match="97"):
            world.ask([97])
        reader = world.ask([1] * 31, 10**6)
        longer = world.ask([2] * 5, 10**6)
        await world.ended(reader, longer)
        assert reader.tokens == text_of([1] * 31, 1)
        assert longer.tokens == text_of([2] * 5, 27)
        assert longer.finished.reason is FinishReason.LENGTH
        assert world.recorder.refusals == ["invalid"] * 3

    play(world, scene)


def test_what_the_sampler_refuses_was_never_let_in() -> None:
    """An error while a text's sampler is made is the caller's, and nothing is left behind."""
    world = World()

    async def scene() -> None:
        with pytest.raises(InvalidRequest, match="temperature"):
            world.ask([1], sampling=SamplingParams(temperature=-1.0))
        assert world.batcher.texts == 0

    play(world, scene)


def test_logprobs_go_with_their_tokens() -> None:
    """Where they were asked for, each token has one."""
    world = World()

    async def scene() -> None:
        reader = world.ask([1], 3, sampling=SamplingParams(top_logprobs=0))
        await world.ended(reader)
        told = [
            entry.token_id for event in reader.events if isinstance(event, Chunk) for entry in event.logprobs
        ]
        assert told == reader.tokens

    play(world, scene)


def test_a_text_over_the_count_is_refused_with_a_time_to_come_back() -> None:
    """``max_texts`` holds for waiting and running ones together."""
    world = World(limits=TextLimits(max_texts=2))

    async def scene() -> None:
        world.engine.hold.clear()
        readers = [world.ask([1], 2), world.ask([2], 2)]
        with pytest.raises(Overloaded) as refused:
            world.ask([3])
        assert refused.value.retry_after_s is not None and refused.value.retry_after_s > 0
        world.engine.hold.set()
        await world.ended(*readers)
        assert world.recorder.refusals == ["texts"]

    play(world, scene)


def test_a_new_version_writes_new_texts_and_the_old_one_finishes_its_own() -> None:
    """After a swap both write; the old one is drained when its last text has ended, and not before."""
    world = World()
    other = SimulatedEngine({128: 2})

    async def scene() -> None:
        world.engine.hold.clear()
        before = world.ask([1, 2], 6)
        new = model_of(other, "2")
        assert world.batcher.swap(new) is world.model
        drained = asyncio.create_task(world.batcher.drained(world.model))
        after = world.ask([3] * 100, 4)
        await world.ended(after)
        assert after.tokens == text_of([3] * 100, 4)
        assert world.batcher.info().version == "2"
        await world.advance(0.0)
        assert not drained.done()
        world.engine.hold.set()
        await world.ended(before)
        assert before.tokens == text_of([1, 2], 6)
        await asyncio.wait_for(asyncio.shield(drained), None)

    play(world, scene)


def test_an_idle_version_is_drained_at_once() -> None:
    """A swap without texts under way lets go of the old engine."""
    world = World()

    async def scene() -> None:
        old = world.batcher.swap(model_of(SimulatedEngine({64: 2}), "2"))
        drained = asyncio.create_task(world.batcher.drained(old))
        await world.until(drained.done)

    play(world, scene)


def test_closing_finishes_what_is_under_way_and_refuses_the_rest() -> None:
    """Texts under way end as they would have; new ones are told that it is closing."""
    world = World()

    async def scene() -> None:
        world.engine.hold.clear()
        reader = world.ask([1, 2], 6)
        closing = asyncio.create_task(world.batcher.close(10.0))
        await asyncio.sleep(0)
        with pytest.raises(NotReady, match="closing"):
            world.ask([1])
        assert world.batcher.ready() == (False, "writer is closing")
        world.engine.hold.set()
        await world.until(closing.done)
        assert reader.tokens == text_of([1, 2], 6)

    play(world, scene)


def test_what_is_not_finished_when_the_time_is_up_is_told_so() -> None:
    """With no time to drain, a text ends with ``NotReady``, once."""
    world = World()

    async def scene() -> None:
        world.engine.hold.clear()
        reader = world.ask([1, 2], 6)
        closing = asyncio.create_task(world.batcher.close(0.0))
        await world.ended(reader)
        assert isinstance(reader.error, NotReady)
        world.engine.hold.set()
        await world.until(closing.done)

    play(world, scene)


def test_before_it_started_nothing_is_let_in() -> None:
    """A batcher that was not started says so."""
    world = World()
    with pytest.raises(NotReady, match="not started"):
        world.ask([1])
    assert world.batcher.ready() == (False, "writer has not started")


def test_steps_are_reported_with_their_tokens() -> None:
    """Prompt tokens, cached ones and output tokens add up over the steps, and a recorder that raises hurts nobody."""
    world = World({64: 2})
    prompt = list(range(1, 21))

    async def scene() -> None:
        for _ in range(2):
            reader = world.ask(prompt, 5)
            await world.ended(reader)
        steps = world.recorder.steps
        assert sum(step.output_tokens for step in steps) == 10
        assert sum(step.cached_tokens for step in steps) == 19
        assert (
            sum(step.prompt_tokens for step in steps) == 20
        )  # the last of the second is a row of a decode call
        assert sum(len(step.first_tokens_s) for step in steps) == 2
        assert sum(len(step.inter_tokens_s) for step in steps) == 8

    play(world, scene)


def test_a_reader_that_raises_ends_its_own_text_only() -> None:
    """Its batchmate is whole."""
    world = World()

    def fails(event: object) -> None:
        raise RuntimeError("reader is broken")

    async def scene() -> None:
        broken, whole = world.ask([1], 5), world.ask([2], 5)
        broken.on_event = fails
        await world.ended(whole)
        assert whole.tokens == text_of([2], 5)
        await world.until(lambda: world.batcher.texts == 0)

    play(world, scene)


def test_readers_are_plain() -> None:
    """The reader of these tests refuses to be told anything after an end."""
    reader = Reader()
    reader(Chunk("", ()))
    assert reader.end is None
