"""Which slot a text gets, which rows go into one call, how long a chunk may be: pure decisions on measured costs.

Everything is weighed in seconds: a row that lies apart costs a second read of all weights or idle rows in between, in each
step that its text stays; a prefix that is overwritten costs its computation if somebody asks for it again; a copy costs a
copy. So that there is one rule for "take over the slot of the shared prefix", "fill the hole", and "spare that prefix".

Units: seconds, and tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from server.batching.kv_slots import KvSlots, Pool, Slot
from server.batching.prefix_cache import Hit, unique_tokens
from server.batching.token_cost import TokenCosts

STAY_STEPS = 64  # how many steps of a text a good place is weighed for, at most
UNPROVEN = 0.1  # chance that a prefix nobody has asked for yet is asked for
PROVEN = 0.9
COPY_MARGIN = 1.5  # a move must gain this many times what it costs


def ranges(active: Sequence[int], base_s: float, per_row_s: float) -> list[tuple[int, int]]:
    """Group ascending row indices into calls: (first, last + 1) of each, idle rows in a gap where they cost less.

    A gap is bridged when its idle rows cost no more than another call's constant; with a linear cost each gap can be
    decided alone.
    """
    if not active:
        return []
    out: list[tuple[int, int]] = []
    first = last = active[0]
    for index in active:
        if (index - last - 1) * per_row_s > base_s:
            out.append((first, last + 1))
            first = index
        last = index
    out.append((first, last + 1))
    return out


def decode_s(active: Sequence[int], base_s: float, per_row_s: float) -> float:
    """Seconds of one decode step of these rows."""
    groups = ranges(active, base_s, per_row_s)
    return base_s * len(groups) + per_row_s * sum(end - first for first, end in groups)


class Place(NamedTuple):
    """A slot for a text, and what taking it costs in all."""

    slot: Slot
    seconds: float


def place(
    slots: KvSlots,
    costs: TokenCosts,
    need: int,
    steps: int,
    hit: Hit | None = None,
    *,
    over: int = 0,
) -> Place | None:
    """Choose a slot for a text.

    Args:
        slots: the books.
        costs: of the engine.
        need: tokens it must have room for.
        steps: steps that it is going to stay, as far as is known.
        hit: the prefix that would be copied, or kept where it is.
        over: only slots of more capacity than this.

    Returns:
        The cheapest open slot, or None. The last open slot of a pool that is larger than needed is given only where no
        smaller one is left.
    """
    best: Place | None = None
    spare: Place | None = None
    fits = False
    for capacity, pool in slots.pools.items():
        if pool.usable < need or capacity <= over:
            continue
        open_slots = pool.open_slots()
        if open_slots:
            found = _cheapest(slots, costs, pool, open_slots, min(steps, STAY_STEPS), hit)
            if fits and len(open_slots) == 1:
                spare = spare or found
            elif best is None or found.seconds < best.seconds:
                best = found
        fits = True
    return best or spare


def _cheapest(
    slots: KvSlots, costs: TokenCosts, pool: Pool, open_slots: Sequence[int], steps: int, hit: Hit | None
) -> Place:
    line = costs.decode_line(pool.capacity, len(pool.active) + 1)
    base_s, row_s = line.base_s, line.per_item_s
    now_s = decode_s(pool.active, base_s, row_s)
    best: Place | None = None
    for index in open_slots:
        slot = (pool.capacity, index)
        more_s = decode_s(_with(pool.active, index), base_s, row_s) - now_s
        seconds = more_s * steps
        kept = 0
        if hit is not None:
            if hit.slot == slot:
                kept = hit.tokens
            else:
                compute_s = costs.prompt[pool.capacity].per_item_s * hit.tokens
                seconds += min(costs.copy.predict_s(hit.tokens), compute_s)
        if pool.filled_N[index]:
            seconds += loss_s(slots, costs, slot, kept)
        if best is None or seconds < best.seconds:
            best = Place(slot, seconds)
    assert best is not None
    return best


def loss_s(slots: KvSlots, costs: TokenCosts, slot: Slot, kept: int = 0) -> float:
    """What it is expected to cost that the cached prefix in a slot is gone, but for its first ``kept`` tokens."""
    pool, index = slots.pools[slot[0]], slot[1]
    lost = unique_tokens(slots, slot, kept)
    if not lost:
        return 0.0
    age = slots.tick - pool.used_at[index]
    chance = (PROVEN if pool.hits[index] else UNPROVEN) / (1.0 + age / 32.0)
    return costs.prompt[pool.capacity].per_item_s * lost * chance


def _with(active: Sequence[int], index: int) -> list[int]:
    return sorted([*active, index])


class Move(NamedTuple):
    """A text that should be moved to another slot of its pool, so that the rows of a step lie closer."""

    source: int
    target: int


def better_rows(
    slots: KvSlots, costs: TokenCosts, pool: Pool, steps_left: Iterable[tuple[int, int, int]]
) -> Move | None:
    """The move in a pool that pays best, if one pays at all.

    Args:
        slots: the books.
        costs: of the engine.
        pool: where.
        steps_left: for the first and the last active row: index, tokens to copy, steps that the text stays.
    """
    line = costs.decode_line(pool.capacity, len(pool.active))
    base_s, row_s = line.base_s, line.per_item_s
    now_s = decode_s(pool.active, base_s, row_s)
    if now_s <= base_s + row_s * len(pool.active):
        return None
    holes = pool.open_slots()
    best: Move | None = None
    best_gain_s = 0.0
    for source, tokens, steps in steps_left:
        rest = [index for index in pool.active if index != source]
        copy_s = costs.copy.predict_s(tokens)
        for target in holes:
            saved_s = (now_s - decode_s(_with(rest, target), base_s, row_s)) * min(steps, STAY_STEPS)
            gain_s = saved_s - COPY_MARGIN * copy_s
            if gain_s > best_gain_s:
                gain_s -= loss_s(slots, costs, (pool.capacity, target)) if pool.filled_N[target] else 0.0
                if gain_s > best_gain_s:
                    best, best_gain_s = Move(source, target), gain_s
    return best


def chunk(
    pending: int, left_s: float, left_tokens: int, costs: TokenCosts, capacity: int, limits: tuple[int, int]
) -> int:
    """How many of a text's pending prompt tokens to compute in this step; 0: none.

    Args:
        pending: tokens of the prompt that are not computed.
        left_s: time that this step has left for prompts.
        left_tokens: tokens that it may compute still.
        costs: of the engine.
        capacity: of the text's slot.
        limits: (fewest, most) tokens of a chunk.

    Returns:
        At most ``min(pending, left_tokens, most)``. A rest of less than a quarter is taken along: a call of its own would
        cost more than the small delay.
    """
    fewest, most = limits
    most = min(pending, left_tokens, most)
    fit = costs.prompt[capacity].fits(left_s, most)
    if fit >= most:
        return most
    if fit < min(fewest, most):
        return 0
    return most if most == pending and pending - fit <= fit // 4 else fit
