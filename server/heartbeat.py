"""Whether the event loop turns, measured and readable from another thread.

A health check that the loop itself answers says nothing about a loop that hangs, so the metrics thread answers too, from
the age of the last beat. The same beats give the loop-lag histogram.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import time

from server.telemetry_interface import NullTelemetry

EVERY_S = 0.05
FOLD_EVERY = 20  # beats


class Heartbeat:
    """Beats on the loop; ``alive`` may be asked on any thread.

    Attributes:
        max_lag_s: a loop that is later than this is not alive (> 0).
        last_beat_s: when it last beat.
        last_lag_s: how late that beat was.
    """

    def __init__(self, max_lag_s: float, telemetry: NullTelemetry) -> None:
        self.max_lag_s = max_lag_s
        self.last_beat_s = time.monotonic()
        self.last_lag_s = 0.0
        self._telemetry = telemetry
        self._handle: asyncio.TimerHandle | None = None
        self._beats = 0

    def start(self) -> None:
        """Begin to beat, inside a running loop."""
        self.last_beat_s = time.monotonic()
        self._handle = asyncio.get_running_loop().call_later(EVERY_S, self._beat)

    def stop(self) -> None:
        """Beat no more."""
        if self._handle is not None:
            self._handle.cancel()

    def alive(self) -> tuple[bool, str]:
        """Whether the loop turns, and a sentence."""
        age_s = time.monotonic() - self.last_beat_s
        lag_s = max(self.last_lag_s, age_s - EVERY_S)
        if lag_s > self.max_lag_s:
            return False, f"the event loop is {lag_s:.3f} s late, the limit is {self.max_lag_s:g} s"
        return True, f"the event loop turned {age_s:.3f} s ago"

    def _beat(self) -> None:
        now_s = time.monotonic()
        self.last_lag_s = max(0.0, now_s - self.last_beat_s - EVERY_S)
        self.last_beat_s = now_s
        self._telemetry.loop_lag(self.last_lag_s)
        self._beats += 1
        if self._beats % FOLD_EVERY == 0:
            self._telemetry.fold()
        self._handle = asyncio.get_running_loop().call_later(EVERY_S, self._beat)
