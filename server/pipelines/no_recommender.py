"""What stands in a server's recommender place when it serves texts only: an object that says so, instead of branches."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from server.artifacts.errors import ArtifactError
from server.domain import ModelInfo, RecommendRequest, RecommendResponse
from server.errors import NotFound
from server.recommender import Outcome
from server.tensor_domain import TensorContract, TensorQuery


class NothingPublished(ArtifactError):
    """The repository has no recommender at all."""


@dataclass(frozen=True, slots=True)
class _Health:
    ready: bool = True
    why: str = ""
    golden_ok: bool = True
    last_progress_s: float = field(default_factory=time.monotonic)


class NoRecommender:
    """Refuses every request with ``NotFound``; never keeps a server from being ready.

    Attributes:
        reload_failures: none, ever.
    """

    def __init__(self) -> None:
        self.reload_failures: dict[str, int] = {}
        self._info = ModelInfo(
            name="",
            version="",
            task="",
            engine="",
            precision="",
            items=0,
            limits={"max_k": 1 << 30},
            created_unix_s=0.0,
            sample_ids=(),
            ready=False,
        )

    async def start(self) -> None:
        """Nothing to start."""

    async def close(self, drain_s: float) -> None:
        """Nothing to close."""

    async def check_for_new_version(self) -> bool:
        """There is none."""
        return False

    def submit(self, request: RecommendRequest | TensorQuery, deadline_at_s: float) -> Outcome:
        """Say that there is none."""
        raise _none()

    def fallback(self, request: RecommendRequest, reason: str) -> RecommendResponse:
        """Say that there is none."""
        raise _none()

    def is_cold(self, request: RecommendRequest) -> bool:
        """Nothing is known here, and nothing else answers either."""
        return False

    def info(self) -> ModelInfo:
        """A model without a name, which is not listed."""
        return self._info

    def tensors(self) -> TensorContract | None:
        """There are none."""
        return None

    def health(self) -> _Health:
        """Always well."""
        return _Health()


def _none() -> NotFound:
    return NotFound("no recommender is served here; publish one, or ask the server that has it", field="path")
