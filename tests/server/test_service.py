"""The service: every admitted call ends exactly once, and the fallback tier stands in where it is due."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from server.batching.admission import Admission
from server.batching.cost import CostModel
from server.batching.dynamic import DynamicBatcher
from server.batching.policy import BatchLimits
from server.domain import RecommendRequest, RecommendResponse, ServedBy
from server.errors import (
    Code,
    DeadlineExceeded,
    EngineFault,
    InvalidRequest,
    NotReady,
    Overloaded,
    ServeError,
)
from server.request_limits import RequestLimits
from server.service import Answer, Service
from server.telemetry import Telemetry
from tests.server.fake_recommender import FakeRecommender

WARM = RecommendRequest(history=("sku-1", "sku-2"), k=3)


class World:
    def __init__(self, *, permits: int = 4, fallback: bool = True) -> None:
        self.registry = CollectorRegistry()
        self.fake = FakeRecommender()
        self.admission = Admission("shop", permits)
        telemetry = Telemetry(self.registry)
        self.service = Service(self.fake, self.admission, RequestLimits(), telemetry, fallback=fallback)
        self.answers: list[Answer] = []

    def ask(self, request: RecommendRequest = WARM) -> Any:
        ticket = self.service.admit("recommendations", "http")
        assert not isinstance(ticket, ServeError)

        def done(answer: Answer) -> None:
            self.answers.append(answer)
            ticket.end_with(answer)

        return ticket, self.service.recommend(ticket, request, done)

    def metrics(self) -> str:
        return generate_latest(self.registry).decode()


@pytest.fixture(params=[EngineFault("boom"), DeadlineExceeded("late", stage="queue"), NotReady("closing")])
def model_fault(request: pytest.FixtureRequest) -> Iterator[ServeError]:
    yield request.param


async def test_an_answer_comes_once_with_its_stage_times() -> None:
    """A shopper gets the model's answer, and time per stage is data."""
    world = World()

    world.ask()
    await asyncio.sleep(0)

    (answer,) = world.answers
    assert isinstance(answer, RecommendResponse)
    assert answer.item_ids == ("sku-2-r1", "sku-2-r2", "sku-2-r3")
    assert sum(answer.timings_s.values()) > 0
    assert world.admission.in_flight == 0


async def test_what_the_model_cannot_answer_the_fallback_tier_does(model_fault: ServeError) -> None:
    """A fault, a deadline or a closing model is an answer marked fallback, with the reason, and counted."""
    world = World()
    world.fake.fault = model_fault

    world.ask()
    await asyncio.sleep(0)

    (answer,) = world.answers
    assert isinstance(answer, RecommendResponse)
    assert answer.served_by is ServedBy.FALLBACK
    assert answer.fallback_reason in ("engine_fault", "deadline", "not_ready")
    assert 'vitrine_degraded_total{endpoint="recommendations",rung="fallback"} 1.0' in world.metrics()
    assert world.admission.in_flight == 0


async def test_with_the_fallback_tier_off_the_error_comes_through(model_fault: ServeError) -> None:
    """A shop that wants errors gets them."""
    world = World(fallback=False)
    world.fake.fault = model_fault

    world.ask()
    await asyncio.sleep(0)

    assert [answer.code for answer in world.answers if isinstance(answer, ServeError)] == [model_fault.code]


async def test_an_engine_that_hangs_does_not_keep_a_caller_past_the_deadline() -> None:
    """The pipeline never answers; the fallback tier does, before the deadline, and the work is dropped."""
    world = World()
    world.fake.hold = True
    loop = asyncio.get_running_loop()
    began = loop.time()

    world.ask(RecommendRequest(history=("sku-1",), k=2, deadline_s=0.05))
    async with asyncio.timeout(2):
        while not world.answers:
            await asyncio.sleep(0.001)

    (answer,) = world.answers
    assert isinstance(answer, RecommendResponse)
    assert answer.fallback_reason == "deadline"
    assert 0.03 < loop.time() - began < 0.5
    assert world.fake.waiting[0][1].cancelled()
    assert 'vitrine_deadline_missed_total{stage="engine"} 1.0' in world.metrics()


