"""How small a model gets on disk: what zeros are worth where nothing computes with them.

Unstructured zeros make nothing faster on the runtimes served here; they make files smaller once these are compressed. So that is
what is reported.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from torch import nn

# Numbers that were learnt hardly repeat: coding single bytes is smaller and ten times as fast as looking for repetitions. What
# does repeat (codebooks, zeros everywhere) is found by the second way.
WAYS = ((1, zlib.Z_HUFFMAN_ONLY), (1, zlib.Z_DEFAULT_STRATEGY))
_PIECE = 1 << 24


def stored_bytes(arrays: Iterable[npt.NDArray[np.generic]]) -> int:
    """Bytes of arrays as they are."""
    return sum(one.nbytes for one in arrays)


def packed_bytes(arrays: Iterable[npt.NDArray[np.generic]]) -> int:
    """Bytes of arrays after zlib, each array a stream of its own, coded in the smaller of two ways.

    The bytes of numbers are sorted by significance first (as Blosc and HDF5 do), so that exponents and zeros stand together.
    """
    return sum(_packed(one) for one in arrays)


def parameter_arrays(module: nn.Module) -> Iterator[npt.NDArray[np.generic]]:
    """A network's parameters, those that are shared once."""
    for one in module.parameters():
        yield one.detach().float().cpu().numpy()


def _packed(array: npt.NDArray[np.generic]) -> int:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    planes = np.ascontiguousarray(flat.reshape(-1, array.itemsize).T).reshape(-1)
    return min(_coded(planes, level, strategy) for level, strategy in WAYS)


def _coded(planes: npt.NDArray[np.uint8], level: int, strategy: int) -> int:
    packer = zlib.compressobj(level, strategy=strategy)
    size = 0
    for begin in range(0, len(planes), _PIECE):
        size += len(packer.compress(planes[begin : begin + _PIECE].tobytes()))
    return size + len(packer.flush())
