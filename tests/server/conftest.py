"""Which event loop a test runs on (whole servers on the one that serves in production, all else on asyncio's); a text model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest
import uvloop

if TYPE_CHECKING:
    from tests.server.text_published import TinyText


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if hasattr(getattr(item, "module", None), "serving"):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> TinyText:
    """A published text version with random weights; read only."""
    from tests.server.text_published import (
        publish_tiny_text,  # builds with torch, which most tests need not import
    )

    folder = tmp_path_factory.mktemp("tiny-text")
    return publish_tiny_text(folder, folder / "repository")
