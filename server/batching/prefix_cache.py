"""Which tokens of a new prompt are computed already, in whichever slot: the longest common prefix over all slots.

There is no tree and no block table: an engine of this kind has tens of slots, and comparing a prompt with all of them is
one array operation of a few microseconds. Slots that are still being written count as well: what is computed in them
does not change any more.

A hit is a copy of the engine's cache, slot to slot. Units: tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.batching.kv_slots import KvSlots, Pool, Slot


class Hit(NamedTuple):
    """The slot that shares the longest prefix with a prompt, and how long it is."""

    slot: Slot
    tokens: int


def lookup(slots: KvSlots, prompt_ids: npt.NDArray[np.int64], *, own: bool = False) -> Hit | None:
    """Find the longest computed prefix of a prompt, never all of it: the last token has to be computed for its logits.

    Among equally long ones the most recently used wins. With ``own``, only what the engine's own graph computed counts.
    """
    best: Hit | None = None
    best_key = (0, 0)
    for capacity, pool in slots.pools.items():
        common_N = common(pool, prompt_ids[:-1])
        if own:
            np.minimum(common_N, pool.own_N, out=common_N)
        most = int(common_N.max())
        if most < max(1, best_key[0]):
            continue
        for index in np.flatnonzero(common_N == most).tolist():
            key = (most, pool.used_at[index])
            if key > best_key:
                best, best_key = Hit((capacity, index), most), key
    return best


def common(pool: Pool, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Computed tokens of each slot of a pool that ``ids`` begins with (int64, N)."""
    width = min(len(ids), pool.capacity)
    if width == 0:
        return np.zeros(len(pool), np.int64)
    differs_NT = pool.ids_NS[:, :width] != ids[:width]
    first_N: npt.NDArray[np.int64] = differs_NT.argmax(axis=1)
    first_N[~differs_NT.any(axis=1)] = width
    shared_N: npt.NDArray[np.int64] = np.minimum(first_N, pool.filled_N)
    return shared_N


def shared_prefix(ids: npt.NDArray[np.int64], others: Iterable[npt.NDArray[np.int64]]) -> int:
    """Tokens that a prompt shares with the one of others that shares most; never all of it."""
    best = 0
    for other in others:
        width = min(len(ids) - 1, len(other))
        if width > best:
            differs = np.flatnonzero(ids[:width] != other[:width])
            best = max(best, int(differs[0]) if len(differs) else width)
    return best


def unique_tokens(slots: KvSlots, slot: Slot, besides: int = 0) -> int:
    """Cached tokens that would be lost with this slot: those that no other slot holds.

    Args:
        slots: the books.
        slot: whose loss is weighed.
        besides: its first tokens that are going to be held elsewhere (or stay where they are).
    """
    own = slots.pools[slot[0]]
    filled = int(own.filled_N[slot[1]])
    if filled <= besides:
        return 0
    ids = own.ids_NS[slot[1], :filled]
    elsewhere = besides
    for capacity, pool in slots.pools.items():
        common_N = common(pool, ids)
        if capacity == slot[0]:
            common_N[slot[1]] = 0
        elsewhere = max(elsewhere, int(common_N.max()))
    return max(0, filled - elsewhere)
