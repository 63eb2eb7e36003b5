"""From the tables a version stores to the tables its engine binds.

The catalogue is stored once, row by row, because that is what a quarter of the size means; scoring wants it column by
column. The transpose is made here, at load (milliseconds), and not stored.

Where items share rows of the item table, it has R rows, fewer than the catalogue's N, and two columns say which item has
which.

The item table may also be kept as product codes all the way (``item_codes_NM``): histories read their rows from the codebook,
and scores are sums of M looked-up products. It is the smallest form in memory, and slower than INT8 on a CPU.

A version may store tables packed (``packed_tables``); everything here takes them as they are stored.

Suffixes: N rows (padding included), R rows of the item table (N unless items share them), D width, M neighbours or codes of a
row, K codes to choose from, W width of a piece of a row, X hidden rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from server.encoding import packed_tables

Table = npt.NDArray[Any]

ITEM_EMB = "item_emb_ND"
INPUT_SCALE = "input_scale_N"
SCORE_EMB = "score_emb_DN"
SCORE_SCALE = "score_scale_N"
SCORE_BIAS = "score_bias_N"
ITEM_CODES = "item_codes_NM"
SCORE_CODES = "score_codes_MN"
ITEM_CODEBOOK = "item_codebook_MKW"
ITEM_TURN = "item_turn_DD"
INPUT_ROW = "input_row_N"
SCORE_ROW = "score_row_N"
NEIGHBOUR_IDS = "neighbour_ids_NM"
NEIGHBOUR_WEIGHTS = "neighbour_weights_NM"
HIDDEN_ROWS = "hidden_rows_X"
POPULARITY = "popularity_N"

# Score of what may not be returned; anything below half of it is not an answer.
NEVER = -1.0e9

# Multiplied by or added, not looked up in: a runtime may want to lay these out in its own way, once.
PACKED = (SCORE_EMB, SCORE_SCALE, SCORE_BIAS)

_NEEDED = (INPUT_SCALE, NEIGHBOUR_IDS, NEIGHBOUR_WEIGHTS, HIDDEN_ROWS)
_CODED = (ITEM_CODES, ITEM_CODEBOOK, ITEM_TURN)
_OPTIONAL = (SCORE_SCALE, SCORE_BIAS, INPUT_ROW, SCORE_ROW)
_OF_TABLE = (ITEM_EMB, ITEM_CODES, INPUT_SCALE, SCORE_SCALE)


def engine_tables(stored: Mapping[str, Table]) -> dict[str, Table]:
    """The tables a recommender's graph takes, by tensor name.

    ``item_emb_ND`` serves both ends: looked up (times ``input_scale_N``) it is the input, transposed (times
    ``score_scale_N`` where it holds INT8 codes) it is what scores. Where items share rows, ``input_row_N`` and
    ``score_row_N`` say which row is whose at either end.

    Raises:
        ValueError: a stored table is missing, two disagree about N, or a row is named that the item table has not.
    """
    stored = plain(stored)
    coded = ITEM_CODES in stored
    needed = (*(_CODED if coded else (ITEM_EMB,)), *_NEEDED)
    missing = [name for name in needed if name not in stored]
    if missing:
        raise ValueError(f"tables {missing} are missing, the version has {sorted(stored)}")
    items = stored[ITEM_CODES if coded else ITEM_EMB]
    if (items.dtype.kind != "f") != (SCORE_SCALE in stored):
        raise ValueError(
            f"{ITEM_EMB} is {items.dtype}: {SCORE_SCALE} goes with int8 codes or product codes and with nothing else"
        )
    bound = {name: np.ascontiguousarray(stored[name]) for name in (*needed, *_OPTIONAL) if name in stored}
    if (INPUT_ROW in stored) != (SCORE_ROW in stored):
        raise ValueError(f"{INPUT_ROW} and {SCORE_ROW} go together; the version has {sorted(stored)}")
    rows = catalogue_rows(stored)
    for name, table in bound.items():
        wanted = len(items) if name in _OF_TABLE else rows
        if name not in (HIDDEN_ROWS, ITEM_CODEBOOK, ITEM_TURN) and len(table) != wanted:
            raise ValueError(f"{name} has {len(table)} rows, must have {wanted}")
    for name in (INPUT_ROW, SCORE_ROW):
        if name in bound and not 0 <= int(bound[name].min()) <= int(bound[name].max()) < len(items):
            raise ValueError(f"{name} names row {int(bound[name].max())}, {ITEM_EMB} has {len(items)}")
    if coded:
        packed_tables.check_codes(items, bound[ITEM_CODEBOOK], bound[ITEM_TURN])
        bound |= {name: bound[name].astype(np.float32) for name in (ITEM_CODEBOOK, ITEM_TURN)}
        # In the graph codes are -128..127: TensorRT looks up in no table of unsigned bytes.
        bound[ITEM_CODES] = (items ^ np.uint8(128)).view(np.int8)
        bound[SCORE_CODES] = np.ascontiguousarray(bound[ITEM_CODES].T)
    else:
        bound[SCORE_EMB] = np.ascontiguousarray(items.T)
    return bound


def plain(stored: Mapping[str, Table]) -> dict[str, Table]:
    """The stored tables with those unpacked that are packed; what is plain already stays as it is.

    Raises:
        ValueError: part of a packed table is missing, or its shapes do not go together.
    """
    return packed_tables.unpacked(
        stored,
        item_emb=ITEM_EMB,
        input_scale=INPUT_SCALE,
        score_scale=SCORE_SCALE,
        ids=NEIGHBOUR_IDS,
        weights=NEIGHBOUR_WEIGHTS,
    )


class ItemVectors:
    """Rows of a plain item table, whatever form it has; indexed by row numbers.

    Raises:
        KeyError: there is no item table.
    """

    def __init__(self, stored: Mapping[str, Table]) -> None:
        self._codes = stored.get(ITEM_CODES)
        self._table = stored[ITEM_EMB] if self._codes is None else stored[ITEM_CODEBOOK]
        self._turn = stored.get(ITEM_TURN)

    def __len__(self) -> int:
        """R."""
        return len(self._table if self._codes is None else self._codes)

    def __getitem__(self, rows: npt.NDArray[np.integer[Any]]) -> Table:
        """Vectors ``[len(rows), D]``, INT8 codes or floats."""
        if self._codes is None:
            return np.asarray(self._table[rows])
        return packed_tables.decoded_rows(self._codes[rows], self._table, self._turn)


def catalogue_rows(stored: Mapping[str, Table]) -> int:
    """N, rows of the catalogue, however many the item table has."""
    return len(stored[NEIGHBOUR_IDS])


def table_rows(bound: Mapping[str, Table]) -> int:
    """R, rows of the item table."""
    return len(bound[ITEM_CODES] if ITEM_CODES in bound else bound[ITEM_EMB])
