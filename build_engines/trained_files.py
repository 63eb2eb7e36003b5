"""What the train stage leaves and every later stage reads: weights by name, transition counts, popularity.

Weights are named as ``SasRec.export_weights`` names them; reading them needs no torch. The transition table
is the unfolded one: the floor, the mix and the fallback tier each fold it their own way.

Suffixes: N rows with the padding row 0, M neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from build_engines.data.sequences import Sequences
from build_engines.models.transitions import TransitionTable

WEIGHTS, COUNTS, REFERENCE = "weights.npz", "counts.npz", "reference.npz"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrainedArrays:
    """All that was learnt.

    Attributes:
        weights: of the network, by name.
        table: transition counts of the training part, unfolded.
        popularity_N: float32 [N + 1], of the training part.
    """

    weights: Mapping[str, npt.NDArray[Any]]
    table: TransitionTable
    popularity_N: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reference:
    """What the training framework answers, for the engines to be held against.

    Attributes:
        histories: what was asked; none of them calibrates.
        scores_BN: float32 [B, N + 1], the served score of every item; nothing is masked but padding.
    """

    histories: Sequences
    scores_BN: npt.NDArray[np.float32]


def save_trained(folder: Path, arrays: TrainedArrays) -> None:
    """Write into ``folder``."""
    np.savez(folder / WEIGHTS, **dict(arrays.weights))  # type: ignore[arg-type]  # **kwds for allow_pickle
    np.savez(
        folder / COUNTS,
        neighbour_ids_NM=arrays.table.neighbour_ids_NM,
        neighbour_weights_NM=arrays.table.neighbour_weights_NM,
        popularity_N=arrays.popularity_N,
    )


def read_trained(folder: Path) -> TrainedArrays:
    """Read what ``save_trained`` wrote."""
    with np.load(folder / WEIGHTS) as stored:
        weights = {name: stored[name] for name in stored.files}
    with np.load(folder / COUNTS) as stored:
        return TrainedArrays(
            weights=weights,
            table=TransitionTable(
                neighbour_ids_NM=stored["neighbour_ids_NM"],
                neighbour_weights_NM=stored["neighbour_weights_NM"],
            ),
            popularity_N=stored["popularity_N"],
        )


def save_reference(folder: Path, reference: Reference) -> None:
    """Write into ``folder``."""
    histories = reference.histories
    np.savez(
        folder / REFERENCE,
        offsets_U1=histories.offsets_U1,
        item_rows_E=histories.item_rows_E,
        scores_BN=reference.scores_BN,
    )


def read_reference(folder: Path) -> Reference:
    """Read what ``save_reference`` wrote."""
    with np.load(folder / REFERENCE) as stored:
        histories = Sequences(stored["offsets_U1"], stored["item_rows_E"])
        return Reference(histories=histories, scores_BN=stored["scores_BN"])
