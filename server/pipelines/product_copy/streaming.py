"""One generation as something to iterate: text as it comes, the end as a value, and a caller who leaves takes it along.

Units: seconds, and tokens.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from server.text_domain import Chunk, Failed, Finished, GenerateRequest, TextEvent, Usage
from server.text_generator import Generation, TextGenerator


class TextStream:
    """``async with`` and ``async for`` over the pieces of one text.

    Iterating raises the ``ServeError`` of a text that fails. Leaving the block cancels what has not ended.

    Attributes:
        usage: tokens, once it has ended.
        finished: how it ended well, or None.
    """

    def __init__(self, generator: TextGenerator, request: GenerateRequest) -> None:
        self._generator = generator
        self._request = request
        self._generation: Generation | None = None
        self._events: deque[TextEvent] = deque()
        self._wake = asyncio.Event()
        self._ended = False
        self.usage = Usage(prompt_tokens=0, completion_tokens=0)
        self.finished: Finished | None = None

    async def __aenter__(self) -> TextStream:
        """Submit; raises what ``TextGenerator.submit`` does."""
        self._generation = self._generator.submit(self._request, self._on_event)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the text go where it has not ended."""
        if self._generation is not None and not self._ended:
            self._generation.cancel()

    def __aiter__(self) -> TextStream:
        return self

    async def __anext__(self) -> str:
        while True:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, Chunk):
                    if event.text:
                        return event.text
                elif isinstance(event, Failed):
                    raise event.error
                else:
                    raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()

    def _on_event(self, event: TextEvent) -> None:
        if isinstance(event, Finished | Failed):
            self._ended = True
            self.usage = event.usage
            self.finished = event if isinstance(event, Finished) else None
        self._events.append(event)
        self._wake.set()
