"""A whole server with customer service on pages and an encoder in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from server.pipelines.customer_service.pipeline import SupportPipeline
from tests.server.serving import Serving, serving
from tests.server.support_world import World


@contextlib.asynccontextmanager
async def serving_support(world: World, **overrides: Any) -> AsyncIterator[Serving]:
    """Run a server until the block ends."""
    async with serving(**{"copy": False, **overrides}) as running:
        await running.app.warm()
        support = running.app.support
        assert support is not None
        pipeline: SupportPipeline = world.pipeline()
        support.service.pipeline = pipeline
        yield running
