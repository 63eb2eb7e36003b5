"""A decoder as one ONNX graph, written node by node with its weights streamed into a file.

    input_ids[B,T], write_index[B], n_new[B], past.i.k/v[B,Hkv,S,D] -> logits[B,V], present.i.k/v[B,Hkv,S,D]

What must not be undone (ENGINE NOTES has the measurements):
* in a package for ONNX Runtime (``fused``) its own GroupQueryAttention writes keys and values, turns them, and reads a row as
  far as it is filled: a chunk of 256 tokens takes a third of the time of the dense form, eight texts of 500 tokens two thirds.
  No other runtime reads it, so the source graph and plans have the form below;
* TensorScatter writes keys and values; bound to one buffer, past and present are the same memory and nothing is copied. So
  ``present`` is the scatter's own output, with no node between;
* attention gets a boolean mask made here, ``Range(S) <= position``: both runtimes read it alike, which neither
  ``is_causal`` nor ``nonpad_kv_seqlen`` can say. What lies beyond a row's own position is never read, so padding on the
  right and whatever an earlier text left in a slot are harmless;
* activations stay rank 3, or a product with a bias becomes an unfused Gemm;
* the embedding table feeds a Gather and is never quantized; the head is a copy of its own, and sees only the last position.

Suffixes: B rows, T new tokens, S tokens of a slot, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from build_engines.models.causal import matrices
from build_engines.models.causal.architecture import Architecture
from build_engines.models.causal.checkpoint import Checkpoint, Floats
from build_engines.models.causal.layout import (
    EMBEDDING,
    FINAL_NORM,
    Layer,
    head_layout,
    layer_layout,
)
from build_engines.models.causal.matrices import Folding, Source
from build_engines.models.causal.options import Precision
from build_engines.models.causal.store import WeightFile
from build_engines.onnx_writer import OnnxWriter
from server.engines.onnxruntime_causal import INT4_ACCURACY


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphForm:
    """What is written.

    Attributes:
        precision: of the matrices.
        precisions: by name, of matrices that have another one.
        max_context: positions that rotations are kept for; S is at most this.
        capacity: S where the target wants it fixed; None: symbolic.
        block: rows of an INT4 matrix that share a scale.
        fused: write attention and INT4 products as ONNX Runtime's own operators. Of the products it would make the same: a
            half-billion-weight graph then opens in a fifth of the time, and without the memory to turn all codes round.
    """

    precision: Precision
    max_context: int
    capacity: int | None = None
    block: int = 32
    fused: bool = False
    precisions: Mapping[str, Precision] = field(default_factory=dict)


def matrix_names(arch: Architecture) -> tuple[str, ...]:
    """All matrices, in the order in which they are multiplied by."""
    layers = [layer_layout(arch, index) for index in range(arch.layers)]
    inner = [one.name for layer in layers for one in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    return (*inner, head_layout(arch).name)


def matrix_count(arch: Architecture) -> int:
    """Products with weights in the graph."""
    return 4 * arch.layers + 1


def build_graph(
    arch: Architecture,
    checkpoint: Checkpoint,
    store: WeightFile,
    form: GraphForm,
    folding: Folding | None = None,
) -> ir.Model:
    """Write the graph; its weights are in ``store`` when this returns."""
    return _Network(arch, checkpoint, store, form, folding or Folding()).build()


class _Network:
    def __init__(
        self,
        arch: Architecture,
        checkpoint: Checkpoint,
        store: WeightFile,
        form: GraphForm,
        folding: Folding,
    ) -> None:
        self.arch, self.checkpoint, self.store = arch, checkpoint, store
        self.form, self.folding = form, folding
        self.w = OnnxWriter(arch.family)

    def build(self) -> ir.Model:
        w, arch = self.w, self.arch
        capacity: int | str = self.form.capacity or "S"
        cache: Sequence[int | str] = ["B", arch.kv_heads, capacity, arch.head_dim]
        input_ids = w.input("input_ids", "int64", ["B", "T"])
        self.write_index = w.input("write_index", "int64", ["B"])
        n_new = w.input("n_new", "int64", ["B"])
        past = [
            (w.input(f"past.{i}.k", "float32", cache), w.input(f"past.{i}.v", "float32", cache))
            for i in range(arch.layers)
        ]
        self._prepare_positions(input_ids, past[0][0])
        x = self._embed(input_ids)
        outputs: dict[str, tuple[ir.Value, str, Sequence[int | str]]] = {}
        for index, (past_k, past_v) in enumerate(past):
            layer = layer_layout(arch, index)
            x, present_k, present_v = self._attend(x, layer, past_k, past_v)
            outputs[f"present.{index}.k"] = (present_k, "float32", cache)
            outputs[f"present.{index}.v"] = (present_v, "float32", cache)
            x = self._feed_forward(x, layer)
        logits = self._head(x, n_new)
        return w.model({"logits": (logits, "float32", ["B", arch.vocab_size]), **outputs}, direct=True)

    def _prepare_positions(self, input_ids: ir.Value, cache: ir.Value) -> None:
        w = self.w
        steps = np.arange(self.form.max_context, dtype=np.float64)
        angles = np.outer(steps, self.arch.rope.frequencies(self.arch.head_dim))
        self.cosine = self._stored("rope.cosine", np.cos(angles).astype(np.float32))
        self.sine = self._stored("rope.sine", np.sin(angles).astype(np.float32))
        if self.form.fused:
            self._prepare_lengths(input_ids)
            return
        zero, one = w.constant(np.int64(0)), w.constant(np.int64(1))
        new = w.op("Range", zero, w.op("Squeeze", w.op("Shape", input_ids, start=1, end=2)), one)
        self.position_BT = w.op("Add", w.op("Unsqueeze", self.write_index, w.ints(1)), new)
        if self.form.capacity is None:
            places = w.op("Range", zero, w.op("Squeeze", w.op("Shape", cache, start=2, end=3)), one)
        else:
            places = w.constant(np.arange(self.form.capacity, dtype=np.int64))
        self.mask = w.op("LessOrEqual", places, w.op("Unsqueeze", self.position_BT, w.ints(1, 3)))

    def _prepare_lengths(self, input_ids: ir.Value) -> None:
        # As GroupQueryAttention counts: of each row the last position that this call writes, and the longest row's tokens.
        w = self.w
        after_B = w.op("Add", self.write_index, w.op("Shape", input_ids, start=1, end=2))
        self.last_B = w.op("Cast", w.op("Sub", after_B, w.ints(1)), to=ir.DataType.INT32)
        self.longest = w.op("Cast", w.op("ReduceMax", after_B, keepdims=0), to=ir.DataType.INT32)

    def _embed(self, input_ids: ir.Value) -> ir.Value:
        half = self.form.precision != "fp32"
        table = matrices.store_table(self.store, self.checkpoint, EMBEDDING, half=half)
        rows = self.w.op("Gather", self.w.initializer(table), input_ids)
        return self.w.op("Cast", rows, to=ir.DataType.FLOAT) if half else rows

    def _attend(
        self, x: ir.Value, layer: Layer, past_k: ir.Value, past_v: ir.Value
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        w, arch = self.w, self.arch
        qkv = self._linear(self._norm(x, layer.norm1, layer.qkv.name), Source(self.checkpoint, layer.qkv))
        if self.form.fused:
            joined, present_k, present_v = self._attend_grouped(qkv, layer, past_k, past_v)
            return (
                w.op("Add", x, self._linear(joined, Source(self.checkpoint, layer.out))),
                present_k,
                present_v,
            )
        q, k, v = w.ops("Split", 3, qkv, w.ints(*layer.qkv.columns), axis=-1)
        q, k = self._rotated(q, arch.heads, layer.q_norm), self._rotated(k, arch.kv_heads, layer.k_norm)
        present_k = w.op("TensorScatter", past_k, k, self.write_index, axis=2)
        present_v = w.op("TensorScatter", past_v, self._by_head(v, arch.kv_heads), self.write_index, axis=2)
        attended = w.op("Attention", q, present_k, present_v, self.mask, scale=arch.head_dim**-0.5)
        joined = w.op("Reshape", w.op("Transpose", attended, perm=[0, 2, 1, 3]), w.ints(0, 0, -1))
        return w.op("Add", x, self._linear(joined, Source(self.checkpoint, layer.out))), present_k, present_v

    def _attend_grouped(
        self, qkv: ir.Value, layer: Layer, past_k: ir.Value, past_v: ir.Value
    ) -> Sequence[ir.Value]:
        w, arch = self.w, self.arch
        parts: tuple[ir.Value | None, ...] = (qkv, None, None)
        if arch.qk_norm:
            q, k, v = w.ops("Split", 3, qkv, w.ints(*layer.qkv.columns), axis=-1)
            parts = (
                self._normed_heads(q, arch.heads, layer.q_norm),
                self._normed_heads(k, arch.kv_heads, layer.k_norm),
                v,
            )
        return w.microsoft_ops(
            "GroupQueryAttention",
            3,
            *parts,
            past_k,
            past_v,
            self.last_B,
            self.longest,
            self.cosine,
            self.sine,
            num_heads=arch.heads,
            kv_num_heads=arch.kv_heads,
            scale=arch.head_dim**-0.5,
            do_rotary=1,
        )

    def _normed_heads(self, x: ir.Value, heads: int, norm: str) -> ir.Value:
        w = self.w
        y = w.op("Reshape", x, w.ints(0, 0, heads, self.arch.head_dim))
        weight = w.constant(self.checkpoint.array(norm), name=norm)
        y = w.op("RMSNormalization", y, weight, epsilon=self.arch.norm_eps, axis=-1)
        return w.op("Reshape", y, w.ints(0, 0, -1))

    def _by_head(self, x: ir.Value, heads: int, norm: str | None = None) -> ir.Value:
        w = self.w
        x = w.op("Reshape", x, w.ints(0, 0, heads, self.arch.head_dim))
        if norm is not None:
            weight = w.constant(self.checkpoint.array(norm), name=norm)
            x = w.op("RMSNormalization", x, weight, epsilon=self.arch.norm_eps, axis=-1)
        return w.op("Transpose", x, perm=[0, 2, 1, 3])

    def _rotated(self, x: ir.Value, heads: int, norm: str) -> ir.Value:
        x = self._by_head(x, heads, norm if self.arch.qk_norm else None)
        return self.w.op("RotaryEmbedding", x, self.cosine, self.sine, self.position_BT)

    def _feed_forward(self, x: ir.Value, layer: Layer) -> ir.Value:
        w, arch = self.w, self.arch
        y = self._norm(x, layer.norm2, layer.gate_up.name)
        before_down = self.folding.inputs.get(layer.down.name)
        columns = None
        if before_down is not None:
            columns = np.concatenate([np.ones(arch.hidden, np.float32), 1.0 / before_down])
        both = self._linear(y, Source(self.checkpoint, layer.gate_up, column_scales=columns))
        gate, up = w.ops("Split", 2, both, w.ints(*layer.gate_up.columns), axis=-1)
        inner = w.op("Mul", w.op("Mul", gate, w.op("Sigmoid", gate)), up)
        return w.op("Add", x, self._linear(inner, Source(self.checkpoint, layer.down)))

    def _head(self, x: ir.Value, n_new: ir.Value) -> ir.Value:
        w = self.w
        last = w.op("Max", w.op("Sub", n_new, w.ints(1)), w.ints(0))
        x_BD = w.op("GatherND", x, w.op("Unsqueeze", last, w.ints(1)), batch_dims=1)
        head = head_layout(self.arch)
        y = self._norm(w.op("Unsqueeze", x_BD, w.ints(1)), FINAL_NORM, head.name)
        return w.op("Squeeze", self._linear(y, Source(self.checkpoint, head)), w.ints(1))

    def _norm(self, x: ir.Value, name: str, reader: str) -> ir.Value:
        """Normalize for the matrix ``reader``, whose folded scales the weight takes up."""
        weight = self.checkpoint.array(name)
        divided = self.folding.inputs.get(reader)
        weight = weight if divided is None else weight / divided
        return self.w.op(
            "RMSNormalization",
            x,
            self.w.constant(weight, name=name),
            epsilon=self.arch.norm_eps,
            axis=-1,
        )

    def _linear(self, x: ir.Value, source: Source) -> ir.Value:
        w, name = self.w, source.matrix.name
        precision = self.form.precisions.get(name, self.form.precision)
        rows = self.folding.inputs.get(name)
        source = Source(source.checkpoint, source.matrix, rows, source.column_scales)
        block = self.form.block
        if precision == "fp32":
            weight = w.initializer(matrices.store_fp32(self.store, source))
        elif precision == "int4":
            if self.form.fused:
                return self._biased(self._multiply_fused(x, source), source)
            codes, scales = matrices.store_int4(self.store, source, block, self.folding.rounded.get(name))
            weight = w.op(
                "DequantizeLinear", w.initializer(codes), w.initializer(scales), axis=0, block_size=block
            )
        else:
            x = w.quantize_dequantize(x, self.folding.activation_scales[name])
            codes, scales = matrices.store_int8(self.store, source)
            weight = w.op("DequantizeLinear", w.initializer(codes), w.initializer(scales), axis=1)
        return self._biased(w.op("MatMul", x, weight), source)

    def _multiply_fused(self, x: ir.Value, source: Source) -> ir.Value:
        codes, scales = matrices.store_int4_fused(
            self.store, source, self.form.block, self.folding.rounded.get(source.matrix.name)
        )
        return self.w.microsoft(
            "MatMulNBits",
            x,
            self.w.initializer(codes),
            self.w.initializer(scales),
            K=source.matrix.rows,
            N=source.matrix.width,
            bits=4,
            block_size=self.form.block,
            accuracy_level=int(INT4_ACCURACY),
        )

    def _biased(self, y: ir.Value, source: Source) -> ir.Value:
        bias = matrices.bias_of(source)
        return (
            y
            if bias is None
            else self.w.op("Add", y, self.w.constant(bias, name=f"{source.matrix.name}.bias"))
        )

    def _stored(self, name: str, array: Floats) -> ir.Value:
        return self.w.initializer(self.store.append(name, ir.DataType.FLOAT, array.shape, [array]))
