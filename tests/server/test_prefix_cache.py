"""The prefix cache: the longest computed prefix is found, never more than is computed, never all of a prompt."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.batching.kv_slots import KvSlots
from server.batching.prefix_cache import Hit, lookup, shared_prefix, unique_tokens

ids = st.lists(st.integers(0, 2), max_size=7)


def holding(*contents: list[int]) -> KvSlots:
    """Slots of 8 and 16 tokens, every second content in each, all computed."""
    slots = KvSlots({8: max(1, (len(contents) + 1) // 2), 16: max(1, len(contents) // 2)})
    for at, content in enumerate(contents):
        slot = ((8, 16)[at % 2], at // 2)
        slots.take(slot, at)
        slots.write(slot, content)
        slots.pools[slot[0]].filled_N[slot[1]] = len(content)
        slots.release(slot, at, keep=True)
    return slots


def common(a: list[int], b: list[int]) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    return count


@given(st.lists(ids, min_size=1, max_size=6), st.lists(st.integers(0, 2), min_size=1, max_size=12))
def test_the_longest_prefix_of_all_slots_is_found(contents: list[list[int]], prompt: list[int]) -> None:
    """Against counting by hand, over pools; the last token of a prompt is always left to compute."""
    slots = holding(*contents)

    hit = lookup(slots, np.array(prompt, np.int64))

    longest = max(common(content, prompt[:-1]) for content in contents)
    assert (hit.tokens if hit else 0) == longest
    if hit is not None:
        at = 2 * hit.slot[1] + (hit.slot[0] == 16)
        assert common(contents[at], prompt[:-1]) == longest


@given(st.integers(0, 5), st.integers(0, 5))
def test_a_repeatable_text_begins_with_what_the_own_graph_computed(own: int, light: int) -> None:
    """Of a slot whose first tokens one graph computed and the rest the other, others may have all of it."""
    slots = KvSlots({16: 2})
    slots.take((16, 0), 1)
    slots.write((16, 0), list(range(1, 12)))
    slots.computed((16, 0), own)
    slots.computed((16, 0), light, own=False)
    slots.computed((16, 0), 1)  # after something of the light graph, nothing is the own one's any more
    slots.take((16, 1), 2)
    slots.copied((16, 0), (16, 1), own + light + 1)
    prompt = np.arange(1, 13)

    whole, strict = lookup(slots, prompt), lookup(slots, prompt, own=True)

    assert whole is not None and whole.tokens == own + light + 1
    assert (strict.tokens if strict else 0) == (own + 1 if not light else own)


def test_what_is_known_but_not_computed_is_no_prefix() -> None:
    """A slot that is being written offers its computed tokens only."""
    slots = KvSlots({8: 1})
    slots.take((8, 0), 1)
    slots.write((8, 0), [1, 2, 3, 4])
    slots.pools[8].filled_N[0] = 2

    assert lookup(slots, np.array([1, 2, 3, 4, 5], np.int64)) == Hit((8, 0), 2)


def test_of_equal_prefixes_the_one_used_last_is_taken() -> None:
    """So that the others grow old, and are overwritten first."""
    slots = holding([1, 2], [1, 2], [1, 2])
    slots.touch((16, 0))

    hit = lookup(slots, np.array([1, 2, 3], np.int64))
    assert hit is not None and hit.slot == (16, 0)


@given(st.lists(ids, min_size=1, max_size=6))
def test_what_a_slot_alone_holds_is_what_would_be_lost(contents: list[list[int]]) -> None:
    """Tokens beyond the longest prefix in any other slot; none when another holds them all."""
    slots = holding(*contents)

    others = [common(contents[0], content) for content in contents[1:]]
    assert unique_tokens(slots, (8, 0)) == len(contents[0]) - max(others, default=0)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.lists(ids, max_size=5))
def test_the_prefix_shared_with_prompts_under_way_is_found(
    prompt: list[int], others: list[list[int]]
) -> None:
    """The longest, and never all of the prompt."""
    shared = shared_prefix(np.array(prompt, np.int64), (np.array(other, np.int64) for other in others))

    assert shared == max((common(prompt[:-1], other) for other in others), default=0)
