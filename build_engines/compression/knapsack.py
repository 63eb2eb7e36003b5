"""One precision for each product, so that the whole is as fast as it can be and the losses stay within a budget.

A multiple-choice knapsack, solved exactly: place after place, all sums of (loss, seconds) that no other is at least as good as
in both are kept. Should there be more than ``MOST_KEPT`` of them, losses are rounded *up* to a ten-thousandth of the budget
from there on: the budget still holds, and the time is then at most what a budget smaller by that rounding would allow.

Losses are taken to add up. They nearly do while they are small; whether the chosen whole holds is measured afterwards, by
whoever chose, and by the gate.

Source:
    Kellerer, Pferschy and Pisinger, "Knapsack Problems", 2004, chapter 11; Dong et al., "HAWQ-V2", 2019 (precision by
    sensitivity and a budget).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_KEPT = 20_000
GRAIN = 1e-4  # of the budget


@dataclass(frozen=True, slots=True)
class Choice:
    """One precision of one product.

    Attributes:
        precision: its name.
        loss: of quality with only this product in it; a loss below 0 is a lucky sample and counts as none.
        seconds: of the product in a run.
    """

    precision: str
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Sum:
    loss: float
    seconds: float
    picks: tuple[int, ...]


def choose(places: Sequence[Sequence[Choice]], budget: float) -> tuple[int, ...]:
    """The pick of each place with the least seconds in all, of those whose losses add up to the budget at most.

    Args:
        places: the choices of each product.
        budget: sum of losses allowed (>= 0).

    Returns:
        An index into each place's choices. Of two equally fast the one with less loss.

    Raises:
        ValueError: a place has no choice, a figure is not finite, or nothing fits; says what the least loss is.
    """
    if not (math.isfinite(budget) and budget >= 0):
        raise ValueError(f"budget {budget}: use a number of 0 or more")
    for number, choices in enumerate(places):
        if not choices:
            raise ValueError(f"place {number} has no choice")
        if not all(math.isfinite(one.loss) and math.isfinite(one.seconds) for one in choices):
            raise ValueError(f"place {number} has a loss or time that is not finite")
    # What the places still to come cost at least: sums that cannot end within the budget are dropped at once.
    rest = [0.0]
    for choices in reversed(places):
        rest.append(rest[-1] + min(_loss(one) for one in choices))
    rest.reverse()
    if rest[0] > budget * (1 + 1e-12):
        raise ValueError(
            f"the least that the losses add up to is {rest[0]:.3g}, the budget is {budget:.3g}; raise it"
        )
    slack = budget * (1 + 1e-12) + 1e-300
    kept = [_Sum(0.0, 0.0, ())]
    for number, choices in enumerate(places):
        grown = [
            _Sum(one.loss + _loss(choice), one.seconds + choice.seconds, (*one.picks, index))
            for one in kept
            for index, choice in enumerate(choices)
        ]
        kept = _undominated([one for one in grown if one.loss + rest[number + 1] <= slack])
        if len(kept) > MOST_KEPT:
            kept = _undominated(_coarser(kept, budget, rest[number + 1], slack))
    return min(kept, key=lambda one: (one.seconds, one.loss)).picks


def _loss(choice: Choice) -> float:
    return max(choice.loss, 0.0)


def _undominated(sums: list[_Sum]) -> list[_Sum]:
    left: list[_Sum] = []
    for one in sorted(sums, key=lambda one: (one.loss, one.seconds)):
        if not left or one.seconds < left[-1].seconds:
            left.append(one)
    return left


def _coarser(sums: list[_Sum], budget: float, rest: float, slack: float) -> list[_Sum]:
    grain = budget * GRAIN
    rounded = [
        _Sum(min(math.ceil(one.loss / grain) * grain, max(one.loss, slack - rest)), one.seconds, one.picks)
        for one in sums
    ]
    return [one for one in rounded if one.loss + rest <= slack]
