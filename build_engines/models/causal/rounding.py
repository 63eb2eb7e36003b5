"""Floats to INT4 and INT8 codes, symmetric; pure arithmetic on one piece of a matrix ``[rows K, columns N]``.

INT4 has one scale for each block of rows of a column. The scale is not simply the largest value over 7: of a few
divisors the one with the least squared error is taken, block by block, since cutting off an outlier can pay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]

INT4_LOW, INT4_HIGH = -8, 7
INT8_HIGH = 127
# Of the largest value of a block: 7 keeps it, 8 keeps it where it is negative, 9 cuts it off.
DIVISORS = (7.0, 7.5, 8.0, 9.0)
TINY = np.float32(1e-12)  # scale of a block of zeros: any positive number


def int4_blocks(piece_KN: Floats, block: int) -> tuple[Codes, Floats]:
    """Codes in -8..7 ``[K, N]`` and scales ``[K / block, N]`` of rows in whole blocks."""
    blocks = piece_KN.reshape(-1, block, piece_KN.shape[1])
    largest = np.maximum(np.abs(blocks).max(axis=1, keepdims=True), TINY * 9)
    best_scale = best_error = None
    for divisor in DIVISORS:
        scale = largest * np.float32(1.0 / divisor)
        rounded = blocks / scale
        np.rint(rounded, out=rounded)
        np.clip(rounded, INT4_LOW, INT4_HIGH, out=rounded)
        rounded *= scale
        rounded -= blocks
        error = np.einsum("gkn,gkn->gn", rounded, rounded)[:, None, :]
        if best_scale is None or best_error is None:
            best_scale, best_error = scale, error
        else:
            better = error < best_error
            best_scale, best_error = np.where(better, scale, best_scale), np.where(better, error, best_error)
    assert best_scale is not None
    codes = np.clip(np.rint(blocks / best_scale), INT4_LOW, INT4_HIGH).astype(np.int8)
    return codes.reshape(piece_KN.shape), best_scale[:, 0, :]


def pack_int4(codes: Codes) -> npt.NDArray[np.uint8]:
    """Two codes a byte, the first in the low half, in memory order; an even number of codes."""
    flat = codes.reshape(-1).view(np.uint8) & np.uint8(0xF)
    return flat[0::2] | (flat[1::2] << np.uint8(4))


def unpack_int4(packed: npt.NDArray[np.uint8]) -> Codes:
    """The codes of ``pack_int4``, flat."""
    flat = np.empty(packed.size * 2, np.uint8)
    flat[0::2], flat[1::2] = packed & np.uint8(0xF), packed >> np.uint8(4)
    return (((flat ^ np.uint8(8)).astype(np.int16)) - 8).astype(np.int8)


def int8_codes(piece_KN: Floats, scales: npt.NDArray[Any]) -> Codes:
    """Codes in -127..127 by scales that broadcast over the piece."""
    codes: Codes = np.clip(np.rint(piece_KN / scales), -INT8_HIGH, INT8_HIGH).astype(np.int8)
    return codes


def int8_scales(largest_N: npt.NDArray[Any]) -> Floats:
    """One scale for each column, from its largest absolute value."""
    scales: Floats = np.maximum(np.asarray(largest_N, np.float32) / np.float32(INT8_HIGH), TINY)
    return scales
