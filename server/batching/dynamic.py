"""The thin driver of dynamic batching: it owns the clock, the futures and one engine thread.

What to run is asked of ``policy.py``, when to pack it of ``lane.py``; how a call ends is in ``outcomes.py``.

**Every admitted request ends exactly once**: a call is in the queue, in a packed or in the running batch;
whatever happens to those ends in ``outcomes.py``, in a ``finally``; and a timer at the earliest
deadline holds even when the engine hangs.

Units: seconds on the injected clock; only timer delays use the loop's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic

from server.batching.alarm import Alarm
from server.batching.conditions import Conditions
from server.batching.cost import CostModel
from server.batching.engine_thread import Batch, EngineThread
from server.batching.lane import Lane
from server.batching.outcomes import Outcomes
from server.batching.policy import BatchLimits, Moment, Reason, decide, finish_s, late_count
from server.batching.runner import BatchRunner, BatchTimings, In, Out
from server.batching.waiting import OVERDUE, Call, Waiting
from server.errors import NotReady, ServeError
from server.telemetry_interface import BatchRecorder, NullBatchRecorder

__all__ = ["BatchRunner", "BatchTimings", "DynamicBatcher"]

EXIT_S = 1.0  # how long ``close`` waits for a thread that has nothing left to do

log = logging.getLogger(__name__)


class DynamicBatcher(Generic[In, Out]):
    """Forms batches by deadline for one engine. Lives on one event loop; nothing here is thread-safe."""

    def __init__(
        self,
        name: str,
        runner: BatchRunner[In, Any, Any, Out],
        limits: BatchLimits,
        cost: CostModel,
        *,
        clock: Callable[[], float] = time.monotonic,
        observer: BatchRecorder | None = None,
    ) -> None:
        self._name, self._clock = name, clock
        self._outcomes: Outcomes[In, Out] = Outcomes(name, clock, observer or NullBatchRecorder())
        self._runner, self._limits, self._cost = runner, limits, cost
        self._waiting: Waiting[In, Out] = Waiting()
        self._lane: Lane[Batch[In, Out]] = Lane(clock())
        self._refusal: str | None = f"{name} has not started"
        self._turning = False
        self._conditions = Conditions()
        self._left_hook, self._turn_hook = self._left, self._turn  # bound once, not per request

    def start(self) -> None:
        """Start the engine thread; called once, inside the loop that will serve."""
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._turn)
        self._exited: asyncio.Future[None] = self._loop.create_future()
        self._thread = EngineThread(self._name, self._clock, self._loop, self._finished, self._engine_exited)
        self._thread.start()
        self._refusal = None

    def submit(self, item: In, *, deadline_at_s: float) -> asyncio.Future[tuple[Out, BatchTimings]]:
        """Queue one item; cancel the future to leave, or with ``OVERDUE`` to give it up at its deadline.

        Args:
            item: what the runner packs.
            deadline_at_s: when the answer is of no use any more; NaN is never on time, inf is always.

        Returns:
            A future: the answer, or ``DeadlineExceeded`` (it cannot be on time, or was not), ``EngineFault``
            (its batch failed), ``NotReady`` (the batcher closed or its thread died first), or the
            ``ServeError`` of its own item.

        Raises:
            NotReady: not started, closing, or without an engine thread.
        """
        if self._refusal is not None:
            raise NotReady(self._refusal)
        now = self._clock()
        call: Call[In, Out] = Call(item, deadline_at_s, now, self._left_hook, self._loop)
        waiting = self._waiting
        place = waiting.place(deadline_at_s)
        if not finish_s(place, self._lane.free_s(now), self._limits, self._cost) <= deadline_at_s:
            if self._lane.running is None and deadline_at_s > now:
                self._cost.relax()  # an idle engine that refuses would never learn otherwise
            self._outcomes.miss((call,), "queue")
            return call
        waiting.insert(place, call)
        if not self._turning and (
            place == 0
            or self._lane.running is None
            or now >= self._alarm.at_s
            or len(waiting) == self._limits.max_items  # a full batch: worth packing behind the next one
            or self._limits.max_wait_s > 0.0
        ):
            self._turning = True  # at the end of this iteration: those who came together go together
            self._loop.call_soon(self._turn_hook)
        return call

    def swap(
        self, runner: BatchRunner[In, Any, Any, Out], limits: BatchLimits, cost: CostModel
    ) -> BatchRunner[In, Any, Any, Out]:
        """Pack with another runner from now on; batches already packed keep theirs. Returns the old one."""
        old, self._runner, self._limits, self._cost = self._runner, runner, limits, cost
        if self._waiting:
            self._turn()
        return old

    async def drained(self, runner: BatchRunner[In, Any, Any, Out]) -> None:
        """Return once no packed or running batch uses ``runner``."""
        await self._conditions.until(
            lambda: all(batch.runner is not runner for batch in self._lane.batches())
        )

    def predicted_wait_s(self) -> float:
        """Seconds until a request submitted now, behind everyone, would be answered."""
        now = self._clock()
        return finish_s(len(self._waiting), self._lane.free_s(now), self._limits, self._cost) - now

    @property
    def queued(self) -> int:
        """Requests that wait to be packed."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests in packed and running batches."""
        return sum(len(batch.calls) for batch in self._lane.batches())

    @property
    def last_progress_s(self) -> float:
        """On the clock: now when idle, else when the last batch finished or the running one started."""
        return self._lane.progress_s(self._clock())

    @property
    def oldest_running_s(self) -> float | None:
        """Age of the running batch; None when idle. An age far beyond the cost is a hang."""
        return self._lane.age_s(self._clock())

    async def close(self, drain_s: float) -> None:
        """Refuse new requests, answer what is in flight within ``drain_s``, fail the rest, stop."""
        started = self._refusal is None
        self._refusal = self._refusal or f"{self._name} is closing"
        self._limits = replace(self._limits, max_wait_s=0.0)  # nobody else is coming
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_s if drain_s > 0.0 else 0.0):
                    if started and self._waiting:
                        self._turn()
                    await self._conditions.until(lambda: not self._waiting and not self._lane.batches())
        finally:
            self._fail_everyone(lambda: NotReady(f"{self._name} closed before it could answer"))
            if started:
                self._alarm.cancel()
                self._thread.stop()
        if started and self._lane.running is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EXIT_S):
                    await asyncio.shield(self._exited)

    def _turn(self) -> None:
        self._turning = False
        try:
            self._dispatch(self._clock())
        except Exception as error:  # a bug of ours, of the cost or of the clock: nobody may wait for it
            log.exception("%s: forming a batch failed", self._name)
            self._outcomes.fail(self._waiting.take(len(self._waiting)), self._outcomes.fault_of(error))
        self._conditions.check()

    def _dispatch(self, now: float) -> None:
        waiting, lane, miss = self._waiting, self._lane, self._outcomes.miss
        limits, cost = self._limits, self._cost
        wake = min((self._outcomes.expire(batch, now) for batch in lane.batches()), default=math.inf)
        try:
            while waiting:
                start = lane.free_s(now)
                if lane.packed and (len(waiting) < limits.max_items or now < lane.pack_at_s()):
                    # One is packed, and no full one should be behind it yet: only say no in time.
                    miss(waiting.take(late_count(waiting.deadlines_s, start, cost)), "queue")
                    if waiting:
                        wake = min(wake, waiting.deadlines_s[0] - cost.predict_s(1))
                    if len(waiting) >= limits.max_items:
                        wake = min(wake, lane.pack_at_s())
                    break
                oldest = waiting.oldest_s() if limits.max_wait_s > 0.0 else now
                moment = Moment(now, start, lane.pack_at_s(), lane.lead_s, oldest)
                decision = decide(waiting.deadlines_s, moment, limits, cost)
                miss(waiting.take(decision.refuse), "queue")
                calls = waiting.take(decision.take)
                miss(waiting.take(decision.strand), "queue")
                if not calls:
                    wake = min(wake, decision.wake_at_s)
                    break
                wake = min(wake, calls[0].deadline_s)
                self._pack(calls, decision.reason, now)
        finally:
            self._alarm.set(wake, now)
        self._outcomes.tell("queue_depth", len(waiting))

    def _pack(self, calls: list[Call[In, Out]], reason: Reason, now: float) -> None:
        try:
            batch = Batch(self._runner, self._cost, calls, reason, now)
            batch.packed = batch.runner.pack(batch.items)
            batch.pack_s = self._clock() - now
        except Exception as error:
            log.exception("%s: packing a batch of %d failed", self._name, len(calls))
            self._outcomes.fail(calls, self._outcomes.fault_of(error))
            return
        self._lane.add(batch)
        self._thread.put(batch)

    def _finished(self, batch: Batch[In, Out]) -> None:
        try:
            self._lane.finish(batch, work_waits=bool(self._waiting))
            if batch.fault is None and not batch.skipped:
                batch.cost.observe(len(batch.calls), batch.ended_s - batch.started_s)
            self._turn()  # the engine first, then the answers
        finally:
            self._outcomes.answer(batch)

    def _left(self, call: Call[In, Out], why: Any | None) -> None:
        stage = "queue" if call.waiting else "engine"
        if call.waiting:
            self._waiting.remove(call)
        if why != OVERDUE:  # whoever gave it up counts it as a missed deadline; nobody left
            self._outcomes.tell("cancelled", stage)
        self._conditions.check()

    def _fail_everyone(self, error: Callable[[], ServeError]) -> None:
        self._outcomes.fail(self._waiting.take(len(self._waiting)), error)
        for batch in self._lane.batches():
            self._outcomes.fail(batch.calls, error)

    def _engine_exited(self, death: BaseException | None) -> None:
        self._exited.set_result(None)
        if death is not None:
            log.critical("%s: the engine thread died: %r", self._name, death)
            self._refusal = f"{self._name} has lost its engine thread"
            self._fail_everyone(self._outcomes.fault_of(death))
            self._lane.clear()
            self._conditions.check()
