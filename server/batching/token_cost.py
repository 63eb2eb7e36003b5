"""What an engine call takes, by its kind: a line ``a + b * tokens`` for each pool and kind, learned as it runs.

A decode call computes one token a row; its line is over rows, and its constant is the time to read all weights once. A
prompt call's line is over rows times padded length. Copies have a line over tokens. The lines decide how long a chunk may
be, whether two ranges of rows are cheaper apart or as one range with idle rows between them, and when moving a row pays.

Units: seconds, and tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import numpy as np

from server.batching.cost import CostModel
from server.engines.causal import CausalCall, CausalEngine

GUESS_DECODE = (0.010, 0.002)  # before anything was measured; a few calls correct it
GUESS_PROMPT = (0.010, 0.002)
GUESS_COPY = (0.001, 0.00001)
GROWTH = 1.15  # of a call's time, with each doubling of the capacity, until it was measured
MEASURED_CHUNK = 64  # tokens of the longest prompt call that is measured


class TokenCosts:
    """The lines of one engine."""

    def __init__(self, capacities: Iterable[int]) -> None:
        """Start from guesses; ``decode`` and ``prompt`` hold a ``CostModel`` for each pool's capacity."""
        capacities = tuple(capacities)
        self.decode = {capacity: CostModel(*GUESS_DECODE) for capacity in capacities}
        self.prompt = {capacity: CostModel(*GUESS_PROMPT) for capacity in capacities}
        self.copy = CostModel(*GUESS_COPY)

    def call_s(self, capacity: int, rows: int, width: int) -> float:
        """Seconds that a call of ``rows`` rows of ``width`` tokens is expected to take."""
        if width == 1:
            return self.decode[capacity].predict_s(rows)
        return self.prompt[capacity].predict_s(rows * width)

    def observe(self, capacity: int, rows: int, width: int, elapsed_s: float) -> None:
        """Learn from one finished call."""
        if width == 1:
            self.decode[capacity].observe(rows, elapsed_s)
        else:
            self.prompt[capacity].observe(rows * width, elapsed_s)


def measure(engine: CausalEngine, clock: Callable[[], float] = time.monotonic) -> TokenCosts:
    """Run the kinds of calls that serving will run, three times each, and learn: warms the engine up as well.

    Only in the smallest pool, and with prompts of some tokens: a model of half a billion weights would take the better
    part of a minute for all pools and whole chunks, and a server must be ready within seconds. The lines of the other
    pools begin a little above this one's, as attention is dense in the capacity, and are learned from their calls.

    To be called where the engine was loaded, before a batcher has it: the engine has one user at a time.
    """
    limits = engine.limits
    capacity = min(limits.pools)
    slots, chunk = limits.pools[capacity], min(MEASURED_CHUNK, limits.max_chunk, capacity)
    sizes = [(1, 1), (slots, 1), (1, min(max(2, chunk // 4), chunk)), (1, chunk)]
    points: dict[bool, list[tuple[int, float]]] = {True: [], False: []}
    for rows, width in sizes:
        call = CausalCall(
            capacity,
            0,
            np.zeros((rows, width), np.int64),
            np.zeros(rows, np.int64),
            np.full(rows, width, np.int64),
        )
        engine.run(call)
        best_s = math.inf
        for _ in range(2):  # the better one: what disturbs a machine while it loads is not the engine's cost
            began = clock()
            engine.run(call)
            best_s = min(best_s, clock() - began)
        points[width == 1].append((rows * width, best_s))
    costs = TokenCosts(limits.pools)
    for doublings, each in enumerate(sorted(limits.pools)):
        more = GROWTH**doublings
        costs.decode[each] = _line([(tokens, seconds * more) for tokens, seconds in points[True]])
        costs.prompt[each] = _line(
            [(tokens, seconds * more) for tokens, seconds in points[False] or points[True]]
        )
    return costs


def _line(points: list[tuple[int, float]]) -> CostModel:
    (few, few_s), (many, many_s) = points
    slope = max(0.0, (many_s - few_s) / (many - few)) if many > few else 0.0
    slope = min(slope, many_s / many)  # no line may promise less than nothing for an empty call
    return CostModel(max(0.0, many_s - slope * many), slope)
