"""A batcher in a world where time passes when told, with an engine that answers ``item * 10`` when it is let.

The clock is injected into the event loop too, so timers ring when the test says so: no test sleeps.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from server.batching.cost import CostModel
from server.batching.dynamic import BatchTimings, DynamicBatcher
from server.batching.policy import BatchLimits
from server.errors import InvalidRequest, ServeError

PATIENCE_S = 5.0  # of the tests; never reached when the code is right
Answer = asyncio.Future[tuple[int, BatchTimings]]


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.broken = False

    def __call__(self) -> float:
        if self.broken and threading.current_thread() is not threading.main_thread():
            raise RuntimeError("no clock on this thread")
        return self.now


class Loop(asyncio.SelectorEventLoop):
    """A loop whose timers follow the injected clock."""

    clock: Clock

    def time(self) -> float:
        return self.clock.now


class Engine:
    """Answers ``item * 10`` for each item, once per permit; keeps the batches it packed and ran."""

    def __init__(self, *, free: bool = False, factor: int = 10) -> None:
        self.factor = factor
        self.free = free
        self.permits = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.inside: list[int] | None = None
        self.packed: list[list[int]] = []
        self.ran: list[list[int]] = []
        self.packed_at_unpack: list[int] = []
        self.faults: dict[str, BaseException] = {}
        self.bad_items: set[int] = set()
        self.on_pack: Callable[[Sequence[int]], None] = lambda items: None

    def pack(self, items: Sequence[int]) -> list[int]:
        self.on_pack(items)
        self.packed.append(list(items))
        if fault := self.faults.pop("pack", None):
            raise fault
        return list(items)

    def run(self, packed: list[int]) -> list[int]:
        self.ran.append(packed)
        self.inside = packed
        self.entered.release()
        if not self.free:
            assert self.permits.acquire(timeout=PATIENCE_S)
        self.inside = None
        if fault := self.faults.pop("run", None):
            raise fault
        return [item * self.factor for item in packed]

    def unpack(self, packed: list[int], raw: list[int], items: Sequence[int]) -> list[int | ServeError]:
        self.packed_at_unpack.append(len(self.packed))
        if fault := self.faults.pop("unpack", None):
            raise fault
        if self.faults.pop("short", None):
            return []
        return [
            InvalidRequest("bad item") if item in self.bad_items else raw[i] for i, item in enumerate(items)
        ]


class Counter:
    """An observer that remembers, and fails after every report."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def batch_done(
        self, *, size: int, reason: str, engine_s: float, queue_waits_s: Sequence[float], now_s: float
    ) -> None:
        self.seen.append((size, reason, len(queue_waits_s)))
        raise RuntimeError("telemetry is broken")

    def cancelled(self, stage: str) -> None:
        self.seen.append(("cancelled", stage))
        raise RuntimeError("telemetry is broken")

    def deadline_missed(self, stage: str) -> None:
        self.seen.append(("missed", stage))
        raise RuntimeError("telemetry is broken")

    def queue_depth(self, n: int) -> None:
        raise RuntimeError("telemetry is broken")


class World:
    """One batcher with its clock and engine; a batch of n takes 10 ms + n ms, four fit."""

    def __init__(self, engine: Engine | None = None, *, max_items: int = 4, max_wait_s: float = 0.0) -> None:
        self.clock = Clock()
        self.engine = engine or Engine()
        self.counter = Counter()
        self.limits = BatchLimits(max_items=max_items, max_wait_s=max_wait_s)
        self.batcher: DynamicBatcher[int, int] = DynamicBatcher(
            "rec", self.engine, self.limits, CostModel(0.010, 0.001), clock=self.clock, observer=self.counter
        )

    def submit(self, item: int, within_s: float = 1.0) -> Answer:
        return self.batcher.submit(item, deadline_at_s=self.clock.now + within_s)

    async def turn(self) -> None:
        """Let the loop do what it has to do by now."""
        for _ in range(4):
            await asyncio.sleep(0)

    async def until(self, true: Callable[[], bool]) -> None:
        limit = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < limit, "waited in vain"
            await asyncio.sleep(0)

    async def entered(self) -> None:
        await self.until(lambda: self.engine.entered.acquire(blocking=False))

    async def advance(self, seconds: float) -> None:
        self.clock.now += seconds
        await self.turn()


def play(world: World, scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scene on a loop that lives on the world's clock, and close the batcher whatever happened."""

    def loop() -> Loop:
        made = Loop()
        made.clock = world.clock
        return made

    async def whole() -> None:
        world.batcher.start()
        try:
            await scene()
        finally:
            world.engine.free = True
            world.engine.permits.release(100)
            await world.batcher.close(10.0)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(whole())


def values(answers: Sequence[Answer]) -> list[Any]:
    """What each call ended with: its answer, or the class of its error."""
    assert all(answer.done() for answer in answers)
    out: list[Any] = []
    for answer in answers:
        if answer.cancelled():
            out.append(asyncio.CancelledError)
        elif error := answer.exception():
            out.append(type(error))
        else:
            out.append(answer.result()[0])
    return out
