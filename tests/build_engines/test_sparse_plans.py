"""Weights that are 2:4 are seen in a graph, whatever form they have there, and TensorRT is allowed its sparse kernels then only."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
import torch

from build_engines.compile import TargetSpec, compile_graph
from build_engines.compression.semi_structured import two_of_four
from build_engines.export import export_graph, stored_tables
from build_engines.onnx_writer import OnnxWriter, model_bytes
from build_engines.targets import tensorrt_plan
from build_engines.targets.sparse_matmuls import sparse_matmuls
from build_engines.targets.tensorrt_plan import Range, build_plan
from tests import tiny

K, N = 64, 32
WEIGHT_KN = np.random.default_rng(0).standard_normal((K, N)).astype(np.float32)


def two_in_four(weight_KN: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The same along K, as a step prunes a linear ``[N, K]``."""
    weight = torch.from_numpy(weight_KN.T.copy())
    return np.ascontiguousarray(weight.masked_fill(two_of_four(weight.abs()), 0.0).numpy().T)


def graph(weight_KN: npt.NDArray[np.float32], form: str) -> bytes:
    """``x @ weight`` with a weight that is stored as float32, as INT8 codes, or turned."""
    w = OnnxWriter("sparse")
    x = w.input("x", "float32", ["B", K])
    if form == "int8":
        scales = np.abs(weight_KN).max(0) / 127
        codes = np.round(weight_KN / scales).astype(np.int8)
        weight = w.op("DequantizeLinear", w.constant(codes), w.constant(scales.astype(np.float32)), axis=1)
    elif form == "turned":
        weight = w.op("Transpose", w.constant(weight_KN.T), perm=[1, 0])
    else:
        weight = w.constant(weight_KN)
    y: ir.Value = w.op("MatMul", x, weight)
    return model_bytes(w.model({"y": (y, "float32", ["B", N])}))


@pytest.mark.parametrize("form", ["float32", "int8", "turned"])
def test_two_of_four_is_seen_along_the_axis_that_is_summed_over(form: str) -> None:
    """Dense weights are not, nor are those that are 2:4 along the outputs alone, nor with one weight too many."""
    sparse = two_in_four(WEIGHT_KN)
    wrong_axis = two_in_four(np.ascontiguousarray(WEIGHT_KN[:N].T)).T  # [N, N], 2:4 along the outputs
    spoiled = sparse.copy()
    spoiled[8:11, 5] = 1.0

    def seen(weight: npt.NDArray[np.float32]) -> int:
        return len(sparse_matmuls(onnx.load_from_string(graph(weight, form))))

    assert seen(sparse) == 1
    assert seen(WEIGHT_KN) == 0
    assert seen(np.ascontiguousarray(np.concatenate([wrong_axis, wrong_axis]))) == 0
    assert seen(spoiled) == 0


@pytest.mark.parametrize("form", ["float32", "int8"])
@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
def test_the_plan_is_built_with_the_flag_where_weights_are_two_of_four(
    form: str, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real builder for RTX, ahead of time for Ampere; the flag is what its configuration held at the build."""
    trt = pytest.importorskip("tensorrt_rtx")
    flags: list[bool] = []

    class Builder(trt.Builder):  # type: ignore[misc]
        def build_serialized_network(self, network: Any, config: Any) -> Any:
            flags.append(config.get_flag(trt.BuilderFlag.SPARSE_WEIGHTS))
            return super().build_serialized_network(network, config)

    monkeypatch.setattr(trt, "Builder", Builder)
    weight = two_in_four(WEIGHT_KN) if sparse else WEIGHT_KN
    profile = {"x": Range(low=(1, K), usual=(8, K), high=(32, K))}

    plan = build_plan("tensorrt_rtx", graph(weight, form), profile, attention=0, capability="sm86")

    assert len(plan) > 1000
    assert flags == [sparse]


def test_the_plan_of_a_pruned_recommender_is_built_with_the_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole engine whose linears the step prune_weights made 2:4: the graph of the export has them all as 2:4."""
    trt = pytest.importorskip("tensorrt_rtx")
    parts = tiny.ingredients(1)
    weights: Any = dict(parts.weights)
    for name, array in parts.weights.items():
        if name.startswith("blocks.") and array.ndim == 2:
            weights[name] = two_in_four(array)
    parts = dataclasses.replace(parts, weights=weights)
    record = export_graph(tmp_path, parts, stored=stored_tables(parts), int8=None)
    source = onnx.load(str(tmp_path / record.file))
    assert len(sparse_matmuls(source)) == 2 * 6  # of each block: queries, keys, values, out, up, down

    asked: list[tuple[str, ...]] = []
    look = tensorrt_plan.sparse_matmuls
    monkeypatch.setattr(
        tensorrt_plan, "sparse_matmuls", lambda model: (asked.append(look(model)), asked[-1])[1]
    )
    targets = compile_graph(tmp_path, tmp_path, record, [TargetSpec.parse("tensorrt_rtx:sm86")])

    assert len(targets) == 2 and all(asked)
    assert trt.__version__ in targets[0].built_with["tensorrt_rtx"]
