"""What is released is checked, whatever the model writes, and whatever happens to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.copy_domain import (
    Channel,
    CopyAnswer,
    CopyRequest,
    CopySource,
    CopyText,
    Effort,
    Language,
    ProductRecord,
    count_words,
)
from server.errors import EngineFault, Overloaded, ServeError
from server.pipelines.product_copy.events import CopyEvent, PartReleased, VariantReleased, events_of
from server.pipelines.product_copy.pipeline import CopyPipeline
from server.text_domain import GenerateRequest, TextModelInfo
from server.text_generator import Sink
from tests.server.copy_world import GOOD, KETTLE, CharCodec, PlainRules, PlainTemplates, Scripted, answer

ASK = CopyRequest(product=KETTLE)
LIES = CopyText(
    headline="The best kettle",
    description="A black kettle. It holds 9 l. It is by Brimora.",
    bullets=("2200 W", "9 l"),
)


@contextlib.asynccontextmanager
async def writing(generator: Scripted | None) -> AsyncIterator[CopyPipeline]:
    pipeline = CopyPipeline(generator, PlainRules(), PlainTemplates())
    try:
        async with asyncio.timeout(10):
            yield pipeline
    finally:
        pipeline.close()


async def write(
    generator: Scripted | None, request: CopyRequest = ASK, **more: Any
) -> tuple[CopyAnswer, list[CopyEvent]]:
    events: list[CopyEvent] = []
    async with writing(generator) as pipeline:
        return await pipeline.write(request, emit=events.append, **more), events


async def test_true_copy_is_released_as_it_was_written() -> None:
    """The first try stands, with a source for every claim, and tokens counted."""
    told, _ = await write(Scripted())

    (variant,) = told.variants
    assert variant.text == GOOD
    assert (variant.effort, variant.served_by) == (Effort.FIRST_TRY, CopySource.MODEL)
    assert {claim.text for claim in variant.claims} == {"1.7", "2200"}
    assert (told.model, told.fallback_reason) == (("scripted", "1"), None)
    assert told.usage.completion_tokens == len(answer(GOOD))


async def test_an_offending_part_is_written_again_and_only_that() -> None:
    """The true parts stay, the false claim is named as refused, and the second try gets the first's place."""
    model = Scripted(
        lambda prompt, part, attempt: (
            answer(CopyText(headline="The best kettle", description=GOOD.description, bullets=GOOD.bullets))
            if not part
            else "A kettle by Brimora"
        )
    )
    told, _ = await write(model)

    (variant,) = told.variants
    assert variant.text.headline == "A kettle by Brimora"
    assert (variant.text.description, variant.text.bullets) == (GOOD.description, GOOD.bullets)
    assert variant.effort is Effort.REGENERATED
    assert [claim.text for claim in variant.refused] == ["best"]
    assert [part for part, _ in model.asked] == ["", "headline"]


async def test_what_stays_false_is_cut_out() -> None:
    """A lying model costs a bounded number of tries, and never a lie; what it said truly stays."""
    lies = CopyText(headline=GOOD.headline, description=LIES.description, bullets=LIES.bullets)
    model = Scripted(lambda prompt, part, attempt: answer(lies) if not part else "The best kettle, of 9 l")
    told, _ = await write(model)

    (variant,) = told.variants
    assert variant.text.headline == GOOD.headline
    assert variant.text.description == "A black kettle. It is by Brimora."
    assert variant.text.bullets == ("2200 W",)
    assert (variant.effort, variant.served_by) == (Effort.EDITED, CopySource.MODEL)
    assert [part for part, _ in model.asked] == ["", "description", "description", "bullets", "bullets"]
    assert {claim.text for claim in variant.refused} == {"9", "best"}


async def test_when_the_headline_cannot_be_had_the_template_writes_it_all() -> None:
    """Beside a template's headline, the rest of such a model is no better than its headline was; it is let go."""
    model = Scripted(lambda prompt, part, attempt: answer(LIES) if not part else "The best kettle, of 9 l")
    told, _ = await write(model)

    (variant,) = told.variants
    assert variant.text == PlainTemplates().write(ASK, 0)
    assert (variant.effort, variant.served_by) == (Effort.TEMPLATE, CopySource.FALLBACK)
    assert (told.served_by, told.fallback_reason) == (CopySource.FALLBACK, "content")
    assert [part for part, _ in model.asked] == ["", "headline", "headline"]
    assert model.running == 0


async def test_seeds_differ_between_variants_and_tries_and_are_the_same_next_time() -> None:
    """The same request is the same copy; a repetition is not the same draw."""
    request = CopyRequest(product=KETTLE, variants=3, seed=7)
    first, second, third = (
        Scripted(lambda prompt, part, attempt: answer(LIES) if not part else "9") for _ in range(3)
    )
    await write(first, request)
    await write(second, request)
    await write(third, CopyRequest(product=KETTLE, variants=3, seed=8))

    seeds = [sorted(asked.sampling.seed or 0 for _, asked in model.asked) for model in (first, second, third)]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == len(seeds[0])
    assert not set(seeds[0]) & set(seeds[2])


