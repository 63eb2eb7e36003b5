"""A continuous batcher over the simulated engine, with a plain sampler, and readers that remember."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import numpy as np
from batching_world import PATIENCE_S, Clock, Loop
from causal_world import EOS, VOCAB, SimulatedEngine, text_of

from server.batching.continuous import ContinuousBatcher, TextLimits, TextModel
from server.batching.token_cost import TokenCosts
from server.errors import InvalidRequest
from server.sampling.base import Mask, RowSampler, Sampled
from server.text_domain import (
    Chunk,
    Constraint,
    ConstraintKind,
    Failed,
    Finished,
    GenerateRequest,
    TextEvent,
    TextModelInfo,
    TokenLogprob,
)


class Greedy:
    """Chooses the largest logit, or the first allowed token of a masked row."""

    def __init__(self) -> None:
        self.prepared = 0
        self.prepare_fault: BaseException | None = None
        self.sample_fault: BaseException | None = None
        self.opened = 0

    def open(self, request: GenerateRequest, mask: Mask | None) -> RowSampler:
        self.opened += 1
        if request.sampling.temperature < 0:
            raise InvalidRequest("temperature must be >= 0", field="temperature")
        return RowSampler(request, mask)

    def prepare(self, rows: Sequence[RowSampler]) -> None:
        assert all(row.mask is not None for row in rows)
        self.prepared += len(rows)
        fault, self.prepare_fault = self.prepare_fault, None
        if fault is not None:
            raise fault

    def sample(self, logits_BV: np.ndarray, rows: Sequence[RowSampler]) -> Sampled:
        fault, self.sample_fault = self.sample_fault, None
        if fault is not None:
            raise fault
        assert len(logits_BV) == len(rows)
        bad = ~np.isfinite(logits_BV).all(axis=1)
        tokens = np.where(bad, 0, logits_BV.argmax(axis=1)).astype(np.int64)
        told: list[TokenLogprob | None] = []
        for i, row in enumerate(rows):
            if row.mask is not None:
                tokens[i] = row.mask.token  # type: ignore[attr-defined]
                row.mask.accept(int(tokens[i]))
            wanted = row.request.sampling.top_logprobs is not None
            told.append(TokenLogprob(int(tokens[i]), -0.5) if wanted else None)
        return Sampled(tokens, told, bad)


class Only:
    """Allows one token, so many times."""

    refused = None

    def __init__(self, token: int, times: int) -> None:
        self.token, self.left = token, times

    def fill(self, allowed_V: np.ndarray) -> None:
        raise AssertionError("the plain sampler asks for nothing")

    def accept(self, token_id: int) -> None:
        self.left -= 1

    def done(self) -> bool:
        return self.left <= 0


class Compiler:
    """Reads ``"token times"``; waits for its gate, and refuses what is not numbers."""

    def __init__(self) -> None:
        import threading

        self.gate = threading.Event()
        self.gate.set()

    def compile(self, request: GenerateRequest) -> Mask | None:
        assert request.constraint is not None
        assert self.gate.wait(20)
        if request.constraint.text == "bug":
            raise KeyError("a bug")
        try:
            token, times = map(int, request.constraint.text.split())
        except ValueError:
            raise InvalidRequest("the constraint does not compile", field="response_format") from None
        return Only(token, times)


class Writer:
    """Letters for tokens (``chr(33 + token)``); holds the last one back while it could begin a stop string."""

    def __init__(self, request: GenerateRequest) -> None:
        self._stops = request.stop
        self._held: list[int] = []
        self._text = ""
        self._shown = 0
        self.stopped: str | None = None
        self.fault: Exception | None = None

    def push(self, token_id: int, logprob: TokenLogprob | None) -> Chunk | None:
        if self.fault is not None:
            raise self.fault
        self._text += chr(33 + token_id)
        self._held.append(token_id)
        for stop in self._stops:
            at = self._text.find(stop)
            if at >= 0:
                self.stopped = stop
                return self._show(at)
        if any(self._text.endswith(stop[:n]) for stop in self._stops for n in range(1, len(stop))):
            return None
        return self._show(len(self._text), logprob)

    def finish(self) -> Chunk | None:
        return self._show(len(self._text)) if self._held else None

    def _show(self, end: int, logprob: TokenLogprob | None = None) -> Chunk:
        text, self._shown = self._text[self._shown : end], end
        tokens, self._held = tuple(self._held), []
        return Chunk(text, tokens, () if logprob is None else (logprob,))


class Codec:
    vocab_size = VOCAB
    eos_ids = frozenset({EOS})
    longest_token_bytes = 1


class Reader:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[TextEvent] = []
        self.on_event: Callable[[TextEvent], None] = lambda event: None
        self.generation: Any = None

    def __call__(self, event: TextEvent) -> None:
        assert self.end is None, "told something after the end"
        self.events.append(event)
        self.on_event(event)

    @property
    def end(self) -> Finished | Failed | None:
        last = self.events[-1] if self.events else None
        return last if isinstance(last, Finished | Failed) else None

    @property
    def tokens(self) -> list[int]:
        return [token for event in self.events if isinstance(event, Chunk) for token in event.token_ids]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Chunk))

    @property
    def error(self) -> Exception:
        assert isinstance(self.end, Failed), self.events[-1:]
        return self.end.error

    @property
    def finished(self) -> Finished:
        assert isinstance(self.end, Finished), self.events[-1:]
        return self.end


class Recorder:
    """Counts, and fails after every report."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.refusals: list[str] = []
        self.steps: list[Any] = []

    def step_done(self, report: Any) -> None:
        self.steps.append(report)
        raise RuntimeError("telemetry is broken")

    def text_refused(self, reason: str) -> None:
        self.refusals.append(reason)
        raise RuntimeError("telemetry is broken")

    def text_ended(self, outcome: str, *, total_s: float, output_tokens: int) -> None:
        self.ends.append(outcome)
        raise RuntimeError("telemetry is broken")


