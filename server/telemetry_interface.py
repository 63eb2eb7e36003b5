"""What callers report to telemetry, and the object that measures nothing.

Metrics off is another object, not a branch on the hot path.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.copy_telemetry import CopyRecorder, NullCopyRecorder
from server.encoder_telemetry import EncoderRecorder, NullEncoderRecorder
from server.support_telemetry import NullSupportRecorder, SupportRecorder
from server.text_telemetry import NullTextRecorder, TextRecorder

OK = "ok"  # the outcome of an answered request; every other outcome is the value of a ``Code``


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """What one engine shows at a scrape.

    Attributes:
        model: model name.
        version: version that serves.
        engine: runner.
        precision: "fp32", "int8" ...
        last_progress_s: monotonic time of the last finished batch, or of the last moment without work.
    """

    model: str
    version: str
    engine: str
    precision: str
    last_progress_s: float


class BatchRecorder(Protocol):
    """What a batcher reports, on the event-loop thread; must be cheap. What it raises is only logged."""

    def batch_done(
        self, *, size: int, reason: str, engine_s: float, queue_waits_s: Sequence[float], now_s: float
    ) -> None:
        """One batch was answered; ``reason`` is why it was sent: full, window, deadline or idle."""
        ...

    def cancelled(self, stage: str) -> None:
        """A caller left; ``stage`` is queue or engine."""
        ...

    def deadline_missed(self, stage: str) -> None:
        """A request was refused (queue) or passed its deadline in the engine (engine)."""
        ...

    def queue_depth(self, n: int) -> None:
        """How many wait, after each decision."""
        ...


class NullTelemetry:
    """Measures nothing; also the interface of what measures."""

    def request_done(self, endpoint: str, protocol: str, outcome: str, tier: str, seconds: float) -> None:
        """One request has ended; ``outcome`` is "ok" or a ``Code``'s value, ``tier`` is who answered or "none"."""

    def rejected(self, reason: str) -> None:
        """A request was refused before any work."""

    def fallback(self, endpoint: str, reason: str) -> None:
        """The fallback tier answered; every reason but a cold start counts as degraded."""

    def deadline_missed(self, stage: str) -> None:
        """A deadline passed, or could not be met."""

    def cancelled(self, stage: str) -> None:
        """A caller left."""

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop woke up."""

    def batcher(self, model: str, engine: str) -> BatchRecorder:
        """The recorder of one model's batcher."""
        return NullBatchRecorder()

    def text(self, model: str) -> TextRecorder:
        """The recorder of one text model."""
        return NullTextRecorder()

    def encoder(self, model: str) -> EncoderRecorder:
        """The recorder of one sentence encoder."""
        return NullEncoderRecorder()

    def copy(self) -> CopyRecorder:
        """The recorder of the copy product."""
        return NullCopyRecorder()

    def support(self) -> SupportRecorder:
        """The recorder of customer service."""
        return NullSupportRecorder()

    def engines(self, read: Callable[[], Iterable[EngineState]]) -> None:
        """Where to ask for the engines at each scrape."""

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """A number without labels that is asked for at each scrape."""

    def counter(self, name: str, about: str, label: str, read: Callable[[], Mapping[str, int]]) -> None:
        """Counts by the values of one label that are asked for at each scrape; a closed set of values."""

    def fold(self) -> None:
        """Bound the memory of what was appended; called about once a second."""


class NullBatchRecorder:
    """A recorder for those who do not count."""

    def batch_done(
        self, *, size: int, reason: str, engine_s: float, queue_waits_s: Sequence[float], now_s: float
    ) -> None:
        """Ignore it."""

    def cancelled(self, stage: str) -> None:
        """Ignore it."""

    def deadline_missed(self, stage: str) -> None:
        """Ignore it."""

    def queue_depth(self, n: int) -> None:
        """Ignore it."""
