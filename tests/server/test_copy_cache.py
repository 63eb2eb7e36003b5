"""The cache of copy and the single flight: never wrong, never larger than it may be, and one text for equal requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.batching.admission import Admission
from server.copy_cache import CopyCache, content_key
from server.copy_domain import (
    Channel,
    CopyAnswer,
    CopyRequest,
    CopySource,
    CopyText,
    CopyUsage,
    CopyVariant,
    Effort,
    Language,
    ProductRecord,
    Tone,
)
from server.copy_limits import CopyRequestLimits
from server.copy_service import CopyCall, CopyService
from server.errors import EngineFault, InvalidRequest, NotReady, Overloaded
from server.pipelines.product_copy.events import events_of
from server.pipelines.product_copy.pipeline import CopyPipeline
from server.service import Ticket
from server.telemetry_interface import NullTelemetry
from tests.server.copy_world import GOOD, KETTLE, PlainRules, PlainTemplates, Scripted, answer

ASK = CopyRequest(product=KETTLE)


def told(text: str) -> CopyAnswer:
    copy = CopyText(headline=text, description="d")
    variant = CopyVariant(
        text=copy, claims=(), refused=(), effort=Effort.FIRST_TRY, served_by=CopySource.MODEL
    )
    return CopyAnswer(
        variants=(variant,), served_by=CopySource.MODEL, model=("m", "1"), usage=CopyUsage(), timings_s={}
    )


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3000), st.booleans()), max_size=60))
def test_the_cache_is_never_larger_than_it_may_be_and_gives_what_was_put_last(
    steps: list[tuple[int, int, bool]],
) -> None:
    """Whatever is put and asked for, in whatever order."""
    cache, newest = CopyCache(8_000, 10.0, lambda: 0.0), {}
    for key, length, put in steps:
        if put:
            entry = told("x" * length)
            newest[str(key)] = entry
            cache.put(str(key), entry)
        else:
            found = cache.get(str(key))
            assert found is None or found.answer is newest[str(key)]
        assert cache.bytes_held <= 8_000
        assert (cache.bytes_held == 0) == (len(cache) == 0)


def test_what_was_unused_longest_goes_first() -> None:
    """A page that is looked at stays."""
    cache = CopyCache(3 * 2100, 10.0, lambda: 0.0)
    for key in ("a", "b", "c"):
        cache.put(key, told("x"))
    cache.get("a")
    cache.put("d", told("x"))

    assert [cache.get(key) is not None for key in ("a", "b", "c", "d")] == [True, False, True, True]


def test_an_answer_ages_and_is_not_given_when_it_is_too_old() -> None:
    """Its age and the time it has left are told."""
    now_s = [100.0]
    cache = CopyCache(1 << 20, 60.0, lambda: now_s[0])
    cache.put("a", told("x"))
    now_s[0] = 130.0
    found = cache.get("a")
    assert found is not None and (found.age_s, found.ttl_s) == (30.0, 30.0)
    now_s[0] = 160.0
    assert cache.get("a") is None and len(cache) == 0


def test_the_key_is_the_content_and_nothing_else() -> None:
    """Whatever changes the copy changes the key; a deadline does not."""
    versions = ("model", "1", "rules")
    others = [
        replace(ASK, product=replace(KETTLE, title="Brimora Kettle 1.8 l")),
        replace(ASK, product=replace(KETTLE, price=39.91)),
        replace(ASK, product=replace(KETTLE, description="x")),
        replace(ASK, product=replace(KETTLE, attributes={**KETTLE.attributes, "power": "2000 W"})),
        replace(ASK, product=replace(KETTLE, attributes=dict(reversed(KETTLE.attributes.items())))),
        replace(ASK, channel=Channel.AD),
        replace(ASK, language=Language.ZH),
        replace(ASK, tone=Tone.PLAYFUL),
        replace(ASK, audience="cooks"),
        replace(ASK, keywords=("tea",)),
        replace(ASK, variants=2),
        replace(ASK, max_words=40),
        replace(ASK, seed=1),
    ]
    keys = [content_key(request, versions) for request in (ASK, *others)]
    keys += [content_key(ASK, ("model", "2", "rules")), content_key(ASK, ("model", "1", "other"))]
    assert len(set(keys)) == len(keys)
    assert content_key(replace(ASK, deadline_s=3.0, fresh=True), versions) == keys[0]
    assert content_key(replace(ASK, product=replace(KETTLE, attributes=dict(KETTLE.attributes))), versions) == keys[0]  # fmt: skip
    one = ProductRecord(title="t", attributes={"a": 1, "b": True})
    other = ProductRecord(title="t", attributes={"a": True, "b": 1})
    assert content_key(CopyRequest(product=one), ()) != content_key(CopyRequest(product=other), ())


@contextlib.asynccontextmanager
async def serving_copy(model: Scripted | None, **more: Any) -> AsyncIterator[CopyService]:
    pipeline = CopyPipeline(model, PlainRules(), PlainTemplates())
    cache = CopyCache(more.pop("max_bytes", 1 << 20), 60.0)
    service = CopyService(
        pipeline,
        Admission("copy", more.pop("permits", 64)),
        CopyRequestLimits(**more),
        cache,
        NullTelemetry(),
    )
    try:
        async with asyncio.timeout(10):
            yield service
    finally:
        pipeline.close()


def ticket(service: CopyService) -> Ticket:
    admitted = service.admit("product_copy", "http")
    assert isinstance(admitted, Ticket)
    return admitted


async def ask(service: CopyService, request: CopyRequest = ASK) -> tuple[CopyAnswer, CopyCall]:
    held = ticket(service)
    call = service.open(held, request)
    try:
        return await call.answer(), call
    finally:
        call.close()
        held.end("ok")


async def test_fifty_equal_requests_at_once_are_one_text_and_later_ones_none() -> None:
    """All get the same answer; one flew, 49 joined it, and the next was in the cache."""
    model = Scripted()
    async with serving_copy(model) as service:
        answers = await asyncio.gather(*(ask(service) for _ in range(50)))
        later, hit = await ask(service)

    assert len(model.asked) == 1
    assert all(one is later for one, _ in answers)
    assert sorted(call.provenance.outcome for _, call in answers) == ["collapsed"] * 49 + ["miss"]
    assert hit.provenance.outcome == "hit" and hit.provenance.ttl_s is not None
    assert answers[0][1].stored


async def test_fresh_copy_is_written_anew_and_replaces_the_old() -> None:
    """A caller who does not like what is there gets another try."""
    model = Scripted()
    async with serving_copy(model) as service:
        first, _ = await ask(service)
        second, call = await ask(service, replace(ASK, fresh=True))
        third, _ = await ask(service)

    assert call.provenance.outcome == "forced"
    assert (second is first, third is second, len(model.asked)) == (False, True, 2)


async def test_who_leaves_a_flight_disturbs_nobody_and_the_last_one_ends_it() -> None:
    """A shared text goes on for as long as anyone waits for it."""
    model = Scripted()
    model.hold = True
    async with serving_copy(model) as service:
        calls = [service.open(ticket(service), ASK) for _ in range(3)]
        waiting = asyncio.ensure_future(calls[2].answer())
        while not model.running:
            await asyncio.sleep(0.001)
        calls[0].close()
        calls[1].close()
        await asyncio.sleep(0.005)
        assert (model.running, model.cancelled) == (1, 0)
        model.hold = False
        assert (await waiting).variants[0].text == GOOD

        model.hold = True
        call = service.open(ticket(service), replace(ASK, seed=2))
        while not model.running:
            await asyncio.sleep(0.001)
        call.close()
        call.close()
        while model.running:
            await asyncio.sleep(0.001)
        assert model.cancelled == 1
        model.hold = False
        again, _ = await ask(service, replace(ASK, seed=2))  # a flight that was left is not joined
        assert again.variants[0].text == GOOD


async def test_nobody_joins_a_flight_that_may_end_too_late_for_him() -> None:
    """A request in a hurry keeps its own deadline, beside one that has time."""
    model = Scripted()
    model.hold = True
    async with serving_copy(model) as service:
        slow = service.open(ticket(service), replace(ASK, deadline_s=60.0))
        hurried, call = await ask(service, replace(ASK, deadline_s=0.1))
        model.hold = False
        patient = await slow.answer()
        slow.close()

    assert (call.provenance.outcome, hurried.fallback_reason) == ("miss", "deadline")
    assert patient.fallback_reason is None


async def test_what_will_pass_is_not_remembered() -> None:
    """An answer from the template because the engine was busy is not served for an hour; one for want of a model is."""
    model = Scripted()
    model.refuse = Overloaded("texts", 9, 8, 1.0)
    async with serving_copy(model) as service:
        first, call = await ask(service)
        model.refuse = None
        second, _ = await ask(service)
    async with serving_copy(None) as service:
        await ask(service)
        _, hit = await ask(service)

    assert (first.fallback_reason, call.stored) == ("overloaded", False)
    assert second.served_by is CopySource.MODEL
    assert hit.provenance.outcome == "hit"


async def test_a_variant_that_was_late_keeps_the_whole_answer_out_of_the_cache() -> None:
    """Although the other variant is the model's."""
    failures = iter([EngineFault("step failed"), None])
    model = Scripted(lambda *_: next(failures) or answer(GOOD))
    async with serving_copy(model) as service:
        mixed, call = await ask(service, replace(ASK, variants=2))

    assert {variant.served_by for variant in mixed.variants} == {CopySource.MODEL, CopySource.FALLBACK}
    assert (mixed.fallback_reason, call.stored) == (None, False)