async def test_parts_are_told_as_they_are_checked_and_add_up_to_the_answer() -> None:
    """Whoever listens sees the headline before the description is finished, and nothing that is taken back."""
    model = Scripted(lambda prompt, part, attempt: answer(LIES) if not part else "By Brimora")
    told, events = await write(model, CopyRequest(product=KETTLE, variants=2))

    for index, variant in enumerate(told.variants):
        mine = [event for event in events if event.variant == index]
        assert mine == [event for event in events_of(told) if event.variant == index]
        assert isinstance(mine[-1], VariantReleased)
        assert tuple((e.name, e.text) for e in mine if isinstance(e, PartReleased)) == variant.text.parts()


async def test_without_a_model_the_template_answers() -> None:
    """The sample shop always answers."""
    told, events = await write(None)

    assert (told.served_by, told.fallback_reason, told.model[0]) == (
        CopySource.FALLBACK, "no_model", "template",
    )  # fmt: skip
    assert told.variants[0].text.bullets == ("capacity: 1.7 l", "colour: black", "power: 2200 W")
    assert events == events_of(told)


@pytest.mark.parametrize(
    ("refusal", "failure", "reason"),
    [
        (Overloaded("texts", 9, 8, 1.0), None, "overloaded"),
        (None, EngineFault("the step failed"), "engine_fault"),
    ],
)
async def test_an_engine_that_refuses_or_fails_is_answered_for(
    refusal: ServeError | None, failure: ServeError | None, reason: str
) -> None:
    """A shopper's page gets the template and a reason; bulk work gets the error and tries again."""
    for patient in (False, True):
        model = Scripted(lambda *_: failure or "")
        model.refuse = refusal
        if patient:
            with pytest.raises(ServeError) as raised:
                await write(model, patient=True)
            assert raised.value is (refusal or failure)
        else:
            told, _ = await write(model)
            assert (told.served_by, told.fallback_reason) == (CopySource.FALLBACK, reason)


async def test_a_deadline_is_kept_by_an_engine_that_hangs() -> None:
    """The answer is there before the deadline, and the text is let go."""
    model = Scripted()
    model.hold = True
    began_s = time.monotonic()
    told, _ = await write(model, deadline_at_s=began_s + 0.3)

    assert (
        time.monotonic() - began_s < 3.0
    )  # a busy machine is late by some tenths; an engine that is waited for, forever
    assert model.asked[0][1].deadline_at_s < began_s + 0.3  # what is left is for the template
    assert told.fallback_reason == "deadline"
    assert (model.running, model.cancelled) == (0, 1)


async def test_a_part_is_not_written_again_when_it_could_only_come_too_late() -> None:
    """What the model wrote is cut instead of being lost to the deadline."""
    now_s = [100.0]

    def slow(prompt: str, part: str, attempt: int) -> str:
        now_s[0] += 6.0
        return answer(CopyText(headline=GOOD.headline, description=LIES.description))

    model = Scripted(slow)
    pipeline = CopyPipeline(model, PlainRules(), PlainTemplates(), clock=lambda: now_s[0])
    told = await pipeline.write(ASK, emit=lambda _: None, deadline_at_s=110.0)
    pipeline.close()

    assert [part for part, _ in model.asked] == [""]
    assert told.variants[0].text.description == "A black kettle. It is by Brimora."
    assert told.variants[0].effort is Effort.EDITED


async def test_a_caller_who_leaves_takes_all_texts_along() -> None:
    """No slot is held for nobody."""
    model = Scripted()
    model.hold = True
    async with writing(model) as pipeline:
        task = asyncio.ensure_future(
            pipeline.write(CopyRequest(product=KETTLE, variants=4), emit=lambda _: None)
        )
        while model.running < 4:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert (model.running, model.cancelled) == (0, 4)


async def test_a_record_that_leaves_no_room_for_copy_is_answered_from_the_template() -> None:
    """The prompt is measured before the engine is asked."""
    told, _ = await write(Scripted(max_context=150))

    assert (told.served_by, told.fallback_reason) == (CopySource.FALLBACK, "too_long")


async def test_a_broken_answer_is_mended_part_by_part() -> None:
    """What was whole stays, what is missing is asked for by itself."""
    model = Scripted(
        lambda prompt, part, attempt: '{"headline": "A kettle", "descr' if not part else "By Brimora."
    )
    told, _ = await write(model)

    assert told.variants[0].text == CopyText(headline="A kettle", description="By Brimora.")
    assert told.variants[0].effort is Effort.REGENERATED


