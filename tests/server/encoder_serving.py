"""A whole server with a tiny published encoder on ephemeral ports, and OpenAI's clients for it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai

from server.app import Application
from server.settings import Settings
from tests.server.fake_recommender import FakeRecommender
from tests.server.serving import Serving


class EncoderServing(Serving):
    """One running server that encodes."""

    def client(self, **more: Any) -> openai.AsyncOpenAI:
        """OpenAI's own client; it does not retry."""
        options = {"api_key": "none", "max_retries": 0, **more}
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", **options)


@contextlib.asynccontextmanager
async def serving(repository: Path, **overrides: Any) -> AsyncIterator[EncoderServing]:
    """Run a server until the block ends."""
    fake = FakeRecommender()
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0, "drain_s": 2.0, "grpc": False}
    quiet = {"text_engine": "off", "copy": False, "support": False, "reload_interval_s": 0.0}
    settings = Settings.from_env({}, **{**ports, **quiet, "repository": repository, **overrides})
    app = Application(settings, lambda *_: fake)
    await app.start()
    await app.warm()
    running = EncoderServing(app, fake)
    try:
        yield running
    finally:
        await running.stop()
