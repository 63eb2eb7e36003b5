"""A model of one's own to try the line with: a click scorer in PyTorch, as a factory and as an ONNX file, with rows for both.

    python -m build_engines.own_model.example my_model
    python -m build_engines run my_model/own_python.toml
    python -m build_engines run my_model/own_onnx.toml

Shoppers click by a rule that the scorer does not know and learns from rows in a few seconds; other rows calibrate it, and others
judge it. Everything is drawn from one seed.

Suffixes: N rows, F features.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from build_engines.own_model.declared import DeclaredModel, DeclaredTensor
from build_engines.own_model.python_source import export_declared
from build_engines.own_model.rows import save_rows
from build_engines.recipe import RECIPES

FEATURES, PRODUCTS, DIM, HIDDEN = 24, 2000, 32, 512
TRAIN_ROWS, CALIBRATION_ROWS, GATE_ROWS = 60_000, 2048, 20_000
BATCH_ROWS, LEARNING_RATE = 512, 2e-3
RECIPE_FILES = ("own_python.toml", "own_onnx.toml")
Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class Scorer(nn.Module):
    """How likely a click is: numbers of the page and a product, through two wide layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(PRODUCTS, DIM)
        self.body = nn.Sequential(
            nn.Linear(FEATURES + DIM, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, 1),
        )

    def forward(self, features: Tensor, product: Tensor) -> Tensor:
        """Probability of a click, ``[N]``."""
        joined = torch.cat([features, self.table(product)], dim=1)
        probability: Tensor = torch.sigmoid(self.body(joined)).squeeze(1)
        return probability


def build(weights: Path) -> DeclaredModel:
    """The factory that ``own_python.toml`` names."""
    scorer = Scorer()
    scorer.load_state_dict(load_file(str(weights)))
    return DeclaredModel(
        module=scorer,
        inputs=(
            DeclaredTensor(name="features", dtype="float32", shape=("B", FEATURES)),
            DeclaredTensor(name="product", dtype="int64", shape=("B",)),
        ),
        outputs=(DeclaredTensor(name="probability", dtype="float32", shape=("B",)),),
        sample={"features": torch.zeros(2, FEATURES), "product": torch.zeros(2, dtype=torch.int64)},
    )


def draw(rows: int, seed: int) -> tuple[Floats, Ids, npt.NDArray[np.int64]]:
    """Features ``[N, F]``, products ``[N]``, and whether each was clicked ``[N]``."""
    rule = np.random.default_rng(7)
    numbers, mixed, liked = (
        rule.standard_normal(FEATURES),
        rule.standard_normal((FEATURES, 8)),
        rule.standard_normal(PRODUCTS),
    )
    own = np.random.default_rng([seed, rows])
    features = own.standard_normal((rows, FEATURES)).astype(np.float32)
    product = own.integers(0, PRODUCTS, rows)
    logit = features @ numbers / 3 + np.tanh(features @ mixed / 3).prod(axis=1) + liked[product] - 1.0
    return features, product, (own.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)


def train(seed: int = 0) -> Scorer:
    """Learn the rule from rows, in a few seconds of one core."""
    torch.manual_seed(seed)
    scorer = Scorer()
    features, product, clicked = (torch.from_numpy(one) for one in draw(TRAIN_ROWS, 1))
    optimizer = torch.optim.Adam(scorer.parameters(), lr=LEARNING_RATE)
    order = torch.randperm(TRAIN_ROWS)
    for start in range(0, TRAIN_ROWS, BATCH_ROWS):
        at = order[start : start + BATCH_ROWS]
        loss = nn.functional.binary_cross_entropy(scorer(features[at], product[at]), clicked[at].float())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return scorer.eval()


def write(folder: Path) -> None:
    """Everything that the two recipes name, and the recipes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(train().state_dict(), str(folder / "scorer.safetensors"))
    for name, rows, seed in (("calibration", CALIBRATION_ROWS, 2), ("gate", GATE_ROWS, 3)):
        features, product, clicked = draw(rows, seed)
        labels = {"clicked": clicked} if name == "gate" else {}
        save_rows(folder / f"{name}.npz", {"features": features, "product": product, **labels})
    declared = build(folder / "scorer.safetensors")
    (folder / "scorer.onnx").write_bytes(export_declared("the example", declared).SerializeToString())
    for name in RECIPE_FILES:
        shutil.copyfile(RECIPES / name, folder / name)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the example into a folder."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m build_engines.own_model.example FOLDER", file=sys.stderr)
        return 2
    write(Path(arguments[0]))
    print(f"{arguments[0]}: build it with `python -m build_engines run {arguments[0]}/{RECIPE_FILES[0]}`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
