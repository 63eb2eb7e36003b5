"""A whole server with a fake text model on ephemeral ports, and OpenAI's clients for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import openai

from server.app import Application
from server.settings import Settings
from tests.server.fake_recommender import FakeRecommender
from tests.server.fake_text import FakeText
from tests.server.serving import LIMIT_S, Serving

MESSAGES: list[Any] = [{"role": "user", "content": "a blue mug"}]


class TextServing(Serving):
    """One running server that writes texts."""

    def __init__(self, app: Application, fake: FakeRecommender, text: FakeText) -> None:
        super().__init__(app, fake)
        self.text = text

    def client(self, **more: Any) -> openai.AsyncOpenAI:
        """OpenAI's own client; it does not retry."""
        options = {"api_key": "none", "max_retries": 0, **more}
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", **options)


@contextlib.asynccontextmanager
async def serving(text: FakeText | None = None, **overrides: Any) -> AsyncIterator[TextServing]:
    """Run a server until the block ends."""
    text = text or FakeText()
    fake = FakeRecommender()
    ports = {
        "http_port": 0,
        "grpc_port": 0,
        "metrics_port": 0,
        "drain_s": 2.0,
        "grpc": False,
        "encoder": False,
    }
    settings = Settings.from_env({}, **{**ports, **overrides})
    app = Application(settings, lambda *_: fake, lambda *_: text)
    await app.start()
    await app.warm()
    running = TextServing(app, fake, text)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield running
    finally:
        text.go_on()
        await running.stop()
