"""What a batch costs on this machine, and how large one should therefore be.

Units: seconds, and tokens with their padding.
"""

from __future__ import annotations

import time

import numpy as np

from server.batching.cost import CostModel
from server.batching.token_batches import TokenBudget
from server.engines.encoder import EncoderEngine

# Batches that are timed: rows, tokens a row, repeats. The first of each shape pays for memory and is left out.
_TIMED = ((1, 8, 6), (1, 32, 4), (8, 16, 3), (8, 48, 2))
_BASE_SHARE = (
    0.05  # of a full batch's time that its fixed cost may be; larger batches gain less than they delay
)
_LEAST, _MOST = 256, 4096
# A batch of bulk work is as short as this, because whoever is live waits for its end.
_BULK_S = 0.010


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
    per_token_s, base_s = np.polyfit(tokens, times, 1)
    return CostModel(max(float(base_s), 1e-6), max(float(per_token_s), 1e-9))


def budget_for(cost: CostModel, max_tokens: int, wanted: int = 0) -> TokenBudget:
    """How large a batch should be: as large as its fixed cost asks for, and any one text always fits.

    Args:
        cost: of a batch.
        max_tokens: of a text.
        wanted: tokens of a batch, as the operator says; 0: by the cost.
    """
    asked = wanted or min(_MOST, max(_LEAST, int(cost.base_s / cost.per_item_s / _BASE_SHARE)))
    most = max(asked, max_tokens)
    bulk = min(most, max(64, cost.fits(_BULK_S, most)))
    return TokenBudget(max_tokens=most, bulk_tokens=bulk)
