"""One timer that rings at the earliest time asked for.

Ringing early is allowed and cheap (whoever is woken looks at the clock anyway), so a timer that already rings
before the time asked for is left alone: under load it moves once per deadline and not once per request.

Units: seconds; ``at_s`` on the injected clock, the delay on the loop's own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

FINEST_S = 0.001  # uvloop and epoll round timers to this; a shorter one would spin
LONGEST_S = 3600.0  # later times are looked at again each hour


class Alarm:
    """Calls ``ring`` on the loop, once per setting.

    Attributes:
        at_s: when it rings; inf when it is not set.
    """

    __slots__ = ("_handle", "_loop", "_ring", "at_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        """Start unset."""
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self.at_s = math.inf

    def set(self, at_s: float, now_s: float) -> None:
        """Ring at ``at_s`` or before; inf asks for nothing."""
        if self.at_s <= at_s:
            return
        self.cancel()
        self.at_s = at_s
        self._handle = self._loop.call_later(min(max(at_s - now_s, FINEST_S), LONGEST_S), self._fire)

    def cancel(self) -> None:
        """Don't ring."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self.at_s = None, math.inf

    def _fire(self) -> None:
        self._handle, self.at_s = None, math.inf
        self._ring()
