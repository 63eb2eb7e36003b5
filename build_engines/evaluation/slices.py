"""Where a model is good and where it is not: head and tail items, short and long histories.

A mean hides the swap of one for the other, and slices flip rankings of models.

- ``head``: the target is among the most popular 20 % of catalogue items (rounded up) by training events; equal counts: lower
  row first.  ``tail``: all others.
- ``cold``: the target has no training event (these are tail too).
- ``short``: at most 5 events in the history.  ``long``: more.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from build_engines.data.splits import Cases

HEAD_SHARE = 0.2
SHORT_EVENTS = 5
SLICES = ("head", "tail", "cold", "short", "long")


def head_items_N1(train_counts_N1: npt.NDArray[np.int64], share: float = HEAD_SHARE) -> npt.NDArray[np.bool_]:
    """Which item rows are head items, bool [N + 1]; index 0 (padding) is not.

    Args:
        train_counts_N1: training events per item row.
        share: of the catalogue's items that count as head (0..1).
    """
    num_items = train_counts_N1.size - 1
    head = np.zeros(num_items + 1, bool)
    order = np.argsort(-train_counts_N1[1:], kind="stable") + 1
    head[order[: math.ceil(share * num_items)]] = True
    return head


def case_slices(cases: Cases, train_counts_N1: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.bool_]]:
    """Which cases belong to each slice of ``SLICES``, bool [C] by name."""
    head = head_items_N1(train_counts_N1)[cases.targets_C]
    short = cases.histories.lengths_U <= SHORT_EVENTS
    return {
        "head": head,
        "tail": ~head,
        "cold": train_counts_N1[cases.targets_C] == 0,
        "short": short,
        "long": ~short,
    }