async def test_a_new_version_of_the_model_writes_anew() -> None:
    """What an older version wrote is not found any more."""
    model = Scripted()
    async with serving_copy(model) as service:
        await ask(service)
        model.version = "2"
        later, call = await ask(service)

    assert (call.provenance.outcome, later.model) == ("miss", ("scripted", "2"))


async def test_events_of_a_cached_answer_are_those_of_its_writing() -> None:
    """A stream from the cache looks like one from the model."""
    async with serving_copy(Scripted()) as service:
        written = service.open(ticket(service), ASK)
        live = [event async for event in written.events()]
        cached = service.open(ticket(service), ASK)
        assert [event async for event in cached.events()] == live == events_of(await written.answer())


async def test_stopping_ends_what_is_on_its_way_with_an_error() -> None:
    """Those who wait are told, and new ones are refused."""
    model = Scripted()
    model.hold = True
    async with serving_copy(model) as service:
        call = service.open(ticket(service), ASK)
        waiting = asyncio.ensure_future(call.answer())
        await asyncio.sleep(0.005)
        service.stop()
        service.end_all()
        with pytest.raises(NotReady):
            await waiting
        assert isinstance(service.admit("product_copy", "http"), NotReady)


async def test_bulk_work_is_behind_all_others_and_is_not_put_into_the_cache() -> None:
    """It waits for the engine rather than take the template, and drives nothing out."""
    model = Scripted()
    async with serving_copy(model) as service:
        await service.write_in_bulk(ASK)
        assert (model.asked[0][1].priority, len(service.cache)) == (9, 0)
        model.refuse = Overloaded("texts", 9, 8, 1.0)
        with pytest.raises(Overloaded):
            await service.write_in_bulk(ASK)
        with pytest.raises(InvalidRequest):
            await service.write_in_bulk(replace(ASK, variants=5))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"product": replace(KETTLE, title="  ")}, "product.title"),
        ({"product": replace(KETTLE, title="x" * 1001)}, "product.title"),
        ({"product": replace(KETTLE, description="x" * 20_001)}, "product.description"),
        ({"product": replace(KETTLE, attributes={str(i): 1 for i in range(65)})}, "product.attributes"),
        ({"product": replace(KETTLE, attributes={"size": "x" * 2001})}, "product.attributes.size"),
        ({"product": replace(KETTLE, attributes={"size": ("x",) * 33})}, "product.attributes.size"),
        ({"product": replace(KETTLE, attributes={"size": float("nan")})}, "product.attributes.size"),
        ({"product": replace(KETTLE, price=-1.0)}, "product.price"),
        ({"product": replace(KETTLE, price=float("nan"))}, "product.price"),
        ({"product": replace(KETTLE, currency="EURO")}, "product.currency"),
        ({"audience": "x" * 201}, "audience"),
        ({"keywords": ("x",) * 17}, "keywords"),
        ({"keywords": ("tea", " ")}, "keywords[1]"),
        ({"variants": 0}, "variants"),
        ({"variants": 5}, "variants"),
        ({"max_words": 7}, "max_words"),
        ({"seed": -1}, "seed"),
        ({"deadline_s": 0.0}, "deadline_ms"),
        ({"deadline_s": float("inf")}, "deadline_ms"),
    ],
)
async def test_a_request_out_of_its_limits_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    """The sentence says the field, what it is, and what to send."""
    async with serving_copy(None) as service:
        with pytest.raises(InvalidRequest) as refused:
            service.open(ticket(service), replace(ASK, **change))

    assert refused.value.field == field
    assert refused.value.message.startswith(field)
