"""Waiting on the event loop until something is true, told by whoever may have made it true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Conditions:
    """Coroutines that wait for a condition; ``check`` must be called after anything that may fulfil one."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def until(self, true: Callable[[], bool]) -> None:
        """Return once ``true()``, at once if it is already. The limit is the caller's ``asyncio.timeout``."""
        while not true():
            told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((true, told))
            await told

    def check(self) -> None:
        """Wake those whose condition is true now."""
        if self._waiting:
            for true, told in self._waiting:
                if not told.done() and true():
                    told.set_result(None)
            self._waiting = [(true, told) for true, told in self._waiting if not told.done()]
