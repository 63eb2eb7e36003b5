"""The series of customer service; made when the product is, so a server without it shows none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.support_telemetry import (
    HANDOVER_REASONS,
    MISSING_PARTS,
    SUPPORT_LANGUAGES,
    SUPPORT_STAGES,
    SUPPORT_TIERS,
)
from server.telemetry_series import Counters, Histograms

# A search by words takes half a millisecond, a text by a language model seconds: 0.1 ms .. 3.3 s, doubling.
STAGE_BUCKETS_S = tuple(1e-4 * 2**i for i in range(16))


class SupportSeries:
    """A ``SupportRecorder``."""

    def __init__(self) -> None:
        self._answers = Counters(
            "vitrine_support_answers",
            "Questions to customer service by who answered.",
            ("tier", "language"),
            [(tier, language) for tier in SUPPORT_TIERS for language in SUPPORT_LANGUAGES],
        )
        self._handovers = Counters(
            "vitrine_support_handovers",
            "Questions that a person takes over, by the reason.",
            ("reason",),
            [(reason,) for reason in HANDOVER_REASONS],
        )
        self._missing = Counters(
            "vitrine_support_missing",
            "Questions answered while something was away.",
            ("part",),
            [(part,) for part in MISSING_PARTS],
        )
        self._stages = Histograms(
            "vitrine_support_stage_seconds",
            "Time one question spent in one stage.",
            ("stage",),
            STAGE_BUCKETS_S,
        )

    def families(self) -> Sequence[Counters | Histograms]:
        """All of them."""
        return self._answers, self._handovers, self._missing, self._stages

    def answered(
        self,
        tier: str,
        language: str,
        reason: str | None,
        missing: Sequence[str],
        times_s: Mapping[str, float],
    ) -> None:
        """A question was answered or handed over."""
        self._answers.add((tier, language))
        if reason is not None:
            self._handovers.add((reason,))
        for part in missing:
            self._missing.add((part,))
        for stage, seconds in times_s.items():
            if stage in SUPPORT_STAGES:
                self._stages.observe((stage,), seconds)
