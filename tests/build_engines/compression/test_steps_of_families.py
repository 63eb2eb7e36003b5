"""Every pruning step on each real family: it runs, what comes out is what was asked for, and a saved model is the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from build_engines.compression import registry
from build_engines.compression.families.decoder import open_decoder
from build_engines.compression.families.encoder import open_encoder
from build_engines.compression.families.recommender import open_recommender
from build_engines.compression.learning import LearningOptions
from build_engines.compression.model import Compressible, Keep
from build_engines.compression.semi_structured import is_two_of_four
from build_engines.compression.sharing import share_again
from build_engines.compression.step import StepRecord, StepWork
from build_engines.errors import BuildError
from build_engines.models.causal import package as causal_package
from build_engines.models.causal.options import TextOptions
from build_engines.models.encoder import package as encoder_package
from build_engines.models.encoder.options import EncoderOptions
from build_engines.progress import Silent
from build_engines.targets import tensorrt_plan
from tests.build_engines.causal_models import CONTEXT
from tests.build_engines.compression import test_decoder_family as decoders
from tests.build_engines.compression import test_encoder_family as encoders
from tests.build_engines.compression.test_recommender_family import model as recommender_model  # noqa: F401
from tests.build_engines.encoder_models import save_checkpoint

RECOVERY = LearningOptions(epochs=1, learning_rate=1e-3)
STEPS: dict[str, dict[str, Any]] = {
    "magnitude": {"step": "prune_weights", "sparsity": 0.5, "rounds": 2, "recovery": RECOVERY},
    "wanda": {"step": "prune_weights", "method": "wanda", "sparsity": 0.5},
    "sparsegpt 2:4": {"step": "prune_weights", "method": "sparsegpt", "pattern": "2:4"},
    "movement": {"step": "prune_weights", "method": "movement", "sparsity": 0.5, "recovery": RECOVERY},
    "l1": {"step": "prune_weights", "method": "l1", "sparsity": 0.5, "recovery": RECOVERY},
    "heads": {"step": "prune_heads", "keep": 0.5, "importance": "taylor"},
    "inner": {
        "step": "prune_inner",
        "keep": 0.5,
        "multiple": 4,
        "importance": "taylor",
        "recovery": RECOVERY,
    },
    "width": {"step": "prune_width", "keep": 0.5, "multiple": 4},
    "blocks": {"step": "prune_blocks", "keep": 1, "importance": "removal"},
    "shared": {"step": "share_blocks", "keep": 1, "recovery": RECOVERY},
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a decoder and an encoder; written once."""
    folder = tmp_path_factory.mktemp("checkpoints")
    save_checkpoint(encoders.random_model("bert"), folder / "encoder")
    return {"encoder": folder / "encoder", "decoder": decoders.saved("qwen3", folder / "decoder")}


