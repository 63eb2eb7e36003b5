"""Any graph to INT8: products by explicit Q/DQ (static ranges) or with the range of each run, lookup tables by row scales.

What is rewritten, and what is left:
* ``Gemm`` with a constant matrix becomes ``MatMul`` and ``Add``: neither runtime fuses a Q/DQ ``Gemm`` with a float result.
* A product of two matrices is done on three dimensions, ``[1, B, K]``: ONNX Runtime turns ``MatMul`` and ``Add`` of two into a
  ``Gemm`` first, which it then fuses with no Q/DQ (measured at 512 x 512: 0.3 times as fast as FP32 that way).
* A ``MatMul`` whose second factor is a constant matrix: its codes are symmetric s8 with a scale for each column; its input is
  rounded by Q/DQ (static), which both runtimes fuse, or by ``DynamicQuantizeLinear`` (dynamic), which only ONNX Runtime has.
* A table that is only ever looked up in (``Gather`` along axis 0): codes are gathered, and restored with a scale for each row.
  A Q/DQ pair in front of the ``Gather`` would restore the whole table in every run.
* Everything else, ``Conv`` among it, stays as it is, and is told.

Suffixes: K rows and N columns of a product's matrix, V rows and D columns of a table.

Source:
    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
    section 2.1 (affine scheme); per-channel scales: Krishnamoorthi, "Quantizing deep convolutional networks", 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from build_engines.errors import BuildError
from build_engines.own_model.graph_facts import nodes_of

LEAST_TABLE_ROWS = 16
_OF_CODES, _OF_SCALES = "_of_codes", "_of_scales"  # ends of the names of a lookup's nodes
TINY = 1e-8
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What of a graph can be INT8.

    Attributes:
        products: MatMul nodes by name, and the name of each one's matrix.
        tables: initializers that are only looked up in.
        left: sentences about what stays as it is.
    """

    products: Mapping[str, str]
    tables: tuple[str, ...]
    left: tuple[str, ...]


def prepare(model: onnx.ModelProto) -> None:
    """Write ``Gemm`` with a constant matrix as ``MatMul`` and ``Add``; changes no value but by the order of one addition."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        nodes += _without_gemm(graph, node, constants) if node.op_type == "Gemm" else [node]
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)


def find(model: onnx.ModelProto, *, least_weights: int, tables: bool, exclude: Sequence[str]) -> Found:
    """What can be INT8, after ``prepare``.

    Raises:
        BuildError: an excluded node is not there; names near ones.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names = {node.name for node in graph.node}
    for name in exclude:
        if name not in names and f"{name}_product" not in names:
            near = sorted(one for one in names if name.lower() in one.lower())[:5] or sorted(names)[:5]
            raise BuildError(
                f"quantize.exclude has {name!r}, no node of the graph; there are {', '.join(near)}"
            )
    kept = {*exclude, *(f"{name}_product" for name in exclude)}
    products: dict[str, str] = {}
    left: list[str] = []
    small = convolutions = 0
    for node in graph.node:
        convolutions += node.op_type == "Conv"
        if node.op_type != "MatMul" or node.name in kept:
            continue
        matrix = constants.get(node.input[1])
        if matrix is None or len(matrix.dims) != 2 or matrix.data_type != onnx.TensorProto.FLOAT:
            continue
        if matrix.dims[0] * matrix.dims[1] < least_weights:
            small += 1
            continue
        products[node.name] = matrix.name
    if small:
        left.append(f"{small} products with fewer than {least_weights} weights stay as they are")
    if convolutions:
        left.append(f"{convolutions} convolutions stay as they are")
    found = _tables(graph, constants, kept) if tables else ()
    return Found(products=products, tables=found, left=tuple(left))


def rewrite_static(model: onnx.ModelProto, found: Found, scales: Mapping[str, float]) -> None:
    """Products by explicit Q/DQ; ``scales`` of each product's input, by the input's name."""
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "activation_zero_s8"))
    nodes: list[onnx.NodeProto] = []
    rounded: dict[str, str] = {}
    restored: dict[str, str] = {}
    flat = _two_dimensional(model)
    graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "first_axis"))
    for node in graph.node:
        if node.name in found.products:
            source, matrix = node.input[0], found.products[node.name]
            if source not in rounded:
                rounded[source] = f"{source}_rounded"
                nodes += _rounding(graph, source, scales[source], deep=source in flat)
            if matrix not in restored:
                restored[matrix] = f"{matrix}_restored"
                nodes.append(_matrix(graph, matrix, constants[matrix]))
            node.input[0], node.input[1] = rounded[source], restored[matrix]
            if source in flat:
                result, node.output[0] = node.output[0], f"{node.name}_deep"
                nodes += [
                    node,
                    helper.make_node(
                        "Squeeze", [node.output[0], "first_axis"], [result], name=f"{node.name}_flat"
                    ),
                ]
                continue
        nodes.append(node)
    _finish(graph, nodes)


