"""The loop: many small batches make the step of one, float16's scale finds its size, and what cannot go on ends with a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from build_engines.tuning_loop import (
    CheckpointDamaged,
    LoopOptions,
    LossPoint,
    Plan,
    TuningDiverged,
    TuningResult,
    precision_note,
    run_loop,
)
from build_engines.tuning_loop.precision import FIRST_SCALE, GROWS_AFTER, LEAST_SCALE, LossScale
from build_engines.tuning_loop.stops import check_course


class Line:
    """Learns y = 2 x of 24 examples that count differently; a batch is of ``size``."""

    def __init__(self, size: int = 4, *, weighed: bool = True) -> None:
        self.net, self.size = nn.Linear(1, 1), size
        nn.init.zeros_(self.net.weight)
        nn.init.zeros_(self.net.bias)
        self.x = torch.randn(24, 1, generator=torch.Generator().manual_seed(0))
        self.counts = 1.0 + torch.arange(24) % 5
        self.factor = 1.0
        if weighed:
            self.weight = lambda batch: float(self.counts[list(batch)].sum())

    def plan(self, epoch: int) -> Plan:
        order = torch.randperm(24, generator=torch.Generator().manual_seed(epoch)).tolist()
        return Plan(epoch, tuple(tuple(order[at : at + self.size]) for at in range(0, 24, self.size)))

    def loss(self, batch: Sequence[int]) -> Tensor:
        rows = list(batch)
        gaps = (self.net(self.x[rows]).float() - 2 * self.x[rows]).square().squeeze(1)
        return self.factor * (gaps * self.counts[rows]).sum() / self.counts[rows].sum()

    def tokens(self, batch: Sequence[int]) -> int:
        return len(batch)

    @torch.no_grad()
    def judge(self) -> float:
        return float(self.loss(range(24)))


def learn(learner: Line, checkpoint: Path | None = None, **changes: Any) -> TuningResult:
    options: dict[str, Any] = {
        "epochs": 4, "learning_rate": 0.05, "warmup_share": 0.1, "schedule": "cosine", "clip_norm": 1.0,
        "evaluate_every": 0, "checkpoint_every": 3, "patience": 9, "seed": 0, "device": "cpu", **changes,
    }  # fmt: skip
    parameters = dict(learner.net.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.1)
    return run_loop(
        learner, parameters, [optimizer], LoopOptions(**options), identity="line", checkpoint=checkpoint
    )


@pytest.mark.parametrize("accumulate", [2, 3, 6])
def test_batches_that_are_put_together_make_the_step_of_one(accumulate: int) -> None:
    """Small batches of unlike weight, accumulated, end where batches of that many times the size do."""
    parts, whole = Line(4), Line(4 * accumulate)

    small = learn(parts, accumulate=accumulate)
    large = learn(whole)

    assert torch.allclose(parts.net.weight, whole.net.weight, atol=1e-6)
    assert small.steps == large.steps and small.tokens == large.tokens
    assert [one.loss for one in small.curve] == pytest.approx([one.loss for one in large.curve], rel=1e-5)


def test_the_last_step_of_an_epoch_takes_what_is_left() -> None:
    """Six batches by four: two steps an epoch, no example lost."""
    result = learn(Line(4), accumulate=4)

    assert result.steps == 8 and result.tokens == 4 * 24


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_less_precise_products_learn_the_same(precision: Any) -> None:
    """Weights stay float32 and end near those of float32."""
    exact, less = Line(), Line()
    learn(exact, epochs=20)

    result = learn(less, epochs=20, precision=precision)

    assert less.net.weight.dtype == torch.float32
    assert float(less.net.weight) == pytest.approx(float(exact.net.weight), abs=0.02)
    assert result.best.heldout_loss < 0.05


def test_a_gradient_that_overflows_float16_lowers_the_scale_and_takes_no_step(tmp_path: Path) -> None:
    """Gradients of the products are float16: what is too large for it is skipped until the scale fits; the rest is learnt."""
    learner = Line()
    learner.factor = 1e3

    result = learn(learner, epochs=6, precision="float16", learning_rate=0.05)

    assert result.skipped > 0
    assert float(learner.net.weight) > 0.1


@given(st.lists(st.booleans(), max_size=200))
def test_the_scale_is_halved_by_each_overflow_and_never_leaves_its_range(overflows: list[bool]) -> None:
    """Whatever comes: a step is taken exactly where the norm is finite; the facts of a checkpoint restore it whole."""
    scale = LossScale("float16")
    for at, overflow in enumerate(overflows):
        before = scale.value
        try:
            taken = scale.takes(math.inf if overflow else 1.0)
        except OverflowError:
            assert scale.value < LEAST_SCALE
            return
        assert taken != overflow and scale.value == (before / 2 if overflow else before)
        again = LossScale("float16")
        again.restore(scale.facts())
        assert again.facts() == scale.facts()
        assert at < GROWS_AFTER


def test_the_scale_grows_after_a_calm_while_and_is_still_elsewhere() -> None:
    """Doubled after so many steps without an overflow; 1 for float32 whatever happens."""
    scale, plain = LossScale("float16"), LossScale("float32")
    for _ in range(GROWS_AFTER):
        assert scale.takes(1.0) and plain.takes(math.nan)

    assert scale.value == 2 * FIRST_SCALE and plain.value == 1.0


def test_a_device_without_a_precision_says_what_to_use() -> None:
    """Where it does not work: an error; where it does not pay: a note."""
    with pytest.raises(ValueError, match='precision is "bfloat16", known for CPUs and CUDA only'):
        learn(Line(), precision="bfloat16", device="meta")

    note = precision_note("float16", "cpu")
    assert note is not None and "no faster here" in note and precision_note("float32", "cpu") is None


def test_a_learner_without_gradient_checkpointing_says_so() -> None:
    """An option that would do nothing is refused."""
    with pytest.raises(ValueError, match="Line has no gradient checkpointing"):
        learn(Line(), checkpoint_activations=True)


@pytest.mark.parametrize("cut", [0, 10, 500])
def test_a_checkpoint_that_is_cut_short_is_told_from_one_that_is_not(tmp_path: Path, cut: int) -> None:
    """Path and what to do; nothing is trained on half a checkpoint."""
    path = tmp_path / "c.pt"
    learn(Line(), path)
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(CheckpointDamaged, match=r"c.pt: the checkpoint cannot be read .*delete it"):
        learn(Line(), path)
    assert not list(tmp_path.glob("*.part"))


def test_a_gradient_that_is_no_number_ends_training() -> None:
    """The loss may be finite and its gradient not: said at the step where it shows, before a weight is touched."""
    learner = Line()
    learner.net.weight.register_hook(lambda grad: grad * math.nan)

    with pytest.raises(TuningDiverged, match="step 0: norm of the gradient is nan; lower learning_rate"):
        learn(learner)
    assert float(learner.net.weight) == 0.0


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        ((2.0, 7.9), False),
        ((2.0, 8.1), True),
        ((0.01, 0.5), False),
        ((2.0, math.nan), True),
        ((-1.0, 3.9), False),
    ],
)
def test_a_held_out_loss_far_above_the_first_is_divergence(losses: tuple[float, float], ends: bool) -> None:
    """Four times as high and a nat above; less is left to patience."""
    curve = [
        LossPoint(step=at, epoch=0.0, loss=0.0, heldout_loss=one, learning_rate=0.1, seconds=0.0)
        for at, one in enumerate(losses)
    ]
    if not ends:
        check_course(curve)
        return
    with pytest.raises(TuningDiverged, match="held-out loss"):
        check_course(curve)
