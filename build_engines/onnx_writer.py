"""Write an ONNX graph node by node: a thin layer over ``onnx_ir`` that names things and fixes what all our graphs share.

Fixed here (ENGINE NOTES, "the graph form both accept"): ``ai.onnx`` opset 24 exactly, ir_version 11, symmetric s8 Q/DQ
with zero point 0. At opset 25 to 27 ONNX Runtime has no Attention kernel and silently expands it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir import tape

OPSET = 24
IR_VERSION = 11
SHARED_BYTES = 1 << 12  # from here on equal constants are looked for
ZERO = np.int8(0)  # code of 0 where nothing else is asked for

_DTYPES: dict[str, ir.DataType] = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "int8": ir.DataType.INT8,
    "uint8": ir.DataType.UINT8,
    "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64,
    "bool": ir.DataType.BOOL,
}


class OnnxWriter:
    """Collects inputs, constants and nodes, then makes a model of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tape = tape.Tape()
        self._inputs: list[ir.Value] = []
        self._constants: dict[str, ir.Value] = {}
        self._large: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._opsets = {"": OPSET}

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> ir.Value:
        """Declare a graph input."""
        value = ir.val(name, _DTYPES[dtype], list(shape))
        self._inputs.append(value)
        return value

    def constant(self, array: npt.ArrayLike, dtype: Any = None, *, name: str | None = None) -> ir.Value:
        """An initializer; equal small constants, and equal large ones, are written once."""
        values = np.ascontiguousarray(array, dtype=dtype).reshape(np.shape(array))
        key = (
            name or f"const_{values.dtype}_{values.shape}_{values.tobytes().hex()}"
            if values.size <= 4
            else name
        )
        if key is not None and key in self._constants:
            return self._constants[key]
        if values.nbytes >= SHARED_BYTES:
            # Blocks that share their weights (compression.share_blocks) are stored once, whatever they are called.
            same = (
                values.dtype.str,
                values.shape,
                hashlib.sha256(values.reshape(-1).view(np.uint8).data).digest(),
            )
            if same in self._large:
                if key is not None:
                    self._constants[key] = self._large[same]
                return self._large[same]
        label = name or f"constant_{len(self._constants)}"
        value = self._tape.initializer(ir.tensor(values, name=label), name=label)
        self._constants[key if key is not None else label] = value
        if values.nbytes >= SHARED_BYTES:
            self._large[same] = value
        return value

    def initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        """An initializer that is stored elsewhere already (external data)."""
        return self._tape.initializer(tensor, name=tensor.name)

    def ints(self, *values: int) -> ir.Value:
        """A 1-D int64 constant (axes, starts, shapes)."""
        return self.constant(np.array(values, dtype=np.int64))

    def op(self, kind: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """A node with one output."""
        return self._tape.op(kind, list(inputs), attributes or None)

    def microsoft(self, kind: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """A node with one output, of ONNX Runtime's own operators: for packages of that runtime only."""
        self._opsets["com.microsoft"] = 1
        return self._tape.op(kind, list(inputs), attributes or None, domain="com.microsoft")

    def microsoft_ops(
        self, kind: str, outputs: int, *inputs: ir.Value | None, **attributes: Any
    ) -> Sequence[ir.Value]:
        """As ``microsoft``, with several outputs."""
        self._opsets["com.microsoft"] = 1
        return self._tape.op_multi_out(
            kind, list(inputs), attributes or None, num_outputs=outputs, domain="com.microsoft"
        )

    def ops(self, kind: str, outputs: int, *inputs: ir.Value | None, **attributes: Any) -> Sequence[ir.Value]:
        """A node with several outputs."""
        return self._tape.op_multi_out(kind, list(inputs), attributes or None, num_outputs=outputs)

    def quantize_dequantize(self, x: ir.Value, scale: float, zero: npt.ArrayLike = ZERO) -> ir.Value:
        """Activation Q/DQ: per tensor; symmetric s8 with zero point 0, or what is asked for (an E4M3 zero: FP8)."""
        scale_value, zero_value = self.constant(np.float32(scale)), self.constant(zero)
        codes = self.op("QuantizeLinear", x, scale_value, zero_value)
        return self.op("DequantizeLinear", codes, scale_value, zero_value)

    def model(
        self, outputs: Mapping[str, tuple[ir.Value, str, Sequence[int | str]]], *, direct: bool = False
    ) -> ir.Model:
        """Close the graph.

        Args:
            outputs: by name: the value, its dtype, its shape.
            direct: the values themselves are the outputs, none of them twice and none an input. Needed where a runtime
                writes an output in place of an input: a node in between would copy it.
        """
        finals = []
        for name, (value, dtype, shape) in outputs.items():
            final = value if direct else self.op("Identity", value)
            final.name = name
            final.dtype = _DTYPES[dtype]
            final.shape = ir.Shape(list(shape))
            finals.append(final)
        graph = ir.Graph(
            self._inputs,
            finals,
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports=self._opsets,
            name=self._name,
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="vitrine")


def model_bytes(model: ir.Model) -> bytes:
    """Check the model in full and serialize it.

    Raises:
        ValueError: the checker refuses it, or it uses another opset or domain; says what.
    """
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f"the ONNX checker refuses graph {model.graph.name!r}: {error}") from error
    imports = {entry.domain: entry.version for entry in proto.opset_import}
    if imports != {"": OPSET}:
        raise ValueError(
            f"graph {model.graph.name!r}: opsets {imports}, must be ai.onnx {OPSET} and nothing else"
        )
    return bytes(proto.SerializeToString())


def save_model(model: ir.Model, path: Path) -> None:
    """Check the model and write it as one file; see ``model_bytes``."""
    path.write_bytes(model_bytes(model))
