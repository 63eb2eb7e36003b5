"""A whole server with a real tiny recommender, for clients of the open inference protocol."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np

from server.app import Application
from server.settings import Settings
from tests.tiny import LENGTH

HISTORY = np.arange(1, LENGTH + 1, dtype=np.int32)[None]


class KServing:
    """One running server."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.http = f"127.0.0.1:{app.http_port}"
        self.grpc = f"127.0.0.1:{app.grpc_port}"
        self.url = f"http://{self.http}"


@contextlib.asynccontextmanager
async def serving(repository: Path, **overrides: Any) -> AsyncIterator[KServing]:
    """Run a server until the block ends."""
    fixed = {"http_port": 0, "grpc_port": 0, "metrics_port": 0, "drain_s": 2.0, "reload_interval_s": 0.0}
    quiet = {"text_engine": "off", "encoder": False, "copy": False, "support": False}
    patient = {"default_deadline_ms": 5_000.0, "target_wait_ms": 0.0}
    settings = Settings.from_env({}, **{**fixed, **quiet, **patient, "repository": repository, **overrides})
    app = Application(settings)
    await app.start()
    try:
        yield KServing(app)
    finally:
        await app.stop()


def tensor(client_module: Any, name: str, array: np.ndarray, datatype: str, **how: Any) -> Any:
    """An input of tritonclient's."""
    given = client_module.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, **how)
    return given
