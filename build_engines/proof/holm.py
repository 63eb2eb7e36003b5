"""Many questions at once: of twenty slices one looks bad by chance, so each must look worse than that before it is believed.

Source:
    Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

from __future__ import annotations

from collections.abc import Sequence


def holm_adjusted(p_values: Sequence[float]) -> tuple[float, ...]:
    """Each p-value as it counts among all of them, in their order.

    Rejecting what is at or below a level here keeps the chance of even one false rejection at or below that level, whatever
    the questions have to do with each other.

    Args:
        p_values: 0..1 each.

    Raises:
        ValueError: one is not a probability; names it.
    """
    for place, one in enumerate(p_values):
        if not 0.0 <= one <= 1.0:  # neither is a NaN
            raise ValueError(f"p-value {place} is {one!r}; it must be within 0..1")
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return tuple(adjusted)
