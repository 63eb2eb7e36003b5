"""GPTQ and calibrators of a decoder: less error than rounding to nearest, the same graph, other scales."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from build_engines.models.causal.gptq import inverse_factor, round_columns
from build_engines.models.causal.options import TextOptions
from build_engines.models.causal.package import package_text
from build_engines.models.causal.perplexity import perplexity
from build_engines.models.causal.rounding import INT4_HIGH, INT4_LOW, int4_blocks
from server.engines.onnxruntime_causal import OnnxRuntimeCausal
from tests.build_engines.causal_models import random_model

BLOCK = 32
RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(0, 64, (4, 24)) for _ in range(3)]


def inputs(tokens: int, rows: int, seed: int = 0) -> torch.Tensor:
    """Correlated, with some large channels, as activations are."""
    generator = np.random.default_rng(seed)
    mixed = generator.standard_normal((tokens, 12)) @ generator.standard_normal((12, rows))
    sizes = generator.gamma(0.5, 2.0, rows) + 0.05
    return torch.from_numpy(((mixed + generator.standard_normal((tokens, rows))) * sizes).astype(np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_the_product_errs_less_than_with_rounding_to_nearest(seed: int) -> None:
    """On the inputs that it was found on the error of the product is well below that of the nearest codes."""
    x = inputs(512, 128, seed)
    weight = np.random.default_rng(seed + 10).standard_normal((128, 40)).astype(np.float32)

    codes, scales = round_columns(weight, inverse_factor(x), BLOCK)

    def lost(codes: np.ndarray, scales: np.ndarray) -> float:
        rounded = codes * np.repeat(scales, BLOCK, axis=0)
        return float(np.square(x.numpy() @ (rounded - weight)).sum())

    assert codes.min() >= INT4_LOW and codes.max() <= INT4_HIGH
    assert lost(codes, scales) < 0.6 * lost(*int4_blocks(weight, BLOCK))


def test_inputs_that_are_never_seen_leave_their_rows_at_the_nearest() -> None:
    """A channel of zeros has no say: its rows are rounded as they are, and nothing becomes infinite."""
    x = torch.zeros(64, 64)
    weight = np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32)

    codes, scales = round_columns(weight, inverse_factor(x), BLOCK)

    nearest, wanted = int4_blocks(weight, BLOCK)
    np.testing.assert_array_equal(codes, nearest)
    np.testing.assert_allclose(scales, wanted)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gptq") / "model"
    random_model("qwen2").save_pretrained(folder)
    return folder


def read(checkpoint: Path, folder: Path, **options: object) -> float:
    given = {"variant": "int4", "max_context": 64, "max_chunk": 32, **options}
    package_text(checkpoint, folder, options=TextOptions(**given), calibration=TEXTS)  # type: ignore[arg-type]
    engine = OnnxRuntimeCausal(folder / "model.onnx", pools={32: 4}, threads=1, max_chunk=32)
    try:
        return perplexity(engine, TEXTS[:1])
    finally:
        engine.close()


def test_a_packaged_engine_with_gptq_loads_its_fused_kernels(checkpoint: Path, tmp_path: Path) -> None:
    """Same kernels, same files; perplexity stays with the parent's, with AWQ's scales folded in too."""
    parent = read(checkpoint, tmp_path / "fp32", variant="fp32")

    for name, options in {"gptq": {}, "both": {"awq": True}}.items():
        found = read(checkpoint, tmp_path / name, rounding="gptq", **options)
        assert abs(found / parent - 1) < 0.25


@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "entropy", "mse"])
def test_every_calibrator_packages_a_decoder(checkpoint: Path, tmp_path: Path, calibrator: str) -> None:
    """INT8 with other ranges: fused everywhere (``package_text`` counts the kernels), and near the parent."""
    parent = read(checkpoint, tmp_path / "fp32", variant="fp32")
    found = read(checkpoint, tmp_path / calibrator, variant="int8", calibrator=calibrator, smooth=0.5)
    assert abs(found / parent - 1) < 0.25


def test_a_mixed_decoder_multiplies_each_matrix_as_it_was_told(checkpoint: Path, tmp_path: Path) -> None:
    """One matrix in float32, one in INT8, the rest in INT4: the runtime ran just these kernels."""
    package = package_text(
        checkpoint,
        tmp_path,
        options=TextOptions(
            variant="int4",
            max_context=64,
            max_chunk=32,
            precisions={"layers.0.down": "fp32", "head": "int8"},
        ),
        calibration=TEXTS,
    )

    assert package.kernels["MatMulNBits"] == 4 * 2 + 1 - 2
    assert sum(package.kernels.get(one, 0) for one in ("MatMulIntegerToFloat", "QLinearMatMul")) == 1
    proto = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False)
    assert sum(node.op_type == "QuantizeLinear" for node in proto.graph.node) == 1


def test_gptq_is_for_int4() -> None:
    """Asked for with INT8 it is refused by name."""
    with pytest.raises(ValueError, match="gptq rounds int4 weights, the variant is int8"):
        TextOptions(variant="int8", rounding="gptq")
