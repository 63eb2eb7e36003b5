"""Searches for the highest rate at which every objective holds.

The policy is pure: told what each rate gave, it says which to try next.  Rates are doubled until one is not
passed, then halved in between (geometrically) until the bracket is as narrow as asked.  One probe is noisy,
so a rate is given up only when none of ``attempts`` probes passed it; what is reported as highest has passed.
UNDECIDABLE is never a pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from loadtest.slo import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLimits:
    """Bounds of a search.

    Attributes:
        start_rps: first rate to try (> 0).
        least_rps: give up below this (> 0).
        most_rps: never try more than this (>= start).
        tolerance: stop when the lowest rate not passed is at most this share above the highest passed (> 0).
        attempts: probes before a rate is given up (>= 1).

    Raises:
        ValueError: a bound is out of range; the message names it.
    """

    start_rps: float = 200.0
    least_rps: float = 10.0
    most_rps: float = 20_000.0
    tolerance: float = 0.05
    attempts: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.least_rps <= self.start_rps <= self.most_rps < math.inf:
            raise ValueError(
                f"rates {self.least_rps:g} (least) <= {self.start_rps:g} (start) <= {self.most_rps:g} (most) do not hold"
            )
        if not self.tolerance > 0 or self.attempts < 1:
            raise ValueError(
                f"tolerance {self.tolerance} and attempts {self.attempts}: must be over 0 and at least 1"
            )


@dataclass(slots=True)
class Search:
    """The state of one search: ask ``next_rate``, probe it, ``tell`` what it gave.

    Attributes:
        limits: its bounds.
        passed_rps: highest rate that passed; 0: none yet.
        missed_rps: lowest rate given up; infinite: none yet.
    """

    limits: SearchLimits
    passed_rps: float = 0.0
    missed_rps: float = math.inf
    _tries: dict[float, int] = field(default_factory=dict)

    def next_rate(self) -> float | None:
        """The rate to probe now; None when the search is over."""
        limits = self.limits
        if self._tries and (last := next(reversed(self._tries))) > self.passed_rps and last < self.missed_rps:
            return last  # not passed yet and not given up
        if self.passed_rps == 0:
            if self.missed_rps == math.inf:
                return limits.start_rps
            return max(self.missed_rps / 2, limits.least_rps) if self.missed_rps > limits.least_rps else None
        if self.missed_rps == math.inf:
            return min(self.passed_rps * 2, limits.most_rps) if self.passed_rps < limits.most_rps else None
        if self.missed_rps <= self.passed_rps * (1 + limits.tolerance):
            return None
        middle = _rounded(math.sqrt(self.passed_rps * self.missed_rps))
        return middle if self.passed_rps < middle < self.missed_rps else None

    def tell(self, rate_rps: float, verdict: Verdict) -> None:
        """Take in what a probe gave."""
        if verdict is Verdict.PASS:
            self._tries[rate_rps] = 0
            self.passed_rps = max(self.passed_rps, rate_rps)
            return
        self._tries[rate_rps] = self._tries.get(rate_rps, 0) + 1
        if self._tries[rate_rps] >= self.limits.attempts:
            self.missed_rps = min(self.missed_rps, rate_rps)


def _rounded(rate_rps: float) -> float:
    """Three digits: a rate that can be typed again."""
    digits = max(0, 2 - math.floor(math.log10(rate_rps)))
    return round(rate_rps, digits) if rate_rps < 100 else float(f"{rate_rps:.3g}")
