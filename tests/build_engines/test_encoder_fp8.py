"""FP8 for GPUs that have it: built by the real builder, refused with a sentence where nothing multiplies it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from build_engines.encoder.recipe_parts import PackageEncoderPart
from build_engines.errors import BuildError, TargetError
from build_engines.models.causal.checkpoint import Checkpoint
from build_engines.models.encoder.architecture import read_architecture
from build_engines.models.encoder.graph import EncoderForm, build_graph, fp8_scale
from build_engines.models.encoder.layout import find_layout
from build_engines.models.encoder.options import EncoderOptions
from build_engines.models.encoder.package import compile_plan, package_encoder
from build_engines.onnx_writer import model_bytes
from tests.build_engines.encoder_models import random_model, save_checkpoint

TEXTS = [np.array([2, 5, 9, 11, 3], np.int64), np.array([7, 8], np.int64)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fp8") / "bert"
    save_checkpoint(random_model("bert"), folder)
    return folder


def test_the_real_rtx_builder_makes_an_fp8_plan_for_ada(checkpoint: Path) -> None:
    """Every product in E4M3, and a plan comes out that is made for SM89."""
    pytest.importorskip("tensorrt_rtx")

    plan = compile_plan(
        checkpoint,
        kind="tensorrt_rtx",
        capability="sm89",
        options=EncoderOptions(variant="fp8"),
        max_batch=4,
        max_tokens=16,
        calibration=TEXTS,
    )

    assert len(plan) > 10_000


def test_the_graph_is_checked_and_each_product_has_codes_of_one_byte(checkpoint: Path) -> None:
    """Weights and inputs of all products go through E4M3, and no code is beyond what it holds."""
    arch = read_architecture(checkpoint)
    with Checkpoint(checkpoint) as tensors:
        layout = find_layout(arch, tensors)
        names = [matrix.name for layer in layout.layers for matrix in layer.matrices]
        model = build_graph(arch, layout, tensors, EncoderForm(fp8_inputs=dict.fromkeys(names, 6.0)))

    proto = onnx.ModelProto.FromString(model_bytes(model))

    codes = [one for one in proto.graph.initializer if one.name.endswith(".codes")]
    assert len(codes) == 6 * arch.layers
    assert {one.data_type for one in codes} == {onnx.TensorProto.FLOAT8E4M3FN}
    for one in codes:
        assert np.isfinite(ir.from_proto(one).numpy().astype(np.float32)).all()
    assert fp8_scale(448.0) == 1.0


def test_a_cpu_engine_in_fp8_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """The CPU multiplies no FP8, and says what to use instead."""
    with pytest.raises(BuildError, match='use "int8"'):
        package_encoder(checkpoint, tmp_path, options=EncoderOptions(variant="fp8"), calibration=TEXTS)


def test_a_gpu_without_fp8_is_refused_with_those_that_have_it(checkpoint: Path) -> None:
    """Ampere is named as what cannot, Ada as what can."""
    with pytest.raises(TargetError, match=r"sm86 has no FP8; there are sm89"):
        compile_plan(
            checkpoint,
            kind="tensorrt_rtx",
            capability="sm86",
            options=EncoderOptions(variant="fp8"),
            max_batch=4,
            calibration=TEXTS,
        )


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"plan_variant": "fp8"}, "every target runs on the CPU"),
        (
            {"plan_variant": "fp8", "targets": ("onnxruntime", "tensorrt_rtx:sm75")},
            "tensorrt_rtx:sm75 has no FP8",
        ),
        ({"variant": "fp8"}, "the engine runs on the CPU"),
    ],
)
def test_a_recipe_that_asks_for_fp8_where_there_is_none_is_refused(fields: dict, complaint: str) -> None:
    """Before anything is built: the field, the target, and what to write."""
    with pytest.raises(ValueError, match=complaint):
        PackageEncoderPart(**fields)
