"""Users who walk through a catalogue in small steps: predictable, so that learning shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from build_engines.models.training import Heldout


def walks_of(users: int = 500, items: int = 300, seed: int = 0) -> list[npt.NDArray[np.int64]]:
    """Users who walk through the catalogue in small steps: predictable, so that learning shows."""
    rng = np.random.default_rng(seed)
    walks = []
    for _ in range(users):
        steps = rng.integers(1, 4, size=rng.integers(0, 12))
        walks.append((rng.integers(0, items) + np.cumsum(steps)) % items + 1)
    return walks


def held_out(walks: Sequence[npt.NDArray[np.int64]]) -> tuple[list[npt.NDArray[np.int64]], Heldout]:
    long = [walk for walk in walks if len(walk) >= 2]
    return [walk[:-1] for walk in walks], Heldout(
        histories=[walk[:-1] for walk in long], targets=np.array([walk[-1] for walk in long])
    )
