"""Rounding in training is the rounding of the engine; what comes out survives it to the bit, and is better than rounding alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from build_engines.compression import finetune, qat
from build_engines.compression.fake_quant import InputStep, Int4Blocks, Int8Rows, int4_rounded, int8_rounded
from build_engines.compression.finetune import FinetuneOptions
from build_engines.compression.model import Keep
from build_engines.compression.qat import QatOptions
from build_engines.errors import BuildError
from build_engines.models.causal.rounding import int4_blocks, int8_codes, int8_scales
from tests.build_engines.compression.learning_cases import Killed, KilledAt, teacher, work
from tests.build_engines.compression.tiny_model import TinyModel, trained

LEARNS: dict[str, Any] = {"epochs": 8, "learning_rate": 3e-3, "checkpoint_every": 4}


def matrix(seed: int, outputs: int, inputs: int) -> torch.Tensor:
    scale = 10.0 ** torch.randint(-4, 3, (1,), generator=torch.Generator().manual_seed(seed))
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)) * scale


@given(seed=st.integers(0, 500), outputs=st.integers(1, 9), blocks=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_rounding_is_that_of_the_engine(seed: int, outputs: int, blocks: int) -> None:
    """The same values as the quantizers of the package stage give, which find them again when they round once more."""
    weight = matrix(seed, outputs, 16 * blocks)
    columns = np.ascontiguousarray(weight.numpy().T)

    scales = int8_scales(np.abs(columns).max(axis=0))
    eight = int8_codes(columns, scales) * scales
    codes, block_scales = int4_blocks(columns, 16)
    four = codes * np.repeat(block_scales, 16, axis=0)

    assert np.allclose(int8_rounded(weight).numpy().T, eight, rtol=1e-6, atol=0)
    assert np.allclose(int4_rounded(weight, 16).numpy().T, four, rtol=1e-6, atol=0)
    again, _ = int4_blocks(np.ascontiguousarray(int4_rounded(weight, 16).numpy().T), 16)
    kept = int8_rounded(weight).numpy().T
    assert np.allclose(
        int4_rounded(int4_rounded(weight, 16), 16), int4_rounded(weight, 16), rtol=1e-5, atol=0
    )
    assert np.array_equal(
        int8_codes(kept, int8_scales(np.abs(kept).max(axis=0))), int8_codes(columns, scales)
    )
    assert again.shape == codes.shape


def test_gradients_pass_straight_through() -> None:
    """The gradient of a rounded weight is that of the weight; a cut-off input passes none, and its step learns to be larger."""
    weight = matrix(0, 3, 16).requires_grad_()
    for rounding in (Int8Rows(), Int4Blocks(16)):
        (grad,) = torch.autograd.grad((rounding(weight) * torch.arange(16)).sum(), weight)
        assert torch.equal(grad, torch.arange(16.0).expand(3, -1))

    step = InputStep(-1.0, 1.0, signed=True)
    x = torch.tensor([0.3, 5.0], requires_grad=True)
    ((step(x) - x.detach()) ** 2).sum().backward()

    assert x.grad is not None and step.step.grad is not None
    assert x.grad[1] == 0 and float(step.step.grad) < 0


@pytest.mark.parametrize("signed", [True, False])
def test_an_input_within_its_range_is_off_by_half_a_step_at_most(signed: bool) -> None:
    """256 codes between the least and the largest value seen; 0 is one of them."""
    step = InputStep(-0.2, 3.0, signed=signed)
    x = torch.linspace(-0.2, 3.0, 1001)

    assert float((step(x) - x).abs().max()) <= float(step.step) * 0.51
    assert float(step(torch.zeros(1))) == 0.0


@pytest.mark.parametrize(
    "options", [{"bits": 8}, {"bits": 4, "block": 16}, {"bits": 8, "inputs": False, "scope": "all"}]
)
def test_what_comes_out_is_rounded_already_and_no_worse_than_rounding_alone(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """Plain linears, no hook and no parameter more; the package stage's rounding changes no weight of them."""
    model = teacher()

    tuned, record = qat.STEP.run(model, QatOptions(**LEARNS, **options), work(tmp_path, teacher()))

    assert record.figures["loss after"] <= record.figures["loss before"]
    for block in tuned.blocks:
        for name in block.linears:
            linear = tuned.module.get_submodule(name)
            assert type(linear) is nn.Linear and not linear._forward_pre_hooks
            weight = linear.weight.detach()
            seen = int8_rounded(weight) if options["bits"] == 8 else int4_rounded(weight, options["block"])
            assert torch.allclose(seen, weight, rtol=1e-5, atol=0)
    assert tuned.judge() == pytest.approx(record.figures["loss after"], abs=0.02)
    assert set(dict(tuned.module.named_parameters())) == set(dict(teacher().module.named_parameters()))


def test_training_with_rounding_beats_rounding_after_training(tmp_path: Path) -> None:
    """With as many steps from the same weights, INT4's held-out loss is lower."""
    (tmp_path / "b").mkdir()
    start = trained(TinyModel(), epochs=6)
    after, _ = finetune.STEP.run(start.narrowed(Keep()), FinetuneOptions(**LEARNS), work(tmp_path, start))
    with torch.no_grad():
        for name in (name for block in after.blocks for name in block.linears):
            weight = after.module.get_submodule(name).get_parameter("weight")
            weight.copy_(int4_rounded(weight, 128))

    options = QatOptions(**LEARNS, bits=4, block=128)
    with_it, _ = qat.STEP.run(start.narrowed(Keep()), options, work(tmp_path / "b", start))

    assert with_it.judge() < after.judge() - 0.001


@pytest.mark.parametrize("stop", [3, 17])
def test_a_run_that_was_killed_ends_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    """Learnt step sizes are part of a checkpoint."""
    options = QatOptions(**LEARNS)
    whole, _ = qat.STEP.run(teacher(), options, work(tmp_path, teacher()))
    folder = tmp_path / "again"
    folder.mkdir()
    with pytest.raises(Killed):
        qat.STEP.run(teacher(), options, work(folder, teacher(), KilledAt(stop)))

    resumed, _ = qat.STEP.run(teacher(), options, work(folder, teacher()))

    state = resumed.module.state_dict()
    assert all(torch.equal(one, state[name]) for name, one in whole.module.state_dict().items())


def test_what_was_pruned_is_zero_behind_rounding_too(tmp_path: Path) -> None:
    """Half of a matrix is gone, and stays so."""
    model = teacher()
    weight = model.module.get_submodule("blocks.0.up").get_parameter("weight")
    with torch.no_grad():
        weight[:, ::2] = 0

    tuned, _ = qat.STEP.run(model, QatOptions(**LEARNS), work(tmp_path, teacher()))

    assert bool((tuned.module.get_submodule("blocks.0.up").get_parameter("weight")[:, ::2] == 0).all())


class Uncalibrated(TinyModel):
    def calibration(self, limit: int) -> Any:
        return iter(())


def test_what_cannot_be_rounded_is_said(tmp_path: Path) -> None:
    """No calibration examples, and options out of range."""
    with pytest.raises(BuildError, match="no calibration examples"):
        qat.STEP.run(Uncalibrated(), QatOptions(), work(tmp_path, teacher()))
    for changes, sentence in (({"block": 7}, "block is 7"), ({"percentile": 10.0}, "percentile is 10.0")):
        with pytest.raises(ValueError, match=sentence):
            QatOptions(**changes)  # type: ignore[arg-type]
