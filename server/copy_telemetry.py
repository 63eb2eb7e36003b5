"""What the copy product reports to telemetry, and the object that measures nothing. A few calls an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

# How an answer came by its text; a closed set, for a label.
HIT, MISS, COLLAPSED, FORCED = CACHE_OUTCOMES = ("hit", "miss", "collapsed", "forced")


class CopyRecorder(Protocol):
    """What is counted."""

    def variant_written(self, channel: str, language: str, effort: str) -> None:
        """A variant was written and released; ``effort`` is a value of ``Effort``."""
        ...

    def claims_refused(self, kinds: Mapping[str, int]) -> None:
        """A model claimed what no record says: how often, by the value of ``ClaimKind``."""
        ...

    def cache_asked(self, outcome: str) -> None:
        """A request was looked up; one of ``CACHE_OUTCOMES``."""
        ...


class NullCopyRecorder:
    """A recorder for those who do not count."""

    def variant_written(self, channel: str, language: str, effort: str) -> None:
        """Ignore it."""

    def claims_refused(self, kinds: Mapping[str, int]) -> None:
        """Ignore it."""

    def cache_asked(self, outcome: str) -> None:
        """Ignore it."""
