"""Fine-tuning and distilling recover what narrowing costs, keep what pruning took, and end with a sentence where they cannot."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from build_engines.compression import distil, finetune
from build_engines.compression.distil import DistilOptions
from build_engines.compression.finetune import FinetuneOptions
from build_engines.compression.model import Traces
from build_engines.errors import BuildError
from tests.build_engines.compression.learning_cases import Killed, KilledAt, student, teacher, work
from tests.build_engines.compression.tiny_model import TinyModel, trained

LEARNS: dict[str, Any] = {"epochs": 6, "learning_rate": 1e-2, "checkpoint_every": 4}


def test_fine_tuning_recovers_what_narrowing_cost(tmp_path: Path) -> None:
    """Held-out loss falls by a good part, the record says so, and the model holds the weights that it tells of."""
    model = student()
    before = model.judge()

    tuned, record = finetune.STEP.run(model, FinetuneOptions(**LEARNS), work(tmp_path, teacher()))

    assert tuned.judge() == pytest.approx(record.figures["loss after"], rel=1e-5)
    assert record.figures["loss before"] == pytest.approx(before, rel=1e-5)
    assert record.figures["loss after"] < before - 0.3
    assert [curve.name for curve in record.curves] == ["training loss", "held-out loss"]


def test_what_was_pruned_stays_zero(tmp_path: Path) -> None:
    """Not one weight comes back, neither in the end nor by the running mean; without keep_zeros they do."""
    kept, free = teacher(), teacher()
    for one in (kept, free):
        with torch.no_grad():
            weight = one.module.blocks[0].up.weight  # type: ignore[union-attr]
            weight.mul_((torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) > 0.5).float())  # type: ignore[operator,arg-type]
    zeros = kept.module.blocks[0].up.weight == 0  # type: ignore[union-attr]

    finetune.STEP.run(kept, FinetuneOptions(**LEARNS, average=0.9), work(tmp_path, teacher()))
    (tmp_path / "b").mkdir()
    finetune.STEP.run(free, FinetuneOptions(**LEARNS, keep_zeros=False), work(tmp_path / "b", teacher()))

    assert bool((kept.module.blocks[0].up.weight[zeros] == 0).all())  # type: ignore[union-attr,index]
    assert bool((free.module.blocks[0].up.weight[zeros] != 0).any())  # type: ignore[union-attr,index]


def test_a_tuning_that_makes_nothing_better_changes_nothing(tmp_path: Path) -> None:
    """A model that knows all there is to know is handed back to the bit, and it is said."""
    model = trained(TinyModel(), epochs=60)
    start = {name: one.clone() for name, one in model.module.state_dict().items()}

    options = FinetuneOptions(epochs=1, learning_rate=0.3, clip_norm=100.0, warmup_share=0.0)
    tuned, record = finetune.STEP.run(model, options, work(tmp_path, teacher()))

    assert all(torch.equal(start[name], one) for name, one in tuned.module.state_dict().items())
    assert "did not fall" in record.said


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"logits": 1.0, "divergence": "reverse"},
        {"ranking": 1.0, "ranking_top": 5, "ranking_sampled": 10},
        {"ranking": 1.0, "ranking_form": "rankdistil", "ranking_top": 5, "ranking_sampled": 10},
        {"hidden": 1.0, "task": 1.0},
        {"relations": 1.0, "task": 0.5},
        {"logits": 0.5, "hidden": 0.1, "relations": 0.5, "task": 0.1, "precision": "bfloat16"},
    ],
)
def test_a_student_learns_from_its_parent(tmp_path: Path, terms: dict[str, Any]) -> None:
    """By each term and by all together, a student of half the width is nearer to the task than before."""
    model, parent = student(), teacher()
    weights = {name: one.clone() for name, one in parent.module.state_dict().items()}

    learnt, record = distil.STEP.run(model, DistilOptions(**LEARNS, **terms), work(tmp_path, parent))

    assert record.figures["loss after"] < record.figures["loss before"] - 0.1
    assert all(torch.equal(weights[name], one) for name, one in parent.module.state_dict().items())
    assert {name for name, _ in learnt.module.named_parameters()} == {
        name for name, _ in student().module.named_parameters()
    }


def test_a_student_may_be_judged_by_its_distance_to_the_teacher(tmp_path: Path) -> None:
    """Without a task of its own: what falls is the distance on calibration examples."""
    options = DistilOptions(**LEARNS, logits=1.0, judge_by="teacher")

    _, record = distil.STEP.run(student(), options, work(tmp_path, teacher()))

    assert record.figures["loss after"] < 0.7 * record.figures["loss before"]


@pytest.mark.parametrize("stop", [1, 5, 11, 20])
def test_a_distillation_that_was_killed_ends_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    """With projections, running mean, accumulation and float16's scale: as if nothing had happened."""
    options = DistilOptions(
        **{**LEARNS, "epochs": 8}, hidden=1.0, logits=1.0, average=0.9, accumulate=2, precision="float16"
    )
    whole, _ = distil.STEP.run(student(), options, work(tmp_path, teacher()))
    folder = tmp_path / "again"
    folder.mkdir()
    with pytest.raises(Killed):
        distil.STEP.run(student(), options, work(folder, teacher(), KilledAt(stop)))

    resumed, _ = distil.STEP.run(student(), options, work(folder, teacher()))

    assert all(
        torch.equal(one, resumed.module.state_dict()[name]) for name, one in whole.module.state_dict().items()
    )


