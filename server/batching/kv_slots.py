"""Who writes in which KV slot, and which tokens every slot holds: the books of an engine's cache, with no engine in them.

A slot is addressed by (capacity, index). It is *free* (holds nothing anybody counts on), *written* by exactly one text,
or *cached*: the prefix that a finished or preempted text left, kept until its slot is needed. Only a written slot changes.

Two rules that must not be undone by accident:

* **The last token of a slot is never used.** A decode call runs over neighbouring rows, and rows in between that have
  nothing to compute are written at their ``write_index`` all the same; one token of room in every slot keeps that legal.
* **A pinned slot is not given away.** Whoever plans to copy from a slot pins it until the copy was made.

Shapes: N slots of a pool, S its capacity. Units: tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Slot = tuple[int, int]  # (capacity, index)


def usable(capacity: int) -> int:
    """Tokens that a text may have in a slot: all but the last one, see above."""
    return capacity - 1


class Pool:
    """The slots of one capacity.

    Attributes:
        capacity: S.
        usable: tokens that a text may have in a slot here; one less than the capacity.
        ids_NS: int64; the known tokens of each slot, computed or not yet.
        filled_N: int64; how many of them the engine has computed.
        own_N: int64; how many of the first of these in its own graph, and not in the light one: what a repeatable text may
            begin with.
        writers: key of the text that writes in a slot; None: nobody.
        pins: copies that are planned from a slot.
        used_at: when a slot was last of use, in ticks of ``KvSlots.tick``.
        hits: how often a slot's tokens were found by another text.
    """

    __slots__ = (
        "active",
        "capacity",
        "filled_N",
        "hits",
        "ids_NS",
        "own_N",
        "pins",
        "usable",
        "used_at",
        "writers",
    )

    def __init__(self, capacity: int, slots: int) -> None:
        self.capacity = capacity
        self.usable = usable(capacity)
        self.ids_NS = np.zeros((slots, capacity), np.int64)
        self.filled_N = np.zeros(slots, np.int64)
        self.own_N = np.zeros(slots, np.int64)
        self.writers: list[int | None] = [None] * slots
        self.pins = [0] * slots
        self.used_at = [0] * slots
        self.hits = [0] * slots
        self.active: list[int] = []  # indices with a writer, ascending

    def __len__(self) -> int:
        return len(self.writers)

    def open_slots(self) -> list[int]:
        """Indices that may be taken: no writer, no pin."""
        pins = self.pins
        return [i for i, writer in enumerate(self.writers) if writer is None and not pins[i]]


class KvSlots:
    """All pools of one engine."""

    def __init__(self, pools: Mapping[int, int]) -> None:
        """Start with every slot free.

        Args:
            pools: capacity in tokens to number of slots.

        Raises:
            ValueError: a pool has no slots, or no room for two tokens.
        """
        for capacity, slots in pools.items():
            if capacity < 2 or slots < 1:
                raise ValueError(
                    f"a pool of {slots} slots of {capacity} tokens; needs at least 1 slot of 2 tokens"
                )
        self.pools = {capacity: Pool(capacity, pools[capacity]) for capacity in sorted(pools)}
        self.largest = max(self.pools)
        self.tick = 0

    def take(self, slot: Slot, key: int, kept: int = 0) -> None:
        """Make a text the writer of a slot, keeping the first ``kept`` tokens that are computed there."""
        pool, index = self.pools[slot[0]], slot[1]
        assert pool.writers[index] is None, f"slot {slot} is written by text {pool.writers[index]}"
        assert not pool.pins[index], f"slot {slot} is pinned"
        assert kept <= pool.filled_N[index]
        pool.writers[index] = key
        pool.active = sorted([*pool.active, index])
        pool.filled_N[index] = kept
        pool.own_N[index] = min(kept, pool.own_N[index])
        pool.hits[index] = 0
        self.touch(slot)

    def write(self, slot: Slot, tokens: Sequence[int]) -> None:
        """Say which tokens a written slot is going to hold, from its first on."""
        self.pools[slot[0]].ids_NS[slot[1], : len(tokens)] = tokens

    def release(self, slot: Slot, key: int, *, keep: bool) -> None:
        """Take a slot from its writer: what is computed stays as a cached prefix, or is forgotten."""
        pool, index = self.pools[slot[0]], slot[1]
        assert pool.writers[index] == key, f"slot {slot} is written by text {pool.writers[index]}, not {key}"
        pool.writers[index] = None
        pool.active.remove(index)
        if not keep:
            pool.filled_N[index] = pool.own_N[index] = 0
        self.touch(slot)

    def forget(self, slot: Slot) -> None:
        """Drop a cached prefix."""
        pool, index = self.pools[slot[0]], slot[1]
        assert pool.writers[index] is None
        pool.filled_N[index] = pool.own_N[index] = 0

    def computed(self, slot: Slot, tokens: int, *, own: bool = True) -> None:
        """Say that the engine computes the next tokens of a slot, in its own graph or the light one."""
        pool, index = self.pools[slot[0]], slot[1]
        if own and pool.own_N[index] == pool.filled_N[index]:
            pool.own_N[index] += tokens
        pool.filled_N[index] += tokens

    def copied(self, source: Slot, target: Slot, tokens: int) -> None:
        """Say that the first tokens of a slot are copied to another one, which holds nothing else."""
        pool, index = self.pools[target[0]], target[1]
        pool.filled_N[index] = tokens
        pool.own_N[index] = min(tokens, self.pools[source[0]].own_N[source[1]])

    def touch(self, slot: Slot) -> None:
        """Say that a slot was of use."""
        self.tick += 1
        self.pools[slot[0]].used_at[slot[1]] = self.tick

    def pin(self, slot: Slot) -> None:
        """Keep a slot from being taken until ``unpin``."""
        self.pools[slot[0]].pins[slot[1]] += 1

    def unpin(self, slot: Slot) -> None:
        """Take back one ``pin``."""
        pool = self.pools[slot[0]]
        assert pool.pins[slot[1]] > 0
        pool.pins[slot[1]] -= 1

    def in_use(self) -> int:
        """Slots that have a writer."""
        return sum(len(pool.active) for pool in self.pools.values())
