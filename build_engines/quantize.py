"""INT8 by explicit Q/DQ: scales for activations from calibration, codes and row scales for the catalogue.

The catalogue is where the bytes and the time are, so it is always INT8 here, or product codes; the linears of the network can
follow (``scope="all"``), which at these widths changes little. Activation scales are static, measured on histories that the gate
never sees: the builder refuses a calibration set that overlaps the gate's users.

Suffixes: B histories, N rows, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from build_engines.compression.calibrator_names import Calibrator
from build_engines.compression.calibrators import Histogram, threshold
from build_engines.compression.codebooks import ProductCodes
from build_engines.errors import BuildError
from build_engines.export import Ingredients, bound_tables, graph_spec
from build_engines.models.sasrec_graph import Int8Scales, build_graph, quantize_rows
from build_engines.onnx_writer import model_bytes
from server.encoding import packed_tables, tables
from server.encoding.items import pad_left

Scope = Literal["catalogue", "all"]
_BATCH = 64


def quantize_catalogue(stored: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The stored tables with the catalogue in INT8: codes, and a scale for each row at both ends.

    Args:
        stored: FP32 tables by ``export.stored_tables``.

    Returns:
        The same tables; ``item_emb_ND`` int8, ``input_scale_N`` with the row scale multiplied in, ``score_scale_N`` new.
    """
    codes_ND, scale_N = quantize_rows(stored[tables.ITEM_EMB])
    return {
        **stored,
        tables.ITEM_EMB: codes_ND,
        tables.INPUT_SCALE: (stored[tables.INPUT_SCALE] * scale_N).astype(np.float32),
        tables.SCORE_SCALE: scale_N,
    }


def code_catalogue(
    stored: Mapping[str, npt.NDArray[Any]], codes: ProductCodes, *, scored: Literal["decoded", "lookup"]
) -> dict[str, npt.NDArray[Any]]:
    """The stored tables with the catalogue as product codes.

    Args:
        stored: FP32 tables by ``export.stored_tables``.
        codes: of the rows of its item table that are there (rows of padding get the code of the first).
        scored: "decoded": packed, INT8 once a server has it. "lookup": kept as codes.
    """
    kept = {name: table for name, table in stored.items() if name != tables.ITEM_EMB}
    codes_NM = np.zeros((len(stored[tables.ITEM_EMB]), codes.codes_NM.shape[1]), np.uint8)
    codes_NM[: len(codes.codes_NM)] = codes.codes_NM
    turn_DD = np.eye(stored[tables.ITEM_EMB].shape[1]) if codes.turn_DD is None else codes.turn_DD
    if scored == "decoded":
        packed: dict[str, npt.NDArray[Any]] = {
            packed_tables.ITEM_CODES: codes_NM,
            packed_tables.ITEM_CODEBOOK: codes.codebook_MKW.astype(np.float16),
            packed_tables.ITEM_TURN: turn_DD.astype(np.float16),
            tables.INPUT_SCALE: stored[tables.INPUT_SCALE].astype(np.float16),
        }
        if codes.length is not None:
            packed[packed_tables.ITEM_LENGTH] = np.array([codes.length], np.float32)
        return {**kept, **packed}
    rows_ND = packed_tables.decoded_rows(codes_NM, codes.codebook_MKW, turn_DD)
    scale_N = np.ones(len(rows_ND), np.float32)
    if codes.length is not None:
        scale_N = np.float32(codes.length) / np.maximum(np.linalg.norm(rows_ND, axis=1), 1e-12)
    return {
        **kept,
        tables.ITEM_CODES: codes_NM,
        tables.ITEM_CODEBOOK: codes.codebook_MKW,
        tables.ITEM_TURN: turn_DD.astype(np.float32),
        tables.INPUT_SCALE: (stored[tables.INPUT_SCALE] * scale_N).astype(np.float32),
        tables.SCORE_SCALE: scale_N.astype(np.float32),
    }


def pack_transitions(stored: Mapping[str, npt.NDArray[Any]], kept: int) -> dict[str, npt.NDArray[Any]]:
    """The stored tables with at most ``kept`` transitions an item, in three bytes each."""
    pair = (tables.NEIGHBOUR_IDS, tables.NEIGHBOUR_WEIGHTS)
    left = {name: table for name, table in stored.items() if name not in pair}
    return {**left, **packed_tables.packed_neighbours(*(stored[name] for name in pair), kept=kept)}


def calibrate(
    ingredients: Ingredients,
    histories: Sequence[npt.NDArray[np.integer[Any]]],
    *,
    scope: Scope = "catalogue",
    calibrator: Calibrator = "percentile",
    percentile: float = 99.99,
) -> Int8Scales:
    """Measure activation ranges by running the FP32 graph.

    Args:
        ingredients: the trained model.
        histories: item rows, oldest first; disjoint from the gate's users.
        scope: "catalogue" for the scoring input only, "all" for every linear's input as well.
        calibrator: how a range is found. "percentile" takes the largest of the batches' own percentiles, which cuts off
            less than one over everything would.
        percentile: of absolute values that must fit without clipping (50..100; 100 is the maximum).

    Raises:
        BuildError: no histories, or an activation that is not finite; names the place.
    """
    limits: dict[str, list[float]] = {}
    seen: dict[str, Histogram] = {}
    for name, values in observed(ingredients, histories, scope):
        if not np.isfinite(values).all():
            raise BuildError(
                f"activations of {name} are not finite; the trained weights are broken: train again"
            )
        if calibrator == "percentile":
            limits.setdefault(name, []).append(float(np.percentile(np.abs(values), percentile)))
        else:
            seen.setdefault(name, Histogram()).add(values)
    tops = {name: max(found) for name, found in limits.items()}
    tops |= {name: threshold(one, calibrator) for name, one in seen.items()}
    scales = {name: max(top, 1e-8) / 127.0 for name, top in tops.items()}
    return Int8Scales(scoring=scales.pop("scoring"), linears=scales)


def observed(
    ingredients: Ingredients, histories: Sequence[npt.NDArray[np.integer[Any]]], scope: Scope
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Place and values of what INT8 would round, batch by batch, as the FP32 graph computes them.

    Raises:
        BuildError: no histories.
    """
    if not len(histories):
        raise BuildError("calibration set is empty: raise [quantize] calibration_users, or build fp32")
    spec = graph_spec(ingredients, masked=False, calibration_output=True)
    model = build_graph(spec, ingredients.weights)
    names = [str(output.name) for output in model.graph.outputs if output.name not in ("ids", "scores")]
    wanted = [name for name in names if scope == "all" or name == "scoring"]
    session = ort.InferenceSession(model_bytes(model), providers=["CPUExecutionProvider"])
    feed = bound_tables(ingredients)
    for start in range(0, len(histories), _BATCH):
        rows = [history.tolist() for history in histories[start : start + _BATCH]]
        inputs = {
            "item_ids": pad_left(rows, length=spec.length),
            "exclude_ids": np.zeros((len(rows), 1), dtype=np.int32),
        }
        yield from zip(wanted, session.run(wanted, {**feed, **inputs}), strict=True)


def queries(
    ingredients: Ingredients, histories: Sequence[npt.NDArray[np.integer[Any]]]
) -> npt.NDArray[np.float32]:
    """What the catalogue is multiplied by, ``[B, D]``: by these an error of its rows is weighed."""
    found = [values for _, values in observed(ingredients, histories, "catalogue")]
    joined: npt.NDArray[np.float32] = np.concatenate(found)
    return joined
