"""How long a batch takes: ``a + b * n``, seeded by who makes it and corrected by what is measured.

The server seeds it from a few runs when a version is loaded: the manifest's figures are of the builder's machine.

The fit is a least-squares line over an exponentially fading past, with two safeguards that must stay: one
observation is clipped to a few times its prediction, so that a stall is not mistaken for the engine's speed;
and the slope is tied to the last slope, so that a server that only ever sees batches of one size keeps the
slope it was seeded with.

Units: seconds.
"""

from __future__ import annotations

import math

MEMORY = 0.97  # weight of the past per observation: about the last 33 batches
CLIP = 3.0  # an observation counts for at most this many times its prediction; a slowdown takes a few steps
SLOPE_TIE = 50.0  # how firmly the slope is held, in items^2: batches that vary by a few items overrule it
RELAX = 0.9  # what is left of the excess over the seed each time ``relax`` is called


class CostModel:
    """Seconds for a batch of n items; both coefficients are finite and >= 0.

    Attributes:
        base_s: a, the cost of a batch however small.
        per_item_s: b, the cost of one more item.
    """

    __slots__ = ("_n", "_nn", "_ny", "_seed", "_weight", "_y", "base_s", "per_item_s")

    def __init__(self, base_s: float, per_item_s: float) -> None:
        """Start from a measured line.

        Args:
            base_s: a, in seconds (>= 0, finite).
            per_item_s: b, in seconds per item (>= 0, finite).

        Raises:
            ValueError: a coefficient is out of range; the message names it.
        """
        for name, value in (("base_s", base_s), ("per_item_s", per_item_s)):
            if not (0.0 <= value < math.inf):
                raise ValueError(f"{name} = {value}, must be finite and >= 0")
        self.base_s = base_s
        self.per_item_s = per_item_s
        self._seed = (base_s, per_item_s)
        self._weight = self._n = self._nn = self._y = self._ny = 0.0
        if base_s + per_item_s > 0.0:  # the seed speaks as four observations of single items would
            seen = 4.0
            self._weight, self._n, self._nn = seen, seen, seen
            self._y = self._ny = seen * (base_s + per_item_s)

    def __repr__(self) -> str:
        return f"CostModel({self.base_s!r}, {self.per_item_s!r})"

    def predict_s(self, n: int) -> float:
        """Seconds that a batch of ``n`` items is expected to take."""
        return self.base_s + self.per_item_s * n

    def fits(self, budget_s: float, limit: int) -> int:
        """The most items, up to ``limit``, that are predicted to take no more than ``budget_s``."""
        room = budget_s - self.base_s
        if not room >= self.per_item_s:  # also NaN
            return 0
        n = limit if self.per_item_s * limit <= room else min(limit, int(room / self.per_item_s))
        while n > 0 and self.base_s + self.per_item_s * n > budget_s:  # the division may round up
            n -= 1
        return n

    def observe(self, n: int, elapsed_s: float) -> None:
        """Learn from one finished batch; a nonsensical time (negative, NaN, inf) teaches nothing.

        Args:
            n: items in the batch (> 0).
            elapsed_s: seconds it took.
        """
        if n <= 0 or not (0.0 <= elapsed_s < math.inf):
            return
        expected = self.base_s + self.per_item_s * n
        if expected > 0.0 and elapsed_s > CLIP * expected:
            elapsed_s = CLIP * expected
        self._weight = weight = MEMORY * self._weight + 1.0
        self._n = MEMORY * self._n + n
        self._nn = MEMORY * self._nn + n * n
        self._y = MEMORY * self._y + elapsed_s
        self._ny = MEMORY * self._ny + n * elapsed_s
        mean_n, mean_s = self._n / weight, self._y / weight
        spread = self._nn - mean_n * self._n
        slope = (self._ny - mean_s * self._n + SLOPE_TIE * self.per_item_s) / (spread + SLOPE_TIE)
        slope = min(max(slope, 0.0), mean_s / mean_n)  # the upper bound keeps a >= 0
        self.per_item_s = slope
        self.base_s = max(0.0, mean_s - slope * mean_n)

    def relax(self) -> None:
        """Go a step back to the seed, if the estimate is above it.

        The batcher calls this when an idle engine refuses work on a prediction alone: nothing would run, so
        nothing would be measured, and one bad minute would be believed for ever.
        """
        old_base, old_slope = self.base_s, self.per_item_s
        base_s, per_item_s = self._seed
        if old_base + old_slope <= base_s + per_item_s:
            return
        self.base_s = base_s + RELAX * (old_base - base_s)
        self.per_item_s = per_item_s + RELAX * (old_slope - per_item_s)
        # Take the same line off every remembered point, or the next observation would bring it all back.
        down_a, down_b = old_base - self.base_s, old_slope - self.per_item_s
        self._y -= down_a * self._weight + down_b * self._n
        self._ny -= down_a * self._n + down_b * self._nn
