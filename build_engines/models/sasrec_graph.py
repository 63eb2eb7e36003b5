"""The recommender as one ONNX graph: history to ranked rows, everything between them inside.

    item_ids_BL -> lookup -> blocks -> x_BD -> scores_BN -> + transitions -> - exclusions -> [candidate mask] -> top K

What must not be undone:
* the last block computes queries and the feed-forward part for the newest position only (exact: nothing else is read);
* transitions are added by one small gather and scatter for each of the newest W history items (exact, in place in
  ONNX Runtime, and without the reducing scatter that TensorRT lacks);
* the top K goes through the best K groups of columns (exact: an item of the top K is in a group whose best item is
  among the K best groups), which costs a fifth of a TopK over the catalogue;
* the catalogue and the transition table are inputs of the graph. ``compile`` turns them into what a target likes best.

Column n of the scores is row n of the catalogue; row 0 is padding. N is a multiple of the group; padding and delisted
rows come in ``hidden_rows_X``.

Where items share rows of the item table (``prune_rows``) the table has R rows: histories are looked up through
``input_row_N``, and scores of R rows become those of N by ``score_row_N``, before transitions, which every item has.

Suffixes: B requests, L positions, D width, N rows, R rows of the item table, M neighbours, E exclusions, X hidden rows,
K ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from build_engines.onnx_writer import OnnxWriter
from server.encoding import tables
from server.encoding.packed_tables import int8_rows

GROUP = 64
CODE_OF_ZERO = 128  # product codes are bound as signed bytes, see ``server.encoding.tables``

Weights = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Scales:
    """Where the graph is INT8, and the activation scales that calibration found.

    Attributes:
        scoring: scale of ``x_BD`` before the catalogue (> 0).
        linears: scale of the input of each linear that is quantized, by weight name; empty: linears stay FP32.
    """

    scoring: float
    linears: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSpec:
    """What shape the graph has; the weights bring the rest.

    Attributes:
        rows: N, catalogue rows with padding (a multiple of ``GROUP`` when grouped).
        dim: D.
        blocks: transformer blocks.
        heads: attention heads; ``heads * head_dim`` need not be ``dim``.
        head_dim: width of a head.
        table_rows: R, rows of the item table where items share them; None: as many as ``rows``.
        product_codes: M codes of a row and K to choose from, where the item table is kept as product codes; None: it is not.
        length: most positions of a history.
        max_k: K.
        window: W, newest history items whose transitions are added (>= 1).
        decay: weight of each step into the past.
        transition_weight: factor of all transitions; 0 where the mix does not use them (the table still serves the
            fallback tier, and every graph takes the same inputs).
        neural_weight: factor of the neural scores; 0 leaves transitions and the bias alone.
        bias: with ``score_bias_N`` added to the scores (a popularity prior); one more pass over them.
        masked: with the ``candidate`` input.
        calibration_output: also give out the activations that INT8 would quantize.
    """

    rows: int
    dim: int
    blocks: int
    heads: int
    head_dim: int
    length: int
    max_k: int
    window: int
    decay: float
    transition_weight: float = 1.0
    neural_weight: float = 1.0
    bias: bool = False
    masked: bool = True
    calibration_output: bool = False
    table_rows: int | None = None
    product_codes: tuple[int, int] | None = None


def padded_rows(items: int) -> int:
    """N for a catalogue: its rows and the padding row, up to a whole number of groups."""
    return -(-(items + 1) // GROUP) * GROUP


def build_graph(spec: GraphSpec, weights: Weights, int8: Int8Scales | None = None) -> ir.Model:
    """Write the graph.

    Args:
        spec: its shape.
        weights: as ``SasRec.export_weights`` names them.
        int8: None for the FP32 parent.

    Returns:
        A model with inputs ``item_ids[B,L]``, ``exclude_ids[B,E]``, ``candidate[B,N]`` (masked only) and the tables of
        ``server.encoding.tables``; outputs ``ids[B,K]`` int32 and ``scores[B,K]`` float32, best first.
    """
    writer = OnnxWriter("sasrec")
    item_ids = writer.input("item_ids", "int32", ["B", "L"])
    exclude = writer.input("exclude_ids", "int32", ["B", "E"])
    candidate = writer.input("candidate", "bool", ["B", "N"]) if spec.masked else None
    net = _Network(writer, spec, weights, int8)
    x_BD = net.encode(item_ids)
    scores = net.score(x_BD)
    scores = _add_transitions(writer, spec, scores, item_ids)
    if spec.bias:
        # Here and not right behind the product, where ONNX Runtime would make an unfused Gemm of the two.
        scores = writer.op("Add", scores, writer.input(tables.SCORE_BIAS, "float32", ["N"]))
    scores = _exclude(writer, spec, scores, exclude)
    if candidate is not None:
        scores = writer.op("Where", candidate, scores, writer.constant(np.float32(tables.NEVER)))
    best, rows = _top_k(writer, spec, scores)
    outputs: dict[str, tuple[ir.Value, str, list[int | str]]] = {
        "ids": (writer.op("Cast", rows, to=ir.DataType.INT32), "int32", ["B", spec.max_k]),
        "scores": (best, "float32", ["B", spec.max_k]),
    }
    if spec.calibration_output:
        outputs.update({name: (value, "float32", shape) for name, (value, shape) in net.activations.items()})
    return writer.model(outputs)


class _Network:
    """The neural part; remembers the activations that calibration wants to see."""

    def __init__(
        self, writer: OnnxWriter, spec: GraphSpec, weights: Weights, int8: Int8Scales | None
    ) -> None:
        self.w = writer
        self.spec = spec
        self.weights = weights
        self.int8 = int8
        self.activations: dict[str, tuple[ir.Value, list[int | str]]] = {}
        self.rows = "N" if spec.table_rows is None else "R"

    def encode(self, item_ids: ir.Value) -> ir.Value:
        w, spec = self.w, self.spec
        length = w.op("Gather", w.op("Shape", item_ids), w.ints(1))
        positions = w.constant(self.weights["position_LD"], np.float32)
        newest = w.op(
            "Slice", positions, w.op("Sub", w.ints(spec.length), length), w.ints(spec.length), w.ints(0)
        )
        x = w.op("Add", self._lookup(item_ids), newest)
        keys, causal = self._masks(item_ids, length)
        for block in range(spec.blocks):
            x = self._block(x, block, keys, causal, last=block == spec.blocks - 1)
        x_BD = w.op("Squeeze", self._norm(x, "final_norm"), w.ints(1))
        length_B1 = w.op("ReduceL2", x_BD, w.ints(-1), keepdims=1)
        x_BD = w.op("Div", x_BD, w.op("Max", length_B1, w.constant(np.float32(1e-12))))
        return (
            x_BD
            if spec.neural_weight == 1.0
            else w.op("Mul", x_BD, w.constant(np.float32(spec.neural_weight)))
        )

    def score(self, x_BD: ir.Value) -> ir.Value:
        w, spec, rows = self.w, self.spec, self.rows
        self.activations["scoring"] = (x_BD, ["B", spec.dim])
        if spec.product_codes is not None:
            scores = self._score_by_lookup(x_BD, spec.product_codes)
        elif self.int8 is None:
            scores = w.op("MatMul", x_BD, w.input(tables.SCORE_EMB, "float32", [spec.dim, rows]))
        else:
            codes = w.input(tables.SCORE_EMB, "int8", [spec.dim, rows])
            scale = w.input(tables.SCORE_SCALE, "float32", [rows])
            # Row scales come after the product: TensorRT dequantizes a table that it does not know at build time by a
            # constant only. The ONNX Runtime package moves them into the DequantizeLinear, where they cost nothing.
            table = w.op("DequantizeLinear", codes, w.constant(np.float32(1.0)), w.constant(np.int8(0)))
            scores = w.op("Mul", w.op("MatMul", w.quantize_dequantize(x_BD, self.int8.scoring), table), scale)
        if spec.table_rows is not None:
            scores = w.op("Gather", scores, w.input(tables.SCORE_ROW, "int32", ["N"]), axis=1)
        return scores

    def _lookup(self, item_ids: ir.Value) -> ir.Value:
        w, spec = self.w, self.spec
        if spec.table_rows is not None:
            item_ids = w.op("Gather", w.input(tables.INPUT_ROW, "int32", ["N"]), item_ids)
        if spec.product_codes is not None:
            rows = self._decoded(item_ids, spec.product_codes)
        elif self.int8 is not None:
            codes = w.op("Gather", w.input(tables.ITEM_EMB, "int8", [self.rows, spec.dim]), item_ids)
            rows = w.op("Cast", codes, to=ir.DataType.FLOAT)
        else:
            rows = w.op("Gather", w.input(tables.ITEM_EMB, "float32", [self.rows, spec.dim]), item_ids)
        scale = w.op("Gather", w.input(tables.INPUT_SCALE, "float32", [self.rows]), item_ids)
        return w.op("Mul", rows, w.op("Unsqueeze", scale, w.ints(-1)))

    def _decoded(self, item_ids: ir.Value, codes: tuple[int, int]) -> ir.Value:
        """Rows of a history from their codes: pieces of the codebook side by side, times the matrix."""
        w, (count, choices) = self.w, codes
        width = self.spec.dim // count
        self.codebook = w.input(tables.ITEM_CODEBOOK, "float32", [count, choices, width])
        self.turn = w.input(tables.ITEM_TURN, "float32", [self.spec.dim, self.spec.dim])
        found = w.op("Gather", w.input(tables.ITEM_CODES, "int8", [self.rows, count]), item_ids)
        places = w.op(
            "Add",
            w.op("Cast", found, to=ir.DataType.INT32),
            w.constant(np.arange(count, dtype=np.int32) * choices + CODE_OF_ZERO),
        )
        pieces = w.op("Gather", w.op("Reshape", self.codebook, w.ints(count * choices, width)), places)
        return w.op("MatMul", w.op("Reshape", pieces, w.ints(0, 0, self.spec.dim)), self.turn)

    def _score_by_lookup(self, x_BD: ir.Value, codes: tuple[int, int]) -> ir.Value:
        """Products of the query's pieces with every piece of the codebook, and for each row the sum of its M of them.

        Rows of a product table are as long as the batch, so that a gather copies B values at a time.
        """
        w, count = self.w, codes[0]
        turned = w.op("MatMul", x_BD, w.op("Transpose", self.turn, perm=[1, 0]))
        pieces_MWB = w.op(
            "Transpose", w.op("Reshape", turned, w.ints(0, count, self.spec.dim // count)), perm=[1, 2, 0]
        )
        products_MKB = w.op("MatMul", self.codebook, pieces_MWB)
        score_codes = w.input(tables.SCORE_CODES, "int8", [count, self.rows])
        scores_RB: ir.Value | None = None
        for m in range(count):
            place = w.constant(np.int64(m))
            codes_R = w.op("Cast", w.op("Gather", score_codes, place), to=ir.DataType.INT32)
            codes_R = w.op("Add", codes_R, w.constant(np.int32(CODE_OF_ZERO)))
            part = w.op("Gather", w.op("Gather", products_MKB, place), codes_R)
            scores_RB = part if scores_RB is None else w.op("Add", scores_RB, part)
        assert scores_RB is not None, "there is a code at least"
        scores_BR = w.op("Transpose", scores_RB, perm=[1, 0])
        return w.op("Mul", scores_BR, w.input(tables.SCORE_SCALE, "float32", [self.rows]))

    def _masks(self, item_ids: ir.Value, length: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Keys that the newest position sees, and what every position sees; nobody sees nothing (no softmax of nothing)."""
        w = self.w
        zero, one = w.constant(np.int64(0)), w.constant(np.int64(1))
        position = w.op("Range", zero, w.op("Squeeze", length), one)
        is_item = w.op("Cast", item_ids, to=ir.DataType.BOOL)
        is_newest = w.op("Equal", position, w.op("Sub", length, w.ints(1)))
        keys = w.op("Unsqueeze", w.op("Or", is_item, is_newest), w.ints(1, 2))
        row, column = w.op("Unsqueeze", position, w.ints(1)), w.op("Unsqueeze", position, w.ints(0))
        causal = w.op("And", keys, w.op("LessOrEqual", column, row))
        return keys, w.op("Or", causal, w.op("Equal", column, row))

    def _block(self, x: ir.Value, index: int, keys: ir.Value, causal: ir.Value, *, last: bool) -> ir.Value:
        w, spec, name = self.w, self.spec, f"blocks.{index}"
        y = self._norm(x, f"{name}.norm1")
        k, v = self._linear(y, f"{name}.qkv", part=1), self._linear(y, f"{name}.qkv", part=2)
        if last:
            y, x = self._newest(y), self._newest(x)
        q = self._linear(y, f"{name}.qkv", part=0)
        mask = keys if last else causal
        attended = w.op("Attention", q, k, v, mask, q_num_heads=spec.heads, kv_num_heads=spec.heads)
        x = w.op("Add", x, self._linear(attended, f"{name}.out"))
        hidden = w.op("Gelu", self._linear(self._norm(x, f"{name}.norm2"), f"{name}.up"))
        return w.op("Add", x, self._linear(hidden, f"{name}.down"))

    def _newest(self, x: ir.Value) -> ir.Value:
        return self.w.op("Slice", x, self.w.ints(-1), self.w.ints(2**31 - 1), self.w.ints(1))

    def _norm(self, x: ir.Value, name: str) -> ir.Value:
        scale, bias = (
            self.w.constant(self.weights[f"{name}_{part}"], np.float32) for part in ("weight", "bias")
        )
        return self.w.op("LayerNormalization", x, scale, bias, epsilon=1e-5)

    def _linear(self, x: ir.Value, name: str, part: int | None = None) -> ir.Value:
        """``x @ weight + bias`` with weight ``[in, out]``; ``part`` is one third of the columns, all heads wide."""
        w, width = self.w, self.spec.heads * self.spec.head_dim
        columns = slice(None) if part is None else slice(part * width, (part + 1) * width)
        weight, bias = self.weights[f"{name}_weight"][:, columns], self.weights[f"{name}_bias"][columns]
        self.activations.setdefault(name, (x, ["B", f"T_{name}", weight.shape[0]]))
        scale = self.int8.linears.get(name) if self.int8 is not None else None
        if scale is None:
            table = w.constant(weight, np.float32)
        else:
            codes, scales = quantize_columns(weight)
            table = w.op("DequantizeLinear", w.constant(codes), w.constant(scales), axis=1)
            x = w.quantize_dequantize(x, scale)
        return w.op("Add", w.op("MatMul", x, table), w.constant(bias, np.float32))


