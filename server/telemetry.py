"""Every metric of the server, once, on a registry that is passed in.

Callers record by appending (see ``telemetry_series``); nothing here may cost a request more than a microsecond.

All methods are for the event-loop thread; collecting may happen on any thread.

Units: seconds on the monotonic clock, except ``..._timestamp_seconds``, which is Unix time as Prometheus wants it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric

from server.copy_telemetry import CopyRecorder
from server.encoder_telemetry import EncoderRecorder
from server.support_telemetry import SupportRecorder
from server.telemetry_interface import BatchRecorder, EngineState, NullTelemetry
from server.telemetry_series import Counters, Gauges, Histograms, Labels
from server.text_telemetry import TextRecorder

if TYPE_CHECKING:
    from server.telemetry_encoder import EncoderSeries
    from server.telemetry_text import TextSeries

# The objectives we set are between 2 ms and 1 s, so the steps there are a factor of at most 1.5 to 2 apart.
REQUEST_BUCKETS_S = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.010, 0.015, 0.020, 0.030, 0.050, 0.075, 0.100, 0.150, 0.200, 0.300, 0.500,
    0.750, 1.0, 2.0, 5.0, 10.0, 30.0,
)  # fmt: skip
# Stages of a request begin well below a millisecond: 0.05 ms .. ~1.6 s, doubling.
STAGE_BUCKETS_S = tuple(5e-5 * 2**i for i in range(16))
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LAG_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.010, 0.020, 0.050, 0.100, 0.250, 0.500, 1.0, 5.0)

RELEASE_REASONS = ("full", "window", "deadline", "idle")
REJECT_REASONS = (
    "overloaded", "not_ready", "unauthenticated", "connections", "too_large", "malformed", "timeout"
)  # fmt: skip


class Telemetry(NullTelemetry):
    """Measures, and gives all of it to a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families: list[Histograms | Counters | Gauges] = []
        self._text: TextSeries | None = None
        self._encoder: EncoderSeries | None = None
        self.requests = self._histograms(
            "vitrine_request_duration_seconds",
            "Time from a request's arrival to its answer.",
            ("endpoint", "protocol", "outcome", "tier"),
            REQUEST_BUCKETS_S,
        )
        self.queue_wait = self._histograms(
            "vitrine_queue_wait_seconds",
            "Time one request waited for its batch to start.",
            ("model",),
            STAGE_BUCKETS_S,
        )
        self.engine = self._histograms(
            "vitrine_engine_seconds",
            "Time the engine took for one batch.",
            ("model", "engine"),
            STAGE_BUCKETS_S,
        )
        self.batch_size = self._histograms(
            "vitrine_batch_size", "Requests in one batch.", ("model",), BATCH_BUCKETS
        )
        self.lag = self._histograms(
            "vitrine_event_loop_lag_seconds",
            "How late the event loop woke up for its heartbeat.",
            (),
            LAG_BUCKETS_S,
        )
        self.releases = self._counters(
            "vitrine_batch_release", "Batches by the reason they were sent.", ("model", "reason")
        )
        self.rejections = self._counters(
            "vitrine_rejected",
            "Requests refused before any work.",
            ("reason",),
            [(r,) for r in REJECT_REASONS],
        )
        self.degradations = self._counters(
            "vitrine_degraded", "Requests answered from a lower rung than asked.", ("endpoint", "rung")
        )
        self.fallbacks = self._counters(
            "vitrine_fallback",
            "Answers of the fallback tier by reason, cold starts included.",
            ("endpoint", "reason"),
        )
        self.misses = self._counters(
            "vitrine_deadline_missed", "Deadlines that passed or could not be met.", ("stage",), [("queue",)]
        )
        self.departures = self._counters("vitrine_cancelled", "Callers who left.", ("stage",), [("queue",)])
        self.depth = self._gauges("vitrine_queue_depth", "Requests waiting for a batch.", ("model",))
        self.progress = self._gauges(
            "vitrine_engine_last_progress_timestamp_seconds",
            "Unix time of the engine's last finished batch, or of its last moment without work.",
            ("model",),
        )
        self.info = self._gauges(
            "vitrine_engine_info",
            "Always 1; what serves is in the labels.",
            ("model", "version", "engine", "precision"),
        )
        build = self._gauges(
            "vitrine_build_info", "Always 1; the build is in the labels.", ("version", "python")
        )
        build.source("", lambda: [((server_version(), platform.python_version()), 1.0)])
        registry.register(self)
        ProcessCollector(registry=registry)

    def collect(self) -> Iterable[Metric]:
        """All families, folded; called by the registry on the scraping thread."""
        for family in list(self._families):
            yield from family.collect()

    def request_done(self, endpoint: str, protocol: str, outcome: str, tier: str, seconds: float) -> None:
        """One request has ended."""
        self.requests.observe((endpoint, protocol, outcome, tier), seconds)

    def rejected(self, reason: str) -> None:
        """A request was refused before any work."""
        self.rejections.add((reason,))

    def fallback(self, endpoint: str, reason: str) -> None:
        """The fallback tier answered."""
        self.fallbacks.add((endpoint, reason))
        if reason != "cold_start":
            self.degradations.add((endpoint, "fallback"))

    def deadline_missed(self, stage: str) -> None:
        """A deadline passed, or could not be met."""
        self.misses.add((stage,))

    def cancelled(self, stage: str) -> None:
        """A caller left."""
        self.departures.add((stage,))

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop woke up."""
        self.lag.observe((), seconds)

    def batcher(self, model: str, engine: str) -> BatchRecorder:
        """The recorder of one model's batcher."""
        return _BatchRecorder(self, model, engine)

    def text(self, model: str) -> TextRecorder:
        """The recorder of one text model; its series come with the first."""
        from server.telemetry_text import SeriesTextRecorder, TextSeries

        if self._text is None:
            self._text = TextSeries()
            self._families += self._text.families()
        return SeriesTextRecorder(self._text, model)

    def encoder(self, model: str) -> EncoderRecorder:
        """The recorder of one sentence encoder; its series come with the first."""
        from server.telemetry_encoder import EncoderSeries, SeriesEncoderRecorder

        if self._encoder is None:
            self._encoder = EncoderSeries()
            self._families += self._encoder.families()
        return SeriesEncoderRecorder(self._encoder, model, self.deadline_missed, self.cancelled)

    def copy(self) -> CopyRecorder:
        """The recorder of the copy product; its series come with it."""
        from server.telemetry_copy import CopySeries

        series = CopySeries()
        self._families += series.families()
        return series

    def support(self) -> SupportRecorder:
        """The recorder of customer service; its series come with it."""
        from server.telemetry_support import SupportSeries

        series = SupportSeries()
        self._families += series.families()
        return series

    def engines(self, read: Callable[[], Iterable[EngineState]]) -> None:
        """Where to ask for the engines at each scrape."""

        def progress() -> Iterable[tuple[Labels, float]]:
            to_unix = time.time() - time.monotonic()
            return [((state.model,), state.last_progress_s + to_unix) for state in read()]

        self.progress.source("engines", progress)
        self.info.source(
            "engines", lambda: [((s.model, s.version, s.engine, s.precision), 1.0) for s in read()]
        )

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """A number without labels that is asked for at each scrape."""
        self._gauges(name, about, ()).source("", lambda: [((), float(read()))])

    def counter(self, name: str, about: str, label: str, read: Callable[[], Mapping[str, int]]) -> None:
        """Counts by the values of one label that are asked for at each scrape; a closed set of values."""
        family = Gauges(name, about, (label,), counts=True)
        self._families.append(family)
        family.source("", lambda: [((value,), float(count)) for value, count in read().items()])

    def fold(self) -> None:
        """Move what was appended into the counts."""
        for family in self._families:
            if isinstance(family, Histograms):
                family.fold()

    def _histograms(self, name: str, about: str, labels: Labels, buckets: Sequence[float]) -> Histograms:
        family = Histograms(name, about, labels, buckets)
        self._families.append(family)
        return family

    def _counters(self, name: str, about: str, labels: Labels, known: Iterable[Labels] = ()) -> Counters:
        family = Counters(name, about, labels, known)
        self._families.append(family)
        return family

    def _gauges(self, name: str, about: str, labels: Labels) -> Gauges:
        family = Gauges(name, about, labels)
        self._families.append(family)
        return family


class _BatchRecorder:
    def __init__(self, telemetry: Telemetry, model: str, engine: str) -> None:
        self._telemetry = telemetry
        self._model = model
        self._engine_s = telemetry.engine.buffer((model, engine))
        self._waits_s = telemetry.queue_wait.buffer((model,))
        self._sizes = telemetry.batch_size.buffer((model,))
        self._queued = 0
        for reason in RELEASE_REASONS:
            telemetry.releases.add((model, reason), 0)
        telemetry.depth.source(model, lambda: [((model,), float(self._queued))])

    def batch_done(
        self, *, size: int, reason: str, engine_s: float, queue_waits_s: Sequence[float], now_s: float
    ) -> None:
        self._engine_s.append(engine_s)
        self._sizes.append(size)
        self._waits_s.extend(queue_waits_s)
        self._telemetry.releases.add((self._model, reason))

    def cancelled(self, stage: str) -> None:
        self._telemetry.cancelled(stage)

    def deadline_missed(self, stage: str) -> None:
        self._telemetry.deadline_missed(stage)

    def queue_depth(self, n: int) -> None:
        self._queued = n


def server_version() -> str:
    """The installed version of this distribution."""
    try:
        return version("vitrine")
    except PackageNotFoundError:
        return "unknown"