async def test_what_a_title_may_not_say_is_not_said_by_the_template_either() -> None:
    """The last rung claims nothing at all."""
    record = ProductRecord(title="The best one", category="best", brand="best")
    told, _ = await write(None, CopyRequest(product=record))

    (variant,) = told.variants
    assert variant.text.headline == "Product details"
    assert not variant.claims


async def test_a_text_that_the_rules_fail_to_shorten_is_not_released() -> None:
    """Lengths are held by what releases, not by the good will of what cuts."""

    class Careless(PlainRules):
        def open(self, request: CopyRequest) -> Any:
            check = super().open(request)
            check.shortened = lambda part, text, **_: text  # type: ignore[method-assign]
            return check

    long = CopyText(
        headline="kettle " * 30, description="A black kettle.", bullets=("kettle " * 40, "2200 W")
    )
    pipeline = CopyPipeline(
        Scripted(lambda prompt, part, attempt: "a " * 90 if part else answer(long)),
        Careless(),
        PlainTemplates(),
    )
    told = await pipeline.write(ASK, emit=lambda _: None)
    pipeline.close()

    assert told.variants[0].text == PlainTemplates().write(ASK, 0)


class _ChatCodec(CharCodec):
    def encode_chat(self, messages: Sequence[Any], **_: Any) -> list[int]:
        return self.encode(json.dumps(list(messages)))


class _Elsewhere(Scripted):
    """Takes turns, and no answer begun."""

    def __init__(self, texts: Any) -> None:
        super().__init__(texts)
        self.codec = _ChatCodec()
        self.turns: list[list[dict[str, str]]] = []

    def info(self) -> TextModelInfo:
        return replace(super().info(), counts_tokens=False)

    def submit(self, request: GenerateRequest, sink: Sink) -> Any:
        self.turns.append(json.loads(self.codec.decode(request.prompt_ids)))
        return super().submit(request, sink)


async def test_an_engine_elsewhere_is_asked_for_a_part_by_a_turn_of_conversation() -> None:
    """What its server gets is a conversation that it can lay out itself, and an object to answer with."""
    texts = iter([answer(LIES), '{"text": "A kettle by Brimora"}', '{"text": "It is black."}'])
    model = _Elsewhere(lambda *_: next(texts, '{"text": "By Brimora"}'))
    told, _ = await write(model)

    assert told.variants[0].text.headline == "A kettle by Brimora"
    assert told.variants[0].text.description == "It is black."
    assert [turn["role"] for turn in model.turns[0]] == ["system", "user"]
    assert [turn["role"] for turn in model.turns[1]] == ["system", "user", "assistant", "user"]
    assert model.turns[2][3]["content"].startswith("Write another description for this copy")
    assert json.loads(model.turns[2][2]["content"])["headline"] == "A kettle by Brimora"


_words = st.lists(
    st.sampled_from(
        ["kettle", "best", "1.7", "9", "2200 W.", "black", "By Brimora.", "水壶", "很好。", "x" * 40]
    ),
    max_size=40,
).map(" ".join)
_copies = st.builds(
    lambda headline, description, bullets: answer(
        CopyText(headline=headline, description=description, bullets=tuple(bullets))
    ),
    _words,
    _words,
    st.lists(_words, max_size=7),
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(Channel)),
    st.sampled_from(list(Language)),
    st.none() | st.integers(8, 60),
    st.one_of(_copies, _copies.map(lambda text: text[: len(text) // 2]), _words),
    _words,
    st.integers(0, 2**31),
)
def test_limits_and_truth_hold_for_whatever_a_model_writes(
    channel: Channel, language: Language, max_words: int | None, whole: str, again: str, seed: int
) -> None:
    """Lengths of parts, their number, the words in all; and no claim without a source."""
    chance = random.Random(seed)
    request = CopyRequest(
        product=KETTLE,
        channel=channel,
        language=language,
        max_words=max_words,
        variants=chance.choice((1, 2)),
    )
    told, _ = asyncio.run(write(Scripted(lambda prompt, part, attempt: again if part else whole), request))

    check = PlainRules().open(request)
    for variant in told.variants:
        text, limits = variant.text, request.limits
        assert text.headline and text.description
        assert len(text.headline) <= limits.headline_chars
        assert len(text.description) <= limits.description_chars
        assert count_words(text.headline) <= limits.headline_words
        assert count_words(text.description) <= limits.description_words
        assert len(text.bullets) <= limits.bullets
        assert all(0 < len(bullet) <= limits.bullet_chars for bullet in text.bullets)
        assert len(set(text.bullets)) == len(text.bullets)
        if max_words is not None:
            assert sum(count_words(part) for _, part in text.parts()) <= max_words
        found = [claim for name, part in text.parts() for claim in check.claims(name, part)]
        assert all(claim.source for claim in found)
        assert sorted(map(str, found)) == sorted(map(str, variant.claims))
