"""The model that serves now, and how the next one takes its place without a dropped or delayed request.

A new version is found by polling ``CURRENT`` (one small read), loaded, warmed and replayed in a worker thread while the
old one serves, then swapped between two batches; the old engines are let go when no batch holds them any more. A version
that cannot be loaded is reported once and skipped: the old one goes on.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.artifacts.errors import ArtifactError
from server.artifacts.repository import current_version, open_version
from server.artifacts.signatures import TrustedKeys
from server.batching.dynamic import BatchTimings, DynamicBatcher
from server.domain import ModelInfo, RecommendRequest, RecommendResponse, Stage
from server.pipelines.loading import TASK, Fleet, LoadedModel, load_model
from server.pipelines.no_recommender import NothingPublished
from server.pipelines.published_models import faults_told, published_models
from server.pipelines.recommend import Answered, Asked
from server.pipelines.version_watch import VersionWatch
from server.telemetry_interface import BatchRecorder
from server.tensor_domain import TensorContract

log = logging.getLogger("vitrine.model")

Observe = Callable[[str, str], BatchRecorder]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """How the model does.

    Attributes:
        ready: it answers.
        why: the reason when it does not.
        golden_ok: the version that serves reproduced its golden answers.
        last_progress_s: monotonic time of the last finished batch, or of the last moment without work.
    """

    ready: bool
    why: str
    golden_ok: bool
    last_progress_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How versions are loaded (see ``load_model``), whose (None: anybody's), and batches in engines at once (``lanes``)."""

    engine: str = "auto"
    threads: int = 1
    max_items: int = 0
    max_wait_s: float = 0.0
    trusted: TrustedKeys | None = None
    fleet: Fleet | None = None
    lanes: int = 1


class LiveRecommender:
    """One recommender, whatever its version; for the event-loop thread.

    Args:
        repository: folder of published models.
        model: its name; empty: the only recommender there is.
        options: how versions are loaded.
        observe: makes the batch observer from model and engine names.
        reload_interval_s: how often ``CURRENT`` is read; 0: never.
        max_stall_s: a batch that runs longer makes the model not ready.
        clock: monotonic.

    Attributes:
        reload_failures: new versions not taken up: "unreadable" (which version serves cannot be read) or "refused" (it
            cannot be loaded, or answers otherwise than it did in the gate); each failing version counts once.

    Raises:
        ArtifactError: nothing to serve, or it cannot be loaded.
    """

    def __init__(
        self,
        repository: Path,
        model: str = "",
        *,
        options: LoadOptions | None = None,
        observe: Observe | None = None,
        reload_interval_s: float = 1.0,
        max_stall_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._name = model or _only_model(repository)
        self._options = options or LoadOptions()
        self._max_stall_s = max_stall_s
        self._clock = clock
        self._loaded = self._load(current_version(repository, self._name))
        loaded = self._loaded
        observer = observe(self._name, loaded.info.engine) if observe else None
        self._lanes: list[DynamicBatcher[Asked, Answered]] = [
            DynamicBatcher(
                self._name, loaded.runner, loaded.limits, loaded.cost, clock=clock, observer=observer
            )
            for _ in range(max(1, self._options.lanes))
        ]
        self._batcher = self._lanes[0]
        self._versions = VersionWatch(
            repository,
            self._name,
            serving=lambda: self._loaded.info.version,
            load=self._load,
            take=self._take,
            log=log,
            interval_s=reload_interval_s,
        )
        self.reload_failures = self._versions.failures

    async def start(self) -> None:
        """Start the engine thread and the watch on the repository."""
        for lane in self._lanes:
            lane.start()
        self._versions.start()

    async def close(self, drain_s: float) -> None:
        """Stop watching, answer what is in flight within ``drain_s``, stop the engine thread."""
        await self._versions.stop()
        await asyncio.gather(*(lane.close(drain_s) for lane in self._lanes))
        if self._options.fleet is not None:
            await asyncio.to_thread(self._options.fleet.asked.close)

    def submit(self, request: Asked, deadline_at_s: float) -> asyncio.Future[tuple[Answered, BatchTimings]]:
        """Ask the model tier; see ``DynamicBatcher.submit``."""
        lanes = self._lanes
        lane = self._batcher if len(lanes) == 1 else min(lanes, key=DynamicBatcher.predicted_wait_s)
        return lane.submit(request, deadline_at_s=deadline_at_s)

    def fallback(self, request: RecommendRequest, reason: str) -> RecommendResponse:
        """Answer from transition counts and popularity, now."""
        start = time.perf_counter()
        response = self._loaded.fallback.answer(request, reason)
        response.timings_s = {Stage.POST: time.perf_counter() - start}
        return response

    def is_cold(self, request: RecommendRequest) -> bool:
        """Whether no item of the history is known."""
        known = self._loaded.runner.catalogue.index.row
        return not any(known(item_id) for item_id in reversed(request.history))

    def info(self) -> ModelInfo:
        """The version that serves."""
        return self._loaded.info

    def tensors(self) -> TensorContract | None:
        """What may be asked of it by tensors."""
        return self._loaded.runner.contract

    def health(self) -> EngineHealth:
        """Ready unless a batch has been running for too long."""
        ages_s = [lane.oldest_running_s for lane in self._lanes]
        running_s = max((age_s for age_s in ages_s if age_s is not None), default=None)
        stalled = running_s is not None and running_s > self._max_stall_s
        why = (
            f"a batch has been running for {running_s:.1f} s, the limit is {self._max_stall_s:g} s"
            if stalled
            else ""
        )
        return EngineHealth(
            ready=not stalled,
            why=why,
            golden_ok=True,
            last_progress_s=max(lane.last_progress_s for lane in self._lanes),
        )

    async def check_for_new_version(self) -> bool:
        """Take up the current version if it is another one; True when it was.

        A version that cannot be loaded is logged once and remembered, and the old one goes on serving.
        """
        return await self._versions.look()

    async def _take(self, loaded: LoadedModel, version: str) -> None:
        old = self._loaded.runner
        for lane in self._lanes:
            lane.swap(loaded.runner, loaded.limits, loaded.cost)
        before, self._loaded = self._loaded.info.version, loaded
        await asyncio.gather(*(lane.drained(old) for lane in self._lanes))
        old.close()
        log.info("new version serves", extra={"model": self._name, "version": version, "previous": before})

    def _load(self, version: str) -> LoadedModel:
        options = self._options
        opened = open_version(self._repository / self._name / version, trusted=options.trusted)
        return load_model(
            opened,
            engine=options.engine,
            threads=options.threads,
            max_items=options.max_items,
            max_wait_s=options.max_wait_s,
            fleet=options.fleet,
        )


def _only_model(repository: Path) -> str:
    models = published_models(repository)
    names = [model.name for model in models if model.task == TASK and not model.fault]
    damaged = [model for model in models if model.task in (TASK, None) and model.fault]
    if not names and damaged:
        raise ArtifactError(faults_told(repository, "recommender", damaged))
    if not names:
        raise NothingPublished(
            f"{repository}: no recommender is published there; build one with "
            "`python -m build_engines run build_engines/recipes/sample_shop.toml`"
        )
    for model in damaged:
        log.warning("not looked at for recommendations", extra={"model": model.name, "reason": model.fault})
    if len(names) == 1:
        return names[0]
    raise ArtifactError(
        f"{repository}: several recommenders ({', '.join(names)}); choose one with --model or VITRINE_MODEL"
    )
