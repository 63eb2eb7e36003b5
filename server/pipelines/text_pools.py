"""How an engine's KV cache is divided: capacities of the pools, and how many slots each has. Units: tokens."""

from __future__ import annotations

SMALLEST_POOL = 256  # tokens; smaller pools gain nothing, the engine's attention is dense in this length
POOL_SHARES = (1, 1, 2, 4)  # of the slots, by pool: a pool doubles with its capacity, long texts are rare


def pools_for(max_context: int, slots: int) -> dict[int, int]:
    """Capacities of the KV pools, doubling up to the context, with the number of slots of each.

    Short texts are most of the traffic and a call costs by the capacity of its pool, so every slot may be in a small pool;
    the large ones have fewer, or memory would be the longest text's times the slots.
    """
    capacities = []
    capacity = SMALLEST_POOL
    while capacity < max_context:
        capacities.append(capacity)
        capacity *= 2
    capacities.append(max_context)
    shares = [POOL_SHARES[min(at, len(POOL_SHARES) - 1)] for at in range(len(capacities))]
    return {capacity: max(1, slots // share) for capacity, share in zip(capacities, shares, strict=True)}
