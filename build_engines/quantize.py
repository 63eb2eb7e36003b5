"""INT8 by explicit Q/DQ: scales for activations from calibration, codes and row scales for the catalogue.

The catalogue is where the bytes and the time are, so it is always INT8 here; the linears of the network can follow
(``scope="all"``), which at these widths changes little. Activation scales are static, measured on histories that the gate
never sees: the builder refuses a calibration set that overlaps the gate's users.

Suffixes: B histories, N rows, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from build_engines.errors import BuildError
from build_engines.export import Ingredients, bound_tables, graph_spec
from build_engines.models.sasrec_graph import Int8Scales, build_graph, quantize_rows
from build_engines.onnx_writer import model_bytes
from server.encoding import tables
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


def calibrate(
    ingredients: Ingredients,
    histories: Sequence[npt.NDArray[np.integer[Any]]],
    *,
    scope: Scope = "catalogue",
    percentile: float = 99.99,
) -> Int8Scales:
    """Measure activation ranges by running the FP32 graph.

    Args:
        ingredients: the trained model.
        histories: item rows, oldest first; disjoint from the gate's users.
        scope: "catalogue" for the scoring input only, "all" for every linear's input as well.
        percentile: of absolute values that must fit without clipping (50..100; 100 is the maximum).

    Raises:
        BuildError: no histories, or an activation that is not finite; names the place.
    """
    if not len(histories):
        raise BuildError("calibration set is empty: raise [quantize] calibration_users, or build fp32")
    spec = graph_spec(ingredients, masked=False, calibration_output=True)
    model = build_graph(spec, ingredients.weights)
    names = [str(output.name) for output in model.graph.outputs if output.name not in ("ids", "scores")]
    wanted = [name for name in names if scope == "all" or name == "scoring"]
    session = ort.InferenceSession(model_bytes(model), providers=["CPUExecutionProvider"])
    feed = bound_tables(ingredients)
    limits: dict[str, list[float]] = {name: [] for name in wanted}
    for start in range(0, len(histories), _BATCH):
        rows = [history.tolist() for history in histories[start : start + _BATCH]]
        inputs = {
            "item_ids": pad_left(rows, length=spec.length),
            "exclude_ids": np.zeros((len(rows), 1), dtype=np.int32),
        }
        for name, values in zip(wanted, session.run(wanted, {**feed, **inputs}), strict=True):
            limits[name].append(float(np.percentile(np.abs(values), percentile)))
    scales = {name: max(max(found), 1e-8) / 127.0 for name, found in limits.items()}
    bad = [name for name, scale in scales.items() if not np.isfinite(scale)]
    if bad:
        raise BuildError(
            f"activations of {', '.join(bad)} are not finite; the trained weights are broken: train again"
        )
    return Int8Scales(scoring=scales.pop("scoring"), linears=scales)
