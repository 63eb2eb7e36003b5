"""A recommender whose best candidates are ranked again: one request, two engines, one deadline.

    first stage (top n) -> features -> re-ranker -> top k

The decision not to undo: the second stage can only ever improve an answer, never lose one. Whatever goes wrong with it (no time
left, a fault, no version), the first stage's order is served, marked and counted. Its deadline is a little before the request's, so
that a re-ranker that hangs is given up while there is still time to answer; a first stage that fails, fails as it did without.

All of it is for the event-loop thread. Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from server.domain import ModelInfo, RankedBy, RecommendRequest, RecommendResponse, ServedBy
from server.errors import DeadlineExceeded, NotReady
from server.pipelines.rerank import RerankAnswer, RerankAsk
from server.recommender import EngineHealth, Outcome, Recommender
from server.tensor_domain import TensorAnswer, TensorContract, TensorQuery

log = logging.getLogger("vitrine.rerank")

MARGIN_S = 0.003  # given up this much before the request's deadline: the service answers what is overdue 1 ms before it
# What became of a request's second stage; the label values of ``vitrine_rerank``.
RERANKED, OFF, DEADLINE, FAULT, NOT_READY, NOTHING = (
    "reranked",
    "off",
    "deadline",
    "fault",
    "not_ready",
    "nothing_to_rank",
)
OUTCOMES = (RERANKED, OFF, DEADLINE, FAULT, NOT_READY, NOTHING)


class FirstStage(Recommender, Protocol):
    """A recommender with a life of its own.

    Attributes:
        reload_failures: versions that were not taken up, by reason.
    """

    reload_failures: dict[str, int]

    async def start(self) -> None:
        """Begin."""
        ...

    async def close(self, drain_s: float) -> None:
        """End."""
        ...

    async def check_for_new_version(self) -> bool:
        """Take up the current version if it is another one."""
        ...


class SecondStage(Protocol):
    """What ranks again; ``LiveReranker``.

    Attributes:
        candidates: items that it ranks in one request; 0: it cannot now.
    """

    @property
    def candidates(self) -> int:
        """See above."""
        ...

    def submit(self, ask: RerankAsk, deadline_at_s: float) -> asyncio.Future[Any]:
        """Rank one list: a ``RerankAnswer`` and its timings."""
        ...

    async def start(self) -> None:
        """Begin."""
        ...

    async def close(self, drain_s: float) -> None:
        """End."""
        ...


class RerankedRecommender:
    """A ``LiveModel`` of two stages.

    Args:
        first: the recommender.
        second: the re-ranker.
        clock: monotonic; the one that deadlines are on.

    Attributes:
        reload_failures: the first stage's; the second's are its own.
        outcomes: what became of second stages, by ``OUTCOMES``.
    """

    def __init__(
        self, first: FirstStage, second: SecondStage, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.first, self.second = first, second
        self.reload_failures = first.reload_failures
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self._clock = clock

    async def start(self) -> None:
        """Start both."""
        await self.second.start()
        await self.first.start()

    async def close(self, drain_s: float) -> None:
        """Close the first stage, then the second, whose work comes from it."""
        began_s = self._clock()
        await self.first.close(drain_s)
        await self.second.close(max(0.0, drain_s - (self._clock() - began_s)))

    def submit(self, request: RecommendRequest | TensorQuery, deadline_at_s: float) -> Outcome:
        """Ask the first stage for candidates, and rank them again; see ``Recommender.submit``.

        Who asks by tensors asks the first stage's engine, and gets what it computes.
        """
        if isinstance(request, TensorQuery):
            return self.first.submit(request, deadline_at_s)
        count = self.second.candidates
        wanted = request
        if request.rerank and count:
            most = int(self.first.info().limits["max_k"])
            wanted = replace(request, k=min(max(count, request.k), most))
        call = _TwoStages(self, request, deadline_at_s, count)
        call.follow(self.first.submit(wanted, deadline_at_s))
        return call

    def fallback(self, request: RecommendRequest, reason: str) -> RecommendResponse:
        """The first stage's."""
        return self.first.fallback(request, reason)

    def is_cold(self, request: RecommendRequest) -> bool:
        """As the first stage sees it."""
        return self.first.is_cold(request)

    def info(self) -> ModelInfo:
        """The recommender: a re-ranker is listed by itself."""
        return self.first.info()

    def tensors(self) -> TensorContract | None:
        """The first stage's."""
        return self.first.tensors()

    async def check_for_new_version(self) -> bool:
        """Of the recommender; the re-ranker looks by itself."""
        return await self.first.check_for_new_version()

    def health(self) -> EngineHealth:
        """The first stage's: without the second, answers go on."""
        return self.first.health()

    def now_s(self) -> float:
        """On the clock of deadlines."""
        return self._clock()