def _add_transitions(w: OnnxWriter, spec: GraphSpec, scores: ir.Value, item_ids: ir.Value) -> ir.Value:
    neighbour_ids = w.input(tables.NEIGHBOUR_IDS, "int32", ["N", "M"])
    neighbour_weights = w.input(tables.NEIGHBOUR_WEIGHTS, "float32", ["N", "M"])
    # A history may be shorter than the window: padding on the left makes the slice valid; row 0 has no neighbours.
    ids = w.op("Pad", item_ids, w.ints(0, spec.window, 0, 0), w.constant(np.int32(0)))
    newest_BW = w.op("Slice", ids, w.ints(-spec.window), w.ints(2**31 - 1), w.ints(1))
    factors = [spec.transition_weight * spec.decay**age for age in reversed(range(spec.window))]
    columns_BWM = w.op("Gather", neighbour_ids, newest_BW)
    weights_BWM = w.op(
        "Mul",
        w.op("Gather", neighbour_weights, newest_BW),
        w.constant(np.array(factors, np.float32)[:, None]),
    )
    # One age after the other: two of them may name one item, and a scatter that adds up is what TensorRT lacks.
    for columns, weight in zip(_by_age(w, spec, columns_BWM), _by_age(w, spec, weights_BWM), strict=True):
        raised = w.op("Add", w.op("GatherElements", scores, columns, axis=1), weight)
        scores = w.op("ScatterElements", scores, columns, raised, axis=1)
    return scores


