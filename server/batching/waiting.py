"""The queue by deadline, and the future that a caller holds while it is in it.

Two parallel sorted lists instead of a heap: most requests of one endpoint carry the same budget and so arrive
in deadline order (an append), a batch is a slice, the policy reads the deadlines as they lie, and a caller
who leaves is removed there and then. At a few hundred entries - the admission limit - moving memory is
cheaper than a heap of tuples.

Units: seconds on the caller's monotonic clock.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any, Generic

from server.batching.runner import BatchTimings, In, Out

OVERDUE = "overdue"  # cancel with this: the deadline has come, and the caller is answered another way


class Call(asyncio.Future[tuple[Out, BatchTimings]], Generic[In, Out]):
    """One admitted request: its caller's future and what is known about it.

    Being the future itself, it hears at once when its caller leaves.
    """

    __slots__ = ("arrived_s", "deadline_s", "item", "left", "waiting")

    def __init__(
        self,
        item: In,
        deadline_s: float,
        arrived_s: float,
        left: Callable[[Call[Any, Any], Any | None], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop=loop)
        self.item = item
        self.deadline_s = deadline_s
        self.arrived_s = arrived_s
        self.left = left
        self.waiting = False

    def cancel(self, msg: Any | None = None) -> bool:
        """Leave, or be given up (``OVERDUE``); the batcher forgets a waiting call and computes nothing for it."""
        if not super().cancel(msg):
            return False
        self.left(self, msg)
        return True


class Waiting(Generic[In, Out]):
    """Calls by deadline; first come first served among equals. Not thread-safe.

    Attributes:
        deadlines_s: ascending; read by the policy, written only here.
    """

    __slots__ = ("_calls", "deadlines_s")

    def __init__(self) -> None:
        self.deadlines_s: list[float] = []
        self._calls: list[Call[In, Out]] = []

    def __len__(self) -> int:
        return len(self._calls)

    def place(self, deadline_s: float) -> int:
        """Where a call with this deadline would stand."""
        deadlines = self.deadlines_s
        if not deadlines or deadline_s >= deadlines[-1]:
            return len(deadlines)
        return bisect_right(deadlines, deadline_s)

    def insert(self, place: int, call: Call[In, Out]) -> None:
        """Put a call where ``place`` said."""
        self.deadlines_s.insert(place, call.deadline_s)
        self._calls.insert(place, call)
        call.waiting = True

    def remove(self, call: Call[In, Out]) -> None:
        """Take one waiting call out."""
        place = self._calls.index(call, bisect_left(self.deadlines_s, call.deadline_s))
        del self.deadlines_s[place], self._calls[place]
        call.waiting = False

    def take(self, count: int) -> list[Call[In, Out]]:
        """Take the first ``count`` out."""
        taken = self._calls[:count]
        del self.deadlines_s[:count], self._calls[:count]
        for call in taken:
            call.waiting = False
        return taken

    def oldest_s(self) -> float:
        """Arrival of the call that has waited longest; there must be one."""
        return min(call.arrived_s for call in self._calls)
