"""What the service asks of a recommender; the pipelines and the tests' fake have this shape.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from server.domain import ModelInfo, RecommendRequest, RecommendResponse
from server.tensor_domain import TensorAnswer, TensorContract, TensorQuery


class EngineHealth(Protocol):
    """How an engine does; by progress, not by being there."""

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        ...

    @property
    def why(self) -> str:
        """The reason when it does not, as a sentence."""
        ...

    @property
    def golden_ok(self) -> bool:
        """Whether the golden inputs gave the golden outputs."""
        ...

    @property
    def last_progress_s(self) -> float:
        """Monotonic time of the last finished batch, or of the last moment without work."""
        ...


class StageTimings(Protocol):
    """Where the pipeline spent a request's time; the batcher's timings have this shape."""

    queue_s: float
    encode_s: float
    engine_s: float
    post_s: float


Outcome = asyncio.Future[
    tuple[RecommendResponse | TensorAnswer, Any]
]  # Any: StageTimings, which a Future's invariance would refuse


class Recommender(Protocol):
    """One served recommender; ``server.pipelines`` has it."""

    def submit(self, request: RecommendRequest | TensorQuery, deadline_at_s: float) -> Outcome:
        """Ask the model tier; raises or fails with DeadlineExceeded, EngineFault or NotReady.

        Cancel to leave, or with ``batching.waiting.OVERDUE`` when the deadline has come: that is no caller who left.

        The result is the answer and its ``StageTimings``; the service puts these into ``timings_s``.
        """
        ...

    def fallback(self, request: RecommendRequest, reason: str) -> RecommendResponse:
        """Answer at once from transition counts and popularity."""
        ...

    def is_cold(self, request: RecommendRequest) -> bool:
        """Whether nothing in the history is known."""
        ...

    def info(self) -> ModelInfo:
        """What serves now."""
        ...

    def tensors(self) -> TensorContract | None:
        """What may be asked of it by tensors; None: nothing. Another object after a new version has come."""
        ...

    def health(self) -> EngineHealth:
        """How it does now."""
        ...
