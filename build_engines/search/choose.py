"""Which candidate is taken, and why: limits first, then the one wish; pure.

A candidate holds where each limit of the objective does. Dominated is what another one beats in something and matches in
the rest; the front is what nobody dominates.

Source:
    Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", 2002 (ranks of fronts, for the halving).
    Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", 2016 (halving).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from build_engines.search.outcome import Outcome
from build_engines.search.part import Objective

WORST = 1e12  # for a sampler, which wants numbers
_WISHES = {"best": 0, "fastest": 1, "smallest": 2, "least_memory": 3}


def violations(one: Outcome, objective: Objective, *, full: bool = True) -> dict[str, float]:
    """By how much each limit is missed, relative; 0 or less where it holds.

    Args:
        one: a candidate.
        objective: the limits.
        full: it was measured in full: the interval counts where the objective says so. On cheap rungs the figure alone does.
    """
    if not one.measured or one.loss is None or one.p99_s is None:
        return {"measured": 1.0}
    loss = one.interval[1] if full and objective.decided and one.interval is not None else one.loss
    missed = {"loss": loss - objective.max_loss}
    if objective.p99_ms is not None:
        missed["p99"] = one.p99_s * 1e3 / objective.p99_ms - 1
    if objective.max_size_mb is not None:
        missed["size"] = one.size_bytes / 1e6 / objective.max_size_mb - 1
    if objective.max_memory_mb is not None:
        missed["memory"] = one.memory_bytes / 1e6 / objective.max_memory_mb - 1
    return {name: min(value, WORST) for name, value in missed.items()}


def holds(one: Outcome, objective: Objective, *, full: bool = True) -> bool:
    """Whether every limit does."""
    return all(value <= 0 for value in violations(one, objective, full=full).values())


def front_ranks(points: Sequence[Sequence[float]]) -> list[int]:
    """Of each point, which front it is on: 0 is dominated by nobody, 1 by front 0 alone, and so on."""
    ranks = [-1] * len(points)
    left, rank = set(range(len(points))), 0
    while left:
        front = {one for one in left if not any(_dominates(points[other], points[one]) for other in left)}
        for one in front:
            ranks[one] = rank
        left -= front
        rank += 1
    return ranks


def pareto(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """What nobody dominates, by falling quality."""
    measured = [one for one in outcomes if one.measured]
    ranks = front_ranks([one.objectives for one in measured])
    return sorted(
        (one for one, rank in zip(measured, ranks, strict=True) if rank == 0), key=lambda one: one.objectives
    )


def going_on(outcomes: Sequence[Outcome], objective: Objective, keep: float) -> list[Outcome]:
    """Those that go to the next rung: what holds before what does not, then front by front, then by the wish.

    Args:
        outcomes: of one rung.
        objective: limits and wish.
        keep: share of them, at least one.
    """
    measured = [one for one in outcomes if one.measured]
    if not measured:
        return []
    ranks = front_ranks([one.objectives for one in measured])
    wish = _WISHES[objective.take]

    def order(place: int) -> tuple[float, ...]:
        one = measured[place]
        missed = math.fsum(max(0.0, value) for value in violations(one, objective, full=False).values())
        return (missed, ranks[place], one.objectives[wish], *one.objectives)

    count = max(1, math.ceil(keep * len(outcomes)))
    return [measured[place] for place in sorted(range(len(measured)), key=order)[:count]]


def chosen(outcomes: Sequence[Outcome], objective: Objective) -> Outcome | None:
    """The best of what holds in full; None where nothing does."""
    held = [one for one in outcomes if holds(one, objective)]
    wish = _WISHES[objective.take]
    return min(held, key=lambda one: (one.objectives[wish], *one.objectives), default=None)


def explained(outcomes: Sequence[Outcome], reference: Outcome, objective: Objective) -> str:
    """Why this one: for a person, with figures; or what the nearest one misses."""
    measured = [one for one in outcomes if one.measured]
    taken = chosen(outcomes, objective)
    asked = objective_text(objective)
    if taken is None:
        if not measured:
            return f"Nothing could be measured in full, so nothing can be said to hold ({asked})."
        near = min(measured, key=lambda one: sum(max(0.0, x) for x in violations(one, objective).values()))
        missed = ", ".join(name for name, value in violations(near, objective).items() if value > 0)
        return (
            f"None of {len(measured)} candidates that were measured in full holds: {asked}. The nearest ({_named(near)}) "
            f"misses {missed}: {figures_text(near)}. Give more users to decide by, more trials, or another limit."
        )
    held = [one for one in measured if holds(one, objective)]
    text = (
        f"Of {len(measured)} candidates measured in full, {len(held)} hold{'s' if len(held) == 1 else ''} ({asked}); of these the {_wish(objective)} is "
        f"{_named(taken)}: {figures_text(taken)}."
    )
    if reference.size_bytes and taken.size_bytes and reference.p99_s and taken.p99_s:
        text += (
            f" Against the reference ({figures_text(reference)}) that is {reference.size_bytes / taken.size_bytes:.2f} times "
            f"smaller and {reference.p99_s / taken.p99_s:.2f} times as fast at p99."
        )
    others = sorted(
        (one for one in held if one is not taken), key=lambda one: one.objectives[_WISHES[objective.take]]
    )
    if others:
        text += f" The next one that holds is {_named(others[0])}: {figures_text(others[0])}."
    return text


def objective_text(objective: Objective) -> str:
    """The objective in the shop's words."""
    parts = []
    if objective.p99_ms is not None:
        parts.append(
            f"p99 <= {objective.p99_ms:g} ms at {objective.at_requests_per_s:g} requests/s on this machine"
        )
    parts.append(f"loss <= {objective.max_loss:.2%}{' decided' if objective.decided else ''}")
    if objective.max_size_mb is not None:
        parts.append(f"size <= {objective.max_size_mb:g} MB")
    if objective.max_memory_mb is not None:
        parts.append(f"memory <= {objective.max_memory_mb:g} MB")
    return f"{', '.join(parts)}: {objective.take.replace('_', ' ')} that holds"


def figures_text(one: Outcome) -> str:
    """Loss, p99, size, memory with their intervals."""
    if not one.measured or one.loss is None or one.p99_s is None:
        return one.refused or "not measured"
    loss = f"loss {one.loss:+.2%}"
    if one.interval is not None:
        loss += f" (between {one.interval[0]:+.2%} and {one.interval[1]:+.2%})"
    p99 = f"p99 {one.p99_s * 1e3:.2f} ms"
    if one.p99_interval_s is not None:
        p99 += f" ({one.p99_interval_s[0] * 1e3:.2f} to {one.p99_interval_s[1] * 1e3:.2f})"
    return f"{loss}, {p99}, {one.size_bytes / 1e6:.3f} MB, {one.memory_bytes / 1e6:.1f} MB of memory"


def _named(one: Outcome) -> str:
    return " ".join(one.sets) or "the recipe as it stands"


def _wish(objective: Objective) -> str:
    return {
        "smallest": "smallest",
        "fastest": "fastest",
        "best": "best",
        "least_memory": "one of least memory",
    }[objective.take]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(
        a < b for a, b in zip(one, other, strict=True)
    )
