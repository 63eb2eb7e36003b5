"""The weights file beside a graph: written once, front to back, while the graph refers to places in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

WEIGHTS_FILE = "model.weights"
LARGE = 1 << 20  # bytes; from here on a tensor begins where any system can map it
ALIGNMENT, SMALL_ALIGNMENT = 65_536, 64


class WeightFile:
    """Appends tensors chunk by chunk, so that none is ever in memory whole. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / WEIGHTS_FILE
        self._file = self.path.open("wb")

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(
        self, name: str, dtype: ir.DataType, shape: Sequence[int], chunks: Iterable[npt.NDArray[Any]]
    ) -> ir.ExternalTensor:
        """Write a tensor's bytes, given in order, and say where they are."""
        alignment = ALIGNMENT if math.prod(shape) * dtype.itemsize >= LARGE else SMALL_ALIGNMENT
        start = -(-self._file.tell() // alignment) * alignment
        self._file.seek(start)
        for chunk in chunks:
            self._file.write(np.ascontiguousarray(chunk).data)
        length = self._file.tell() - start
        return ir.ExternalTensor(
            WEIGHTS_FILE, start, length, dtype, shape=ir.Shape(list(shape)), name=name, base_dir=self._folder
        )
