"""All open HTTP connections, and the clock that ends those which keep us waiting.

One look at all of them a few times a second replaces a timer for each: a keep-alive timer that is set and cancelled with
every request would cost more than the request's own parsing.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from server.byte_budget import ByteBudget
from server.telemetry_interface import NullTelemetry

if TYPE_CHECKING:
    from server.http_api.protocol import VitrineProtocol


class Connections:
    """The open connections and their time limits.

    Attributes:
        most: how many may be open (> 0).
        keep_alive_s: an idle connection is closed after this (> 0).
        read_timeout_s: a request must have arrived whole within this (> 0).
        write_timeout_s: a client that takes nothing of its answer for this long is cut off (> 0).
        telemetry: where refusals by the connection itself are counted.
        budget: for bodies on their way in, shared with the other wire.
    """

    def __init__(
        self,
        most: int,
        budget: ByteBudget,
        *,
        keep_alive_s: float,
        read_timeout_s: float,
        write_timeout_s: float,
        telemetry: NullTelemetry,
    ) -> None:
        self.most = most
        self.budget = budget
        self.keep_alive_s = keep_alive_s
        self.read_timeout_s = read_timeout_s
        self.write_timeout_s = write_timeout_s
        self.telemetry = telemetry
        self._open: set[VitrineProtocol] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._every_s = min(1.0, keep_alive_s / 4, read_timeout_s / 4, write_timeout_s / 4)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: VitrineProtocol) -> bool:
        """Know one more; False when there are too many and it must go."""
        self._open.add(connection)
        return len(self._open) <= self.most

    def discard(self, connection: VitrineProtocol) -> None:
        """It is gone."""
        self._open.discard(connection)

    def start(self) -> None:
        """Begin to look, inside a running loop."""
        self._handle = asyncio.get_running_loop().call_later(self._every_s, self._tick)

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self) -> None:
        self.sweep(time.monotonic())
        self.start()

    def sweep(self, now_s: float) -> None:
        """End every connection that has kept us waiting too long."""
        for connection in list(self._open):
            transport = connection.transport
            if connection.discarding_until_s is not None:
                if now_s >= connection.discarding_until_s:
                    transport.abort()
            elif (unread_bytes := transport.get_write_buffer_size()) > 0:
                if connection.stalled_since_s is None or unread_bytes != connection.unread_bytes:
                    connection.stalled_since_s = now_s  # a buffer that changes is being read, however slowly
                    connection.unread_bytes = unread_bytes
                elif now_s - connection.stalled_since_s >= self.write_timeout_s:
                    transport.abort()
                continue
            elif transport.is_closing():
                continue
            elif connection.receiving_since_s is not None:
                if (
                    now_s - connection.receiving_since_s >= self.read_timeout_s
                    and not connection.flow.read_paused
                ):
                    connection.time_out()
            elif connection.is_idle() and now_s - connection.idle_since_s >= self.keep_alive_s:
                transport.close()
            connection.stalled_since_s = None
