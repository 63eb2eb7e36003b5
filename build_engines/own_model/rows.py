"""Rows that a model is calibrated and judged on: read, held against its inputs, and kept apart by their hashes.

Suffixes: N rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from build_engines.errors import BuildError
from build_engines.own_model.declared import BATCH
from server.artifacts.manifest import TensorInfo

Rows = dict[str, npt.NDArray[Any]]
MOST_ARRAY_BYTES = 4 << 30


def read_rows(
    path: Path, inputs: Sequence[TensorInfo], *, extra: Sequence[str] = (), dims: Mapping[str, int]
) -> tuple[Rows, Rows]:
    """An ``.npz`` with an array for each input.

    Args:
        path: the file.
        inputs: of the model.
        extra: arrays that must be there beside them (labels), with a value for each row.
        dims: most of each symbol.

    Returns:
        The inputs by name, and the extra arrays.

    Raises:
        BuildError: it is no such file, an array is missing, of another dtype or shape, or not finite; names it.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be read ({error.strerror or error}); write it with numpy.savez"
        ) from error
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise BuildError(
            f"{path}: is no .npz of plain arrays ({error}); write it with numpy.savez"
        ) from error
    known = [one.name for one in inputs]
    unknown = sorted(set(arrays) - set(known) - set(extra))
    if unknown:
        raise BuildError(
            f"{path}: array {unknown[0]!r} is no input of the model ({', '.join(known)}) and no label; leave it out"
        )
    symbols: dict[str, int] = {}
    for one in inputs:
        _check(path, one, arrays.get(one.name), symbols, dims)
    count = symbols.get(BATCH, 1)
    if count < 1:
        raise BuildError(f"{path}: has no rows; give some")
    for name in extra:
        array = arrays.get(name)
        if array is None or array.shape[:1] != (count,):
            found = "missing" if array is None else f"of shape {array.shape}"
            raise BuildError(f"{path}: array {name!r} is {found}, must have a value for each of {count} rows")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BuildError(f"{path}: array {name!r} has a value that is not finite")
    return {name: arrays[name] for name in known}, {name: arrays[name] for name in extra}


def row_hashes(rows: Rows, inputs: Sequence[TensorInfo]) -> list[bytes]:
    """A hash for each row, of all its inputs; equal rows have equal hashes whatever file they came in."""
    batched = [one.name for one in inputs if one.shape[:1] == (BATCH,)]
    shared = hashlib.blake2b(digest_size=16)
    for one in inputs:
        if one.name not in batched:
            shared.update(one.name.encode() + np.ascontiguousarray(rows[one.name]).tobytes())
    count = len(rows[batched[0]]) if batched else 1
    arrays = [(name.encode(), np.ascontiguousarray(rows[name])) for name in batched]
    found = []
    for row in range(count):
        digest = shared.copy()
        for name, array in arrays:
            digest.update(name + array[row].tobytes())
        found.append(digest.digest())
    return found


def refuse_leak(calibration: Rows, gate: Rows, inputs: Sequence[TensorInfo]) -> None:
    """Refuse calibration rows that the gate judges.

    Raises:
        BuildError: a row is in both; says how many, and the first.
    """
    judged = set(row_hashes(gate, inputs))
    leaked = [at for at, one in enumerate(row_hashes(calibration, inputs)) if one in judged]
    if leaked:
        raise BuildError(
            f"data.calibration: {len(leaked)} of its rows are also in data.gate (the first is row {leaked[0]}); a model must "
            "not be judged on what it was calibrated on: take them out of one of the files"
        )


def take(rows: Rows, inputs: Sequence[TensorInfo], at: npt.NDArray[np.int64] | slice) -> Rows:
    """Some of the rows; what has no batch stays as it is."""
    return {one.name: rows[one.name][at] if one.shape[:1] == (BATCH,) else rows[one.name] for one in inputs}


def count_rows(rows: Rows, inputs: Sequence[TensorInfo]) -> int:
    """N."""
    first = next((one.name for one in inputs if one.shape[:1] == (BATCH,)), None)
    return 1 if first is None else len(rows[first])


def save_rows(path: Path, rows: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an ``.npz``."""
    with path.open("wb") as stream:
        np.savez(stream, **rows)  # type: ignore[arg-type]  # numpy's stub takes **kwds for allow_pickle


def load_rows(path: Path) -> Rows:
    """Read what ``save_rows`` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _check(
    path: Path,
    one: TensorInfo,
    array: npt.NDArray[Any] | None,
    symbols: dict[str, int],
    dims: Mapping[str, int],
) -> None:
    if array is None:
        raise BuildError(f"{path}: array {one.name!r} is missing; give one for every input")
    if str(array.dtype) != one.dtype:
        raise BuildError(f"{path}: array {one.name!r} is {array.dtype}, the model takes {one.dtype}")
    if array.nbytes > MOST_ARRAY_BYTES:
        raise BuildError(
            f"{path}: array {one.name!r} has {array.nbytes} bytes, the limit is {MOST_ARRAY_BYTES}"
        )
    fits = array.ndim == len(one.shape)
    for size, dim in zip(array.shape, one.shape, strict=False):
        bound = dim if isinstance(dim, int) else symbols.setdefault(dim, size)
        fits = fits and size == bound
        if isinstance(dim, str) and size > dims.get(dim, size):
            raise BuildError(f"{path}: {dim} of {one.name!r} is {size}, serve.dims.{dim} is {dims[dim]}")
    if not fits:
        raise BuildError(f"{path}: array {one.name!r} has shape {array.shape}, the model takes {one.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BuildError(f"{path}: array {one.name!r} has a value that is not finite; take those rows out")
