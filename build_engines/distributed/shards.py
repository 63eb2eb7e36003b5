"""Which examples of a batch are whose; pure."""

from __future__ import annotations

from collections.abc import Sequence


def part_of(batch: Sequence[int], rank: int, size: int) -> tuple[int, ...]:
    """Every ``size``-th example from ``rank`` on: each is of exactly one process, and nobody has two more than another.

    A batch with fewer examples than processes leaves some with nothing; it is never filled up with examples twice.

    Args:
        batch: the whole batch, the same in every process.
        rank: of the process (0 to ``size`` - 1).
        size: processes (>= 1).
    """
    return tuple(batch[rank::size])
