"""The books of the KV cache: one writer a slot, nothing given away that is pinned, nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.batching.kv_slots import KvSlots


def test_a_slot_has_one_writer() -> None:
    """Taking a written or a pinned slot is a bug, and is found at once."""
    slots = KvSlots({8: 2})
    slots.take((8, 0), 1)
    with pytest.raises(AssertionError, match="written by text 1"):
        slots.take((8, 0), 2)
    slots.pin((8, 1))
    with pytest.raises(AssertionError, match="pinned"):
        slots.take((8, 1), 2)
    slots.unpin((8, 1))
    slots.take((8, 1), 2)
    with pytest.raises(AssertionError, match="not 1"):
        slots.release((8, 1), 1, keep=False)


def test_what_is_kept_is_the_computed_part_and_what_is_not_kept_is_gone() -> None:
    """A released slot is a cached prefix of its computed tokens, or free."""
    slots = KvSlots({8: 1})
    slots.take((8, 0), 1)
    slots.write((8, 0), [5, 6, 7])
    slots.pools[8].filled_N[0] = 2
    slots.release((8, 0), 1, keep=True)
    assert slots.pools[8].filled_N[0] == 2
    slots.take((8, 0), 2, kept=1)
    assert slots.pools[8].filled_N[0] == 1
    slots.release((8, 0), 2, keep=False)
    assert slots.pools[8].filled_N[0] == 0


@pytest.mark.parametrize("pools", [{1: 1}, {8: 0}])
def test_a_pool_needs_a_slot_and_room(pools: dict[int, int]) -> None:
    """A pool of no slots, or of one token, is refused by its numbers."""
    with pytest.raises(ValueError, match="at least 1 slot of 2 tokens"):
        KvSlots(pools)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_every_slot_is_free_cached_or_written_by_one(actions: list[tuple[bool, int]]) -> None:
    """Whatever is taken and released, writers and open slots add up to all slots, and the active ones are in order."""
    slots = KvSlots({4: 2, 8: 3})
    held: dict[int, tuple[int, int]] = {}
    for takes, key in actions:
        opened = [(pool.capacity, i) for pool in slots.pools.values() for i in pool.open_slots()]
        if takes and key not in held and opened:
            held[key] = opened[key % len(opened)]
            slots.take(held[key], key)
        elif not takes and key in held:
            slots.release(held.pop(key), key, keep=key % 2 == 0)
        assert slots.in_use() == len(held) == len(set(held.values()))
        assert len(opened) <= 5
        for capacity, pool in slots.pools.items():
            assert pool.active == sorted(i for cap, i in held.values() if cap == capacity)
            assert len(pool.open_slots()) + len(pool.active) == len(pool)
