"""The re-ranker that serves now, and how the next version takes its place; see ``live_model`` for the same of a recommender.

It never keeps a server from starting or answering: a version that cannot be loaded leaves the first stage's order to be served, is
told as a reason, and is looked for again as any new version is. Only a name that is no re-ranker at all stops the start: that
is a typing error.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from server.artifacts.errors import ArtifactError
from server.artifacts.repository import current_version, open_version
from server.artifacts.signatures import TrustedKeys
from server.batching.dynamic import BatchTimings, DynamicBatcher
from server.domain import RERANK_TASK, ModelInfo
from server.errors import NotReady
from server.pipelines.named_models import ModelKind, name_of_kind
from server.pipelines.published_models import published_models
from server.pipelines.rerank import RerankAnswer, RerankAsk
from server.pipelines.rerank_loading import LoadedReranker, load_reranker
from server.pipelines.version_watch import VersionWatch
from server.telemetry_interface import BatchRecorder, EngineState, NullBatchRecorder

log = logging.getLogger("vitrine.rerank")

Observe = Callable[[str, str], BatchRecorder]
RERANK_KIND = ModelKind(task=RERANK_TASK, words="re-ranker", setting="VITRINE_RERANKER", log=log)
NEVER = "none"  # as the version that serves, where none does


class LiveReranker:
    """One re-ranker, whatever its version; for the event-loop thread. A ``Companion`` and an ``EngineSide``.

    Args:
        repository: folder of published models.
        name: of the model.
        candidates: of one request; 0: the version's own limit.
        observe: makes the batch observer from model and engine names.
        reload_interval_s: how often ``CURRENT`` is read; 0: never.
        max_stall_s: a batch that runs longer makes it not ready.
        trusted: whose versions are loaded; None: anybody's.
        clock: monotonic.

    Attributes:
        essential: False: without it, the first stage's order is served.
        reload_failures: see ``VersionWatch``.

    Raises:
        ArtifactError: there is no such model, or it is no re-ranker; lists those there are.
    """

    essential = False

    def __init__(
        self,
        repository: Path,
        name: str,
        *,
        candidates: int = 0,
        observe: Observe | None = None,
        reload_interval_s: float = 1.0,
        max_stall_s: float = 5.0,
        trusted: TrustedKeys | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_name(repository, name)
        self._repository, self._name, self._candidates = repository, name, candidates
        self._observe, self._clock, self._max_stall_s = observe, clock, max_stall_s
        self._trusted, self._fault = trusted, ""
        self._loaded: LoadedReranker | None = None
        self._batcher: DynamicBatcher[RerankAsk, RerankAnswer] | None = None
        self._started = False
        self._versions = VersionWatch(
            repository,
            name,
            serving=lambda: NEVER if self._loaded is None else self._loaded.info.version,
            load=self._load,
            take=self._take,
            log=log,
            interval_s=reload_interval_s,
        )
        self.reload_failures = self._versions.failures
        try:
            self._put(self._load(current_version(repository, name)))
        except ArtifactError as error:
            self._fault = str(error)
            log.error("re-ranker refused; the first stage's order is served", extra={"reason": str(error)})

    @property
    def candidates(self) -> int:
        """Items that it ranks in one request; 0 while there is no version."""
        return 0 if self._loaded is None else self._loaded.max_candidates

    async def start(self) -> None:
        """Start the engine thread and the watch on the repository."""
        self._started = True
        if self._batcher is not None:
            self._batcher.start()
        self._versions.start()

    async def close(self, drain_s: float) -> None:
        """Stop watching, answer what is in flight within ``drain_s``, stop the engine thread."""
        await self._versions.stop()
        if self._batcher is not None:
            await self._batcher.close(drain_s)

    def submit(
        self, ask: RerankAsk, deadline_at_s: float
    ) -> asyncio.Future[tuple[RerankAnswer, BatchTimings]]:
        """Rank one list; see ``DynamicBatcher.submit``.

        Raises:
            NotReady: there is no version, or it closes.
        """
        if self._batcher is None:
            raise NotReady(f"{self._name} has no version that can be loaded")
        return self._batcher.submit(ask, deadline_at_s=deadline_at_s)

    async def check_for_new_version(self) -> bool:
        """Take up the current version if it is another one; True when it was."""
        return await self._versions.look()

    def models(self) -> Sequence[ModelInfo]:
        """The version that serves, if any."""
        return () if self._loaded is None else (self._loaded.info,)

    def reasons(self) -> list[str]:
        """Why lists are not ranked again; empty when they are."""
        if self._loaded is None:
            return [f"re-ranker {self._name}: {self._fault}"]
        running_s = self._batcher.oldest_running_s if self._batcher is not None else None
        if running_s is not None and running_s > self._max_stall_s:
            return [f"re-ranker {self._name}: a batch has been running for {running_s:.1f} s"]
        return []

    def states(self) -> Iterable[EngineState]:
        """What its engine shows."""
        if self._loaded is not None and self._batcher is not None:
            info = self._loaded.info
            yield EngineState(
                model=info.name,
                version=info.version,
                engine=info.engine,
                precision=info.precision,
                last_progress_s=self._batcher.last_progress_s,
            )

    async def _take(self, loaded: LoadedReranker, version: str) -> None:
        before = None if self._loaded is None else self._loaded
        if self._batcher is None or before is None:
            self._put(loaded)
            if self._started and self._batcher is not None:
                self._batcher.start()
        else:
            old = self._batcher.swap(loaded.runner, loaded.limits, loaded.cost)
            self._loaded = loaded
            await self._batcher.drained(old)
            before.runner.close()
        log.info("new version ranks", extra={"model": self._name, "version": version})

    def _put(self, loaded: LoadedReranker) -> None:
        self._loaded, self._fault = loaded, ""
        observer = _OfBatches(self._observe(self._name, loaded.info.engine)) if self._observe else None
        self._batcher = DynamicBatcher(
            self._name, loaded.runner, loaded.limits, loaded.cost, clock=self._clock, observer=observer
        )

    def _load(self, version: str) -> LoadedReranker:
        opened = open_version(self._repository / self._name / version, trusted=self._trusted)
        return load_reranker(opened, candidates=self._candidates)


class _OfBatches(NullBatchRecorder):
    """Tells of batches alone: a list that is not ranked in time is no missed deadline, its request is answered all the same."""

    def __init__(self, recorder: BatchRecorder) -> None:
        self._recorder = recorder

    def batch_done(
        self, *, size: int, reason: str, engine_s: float, queue_waits_s: Sequence[float], now_s: float
    ) -> None:
        self._recorder.batch_done(
            size=size, reason=reason, engine_s=engine_s, queue_waits_s=queue_waits_s, now_s=now_s
        )

    def queue_depth(self, n: int) -> None:
        self._recorder.queue_depth(n)


def _check_name(repository: Path, name: str) -> None:
    """Raise unless a model of that name is a re-ranker, be it a damaged one."""
    if not any(one.name == name and one.task in (RERANK_TASK, None) for one in published_models(repository)):
        name_of_kind(repository, RERANK_KIND, name)
