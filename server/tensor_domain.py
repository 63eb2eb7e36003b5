"""A recommender asked by its tensors and not by a shop's ids; knows no wire.

One query is one row of a batch, so that rows of several callers, and shoppers of the product endpoints, share the engine's
batches. There is no fallback tier here: who asks for the tensors of a model gets that model's, or an error.

Suffixes: L history positions, E excluded rows, N catalogue rows, K ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from server.domain import ModelRef


@dataclass(frozen=True, slots=True)
class TensorShape:
    """One tensor of an engine.

    Attributes:
        name: in the graph.
        dtype: numpy name.
        shape: a number, or a symbol ("B", "L", "N"), a dimension.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TensorContract:
    """What one loaded version of a recommender takes and gives; another version has another object.

    Attributes:
        model: the version.
        inputs, outputs: of the graph; tables that are bound are not among them.
        rows: N; a row id is below it.
        max_history: most positions of a history.
        max_exclude: most excluded rows of one query.
        max_batch: most rows in one call of the engine.
    """

    model: ModelRef
    inputs: tuple[TensorShape, ...]
    outputs: tuple[TensorShape, ...]
    rows: int
    max_history: int
    max_exclude: int
    max_batch: int


@dataclass(frozen=True, slots=True)
class TensorQuery:
    """One row, already held against ``contract``.

    Attributes:
        contract: of the version that it was checked for; by another one it is not answered.
        item_ids_L: int32, oldest first, 0 is padding on the left.
        exclude_ids_E: int32, 0 is nothing.
        candidate_N: rows that may be returned; None: all that are listed.
        deadline_s: seconds from arrival; None: the server's default.
    """

    contract: TensorContract
    item_ids_L: npt.NDArray[np.int32]
    exclude_ids_E: npt.NDArray[np.int32]
    candidate_N: npt.NDArray[np.bool_] | None = None
    deadline_s: float | None = None


@dataclass(slots=True)
class TensorAnswer:
    """One row of each output.

    Attributes:
        ids_K: int32 catalogue rows, best first.
        scores_K: float32; far below zero where fewer rows were allowed than there are ranks.
        model: the version that answered.
        timings: where the time went (``batching.BatchTimings``); None until it is told.
    """

    ids_K: npt.NDArray[np.int32]
    scores_K: npt.NDArray[np.float32]
    model: ModelRef
    timings: Any = None