def test_recomputed_activations_change_no_bit(tmp_path: Path) -> None:
    """Gradient checkpointing costs time and nothing else."""
    plain, _ = finetune.STEP.run(student(), FinetuneOptions(**LEARNS), work(tmp_path, teacher()))
    (tmp_path / "b").mkdir()
    options = FinetuneOptions(**LEARNS, checkpoint_activations=True)

    saving, _ = finetune.STEP.run(student(), options, work(tmp_path / "b", teacher()))

    assert all(
        torch.equal(one, saving.module.state_dict()[name]) for name, one in plain.module.state_dict().items()
    )
    assert all("forward" not in block.__dict__ for block in saving.module.modules())


class Blind(TinyModel):
    """A teacher of other classes, which shows nothing."""

    def traces(self, batch: Any) -> Traces:
        seen = super().traces(batch)
        assert seen.logits_PC is not None
        return dataclasses.replace(seen, logits_PC=seen.logits_PC[:, :7], relations={}, hidden_BTD=())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"logits": 1.0}, r"the teacher gives \(\d+, 7\), the student \(\d+, 24\)"),
        ({"embedding": 1.0}, "embedding has a weight, and the student gives none"),
        ({"hidden": 1.0}, "the teacher shows no hidden states"),
        ({"relations": 1.0}, "relations has a weight, and the teacher shows none"),
        ({"teacher": Path("/nowhere/at/all")}, "teacher /nowhere/at/all is not there; name a checkpoint"),
        ({"teacher": Path("/")}, "a decoder cannot be opened from a folder here"),
    ],
)
def test_a_teacher_that_cannot_teach_is_said_before_the_first_step(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    """Missing, of another shape, or without what is to be learnt: which, and what to do."""
    with pytest.raises(BuildError, match=sentence):
        distil.STEP.run(student(), DistilOptions(**options), work(tmp_path, Blind()))


def test_a_model_cannot_teach_itself(tmp_path: Path) -> None:
    """A chain that begins with distilling has nobody to learn from, and says so."""
    model = teacher()
    with pytest.raises(BuildError, match="the teacher is the student itself"):
        distil.STEP.run(model, DistilOptions(), work(tmp_path, model))


def test_a_run_that_diverges_ends_with_a_sentence(tmp_path: Path) -> None:
    """A learning rate of 1,000 is no training; what to do is said, and no NaN is published."""
    model = student()
    with pytest.raises(BuildError, match="lower learning_rate"):
        finetune.STEP.run(
            model,
            FinetuneOptions(epochs=6, learning_rate=1e3, clip_norm=1e6, warmup_share=0.0),
            work(tmp_path, model),
        )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; use a number above 0"),
        ({"logits": float("nan")}, "logits is nan; use 0 or more"),
        ({"ranking_top": 0}, "ranking_top is 0; use 1 or more"),
        ({"epochs": 0}, "epochs is 0; use 1 or more"),
        ({"average": 1.0}, "average is 1.0; use a share"),
        ({"relation_pairs": ()}, "relation_pairs is empty"),
        ({"endpoint": "http://localhost/v1"}, "answers is false"),
        ({"endpoint": "http://localhost/v1", "answers": True}, "endpoint_model is empty"),
    ],
)
def test_an_option_out_of_range_is_named(changes: dict[str, Any], sentence: str) -> None:
    """Name, value, and what to use."""
    with pytest.raises(ValueError, match=sentence):
        DistilOptions(**changes)
