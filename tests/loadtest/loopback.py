"""A loop on a thread of its own, for servers that answer what a test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Answer = Callable[[bytes], bytes | None]


class Background:
    """An event loop on its own thread; ``do`` runs a coroutine there and waits for it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._closers: list[Callable[[], Awaitable[Any]]] = []

    def do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=10)

    def closes(self, closer: Callable[[], Awaitable[Any]]) -> None:
        self._closers.append(closer)

    def stop(self) -> None:
        async def shut() -> None:
            for closer in self._closers:
                await closer()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.do(shut())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=10)
        self.loop.close()


def answer(body: bytes, status: int = 200, *extra: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in (f"Content-Length: {len(body)}", *extra))
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body
