"""The series of product copy; made when the product is, so a server without it shows none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.copy_telemetry import CACHE_OUTCOMES
from server.telemetry_series import Counters


class CopySeries:
    """A ``CopyRecorder``."""

    def __init__(self) -> None:
        self._variants = Counters(
            "vitrine_copy_variants",
            "Pieces of copy by what it took to release them: first_try, regenerated, edited, template.",
            ("channel", "language", "effort"),
        )
        self._claims = Counters(
            "vitrine_copy_claims_refused", "Claims that no record bears out; none was released.", ("kind",)
        )
        self._cache = Counters(
            "vitrine_copy_cache",
            "Requests for copy by how they were answered from the cache.",
            ("outcome",),
            [(outcome,) for outcome in CACHE_OUTCOMES],
        )

    def families(self) -> Sequence[Counters]:
        """All of them."""
        return self._variants, self._claims, self._cache

    def variant_written(self, channel: str, language: str, effort: str) -> None:
        """A variant was written and released."""
        self._variants.add((channel, language, effort))

    def claims_refused(self, kinds: Mapping[str, int]) -> None:
        """A model claimed what no record says."""
        for kind, count in kinds.items():
            self._claims.add((kind,), count)

    def cache_asked(self, outcome: str) -> None:
        """A request was looked up."""
        self._cache.add((outcome,))
