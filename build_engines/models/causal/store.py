"""The weights file beside a graph: written once, front to back, while the graph refers to places in it.

Two graphs of one version have a file each; a table that both look up is written once, and the second refers to it. Equal tensors
are written once too, and referred to by each of their names.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

SUFFIX = ".weights"
WEIGHTS_FILE = "model.weights"
LARGE = 1 << 20  # bytes; from here on a tensor begins where any system can map it
ALIGNMENT, SMALL_ALIGNMENT = 65_536, 64


class WeightFile:
    """Appends tensors chunk by chunk, so that none is ever in memory whole. A context manager."""

    def __init__(
        self, folder: Path, name: str = WEIGHTS_FILE, shared: Mapping[str, ir.ExternalTensor] | None = None
    ) -> None:
        """Open the file for writing.

        Args:
            folder: of the graph.
            name: of the file in it.
            shared: tensors by name that another file of the folder holds; what is appended under such a name is not written.
        """
        self._folder, self._shared = folder, shared or {}
        self.path = folder / name
        self.written: dict[str, ir.ExternalTensor] = {}
        self._places: dict[bytes, int] = {}  # where equal tensors begin
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
        other = self._shared.get(name)
        if other is not None and other.dtype == dtype and tuple(other.shape) == tuple(shape):
            return ir.ExternalTensor(
                other.location,
                other.offset,
                other.length,
                dtype,
                shape=other.shape,
                name=name,
                base_dir=self._folder,
            )
        alignment = ALIGNMENT if math.prod(shape) * dtype.itemsize >= LARGE else SMALL_ALIGNMENT
        end = self._file.tell()
        start = -(-end // alignment) * alignment
        self._file.seek(start)
        digest = hashlib.blake2b()
        for chunk in chunks:
            data = np.ascontiguousarray(chunk).data
            digest.update(data)
            self._file.write(data)
        length = self._file.tell() - start
        same = self._places.setdefault(digest.digest(), start)
        if same != start:  # blocks that share their weights (compression.share_blocks) are stored once
            self._file.truncate(end)
            self._file.seek(end)
            start = same
        self.written[name] = ir.ExternalTensor(
            self.path.name,
            start,
            length,
            dtype,
            shape=ir.Shape(list(shape)),
            name=name,
            base_dir=self._folder,
        )
        return self.written[name]
