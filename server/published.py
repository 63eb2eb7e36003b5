"""What the settings and the repository say is to be opened; everything is imported when it is needed, and not before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from server.recommender import Recommender
from server.settings import Settings
from server.telemetry_interface import BatchRecorder, NullTelemetry

if TYPE_CHECKING:
    from server.pipelines.live_encoder import LiveEncoder
    from server.pipelines.live_reranker import LiveReranker
    from server.pipelines.product_copy.ports import CopyRules, CopyTemplates
    from server.text_side import LiveTextModel


class LiveModel(Recommender, Protocol):
    """A recommender with a life of its own.

    Attributes:
        reload_failures: published versions that were not taken up, by a closed set of reasons.
    """

    reload_failures: dict[str, int]

    async def start(self) -> None:
        """Begin, inside the running loop."""
        ...

    async def close(self, drain_s: float) -> None:
        """End what is in flight, within ``drain_s``."""
        ...

    async def check_for_new_version(self) -> bool:
        """Take up the current version if it is another one; True when it was."""
        ...


OpenModel = Callable[[Settings, Callable[[str, str], BatchRecorder]], LiveModel]


def open_published(settings: Settings, observe: Callable[[str, str], BatchRecorder]) -> LiveModel:
    """Open the published model that the settings name.

    Raises:
        ArtifactError: nothing is published there, or it cannot be loaded; a sentence says what to do.
    """
    from server.pipelines.live_model import LiveRecommender, LoadOptions
    from server.pipelines.trust import trusted_keys

    fleet = None
    if settings.engine == "triton":
        from server.engines.triton_fleet import FleetOptions, TritonFleet
        from server.pipelines.loading import Fleet

        asked = TritonFleet(settings.triton_hosts, FleetOptions(hedge=settings.triton_hedge))
        fleet = Fleet(asked, settings.triton_wait_s)
    options = LoadOptions(
        engine=settings.engine,
        threads=settings.engine_threads or max(1, usable_cores() - 1),
        max_items=settings.batch_max_items,
        max_wait_s=settings.batch_max_wait_ms * 1e-3,
        trusted=trusted_keys(settings),
        fleet=fleet,
        lanes=settings.triton_lanes or 2 * max(1, len(settings.triton_hosts)) if fleet else 1,
    )
    return LiveRecommender(
        settings.repository,
        settings.model,
        options=options,
        observe=observe,
        reload_interval_s=settings.reload_interval_s,
    )


def with_reranker(
    model: LiveModel, settings: Settings, telemetry: NullTelemetry
) -> tuple[LiveModel, LiveReranker | None]:
    """The recommender behind the re-ranker that the settings name, and the re-ranker; as it was where they name none.

    Raises:
        ArtifactError: there is no such re-ranker.
        ValueError: there is no recommender whose items it could rank.
    """
    if not settings.reranker:
        return model, None
    if not model.info().name:
        raise ValueError(
            f"VITRINE_RERANKER is {settings.reranker!r}, and no recommender is published whose items it could rank"
        )
    from server.pipelines.live_reranker import LiveReranker
    from server.pipelines.reranked import RerankedRecommender
    from server.pipelines.trust import trusted_keys

    reranker = LiveReranker(
        settings.repository,
        settings.reranker,
        candidates=settings.rerank_candidates,
        observe=telemetry.batcher,
        reload_interval_s=settings.reload_interval_s,
        trusted=trusted_keys(settings),
    )
    both = RerankedRecommender(model, reranker)
    telemetry.counter(
        "vitrine_rerank",
        "Answers of the model tier by what became of their second stage.",
        "outcome",
        lambda: both.outcomes,
    )
    return both, reranker


def open_recommender(
    open_model: OpenModel, settings: Settings, telemetry: NullTelemetry, *, alone: bool
) -> LiveModel:
    """Open the recommender, or what says that there is none, if other products are served without it.

    Raises:
        ArtifactError: it cannot be loaded, or nothing is published and nothing else is served (``alone``).
    """
    from server.pipelines.no_recommender import NoRecommender, NothingPublished

    try:
        return open_model(settings, telemetry.batcher)
    except NothingPublished:
        if alone:
            raise
        return NoRecommender()


def open_published_text(settings: Settings, telemetry: NullTelemetry) -> LiveTextModel | None:
    """Open the text model that the settings name, or the first that is published; None where there is none.

    Raises:
        ArtifactError: it cannot be loaded; a sentence says what to do.
    """
    if settings.text_engine == "off":
        return None
    if settings.text_engine == "upstream":
        try:
            from server.engines.upstream import open_upstream
        except ModuleNotFoundError as error:
            raise ValueError(
                f"VITRINE_TEXT_ENGINE is upstream: {error}; install vitrine[upstream]"
            ) from error

        return open_upstream(settings, telemetry)
    from server.pipelines.text_names import text_model_name

    name = text_model_name(settings.repository, settings.text_model)
    if name is None:
        return None
    from server.pipelines.live_text import open_live_text

    return open_live_text(settings, name, telemetry, threads=settings.text_threads or usable_cores())


def open_published_encoder(settings: Settings, telemetry: NullTelemetry) -> LiveEncoder | None:
    """The encoder that the settings name, or the first that is published, not loaded yet; None where there is none.

    Raises:
        ArtifactError: it is not there, or damaged; a sentence says what to do.
    """
    if not settings.encoder:
        return None
    from server.pipelines.encoder_names import encoder_name

    name = encoder_name(settings.repository, settings.encoder_model)
    if name is None:
        return None
    from server.pipelines.live_encoder import open_live_encoder

    return open_live_encoder(settings, name, telemetry)


def open_copy_rules(settings: Settings) -> tuple[CopyRules, CopyTemplates]:
    """What product copy may say, and what it says without a model; raises ``BadStyleFile``."""
    from server.pipelines.product_copy.rules import open_rules

    return open_rules(settings.copy_style)


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container where there is one (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()[:2]
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
