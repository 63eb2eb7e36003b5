"""Two stages, one answer: the second stage may better an answer and can never lose one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from server.batching.cost import CostModel
from server.batching.dynamic import DynamicBatcher
from server.batching.policy import BatchLimits
from server.domain import RankedBy, RecommendRequest, ServedBy
from server.errors import DeadlineExceeded, EngineFault, NotReady
from server.pipelines.rerank import LOGIT, RerankAnswer, RerankAsk, RerankRunner
from server.pipelines.reranked import OUTCOMES, RerankedRecommender
from tests.server.fake_recommender import FakeRecommender, Timings

SOON_S = 5.0


class FakeReranker:
    """Ranks the other way round; ``held`` keeps asks, ``fault`` fails them."""

    def __init__(self, candidates: int = 10) -> None:
        self.candidates = candidates
        self.fault: Exception | None = None
        self.refusal: Exception | None = None
        self.held: list[asyncio.Future[Any]] | None = None
        self.seen: list[tuple[RerankAsk, float]] = []
        self.started = self.closed = False

    async def start(self) -> None:
        self.started = True

    async def close(self, drain_s: float) -> None:
        self.closed = True

    def submit(self, ask: RerankAsk, deadline_at_s: float) -> asyncio.Future[Any]:
        self.seen.append((ask, deadline_at_s))
        if self.refusal is not None:
            raise self.refusal
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.fault is not None:
            future.set_exception(self.fault)
        elif self.held is not None:
            self.held.append(future)
        else:
            count = len(ask.item_ids)
            order = tuple(reversed(range(count)))
            future.set_result(
                (RerankAnswer(order, tuple(float(count - at) for at in range(count))), Timings())
            )
        return future


def two_stages(candidates: int = 10) -> tuple[RerankedRecommender, FakeRecommender, FakeReranker]:
    first, second = FakeRecommender(), FakeReranker(candidates)
    return RerankedRecommender(first, second), first, second


def ask(**changes: Any) -> RecommendRequest:
    return RecommendRequest(**{"history": ("sku-1",), "k": 3, **changes})


def at(seconds: float = SOON_S) -> float:
    return time.monotonic() + seconds


async def test_the_answer_is_the_best_of_the_second_stages_order() -> None:
    """Ten candidates are asked for, three are returned, and what is parallel to an item stays with it."""
    both, first, second = two_stages()

    answer, _ = await both.submit(ask(explain=True, fields=("title",)), at())

    assert first.seen[0].k == 10
    assert answer.item_ids == ("sku-1-r10", "sku-1-r9", "sku-1-r8")
    assert answer.scores == (10.0, 9.0, 8.0)
    assert answer.because == (None, "sku-1", "sku-1")  # the last of the first stage's had none
    assert [dict(one)["title"] for one in answer.item_fields or ()] == [
        f"title of {one}" for one in answer.item_ids
    ]
    assert answer.ranked_by is RankedBy.RERANKER and answer.served_by is ServedBy.MODEL
    assert answer.rerank_s is not None and answer.rerank_s >= 0
    assert both.outcomes["reranked"] == 1
    assert second.seen[0][0].scores == tuple(10.0 - rank / 8 for rank in range(10))


async def test_who_does_not_want_it_gets_the_recommenders_own_order() -> None:
    """``rerank: false`` asks for nothing more, and says whose order it is."""
    both, first, second = two_stages()

    answer, _ = await both.submit(ask(rerank=False), at())

    assert answer.item_ids == ("sku-1-r1", "sku-1-r2", "sku-1-r3")
    assert first.seen[0].k == 3 and not second.seen
    assert answer.ranked_by is RankedBy.RECOMMENDER and both.outcomes["off"] == 1


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (lambda second: setattr(second, "fault", DeadlineExceeded("late", stage="queue")), "deadline"),
        (lambda second: setattr(second, "fault", EngineFault("broken")), "fault"),
        (lambda second: setattr(second, "fault", RuntimeError("a bug")), "fault"),
        (lambda second: setattr(second, "refusal", NotReady("closing")), "not_ready"),
        (lambda second: setattr(second, "refusal", ValueError("a bug")), "fault"),
        (lambda second: setattr(second, "candidates", 0), "not_ready"),
    ],
)
async def test_whatever_fails_behind_it_the_first_stages_order_is_served(
    change: Callable[[FakeReranker], None], outcome: str
) -> None:
    """Marked, counted, cut to k, and never an error."""
    both, _, second = two_stages()
    change(second)

    answer, _ = await both.submit(ask(), at())

    assert answer.item_ids == ("sku-1-r1", "sku-1-r2", "sku-1-r3")
    assert answer.scores == (10.0, 10.0 - 1 / 8, 10.0 - 2 / 8)
    assert answer.ranked_by is RankedBy.RECOMMENDER
    assert {name: count for name, count in both.outcomes.items() if count} == {outcome: 1}
    assert set(both.outcomes) == set(OUTCOMES)


async def test_an_order_that_is_none_loses_nothing() -> None:
    """A second stage that names a place twice is a fault, and the answer is the first stage's."""
    both, _, second = two_stages()
    second.held = []
    call = both.submit(ask(), at())
    await asyncio.sleep(0)
    while not second.held:
        await asyncio.sleep(0)

    second.held[0].set_result((RerankAnswer((0,) * 10, (1.0,) * 10), Timings()))
    answer, _ = await call

    assert answer.item_ids[0] == "sku-1-r1" and both.outcomes["fault"] == 1


