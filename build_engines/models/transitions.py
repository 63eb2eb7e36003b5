"""The count model: which items follow which, as a small table that needs no training.

It is the floor that a neural model must beat, the fallback tier of the server, and
one of the two summands of the engine (``mix.py``).  The decision not to undo: the
table is *additive*.  A score is a plain sum over the newest items of a history, so the
engine's graph can add it with a few scatters and no normaliser over the catalogue.

For every pair of interactions of one user at distance d <= window, the count of
(earlier -> later) grows by ``decay ** (d - 1)`` and that of (later -> earlier) by
``backward`` times as much.  A row is divided by ``row_sum ** normalise``, cut to its M
heaviest neighbours (ties: the smaller item row wins), and that is the table.

Shape suffixes: N items plus the padding row 0 (``num_items + 1`` rows), M neighbours,
B histories.  Weights have no unit; a pair seen once at distance 1 adds 1 before normalising.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .popularity import Rows, Times, event_weights, flatten


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionConfig:
    """How interactions become weights.

    Attributes:
        window: largest distance between two interactions that still counts (>= 1).
        decay: factor per further step of distance (0 < decay <= 1).
        backward: worth of the reverse direction (0..1).
        normalise: exponent of the row sum a row is divided by (0 keeps counts, 1 gives shares).
        top_m: neighbours kept per item (1..1024).
        half_life_s: age in seconds at which an interaction is worth half; None: age does not matter.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    window: int = 5
    decay: float = 0.7
    backward: float = 0.3
    normalise: float = 0.5
    top_m: int = 64
    half_life_s: float | None = None

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window: {self.window}, must be >= 1")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay: {self.decay}, must be in (0, 1]")
        if not 0 <= self.backward <= 1:
            raise ValueError(f"backward: {self.backward}, must be in [0, 1]")
        if not 0 <= self.normalise <= 1:
            raise ValueError(f"normalise: {self.normalise}, must be in [0, 1]")
        if not 1 <= self.top_m <= 1024:
            raise ValueError(f"top_m: {self.top_m}, must be in 1..1024")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionTable:
    """The top-M neighbours of every item, heaviest first.

    Attributes:
        neighbour_ids_NM: int32 item rows, 0 where an item has fewer than M neighbours; row 0 is all 0.
        neighbour_weights_NM: float32, > 0 where there is a neighbour, else exactly 0.
    """

    neighbour_ids_NM: npt.NDArray[np.int32]
    neighbour_weights_NM: npt.NDArray[np.float32]

    @property
    def num_items(self) -> int:
        """Catalogue size N, without the padding row."""
        return int(self.neighbour_ids_NM.shape[0]) - 1

    def truncated(self, top_m: int) -> TransitionTable:
        """The same table with the heaviest ``top_m`` neighbours only (a copy)."""
        return TransitionTable(
            neighbour_ids_NM=self.neighbour_ids_NM[:, :top_m].copy(),
            neighbour_weights_NM=self.neighbour_weights_NM[:, :top_m].copy(),
        )


