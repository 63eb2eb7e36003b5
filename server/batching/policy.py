"""Whom to run now, whom to refuse, or until when to sleep: a pure decision with no clock or queue in it.

The driver in ``dynamic.py`` keeps the waiting deadlines sorted (first come first among equals) and asks one
question per wake-up. Three rules that must not be undone by accident:

* Earliest deadline first, and the batch is only as large as its earliest deadline allows.
* *Unless that starves everybody*: where even the shrunk batch leaves the rest late, somebody will be refused
  whatever is done, and serving ever smaller batches to the most urgent would spend the engine on its fixed
  cost (earliest deadline first is known to collapse in overload). Then the most urgent are refused, as many
  as give the most answers per second.
* Whoever cannot be on time is told now, not at the deadline: a storefront can still use the fallback tier.

Units: every time is seconds on the caller's monotonic clock.

Source:
    Shen et al., "Nexus: a GPU cluster engine for accelerating DNN-based video analysis", SOSP 2019, section
    6.3 (early drop).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from server.batching.cost import CostModel

Reason = Literal["full", "window", "deadline", "idle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """The two knobs of dynamic batching.

    Attributes:
        max_items: largest batch the engine was compiled for (> 0).
        max_wait_s: longest time the oldest request may wait for company, in seconds (>= 0, finite; 0 starts
            at once). The event loop's timers resolve a millisecond, so less than that is a millisecond.

    Raises:
        ValueError: a limit is out of range; the message names it.
    """

    max_items: int
    max_wait_s: float = 0.0

    def __post_init__(self) -> None:
        if self.max_items < 1:
            raise ValueError(f"max_items = {self.max_items}, must be > 0")
        if not 0.0 <= self.max_wait_s < math.inf:
            raise ValueError(f"max_wait_s = {self.max_wait_s}, must be finite and >= 0")


class Decision(NamedTuple):
    """What to do with the sorted queue: refuse its first, run the next, refuse some behind, ask again later.

    Attributes:
        refuse: how many of the first cannot be on time (or are given up for the rest).
        take: how many after those form the batch to pack now; 0: none yet.
        strand: how many after the batch cannot be on time once it runs.
        reason: why the batch was closed.
        wake_at_s: when to ask again if nothing happens before; inf: no need.
    """

    refuse: int
    take: int
    strand: int
    reason: Reason
    wake_at_s: float


class Moment(NamedTuple):
    """What the policy must know about the world.

    Attributes:
        now_s: the time.
        start_s: when the engine is predicted to be free for the next batch (>= now).
        pack_at_s: from when on the next batch may be packed; -inf when the engine is idle.
        slack_s: how late a timer may ring; work that must start by a deadline is woken this much earlier.
        oldest_s: arrival of the request that waits longest; only read when a wait is configured.
    """

    now_s: float
    start_s: float
    pack_at_s: float
    slack_s: float
    oldest_s: float


IDLE: Final = -math.inf


def finish_s(place: int, start_s: float, limits: BatchLimits, cost: CostModel) -> float:
    """When the request at ``place`` (0 is next) is predicted to be answered, with full batches before it."""
    full, rest = divmod(place, limits.max_items)
    return start_s + full * cost.predict_s(limits.max_items) + cost.predict_s(rest + 1)


def late_count(deadlines_s: Sequence[float], start_s: float, cost: CostModel, first: int = 0) -> int:
    """How many, from ``first`` on, would be late even if each ran alone at ``start_s``."""
    return bisect_left(deadlines_s, start_s + cost.predict_s(1), first) - first


def decide(deadlines_s: Sequence[float], moment: Moment, limits: BatchLimits, cost: CostModel) -> Decision:
    """Decide about everything that waits.

    Args:
        deadlines_s: ascending; equal ones in order of arrival; without those who left.
        moment: the time, and when the engine is free.
        limits: of the engine.
        cost: of the engine.

    Returns:
        The decision; ``refuse + take + strand <= len(deadlines_s)``, ``take <= limits.max_items``.
    """
    start = moment.start_s
    late = late_count(deadlines_s, start, cost)
    waiting = len(deadlines_s) - late
    if waiting == 0:
        return Decision(late, 0, 0, "idle", math.inf)
    head = deadlines_s[late]
    if moment.now_s < moment.pack_at_s:
        return Decision(late, 0, 0, "idle", min(moment.pack_at_s, head - cost.predict_s(1)))
    size = min(waiting, limits.max_items)
    reason: Reason = "full" if size == limits.max_items else "idle"
    fit = max(cost.fits(head - start, size), 1)  # the head is not late, whatever rounding says of what fits
    if fit < size:
        reason = "deadline"
        skip, size = _shrink(deadlines_s, late, fit, start, limits, cost)
        late += skip
    elif reason == "idle" and limits.max_wait_s > 0.0:
        window = moment.oldest_s + limits.max_wait_s
        latest = head - cost.predict_s(size + 1) - moment.slack_s
        if moment.now_s < min(window, latest):
            return Decision(late, 0, 0, reason, min(window, latest))
        reason = "window" if moment.now_s >= window else "deadline"
    strand = late_count(deadlines_s, start + cost.predict_s(size), cost, late + size)
    return Decision(late, size, strand, reason, math.inf)


def _shrink(
    deadlines_s: Sequence[float], late: int, fit: int, start_s: float, limits: BatchLimits, cost: CostModel
) -> tuple[int, int]:
    rest = late + fit
    behind = min(len(deadlines_s) - rest, limits.max_items)
    if start_s + cost.predict_s(fit) + cost.predict_s(behind) <= deadlines_s[rest]:
        return 0, fit  # nobody is late for it
    best, best_rate = (0, fit), _rate(fit, cost)
    for skip in range(1, min(len(deadlines_s) - late, limits.max_items)):
        head = deadlines_s[late + skip]
        if head > deadlines_s[late + skip - 1]:  # equals are never overtaken: they would gain nothing
            size = cost.fits(head - start_s, min(len(deadlines_s) - late - skip, limits.max_items))
            if (rate := _rate(size, cost)) > best_rate:
                best, best_rate = (skip, size), rate
    return best


def _rate(size: int, cost: CostModel) -> float:
    return size / max(cost.predict_s(size), 1e-12)
