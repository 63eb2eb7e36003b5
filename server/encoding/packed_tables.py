"""Tables in the smaller form in which a version may store them, and back to the plain form that engines bind.

A table is packed for the disk and the network; it is unpacked once, at load, and serves like any other. Names begin with
``packed_``; what does not is left as it is:

* a catalogue as product codes (``packed_item_codes_NM`` and its codebook): each row is M codes of one byte, each code names
  one of K pieces of W values (M * W = D), and all rows are multiplied by one matrix and brought to one length where these
  are given. Unpacked, it is INT8 with a scale a row, so it scores as fast as an INT8 catalogue does;
* transitions without the places that nobody takes, ids in 16 bits (or 32) and weights in 8 on one scale.

Suffixes: N rows (padding included), M codes or neighbours of a row, E neighbours in all, K codes to choose from, W width of a
piece, D width.

Source:
    Jégou et al., "Product Quantization for Nearest Neighbor Search", 2011; Ge et al., "Optimized Product Quantization", 2013
    (the matrix is a rotation, and there may be more in it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

ITEM_CODES = "packed_item_codes_NM"
ITEM_CODEBOOK = "packed_item_codebook_MKW"
ITEM_TURN = "packed_item_turn_DD"
ITEM_LENGTH = "packed_item_length_1"
NEIGHBOUR_COUNTS = "packed_neighbour_counts_N"
NEIGHBOUR_IDS = "packed_neighbour_ids_E"
NEIGHBOUR_WEIGHTS = "packed_neighbour_weights_E"
NEIGHBOUR_SCALE = "packed_neighbour_scale_1"

ROWS_AT_ONCE = 65_536  # of a catalogue that is unpacked: its float32 rows are never in memory together


def decoded_rows(
    codes_NM: Table, codebook_MKW: Table, turn_DD: Table | None = None, length: float | None = None
) -> Floats:
    """Rows in float32, ``[N, D]``, from their product codes.

    Args:
        codes_NM: uint8.
        codebook_MKW: pieces, of any floating dtype.
        turn_DD: rows are multiplied by it; None: by nothing.
        length: rows are brought to it; None: they stay as long as they are.
    """
    pieces_MKW = codebook_MKW.astype(np.float32)
    places_M = np.arange(len(pieces_MKW))
    rows_ND: Floats = pieces_MKW[places_M, codes_NM].reshape(len(codes_NM), -1)
    if turn_DD is not None:
        rows_ND = rows_ND @ turn_DD.astype(np.float32)
    if length is not None:
        rows_ND *= np.float32(length) / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-12)
    return rows_ND


def int8_rows(table_ND: npt.NDArray[np.floating[Any]]) -> tuple[npt.NDArray[np.int8], Floats]:
    """Symmetric INT8 with one scale for each row.

    Returns:
        Codes in -127..127 and their scales (float32, > 0).
    """
    scales_N = np.maximum(np.abs(table_ND).max(axis=1) / 127.0, 1e-12).astype(np.float32)
    codes_ND = np.clip(np.rint(table_ND / scales_N[:, None]), -127, 127).astype(np.int8)
    return codes_ND, scales_N


def unpacked(
    stored: Mapping[str, Table], *, item_emb: str, input_scale: str, score_scale: str, ids: str, weights: str
) -> dict[str, Table]:
    """All tables in plain form; the names are those of the plain ones.

    Raises:
        ValueError: part of a packed table is missing, or its shapes do not go together; says which.
    """
    plain = {name: table for name, table in stored.items() if not name.startswith("packed_")}
    if ITEM_CODES in stored:
        codes_NM, codebook_MKW = stored[ITEM_CODES], _needed(stored, ITEM_CODEBOOK, ITEM_CODES)
        check_codes(codes_NM, codebook_MKW, stored.get(ITEM_TURN))
        emb_ND = np.empty((len(codes_NM), codebook_MKW.shape[0] * codebook_MKW.shape[2]), np.int8)
        scales_N = np.empty(len(codes_NM), np.float32)
        length = float(stored[ITEM_LENGTH][0]) if ITEM_LENGTH in stored else None
        for start in range(0, len(codes_NM), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            rows = decoded_rows(codes_NM[some], codebook_MKW, stored.get(ITEM_TURN), length)
            emb_ND[some], scales_N[some] = int8_rows(rows)
        plain[item_emb], plain[score_scale] = emb_ND, scales_N
        # The input is the row with the folding of its length undone; see ``tables.engine_tables``.
        plain[input_scale] = (_needed(stored, input_scale, ITEM_CODES) * scales_N).astype(np.float32)
    if NEIGHBOUR_COUNTS in stored:
        plain[ids], plain[weights] = _neighbours(stored)
    return plain


def packed_neighbours(ids_NM: Table, weights_NM: Table, *, kept: int) -> dict[str, Table]:
    """Transitions with the ``kept`` heaviest neighbours of each item at most, heaviest first as they are given.

    A neighbour keeps a weight above 0 (at least one step), and where there is none it stays exactly 0: the fallback tier
    tells one from the other by that.
    """
    ids_NM, weights_NM = ids_NM[:, :kept], np.asarray(weights_NM[:, :kept], np.float32)
    there_NM = weights_NM > 0
    scale = max(float(weights_NM.max(initial=0.0)) / 255.0, 1e-12)
    codes_E = np.clip(np.rint(weights_NM[there_NM] / scale), 1, 255).astype(np.uint8)
    ids_E, counts_N = ids_NM[there_NM], there_NM.sum(axis=1)
    return {
        NEIGHBOUR_COUNTS: counts_N.astype(_smallest(int(counts_N.max(initial=0)))),
        NEIGHBOUR_IDS: ids_E.astype(_smallest(int(ids_E.max(initial=0)))),
        NEIGHBOUR_WEIGHTS: codes_E,
        NEIGHBOUR_SCALE: np.array([scale], np.float32),
    }


def _neighbours(stored: Mapping[str, Table]) -> tuple[Table, Table]:
    counts_N = stored[NEIGHBOUR_COUNTS].astype(np.int64)
    flat = [_needed(stored, name, NEIGHBOUR_COUNTS) for name in (NEIGHBOUR_IDS, NEIGHBOUR_WEIGHTS)]
    if any(len(one) != counts_N.sum() for one in flat):
        raise ValueError(
            f"{NEIGHBOUR_COUNTS} adds up to {counts_N.sum()}; {NEIGHBOUR_IDS} has {len(flat[0])} and {NEIGHBOUR_WEIGHTS} "
            f"{len(flat[1])} entries"
        )
    there_NM = np.arange(max(1, int(counts_N.max(initial=0)))) < counts_N[:, None]
    ids_NM, weights_NM = np.zeros(there_NM.shape, np.int32), np.zeros(there_NM.shape, np.float32)
    ids_NM[there_NM] = flat[0]
    scale = np.float32(_needed(stored, NEIGHBOUR_SCALE, NEIGHBOUR_COUNTS)[0])
    weights_NM[there_NM] = flat[1].astype(np.float32) * scale
    return ids_NM, weights_NM


def _smallest(largest: int) -> type[np.unsignedinteger[Any]]:
    return next(kind for kind in (np.uint8, np.uint16, np.uint32) if largest <= np.iinfo(kind).max)


def _needed(stored: Mapping[str, Table], name: str, owner: str) -> Table:
    if name not in stored:
        raise ValueError(f"{owner} needs {name}, the version has {sorted(stored)}")
    return stored[name]


def check_codes(codes_NM: Table, codebook_MKW: Table, turn_DD: Table | None) -> None:
    """See that codes, codebook and rotation go together.

    Raises:
        ValueError: they do not; says which and how they must be.
    """
    if codes_NM.ndim != 2 or codebook_MKW.ndim != 3 or codes_NM.shape[1] != codebook_MKW.shape[0]:
        raise ValueError(
            f"{ITEM_CODES} {codes_NM.shape} and {ITEM_CODEBOOK} {codebook_MKW.shape}: must be [N, M] and [M, K, W]"
        )
    if codes_NM.dtype != np.uint8 or int(codes_NM.max(initial=0)) >= codebook_MKW.shape[1]:
        raise ValueError(
            f"{ITEM_CODES}: {codes_NM.dtype} up to {codes_NM.max(initial=0)}, must be uint8 below "
            f"{codebook_MKW.shape[1]} (the codebook's K)"
        )
    width = codebook_MKW.shape[0] * codebook_MKW.shape[2]
    if turn_DD is not None and turn_DD.shape != (width, width):
        raise ValueError(f"{ITEM_TURN}: {turn_DD.shape}, must be {(width, width)}")
