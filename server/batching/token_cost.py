"""What an engine call takes, by its kind: a line ``a + b * tokens`` for each pool and kind, learned as it runs.

A decode call computes one token a row; its line is over rows, and its constant is the time to read all weights once. A
prompt call's line is over rows times padded length. Copies have a line over tokens. The lines decide how long a chunk may
be, whether two ranges of rows are cheaper apart or as one range with idle rows between them, and when moving a row pays.

An engine with a light graph has a second decode line for each pool, and a step takes whichever is lower for its rows.

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
TRY_EVERY = (
    512  # decode calls of one graph after which the other is tried: the line of one that never runs grows old
)
GROWTH = 1.15  # of a call's time, with each doubling of the capacity, until it was measured
MEASURED_CHUNK = 64  # tokens of the longest prompt call that is measured


class TokenCosts:
    """The lines of one engine."""

    def __init__(self, capacities: Iterable[int], *, light: bool = False) -> None:
        """Start from guesses; ``decode`` and ``prompt`` hold a ``CostModel`` for each pool's capacity.

        So does ``light``, of decode calls in the light graph; it is empty where there is none.
        """
        capacities = tuple(capacities)
        self.light = {capacity: CostModel(*GUESS_DECODE) for capacity in capacities if light}
        self._since = {False: 0, True: 0}  # decode calls since one of this graph
        self.decode = {capacity: CostModel(*GUESS_DECODE) for capacity in capacities}
        self.prompt = {capacity: CostModel(*GUESS_PROMPT) for capacity in capacities}
        self.copy = CostModel(*GUESS_COPY)

    def decode_line(self, capacity: int, rows: int, *, light: bool = False) -> CostModel:
        """The line of the graph that decodes this many rows fastest, or of the light one if it has to be that."""
        light = bool(self.light) and (light or self.lighter(capacity, rows))
        return self.light[capacity] if light else self.decode[capacity]

    def lighter(self, capacity: int, rows: int) -> bool:
        """Whether the light graph is expected to decode this many rows faster."""
        line = self.light.get(capacity)
        return line is not None and line.predict_s(rows) < self.decode[capacity].predict_s(rows)

    def choose(self, capacity: int, rows: int, *, light: bool) -> bool:
        """Decide for the light graph (or not) for a decode call that is going to be made.

        Args:
            capacity: of its pool.
            rows: of it.
            light: it has to be the light graph, if there is one.
        """
        if not self.light:
            return False
        if not light:
            light = self.lighter(capacity, rows)
            if self._since[not light] >= TRY_EVERY:
                light = not light
        self._since[light] = 0
        self._since[not light] += 1
        return light

    def call_s(self, capacity: int, rows: int, width: int) -> float:
        """Seconds that a call of ``rows`` rows of ``width`` tokens is expected to take."""
        if width == 1:
            return self.decode[capacity].predict_s(rows)
        return self.prompt[capacity].predict_s(rows * width)

    def observe(self, capacity: int, rows: int, width: int, elapsed_s: float, *, light: bool = False) -> None:
        """Learn from one finished call."""
        if width == 1 and light:
            self.light[capacity].observe(rows, elapsed_s)
        elif width == 1:
            self.decode[capacity].observe(rows, elapsed_s)
        elif not light:
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
    # Rows, width, and whether in the light graph.
    sizes = [(1, 1, False), (slots, 1, False), (1, min(max(2, chunk // 4), chunk), False), (1, chunk, False)]
    if limits.light:
        sizes += [(1, 1, True), (slots, 1, True)]
    points: dict[tuple[bool, bool], list[tuple[int, float]]] = {}
    for rows, width, light in sizes:
        call = CausalCall(
            capacity,
            0,
            np.zeros((rows, width), np.int64),
            np.zeros(rows, np.int64),
            np.full(rows, width, np.int64),
            light,
        )
        engine.run(call)
        best_s = math.inf
        for _ in range(2):  # the better one: what disturbs a machine while it loads is not the engine's cost
            began = clock()
            engine.run(call)
            best_s = min(best_s, clock() - began)
        points.setdefault((width == 1, light), []).append((rows * width, best_s))
    costs = TokenCosts(limits.pools, light=limits.light)
    for doublings, each in enumerate(sorted(limits.pools)):
        lines = {
            kind: _line([(tokens, seconds * GROWTH**doublings) for tokens, seconds in told])
            for kind, told in points.items()
        }
        costs.decode[each], costs.prompt[each] = (
            lines[True, False],
            lines.get((False, False), lines[True, False]),
        )
        if limits.light:
            costs.light[each] = lines[True, True]
    return costs


def _line(points: list[tuple[int, float]]) -> CostModel:
    (few, few_s), (many, many_s) = points
    slope = max(0.0, (many_s - few_s) / (many - few)) if many > few else 0.0
    slope = min(slope, many_s / many)  # no line may promise less than nothing for an empty call
    return CostModel(max(0.0, many_s - slope * many), slope)
