"""What a batch costs on this machine, and how large one should therefore be.

Units: seconds, and tokens with their padding.
"""

from __future__ import annotations

import time

import numpy as np

from server.batching.cost import CostModel
from server.batching.token_batches import TokenBudget
from server.engines.encoder import EncoderEngine

# Batches that are timed: texts, tokens of each, repeats. The first of each shape pays for memory and is left out.
_TIMED = ((1, 2, 6), (1, 12, 6), (4, 12, 3), (8, 24, 2))
_HANDLING_S = 0.0002  # of the event loop: deciding, packing and answering a batch, whatever is in it
# Of a full batch's time, what its fixed cost may be; larger batches gain less than they delay.
_FIXED_SHARE = 0.05
_LEAST, _MOST = 64, 4096
_NARROWEST, _WIDEST = 4, 64
# A batch of bulk work is as short as this where texts are: whoever is live waits for its end.
_BULK_S = 0.008


def measure_cost(engine: EncoderEngine, *, max_tokens: int) -> CostModel:
    """Warm the engine and fit ``a + b * tokens``, now; the builder's figure is from the builder's machine."""
    tokens: list[int] = []
    times: list[float] = []
    for rows, wanted, repeats in _TIMED:
        length = min(wanted, max_tokens)
        input_ids = np.ones((rows, length), np.int64)
        lengths = np.full(rows, length, np.int64)
        took = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            engine.run(input_ids, lengths)
            took.append(time.perf_counter() - start)
        tokens.append(rows * length)
        times.append(min(took[1:]))
    # By relative error: the fixed cost is told by the small batches, which a line through all would hardly look at.
    per_token_s, base_s = np.polyfit(tokens, times, 1, w=1.0 / np.asarray(times))
    return CostModel(max(float(base_s), 1e-6), max(float(per_token_s), 1e-9))


def budget_for(cost: CostModel, wanted: int = 0) -> TokenBudget:
    """How large a batch should be: as large as its fixed cost asks for, and no larger.

    Beyond that an encoder on a CPU takes as long for two batches as for one of both, and who came first waits longer.

    Args:
        cost: of a batch.
        wanted: tokens of a batch, as the operator says; 0: by the cost.
    """
    fixed_s = cost.base_s + _HANDLING_S
    live = wanted or min(_MOST, max(_LEAST, int(fixed_s / cost.per_item_s / _FIXED_SHARE)))
    width = int(fixed_s / cost.per_item_s)
    return TokenBudget(
        live_tokens=live,
        bulk_tokens=min(live, max(_LEAST // 2, cost.fits(_BULK_S, live))),
        width_tokens=max(_NARROWEST, min(_WIDEST, width)),
    )
