"""A token batcher in a world where time passes when told, with an engine whose vectors say which text they are of.

The first token of a text is its number; its vector is ``[number, tokens, version]`` and its logits ``[number * 10]``, so that
an answer on the wrong caller is visible.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import numpy.typing as npt

from server.batching.cost import CostModel
from server.batching.token_batch import EncodeCall, Text, TokenModel
from server.batching.token_batcher import TokenBatcher, TokenLimits
from server.batching.token_batches import TokenBudget
from server.engines.encoder import EncoderOutput
from tests.server.batching_world import PATIENCE_S, Clock, Loop


class Engine:
    """Encodes when it is let; keeps what it ran."""

    kind = "fake"
    dim = 3
    intents = 1

    def __init__(self, version: int = 1, *, free: bool = False) -> None:
        self.version = version
        self.free = free
        self.permits = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.inside: list[int] | None = None
        self.ran: list[list[int]] = []
        self.padded: list[int] = []
        self.faults: dict[str, Any] = {}
        self.closed = False

    def run(self, input_ids_BT: npt.NDArray[np.int64], lengths_B: npt.NDArray[np.int64]) -> EncoderOutput:
        numbers = input_ids_BT[:, 0]
        self.ran.append(numbers.tolist())
        self.padded.append(input_ids_BT.size)
        self.inside = self.ran[-1]
        self.entered.release()
        if not self.free:
            assert self.permits.acquire(timeout=PATIENCE_S)
        self.inside = None
        if fault := self.faults.pop("run", None):
            raise fault
        vectors = np.stack([numbers, lengths_B, np.full_like(numbers, self.version)], axis=1).astype(
            np.float32
        )
        logits = (numbers[:, None] * 10).astype(np.float32)
        if self.faults.pop("shape", None):
            return EncoderOutput(vectors[:, :2], logits)
        if self.faults.pop("no logits", None):
            return EncoderOutput(vectors, None)
        bad = self.faults.get("nan", set())
        vectors[[number in bad for number in numbers.tolist()]] = np.nan
        return EncoderOutput(vectors, logits)

    def close(self) -> None:
        self.closed = True


def model_of(engine: Engine, *, live_tokens: int = 40, bulk_tokens: int = 20) -> TokenModel:
    """A batch takes 10 ms and 1 ms a token."""
    budget = TokenBudget(live_tokens=live_tokens, bulk_tokens=bulk_tokens)
    return TokenModel(engine=engine, cost=CostModel(0.010, 0.001), budget=budget)


class Counter:
    """A recorder that remembers, and fails after every report."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, report: str) -> Callable[..., None]:
        def tell(*args: Any, **fields: Any) -> None:
            self.seen.append((report, {**fields, "args": args}))
            raise RuntimeError("telemetry is broken")

        return tell


class World:
    """One batcher with its clock and engine."""

    def __init__(self, engine: Engine | None = None, limits: TokenLimits | None = None) -> None:
        self.clock = Clock()
        self.engine = engine or Engine()
        self.model = model_of(self.engine)
        self.counter = Counter()
        self.batcher = TokenBatcher("encoder", limits, clock=self.clock, recorder=self.counter)
        self.numbers = 0

    def texts(self, *lengths: int) -> list[Text]:
        made = []
        for length in lengths:
            self.numbers += 1
            made.append(np.array([self.numbers] + [0] * (length - 1), np.int64))
        return made

    def submit(
        self,
        *lengths: int,
        within_s: float | None = None,
        bulk: bool = False,
        model: TokenModel | None = None,
    ) -> EncodeCall:
        deadline_s = None if within_s is None else self.clock.now + within_s
        return self.batcher.submit(
            self.texts(*lengths), model or self.model, deadline_s=deadline_s, bulk=bulk
        )

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

    async def finish(self, engine: Engine | None = None) -> None:
        """Let the running batch end, and what follows from it happen."""
        engine = engine or self.engine
        await self.until(lambda: engine.inside is not None)
        batch = engine.inside
        engine.permits.release()
        await self.until(lambda: engine.inside is not batch)
        await self.turn()

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


def right(call: EncodeCall, version: int = 1) -> bool:
    """Whether a call has the vectors of its own texts, in their order."""
    answer = call.result()
    wanted = [[float(text[0]), float(len(text)), float(version)] for text in call.texts]
    logits = None if answer.logits_NC is None else answer.logits_NC.tolist()
    return answer.vectors_ND.tolist() == wanted and logits == [[row[0] * 10] for row in wanted]
