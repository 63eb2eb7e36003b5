"""The thin driver of an encoder: it owns the clock, the futures and one engine thread.

What goes together is asked of ``token_batches.py``. A request of many texts is one call whose texts go through several
batches; it has one outcome.

**Every admitted request ends exactly once**: it waits, or its texts are in a packed or a running batch; whatever happens to
those ends in ``_answer``, in a ``finally``; and a timer at the earliest deadline holds even when the engine hangs. A request
without a deadline gets one here, far away: nobody waits for ever.

One batch is packed ahead of the running one (``lane.py`` says when), so that the engine does not wait for the event loop;
bulk work never is, because whoever comes live would wait for it.

Units: seconds on the injected clock; only timer delays use the loop's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from server.batching.alarm import Alarm
from server.batching.conditions import Conditions
from server.batching.engine_thread import EngineThread
from server.batching.lane import Lane
from server.batching.token_batch import EncodeCall, Shared, Text, TokenBatch, TokenModel
from server.batching.token_batches import Pending, TokenQueue
from server.encoder_telemetry import BULK, LIVE, EncoderRecorder, NullEncoderRecorder
from server.errors import DeadlineExceeded, EngineFault, NotReady, Overloaded, ServeError

EXIT_S = 1.0  # how long ``close`` waits for a thread that has nothing left to do
HANG_S = 10.0  # a batch that takes longer than this and ``HANG`` times its prediction is a hang
HANG = 20.0

log = logging.getLogger("vitrine.encoder")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLimits:
    """What may wait.

    Attributes:
        max_wait_s: a live request that would wait longer is refused (> 0).
        max_bulk_wait_s: the same of bulk work, behind everyone.
        longest_s: deadline of a request that has none.
    """

    max_wait_s: float = 2.0
    max_bulk_wait_s: float = 60.0
    longest_s: float = 120.0


class TokenBatcher:
    """Forms batches by tokens for one engine. Lives on one event loop; nothing here is thread-safe.

    Args:
        name: of the model, for messages.
        limits: what may wait.
        clock: monotonic.
        recorder: what is told.
    """

    def __init__(
        self,
        name: str,
        limits: TokenLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        recorder: EncoderRecorder | None = None,
    ) -> None:
        self._name, self._clock = name, clock
        self._limits = limits or TokenLimits()
        self._recorder: EncoderRecorder = recorder or NullEncoderRecorder()
        self._recorder_failed = False
        self._queue = TokenQueue()
        self._lane: Lane[TokenBatch] = Lane(clock())
        self._calls: dict[int, EncodeCall] = {}  # by order of arrival: those without an outcome
        self._order = 0
        self._turning = False
        self._conditions = Conditions()
        self._refusal: str | None = f"{name} has not started"

    def start(self) -> None:
        """Start the engine thread; called once, inside the loop that will serve."""
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._turn)
        self._exited: asyncio.Future[None] = self._loop.create_future()
        self._thread = EngineThread(self._name, self._clock, self._loop, self._finished, self._engine_exited)
        self._thread.start()
        self._refusal = None

    def submit(
        self, texts: Sequence[Text], model: TokenModel, *, deadline_s: float | None = None, bulk: bool = False
    ) -> EncodeCall:
        """Queue the texts of one request; cancel the future to leave.

        Args:
            texts: token ids of each, special tokens included; at least one, none empty, none longer than the model reads.
            model: what encodes them; a request stays with the version whose tokens it has.
            deadline_s: when the answer is of no use any more.
            bulk: wait behind all that is live.

        Returns:
            A future: the answer, or ``DeadlineExceeded`` (it cannot be on time, or was not), ``EngineFault`` (a batch with a
            text of it failed), or ``NotReady`` (closed, or the thread died first).

        Raises:
            NotReady: not started, closing, or without an engine thread.
            Overloaded: too much waits.
        """
        if self._refusal is not None:
            raise NotReady(self._refusal)
        now = self._clock()
        queue, limits = self._queue, self._limits
        self._order += 1
        pending = Pending(
            [len(ids) for ids in texts],
            order=self._order,
            group=id(model),
            arrived_s=now,
            deadline_s=now + limits.longest_s if deadline_s is None else deadline_s,
            bulk=bulk,
        )
        ahead = queue.ahead_tokens(pending.tokens, bulk=bulk)
        wait_s = self._lane.free_s(now) - now + (model.cost.predict_s(ahead) if ahead else 0.0)
        most_s = limits.max_bulk_wait_s if bulk else limits.max_wait_s
        if wait_s > most_s and self._calls:
            raise Overloaded(
                self._name, queue.texts(), int(queue.texts() * most_s / wait_s), retry_after_s=wait_s - most_s
            )
        call = EncodeCall(texts, model, pending, self._left, self._loop)
        if not now + wait_s + model.cost.predict_s(pending.tokens) <= pending.deadline_s:
            if self._lane.running is None and pending.deadline_s > now:
                model.cost.relax()  # an idle engine that refuses would never learn otherwise
            self._miss(call, "queue")
            return call
        self._calls[pending.order] = call
        queue.add(pending, now, model.cost, model.budget)
        pack_at_s = math.inf if self._lane.packed else self._lane.pack_at_s()
        if pack_at_s > now:
            self._alarm.set(min(pending.deadline_s, pack_at_s), now)
        elif not self._turning:
            self._turning = True  # at the end of this iteration: those who came together go together
            self._loop.call_soon(self._turn)
        return call

    async def drained(self, model: TokenModel) -> None:
        """Return once no waiting, packed or running text needs ``model``."""
        await self._conditions.until(lambda: not self._uses(model))

    @property
    def queued(self) -> int:
        """Texts that wait to be packed."""
        return self._queue.texts()

    @property
    def last_progress_s(self) -> float:
        """On the clock: now when idle, else when the last batch finished or the running one started."""
        return self._lane.progress_s(self._clock())

    def ready(self) -> tuple[bool, str]:
        """Whether requests should be sent here, and a sentence if not."""
        if self._refusal is not None:
            return False, self._refusal
        running = self._lane.running
        age_s = self._lane.age_s(self._clock())
        if running is not None and age_s is not None and age_s > max(HANG_S, HANG * running.predicted_s):
            return False, f"{self._name}: the engine has been in one batch for {age_s:.0f} s"
        return True, ""

    async def close(self, drain_s: float) -> None:
        """Refuse new requests, answer what is in flight within ``drain_s``, fail the rest, stop."""
        started = self._refusal is None
        self._refusal = self._refusal or f"{self._name} is closing"
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_s if drain_s > 0.0 else 0.0):
                    await self._conditions.until(lambda: not self._calls and self._lane.running is None)
        finally:
            self._fail_all(lambda: NotReady(f"{self._name} closed before it could answer"))
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
            self._fail_all(self._fault_of(error))
        self._conditions.check()

    def _dispatch(self, now: float) -> None:
        queue, lane = self._queue, self._lane
        wake = math.inf
        for call in [call for call in self._calls.values() if not call.pending.deadline_s > now]:
            self._miss(call, "queue" if call.open == len(call.texts) and not call.started_s else "engine")
        try:
            while len(queue) and not lane.packed:
                if lane.running is not None and now < lane.pack_at_s():
                    wake = lane.pack_at_s()
                    break
                model = self._calls[next(iter(queue)).order].model
                choice = queue.choose(now, lane.free_s(now), model.cost, model.budget)
                for pending in choice.late:
                    self._miss(self._calls[pending.order], "queue")
                if choice.bulk and lane.running is not None:
                    break  # bulk work is not packed ahead: who comes until the engine is free goes before it
                if choice.shares:
                    model = self._calls[choice.shares[0].pending.order].model
                    calls = [self._calls[pending.order] for pending, _, _ in choice.shares]
                    places = queue.take(choice, now, model.cost, model.budget)
                    shares = [Shared(call, own) for call, own in zip(calls, places, strict=True)]
                    batch = TokenBatch(model, choice, shares, now)
                    for call in calls:
                        call.started_s = call.started_s or now
                    lane.add(batch)
                    self._thread.put(batch)
        finally:
            deadlines = (call.pending.deadline_s for call in self._calls.values())
            self._alarm.set(min(wake, min(deadlines, default=math.inf)), now)
        self._tell("waiting", queue.texts())

    def _finished(self, batch: TokenBatch) -> None:
        try:
            self._lane.finish(batch, work_waits=len(self._queue) > 0)
            if batch.fault is None and not batch.skipped:
                batch.model.cost.observe(batch.choice.padded_tokens, batch.ended_s - batch.started_s)
            self._turn()  # the engine first, then the answers
        finally:
            self._answer(batch)
            self._conditions.check()

    def _answer(self, batch: TokenBatch) -> None:
        error: Callable[[], ServeError] = lambda: NotReady(f"{self._name} has stopped")  # noqa: E731
        calls = [share.call for share in batch.shares]
        given: set[int] = set()
        try:
            if batch.skipped:
                return
            vectors_BD, logits_BC, good_B = batch.checked()
            error = self._fault_of(ArithmeticError("the engine gave what is no number"))
            engine_s, now = batch.ended_s - batch.started_s, self._clock()
            row, whole = 0, bool(good_B.all())
            for call, places in batch.shares:
                rows = slice(row, row + len(places))
                row = rows.stop
                if call.done() or not (whole or good_B[rows].all()):
                    continue  # left before, or fails below, and nobody else with it
                call.engine_s += engine_s
                call.keep(places, vectors_BD[rows], None if logits_BC is None else logits_BC[rows])
                given.add(call.pending.order)
                if not call.open:
                    del self._calls[call.pending.order]
                    kind = BULK if call.pending.bulk else LIVE
                    self._tell("request_done", kind, queue_s=call.complete(now))
            if not whole:
                log.error("%s: %d of %d vectors are no numbers", self._name, (~good_B).sum(), len(good_B))
            self._tell(
                "batch_done",
                texts=batch.choice.rows,
                tokens=int(batch.lengths_B.sum()),
                padded_tokens=batch.choice.padded_tokens,
                engine_s=engine_s,
            )
        except BaseException as fault:  # also SystemExit out of an engine: it belongs to this batch
            error, given = self._fault_of(fault), set()
            log.error("%s: a batch of %d texts failed: %r", self._name, batch.choice.rows, fault)
        finally:
            for call in calls:
                if call.pending.order not in given:
                    self._fail(call, error)

    def _fault_of(self, cause: BaseException) -> Callable[[], ServeError]:
        def make() -> ServeError:
            fault = EngineFault(f"{self._name}: the batch failed ({type(cause).__name__})")
            fault.__cause__ = cause
            return fault

        return make

    def _fail(self, call: EncodeCall, error: Callable[[], ServeError]) -> None:
        self._calls.pop(call.pending.order, None)
        self._queue.remove(call.pending)
        if not call.done():
            call.set_exception(error())

    def _fail_all(self, error: Callable[[], ServeError]) -> None:
        for call in list(self._calls.values()):
            self._fail(call, error)

    def _miss(self, call: EncodeCall, stage: str) -> None:
        why = "cannot be on time" if stage == "queue" else "passed its deadline in the engine"
        if not call.done():
            self._tell("deadline_missed", stage)
        self._fail(call, lambda: DeadlineExceeded(f"{self._name}: the request {why}", stage=stage))

    def _left(self, call: EncodeCall) -> None:
        if self._calls.pop(call.pending.order, None) is not None:
            self._tell("cancelled", "engine" if call.started_s else "queue")
        self._queue.remove(call.pending)
        self._conditions.check()

    def _uses(self, model: TokenModel) -> bool:
        return any(call.model is model for call in self._calls.values()) or any(
            batch.model is model for batch in self._lane.batches()
        )

    def _engine_exited(self, death: BaseException | None) -> None:
        self._exited.set_result(None)
        if death is not None:
            log.critical("%s: the engine thread died: %r", self._name, death)
            self._refusal = f"{self._name} has lost its engine thread"
            self._fail_all(self._fault_of(death))
            self._lane.clear()
            self._conditions.check()

    def _tell(self, report: str, *args: Any, **fields: Any) -> None:
        try:
            getattr(self._recorder, report)(*args, **fields)
        except Exception:
            if not self._recorder_failed:
                log.exception("%s: the recorder failed in %s", self._name, report)
            self._recorder_failed = True