@pytest.fixture(params=["recommender", "decoder", "encoder"])
def model(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Any:
    """A model of each family, of its own."""
    if request.param == "recommender":
        return request.getfixturevalue("recommender_model").narrowed(Keep())
    if request.param == "decoder":
        return decoders.opened(checkpoints["decoder"])
    return encoders.opened(checkpoints["encoder"])


def ran(model: Any, folder: Path, **options: Any) -> tuple[Any, StepRecord]:
    step = registry.find(options.pop("step"))
    work = StepWork(scratch=folder, progress=Silent(), parent=model.narrowed(Keep()))
    result: tuple[Any, StepRecord] = step.run(model, step.options(**options), work)
    return result


def reopened(model: Any, folder: Path) -> Any:
    """The same model from its files, as the next step of a chain gets it."""
    folder.mkdir()
    model.save(folder)
    if model.family == "recommender":
        return open_recommender(folder, model.sasrec.config, model.data)
    return (open_decoder if model.family == "decoder" else open_encoder)(folder, model.data)


def zeros(model: Compressible) -> float:
    weights = [model.module.get_parameter(f"{name}.weight") for one in model.blocks for name in one.linears]
    return sum(int((one == 0).sum()) for one in weights) / sum(one.numel() for one in weights)


@pytest.mark.parametrize("name", list(STEPS))
def test_a_step_runs_on_every_family_and_what_it_made_is_saved(model: Any, name: str, tmp_path: Path) -> None:
    """Zeros or shapes as asked for, and a model that is read again judges as it did."""
    before = model.sizes

    after, record = ran(model, tmp_path / "work", **STEPS[name])
    again = reopened(after, tmp_path / "saved")

    assert again.sizes == after.sizes and again.judge() == pytest.approx(after.judge(), rel=1e-4)
    if STEPS[name]["step"] == "prune_weights":
        assert zeros(again) == pytest.approx(0.5, abs=0.02) and record.figures["sparsity"] == zeros(after)
        if name == "sparsegpt 2:4":
            names = [linear for block in again.blocks for linear in block.linears]
            assert all(is_two_of_four(again.module.get_parameter(f"{one}.weight")) for one in names)
    elif name == "shared":
        assert share_again(again) == before.blocks - 1
    else:
        field = {"width": "dim"}.get(name, name)
        assert getattr(after.sizes, field) == (1 if name == "blocks" else getattr(before, field) // 2)
        assert record.figures["parameters after"] < record.figures["parameters before"]


def test_rows_go_where_a_family_can_do_without_them(model: Any, tmp_path: Path) -> None:
    """Items and words have a row that stands for them; a decoder writes its tokens, and says so."""
    if model.family == "decoder":
        with pytest.raises(BuildError, match=r"prune_rows.*a decoder writes tokens"):
            ran(model, tmp_path / "work", step="prune_rows", keep=0.5)
        return

    after, record = ran(model, tmp_path / "work", step="prune_rows", keep=0.5, recovery=RECOVERY)

    assert after.sizes.rows <= model.sizes.rows // 2 + 2  # the row that stands for the others among them
    assert record.figures["loss after"] <= record.figures["loss pruned"]
    assert reopened(after, tmp_path / "saved").judge() == pytest.approx(after.judge(), rel=1e-4)


def test_a_package_of_shared_blocks_is_smaller(model: Any, tmp_path: Path) -> None:
    """What is published of a decoder or an encoder holds the blocks' matrices once, on disk."""
    if model.family == "recommender":
        pytest.skip("its graph: test_shared_storage")
    sizes = []
    for name in ("plain", "shared"):
        if name == "shared":
            model, _ = ran(model, tmp_path / "work", step="share_blocks", keep=1)
        saved, package = tmp_path / f"{name}-saved", tmp_path / f"{name}-package"
        saved.mkdir()
        package.mkdir()
        model.save(saved)
        if model.family == "decoder":
            causal_package.package_text(
                saved, package, options=TextOptions(variant="fp32", max_context=CONTEXT, max_chunk=64)
            )
        else:
            encoder_package.package_encoder(saved, package, options=EncoderOptions(variant="fp32"))
        sizes.append(sum(one.stat().st_size for one in package.rglob("*") if one.is_file()))

    block = 4 * sum(one.numel() for one in model.module.get_submodule(model.blocks[0].block).parameters())
    assert sizes[0] - sizes[1] > 0.8 * (model.sizes.blocks - 1) * block


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_a_plan_of_a_model_that_is_two_of_four_is_built_with_the_sparse_kernels(
    model: Any, tmp_path: Path, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real builder for RTX, from the checkpoint that the step left, also where weights are rounded to INT8 behind it."""
    pytest.importorskip("tensorrt_rtx")
    if model.family == "recommender":
        pytest.skip("its plan: test_sparse_plans")
    found: list[int] = []
    look = tensorrt_plan.sparse_matmuls

    def looked(graph: onnx.ModelProto) -> tuple[str, ...]:
        names = look(graph)
        found.append(len(names))
        return names

    monkeypatch.setattr(tensorrt_plan, "sparse_matmuls", looked)
    pruned, _ = ran(model, tmp_path / "work", **STEPS["sparsegpt 2:4"])
    saved = tmp_path / "saved"
    saved.mkdir()
    pruned.save(saved)
    common: dict[str, Any] = {"kind": "tensorrt_rtx", "capability": "sm86", "max_batch": 4}
    if model.family == "decoder":
        options = TextOptions(variant=variant, max_context=CONTEXT, max_chunk=64)
        calibration = [pair.ids[None] for pair in pruned.data.calibration]
        plan = causal_package.compile_plan(saved, options=options, calibration=calibration, **common)
    else:
        texts = list(pruned.data.calibration)
        plan = encoder_package.compile_plan(
            saved, options=EncoderOptions(variant=variant), calibration=texts, **common
        )

    assert len(plan) > 10_000
    assert (
        found[0] >= pruned.sizes.blocks * 4
    )  # of each block: queries with keys and values, out, and two or three more