class _TwoStages(asyncio.Future[tuple[RecommendResponse | TensorAnswer, Any]]):
    """The caller's future; whichever stage is at work is let go when the caller leaves."""

    def __init__(
        self, owner: RerankedRecommender, request: RecommendRequest, deadline_at_s: float, count: int
    ) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._owner, self._request, self._deadline_at_s, self._count = owner, request, deadline_at_s, count
        self._stage: asyncio.Future[Any] | None = None
        self._answer: RecommendResponse | None = None
        self._timings: Any = None
        self._began_s = 0.0

    def follow(self, first: Outcome) -> None:
        """Go on when the first stage is done."""
        self._stage = first
        first.add_done_callback(self._first_done)

    def cancel(self, msg: Any | None = None) -> bool:
        """Leave, or give up with ``OVERDUE``."""
        if not super().cancel(msg):
            return False
        stage, self._stage = self._stage, None
        if stage is not None and not stage.done():
            stage.cancel(msg)
        return True

    def _first_done(self, first: Outcome) -> None:
        if self.done():
            if not first.cancelled():
                first.exception()  # looked at, or asyncio logs that nobody did
            return
        if first.cancelled():
            self.set_exception(NotReady("the request was dropped because the model is closing"))
            return
        error = first.exception()
        if error is not None:
            self.set_exception(error)
            return
        answer, self._timings = first.result()
        assert isinstance(answer, RecommendResponse)  # what was asked was no tensors
        self._answer = answer
        if not self._request.rerank:
            self._finish(OFF)
        elif self._answer.served_by is not ServedBy.MODEL or len(self._answer.item_ids) < 2:
            self._finish(NOTHING)
        elif not self._count:
            self._finish(NOT_READY)
        else:
            self._rank(self._answer)

    def _rank(self, answer: RecommendResponse) -> None:
        self._began_s = self._owner.now_s()
        count = self._count
        ask = RerankAsk(self._request.history, answer.item_ids[:count], answer.scores[:count])
        try:
            second = self._owner.second.submit(ask, self._deadline_at_s - MARGIN_S)
        except Exception as error:
            self._finish(_reason(error))
            return
        self._stage = second
        second.add_done_callback(self._second_done)

    def _second_done(self, second: asyncio.Future[Any]) -> None:
        if self.done():
            if not second.cancelled():
                second.exception()
            return
        if second.cancelled():
            self._finish(NOT_READY)
            return
        failed = second.exception()
        if failed is not None:
            self._finish(_reason(failed))
            return
        ranked, _ = second.result()
        try:
            self._reorder(ranked)
        except Exception as error:  # an order that is none: the answer there is must not be lost to it
            self._finish(_reason(error))
            return
        self._finish(RERANKED)

    def _reorder(self, ranked: RerankAnswer) -> None:
        answer = self._answer
        assert answer is not None, "the first stage is done"
        order, logits = list(ranked.order), list(ranked.logits)
        if sorted(order) != list(range(min(self._count, len(answer.item_ids)))):
            raise ValueError(f"{len(order)} places for {len(answer.item_ids)} candidates")
        tail = range(len(order), len(answer.item_ids))
        if tail:  # more were asked for than are ranked again: they follow, with scores that go on falling
            top = answer.scores[tail[0]]
            logits += [logits[-1] - (top - answer.scores[at]) for at in tail]
            order += tail
        self._answer = _cut(answer, order, logits, self._request.k)

    def _finish(self, outcome: str) -> None:
        answer = self._answer
        assert answer is not None, "the first stage is done"
        owner = self._owner
        owner.outcomes[outcome] += 1
        if outcome != RERANKED:
            kept = range(min(self._request.k, len(answer.item_ids)))
            if len(kept) < len(answer.item_ids):
                answer = _cut(answer, kept, answer.scores, self._request.k)
        answer.ranked_by = RankedBy.RERANKER if outcome == RERANKED else RankedBy.RECOMMENDER
        answer.rerank_s = owner.now_s() - self._began_s if self._began_s else 0.0
        self._stage = None
        self.set_result((answer, self._timings))


def _cut(
    answer: RecommendResponse, order: Sequence[int], scores: Sequence[float], k: int
) -> RecommendResponse:
    """The answer in another order, at most ``k`` of it; all that is parallel follows."""
    kept = list(order)[:k]

    def pick(values: Any) -> Any:
        return None if values is None else tuple(values[at] for at in kept)

    return replace(
        answer,
        item_ids=pick(answer.item_ids),
        scores=tuple(scores[: len(kept)]),
        reasons=pick(answer.reasons),
        because=pick(answer.because),
        item_fields=pick(answer.item_fields),
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, DeadlineExceeded):
        return DEADLINE
    if isinstance(error, NotReady):
        return NOT_READY
    log.error("re-ranking failed; the first stage's order is served", exc_info=error)
    return FAULT
