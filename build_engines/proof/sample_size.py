"""How many more would decide it: from what was seen so far to the number that a decision takes four times in five.

The effect is taken as it was seen, so a number is an order of magnitude and no promise; it is said as "about".

Units: counts of examples.
"""

from __future__ import annotations

import math

Z_CONFIDENCE = 1.959964  # of a 95 % interval, two-sided
Z_POWER = 0.841621  # decided four times in five
MOST = 1e12  # more than there are of anything: no number would decide


def examples_to_decide(
    n: int, half_width: float, distance: float, *, shrinks_with: float = 0.5
) -> int | None:
    """How many examples make an interval narrow enough to lie on one side of a limit, four times in five.

    Args:
        n: examples so far.
        half_width: from the figure to the end of its 95 % interval that is nearer to the limit.
        distance: from the figure to the limit.
        shrinks_with: exponent of n with which the interval narrows (0.5: a mean; 1: the rule of three).

    Returns:
        The number; None where none would do it.

    Source:
        Lehr, "Sixteen S-squared over D-squared", 1992, for the form; the two quantiles of the normal distribution instead of
        its constant.
    """
    if n <= 0 or not math.isfinite(half_width) or not math.isfinite(distance):
        return None
    power = (Z_CONFIDENCE + Z_POWER) / Z_CONFIDENCE if shrinks_with == 0.5 else 1.0
    examples = n * (power * half_width / max(abs(distance), 1e-9)) ** (1 / shrinks_with)
    return max(1, math.ceil(examples)) if examples < MOST else None
