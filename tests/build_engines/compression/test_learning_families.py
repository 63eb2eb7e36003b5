"""Learning steps on each real family: they run, what comes out is saved and read again, and processes can be sent all of them."""

# ruff: noqa: F811 (fixtures are found by their names)
from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from build_engines.compression import registry
from build_engines.compression.distil import DistilLearner, DistilOptions
from build_engines.compression.families.decoder import Decoder
from build_engines.compression.families.encoder import Encoder
from build_engines.compression.learning import lesson_of
from build_engines.compression.model import Keep
from build_engines.compression.step import StepWork
from build_engines.compression.teacher import LiveTeacher, open_teacher
from build_engines.compression.teacher_answers import Writes
from build_engines.progress import Silent
from tests.build_engines.compression.test_recommender_family import model as recommender_model  # noqa: F401
from tests.build_engines.compression.test_steps_of_families import checkpoints, model, reopened  # noqa: F401

LEARNS: dict[str, Any] = {"epochs": 2, "learning_rate": 3e-3}
STEPS: dict[str, dict[str, Any]] = {
    "finetune": {"step": "finetune", "checkpoint_activations": True, "average": 0.5},
    "distil": {"step": "distil"},
    "everything": {
        "step": "distil",
        "hidden": 0.1,
        "relations": 0.5,
        "task": 0.5,
        "relation_heads": 2,
        "accumulate": 2,
    },
    "qat": {"step": "qat", "bits": 8},
    "qat of 4 bits": {"step": "qat", "bits": 4, "block": 16},
}


def cut(whole: Any) -> Any:
    sizes = whole.sizes
    return whole.narrowed(
        Keep(blocks=tuple(range(sizes.blocks - 1)) or None, dims=tuple(range(sizes.dim // 2)))
    )


@pytest.mark.parametrize("name", list(STEPS))
def test_a_step_runs_on_every_family_and_what_it_made_is_saved(model: Any, name: str, tmp_path: Path) -> None:
    """Held-out loss is no higher than before, and a model that is read again judges as it did."""
    options = {**LEARNS, **STEPS[name]}
    step = registry.find(options.pop("step"))
    student = model if name.startswith("qat") else cut(model)
    parent = model.narrowed(Keep())

    after, record = step.run(
        student,
        step.options(**options),
        StepWork(scratch=tmp_path / "work", progress=Silent(), parent=parent),
    )
    again = reopened(after, tmp_path / "saved")

    assert record.figures["loss after"] <= record.figures["loss before"]
    assert again.judge() == pytest.approx(after.judge(), rel=1e-4)
    assert all(bool(torch.isfinite(one).all()) for one in after.module.parameters())


def test_a_lesson_of_every_family_can_be_sent_to_another_process(model: Any, tmp_path: Path) -> None:
    """Model, data and teacher come back whole: the copy computes the same loss."""
    student = cut(model)
    options = DistilOptions(task=1.0, hidden=1.0)
    learner = DistilLearner(student, LiveTeacher(model, "parent"), options)
    kept = io.BytesIO()
    torch.save(lesson_of(learner, options, what="test"), kept)
    kept.seek(0)

    copy = torch.load(kept, weights_only=False)

    batch = student.plan(0).batches[0]
    losses = []
    for one in (learner, copy.learner):
        torch.manual_seed(0)
        losses.append(float(one.loss(batch).detach()))
    assert losses[0] == losses[1] and copy.learner.judge() == learner.judge()


@pytest.mark.parametrize("model", ["decoder", "encoder"], indirect=True)
def test_a_teacher_may_be_a_folder_of_the_family(model: Any, tmp_path: Path) -> None:
    """Another checkpoint on the same examples says what the model that was saved says."""
    (tmp_path / "t").mkdir()
    model.save(tmp_path / "t")

    taught = open_teacher(tmp_path / "t", cut(model), model, tmp_path / "c.sqlite")

    found, wanted = taught.traces([0, 1]), model.traces([0, 1])
    for one, other in zip(found.hidden_BTD, wanted.hidden_BTD, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("model", ["encoder"], indirect=True)
def test_an_encoder_says_what_a_graph_is_asked_with(model: Encoder) -> None:
    """Token ids of the example, without padding, and how many."""
    asked = model.inputs(3)

    assert np.array_equal(asked["input_ids"], model._ids(3)) and int(asked["lengths"]) == len(model._ids(3))


@pytest.mark.parametrize("model", ["decoder"], indirect=True)
def test_a_decoder_writes_for_its_student(
    model: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy answers by transformers are those that the network itself would choose, token by token; they are learnt as pairs."""
    from build_engines.compression.families import decoder_answers

    # The folder of a random model has no tokenizer: only a server's texts need one.
    monkeypatch.setattr("tokenizers.Tokenizer.from_file", lambda path: None)
    (tmp_path / "t").mkdir()
    model.save(tmp_path / "t")
    assert isinstance(model, Writes)
    answering = model.answering()
    assert isinstance(answering, decoder_answers.DecoderAnswers)
    answering._end = -1  # nothing ends: every token is compared
    prompts = list(answering.prompts())[:3]
    ends: list[int] = []
    for prompt in prompts:
        ids = prompt.tolist()
        for _ in range(4):
            with torch.no_grad():
                hidden = model.network(torch.tensor([ids]))
                ids.append(int(model.network.logits(hidden[0, -1:])[0].argmax()))
        ends.append(ids[len(prompt) + 2])
    answering._end = ends[0]

    written = answering.writer(tmp_path / "t")(prompts[:1], 4)
    learnt = answering.answered({0: written[0], 2: written[0]})

    assert 1 <= len(written[0]) <= 3 and int(written[0][-1]) == ends[0]
    assert len(learnt.data.train) == 2 and learnt.network is model.network
    assert learnt.judge() == model.judge()
