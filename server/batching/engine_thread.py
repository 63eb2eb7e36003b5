"""The one thread that is ever inside an engine, and what travels to it and back.

The thread takes its next batch by itself: a batch packed ahead starts without waiting for the event loop. It
holds no reference to a batch or a runner between two batches, so that a replaced engine's memory is let go.

Units: seconds on the caller's monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, Protocol

from server.batching.cost import CostModel
from server.batching.policy import Reason
from server.batching.runner import BatchRunner, In, Out
from server.batching.waiting import Call
from server.engines.base import on_behalf_of


class Work(Protocol):
    """What the thread runs.

    The thread writes ``started_s``, ``ended_s``, ``raw``, ``fault`` and ``skipped``; everything else is the event loop's.

    Attributes:
        predicted_s: how long it should take.
        started_s, ended_s: on the thread's clock; the time of packing until then.
        raw: what ``compute`` gave.
        fault: what it raised.
        skipped: nobody was waiting for it any more.
    """

    predicted_s: float
    started_s: float
    ended_s: float
    raw: Any
    fault: BaseException | None
    skipped: bool

    @property
    def due_s(self) -> float:
        """When it should end, once started."""
        ...

    def abandoned(self) -> bool:
        """Whether every caller has left or been answered."""
        ...

    def compute(self) -> Any:
        """Run it; blocks, and releases the interpreter meanwhile."""
        ...


class Batch(Generic[In, Out]):
    """Requests that go through an engine together, with the runner and cost of the moment they were packed.

    ``calls`` are in order of deadline. The engine thread writes ``started_s``, ``ended_s``, ``raw``,
    ``fault`` and ``skipped``; everything else belongs to the event loop.
    """

    __slots__ = (
        "calls",
        "cost",
        "ended_s",
        "expired",
        "fault",
        "items",
        "pack_s",
        "packed",
        "predicted_s",
        "raw",
        "reason",
        "runner",
        "skipped",
        "started_s",
    )

    def __init__(
        self,
        runner: BatchRunner[In, Any, Any, Out],
        cost: CostModel,
        calls: list[Call[In, Out]],
        reason: Reason,
        now_s: float,
    ) -> None:
        self.runner = runner
        self.cost = cost
        self.calls = calls
        self.items: list[In] = [call.item for call in calls]
        self.reason: Reason = reason
        self.predicted_s = cost.predict_s(len(calls))
        self.packed: Any = None
        self.pack_s = 0.0
        self.expired = 0  # how many of the first calls the loop has looked at after their deadline
        self.started_s = self.ended_s = now_s
        self.raw: Any = None
        self.fault: BaseException | None = None
        self.skipped = False

    @property
    def due_s(self) -> float:
        """When the running batch is predicted to end."""
        return self.started_s + self.predicted_s

    def abandoned(self) -> bool:
        """Whether every caller has left or been answered."""
        return all(call.done() for call in self.calls)

    @property
    def latest_s(self) -> float:
        """When nobody in it can use an answer any more."""
        return self.calls[-1].deadline_s

    def compute(self) -> Any:
        """Run it; an engine that is elsewhere is told for whom."""
        with on_behalf_of(self):
            return self.runner.run(self.packed)


class EngineThread:
    """Runs batches one after the other, and says so on the event loop.

    ``finished`` is called there with each batch, then ``exited`` once: with None after ``stop``, or with what
    killed the thread.
    """

    def __init__(
        self,
        name: str,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        finished: Callable[[Any], None],
        exited: Callable[[BaseException | None], None],
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._finished = finished
        self._exited = exited
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        # A daemon: an engine that hangs for ever must not keep the process from exiting.
        self._thread = threading.Thread(target=self._main, name=f"engine-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, batch: Work) -> None:
        """Run this after what was put before."""
        self._work.put(batch)

    def stop(self) -> None:
        """Finish what was put, then exit."""
        self._work.put(None)

    def _main(self) -> None:
        death: BaseException | None = None
        try:
            while (batch := self._work.get()) is not None:
                self._run(batch)
                self._loop.call_soon_threadsafe(self._finished, batch)
                del batch
        except BaseException as error:
            death = error
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self._exited, death)

    def _run(self, batch: Work) -> None:
        batch.started_s = self._clock()
        if batch.abandoned():
            batch.skipped = True
            batch.ended_s = batch.started_s
            return
        try:
            batch.raw = batch.compute()
        except BaseException as error:  # also SystemExit: an engine may not take the thread with it
            batch.fault = error
        batch.ended_s = self._clock()
