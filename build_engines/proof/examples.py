"""The examples that the gate judged on, kept in the version, so that any two versions can be compared on them later.

They hold what the model read (item rows or token ids) and what was right, and nothing of who asked: no user's name or id.
A shop that must not keep histories beside its models leaves them out ([gate] keep_examples = false) and cannot compare then.

Suffix: C examples.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from server.artifacts.errors import CorruptFile

EXAMPLES_FILE = "gate_examples.npz"
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Examples:
    """What was judged on.

    Attributes:
        arrays: by name, as the family's module reads them; ragged ones as ``<name>.flat`` and ``<name>.lengths``.
        slices: bool [C] by name.
    """

    arrays: Arrays
    slices: Mapping[str, npt.NDArray[np.bool_]]

    def ragged(self, name: str) -> list[npt.NDArray[Any]]:
        """Rows of different lengths, as ``with_ragged`` took them."""
        flat, lengths = self.arrays[f"{name}.flat"], self.arrays[f"{name}.lengths"]
        ends = np.cumsum(lengths)
        return [flat[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of all arrays: equal where two versions were judged on the same examples."""
        digest = hashlib.sha256()
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode() + array.tobytes())
        return digest.hexdigest()


def with_ragged(name: str, rows: Sequence[npt.NDArray[np.integer]]) -> dict[str, npt.NDArray[Any]]:
    """Rows of different lengths as two arrays, in as few bytes as their values take."""
    flat = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    return {
        f"{name}.flat": flat.astype(np.int32),
        f"{name}.lengths": np.array([len(one) for one in rows], np.int32),
    }


def write_examples(folder: Path, examples: Examples) -> None:
    """Write ``gate_examples.npz`` into a version's folder."""
    arrays = {f"array.{name}": array for name, array in examples.arrays.items()}
    arrays |= {f"slice.{name}": np.packbits(mask) for name, mask in examples.slices.items()}
    arrays |= {f"count.{name}": np.array(mask.size) for name, mask in examples.slices.items()}
    with (folder / EXAMPLES_FILE).open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes **kwds for allow_pickle


def read_examples(path: Path) -> Examples:
    """Read what ``write_examples`` wrote.

    Raises:
        CorruptFile: it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        arrays = {name[6:]: array for name, array in found.items() if name.startswith("array.")}
        slices = {
            name[6:]: np.unpackbits(found[name], count=int(found[f"count.{name[6:]}"])).astype(np.bool_)
            for name in found
            if name.startswith("slice.")
        }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CorruptFile(path, f"holds no examples of the gate ({error})") from error
    return Examples(arrays=arrays, slices=slices)
