"""Which products of a graph multiply by 2:4 weights: what decides whether TensorRT may use its sparse kernels.

Looked up in the weights of the graph itself and not in the recipe that pruned them: what a later step did to the zeros (GPTQ moves
weights, a cut shifts groups) is seen too. The pattern is along the axis that is summed over, two zeros in every four.

Source: NVIDIA, "TensorRT Developer Guide", structured sparsity (flag SPARSE_WEIGHTS).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

GROUP, ZEROS_IN_GROUP = 4, 2
_SAME_PLACES = ("Cast", "Identity")  # operators that leave each number where it is, and a zero a zero


def sparse_matmuls(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names (or outputs) of the MatMul and Gemm nodes whose constant weights are 2:4."""
    stored = {one.name: one for one in model.graph.initializer}
    made = {output: node for node in model.graph.node for output in node.output}
    known: dict[tuple[str, int], bool] = {}
    found = []
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "Gemm") or len(node.input) < 2:
            continue
        turned = node.op_type == "Gemm" and _attribute(node, "transB") == 1
        place = (node.input[1], -1 if turned else -2)
        if place not in known:
            known[place] = _is_sparse(*place, stored, made)
        if known[place]:
            found.append(node.name or node.output[0])
    return tuple(found)


def _is_sparse(
    name: str, axis: int, stored: Mapping[str, onnx.TensorProto], made: Mapping[str, onnx.NodeProto]
) -> bool:
    node = made.get(name)
    if name in stored:
        return _holds(numpy_helper.to_array(stored[name]), axis)
    if node is None:
        return False
    if node.op_type == "Transpose":
        order = list(next((one.ints for one in node.attribute if one.name == "perm"), ()))
        if order[-2:] not in ([], [len(order) - 1, len(order) - 2]):
            return False
        return _is_sparse(node.input[0], -3 - axis, stored, made)
    if node.op_type == "DequantizeLinear":
        zero = node.input[2] if len(node.input) > 2 else ""
        if zero and (zero not in stored or numpy_helper.to_array(stored[zero]).any()):
            return False
        return _is_sparse(node.input[0], axis, stored, made)
    return node.op_type in _SAME_PLACES and _is_sparse(node.input[0], axis, stored, made)


def _holds(array: npt.NDArray[np.generic], axis: int) -> bool:
    if array.ndim < 2 or array.shape[axis] % GROUP or not array.size:
        return False
    zeros = np.moveaxis(array == array.dtype.type(0), axis, -1)
    return bool((zeros.reshape(-1, GROUP).sum(1) >= ZEROS_IN_GROUP).all())


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((int(one.i) for one in node.attribute if one.name == name), 0)
