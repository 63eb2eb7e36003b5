"""Where the events of one request wait for its reader: bounded, because a reader may stall.

The generator tells on the event loop and never waits. So a reader that does not take its text is found by what piles up
here: beyond the limit its generation is cancelled at once, and what it has not read is let go.

Units: characters, where each event counts for some itself.
"""

from __future__ import annotations

import asyncio

from server.errors import Code, ServeError
from server.text_domain import Chunk, TextEvent

EVENT_CHARS = 64
TOKEN_CHARS = 16


class SlowReader(ServeError):
    """The reader did not take its text; it is told so, should it read on."""

    code = Code.CANCELLED

    def __init__(self) -> None:
        super().__init__("the text was not read as fast as it was written, so it was cancelled; read faster")


class Inbox:
    """Events in the order they came.

    Attributes:
        overflowed: whether the reader was too slow; nothing is taken any more.
        left: whether the reader is gone.
        wake: set when there is something to look at.
    """

    def __init__(self, limit_chars: int) -> None:
        self._limit = limit_chars
        self._events: list[tuple[int, TextEvent]] = []
        self._chars = 0
        self.overflowed = False
        self.left = False
        self.wake = asyncio.Event()

    def put(self, index: int, event: TextEvent) -> bool:
        """Keep an event; False when there is no room, from then on always."""
        if self.overflowed:
            return False
        self._chars += EVENT_CHARS
        if isinstance(event, Chunk):
            self._chars += len(event.text) + TOKEN_CHARS * sum(1 + len(one.top) for one in event.logprobs)
        self._events.append((index, event))
        if self._chars > self._limit:
            self.overflowed = True
            self._events.clear()
        self.wake.set()
        return not self.overflowed

    def leave(self) -> None:
        """The reader is gone."""
        self.left = True
        self.wake.set()

    async def take(self) -> list[tuple[int, TextEvent]]:
        """Wait for something, and take all there is; empty when the reader is gone or was too slow."""
        await self.wake.wait()
        self.wake.clear()
        events, self._events = self._events, []
        self._chars = 0
        if self.left or self.overflowed:
            self.wake.set()
            return []
        return events
