"""How fast a candidate is beside its parent: both timed in turn, in one process, on the same batches.

A machine's speed drifts by more than compression gains; two runs a minute apart compare minutes, not engines.
So each round times both, in an order that alternates, and the figure is the median of the rounds' ratios with
a bootstrap interval. Small batches are repeated within a round until they last long enough to be timed.

Units: seconds a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from build_engines.records import SpeedRow
from server.artifacts.manifest import BatchTime, Cost

Run = Callable[[], object]
Clock = Callable[[], float]

_LONG_ENOUGH_S = 2e-3
_MOST_REPEATS = 64
_RESAMPLES = 2000


def measure_in_turn(
    runs: Mapping[str, Run], *, rounds: int, clock: Clock = time.perf_counter
) -> dict[str, npt.NDArray[np.float64]]:
    """Seconds a run, for each round, by name.

    Args:
        runs: what to time; each does one batch.
        rounds: how often all of them are timed.
        clock: seconds, monotonic.
    """
    repeats = {}
    for name, run in runs.items():
        run()  # first runs allocate
        start_s = clock()
        run()
        repeats[name] = int(np.clip(_LONG_ENOUGH_S / max(clock() - start_s, 1e-9), 1, _MOST_REPEATS))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        order = list(runs) if number % 2 == 0 else list(runs)[::-1]
        for name in order:
            run = runs[name]
            start_s = clock()
            for _ in range(repeats[name]):
                run()
            times[name].append((clock() - start_s) / repeats[name])
    return {name: np.array(values) for name, values in times.items()}


def speed_row(
    batch_size: int,
    parent_s: npt.NDArray[np.float64],
    candidate_s: npt.NDArray[np.float64],
    *,
    seed: int = 0,
) -> SpeedRow:
    """The median speed-up over rounds, with its 95 % bootstrap interval.

    Raises:
        ValueError: no rounds, or a time that is not above 0.
    """
    if parent_s.size == 0 or parent_s.shape != candidate_s.shape:
        raise ValueError(f"{parent_s.size} rounds of the parent, {candidate_s.size} of the candidate")
    if not (np.all(parent_s > 0) and np.all(candidate_s > 0)):
        raise ValueError("a batch took no time at all: the clock is broken")
    ratios = parent_s / candidate_s
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, ratios.size, (_RESAMPLES, ratios.size))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), [0.025, 0.975])
    return SpeedRow(
        batch_size=batch_size,
        parent_s=float(np.median(parent_s)),
        candidate_s=float(np.median(candidate_s)),
        speedup=float(np.median(ratios)),
        interval=(float(low), float(high)),
        rounds=int(ratios.size),
    )


def fit_cost(times: Mapping[int, npt.NDArray[np.float64]], hardware: str) -> Cost:
    """``a + b * n`` through the medians, both at least 0, and the table that they come from.

    Args:
        times: seconds a batch for each round, by batch size.
        hardware: the machine, in words.
    """
    sizes = sorted(times)
    medians = [float(np.median(times[size])) for size in sizes]
    if len(sizes) > 1:
        slope, base = (float(value) for value in np.polyfit(sizes, medians, 1, w=1 / np.array(medians)))
    else:
        slope, base = medians[0] / sizes[0], 0.0
    if base < 0:
        base, slope = (
            0.0,
            float(np.median([median / size for median, size in zip(medians, sizes, strict=True)])),
        )
    return Cost(
        base_s=max(base, 0.0),
        per_item_s=max(slope, 0.0),
        measured=tuple(
            BatchTime(
                batch_size=size,
                median_s=median,
                p90_s=float(np.quantile(times[size], 0.9)),
                repeats=int(times[size].size),
            )
            for size, median in zip(sizes, medians, strict=True)
        ),
        hardware=hardware,
    )
