"""Weights of a checkpoint: safetensors in one or several files, mapped into memory and read a slice at a time.

Decision not to undo: a tensor is never converted whole. ``rows`` and ``columns`` convert what is asked for, and ``release``
lets go of the pages that were read; so the builder's memory does not grow with the checkpoint.

The header is parsed here and not by the ``safetensors`` package, whose numpy reader knows no bfloat16.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from build_engines.errors import BuildError

Floats = npt.NDArray[np.float32]

# Stored dtype by the format's name; bfloat16 is read as bits.
DTYPES: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
LARGEST_HEADER = 100_000_000  # bytes, the format's own limit


@dataclass(frozen=True, slots=True)
class _Stored:
    path: Path
    array: npt.NDArray[Any]


class Checkpoint:
    """All tensors of a folder by name. A context manager: the files stay mapped until it is left."""

    def __init__(self, folder: Path, *, left_out: tuple[str, ...] = ()) -> None:
        """Map the files.

        Args:
            folder: where they are.
            left_out: ends of names of tensors that are no weights (position numbers, which are integers).

        Raises:
            BuildError: there is no safetensors file, or one is broken; names file and tensor.
        """
        self.folder = folder
        self._left_out = left_out
        self._maps: list[mmap.mmap] = []
        self._stored: dict[str, _Stored] = {}
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise BuildError(f"{folder}: holds no weights (*.safetensors); convert the checkpoint first")
        try:
            for path in paths:
                self._open(path)
            self._check_index()
        except BaseException:
            self.close()
            raise
        self.size_bytes = sum(path.stat().st_size for path in paths)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; what still looks into one keeps it mapped."""
        self._stored.clear()
        self._maps.clear()

    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor.

        Raises:
            BuildError: it is not there.
        """
        return self._find(name).array.shape

    def array(self, name: str) -> Floats:
        """A whole tensor in float32: for small ones."""
        return _floats(self._find(name).array)

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """Rows ``start..stop`` in float32."""
        return _floats(self._find(name).array[start:stop])

    def spread_rows(self, name: str, step: int) -> Floats:
        """Every ``step``-th row in float32, from the first on."""
        return _floats(self._find(name).array[::step])

    def columns(self, name: str, start: int, stop: int) -> Floats:
        """Columns ``start..stop``, turned: ``[stop - start, rows]`` in float32."""
        return _floats(np.ascontiguousarray(self._find(name).array[:, start:stop].T))

    def release(self) -> None:
        """Give back the memory of pages that were read; they are read again when needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for one in self._maps:
                one.madvise(mmap.MADV_DONTNEED)

    def _find(self, name: str) -> _Stored:
        try:
            return self._stored[name]
        except KeyError:
            raise BuildError(
                f"{self.folder}: tensor {name!r} is missing; the checkpoint is incomplete or of another form"
            ) from None

    def _open(self, path: Path) -> None:
        broken = "fetch the checkpoint again"
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps.append(mapped)
            (length,) = struct.unpack("<Q", mapped[:8])
            if length > min(LARGEST_HEADER, len(mapped) - 8):
                raise ValueError(f"its header is said to have {length} bytes")
            header = json.loads(mapped[8 : 8 + length])
            if not isinstance(header, Mapping):
                raise ValueError("its header is no object")
        except (OSError, struct.error, ValueError, RecursionError) as error:
            raise BuildError(f"{path}: is no safetensors file ({error}); {broken}") from error
        for name, entry in header.items():
            if name == "__metadata__" or name.endswith(self._left_out):
                continue
            if name in self._stored:
                raise BuildError(
                    f"{path}: tensor {name!r} is also in {self._stored[name].path.name}; keep one of the files"
                )
            self._stored[name] = _Stored(path, _view(path, mapped, 8 + length, name, entry))

    def _check_index(self) -> None:
        path = self.folder / "model.safetensors.index.json"
        if not path.is_file():
            return
        try:
            wanted = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
            files = {str(name): str(file) for name, file in wanted.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BuildError(
                f"{path}: is no index of weights ({error}); fetch the checkpoint again"
            ) from error
        for name, file in files.items():
            if name not in self._stored:
                raise BuildError(f"{self.folder}: tensor {name!r} should be in {file}, fetch that file again")


def _view(path: Path, mapped: mmap.mmap, base: int, name: str, entry: Any) -> npt.NDArray[Any]:
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(one) for one in entry["shape"])
        start, stop = (int(one) for one in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise BuildError(f"{path}: the header of tensor {name!r} is broken ({error!r})") from error
    if dtype not in DTYPES:
        raise BuildError(
            f"{path}: tensor {name!r} has dtype {dtype}, supported are {', '.join(DTYPES)}; convert it first"
        )
    size = np.dtype(DTYPES[dtype]).itemsize * math.prod(shape)
    if (
        min(shape, default=1) < 0
        or not 0 <= start <= stop
        or stop - start != size
        or base + stop > len(mapped)
    ):
        raise BuildError(
            f"{path}: tensor {name!r} should have {size} bytes, the file has {len(mapped) - base - start} from its "
            f"offset and the header says {stop - start}; fetch the checkpoint again"
        )
    flat = np.frombuffer(mapped, np.uint8, count=size, offset=base + start)
    if start % np.dtype(DTYPES[dtype]).itemsize or (base + start) % np.dtype(DTYPES[dtype]).itemsize:
        flat = flat.copy()  # the format allows odd offsets; numpy's view would be slow at best
    view: npt.NDArray[Any] = flat.view(DTYPES[dtype]).reshape(shape)
    return view


def _floats(array: npt.NDArray[Any]) -> Floats:
    if array.dtype == np.uint16:  # bfloat16: the upper half of a float32
        return (np.ascontiguousarray(array).astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(array, dtype=np.float32)
