"""Models of somebody else's for tests: ONNX files written by hand, a module in a file, and rows for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES, HIDDEN, PRODUCTS = 12, 64, 40

MODULE = """
from pathlib import Path
import torch
from torch import nn
from build_engines.own_model.declared import DeclaredModel, DeclaredTensor

class Scorer(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(40, 8)
        self.body = nn.Sequential(nn.Linear(12 + 8, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, features, product):
        return (self.body(torch.cat([features, self.table(product)], dim=1)) + self.bias).squeeze(1)

def build(weights: Path, hidden: int = 64) -> DeclaredModel:
    scorer = Scorer(hidden)
    with torch.no_grad():
        scorer.bias.fill_(float(weights.read_text()))
    return DeclaredModel(
        module=scorer,
        inputs=(
            DeclaredTensor(name="features", dtype="float32", shape=("B", 12)),
            DeclaredTensor(name="product", dtype="int64", shape=("B",)),
        ),
        outputs=(DeclaredTensor(name="score", dtype="float32", shape=("B",)),),
        sample={"features": torch.zeros(2, 12), "product": torch.zeros(2, dtype=torch.int64)},
    )

def breaks(**options):
    raise OSError("no such bucket")

def nothing():
    return 3
"""


def rows(count: int, seed: int, *, labels: bool = False) -> dict[str, np.ndarray]:
    """Inputs of the scorer, and labels that its numbers decide."""
    own = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {
        "features": own.standard_normal((count, FEATURES)).astype(np.float32),
        "product": own.integers(0, PRODUCTS, count),
    }
    if labels:
        made["clicked"] = (made["features"].sum(axis=1) + own.standard_normal(count) > 0).astype(np.int64)
    return made


def save_rows(folder: Path) -> None:
    """``calibration.npz`` and ``gate.npz``."""
    np.savez(folder / "calibration.npz", **rows(256, 1))  # type: ignore[arg-type]
    np.savez(folder / "gate.npz", **rows(900, 2, labels=True))  # type: ignore[arg-type]


def graph(opset: int = 17, **changes: Any) -> onnx.ModelProto:
    """The same scorer as nodes: Gather, Concat, Gemm, Relu, Gemm."""
    own = np.random.default_rng(0)
    width = FEATURES + 8
    weights = {
        "table": own.standard_normal((PRODUCTS, 8)),
        "first": own.standard_normal((HIDDEN, width)) / 4,
        "first_bias": own.standard_normal(HIDDEN) / 10,
        "second": own.standard_normal((1, HIDDEN)) / 8,
        "second_bias": np.zeros(1),
    }
    nodes = [
        helper.make_node("Gather", ["table", "product"], ["vector"], name="look up"),
        helper.make_node("Concat", ["features", "vector"], ["joined"], name="join", axis=1),
        helper.make_node("Gemm", ["joined", "first", "first_bias"], ["hidden"], name="first", transB=1),
        helper.make_node(changes.get("activation", "Relu"), ["hidden"], ["active"], name="activation"),
        helper.make_node("Gemm", ["active", "second", "second_bias"], ["score"], name="second", transB=1),
    ]
    made = helper.make_graph(
        nodes,
        "scorer",
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", FEATURES]),
            helper.make_tensor_value_info("product", TensorProto.INT64, ["n"]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


RECIPE = """kind = "own"
source = "{source}"
[model]
name = "scorer"
[data]
calibration = "calibration.npz"
gate = "gate.npz"
labels = "clicked"
[quantize]
precision = "{precision}"
[serve]
max_batch = 64
[gate]
metric = "auc"
batch_sizes = [1, 64]
min_speedup = 0.01
rounds = 10
"""


def recipe(
    folder: Path, *, source: str = "onnx:scorer.onnx", precision: str = "int8", more: str = ""
) -> Path:
    """A recipe file beside what it names."""
    path = folder / "own.toml"
    path.write_text(RECIPE.format(source=source, precision=precision) + more, encoding="utf-8")
    return path
