"""How far bulk work is, how fast, and when it will be done: pure arithmetic on an injected time.

Units: seconds, and lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

RATE_MEMORY_S = 30.0  # how far back the rate looks


@dataclass(frozen=True, slots=True)
class Standing:
    """How far it is.

    Attributes:
        total: lines in all.
        done: of them, with an entry; ``rejected`` of these are rejects.
        per_s: lines a second, of late; 0 before the first.
        eta_s: seconds that the rest will take; None while that is not known.
    """

    total: int
    done: int
    rejected: int
    per_s: float
    eta_s: float | None

    def sentence(self) -> str:
        """For a terminal."""
        share = 100.0 * self.done / self.total if self.total else 100.0
        eta = "unknown" if self.eta_s is None else _clock(self.eta_s)
        return (
            f"{self.done}/{self.total} ({share:.1f} %), {self.rejected} rejected, {self.per_s:.1f}/s, "
            f"done in {eta}"
        )


class Progress:
    """Counts lines as they are done."""

    def __init__(self, total: int, done: int, rejected: int, now_s: float) -> None:
        """Begin with what was done before, which says nothing about the rate."""
        self.total = total
        self._done = done
        self._rejected = rejected
        self._seen_s = now_s
        self._lines = 0.0  # decaying sums of lines and of the time in which they were done
        self._time_s = 0.0

    def line_done(self, now_s: float, *, rejected: bool) -> None:
        """One more."""
        passed_s = max(0.0, now_s - self._seen_s)
        self._seen_s = now_s
        kept = math.exp(-passed_s / RATE_MEMORY_S)
        self._lines = self._lines * kept + 1.0
        self._time_s = self._time_s * kept + passed_s
        self._done += 1
        self._rejected += rejected

    def standing(self, now_s: float) -> Standing:
        """Where it stands now; a stall shows in the rate before the next line does."""
        time_s = self._time_s + max(0.0, now_s - self._seen_s)
        per_s = self._lines / time_s if self._lines and time_s > 0 else 0.0
        left = self.total - self._done
        eta_s = 0.0 if left <= 0 else (left / per_s if per_s > 0 else None)
        return Standing(self.total, self._done, self._rejected, per_s, eta_s)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