class Hanging:
    """A batch runner whose engine never answers until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def pack(self, items: Any) -> Any:
        return items

    def run(self, packed: Any) -> Any:
        self.let_go.wait(10)
        return packed

    def unpack(self, packed: Any, raw: Any, items: Any) -> Any:
        return [NotReady("too late")] * len(items)


async def test_a_missed_deadline_is_not_also_a_caller_who_left() -> None:
    """One overdue request is one missed deadline and nothing else; one who leaves is one who left and nothing else."""
    world = World()
    runner = Hanging()
    limits = BatchLimits(max_items=1, max_wait_s=0.0)
    observer = world.service.telemetry.batcher("shop", "hangs")
    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(
        "shop", runner, limits, CostModel(1e-4, 1e-5), observer=observer
    )
    batcher.start()
    world.fake.submit = lambda request, deadline_at_s: batcher.submit(  # type: ignore[method-assign]
        request, deadline_at_s=deadline_at_s
    )

    world.ask(RecommendRequest(history=("sku-1",), k=2, deadline_s=0.05))
    ticket, leaver = world.ask(RecommendRequest(history=("sku-2",), k=2, deadline_s=8.0))
    async with asyncio.timeout(2):
        while not world.answers:
            await asyncio.sleep(0.001)
    missed = world.metrics()
    leaver.cancel()
    ticket.end("cancelled")
    left = world.metrics()
    runner.let_go.set()
    await batcher.close(2.0)

    assert 'vitrine_deadline_missed_total{stage="engine"} 1.0' in missed
    assert "vitrine_cancelled_total{" in missed
    assert not re.search(r"vitrine_cancelled_total\{.*\} [1-9]", missed)
    assert len(re.findall(r"vitrine_cancelled_total\{.*\} 1.0", left)) == 1
    assert 'vitrine_deadline_missed_total{stage="engine"} 1.0' in left


async def test_an_earlier_deadline_is_not_held_up_by_a_later_one() -> None:
    """One timer serves all flights; it follows the earliest."""
    world = World()
    world.fake.hold = True

    world.ask(RecommendRequest(history=("sku-1",), k=1, deadline_s=8.0))
    world.ask(RecommendRequest(history=("sku-2",), k=2, deadline_s=0.02))
    async with asyncio.timeout(2):
        while not world.answers:
            await asyncio.sleep(0.001)

    (answer,) = world.answers
    assert isinstance(answer, RecommendResponse)
    assert len(answer.item_ids) == 2
    world.fake.release()


async def test_a_caller_who_leaves_is_not_answered_and_its_work_is_dropped() -> None:
    """Cancel: the pipeline's future is cancelled, the permit comes back, nobody is called."""
    world = World()
    world.fake.hold = True
    ticket, flight = world.ask()

    flight.cancel()
    ticket.end("cancelled")
    ticket.end("ok")
    world.fake.release()
    await asyncio.sleep(0)

    assert world.answers == []
    assert world.fake.waiting == []
    assert world.admission.in_flight == 0
    assert 'outcome="cancelled",protocol="http",tier="none"} 1.0' in world.metrics()
    assert 'outcome="ok"' not in world.metrics()


async def test_a_new_shopper_is_answered_by_what_is_popular() -> None:
    """Nothing known in the history: no engine run, marked cold_start, not counted as degraded."""
    world = World()

    world.ask(RecommendRequest(history=("never-seen",), k=2))

    (answer,) = world.answers
    assert isinstance(answer, RecommendResponse)
    assert (answer.item_ids, answer.fallback_reason) == (("popular-1", "popular-2"), "cold_start")
    assert world.fake.seen == []
    assert "vitrine_degraded_total{" not in world.metrics()


async def test_a_full_house_refuses_before_any_work() -> None:
    """The permit is the first thing; a refused request touches nothing else."""
    world = World(permits=1)
    world.fake.hold = True
    world.ask()

    refused = world.service.admit("recommendations", "http")

    assert isinstance(refused, Overloaded) and refused.retry_after_s is not None
    assert 'vitrine_rejected_total{reason="overloaded"} 1.0' in world.metrics()
    world.fake.release()


async def test_a_wrong_request_gives_its_permit_back() -> None:
    """A refusal of the content ends the call like an answer does."""
    world = World()

    world.ask(RecommendRequest(history=("sku-1",), k=0))

    assert [type(answer) for answer in world.answers] == [InvalidRequest]
    assert world.admission.in_flight == 0


async def test_a_bug_in_the_pipeline_is_internal_and_not_its_text() -> None:
    """Whatever escapes is answered; its words stay in the log."""
    world = World(fallback=False)
    world.fake.fault = KeyError("secret of the house")

    world.ask()
    await asyncio.sleep(0)

    (answer,) = world.answers
    assert isinstance(answer, ServeError)
    assert answer.code is Code.INTERNAL
    assert "secret" not in answer.message


async def test_a_longer_deadline_than_the_limit_counts_as_the_limit() -> None:
    """A million milliseconds is not refused: whoever can wait that long is served by then."""
    world = World()

    world.ask(RecommendRequest(history=("sku-1",), k=1, deadline_s=1e6))
    world.ask(RecommendRequest(history=("sku-1",), k=1))

    assert world.fake.deadlines_s == [pytest.approx(10.0, abs=0.5), pytest.approx(0.1, abs=0.05)]
