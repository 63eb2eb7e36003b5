"""Fine-tuning learns, goes on after a kill with the same bits, keeps the best, and hands on a plain checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from build_engines.data.bad_rows import BadRowPolicy
from build_engines.data.errors import DataError
from build_engines.errors import BuildError
from build_engines.progress import Silent
from build_engines.stage import Work
from build_engines.states import Output
from build_engines.text import finetune
from build_engines.text.batches import answer_loss, padded, plan_epoch
from build_engines.text.pair_arrays import load_pairs, save_pairs
from build_engines.text.pair_files import read_pairs
from build_engines.text.records import FinetuneRecord, TextLoadRecord
from build_engines.text.states import TextLoaded
from build_engines.text.tuning import heldout_loss, tune
from build_engines.text.tuning_parts import TuningConfig
from build_engines.tuning_loop import LossPoint, TuningDiverged
from tests.build_engines.tiny_text import echo_pairs, tiny_model

PAIRS, HELDOUT = echo_pairs(160), echo_pairs(24, seed=1)
FULL = TuningConfig(method="full", epochs=6, batch_tokens=192, learning_rate=5e-3, bfloat16=False)


class Killed(RuntimeError):
    """A power cut, for a test."""


def killed_at(stop: int) -> Callable[[int, int, LossPoint | None], None]:
    def progress(step: int, steps: int, point: LossPoint | None) -> None:
        if step == stop:
            raise Killed

    return progress


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in model.named_parameters()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_full_fine_tuning_lowers_the_held_out_loss(optimizer: Any) -> None:
    """After a few epochs the model predicts answers that it has not seen better than before."""
    model = tiny_model()
    config = TuningConfig(method="full", optimizer=optimizer, epochs=4, batch_tokens=192, learning_rate=5e-3)
    before = heldout_loss(model, HELDOUT, config)

    result = tune(model, config, PAIRS, HELDOUT)

    assert result.best.heldout_loss < before - 0.3
    assert heldout_loss(model, HELDOUT, config) == pytest.approx(result.best.heldout_loss, abs=0.02)
    assert [point.step for point in result.curve][-1] == result.steps


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_that_was_killed_ends_with_the_same_bits(tmp_path: Path, method: Any) -> None:
    """Killed between two checkpoints and run again: weights, curve and best are those of a run that was not."""
    config = TuningConfig(
        method=method,
        epochs=3,
        batch_tokens=192,
        learning_rate=5e-3,
        lora_dropout=0.3,
        checkpoint_every=4,
        bfloat16=False,
    )

    def model() -> nn.Module:
        return finetune._with_lora(tiny_model(), config) if method == "lora" else tiny_model()

    whole, resumed = model(), model()
    torch.manual_seed(1)
    expected = tune(whole, config, PAIRS, HELDOUT)
    with pytest.raises(Killed):
        tune(model(), config, PAIRS, HELDOUT, checkpoint=tmp_path / "c.pt", progress=killed_at(11))
    steps: list[int] = []
    torch.manual_seed(2)  # another process is in another state

    result = tune(
        resumed,
        config,
        PAIRS,
        HELDOUT,
        checkpoint=tmp_path / "c.pt",
        progress=lambda step, total, point: steps.append(step),
    )

    assert steps[0] == 9  # the checkpoint of step 8, not the beginning
    assert all(torch.equal(one, weights(resumed)[name]) for name, one in weights(whole).items())
    assert [point.heldout_loss for point in result.curve] == [point.heldout_loss for point in expected.curve]
    assert result.best.step == expected.best.step


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    """Going on with another learning rate would be neither the one run nor the other."""
    with pytest.raises(Killed):
        tune(tiny_model(), FULL, PAIRS, HELDOUT, checkpoint=tmp_path / "c.pt", progress=killed_at(30))
    other = TuningConfig(method="full", epochs=6, batch_tokens=192, learning_rate=1e-3, bfloat16=False)

    with pytest.raises(ValueError, match="another model, configuration or data"):
        tune(tiny_model(), other, PAIRS, HELDOUT, checkpoint=tmp_path / "c.pt")


def test_the_best_weights_by_held_out_loss_are_kept_not_the_last() -> None:
    """Trained until it overfits a handful of pairs, the model is left with the weights of the best point."""
    config = TuningConfig(
        method="full", epochs=60, batch_tokens=64, learning_rate=1e-2, patience=60, bfloat16=False
    )
    model = tiny_model()

    result = tune(model, config, PAIRS[:6], HELDOUT)

    assert result.best.heldout_loss < result.curve[-1].heldout_loss
    assert heldout_loss(model, HELDOUT, config) == pytest.approx(result.best.heldout_loss, rel=1e-5)


def test_training_stops_when_patience_is_over() -> None:
    """No better held-out loss so many times in a row, and the rest is not run."""
    config = TuningConfig(
        method="full", epochs=60, batch_tokens=64, learning_rate=1e-2, patience=2, bfloat16=False
    )

    result = tune(tiny_model(), config, PAIRS[:6], HELDOUT)

    assert result.steps < 60 * len(
        plan_epoch([len(p.ids) for p in PAIRS[:6]], seed=0, epoch=0, batch_tokens=64)
    )


def test_a_loss_that_is_no_number_ends_training_with_a_sentence() -> None:
    """A broken weight is said at the step where it shows."""
    model = tiny_model()
    model.model.norm.weight.data[0] = float("nan")

    with pytest.raises(TuningDiverged, match="step 0: loss is nan; lower learning_rate"):
        tune(model, FULL, PAIRS, HELDOUT)


def test_padding_changes_no_loss() -> None:
    """Pairs of unlike length in one batch have the loss that they have alone."""
    model = tiny_model("llama")
    together, count = answer_loss(model, padded(HELDOUT[:8]), "cpu", bfloat16=False)
    alone = [answer_loss(model, padded([pair]), "cpu", bfloat16=False) for pair in HELDOUT[:8]]

    assert together.item() == pytest.approx(sum(one.item() for one, _ in alone), rel=1e-5)
    assert (
        count == sum(tokens for _, tokens in alone) == sum(len(p.ids) - p.prompt_tokens for p in HELDOUT[:8])
    )


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=60),
    budget=st.integers(1, 200),
    seed=st.integers(0, 1000),
)
def test_an_epoch_holds_every_pair_once_within_the_budget(lengths: list[int], budget: int, seed: int) -> None:
    """Batches are full but never over the budget, unless one pair alone is; every epoch has as many."""
    first, second = (plan_epoch(lengths, seed=seed, epoch=epoch, batch_tokens=budget) for epoch in (0, 1))

    for plan in (first, second):
        assert sorted(one for batch in plan.batches for one in batch) == list(range(len(lengths)))
        for batch in plan.batches:
            assert len(batch) == 1 or max(lengths[one] for one in batch) * len(batch) <= budget
    assert len(first) == len(second)


def loaded(tmp_path: Path, family: str, *, train: int = 120) -> TextLoaded:
    tiny_model(family).save_pretrained(str(tmp_path / "source"))
    for side, pairs in (("train", PAIRS[:train]), ("validation", HELDOUT)):
        save_pairs(tmp_path / f"{side}.npz", pairs)
    record = TextLoadRecord(
        checkpoint=str(tmp_path / "source"),
        family=family,
        parameters=1,
        eos_ids=(0,),
        vocab_size=32,
        pairs={},
        sources={},
    )
    output = Output(stage="text-load", key="k", content="c", folder=tmp_path, seconds=0.0, reused=False)
    return TextLoaded(output=output, record=record)


def tuned(
    tmp_path: Path, part: TuningConfig, family: str = "qwen2", **changes: Any
) -> tuple[FinetuneRecord, Path]:
    folder = tmp_path / "out"
    folder.mkdir()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    state = loaded(tmp_path, family, **changes)
    return finetune.run(
        state, part, Work(folder=folder, scratch=scratch, progress=Silent())
    ), folder / "checkpoint"


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_lora_is_merged_into_a_plain_checkpoint(tmp_path: Path, family: str) -> None:
    """What comes out has the tensors of what went in, loads without peft, and is better on held-out pairs."""
    part = TuningConfig(method="lora", epochs=4, batch_tokens=192, learning_rate=2e-2, lora_dropout=0.0)

    record, folder = tuned(tmp_path, part, family)

    model = finetune.load_model(folder, family)
    assert set(weights(model)) == set(weights(tiny_model(family)))
    assert record.method == "lora"
    assert 0 < record.trained_parameters < sum(one.numel() for one in tiny_model(family).parameters())
    assert record.before is not None and record.best is not None and record.best < record.before - 0.05
    assert heldout_loss(model, HELDOUT, part) == pytest.approx(record.best, abs=0.02)
    assert record.curve[-1].heldout_loss > 0


def test_lora_moves_the_modules_that_are_named_and_no_others(tmp_path: Path) -> None:
    """Targets are the shop's choice: everything else is what it was, to the bit."""
    part = TuningConfig(
        method="lora", epochs=1, batch_tokens=192, learning_rate=2e-2, lora_targets=("v_proj",)
    )

    _, folder = tuned(tmp_path, part)

    before, after = weights(tiny_model("qwen2")), weights(finetune.load_model(folder, "qwen2"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {f"model.layers.{layer}.self_attn.v_proj.weight" for layer in (0, 1)}


def test_the_precision_of_a_checkpoint_is_kept(tmp_path: Path) -> None:
    """A checkpoint that came in bfloat16 goes out in bfloat16."""
    (tmp_path / "half").mkdir()
    config = {"dtype": "bfloat16"}
    (tmp_path / "half" / "config.json").write_text(json.dumps(config), encoding="utf-8")

    finetune.save_checkpoint(
        tiny_model(), finetune._stored_dtype(tmp_path / "half"), tmp_path / "half", tmp_path / "out"
    )

    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_what_cannot_be_fine_tuned_is_said(tmp_path: Path) -> None:
    """An unknown target names those there are; no pairs, and an unknown family, name what to do."""
    with pytest.raises(BuildError, match=r"has no c_attn; it has .*down_proj.*q_proj"):
        tuned(tmp_path, TuningConfig(method="lora", lora_targets=("c_attn",)))
    (tmp_path / "none").mkdir()
    with pytest.raises(BuildError, match="0 pairs to learn from"):
        tuned(tmp_path / "none", FULL, train=0)
    with pytest.raises(BuildError, match="model_type is 'gpt2'; known are llama"):
        finetune.load_model(tmp_path / "source", "gpt2")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 0}, "epochs is 0; use 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; use a number above 0"),
        ({"warmup_share": 1.0}, "warmup_share is 1.0; use a share from 0 to below 1"),
        ({"lora_targets": ()}, "lora_targets is empty"),
        ({"optimizer": "muon"}, 'optimizer "muon" is for method "full"'),
    ],
)
def test_a_setting_out_of_range_is_named(changes: dict[str, Any], sentence: str) -> None:
    """Name, value, and what to use."""
    with pytest.raises(ValueError, match=sentence):
        TuningConfig(**changes)