def rewrite_dynamic(model: onnx.ModelProto, found: Found) -> None:
    """Products by integers with the range of each run; for ONNX Runtime only."""
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    rounded: set[str] = set()
    written: set[str] = set()
    for node in graph.node:
        if node.name not in found.products:
            nodes.append(node)
            continue
        source, matrix = node.input[0], found.products[node.name]
        if source not in rounded:
            rounded.add(source)
            outputs = [f"{source}_codes", f"{source}_scale", f"{source}_zero"]
            nodes.append(
                helper.make_node("DynamicQuantizeLinear", [source], outputs, name=f"{source}_rounding")
            )
        if matrix not in written:
            written.add(matrix)
            codes_KN, scale_N = column_codes(constants[matrix])
            graph.initializer.append(numpy_helper.from_array(codes_KN, f"{matrix}_codes"))
            graph.initializer.append(numpy_helper.from_array(scale_N, f"{matrix}_scale"))
        name = node.name
        nodes += [
            helper.make_node(
                "MatMulInteger",
                [f"{source}_codes", f"{matrix}_codes", f"{source}_zero"],
                [f"{name}_sums"],
                name=f"{name}_integer",
            ),
            helper.make_node(
                "Cast", [f"{name}_sums"], [f"{name}_float"], name=f"{name}_cast", to=onnx.TensorProto.FLOAT
            ),
            helper.make_node(
                "Mul", [f"{source}_scale", f"{matrix}_scale"], [f"{name}_scale"], name=f"{name}_scales"
            ),
            helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], list(node.output), name=name),
        ]
    _finish(graph, nodes)


def rewrite_tables(model: onnx.ModelProto, found: Found) -> None:
    """Lookup tables by codes and row scales."""
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for table in found.tables:
        values_VD = constants[table].astype(np.float32)
        scale_V1 = np.maximum(np.abs(values_VD).max(axis=1, keepdims=True), TINY) / 127
        codes_VD = np.clip(np.rint(values_VD / scale_V1), -127, 127).astype(np.int8)
        graph.initializer.append(numpy_helper.from_array(codes_VD, f"{table}_codes"))
        graph.initializer.append(numpy_helper.from_array(scale_V1.astype(np.float32), f"{table}_row_scale"))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "Gather" or node.input[0] not in found.tables:
            nodes.append(node)
            continue
        table, at, name = node.input[0], node.input[1], node.name
        nodes += [
            helper.make_node("Gather", [f"{table}_codes", at], [f"{name}_codes"], name=f"{name}{_OF_CODES}"),
            helper.make_node(
                "Cast", [f"{name}_codes"], [f"{name}_float"], name=f"{name}_cast", to=onnx.TensorProto.FLOAT
            ),
            helper.make_node(
                "Gather", [f"{table}_row_scale", at], [f"{name}_scale"], name=f"{name}{_OF_SCALES}"
            ),
            helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], list(node.output), name=name),
        ]
    _finish(graph, nodes)


def tables_for_plans(model: onnx.ModelProto) -> None:
    """Restore each INT8 table in front of its lookups: TensorRT takes INT8 constants into a DequantizeLinear and nowhere else.

    The values that are looked up are the same to the bit.
    """
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    restored: set[str] = set()
    lookups = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "Gather" and node.name.endswith(_OF_CODES) and node.input[0] in constants
    }
    nodes: list[onnx.NodeProto] = []
    dropped: set[str] = set()
    for node in graph.node:
        lookup = lookups.get(node.input[0]) if node.op_type == "Cast" else None
        if lookup is not None:
            dropped |= {lookup.name, node.name, lookup.name.removesuffix(_OF_CODES) + _OF_SCALES}
    for node in graph.node:
        if node.name.endswith(_OF_CODES) and node.output[0] in lookups:
            codes = node.input[0]
            table, name = codes.removesuffix("_codes"), node.name.removesuffix(_OF_CODES)
            if table not in restored:
                restored.add(table)
                scale_V = np.ascontiguousarray(constants[f"{table}_row_scale"][:, 0])
                graph.initializer.append(numpy_helper.from_array(scale_V, f"{table}_scale_V"))
                nodes.append(
                    helper.make_node(
                        "DequantizeLinear",
                        [codes, f"{table}_scale_V"],
                        [f"{table}_restored"],
                        name=f"{table}_restoring",
                        axis=0,
                    )
                )
            result = next(one.output[0] for one in graph.node if one.name == name)
            nodes.append(
                helper.make_node("Gather", [f"{table}_restored", node.input[1]], [result], name=name)
            )
            dropped.add(name)
        elif node.name not in dropped:
            nodes.append(node)
    _finish(graph, nodes)