def _by_age(w: OnnxWriter, spec: GraphSpec, of_BWM: ir.Value) -> Sequence[ir.Value]:
    side_by_side = w.op("Flatten", of_BWM, axis=1)
    if spec.window == 1:
        return [side_by_side]
    return w.ops("Split", spec.window, side_by_side, axis=1, num_outputs=spec.window)


def _exclude(w: OnnxWriter, spec: GraphSpec, scores: ir.Value, exclude: ir.Value) -> ir.Value:
    hidden = w.input(tables.HIDDEN_ROWS, "int32", ["X"])
    batch = w.op("Gather", w.op("Shape", exclude), w.ints(0))
    hidden_BX = w.op("Expand", hidden, w.op("Concat", batch, w.ints(1), axis=0))
    columns = w.op("Concat", exclude, hidden_BX, axis=1)
    never = w.op("Expand", w.constant(np.full((1, 1), tables.NEVER, np.float32)), w.op("Shape", columns))
    return w.op("ScatterElements", scores, columns, never, axis=1)


def _top_k(w: OnnxWriter, spec: GraphSpec, scores: ir.Value) -> tuple[ir.Value, ir.Value]:
    k = w.ints(spec.max_k)
    width = group_width(spec.rows, spec.max_k)
    if width is None:
        best, rows = w.ops("TopK", 2, scores, k, axis=-1)
        return best, rows
    groups_BGC = w.op("Reshape", scores, w.ints(0, -1, width))
    _, group_BK = w.ops("TopK", 2, w.op("ReduceMax", groups_BGC, w.ints(-1), keepdims=0), k, axis=-1)
    chosen_BKC = w.op("GatherND", groups_BGC, w.op("Unsqueeze", group_BK, w.ints(-1)), batch_dims=1)
    best, place_BK = w.ops("TopK", 2, w.op("Reshape", chosen_BKC, w.ints(0, -1)), k, axis=-1)
    size = w.ints(width)
    group = w.op("GatherElements", group_BK, w.op("Div", place_BK, size), axis=1)
    return best, w.op("Add", w.op("Mul", group, size), w.op("Mod", place_BK, size))


def group_width(rows: int, max_k: int) -> int | None:
    """Columns of a group for the top K of ``rows`` scores; None: groups would not pay.

    The top K of the groups' best looks at N / C scores and that of the best groups at K * C: together least at
    C = sqrt(N / K), of which the nearest power of two is taken that the padding divides.
    """
    wanted = math.log2(max(rows / max_k, 1.0)) / 2
    width = int(2 ** min(max(round(wanted), 3), round(math.log2(GROUP))))
    return None if rows % width or rows // width < 2 * max_k else width


def quantize_columns(
    weight: npt.NDArray[np.floating[Any]],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Symmetric INT8 with one scale for each output column.

    Returns:
        Codes in -127..127 and their scales (float32, > 0).
    """
    scales = np.maximum(np.abs(weight).max(axis=0) / 127.0, 1e-12).astype(np.float32)
    return np.clip(np.rint(weight / scales), -127, 127).astype(np.int8), scales


def quantize_rows(
    table: npt.NDArray[np.floating[Any]],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Symmetric INT8 with one scale for each row (an item table), as a server unpacks one."""
    return int8_rows(table)
