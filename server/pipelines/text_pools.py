"""How an engine's KV cache is divided: capacities of the pools, and how many slots each has. Units: tokens.

The engine's attention is dense in the capacity of a pool: with the weights of half a billion parameters, a step of eight texts
takes 1.15 times as long at 512 as at 256, 1.33 times at 768, 1.55 times at 1024. So pools lie close together where most
texts are; but each is a call of its own, which reads all weights again, so there are few.
"""

from __future__ import annotations

# Capacities, and by how much the slots are divided: a prompt of instructions and a record with its answer (460 and 64 tokens)
# fits 768 and not 512, and as many of them as there are slots may run. Long texts are rare, and their slots large.
POOLS = {256: 1, 512: 1, 768: 1, 1024: 2, 2048: 4}
LARGE_SHARE = 4  # of the slots, for capacities beyond these, which double


def pools_for(max_context: int, slots: int) -> dict[int, int]:
    """Capacities of the KV pools, up to the context, with the number of slots of each.

    Every slot may be in a small pool; the large ones have fewer, or memory would be the longest text's times the slots.
    Memory is touched as slots fill: a pool that nobody needs takes none.
    """
    shares = dict(POOLS)
    while max(shares) < max_context:
        shares[2 * max(shares)] = LARGE_SHARE
    pools: dict[int, int] = {}
    for capacity, share in shares.items():
        pools[min(capacity, max_context)] = max(1, slots // share)
        if capacity >= max_context:
            break
    return pools
