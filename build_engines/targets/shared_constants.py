"""Constants with few different values as codes and a codebook, for ONNX Runtime.

A matrix whose weights share 2 to 256 values (step ``share_weights``) is written as a Gather of its codebook, with codes of one
byte, or of half a byte up to 16 values. The runtime writes the matrix out when it loads the graph (constant folding), before
it fuses anything: kernels, answers and memory are those of the plain matrix, and the file is a quarter or an eighth.
TensorRT takes no unsigned codes and keeps what it has folded, so its source stays plain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

LEAST_VALUES = 4096  # of a constant that is looked at
MOST_CODES = 256
HALF_BYTE = 16


def share_constants(graph: onnx.GraphProto) -> int:
    """Rewrite every float constant that is worth it; returns how many bytes shorter they are together."""
    saved = 0
    for tensor in list(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or tensor.data_location == onnx.TensorProto.EXTERNAL:
            continue
        size = int(np.prod(tensor.dims))
        if size < LEAST_VALUES:
            continue
        values = numpy_helper.to_array(tensor)
        book = _codebook(values)
        if book is None:
            continue
        saved += values.nbytes - _rewrite(graph, tensor, values, book)
    if saved:
        del graph.value_info[:]
    return saved


def _codebook(values: npt.NDArray[Any]) -> npt.NDArray[np.float32] | None:
    flat = values.reshape(-1)
    if np.unique(flat[:LEAST_VALUES]).size > MOST_CODES:  # nearly every constant ends here
        return None
    book = np.unique(flat)
    return book if 1 < book.size <= MOST_CODES else None


def _rewrite(
    graph: onnx.GraphProto,
    tensor: onnx.TensorProto,
    values: npt.NDArray[Any],
    book: npt.NDArray[np.float32],
) -> int:
    name = tensor.name
    codes = np.searchsorted(book, values).astype(np.uint8)
    if book.size <= HALF_BYTE:
        flat = np.concatenate([codes.reshape(-1), np.zeros(codes.size % 2, np.uint8)])
        packed = onnx.TensorProto(
            name=f"{name}.shared_codes",
            data_type=onnx.TensorProto.UINT4,
            dims=codes.shape,
            raw_data=(flat[0::2] | (flat[1::2] << 4)).tobytes(),
        )
    else:
        packed = numpy_helper.from_array(codes, f"{name}.shared_codes")
    graph.initializer.remove(tensor)
    graph.initializer.extend([packed, numpy_helper.from_array(book, f"{name}.shared_values")])
    nodes = [
        helper.make_node(
            "Cast", [packed.name], [f"{name}.shared_places"], to=onnx.TensorProto.INT32, name=f"{name}.cast"
        ),
        helper.make_node(
            "Gather", [f"{name}.shared_values", f"{name}.shared_places"], [name], name=f"{name}.gather"
        ),
    ]
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)
    return len(packed.raw_data) + book.nbytes