def _pair_weights(
    items: npt.NDArray[np.int64],
    users: npt.NDArray[np.int64],
    events: npt.NDArray[np.float64],
    num_items: int,
    config: TransitionConfig,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    keys, weights = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for distance in range(1, min(config.window, len(items) - 1) + 1):
        same = np.flatnonzero(users[distance:] == users[:-distance])
        earlier, later = items[same], items[same + distance]
        weight = events[same + distance] * config.decay ** (distance - 1)
        keys.append(earlier * (num_items + 1) + later)
        weights.append(weight)
        if config.backward > 0:
            keys.append(later * (num_items + 1) + earlier)
            weights.append(weight * config.backward)
    key = np.concatenate(keys)
    itself = key // (num_items + 1) == key % (num_items + 1)
    unique, inverse = np.unique(key[~itself], return_inverse=True)
    total = np.bincount(inverse, np.concatenate(weights)[~itself], minlength=len(unique)).astype(np.float64)
    return unique // (num_items + 1), unique % (num_items + 1), total


def build_transitions(
    sequences: Sequence[Rows],
    num_items: int,
    config: TransitionConfig,
    *,
    timestamps: Sequence[Times] | None = None,
) -> TransitionTable:
    """Count the transitions of a training log.

    An item is never its own neighbour: a history masks itself anyway.  Users with fewer
    than two interactions add nothing; an empty log gives an empty table.

    Args:
        sequences: one array of item rows (1..num_items) a user, oldest first; train part only.
        num_items: catalogue size N.
        config: see ``TransitionConfig``.
        timestamps: seconds, as long as the sequences; needed for ``half_life_s`` only.

    Returns:
        A table of ``num_items + 1`` rows and ``top_m`` columns.

    Raises:
        ValueError: an item row is outside 1..num_items, or a half-life has no timestamps.

    Source:
        Ludewig and Jannach, "Evaluation of session-based recommendation algorithms", 2018
        (sequential rules, SR: decay over distance); the backward share and the row exponent are ours.
    """
    items, users = flatten(sequences, num_items)
    events = event_weights(timestamps, [len(sequence) for sequence in sequences], config.half_life_s)
    item, neighbour, weight = _pair_weights(items, users, events, num_items, config)
    positive = weight > 0  # a half-life may underflow to 0
    item, neighbour, weight = item[positive], neighbour[positive], weight[positive]
    row_sums = np.bincount(item, weight, minlength=num_items + 1)
    weight = weight / row_sums[item] ** config.normalise

    order = np.lexsort((neighbour, -weight, item))
    item, neighbour, weight = item[order], neighbour[order], weight[order]
    rank = np.arange(len(item)) - np.searchsorted(item, item)
    kept = rank < config.top_m
    ids_NM = np.zeros((num_items + 1, config.top_m), dtype=np.int32)
    weights_NM = np.zeros((num_items + 1, config.top_m), dtype=np.float32)
    ids_NM[item[kept], rank[kept]] = neighbour[kept]
    weights_NM[item[kept], rank[kept]] = np.maximum(weight[kept], np.finfo(np.float32).tiny)
    return TransitionTable(neighbour_ids_NM=ids_NM, neighbour_weights_NM=weights_NM)


def newest_items_BW(histories: Sequence[Rows], window: int) -> npt.NDArray[np.int64]:
    """The newest ``window`` items of each history, newest FIRST, 0 where there is none."""
    newest = np.zeros((len(histories), window), dtype=np.int64)
    for row, history in enumerate(histories):
        tail = np.asarray(history, dtype=np.int64)[-window:][::-1]
        newest[row, : len(tail)] = tail
    return newest


def transition_scores_BN(
    table: TransitionTable, histories: Sequence[Rows], *, window: int, decay: float
) -> npt.NDArray[np.float32]:
    """Score the whole catalogue: ``sum_j decay ** j * weight[history[-1 - j], item]``.

    Args:
        table: from ``build_transitions`` (or folded by ``mix.fold``).
        histories: B arrays of item rows, oldest first; may be empty.
        window: newest items that count, W (>= 1).
        decay: factor per step back (0 < decay <= 1).

    Returns:
        ``scores_BN``: float32 ``[B, num_items + 1]``; column 0 is 0; nothing is masked.

    Raises:
        ValueError: window < 1, or an item row outside 0..num_items.
    """
    if window < 1:
        raise ValueError(f"window: {window}, must be >= 1")
    newest_BW = newest_items_BW(histories, window)
    if newest_BW.size and not 0 <= newest_BW.min() <= newest_BW.max() <= table.num_items:
        raise ValueError(f"a history holds an item row outside 0..{table.num_items}")
    width = table.num_items + 1
    scores = np.zeros((len(histories), width), dtype=np.float32)
    rows = np.arange(len(histories))[:, None]
    for step in range(window):  # neighbours of one item are distinct, so a fancy add is exact per step
        ids_BM = table.neighbour_ids_NM[newest_BW[:, step]]
        scores[rows, ids_BM] += np.float32(decay**step) * table.neighbour_weights_NM[newest_BW[:, step]]
    scores[:, 0] = 0.0
    return scores
