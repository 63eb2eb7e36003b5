"""Mixed precision from a checkpoint to a graph: measured, chosen, written, and counted by the runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from build_engines.compile import TargetSpec, compile_graph
from build_engines.compression.mixed_parts import MixedPart
from build_engines.compression.node_times import product_times
from build_engines.errors import BuildError
from build_engines.export import export_graph, stored_tables
from build_engines.mixed_linears import choose_linears
from build_engines.models.causal import mixed as causal
from build_engines.models.causal.options import TextOptions
from build_engines.models.causal.package import package_text
from build_engines.models.encoder import mixed as encoder
from build_engines.models.encoder.options import EncoderOptions
from build_engines.models.encoder.package import package_encoder
from build_engines.progress import Silent
from build_engines.quantize import calibrate, quantize_catalogue
from tests import tiny
from tests.build_engines.causal_models import random_model as random_decoder
from tests.build_engines.encoder_models import random_model, save_checkpoint, texts

PART = MixedPart(budget=1e-4, rounds=3, texts=6)


def test_an_encoder_keeps_in_float32_what_it_cannot_spare(tmp_path: Path) -> None:
    """A tight budget leaves some products as they were, the package has just the others in INT8, and the loss is within."""
    save_checkpoint(random_model("bert"), tmp_path / "c")

    kept, found = encoder.choose_products(tmp_path / "c", EncoderOptions(), texts(12), PART, Silent())

    assert 0 <= found.loss <= PART.budget
    assert len(found.table) == 8
    package = package_encoder(
        tmp_path / "c", tmp_path / "out", options=EncoderOptions(kept=kept), calibration=texts(12)
    )
    integer = sum(package.kernels.get(one, 0) for one in ("MatMulIntegerToFloat", "QLinearMatMul"))
    assert integer == 12 - sum(3 if name.endswith(".qkv") else 1 for name in kept)


def test_a_product_that_there_is_not_cannot_be_kept(tmp_path: Path) -> None:
    """A name from another encoder is refused with what there is."""
    save_checkpoint(random_model("bert"), tmp_path / "c")
    with pytest.raises(BuildError, match=r"'layers\.9\.up' is to stay in float32"):
        package_encoder(
            tmp_path / "c",
            tmp_path / "out",
            options=EncoderOptions(kept=("layers.9.up",)),
            calibration=texts(4),
        )


def test_a_decoder_mixes_three_precisions_by_what_each_matrix_loses(tmp_path: Path) -> None:
    """No plan loses more than its budget, and the packaged graph is the plan."""
    random_decoder("qwen2").save_pretrained(tmp_path / "c")
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 64, (4, 24)) for _ in range(2)]
    options = TextOptions(variant="int4", max_context=64, max_chunk=32)

    precisions, found = causal.choose_products(tmp_path / "c", options, batches, PART, Silent())

    assert 0 <= found.loss <= PART.budget < found.all_low
    assert all(one.alone >= 0 for one in found.table)
    package = package_text(
        tmp_path / "c",
        tmp_path / "out",
        options=TextOptions(variant="int4", max_context=64, max_chunk=32, precisions=precisions),
        calibration=batches,
    )
    assert package.kernels.get("MatMulNBits", 0) == sum(one == "int4" for one in found.plan.values())


def test_nothing_is_measured_on_no_texts(tmp_path: Path) -> None:
    """Each family says what it needs."""
    save_checkpoint(random_model("bert"), tmp_path / "c")
    with pytest.raises(BuildError, match="needs calibration texts"):
        encoder.choose_products(tmp_path / "c", EncoderOptions(), [], PART, Silent())
    random_decoder("qwen2").save_pretrained(tmp_path / "d")
    with pytest.raises(BuildError, match="needs calibration texts"):
        causal.choose_products(tmp_path / "d", TextOptions(variant="int8"), [], PART, Silent())


def test_a_graph_that_fell_back_cannot_be_timed() -> None:
    """Fewer multiplications than there are products is said with both numbers."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)
    with pytest.raises(ValueError, match=r"1 MatMul .* ran, there must be 2"):
        product_times(
            lambda options: ort.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            ),
            lambda session: session.run(None, {"x": np.ones((1, 4), np.float32)}),
            precision="fp32",
            products=[1, 1],
            rounds=2,
        )


def test_a_recommender_keeps_linears_in_float32_that_move_its_scores(tmp_path: Path) -> None:
    """With nothing to spend all stay; with much to spend those become INT8 that are faster in it."""
    parts = tiny.ingredients(12)
    rng = np.random.default_rng(1)
    histories = [rng.integers(1, tiny.ITEMS, 8) for _ in range(24)]
    scales = calibrate(parts, histories, scope="all")

    none, found = choose_linears(parts, histories, scales, 1e-9, Silent())
    assert none.linears == {} and found.loss == 0.0

    some, found = choose_linears(parts, histories, scales, 10.0, Silent())
    record = export_graph(tmp_path, parts, stored=quantize_catalogue(stored_tables(parts)), int8=some)
    compile_graph(tmp_path, tmp_path, record, [TargetSpec(kind="onnxruntime")])  # counts the kernels
    assert found.loss <= 10.0
    assert set(some.linears) == {name for name, one in found.plan.items() if one == "int8"}
