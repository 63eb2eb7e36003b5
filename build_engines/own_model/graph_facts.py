"""What a graph says of itself: precision, tensors, operators; and its form that every later stage relies on.

The form: ``ai.onnx`` opset ``OPSET`` and nothing else, weights inside the file, every node named, inputs and outputs with
known dtypes and ranks, the batch written "B".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from build_engines.errors import BuildError
from build_engines.onnx_writer import OPSET
from build_engines.own_model.declared import BATCH, DTYPES
from server.artifacts.manifest import TensorInfo

MOST_BYTES = 1_900_000_000  # protobuf's own limit is 2 GiB
_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "fp32",
    onnx.TensorProto.DOUBLE: "fp64",
    onnx.TensorProto.FLOAT16: "fp16",
    onnx.TensorProto.BFLOAT16: "bf16",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "int8",
    onnx.TensorProto.INT4: "int4",
    onnx.TensorProto.UINT4: "int4",
    onnx.TensorProto.FLOAT8E4M3FN: "fp8",
    onnx.TensorProto.FLOAT8E5M2: "fp8",
}
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger")


def read_precision(graph: onnx.GraphProto) -> str:
    """In what most of the weights are, by values; quantized ones count where the graph rounds and restores.

    Integers that are no quantized weights (shapes, indices) are not looked at.
    """
    quantized = any(node.op_type in _QUANTIZED for node in nodes_of(graph))
    counts: Counter[str] = Counter()
    for tensor in graph.initializer:
        name = _TYPES.get(tensor.data_type)
        if name is not None and (quantized or not name.startswith("int")):
            counts[name] += int(np.prod(tensor.dims, dtype=np.int64))
    return counts.most_common(1)[0][0] if counts else "fp32"


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of branches and loops included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)
            for sub in attribute.graphs:
                yield from nodes_of(sub)


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own, so that it can be told and excluded."""
    seen: set[str] = set()
    for number, node in enumerate(nodes_of(graph)):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)


def operators_of(graph: onnx.GraphProto) -> dict[str, int]:
    """Nodes by operator."""
    return dict(sorted(Counter(node.op_type for node in nodes_of(graph)).items()))


def parameters_of(graph: onnx.GraphProto) -> int:
    """Values in the initializers."""
    return sum(int(np.prod(tensor.dims, dtype=np.int64)) for tensor in graph.initializer)


def tensors_of(where: str, values: Sequence[onnx.ValueInfoProto]) -> tuple[TensorInfo, ...]:
    """Inputs or outputs as the manifest declares them.

    Raises:
        BuildError: one has no known dtype or rank; names it.
    """
    return tuple(_tensor(where, value) for value in values)


def name_batch(graph: onnx.GraphProto) -> None:
    """Write "B" for the symbol that the first input begins with; other inputs and outputs that begin with it follow."""
    first = graph.input[0].type.tensor_type.shape.dim
    if not first or first[0].HasField("dim_value"):
        return
    old = first[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == old and old:
                dim.dim_param = BATCH
    first[0].dim_param = BATCH  # a symbol without a name is one too


def check_form(where: str, model: onnx.ModelProto) -> None:
    """Hold a graph against the form at the top of this module, and open it as the server would.

    Raises:
        BuildError: it is too large, the checker refuses it, it has another opset or domain, or ONNX Runtime has no kernel
            for a node; names what and where.
    """
    if model.ByteSize() > MOST_BYTES:
        raise BuildError(
            f"{where}: {model.ByteSize() / 1e9:.2f} GB with its weights, the limit is {MOST_BYTES / 1e9:.1f} GB; split it"
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BuildError(f"{where}: the ONNX checker refuses it: {_first_line(error)}") from error
    imports = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if imports != {"ai.onnx": OPSET}:
        raise BuildError(f"{where}: opsets {imports}, must be ai.onnx {OPSET} and nothing else")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base for its errors
        raise BuildError(
            f"{where}: ONNX Runtime {ort.__version__} cannot run it: {_first_line(error)}; replace that node"
        ) from error


def write_graph(path: Path, model: onnx.ModelProto) -> None:
    """One file, weights inside."""
    path.write_bytes(model.SerializeToString())


def _tensor(where: str, value: onnx.ValueInfoProto) -> TensorInfo:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type" or not value.type.tensor_type.HasField("shape"):
        raise BuildError(f"{where}: {value.name} is a {kind or 'value'} of unknown rank; give it a shape")
    tensor = value.type.tensor_type
    try:
        dtype = str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    except (KeyError, TypeError) as error:
        raise BuildError(f"{where}: {value.name} has an unknown dtype ({tensor.elem_type})") from error
    if dtype not in DTYPES:
        raise BuildError(f"{where}: {value.name} is {dtype}; inputs and outputs may be {', '.join(DTYPES)}")
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}_{at}"
        for at, dim in enumerate(tensor.shape.dim)
    )
    return TensorInfo(name=value.name, dtype=dtype, shape=shape)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:400] if text else type(error).__name__
