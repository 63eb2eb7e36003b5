"""Looks which version of a model should serve, and hands a new one over once it is loaded.

``CURRENT`` is polled; a new version is loaded in a worker thread while the old one serves. One that cannot be read or loaded
is logged and counted once, and the old one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, TypeVar

from server.artifacts.errors import ArtifactError
from server.artifacts.repository import current_version

Loaded = TypeVar("Loaded")


class VersionWatch(Generic[Loaded]):
    """For the event-loop thread.

    Args:
        repository: folder of published models.
        name: of the model.
        serving: the version that serves now.
        load: opens a version; called on a worker thread.
        take: puts it in the place of the old one; nothing further is looked at until it returns.
        log: where to tell.
        interval_s: how often ``CURRENT`` is read once started; 0: never.

    Attributes:
        failures: new versions not taken up: "unreadable" (which version serves cannot be read) or "refused" (it cannot be
            loaded, or answers otherwise than it did in the gate); each failing version counts once.
    """

    def __init__(
        self,
        repository: Path,
        name: str,
        *,
        serving: Callable[[], str],
        load: Callable[[str], Loaded],
        take: Callable[[Loaded, str], Awaitable[None]],
        log: logging.Logger,
        interval_s: float,
    ) -> None:
        self._repository, self._name = repository, name
        self._serving, self._load, self._take = serving, load, take
        self._log, self._interval_s = log, interval_s
        self._task: asyncio.Task[None] | None = None
        self._refused: str | None = None
        self.failures = {"unreadable": 0, "refused": 0}

    def start(self) -> None:
        """Begin to look, inside a running loop."""
        if self._interval_s > 0:
            self._task = asyncio.create_task(self._watch(), name=f"watch {self._name}")

    async def stop(self) -> None:
        """Look no more; a version that is on its way is let go."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def look(self) -> bool:
        """Take up the current version if it is another one; True when it was."""
        try:
            version = await asyncio.to_thread(current_version, self._repository, self._name)
        except ArtifactError as error:
            if self._refused != str(error):
                self._refused = str(error)
                self.failures["unreadable"] += 1
                self._log.error(
                    "cannot read which version serves; the old one goes on", extra={"reason": str(error)}
                )
            return False
        if version in (self._serving(), self._refused):
            return False
        try:
            loaded = await asyncio.to_thread(self._load, version)
        except Exception as error:  # whatever it is: reported once, and not tried again every second
            self._refused = version
            self.failures["refused"] += 1
            self._log.error(
                "new version refused; the old one goes on", extra={"version": version, "reason": str(error)}
            )
            return False
        self._refused = None
        await self._take(loaded, version)
        return True

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.look()
            except Exception:
                self._log.exception("looking for a new version failed; trying again")
