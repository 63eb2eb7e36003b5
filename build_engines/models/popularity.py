"""How popular each item is, with old interactions counting less.

The last resort of the recommender (an empty history, an unknown item) and the
tie-break of the count model.  Timestamps are optional, because a log in the
one-line-a-user form has none; without them every interaction counts as 1.

Shape suffixes: N items plus the padding row 0, so arrays have ``num_items + 1`` rows.
Units: timestamps and half-lives are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.integer]
Times = npt.NDArray[np.number]


def event_weights(
    timestamps: Sequence[Times] | None, lengths: Sequence[int], half_life_s: float | None
) -> npt.NDArray[np.float64]:
    """Weight of every interaction, users concatenated: 1 for the newest, halved each half-life.

    Args:
        timestamps: one array a user, seconds, as long as the user's sequence; None if unknown.
        lengths: interactions of each user.
        half_life_s: seconds (> 0); None means that age does not matter.

    Returns:
        float64 in [0, 1], one per interaction; all ones without timestamps or half-life.

    Raises:
        ValueError: the half-life is not positive, is given without timestamps, or a user's timestamps do
            not match the user's interactions.
    """
    if half_life_s is None:
        return np.ones(sum(lengths))
    if not half_life_s > 0:
        raise ValueError(f"half_life_s: {half_life_s}, must be > 0")
    if timestamps is None:
        raise ValueError("half_life_s is given, but this log has no timestamps")
    if len(timestamps) != len(lengths):
        raise ValueError(f"timestamps of {len(timestamps)} users, sequences of {len(lengths)}")
    for user, (times, length) in enumerate(zip(timestamps, lengths, strict=True)):
        if len(times) != length:
            raise ValueError(f"user {user}: {len(times)} timestamps, {length} interactions")
    if sum(lengths) == 0:
        return np.ones(0)
    flat = np.concatenate([np.asarray(times, dtype=np.float64) for times in timestamps])
    weights: npt.NDArray[np.float64] = np.exp2((flat - flat.max()) / half_life_s)
    return weights


def flatten(sequences: Sequence[Rows], num_items: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Concatenate sequences into (item row, user) per interaction, checking every row.

    Raises:
        ValueError: an item row is outside ``1..num_items``; names the user and the row.
    """
    if num_items < 1:
        raise ValueError(f"num_items: {num_items}, must be >= 1")
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    users = np.repeat(np.arange(len(sequences), dtype=np.int64), lengths)
    parts = [np.asarray(sequence, dtype=np.int64) for sequence in sequences if len(sequence)]
    items = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    wrong = np.flatnonzero((items < 1) | (items > num_items))
    if len(wrong):
        first = wrong[0]
        raise ValueError(f"user {users[first]}: item row {items[first]} is outside 1..{num_items}")
    return items, users


def decayed_popularity(
    sequences: Sequence[Rows],
    num_items: int,
    *,
    timestamps: Sequence[Times] | None = None,
    half_life_s: float | None = None,
) -> npt.NDArray[np.float32]:
    """Interactions per item, each worth ``0.5 ** (age / half_life_s)``.

    Args:
        sequences: one array of item rows (1..num_items) a user, oldest first.
        num_items: catalogue size N.
        timestamps: seconds, as long as the sequences; needed for a half-life.
        half_life_s: seconds (> 0), or None to count every interaction as 1.

    Returns:
        ``popularity_N``: float32 ``[num_items + 1]``, row 0 is 0.

    Raises:
        ValueError: see ``event_weights`` and ``flatten``.
    """
    items, _ = flatten(sequences, num_items)
    weights = event_weights(timestamps, [len(sequence) for sequence in sequences], half_life_s)
    counts = np.bincount(items, weights, minlength=num_items + 1)
    return counts.astype(np.float32)
