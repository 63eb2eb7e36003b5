"""From tensors of a checkpoint to matrices in the weights file, a few rows at a time.

``Folding`` carries scales that leave the model's function as it is and make it easier to round: rows of a matrix are
multiplied by what its input was divided by, and the division is folded into whatever makes that input (a normalization's
weight, or the columns of the matrix before).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from build_engines.models.causal.checkpoint import Checkpoint, Floats
from build_engines.models.causal.layout import Matrix
from build_engines.models.causal.rounding import Codes, int4_blocks, int8_codes, int8_scales, pack_int4
from build_engines.models.causal.store import WeightFile

PIECE_VALUES = 4_000_000  # values converted at once; 16 MB in float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Folding:
    """What calibration found.

    Attributes:
        inputs: by matrix, what each of its inputs is divided by ``[K]``; missing: nothing.
        activation_scales: by matrix, scale of its INT8 input, after that division ("int8" only).
        rounded: by matrix, INT4 codes that are found already; others are rounded to the nearest.
    """

    inputs: Mapping[str, Floats] = field(default_factory=dict)
    activation_scales: Mapping[str, float] = field(default_factory=dict)
    rounded: Mapping[str, RoundedMatrix] = field(default_factory=dict)


class RoundedMatrix(Protocol):
    """INT4 codes of a whole matrix; see ``gptq.Rounded``."""

    @property
    def codes_KN(self) -> npt.NDArray[np.int8]:
        """-8..7."""

    @property
    def scales_GN(self) -> Floats:
        """Of blocks of rows, without column scales."""


@dataclass(frozen=True, slots=True)
class Source:
    """A matrix and where its values come from, with scales folded in.

    Attributes:
        checkpoint: the tensors.
        matrix: which.
        row_scales: ``[K]`` rows are multiplied by; None: 1.
        column_scales: ``[N]`` columns are multiplied by; None: 1.
    """

    checkpoint: Checkpoint
    matrix: Matrix
    row_scales: Floats | None = None
    column_scales: Floats | None = None

    def rows(self, start: int, stop: int) -> Floats:
        """Rows ``start..stop`` in float32, ``[stop - start, N]``."""
        parts = [self.checkpoint.columns(part, start, stop) for part in self.matrix.parts]
        piece = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if self.row_scales is not None:
            piece = piece * self.row_scales[start:stop, None]
        if self.column_scales is not None:
            piece = piece * self.column_scales
        return piece

    def pieces(self, block: int = 1) -> Iterator[Floats]:
        """All rows in order, in whole blocks."""
        step = max(1, PIECE_VALUES // self.matrix.width // block) * block
        for start in range(0, self.matrix.rows, step):
            yield self.rows(start, min(start + step, self.matrix.rows))
        self.checkpoint.release()

    def columns(self) -> Iterator[Floats]:
        """All columns in order, ``[K, some of N]``."""
        step, done = max(1, PIECE_VALUES // 2 // self.matrix.rows), 0  # turned twice, and so in memory twice
        for part, width in zip(self.matrix.parts, self.matrix.columns, strict=True):
            for start in range(0, width, step):
                piece = np.ascontiguousarray(self.checkpoint.rows(part, start, min(start + step, width)).T)
                if self.row_scales is not None:
                    piece = piece * self.row_scales[:, None]
                if self.column_scales is not None:
                    piece = piece * self.column_scales[done : done + piece.shape[1]]
                done += piece.shape[1]
                yield piece
        self.checkpoint.release()


def store_fp32(store: WeightFile, source: Source) -> ir.ExternalTensor:
    """The matrix as it is."""
    matrix = source.matrix
    shape = (matrix.rows, matrix.width)
    return store.append(f"{matrix.name}.weight", ir.DataType.FLOAT, shape, source.pieces())


def store_int4(
    store: WeightFile, source: Source, block: int, rounded: RoundedMatrix | None = None
) -> tuple[ir.ExternalTensor, ir.ExternalTensor]:
    """Codes ``[K, N]`` and scales ``[K / block, N]``, as DequantizeLinear takes them; rows must be whole blocks."""
    matrix = source.matrix
    scales: list[Floats] = []

    def packed() -> Iterator[npt.NDArray[Any]]:
        for codes, scale in _found_rows(source, rounded, block):
            scales.append(scale)
            yield pack_int4(codes)

    codes = store.append(f"{matrix.name}.codes", ir.DataType.INT4, (matrix.rows, matrix.width), packed())
    shape = (matrix.rows // block, matrix.width)
    return codes, store.append(f"{matrix.name}.scales", ir.DataType.FLOAT, shape, scales)


def store_int4_fused(
    store: WeightFile, source: Source, block: int, rounded: RoundedMatrix | None = None
) -> tuple[ir.ExternalTensor, ir.ExternalTensor]:
    """Codes ``[N, K / block, block / 2]`` and scales ``[N, K / block]``, as MatMulNBits takes them.

    The same numbers as ``store_int4``; each code is told plus 8, which that operator takes for zero.
    """
    matrix = source.matrix
    scales: list[Floats] = []

    def packed() -> Iterator[npt.NDArray[Any]]:
        for codes, scale in _found_columns(source, rounded, block):
            scales.append(np.ascontiguousarray(scale.T))
            yield pack_int4(np.ascontiguousarray(codes.T)) ^ np.uint8(0x88)

    blocks = matrix.rows // block
    codes = store.append(
        f"{matrix.name}.codes", ir.DataType.UINT8, (matrix.width, blocks, block // 2), packed()
    )
    return codes, store.append(f"{matrix.name}.scales", ir.DataType.FLOAT, (matrix.width, blocks), scales)


def _found_rows(source: Source, rounded: RoundedMatrix | None, block: int) -> Iterator[tuple[Codes, Floats]]:
    if rounded is None:
        for piece in source.pieces(block):
            yield int4_blocks(piece, block)
        return
    step = max(1, PIECE_VALUES // source.matrix.width // block) * block
    for start in range(0, source.matrix.rows, step):
        groups = slice(start // block, (start + step) // block)
        scales = rounded.scales_GN[groups]
        yield (
            np.ascontiguousarray(rounded.codes_KN[start : start + step]),
            scales if source.column_scales is None else scales * source.column_scales,
        )


def _found_columns(
    source: Source, rounded: RoundedMatrix | None, block: int
) -> Iterator[tuple[Codes, Floats]]:
    if rounded is None:
        for piece in source.columns():
            yield int4_blocks(piece, block)
        return
    step = max(1, PIECE_VALUES // 2 // source.matrix.rows)
    for start in range(0, source.matrix.width, step):
        some = slice(start, start + step)
        scales = rounded.scales_GN[:, some]
        yield (
            np.ascontiguousarray(rounded.codes_KN[:, some]),
            scales if source.column_scales is None else scales * source.column_scales[some],
        )


def store_int8(store: WeightFile, source: Source) -> tuple[ir.ExternalTensor, ir.ExternalTensor]:
    """Codes and column scales."""
    matrix = source.matrix
    largest_N = np.zeros(matrix.width, np.float32)
    for piece in source.pieces():
        np.maximum(largest_N, np.abs(piece).max(axis=0), out=largest_N)
    scales_N = int8_scales(largest_N)
    pieces = (int8_codes(piece, scales_N) for piece in source.pieces())
    codes = store.append(f"{matrix.name}.codes", ir.DataType.INT8, (matrix.rows, matrix.width), pieces)
    return codes, store.append(f"{matrix.name}.scales", ir.DataType.FLOAT, (matrix.width,), [scales_N])


def store_table(store: WeightFile, checkpoint: Checkpoint, name: str, *, half: bool) -> ir.ExternalTensor:
    """A table that rows are looked up in; in half precision when ``half``."""
    rows, width = checkpoint.shape(name)
    step = max(1, PIECE_VALUES // width)

    def pieces() -> Iterator[npt.NDArray[Any]]:
        for start in range(0, rows, step):
            piece = checkpoint.rows(name, start, min(start + step, rows))
            yield piece.astype(np.float16) if half else piece
        checkpoint.release()

    dtype = ir.DataType.FLOAT16 if half else ir.DataType.FLOAT
    return store.append("embedding", dtype, (rows, width), pieces())


def bias_of(source: Source) -> Floats | None:
    """The matrix' bias, with column scales folded in; None without one."""
    if not source.matrix.bias:
        return None
    bias = np.concatenate([source.checkpoint.array(part) for part in source.matrix.bias])
    return bias if source.column_scales is None else bias * source.column_scales