def line(**changes: Any) -> dict[str, Any]:
    return {
        "product": {"title": "Fernholt Aria Kettle", "brand": "Fernholt", "price": 39.5},
        "channel": "email", "language": "en",
        "copy": {"headline": "Fernholt Aria", "description": "The Aria kettle.", "bullets": []},
        **changes,
    }  # fmt: skip


def test_a_shops_lines_become_what_the_server_asks(tmp_path: Path) -> None:
    """A record and its copy are asked as /v1/product-copy asks: as a prompt, or as a conversation with its rules."""
    rows = [
        line(),
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        {"prompt": "2+2=", "answer": "4", "id": "sum"},
    ]
    path = tmp_path / "copy.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")

    plain, _ = read_pairs(path, BadRowPolicy(), chat=False)
    chat, _ = read_pairs(path, BadRowPolicy(), chat=True)

    assert str(plain[0].prompt).startswith("title: Fernholt Aria Kettle\nbrand: Fernholt\nprice: 39.50\n")
    assert str(plain[0].prompt).endswith("channel: email\nlanguage: en\ncopy:\n")
    assert json.loads(plain[0].answer)["headline"] == "Fernholt Aria"
    assert [role for role, _ in chat[0].prompt] == ["system", "user"]  # type: ignore[str-unpack]
    assert plain[1].prompt == (("user", "Hi"),)
    assert (plain[2].prompt, plain[2].answer, plain[2].group) == ("2+2=", "4", "sum")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("{", "copy.jsonl:2: no JSON"),
        ("[1]", "copy.jsonl:2: no JSON object"),
        ("{}", "nothing to learn"),
        (json.dumps(line(channel="tv")), "'tv' is not a valid Channel"),
        (json.dumps(line(copy={"headline": "x"})), "description is missing"),
        (json.dumps(line(product={"brand": "x"})), "product.title is missing"),
        (json.dumps(line(max_words="many")), "max_words: 'many' is no number"),
        (json.dumps({"messages": [{"role": "user", "content": "x"}]}), "the last must be the assistant's"),
        (json.dumps({"prompt": "", "answer": "x"}), "prompt is missing"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_or_dropped_when_asked(
    tmp_path: Path, row: str, sentence: str
) -> None:
    """File, line and reason; a shop that says so leaves such lines out."""
    path = tmp_path / "copy.jsonl"
    path.write_text(json.dumps(line()) + "\n" + row + "\n", encoding="utf-8")

    with pytest.raises(DataError) as caught:
        read_pairs(path, BadRowPolicy(), chat=False)
    kept, dropped = read_pairs(path, BadRowPolicy(on_bad_row="drop", max_bad_share=0.5), chat=False)

    assert sentence in str(caught.value)
    assert (len(kept), dropped) == (1, 1)


def test_pairs_survive_the_disk(tmp_path: Path) -> None:
    """What a stage wrote, the next one reads."""
    save_pairs(tmp_path / "p.npz", HELDOUT)

    found = load_pairs(tmp_path / "p.npz")

    assert [one.prompt_tokens for one in found] == [one.prompt_tokens for one in HELDOUT]
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(found, HELDOUT, strict=True))
