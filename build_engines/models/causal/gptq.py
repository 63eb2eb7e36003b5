"""INT4 codes that make up for one another's rounding: row after row, what is lost is put into the rows that are still to come.

Objective: least ``|X W - X W'|`` over calibration inputs ``X [M, K]``, matrix by matrix, each column on its own; what a row's
rounding lost is made up for by the rows behind it, by the inverse of ``X'X``. Scales belong to blocks of rows as with
rounding to nearest, and are chosen when their block begins. Found codes are kept in a file that has no name: they are as
large as the engine's weights.

Suffixes: M tokens, K and N rows and columns of a matrix, G blocks of rows.

Source:
    Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2022, algorithm 1.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from build_engines.models.causal.matrices import Source
from build_engines.models.causal.rounding import INT4_HIGH, INT4_LOW, Codes, Floats, int4_blocks

DAMPING = 0.01  # of the mean diagonal: keeps the inverse of a moment of few tokens in bounds


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """A matrix' INT4 codes.

    Attributes:
        codes_KN: -8..7, in a file.
        scales_GN: of blocks of rows.
    """

    codes_KN: npt.NDArray[np.int8]
    scales_GN: Floats


def round_matrix(source: Source, x_MK: torch.Tensor, block: int) -> Rounded:
    """Codes of a whole matrix, some columns at a time.

    Args:
        source: the matrix with its row scales; column scales are not yet known and not needed, for a column's codes are the
            same at any scale.
        x_MK: what it is multiplied by, divided by the row scales.
        block: rows that share a scale.
    """
    rows, width = source.matrix.rows, source.matrix.width
    upper_KK = inverse_factor(x_MK)
    with tempfile.TemporaryFile() as file:
        codes: npt.NDArray[Any] = np.memmap(file, np.int8, "w+", shape=(rows, width))
    scales = np.empty((rows // block, width), np.float32)
    done = 0
    for piece_KN in source.columns():
        some = slice(done, done + piece_KN.shape[1])
        codes[:, some], scales[:, some] = round_columns(piece_KN, upper_KK, block)
        done = some.stop
    return Rounded(codes, scales)


def inverse_factor(x_MK: torch.Tensor) -> torch.Tensor:
    """Upper Cholesky factor of the damped inverse of ``X'X``, ``[K, K]``; inputs that are never seen get a share of their own."""
    moment = (x_MK.T @ x_MK).double()
    diagonal = moment.diagonal()
    silent = diagonal == 0
    moment[silent, silent] = 1.0
    damping = DAMPING * float(diagonal.mean()) if bool((~silent).any()) else 1.0
    moment += max(damping, 1e-12) * torch.eye(len(moment), dtype=torch.float64)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment))
    factor: torch.Tensor = torch.linalg.cholesky(inverse, upper=True).float()
    return factor


def round_columns(piece_KN: Floats, upper_KK: torch.Tensor, block: int) -> tuple[Codes, Floats]:
    """Codes ``[K, N]`` and scales ``[K / block, N]`` of some whole columns."""
    left = torch.from_numpy(piece_KN.copy())
    codes = np.empty(piece_KN.shape, np.int8)
    scales = np.empty((len(piece_KN) // block, piece_KN.shape[1]), np.float32)
    for group, start in enumerate(range(0, len(piece_KN), block)):
        stop = start + block
        scales[group] = int4_blocks(np.ascontiguousarray(left[start:stop].numpy()), block)[1][0]
        scale = torch.from_numpy(scales[group])
        lost = torch.empty(block, piece_KN.shape[1])
        for row in range(start, stop):
            rounded = torch.clamp(torch.round(left[row] / scale), INT4_LOW, INT4_HIGH)
            codes[row] = rounded.numpy().astype(np.int8)
            lost[row - start] = (left[row] - rounded * scale) / upper_KK[row, row]
            left[row + 1 : stop] -= upper_KK[row, row + 1 : stop, None] * lost[row - start]
        left[stop:] -= upper_KK[start:stop, stop:].T @ lost
    return codes, scales
