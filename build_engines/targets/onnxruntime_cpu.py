"""Package a source graph for ONNX Runtime on the CPU.

Rewrites, none of which changes an answer:
* tables that scores are computed with become external initializers, so that the runtime packs them once, when the server
  binds them, and not in every run (``server.encoding.tables.PACKED``);
* the zero point of activation Q/DQ goes from ``int8 0`` to ``uint8 128`` (the same numbers): with s8 activations ONNX
  Runtime 1.32 finds no fused kernel and is 8 to 20 times slower;
* the row scales of an INT8 table move from a pass over the scores into its DequantizeLinear;
* constants with few different values become codes and a codebook, which the runtime writes out when it loads them;
* nothing else: optimization is left to the runtime that runs it.

``check_kernels`` then looks at the graph as the runtime optimized it: every silent fallback shows in those counts.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from build_engines.targets.shared_constants import share_constants

_ONNX_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "int8": onnx.TensorProto.INT8,
    "int32": onnx.TensorProto.INT32,
}

# Where the runtime would read the tables if nobody brought them; the server always does.
_LOCATION = "brought-by-bind"


def package(source: onnx.ModelProto, tables: Mapping[str, npt.NDArray[Any]]) -> onnx.ModelProto:
    """The graph as ONNX Runtime on the CPU wants it.

    Args:
        source: a graph by ``build_graph``.
        tables: what will be bound; only names, dtypes and shapes are used.

    Raises:
        ValueError: a table is not an input of the graph.
    """
    model = onnx.ModelProto()
    model.CopyFrom(source)
    declare_external(model.graph, tables)
    fold_row_scales(model.graph, table="score_emb_DN", scale="score_scale_N")
    shift_zero_points(model.graph)
    share_constants(model.graph)
    return model


def declare_external(graph: onnx.GraphProto, tables: Mapping[str, npt.NDArray[Any]]) -> None:
    """Turn the inputs named by ``tables`` into external initializers of their shapes."""
    inputs = {value.name for value in graph.input}
    unknown = sorted(set(tables) - inputs)
    if unknown:
        raise ValueError(f"tables {unknown} are no inputs of the graph, which has {sorted(inputs)}")
    kept = [value for value in graph.input if value.name not in tables]
    del graph.input[:]
    graph.input.extend(kept)
    for name, array in tables.items():
        tensor = graph.initializer.add()
        tensor.name = name
        tensor.data_type = _ONNX_TYPES[array.dtype.name]
        tensor.dims.extend(array.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", _LOCATION), ("offset", "0"), ("length", str(array.nbytes))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value


def fold_row_scales(graph: onnx.GraphProto, *, table: str, scale: str) -> bool:
    """Move ``scale`` from a Mul behind the product into the DequantizeLinear of ``table``; False when there is none."""
    multiply = next((node for node in graph.node if node.op_type == "Mul" and scale in node.input), None)
    dequantize = next(
        (n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] == table), None
    )
    if multiply is None or dequantize is None:
        return False
    product = next(name for name in multiply.input if name != scale)
    scaled = multiply.output[0]
    graph.node.remove(multiply)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == scaled:
                node.input[place] = product
    del dequantize.input[1:]
    dequantize.input.append(scale)
    dequantize.attribute.append(onnx.helper.make_attribute("axis", 1))
    del graph.value_info[:]
    return True


def shift_zero_points(graph: onnx.GraphProto) -> int:
    """Rewrite activation Q/DQ pairs from s8 with zero point 0 to u8 with zero point 128; returns how many."""
    zero_name = "activation_zero_point_u8"
    quantizers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    outputs = {node.output[0] for node in quantizers}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" or (
            node.op_type == "DequantizeLinear" and node.input[0] in outputs
        ):
            node.input[2] = zero_name
    if quantizers:
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(128, dtype=np.uint8), zero_name))
        del graph.value_info[:]
    return len(quantizers)


def check_kernels(
    model_bytes: bytes, tables: Mapping[str, npt.NDArray[Any]], *, attention: int, integer_matmuls: int
) -> dict[str, int]:
    """Load as the server does and count the fused kernels in the optimized graph.

    Args:
        model_bytes: the packaged graph.
        tables: what the server will bind.
        attention: Attention nodes there must be.
        integer_matmuls: fused integer matrix products there must be.

    Returns:
        Node counts by operator of the optimized graph.

    Raises:
        ValueError: the runtime refuses the graph or expanded something silently; says which.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(optimized)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 3
        values = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in tables.values()]
        if values:
            options.add_external_initializers(list(tables), values)
        try:
            ort.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common base for its errors
            raise ValueError(f"ONNX Runtime {ort.__version__} refuses the graph: {error}") from error
        found = Counter(
            node.op_type for node in onnx.load(str(optimized), load_external_data=False).graph.node
        )
    _expect(found, ["Attention"], attention)
    _expect(found, ["MatMulIntegerToFloat", "QLinearMatMul"], integer_matmuls)
    return dict(found)


def _expect(found: Mapping[str, int], kinds: Sequence[str], count: int) -> None:
    have = sum(found.get(kind, 0) for kind in kinds)
    if have != count:
        raise ValueError(
            f"the optimized graph has {have} {' or '.join(kinds)} nodes, must have {count}: ONNX Runtime "
            f"{ort.__version__} fell back silently; its operators are {dict(sorted(found.items()))}"
        )
