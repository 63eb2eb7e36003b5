"""Which linears of a recommender stay in float32: measured on its queries, timed on the runtime that serves.

Loss of a plan: how far the best scores move from those with all linears in float32, over how far they are apart, on calibration
histories. The item table is INT8 (or product codes) in any case: it is where the bytes and the time are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from build_engines.compression.mixed import Mixed, Plan, mix
from build_engines.compression.node_times import product_times
from build_engines.export import Ingredients, graph_spec, stored_tables
from build_engines.models.sasrec_graph import Int8Scales, build_graph
from build_engines.onnx_writer import model_bytes
from build_engines.progress import Progress
from build_engines.quantize import quantize_catalogue
from build_engines.targets import onnxruntime_cpu
from server.encoding import tables
from server.encoding.items import pad_left

BATCH, ROUNDS, JUDGED = 8, 9, 256


def choose_linears(
    ingredients: Ingredients,
    histories: Sequence[npt.NDArray[np.integer[Any]]],
    scales: Int8Scales,
    budget: float,
    progress: Progress,
) -> tuple[Int8Scales, Mixed]:
    """The scales of those linears that become INT8, and how they were found.

    Args:
        ingredients: the trained model.
        histories: for calibration; the first ``JUDGED`` of them are asked.
        scales: of all linears.
        budget: how far scores may move.
        progress: told linear after linear.
    """
    bound = tables.engine_tables(quantize_catalogue(stored_tables(ingredients)))
    names = list(scales.linears)
    counts = [3 if name.endswith(".qkv") else 1 for name in names]
    asked = [history.tolist() for history in histories[:JUDGED]]

    def session(plan: Plan, options: ort.SessionOptions) -> ort.InferenceSession:
        linears = {name: scale for name, scale in scales.linears.items() if plan.get(name) == "int8"}
        spec = graph_spec(ingredients, masked=False)
        model = build_graph(spec, ingredients.weights, replace(scales, linears=linears))
        packed = {name: table for name, table in bound.items() if name in tables.PACKED}
        proto = onnxruntime_cpu.package(onnx.load_from_string(model_bytes(model)), packed)
        values = [ort.OrtValue.ortvalue_from_numpy(table) for table in packed.values()]
        options.add_external_initializers(list(packed), values)
        return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def scored(plan: Plan) -> npt.NDArray[np.float64]:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        made = session(plan, options)
        found = [
            made.run(["scores"], _feed(bound, asked[start : start + BATCH], ingredients))[0]
            for start in range(0, len(asked), BATCH)
        ]
        return np.concatenate(found).astype(np.float64)

    wanted_BK = scored({})

    def loss(plan: Plan) -> float:
        gaps_BK = scored(plan) - wanted_BK
        spread = np.abs(wanted_BK - wanted_BK.mean(axis=1, keepdims=True)).mean()
        return float(np.abs(gaps_BK).mean() / max(spread, 1e-12))

    feed = _feed(bound, asked[:BATCH], ingredients)

    def times(precision: str) -> list[float]:
        found = product_times(
            lambda options: session(dict.fromkeys(names, precision), options),
            lambda made: made.run(["scores"], feed),
            precision=precision,
            products=counts,
            rounds=ROUNDS,
        )
        return [float(one) for one in found]

    seconds = {precision: times(precision) for precision in ("fp32", "int8")}
    found = mix(
        names,
        ("fp32", "int8"),
        loss=loss,
        seconds=seconds,
        budget=budget,
        unit="of the spread of the best scores",
        progress=progress,
    )
    linears = {name: scale for name, scale in scales.linears.items() if found.plan[name] == "int8"}
    return replace(scales, linears=linears), found


def _feed(
    bound: Mapping[str, npt.NDArray[Any]], histories: Sequence[Sequence[int]], ingredients: Ingredients
) -> dict[str, npt.NDArray[Any]]:
    length = len(ingredients.weights["position_LD"])
    return {
        **{name: table for name, table in bound.items() if name not in tables.PACKED},
        "item_ids": pad_left(histories, length=length),
        "exclude_ids": np.zeros((len(histories), 1), np.int32),
    }
