"""A whole server with product copy by a scripted model and plain rules."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from server.app import Application
from server.settings import Settings
from tests.server.copy_world import PlainRules, PlainTemplates, Scripted
from tests.server.fake_recommender import FakeRecommender
from tests.server.serving import LIMIT_S, Serving


class LiveScripted(Scripted):
    """With the life that an application gives it."""

    async def start(self) -> None:
        pass

    async def close(self, drain_s: float) -> None:
        self.hold = False

    @property
    def last_progress_s(self) -> float:
        return time.monotonic()


@contextlib.asynccontextmanager
async def serving_copy(
    folder: Path, model: LiveScripted | None = None, **overrides: Any
) -> AsyncIterator[Serving]:
    """Run a server until the block ends."""
    fake = FakeRecommender()
    ports = {
        "http_port": 0,
        "grpc_port": 0,
        "metrics_port": 0,
        "drain_s": 2.0,
        "grpc": False,
        "encoder": False,
    }
    settings = Settings.from_env({}, **{**ports, "copy_jobs": folder / "jobs", **overrides})
    app = Application(settings, lambda *_: fake, lambda *_: model, lambda _: (PlainRules(), PlainTemplates()))
    await app.start()
    await app.warm()
    running = Serving(app, fake)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield running
    finally:
        fake.release()
        await running.stop()
