"""What the engine is doing, and when to pack its next batch; pure, time comes as an argument.

Packed the moment the running batch starts, the next one would be frozen small and blind to urgent
late-comers; packed when it ends, the engine would idle meanwhile. So it is packed ``lead_s`` before the
predicted end, and the lead finds its own size: an engine that ran dry while work waited lengthens it, every
batch handed over in time shortens it a little. A wrong prediction costs one gap of a loop wake-up and a
pack, never a stall: whenever the engine is seen idle, whatever waits is packed at once, before the finished
batch is even answered. Packing again on every arrival was the alternative: it packs each request several
times, and the loop is the scarce resource.

A loop that is flooded comes round only every few batches. Then the lead grows beyond one batch, and further
batches are packed behind the next one, but only full ones: those have nothing to gain by waiting.

Units: seconds on the caller's monotonic clock.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from server.batching.engine_thread import Work
from server.batching.policy import IDLE

W = TypeVar("W", bound=Work)

LEAD_MIN_S, LEAD_MAX_S = 0.001, 0.040  # a timer's resolution .. more than a flooded loop's turn
LEAD_UP_S, LEAD_UP, LEAD_DOWN = 0.0005, 1.2, 0.99  # one gap in fifty batches or so keeps it where it is


class Lane(Generic[W]):
    """The places of one engine: one running, and those packed behind it.

    Attributes:
        running: what the engine thread has, or is about to take.
        packed: what it takes next, by itself, in this order.
        lead_s: how long before the predicted end to pack.
    """

    __slots__ = ("_progress_s", "lead_s", "packed", "running")

    def __init__(self, now_s: float) -> None:
        """Start idle."""
        self.running: W | None = None
        self.packed: deque[W] = deque()
        self.lead_s = LEAD_MIN_S
        self._progress_s = now_s

    def batches(self) -> list[W]:
        """Those running and packed, in order."""
        return [] if self.running is None else [self.running, *self.packed]

    def add(self, batch: W) -> None:
        """Put it behind what is there."""
        if self.running is None:
            self.running = batch
        else:
            self.packed.append(batch)

    def finish(self, batch: W, *, work_waits: bool) -> None:
        """The engine is done with ``batch`` and took the packed one; ``work_waits``: others are queued."""
        if not self.packed and work_waits:
            self.lead_s = min(LEAD_MAX_S, self.lead_s * LEAD_UP + LEAD_UP_S)
        else:
            self.lead_s = max(LEAD_MIN_S, self.lead_s * LEAD_DOWN)
        if batch is self.running:
            self.running = self.packed.popleft() if self.packed else None
        self._progress_s = batch.ended_s

    def clear(self) -> None:
        """There is no engine any more."""
        self.running = None
        self.packed.clear()

    def free_s(self, now_s: float) -> float:
        """When a batch packed now is predicted to start.

        A batch overdue by x is expected to take x more, so that a hang soon refuses what it would only make
        late.
        """
        if self.running is None:
            return now_s
        due = self.running.due_s
        if due < now_s:
            due = now_s + (now_s - due)
        return due + sum(batch.predicted_s for batch in self.packed)

    def pack_at_s(self) -> float:
        """From when on the next batch may be packed."""
        if self.running is None:
            return IDLE
        return self.running.due_s + sum(batch.predicted_s for batch in self.packed) - self.lead_s

    def progress_s(self, now_s: float) -> float:
        """The last sign of life: now when idle, else the last end or the start after it."""
        return now_s if self.running is None else max(self._progress_s, self.running.started_s)

    def age_s(self, now_s: float) -> float | None:
        """How long the running batch has been running; None when idle."""
        return None if self.running is None else max(0.0, now_s - self.running.started_s)
