"""From a trained model to source graphs and stored tables: what every target is compiled from.

Writes ``model.onnx`` (with the candidate mask), ``model_unmasked.onnx`` (the same graph without it) and ``tables/*.npy``.
The graphs are in the form that every runtime accepts, tables as inputs; nothing here is for one target.

Suffixes: N rows (padding included, a whole number of groups), D width, M neighbours, X hidden rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from build_engines.errors import BuildError
from build_engines.models.mix import MixConfig, fold
from build_engines.models.sasrec_graph import GraphSpec, Int8Scales, build_graph, padded_rows
from build_engines.models.transitions import TransitionTable
from build_engines.onnx_writer import save_model
from build_engines.records import GraphRecord
from server.artifacts.manifest import Constant, TensorInfo
from server.encoding import packed_tables, tables

MASKED_FILE = "model.onnx"
UNMASKED_FILE = "model_unmasked.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredients:
    """Everything the served score is made of.

    Attributes:
        weights: as ``SasRec.export_weights`` names them.
        transitions: unfolded counts.
        popularity_N: decayed popularity, row 0 included.
        mix: how they are combined.
        heads: attention heads.
        max_k: ranks the graph gives.
        max_batch: largest batch.
        max_exclude: excluded rows of one request, history included.
    """

    weights: Mapping[str, npt.NDArray[Any]]
    transitions: TransitionTable
    popularity_N: npt.NDArray[np.float32]
    mix: MixConfig
    heads: int
    max_k: int
    max_batch: int
    max_exclude: int

    @property
    def items(self) -> int:
        """Items of the catalogue, padding not counted."""
        return len(self.popularity_N) - 1

    @property
    def shared(self) -> bool:
        """Whether items share rows of the item table."""
        return tables.SCORE_ROW in self.weights


def graph_spec(
    ingredients: Ingredients,
    *,
    masked: bool,
    calibration_output: bool = False,
    product_codes: tuple[int, int] | None = None,
) -> GraphSpec:
    """The shape of the graph for these ingredients."""
    mix = ingredients.mix
    blocks = 1 + max(int(name.split(".")[1]) for name in ingredients.weights if name.startswith("blocks."))
    length, dim = ingredients.weights["position_LD"].shape
    width = ingredients.weights["blocks.0.out_weight"].shape[0]
    return GraphSpec(
        rows=padded_rows(ingredients.items),
        dim=dim,
        blocks=blocks,
        heads=ingredients.heads,
        head_dim=width // ingredients.heads,
        length=length,
        max_k=min(ingredients.max_k, ingredients.items),
        window=mix.window,
        decay=mix.decay,
        transition_weight=1.0 if mix.gamma > 0 else 0.0,
        neural_weight=mix.neural_weight,
        bias=mix.popularity_weight > 0,
        masked=masked,
        calibration_output=calibration_output,
        table_rows=len(ingredients.weights[tables.ITEM_EMB]) if ingredients.shared else None,
        product_codes=product_codes,
    )


def stored_tables(ingredients: Ingredients) -> dict[str, npt.NDArray[Any]]:
    """The FP32 tables a version stores, padded to whole groups; padding rows are hidden."""
    rows = padded_rows(ingredients.items)
    mix = ingredients.mix
    # Counts that the mix does not use still answer in the fallback tier.
    folded = fold(ingredients.transitions, mix if mix.gamma > 0 else replace(mix, gamma=1.0))
    stored: dict[str, npt.NDArray[Any]] = {
        tables.ITEM_EMB: ingredients.weights["item_emb_ND"],
        tables.INPUT_SCALE: ingredients.weights["input_scale_N"],
        tables.NEIGHBOUR_IDS: folded.neighbour_ids_NM,
        tables.NEIGHBOUR_WEIGHTS: folded.neighbour_weights_NM,
        tables.POPULARITY: ingredients.popularity_N,
    }
    if ingredients.mix.popularity_weight > 0:
        prior = ingredients.mix.popularity_weight * np.log1p(ingredients.popularity_N)
        stored[tables.SCORE_BIAS] = prior.astype(np.float32)
    padded = {name: _pad_rows(table, rows) for name, table in stored.items()}
    if ingredients.shared:  # the two tables have rows of their own, and columns say whose they are
        padded |= {name: stored[name] for name in (tables.ITEM_EMB, tables.INPUT_SCALE)}
        for name in (tables.INPUT_ROW, tables.SCORE_ROW):
            padded[name] = _pad_rows(ingredients.weights[name], rows)
    padded[tables.HIDDEN_ROWS] = np.array([0, *range(ingredients.items + 1, rows)], dtype=np.int32)
    return padded


def bound_tables(ingredients: Ingredients) -> dict[str, npt.NDArray[Any]]:
    """The FP32 tables as the graph takes them."""
    return tables.engine_tables(stored_tables(ingredients))


def export_graph(
    folder: Path,
    ingredients: Ingredients,
    *,
    stored: Mapping[str, npt.NDArray[Any]],
    int8: Int8Scales | None,
) -> GraphRecord:
    """Write graphs and tables into ``folder``.

    Args:
        folder: empty; belongs to the caller's stage.
        ingredients: the trained model.
        stored: tables in the precision of the graph (``stored_tables``, or ``quantize_catalogue`` or ``code_catalogue`` of
            them).
        int8: activation scales; None for FP32.

    Returns:
        What was written.

    Raises:
        BuildError: a table is not finite; names it.
        ValueError: the ONNX checker refuses a graph.
    """
    for name, table in stored.items():
        if np.issubdtype(table.dtype, np.floating) and not np.isfinite(table).all():
            raise BuildError(f"table {name} holds values that are not finite; train again")
    coded = tables.ITEM_CODES in stored
    product_codes = None
    if coded:
        count, choices, _ = stored[tables.ITEM_CODEBOOK].shape
        product_codes = (count, choices)
    spec = graph_spec(ingredients, masked=True, product_codes=product_codes)
    for file, masked in ((MASKED_FILE, True), (UNMASKED_FILE, False)):
        save_model(build_graph(replace(spec, masked=masked), ingredients.weights, int8), folder / file)
    products = 0 if int8 is None else _quantized_products(int8) + (0 if coded else 1)
    return GraphRecord(
        file=MASKED_FILE,
        entries={"unmasked": UNMASKED_FILE},
        precision="fp32" if int8 is None else "pq" if coded or packed_tables.ITEM_CODES in stored else "int8",
        inputs=(
            TensorInfo(name="item_ids", dtype="int32", shape=("B", "L")),
            TensorInfo(name="exclude_ids", dtype="int32", shape=("B", "E")),
            TensorInfo(name="candidate", dtype="bool", shape=("B", "N")),
        ),
        outputs=(
            TensorInfo(name="ids", dtype="int32", shape=("B", spec.max_k)),
            TensorInfo(name="scores", dtype="float32", shape=("B", spec.max_k)),
        ),
        tables=_write_tables(folder, stored),
        limits={
            "max_batch": ingredients.max_batch,
            "max_history": spec.length,
            "max_k": spec.max_k,
            "max_exclude": ingredients.max_exclude,
        },
        parameters={
            "items": float(ingredients.items),
            "transition_window": float(ingredients.mix.window),
            "transition_decay": spec.decay,
            "attentions": float(spec.blocks),
            "integer_matmuls": float(products),
        },
    )


def _write_tables(folder: Path, stored: Mapping[str, npt.NDArray[Any]]) -> tuple[Constant, ...]:
    (folder / "tables").mkdir()
    constants = []
    for name, table in sorted(stored.items()):
        file = f"tables/{name}.npy"
        np.save(folder / file, np.ascontiguousarray(table))
        constants.append(Constant(tensor=name, file=file, dtype=table.dtype.name, shape=table.shape))
    return tuple(constants)


def _quantized_products(int8: Int8Scales) -> int:
    per_name = [3 if name.endswith(".qkv") else 1 for name in int8.linears]
    return sum(per_name)


def _pad_rows(table: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    padded = np.zeros((rows, *table.shape[1:]), dtype=table.dtype)
    padded[: len(table)] = table
    return padded
