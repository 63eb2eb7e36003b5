"""LoRA beside a base in 4 bits: the base is packed and frozen, gradients are those of the weight it stands for, and what is merged is a plain checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from build_engines.progress import Silent
from build_engines.stage import Work
from build_engines.text import finetune
from build_engines.text.quantized_linear import LEVELS, QuantizedLinear, packed, unpacked
from build_engines.text.tuning import heldout_loss, tune
from build_engines.text.tuning_parts import TuningConfig
from tests.build_engines.test_finetune import HELDOUT, PAIRS, Killed, killed_at, loaded, weights
from tests.build_engines.tiny_text import tiny_model

QLORA = TuningConfig(
    method="qlora",
    epochs=4,
    batch_tokens=192,
    learning_rate=2e-2,
    lora_dropout=0.0,
    checkpoint_every=4,
    bfloat16=False,
)


@pytest.mark.parametrize("base", ["nf4", "int4"])
@given(outputs=st.integers(1, 5), inputs=st.integers(1, 200), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_packed_weight_is_the_nearest_that_its_levels_allow(
    base: Any, outputs: int, inputs: int, seed: int
) -> None:
    """Every value is its block's largest times a level, and no level would be nearer; packing it again changes nothing."""
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))

    codes, scales = packed(weight, base)
    found = unpacked(codes, scales, inputs, base)

    scale = scales.repeat_interleave(64, 1)[:, :inputs]
    gaps = (weight[..., None] / scale[..., None] - torch.tensor(LEVELS[base])).abs().amin(-1)
    assert torch.allclose((found / scale - weight / scale).abs(), gaps, atol=1e-6)
    assert torch.allclose(unpacked(*packed(found, base), inputs, base), found, atol=1e-6)
    assert codes.dtype == torch.uint8 and codes.numel() * 2 == scales.numel() * 64


def test_a_product_and_its_gradient_are_those_of_the_weight_it_stands_for() -> None:
    """Forward and backward by 4 bits equal those of a plain linear with the unpacked weight; the base itself learns nothing."""
    source = nn.Linear(100, 7)
    quantized = QuantizedLinear(source, "nf4")
    plain = quantized.plain()
    x, y = (
        torch.randn(3, 100, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)
    )

    quantized(x).square().sum().backward()
    plain(y).square().sum().backward()

    assert x.grad is not None and y.grad is not None
    assert torch.allclose(x.grad, y.grad, atol=1e-4) and torch.allclose(quantized(x), plain(y), atol=1e-5)
    assert not [one for one in quantized.parameters() if one.requires_grad]
    assert (plain.weight - source.weight).abs().max() < 0.2 * source.weight.abs().max()


@pytest.mark.parametrize("base", ["nf4", "int4"])
def test_qlora_learns_and_is_merged_into_a_plain_checkpoint(tmp_path: Path, base: Any) -> None:
    """Tensors of what went in, no trace of 4 bits, the held-out loss that the record tells of, and what the base weighs."""
    part = TuningConfig(
        **{name: getattr(QLORA, name) for name in QLORA.__dataclass_fields__ if name != "qlora_base"},
        qlora_base=base,
    )
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()

    record = finetune.run(
        loaded(tmp_path, "qwen2"),
        part,
        Work(folder=tmp_path / "out", scratch=tmp_path / "scratch", progress=Silent()),
    )

    model = finetune.load_model(tmp_path / "out" / "checkpoint", "qwen2")
    assert set(weights(model)) == set(weights(tiny_model("qwen2"))) and record.method == "qlora"
    assert record.before is not None and record.best is not None and record.best < record.before - 0.05
    assert heldout_loss(model, HELDOUT, part) == pytest.approx(record.best, abs=0.02)
    assert f"base in {base}" in record.notes[0]


def test_a_qlora_run_that_was_killed_ends_with_the_same_bits(tmp_path: Path) -> None:
    """With accumulated batches, recomputed activations, a running mean and the cosine: nothing is lost by a kill."""
    config = TuningConfig(
        method="qlora", epochs=3, batch_tokens=96, learning_rate=5e-3, lora_dropout=0.3, checkpoint_every=4,
        bfloat16=False, accumulate=2, average=0.9, schedule="cosine", checkpoint_activations=True,
    )  # fmt: skip

    def model() -> nn.Module:
        made = tiny_model()
        finetune.quantize_base(made, "nf4")
        return finetune._with_lora(made, config)

    whole, resumed = model(), model()
    tune(whole, config, PAIRS, HELDOUT)
    with pytest.raises(Killed):
        tune(model(), config, PAIRS, HELDOUT, checkpoint=tmp_path / "c.pt", progress=killed_at(11))
    tune(resumed, config, PAIRS, HELDOUT, checkpoint=tmp_path / "c.pt")

    assert all(torch.equal(one, weights(resumed)[name]) for name, one in weights(whole).items())
