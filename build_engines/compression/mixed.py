"""Mixed precision by measurement: what each product loses, what each takes, and the best of it within a budget.

A family brings two functions: the loss of a graph in which given products have given precisions (on calibration examples, to
the uncompressed model), and the time of each product in each precision on the target. From these a table is made, product by
product and both ways: with *only* this product in the lower precision, and with *all but* this one. The first is what the
choice is made by (``knapsack``), the second shows where losses do not add up. The chosen whole is measured; if its loss is above
the budget, the budget of the choice is halved until it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from build_engines.compression.knapsack import Choice, choose
from build_engines.compression.step_records import Curve, StepRecord
from build_engines.errors import BuildError
from build_engines.progress import Progress

Plan = Mapping[str, str]  # precision by product
MOST_HALVINGS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One product in one precision.

    Attributes:
        product: its name.
        precision: which.
        alone: loss with only this product in it.
        without: loss of everything in its lowest precision but this product, which has the first.
        seconds: of the product.
    """

    product: str
    precision: str
    alone: float
    without: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """What was chosen, and the table it was chosen by.

    Attributes:
        plan: precision by product.
        loss: of the chosen whole, as measured.
        all_low: loss of everything in its lowest precision.
        seconds: of the products, chosen and all in the first and in the lowest precision.
        table: every product and precision.
        record: for manifest and report.
    """

    plan: Plan
    loss: float
    all_low: float
    seconds: tuple[float, float, float]
    table: tuple[Measured, ...]
    record: StepRecord


def mix(
    products: Sequence[str],
    precisions: Sequence[str],
    *,
    loss: Callable[[Plan], float],
    seconds: Mapping[str, Sequence[float]],
    budget: float,
    unit: str,
    progress: Progress,
) -> Mixed:
    """Choose a precision for each product.

    Args:
        products: names, in the graph's order.
        precisions: from the parent's to the lowest.
        loss: of a plan; products that it does not name have the first precision.
        seconds: of each product, by precision.
        budget: sum of losses allowed, and the most that the chosen whole may lose.
        unit: of the loss, for the report.
        progress: told product after product.

    Raises:
        BuildError: a loss is not finite, or even one product alone is over the budget and nothing is left to choose.
    """
    first, lowest = precisions[0], precisions[-1]
    table: list[Measured] = []
    everything = dict.fromkeys(products, lowest)
    all_low = _finite(loss(everything), "everything")
    for done, name in enumerate(products):
        progress.step("measuring what each product loses", done, len(products), name)
        without = _finite(loss({**everything, name: first}), f"everything but {name}")
        for precision in precisions[1:]:
            alone = _finite(loss({name: precision}), name)
            table.append(
                Measured(
                    product=name,
                    precision=precision,
                    alone=alone,
                    without=without,
                    seconds=float(seconds[precision][done]),
                )
            )
    progress.step("measuring what each product loses", len(products), len(products))
    by_product = {name: [one for one in table if one.product == name] for name in products}
    places = [
        [
            Choice(first, 0.0, float(seconds[first][done])),
            *(Choice(one.precision, one.alone, one.seconds) for one in by_product[name]),
        ]
        for done, name in enumerate(products)
    ]
    allowed, plan, measured = budget, {}, 0.0
    for _ in range(MOST_HALVINGS):
        picks = choose(places, allowed)
        plan = {
            name: place[pick].precision for name, place, pick in zip(products, places, picks, strict=True)
        }
        measured = _finite(loss(plan), "the chosen whole")
        if measured <= budget:
            break
        progress.say(
            f"  chosen for {allowed:.3g}, lost {measured:.3g}: losses do not add up; less is allowed"
        )
        allowed /= 2
    else:
        plan, measured = dict.fromkeys(products, first), 0.0
    took = sum(
        place[[one.precision for one in place].index(plan[name])].seconds
        for name, place in zip(products, places, strict=True)
    )
    totals = (took, float(np.sum(seconds[first])), float(np.sum(seconds[lowest])))
    return Mixed(
        plan=plan,
        loss=measured,
        all_low=all_low,
        seconds=totals,
        table=tuple(table),
        record=_record(plan, table, places, measured, all_low, totals, budget, unit, (first, lowest)),
    )


def _record(
    plan: Plan,
    table: Sequence[Measured],
    places: Sequence[Sequence[Choice]],
    measured: float,
    all_low: float,
    totals: tuple[float, float, float],
    budget: float,
    unit: str,
    ends: tuple[str, str],
) -> StepRecord:
    first, lowest = ends
    counts = {one: sum(value == one for value in plan.values()) for one in sorted(set(plan.values()))}
    kept = [name for name, precision in plan.items() if precision == first]
    said = ", ".join(f"{count} of {len(plan)} products in {one}" for one, count in counts.items())
    said += f"; loss {measured:.3g} {unit} (all in {lowest}: {all_low:.3g}, budget {budget:.3g})"
    if kept:
        said += f"; in {first} stay {', '.join(kept[:8])}{' ...' if len(kept) > 8 else ''}"
    least = [one for one in table if one.precision == lowest]
    return StepRecord(
        step="mixed_precision",
        said=said,
        figures={
            "loss": measured,
            f"loss of all in {lowest}": all_low,
            "budget": budget,
            "seconds chosen": totals[0],
            f"seconds of all in {first}": totals[1],
            f"seconds of all in {lowest}": totals[2],
            **{f"products in {one}": float(count) for one, count in counts.items()},
        },
        curves=(
            Curve(
                name="loss with only this product in it",
                x="product",
                y=unit,
                points=tuple((float(at), one.alone) for at, one in enumerate(least)),
            ),
            Curve(
                name="loss with all but this product in it",
                x="product",
                y=unit,
                points=tuple((float(at), one.without) for at, one in enumerate(least)),
            ),
            Curve(
                name="time against what may be lost",
                x=f"budget, {unit}",
                y="ms",
                points=_front(places, budget),
            ),
        ),
    )


def _front(places: Sequence[Sequence[Choice]], budget: float) -> tuple[tuple[float, float], ...]:
    points = []
    for share in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0):
        picks = choose(places, budget * share)
        seconds = sum(place[pick].seconds for place, pick in zip(places, picks, strict=True))
        points.append((budget * share, seconds * 1e3))
    return tuple(points)


def _finite(loss: float, what: str) -> float:
    if not np.isfinite(loss):
        raise BuildError(
            f"mixed precision: the loss of {what} is {loss}; the model is broken in that precision"
        )
    return float(loss)
