"""A recommender that obeys the contract and is told what to do: its answer encodes its request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from server.domain import ModelInfo, ModelRef, RecommendRequest, RecommendResponse, ServedBy

KNOWN = tuple(f"sku-{i}" for i in range(1, 101))
MODEL = ModelRef(name="shop", version="3")


def unknown_candidates(request: RecommendRequest) -> int | None:
    if request.candidates is None:
        return None
    return sum(item not in KNOWN for item in request.candidates)


@dataclass(slots=True)
class Timings:
    """As the batcher's."""

    queue_s: float = 0.001
    encode_s: float = 0.0002
    engine_s: float = 0.003
    post_s: float = 0.0001
    batch_size: int = 1


@dataclass
class Health:
    """As the pipelines'."""

    ready: bool = True
    why: str = ""
    golden_ok: bool = True
    last_progress_s: float = field(default_factory=time.monotonic)


class FakeRecommender:
    """Answers k items named after the newest history item; ``hold`` keeps requests until ``release``.

    Attributes:
        waiting: futures that are held.
        fault: raised by ``submit``'s future instead of an answer.
        arrived: set when a request is held.
    """

    def __init__(self) -> None:
        self.hold = False
        self.fault: Exception | None = None
        self.waiting: list[tuple[RecommendRequest, asyncio.Future[Any]]] = []
        self.seen: list[RecommendRequest] = []
        self.deadlines_s: list[float] = []
        self.arrived: asyncio.Event | None = None
        self.health_now = Health()
        self.closed = False
        self.reload_failures = {"unreadable": 0, "refused": 0}
        self.extras: Callable[[RecommendRequest, RecommendResponse], None] | None = None
        self._info = ModelInfo(
            name="shop",
            version="3",
            task="recommendation",
            engine="echo",
            precision="fp32",
            items=len(KNOWN),
            limits={"max_k": 100, "max_history": 50, "max_batch": 64},
            created_unix_s=1.7e9,
            sample_ids=KNOWN[:3],
            ready=True,
            item_fields=("title", "price", "brand"),
        )

    async def start(self) -> None:
        self.arrived = asyncio.Event()

    async def check_for_new_version(self) -> bool:
        return False

    async def close(self, drain_s: float) -> None:
        self.closed = True

    def submit(self, request: RecommendRequest, deadline_at_s: float) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.seen.append(request)
        self.deadlines_s.append(deadline_at_s - time.monotonic())
        if self.fault is not None:
            future.set_exception(self.fault)
        elif self.hold:
            self.waiting.append((request, future))
            if self.arrived is not None:
                self.arrived.set()
        else:
            future.set_result((self.answer(request), Timings()))
        return future

    def release(self) -> None:
        """Answer all that is held."""
        waiting, self.waiting = self.waiting, []
        for request, future in waiting:
            if not future.done():
                future.set_result((self.answer(request), Timings()))

    def answer(self, request: RecommendRequest) -> RecommendResponse:
        """k items: ``<newest>-r<rank>``."""
        newest = request.history[-1]
        known = set(KNOWN)
        ids = tuple(f"{newest}-r{rank}" for rank in range(1, request.k + 1))
        answer = RecommendResponse(
            item_ids=ids,
            scores=tuple(10.0 - rank / 8 for rank in range(len(ids))),
            served_by=ServedBy.MODEL,
            model=MODEL,
            unknown_items=sum(item not in known for item in request.history),
            unknown_candidates=unknown_candidates(request),
        )
        if request.explain:
            answer.reasons = tuple(f"because of {newest}" for _ in ids)
            answer.because = (newest,) * (len(ids) - 1) + (None,)
        if request.fields:
            answer.item_fields = tuple({name: f"{name} of {item}" for name in request.fields} for item in ids)
        return answer

    def fallback(self, request: RecommendRequest, reason: str) -> RecommendResponse:
        ids = tuple(f"popular-{rank}" for rank in range(1, request.k + 1))
        return RecommendResponse(
            item_ids=ids,
            scores=tuple(1.0 / rank for rank in range(1, len(ids) + 1)),
            served_by=ServedBy.FALLBACK,
            model=MODEL,
            unknown_items=len(request.history),
            unknown_candidates=unknown_candidates(request),
            fallback_reason=reason,
        )

    def is_cold(self, request: RecommendRequest) -> bool:
        return not any(item in KNOWN for item in request.history)

    def info(self) -> ModelInfo:
        return self._info

    def tensors(self) -> None:
        return None

    def health(self) -> Health:
        return self.health_now
