"""An encoder as one ONNX graph, written node by node.

    input_ids[B,T], lengths[B] -> embedding[B,D], and where there is a head logits[B,C]

What must not be undone (ENGINE NOTES has the measurements):
* texts are padded on the right, and what lies behind a row's length is never read: the mask ``Range(T) < length`` is made
  here, as an explicit boolean that all runtimes read alike, and pooling multiplies by it;
* activations stay rank 3, or a product with a bias becomes an unfused Gemm;
* queries, keys and values are three products of one input, which is rounded once: attention takes them as they are, and
  dividing one wide product into three costs a copy of it;
* the word table is kept in INT8 with a scale a row where the products are: rows are gathered first and multiplied after,
  so that nobody ever dequantizes the table. (A DequantizeLinear in front of a Gather is computed over all of it, each run.)

Suffixes: B texts, T tokens, D width, H heads, C intents, K and N rows and columns of a product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir

from build_engines.intents.head import IntentHead
from build_engines.models.causal.checkpoint import Checkpoint, Floats
from build_engines.models.causal.rounding import int8_codes, int8_scales
from build_engines.models.encoder.architecture import WORD_ROWS_FILE, EncoderArchitecture
from build_engines.models.encoder.layout import Affine, Layer, Layout, Matrix
from build_engines.models.encoder.rounding import InputRounding
from build_engines.onnx_writer import OnnxWriter

INPUT_IDS, LENGTHS, EMBEDDING, LOGITS = "input_ids", "lengths", "embedding", "logits"
FP8 = ml_dtypes.float8_e4m3fn
FP8_ZERO = np.zeros((), FP8)
LARGEST_FP8 = 448.0
Pooling = Literal["mean", "cls"]
Outputs = Mapping[str, tuple[ir.Value, str, Sequence[int | str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderForm:
    """What is written.

    Attributes:
        pooling: "mean" over a text's tokens, or its first one ("cls").
        normalize: vectors get length 1.
        dim: width of ``embedding``, the first values of the pooled vector (Matryoshka); None: all.
        roundings: by product, how its input becomes 8 bits; a product that is not here stays in float32.
        fp8_inputs: by product, largest absolute value of its input, where it is computed in FP8 (E4M3); TensorRT only.
        int8_words: the word table in INT8, a scale a row.
        head: adds ``logits``; None: no such output.
        observe: also output the input of every product, under its name: what calibration looks at.
        max_tokens: positions that are kept; None: all that the checkpoint has.
    """

    pooling: Pooling = "mean"
    normalize: bool = True
    dim: int | None = None
    roundings: Mapping[str, InputRounding] = field(default_factory=dict)
    fp8_inputs: Mapping[str, float] = field(default_factory=dict)
    int8_words: bool = False
    head: IntentHead | None = None
    observe: bool = False
    max_tokens: int | None = None


def build_graph(
    arch: EncoderArchitecture, layout: Layout, checkpoint: Checkpoint, form: EncoderForm
) -> ir.Model:
    """Write the graph, its weights in it."""
    return _Network(arch, layout, checkpoint, form).build()


def fp8_scale(largest: float) -> float:
    """A scale with which nothing is above what E4M3 holds (448)."""
    return max(largest, 1e-8) / LARGEST_FP8


class _Network:
    def __init__(
        self, arch: EncoderArchitecture, layout: Layout, checkpoint: Checkpoint, form: EncoderForm
    ) -> None:
        self.arch, self.layout, self.checkpoint, self.form = arch, layout, checkpoint, form
        self.w = OnnxWriter(arch.family)
        self.observed: dict[str, tuple[ir.Value, str, Sequence[int | str]]] = {}

    def build(self) -> ir.Model:
        w = self.w
        input_ids = w.input(INPUT_IDS, "int64", ["B", "T"])
        self.lengths = w.input(LENGTHS, "int64", ["B"])
        zero, one = w.constant(np.int64(0)), w.constant(np.int64(1))
        self.length = w.op("Shape", input_ids, start=1, end=2)
        places = w.op("Range", zero, w.op("Squeeze", self.length), one)
        self.inside_BT = w.op("Less", places, w.op("Unsqueeze", self.lengths, w.ints(1)))
        square = w.op("Concat", w.op("Shape", self.lengths), w.ints(1), self.length, self.length, axis=0)
        self.mask = w.op("Expand", w.op("Unsqueeze", self.inside_BT, w.ints(1, 2)), square)
        x = self._embed(input_ids)
        for layer in self.layout.layers:
            x = self._block(x, layer)
        pooled = self._pool(x)
        dim = self.form.dim or self.arch.dim
        outputs: dict[str, tuple[ir.Value, str, Sequence[int | str]]] = {
            EMBEDDING: (pooled, "float32", ["B", dim])
        }
        if self.form.head is not None:
            outputs[LOGITS] = (
                self._head(pooled, self.form.head),
                "float32",
                ["B", len(self.form.head.bias_C)],
            )
        return w.model({**outputs, **self.observed})

    def _embed(self, input_ids: ir.Value) -> ir.Value:
        w, checkpoint, arch = self.w, self.checkpoint, self.arch
        table_VD = checkpoint.array(self.layout.words)
        if arch.word_rows is not None:
            row_V = np.load(checkpoint.folder / WORD_ROWS_FILE)
            input_ids = w.op("Gather", w.constant(row_V, np.int32, name="word_rows"), input_ids)
        if self.form.int8_words:
            scales_V = int8_scales(np.abs(table_VD).max(axis=1))
            codes = w.constant(int8_codes(table_VD, scales_V[:, None]), name="words.codes")
            rows = w.op("Cast", w.op("Gather", codes, input_ids), to=ir.DataType.FLOAT)
            scales = w.constant(scales_V[:, None], name="words.scales")
            x = w.op("Mul", rows, w.op("Gather", scales, input_ids))
        else:
            x = w.op("Gather", w.constant(table_VD, name="words"), input_ids)
        kept = self.form.max_tokens or arch.max_tokens
        places_PD = checkpoint.array(self.layout.positions)[arch.first_position :][:kept]
        if (
            self.layout.types is not None
        ):  # a sentence encoder reads one text: all its tokens are of the first type
            places_PD = places_PD + checkpoint.array(self.layout.types)[0]
        places = w.op("Slice", w.constant(places_PD, name="positions"), w.ints(0), self.length, w.ints(0))
        return self._norm(w.op("Add", x, places), self.layout.norm)

    def _block(self, x: ir.Value, layer: Layer) -> ir.Value:
        w, arch = self.w, self.arch
        q, k, v = self._products(x, layer.qkv)
        attended = w.op(
            "Attention", q, k, v, self.mask, q_num_heads=arch.heads, kv_num_heads=arch.heads,
            scale=arch.head_dim**-0.5,
        )  # fmt: skip
        (out,) = self._products(attended, layer.out)
        x = self._norm(w.op("Add", out, x), layer.norm1)
        (inner,) = self._products(x, layer.up)
        (down,) = self._products(self._activate(inner), layer.down)
        return self._norm(w.op("Add", down, x), layer.norm2)

    def _products(self, x: ir.Value, matrix: Matrix) -> list[ir.Value]:
        w, rounding = self.w, self.form.roundings.get(matrix.name)
        if self.form.observe:
            self.observed[matrix.name] = (x, "float32", ["B", "T", matrix.rows])
        fp8_top = self.form.fp8_inputs.get(matrix.name)
        if rounding is not None:
            x = self._rounded(x, matrix, rounding)
        elif fp8_top is not None:
            x = w.quantize_dequantize(x, fp8_scale(fp8_top), FP8_ZERO)
        products = []
        for part in matrix.parts:
            weight_KN = np.ascontiguousarray(self.checkpoint.array(part.weight).T)
            if fp8_top is not None:
                weight = self._fp8_weight(weight_KN, part.stem)
            elif rounding is None:
                weight = w.constant(weight_KN, name=part.weight)
            else:
                weight = self._int8_weight(rounding.rows(weight_KN), part.stem)
            bias = w.constant(self.checkpoint.array(part.bias), name=part.bias)
            products.append(w.op("Add", w.op("MatMul", x, weight), bias))
        return products

    def _rounded(self, x: ir.Value, matrix: Matrix, rounding: InputRounding) -> ir.Value:
        w = self.w
        if rounding.divisors_K is not None:
            x = w.op(
                "Mul", x, w.constant(1.0 / rounding.divisors_K, np.float32, name=f"{matrix.name}.divided")
            )
        kind = np.uint8 if rounding.unsigned else np.int8
        return w.quantize_dequantize(x, rounding.scale, kind(rounding.zero))

    def _int8_weight(self, weight_KN: Floats, name: str) -> ir.Value:
        w = self.w
        scales_N = int8_scales(np.abs(weight_KN).max(axis=0))
        codes = w.constant(int8_codes(weight_KN, scales_N), name=f"{name}.codes")
        zeros = w.constant(np.zeros(scales_N.size, np.int8), name=f"zeros.{scales_N.size}")
        return w.op("DequantizeLinear", codes, w.constant(scales_N, name=f"{name}.scales"), zeros, axis=1)

    def _fp8_weight(self, weight_KN: Floats, name: str) -> ir.Value:
        w, scale = self.w, fp8_scale(float(np.abs(weight_KN).max()))
        codes = w.constant((weight_KN / np.float32(scale)).astype(FP8), name=f"{name}.codes")
        return w.op("DequantizeLinear", codes, w.constant(np.float32(scale)), w.constant(FP8_ZERO))

    def _activate(self, x: ir.Value) -> ir.Value:
        if self.arch.activation == "relu":
            return self.w.op("Relu", x)
        return self.w.op("Gelu", x, approximate="tanh" if self.arch.activation == "gelu_tanh" else "none")

    def _norm(self, x: ir.Value, norm: Affine) -> ir.Value:
        w = self.w
        weight = w.constant(self.checkpoint.array(norm.weight), name=norm.weight)
        bias = w.constant(self.checkpoint.array(norm.bias), name=norm.bias)
        return w.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=self.arch.norm_eps)

    def _pool(self, x: ir.Value) -> ir.Value:
        w = self.w
        if self.form.pooling == "cls":
            pooled = w.op("Gather", x, w.constant(np.int64(0)), axis=1)
        else:
            weights = w.op("Unsqueeze", w.op("Cast", self.inside_BT, to=ir.DataType.FLOAT), w.ints(1))
            count = w.op("Unsqueeze", w.op("Cast", self.lengths, to=ir.DataType.FLOAT), w.ints(1))
            pooled = w.op("Div", w.op("Squeeze", w.op("MatMul", weights, x), w.ints(1)), count)
        if self.form.dim is not None and self.form.dim < self.arch.dim:
            pooled = w.op("Slice", pooled, w.ints(0), w.ints(self.form.dim), w.ints(1))
        if not self.form.normalize:
            return pooled
        size = w.op("ReduceL2", pooled, w.ints(1), keepdims=1)
        return w.op("Div", pooled, w.op("Max", size, w.constant(np.float32(1e-12))))

    def _head(self, pooled: ir.Value, head: IntentHead) -> ir.Value:
        w = self.w
        weight = w.constant(np.ascontiguousarray(head.weights_CD.T), np.float32, name="head.weight")
        return w.op(
            "Add", w.op("MatMul", pooled, weight), w.constant(head.bias_C, np.float32, name="head.bias")
        )
