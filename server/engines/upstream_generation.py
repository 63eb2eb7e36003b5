"""One text that is written elsewhere: the race for its first token, its events, and its one end.

Units: seconds on the monotonic clock; tokens are the other server's.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from server.engines.upstream_server import Opened, UpstreamServer
from server.engines.upstream_wire import Piece, ask
from server.errors import (
    DeadlineExceeded,
    EngineFault,
    InvalidRequest,
    NotReady,
    Overloaded,
    ServeError,
    UpstreamFault,
)
from server.text_domain import Chunk, Failed, Finished, FinishReason, GenerateRequest, Usage
from server.text_generator import Sink
from server.text_telemetry import StepReport

if TYPE_CHECKING:
    from server.engines.upstream import UpstreamText

log = logging.getLogger("vitrine.upstream")

BACKOFF_S = 0.05  # before a server is asked again; doubles


class UpstreamGeneration:
    """One text: its task, its outcome, told once."""

    def __init__(self, owner: UpstreamText, request: GenerateRequest, path: str, sink: Sink) -> None:
        self._owner = owner
        self._request = request
        self._path = path
        self._sink: Sink | None = sink
        self._arrived_s = owner.clock() if request.arrived_at_s is None else request.arrived_at_s
        self._first_s = math.nan
        self._last_s = math.nan
        self._tokens = 0
        self._usage: Usage | None = None
        self.task = asyncio.create_task(self._run(), name="upstream text")

    def cancel(self) -> None:
        """The reader left: nothing more is told."""
        if self._sink is not None:
            self._leave("cancelled")

    def end(self, error: ServeError) -> None:
        """End it with an error, unless it has ended."""
        sink = self._leave(error.code.value)
        if sink is not None:
            sink(Failed(error, self._used()))

    def _leave(self, outcome: str) -> Sink | None:
        sink, self._sink = self._sink, None
        if sink is not None:
            took_s = self._owner.clock() - self._arrived_s
            self._owner.recorder.text_ended(outcome, total_s=took_s, output_tokens=self._tokens)
            if asyncio.current_task() is not self.task:
                self.task.cancel()
        return sink

    async def _run(self) -> None:
        request, now_s = self._request, self._arrived_s
        try:
            async with asyncio.timeout(_left(request.deadline_at_s - now_s)):
                first_by_s = min(request.first_token_at_s, request.deadline_at_s)
                async with asyncio.timeout(_left(first_by_s - now_s)):
                    opened = await self._open()
                try:
                    await self._read(opened)
                finally:
                    await opened.aclose()
        except TimeoutError:
            stage = "queue" if math.isnan(self._first_s) else "engine"
            self.end(
                DeadlineExceeded(
                    "the upstream server did not write the text in time; ask with a longer deadline_ms",
                    stage=stage,
                )
            )
        except ServeError as error:
            self.end(error)
        except Exception as error:
            log.error("upstream text failed", exc_info=error)
            self.end(EngineFault("the upstream text failed; the log says more"))

    async def _open(self) -> Opened:
        """Race attempts until one has a first token."""
        owner = self._owner
        running: set[asyncio.Task[Opened]] = set()
        tried: list[UpstreamServer] = []
        left, hedged, last = owner.retries, False, None
        won: asyncio.Task[Opened] | None = None
        try:
            while True:
                if not running:
                    server = owner.choose(tried)
                    if server is None:
                        raise last or NotReady(
                            "no upstream server works", retry_after_s=owner.retry_after_s()
                        )
                    running.add(self._attempt(server, tried))
                may_hedge = owner.hedge_s > 0 and not hedged
                done, running = await asyncio.wait(
                    running, timeout=owner.hedge_s if may_hedge else None, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    hedged = True
                    server = owner.choose(tried)
                    if server is not None:
                        running.add(self._attempt(server, tried))
                    continue
                for task in done:
                    error = task.exception()
                    if error is None:
                        won = won or task
                        continue
                    if isinstance(error, InvalidRequest) or not isinstance(error, ServeError):
                        raise error
                    last = error
                if won is not None:
                    running |= done - {won}
                    return won.result()
                if not running:
                    assert last is not None
                    full = isinstance(last, Overloaded) and owner.all_tried(tried)
                    if left == 0 or full:  # who is full and asked again at once is only fuller
                        raise last
                    left -= 1
                    await asyncio.sleep(BACKOFF_S * 2 ** (owner.retries - left - 1))
        finally:
            await _drop(running - {won} if won else running)

    def _attempt(self, server: UpstreamServer, tried: list[UpstreamServer]) -> asyncio.Task[Opened]:
        tried.append(server)
        request, context = self._request, self._owner.info().max_context
        left_s = min(request.deadline_at_s - self._owner.clock(), 3600.0)
        return asyncio.create_task(
            server.open(self._path, lambda model: ask(request, model, context)[1], left_s)
        )

    async def _read(self, opened: Opened) -> None:
        reason, done = self._tell(opened.first)
        if not done:
            async for pieces in opened.rest:
                said, done = self._tell(pieces)
                reason = said or reason
                if done or self._sink is None:
                    break
        if reason is None:
            raise UpstreamFault("the upstream server ended the stream within the text")
        self._finish(reason)

    def _tell(self, pieces: Sequence[Piece]) -> tuple[FinishReason | None, bool]:
        reason, done = None, False
        for piece in pieces:
            reason = piece.reason or reason
            self._usage = piece.usage or self._usage
            done = done or piece.done
            if piece.text and self._sink is not None:
                self._count()
                self._sink(Chunk(piece.text, ()))
        return reason, done

    def _count(self) -> None:
        now_s = self._owner.clock()
        first = math.isnan(self._first_s)
        firsts = (now_s - self._arrived_s,) if first else ()
        inters = () if first else (now_s - self._last_s,)
        self._first_s = now_s if first else self._first_s
        self._last_s = self._owner.progress_s = now_s
        self._tokens += 1
        self._owner.recorder.step_done(_report(1, 0, 0, firsts, inters))

    def _finish(self, reason: FinishReason) -> None:
        used = self._used()
        more = max(0, used.completion_tokens - self._tokens)  # where one event holds several tokens
        self._tokens += more
        computed = max(0, used.prompt_tokens - used.cached_tokens)
        self._owner.recorder.step_done(_report(more, computed, used.cached_tokens, (), ()))
        sink = self._leave(reason.value)
        if sink is not None:
            now_s = self._owner.clock()
            first_s = now_s if math.isnan(self._first_s) else self._first_s
            sink(
                Finished(
                    reason=reason,
                    usage=used,
                    queue_s=0.0,
                    first_token_s=first_s - self._arrived_s,
                    total_s=now_s - self._arrived_s,
                )
            )

    def _used(self) -> Usage:
        return self._usage or Usage(prompt_tokens=0, completion_tokens=self._tokens)


def _report(
    output: int, prompt: int, cached: int, firsts: tuple[float, ...], inters: tuple[float, ...]
) -> StepReport:
    return StepReport(
        seconds=0.0,
        engine_s=0.0,
        mask_s=0.0,
        schedule_s=0.0,
        calls=0,
        prompt_tokens=prompt,
        cached_tokens=cached,
        output_tokens=output,
        prefix_asked=prompt + cached,
        prefix_hit=cached,
        preemptions=0,
        slots_in_use=0,
        waiting=0,
        first_tokens_s=firsts,
        inter_tokens_s=inters,
    )


def _left(seconds: float) -> float | None:
    return None if math.isinf(seconds) else max(0.0, seconds)


async def _drop(attempts: set[asyncio.Task[Opened]]) -> None:
    """Let attempts go that nobody waits for any more, also those that have just been won by another."""
    for task in attempts:
        task.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, Opened):
            await result.aclose()
