"""Ranges of a graph's inner values on calibration rows: the graph itself is run, with those values as outputs.

Suffix: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort

from build_engines.errors import BuildError
from build_engines.own_model.recipe_parts import OwnQuantizePart
from build_engines.own_model.rows import Rows, count_rows, take
from server.artifacts.manifest import TensorInfo

_BATCH = 64


def activation_scales(
    model: onnx.ModelProto,
    names: Sequence[str],
    rows: Rows,
    inputs: Sequence[TensorInfo],
    part: OwnQuantizePart,
) -> dict[str, float]:
    """Scales of symmetric s8 codes for values of the graph, by their names.

    Args:
        model: the FP32 graph.
        names: of the values.
        rows: to run it on.
        inputs: of the graph.
        part: how the range is read: the largest absolute value, or the percentile of them in each batch, of which the largest
            holds (so that one row does not stretch the range of all).

    Raises:
        BuildError: a value is not finite; names it.
    """
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    outputs = {value.name for value in observed.graph.output}
    given = {value.name for value in observed.graph.input}
    for name in names:
        if name not in outputs and name not in given:
            observed.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # Values are read as the graph has them; a fused node would have hidden some.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = [name for name in names if name not in given]
    limits = dict.fromkeys(names, 0.0)
    for start in range(0, count_rows(rows, inputs), _BATCH):
        feed = take(rows, inputs, slice(start, start + _BATCH))
        found = dict(zip(wanted, session.run(wanted, feed), strict=True)) if wanted else {}
        for name in names:
            values = np.abs(found[name] if name in found else feed[name])
            if not np.isfinite(values).all():
                raise BuildError(
                    f"calibration: {name} is not finite on rows {start} to {start + _BATCH - 1}; look at those rows, or keep "
                    "its product as it is (quantize.exclude)"
                )
            if values.size:
                limits[name] = max(limits[name], _limit(values, part))
    return {name: max(limit, 1e-8) / 127.0 for name, limit in limits.items()}


def _limit(values: np.ndarray, part: OwnQuantizePart) -> float:
    if part.method == "minmax":
        return float(values.max())
    return float(np.percentile(values, part.percentile))