def column_codes(matrix_KN: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.int8], Floats]:
    """Symmetric s8 codes of a product's matrix, and the scale of each column."""
    scale_N = np.maximum(np.abs(matrix_KN).max(axis=0), TINY).astype(np.float32) / np.float32(127)
    codes_KN = np.clip(np.rint(matrix_KN / scale_N), -127, 127).astype(np.int8)
    return codes_KN, scale_N


def _two_dimensional(model: onnx.ModelProto) -> set[str]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name
        for value in (*inferred.value_info, *inferred.input)
        if value.type.tensor_type.HasField("shape") and len(value.type.tensor_type.shape.dim) == 2
    }


def _rounding(graph: onnx.GraphProto, source: str, scale: float, *, deep: bool) -> list[onnx.NodeProto]:
    graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), f"{source}_scale"))
    by = [f"{source}_scale", "activation_zero_s8"]
    before = [
        helper.make_node("Unsqueeze", [source, "first_axis"], [f"{source}_deep"], name=f"{source}_deepening")
    ]
    given = f"{source}_deep" if deep else source
    return [
        *(before if deep else []),
        helper.make_node("QuantizeLinear", [given, *by], [f"{source}_codes"], name=f"{source}_rounding"),
        helper.make_node(
            "DequantizeLinear", [f"{source}_codes", *by], [f"{source}_rounded"], name=f"{source}_restoring"
        ),
    ]


def _matrix(graph: onnx.GraphProto, name: str, matrix_KN: npt.NDArray[np.floating]) -> onnx.NodeProto:
    codes_KN, scale_N = column_codes(matrix_KN)
    graph.initializer.append(numpy_helper.from_array(codes_KN, f"{name}_codes"))
    graph.initializer.append(numpy_helper.from_array(scale_N, f"{name}_scale"))
    return helper.make_node(
        "DequantizeLinear",
        [f"{name}_codes", f"{name}_scale"],
        [f"{name}_restored"],
        name=f"{name}_restoring",
        axis=1,
    )


def _without_gemm(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
) -> list[onnx.NodeProto]:
    options = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    matrix = constants.get(node.input[1])
    plain = options.get("alpha", 1.0) == 1.0 and options.get("beta", 1.0) == 1.0 and not options.get("transA")
    if matrix is None or not plain or matrix.data_type != onnx.TensorProto.FLOAT:
        return [node]
    weights = node.input[1]
    if options.get("transB"):
        weights = f"{matrix.name}_KN"
        if weights not in constants:
            turned = np.ascontiguousarray(numpy_helper.to_array(matrix).T)
            constants[weights] = numpy_helper.from_array(turned, weights)
            graph.initializer.append(constants[weights])
    product = f"{node.name}_product"
    has_bias = len(node.input) > 2 and bool(node.input[2])
    made = [
        helper.make_node(
            "MatMul", [node.input[0], weights], [product if has_bias else node.output[0]], name=product
        )
    ]
    if has_bias:
        made.append(helper.make_node("Add", [product, node.input[2]], list(node.output), name=node.name))
    return made


def _tables(
    graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto], kept: set[str]
) -> tuple[str, ...]:
    uses: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes_of(graph):
        for name in node.input:
            uses.setdefault(name, []).append(node)
    top = {node.name for node in graph.node}
    found = []
    for name, tensor in constants.items():
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2:
            continue
        looks = all(
            node.op_type == "Gather"
            and node.input[0] == name
            and name not in node.input[1:]
            and node.name in top
            and node.name not in kept
            and not any(one.name == "axis" and one.i != 0 for one in node.attribute)
            for node in uses.get(name, [])
        )
        if uses.get(name) and looks and tensor.dims[0] >= LEAST_TABLE_ROWS:
            found.append(name)
    return tuple(found)


def _uses(graph: onnx.GraphProto) -> dict[str, int]:
    uses: dict[str, int] = {}
    for node in nodes_of(graph):
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    return uses


def _finish(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    _drop_unused(graph)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = set(_uses(graph)) | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
