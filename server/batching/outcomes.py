"""How a call ends: answered, failed, or too late. The only file that completes a caller's future.

Each way out is total: it skips those who have left or been answered, and ``answer`` ends everyone in a
``finally``. Every caller gets an exception instance of its own, since raising one adds that caller's stack to
it.

Units: seconds on the caller's monotonic clock.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any, Generic

from server.batching.engine_thread import Batch
from server.batching.runner import BatchTimings, In, Out
from server.batching.waiting import Call
from server.errors import DeadlineExceeded, EngineFault, NotReady, ServeError
from server.telemetry_interface import BatchRecorder

log = logging.getLogger(__name__)


class Outcomes(Generic[In, Out]):
    """Ends calls and tells the observer."""

    def __init__(self, name: str, clock: Callable[[], float], observer: BatchRecorder) -> None:
        self._name, self._clock, self._observer = name, clock, observer
        self._observer_failed = False

    def answer(self, batch: Batch[In, Out]) -> None:
        """Give everyone in a finished batch their own answer, or all the reason why there is none."""
        calls = batch.calls
        error: Callable[[], ServeError] = lambda: NotReady(f"{self._name} has stopped")  # noqa: E731
        try:
            if batch.fault is not None:
                raise batch.fault
            if batch.skipped or batch.abandoned():
                return
            results = batch.runner.unpack(batch.packed, batch.raw, batch.items)
            if len(results) != len(calls):
                raise ValueError(f"unpack gave {len(results)} answers to {len(calls)} items")
            now, started, size = self._clock(), batch.started_s, len(calls)
            engine_s, post_s, pack_s = batch.ended_s - started, now - batch.ended_s, batch.pack_s
            waits = [started - call.arrived_s for call in calls]
            for call, result, wait in zip(calls, results, waits, strict=True):
                if call.done():  # its caller left, or its deadline passed
                    continue
                if isinstance(result, ServeError):
                    call.set_exception(result)
                else:
                    call.set_result(
                        (result, BatchTimings(max(0.0, wait - pack_s), pack_s, engine_s, post_s, size))
                    )
            self.tell(
                "batch_done",
                size=size,
                reason=batch.reason,
                engine_s=engine_s,
                queue_waits_s=waits,
                now_s=now,
            )
        except BaseException as fault:  # also SystemExit out of an engine: it belongs to this batch
            error = self.fault_of(fault)
            if not isinstance(fault, ServeError):  # else its engine has said why, once and not for each batch
                log.error("%s: a batch of %d failed: %r", self._name, len(calls), fault)
        finally:
            self.fail(calls, error)

    def fault_of(self, cause: BaseException) -> Callable[[], ServeError]:
        """A maker of ``EngineFault``s with that cause, whose text is for the log and not for callers.

        An engine that is elsewhere may say with an error of ours that it is away, or late: that is what its callers are told.
        """

        def make() -> ServeError:
            if isinstance(cause, ServeError):
                return _again(cause)
            fault = EngineFault(f"{self._name}: the batch failed ({type(cause).__name__})")
            fault.__cause__ = cause
            return fault

        return make

    def fail(self, calls: Iterable[Call[In, Out]], error: Callable[[], ServeError]) -> None:
        """Fail whoever has no outcome yet."""
        for call in calls:
            if not call.done():
                call.set_exception(error())

    def miss(self, calls: Iterable[Call[In, Out]], stage: str) -> None:
        """Refuse calls whose deadline cannot be kept (stage queue) or has passed (stage engine)."""
        why = "cannot be on time" if stage == "queue" else "passed its deadline in the engine"
        for call in calls:
            if not call.done():
                call.set_exception(DeadlineExceeded(f"{self._name}: the request {why}", stage=stage))
                self.tell("deadline_missed", stage)

    def expire(self, batch: Batch[In, Out], now_s: float) -> float:
        """End calls of a packed or running batch whose deadline has passed; returns the next one, or inf."""
        calls = batch.calls
        while batch.expired < len(calls):
            call = calls[batch.expired]
            if not call.done():
                if call.deadline_s > now_s:
                    return call.deadline_s
                self.miss((call,), "engine")
            batch.expired += 1
        return math.inf

    def tell(self, report: str, *args: Any, **fields: Any) -> None:
        """Report to the observer; its first mistake is logged, and none changes anything."""
        try:
            getattr(self._observer, report)(*args, **fields)
        except Exception:
            if not self._observer_failed:
                log.exception("%s: the observer failed in %s", self._name, report)
            self._observer_failed = True


def _again(error: ServeError) -> ServeError:
    """The same error once more: one object for several callers would collect the traces of all of them."""
    again = type(error).__new__(type(error))
    again.__dict__.update(error.__dict__)
    again.args = error.args
    return again
