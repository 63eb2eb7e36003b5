"""From the tables a version stores to the tables its engine binds.

The catalogue is stored once, row by row, because that is what a quarter of the size means; scoring wants it column by
column. The transpose is made here, at load (milliseconds), and not stored.

Suffixes: N rows (padding included), D width, M neighbours, X hidden rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[Any]

ITEM_EMB = "item_emb_ND"
INPUT_SCALE = "input_scale_N"
SCORE_EMB = "score_emb_DN"
SCORE_SCALE = "score_scale_N"
SCORE_BIAS = "score_bias_N"
NEIGHBOUR_IDS = "neighbour_ids_NM"
NEIGHBOUR_WEIGHTS = "neighbour_weights_NM"
HIDDEN_ROWS = "hidden_rows_X"
POPULARITY = "popularity_N"

# Score of what may not be returned; anything below half of it is not an answer.
NEVER = -1.0e9

# Multiplied by or added, not looked up in: a runtime may want to lay these out in its own way, once.
PACKED = (SCORE_EMB, SCORE_SCALE, SCORE_BIAS)

_NEEDED = (ITEM_EMB, INPUT_SCALE, NEIGHBOUR_IDS, NEIGHBOUR_WEIGHTS, HIDDEN_ROWS)
_OPTIONAL = (SCORE_SCALE, SCORE_BIAS)


def engine_tables(stored: Mapping[str, Table]) -> dict[str, Table]:
    """The tables a recommender's graph takes, by tensor name.

    ``item_emb_ND`` serves both ends: looked up (times ``input_scale_N``) it is the input, transposed (times
    ``score_scale_N`` where it holds INT8 codes) it is what scores.

    Raises:
        ValueError: a stored table is missing, or two disagree about N.
    """
    missing = [name for name in _NEEDED if name not in stored]
    if missing:
        raise ValueError(f"tables {missing} are missing, the version has {sorted(stored)}")
    emb_ND = stored[ITEM_EMB]
    if (emb_ND.dtype == np.int8) != (SCORE_SCALE in stored):
        raise ValueError(
            f"{ITEM_EMB} is {emb_ND.dtype}: {SCORE_SCALE} goes with int8 codes and with nothing else"
        )
    bound = {name: np.ascontiguousarray(stored[name]) for name in (*_NEEDED, *_OPTIONAL) if name in stored}
    for name, table in bound.items():
        if name != HIDDEN_ROWS and len(table) != len(emb_ND):
            raise ValueError(f"{name} has {len(table)} rows, {ITEM_EMB} has {len(emb_ND)}")
    bound[SCORE_EMB] = np.ascontiguousarray(emb_ND.T)
    return bound
