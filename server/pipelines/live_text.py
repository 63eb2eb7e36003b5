"""The text model that serves now, and how the next version takes its place without a dropped text.

A new version is found by polling ``CURRENT``, loaded, replayed and timed in a worker thread while the old one writes, then
swapped in: new texts begin with the new one, those under way are finished by theirs, and the old engine's memory is let go
when the last of them has ended. Until then no third version is looked at, so that there are never more than two in memory.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from server.artifacts.repository import current_version, open_version
from server.batching.continuous import ContinuousBatcher
from server.batching.text_model import TextLimits, TextModel
from server.pipelines.text_loading import TextLoadOptions, load_text_model
from server.pipelines.trust import trusted_keys
from server.pipelines.version_watch import VersionWatch
from server.settings import Settings
from server.telemetry_interface import NullTelemetry
from server.text_domain import GenerateRequest, TextModelInfo
from server.text_generator import Generation, Sink, TextCodec
from server.text_telemetry import TextRecorder

log = logging.getLogger("vitrine.text")

LAST_STEP_S = 1.0  # how long closing waits for a step that is under way

Load = Callable[[str], TextModel]


def open_live_text(settings: Settings, name: str, telemetry: NullTelemetry, *, threads: int) -> LiveText:
    """Load the current version of a text model, ready to be started.

    Raises:
        ArtifactError: it cannot be loaded, or does not write what it wrote when it was gated.
    """
    options = TextLoadOptions(
        threads=threads, slots=settings.text_slots, max_context=settings.text_max_context
    )

    trusted = trusted_keys(settings)

    def load(version: str) -> TextModel:
        return load_text_model(open_version(settings.repository / name / version, trusted=trusted), options)

    limits = TextLimits(
        max_texts=settings.text_max_in_flight,
        first_token_s=settings.text_first_token_ms * 1e-3,
        inter_token_s=settings.text_inter_token_ms * 1e-3,
    )
    return LiveText(
        settings.repository,
        name,
        load,
        limits=limits,
        recorder=telemetry.text(name),
        reload_interval_s=settings.reload_interval_s,
    )


class LiveText:
    """A ``TextGenerator`` with a life of its own; for the event-loop thread.

    Args:
        repository: folder of published models.
        name: of the model.
        load: opens a version; called here for the first, on a worker thread for the next ones.
        limits: of the batcher.
        recorder: what its steps are told to.
        reload_interval_s: how often ``CURRENT`` is read; 0: never.
        clock: monotonic.

    Attributes:
        reload_failures: new versions not taken up: "unreadable" (which version serves cannot be read) or "refused" (it
            cannot be loaded, or would write otherwise than it did in the gate); each failing version counts once.

    Raises:
        ArtifactError: nothing to serve, or it cannot be loaded.
    """

    def __init__(
        self,
        repository: Path,
        name: str,
        load: Load,
        *,
        limits: TextLimits | None = None,
        recorder: TextRecorder | None = None,
        reload_interval_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        model = load(current_version(repository, name))
        self._loaded = [model]  # oldest first; the last one serves
        self._batcher = ContinuousBatcher(model, limits, clock=clock, recorder=recorder)
        self._versions = VersionWatch(
            repository,
            name,
            serving=lambda: self.info().version,
            load=load,
            take=self._take,
            log=log,
            interval_s=reload_interval_s,
        )
        self.reload_failures = self._versions.failures

    async def start(self) -> None:
        """Start the engine thread and the watch on the repository."""
        self._batcher.start()
        self._versions.start()

    async def close(self, drain_s: float) -> None:
        """Stop watching, finish what is under way within ``drain_s``, fail the rest, let go of the engines."""
        await self._versions.stop()
        await self._batcher.close(drain_s)
        for model in self._loaded:
            try:
                async with asyncio.timeout(LAST_STEP_S):
                    await self._batcher.drained(model)
            except TimeoutError:  # to take its memory away within a step would take the process with it
                log.error("the engine hangs in a step; it ends with the process", extra={"model": self._name})
            else:
                model.engine.close()
        self._loaded.clear()

    @property
    def codec(self) -> TextCodec:
        """Of the version that new texts begin with."""
        return self._batcher.codec

    def info(self) -> TextModelInfo:
        """The version that new texts begin with."""
        return self._batcher.info()

    def submit(self, request: GenerateRequest, sink: Sink) -> Generation:
        """Begin to write; see ``TextGenerator.submit``."""
        return self._batcher.submit(request, sink)

    def ready(self) -> tuple[bool, str]:
        """Whether texts can be written now, and a sentence if not."""
        return self._batcher.ready()

    @property
    def last_progress_s(self) -> float:
        """When the engine last finished a step, or now when idle."""
        return self._batcher.last_progress_s

    async def check_for_new_version(self) -> bool:
        """Take up the current version if it is another one; True when it was.

        Returns when the last text of the old version has ended. A version that cannot be loaded is logged once and
        remembered, and the old one goes on writing.
        """
        return await self._versions.look()

    async def _take(self, model: TextModel, version: str) -> None:
        before = self.info().version
        self._loaded.append(model)
        old = self._batcher.swap(model)
        log.info("new version writes", extra={"model": self._name, "version": version, "previous": before})
        await self._batcher.drained(old)
        self._loaded.remove(old)
        await asyncio.to_thread(old.engine.close)
