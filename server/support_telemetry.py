"""What customer service reports to telemetry, and the object that measures nothing. A few calls an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

# Values of ``Tier``, ``HandoverReason``, ``Missing`` and ``Language``; closed sets, for labels.
SUPPORT_TIERS = ("extractive", "generative", "order", "courtesy", "handover")
HANDOVER_REASONS = (
    "asked_for_person", "out_of_scope", "low_confidence", "repeated_failure", "angry", "vulnerable", "legal", "payment_dispute",
    "safety",
)  # fmt: skip
MISSING_PARTS = ("encoder", "knowledge", "text_model")
SUPPORT_LANGUAGES = ("en", "zh")
SUPPORT_STAGES = ("queue", "encode", "retrieve", "answer", "check")


class SupportRecorder(Protocol):
    """What is counted."""

    def answered(
        self,
        tier: str,
        language: str,
        reason: str | None,
        missing: Sequence[str],
        times_s: Mapping[str, float],
    ) -> None:
        """A question was answered or handed over.

        Args:
            tier: one of ``SUPPORT_TIERS``.
            language: one of ``SUPPORT_LANGUAGES``.
            reason: one of ``HANDOVER_REASONS``; None: it was answered.
            missing: of ``MISSING_PARTS``.
            times_s: by stage; those that are not of ``SUPPORT_STAGES`` are left out.
        """
        ...


class NullSupportRecorder:
    """A recorder for those who do not count."""

    def answered(
        self,
        tier: str,
        language: str,
        reason: str | None,
        missing: Sequence[str],
        times_s: Mapping[str, float],
    ) -> None:
        """Ignore it."""
