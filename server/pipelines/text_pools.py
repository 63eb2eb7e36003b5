"""How an engine's KV cache is divided: capacities of the pools, and how many slots each has. Units: tokens.

Each pool is a call of its own in every step, which reads all weights again: texts of one length in three pools took 101 ms a
step, in one 65. So an engine whose attention reads a row as far as it is filled has one pool for nearly everything.

Where attention is dense in the capacity of a pool (versions packaged before it was grouped), a step of eight texts takes 1.15
times as long at 512 as at 256, 1.33 times at 768, 1.55 times at 1024, with the weights of half a billion parameters. There
pools lie close together where most texts are, and are few.

Memory is touched as slots fill: what nobody needs takes none.
"""

from __future__ import annotations

SLOTS = 16  # texts at once, where the settings say nothing
DENSE_SLOTS = 8  # in each pool
USUAL = 2048  # capacity of the slots that most texts fit
# Capacities of dense pools, and by how much the slots are divided: a prompt of instructions and a record with its answer (460
# and 64 tokens) fits 768 and not 512, and as many of them as there are slots may run.
DENSE = {256: 1, 512: 1, 768: 1, 1024: 2, 2048: 4}
LARGE_SHARE = 4  # of the slots, for capacities beyond these, which double


def pools_for(max_context: int, slots: int, dense: bool) -> dict[int, int]:
    """Capacities of the KV pools, up to the context, with the number of slots of each.

    Args:
        max_context: tokens of the longest text.
        slots: texts at once in the pool of the usual texts; 0: the default. Pools of long texts have fewer: as many as
            fit the same memory.
        dense: whether attention is dense in the capacity.
    """
    if dense:
        return _dense(max_context, slots or DENSE_SLOTS)
    slots = slots or SLOTS
    pools = {min(USUAL, max_context): slots}
    if max_context > USUAL:
        pools[max_context] = max(1, slots * USUAL // max_context)
    return pools


def _dense(max_context: int, slots: int) -> dict[int, int]:
    shares = dict(DENSE)
    while max(shares) < max_context:
        shares[2 * max(shares)] = LARGE_SHARE
    pools: dict[int, int] = {}
    for capacity, share in shares.items():
        pools[min(capacity, max_context)] = max(1, slots // share)
        if capacity >= max_context:
            break
    return pools