class FixedCosts(TokenCosts):
    """Learns nothing: no time passes in these tests."""

    def observe(self, capacity: int, rows: int, width: int, elapsed_s: float, *, light: bool = False) -> None:
        pass


def model_of(engine: SimulatedEngine, version: str = "1") -> TextModel:
    info = TextModelInfo(
        name="writer",
        version=version,
        engine="simulated",
        precision="none",
        vocab_size=VOCAB,
        max_context=engine.limits.max_context,
    )
    return TextModel(
        engine=engine,
        costs=FixedCosts(engine.limits.pools),
        sampler=Greedy(),
        compiler=Compiler(),
        codec=Codec(),
        writer=Writer,
        info=info,  # type: ignore[arg-type]
    )


class World:
    """One batcher with its engine; time passes when told."""

    def __init__(
        self, pools: Mapping[int, int] | None = None, limits: TextLimits | None = None, max_chunk: int = 8
    ) -> None:
        self.clock = Clock()
        self.engine = SimulatedEngine(pools or {64: 4}, max_chunk=max_chunk)
        self.model = model_of(self.engine)
        self.recorder = Recorder()
        self.batcher = ContinuousBatcher(
            self.model, limits or TextLimits(), clock=self.clock, recorder=self.recorder
        )

    def ask(self, prompt: Sequence[int], max_tokens: int = 8, **more: Any) -> Reader:
        reader = Reader()
        more.setdefault("ignore_eos", True)
        request = GenerateRequest(prompt_ids=tuple(prompt), max_tokens=max_tokens, **more)
        reader.generation = self.batcher.submit(request, reader)
        assert not reader.events, "told before submit returned"
        return reader

    async def until(self, true: Callable[[], bool]) -> None:
        limit = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < limit, "waited in vain"
            await asyncio.sleep(0)

    async def ended(self, *readers: Reader) -> None:
        await self.until(lambda: all(reader.end is not None for reader in readers))

    async def inside(self) -> None:
        """Until the engine is in a call (it must be held)."""
        await self.until(lambda: self.engine.inside)

    async def advance(self, seconds: float) -> None:
        self.clock.now += seconds
        for _ in range(4):
            await asyncio.sleep(0)


def constraint(text: str) -> Constraint:
    return Constraint(kind=ConstraintKind.REGEX, text=text)


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
            world.engine.hold.set()
            await world.batcher.close(10.0)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(whole())


__all__ = ["EOS", "Reader", "World", "constraint", "model_of", "play", "text_of"]