async def test_more_items_than_are_ranked_again_follow_in_the_first_stages_order() -> None:
    """Scores go on falling, and no item is lost or there twice."""
    both, _, _ = two_stages(candidates=4)

    answer, _ = await both.submit(ask(k=7), at())

    assert answer.item_ids == tuple(f"sku-1-r{rank}" for rank in (4, 3, 2, 1, 5, 6, 7))
    assert list(answer.scores) == sorted(answer.scores, reverse=True)


async def test_an_error_of_the_first_stage_is_an_error_as_it_was() -> None:
    """The service has its own tier for that."""
    both, first, second = two_stages()
    first.fault = EngineFault("broken")

    with pytest.raises(EngineFault):
        await both.submit(ask(), at())
    assert not second.seen and not any(both.outcomes.values())


async def test_who_leaves_takes_either_stage_along() -> None:
    """Nothing is computed for nobody, in whichever stage the request is."""
    both, first, second = two_stages()
    first.hold = True
    early = both.submit(ask(), at())
    early.cancel()
    assert first.waiting[0][1].cancelled()

    first.hold, second.held = False, []
    late = both.submit(ask(), at())
    while not second.held:
        await asyncio.sleep(0)
    late.cancel()

    assert second.held[0].cancelled() and not any(both.outcomes.values())


class Stuck(RerankRunner):
    """An engine that runs until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def pack(self, items: Any) -> Any:
        return list(items)

    def run(self, packed: Any) -> Any:
        self.let_go.wait(10)
        return {LOGIT: np.zeros(sum(len(one.item_ids) for one in packed))}

    def unpack(self, packed: Any, raw: Any, items: Any) -> Any:
        return [RerankAnswer(tuple(range(len(one.item_ids))), (0.0,) * len(one.item_ids)) for one in items]


class Batched(FakeReranker):
    """A second stage with the server's own batcher."""

    def __init__(self, runner: Any, cost: CostModel) -> None:
        super().__init__()
        self.batcher: DynamicBatcher[Any, Any] = DynamicBatcher(
            "rerank", runner, BatchLimits(max_items=8, max_wait_s=0.0), cost
        )

    def submit(self, ask: RerankAsk, deadline_at_s: float) -> asyncio.Future[Any]:
        return self.batcher.submit(ask, deadline_at_s=deadline_at_s)


@asynccontextmanager
async def batched(cost: CostModel) -> AsyncIterator[tuple[RerankedRecommender, Stuck]]:
    runner = Stuck()
    second = Batched(runner, cost)
    second.batcher.start()
    try:
        yield RerankedRecommender(FakeRecommender(), second), runner
    finally:
        runner.let_go.set()
        await second.batcher.close(1.0)


async def test_a_second_stage_that_hangs_is_given_up_before_the_deadline() -> None:
    """Every request is answered with the first stage's order while there is still time to send it."""
    async with batched(CostModel(1e-4, 1e-5)) as (both, _), asyncio.timeout(5):
        deadline = at(0.08)
        answers = await asyncio.gather(*[both.submit(ask(), deadline) for _ in range(5)])
        arrived_s = time.monotonic()

    assert [answer.item_ids[0] for answer, _ in answers] == ["sku-1-r1"] * 5
    assert both.outcomes["deadline"] == 5
    assert (
        arrived_s < deadline + 0.05
    )  # a busy machine wakes late; without the margin nobody would have been told at all


async def test_a_deadline_that_leaves_no_time_asks_for_none() -> None:
    """A second stage that takes longer than is left is not begun."""
    async with batched(CostModel(0.5, 0.1)) as (both, runner), asyncio.timeout(5):
        answer, _ = await both.submit(ask(), at(0.2))

        assert answer.ranked_by is RankedBy.RECOMMENDER and both.outcomes["deadline"] == 1
        assert not runner.let_go.is_set()


async def test_both_stages_start_and_close() -> None:
    """Engines of both are let go."""
    both, first, second = two_stages()
    await both.start()
    await both.close(0.1)

    assert second.started and second.closed and first.closed
