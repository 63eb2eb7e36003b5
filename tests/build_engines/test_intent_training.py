"""From a shop's file to a head in the engine: learnt, calibrated, resumable, and the same through INT8."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from build_engines.errors import BuildError
from build_engines.intents.examples import Example
from build_engines.intents.finetune import (
    Taught,
    finetune_encoder,
    load_torch_encoder,
    save_encoder,
    torch_logits,
)
from build_engines.intents.head import load_head
from build_engines.intents.linear import (
    OUTSIDE,
    LinearFit,
    example_weights,
    fit_linear,
    label_numbers,
    soft_targets,
)
from build_engines.intents.linear_parts import LinearConfig
from build_engines.intents.paired import compare_engines, judged_texts
from build_engines.intents.recipe_parts import IntentsPart, IntentTuning
from build_engines.intents.suspects import suspect_labels
from build_engines.intents.train import CHECKPOINT, train_intents
from build_engines.intents.vectors import EncoderSource, encoder_graph, open_graph, run_texts, token_ids
from build_engines.models.encoder.options import EncoderOptions
from build_engines.models.encoder.package import package_encoder
from build_engines.models.encoder.words import add_words, read_glossary
from build_engines.progress import Silent
from build_engines.tuning_loop import LossPoint
from tests.build_engines.tiny_encoder import questions, tiny_encoder

NAMES = ("cancel", "refund", "track")
TUNING = IntentTuning(
    epochs=3,
    batch_size=16,
    learning_rate=3e-3,
    average=0.9,
    train_words=True,
    checkpoint_every=4,
    bfloat16=False,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> EncoderSource:
    folder = tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")
    return EncoderSource(checkpoint=folder, options=EncoderOptions())


def written(folder: Path, examples: Sequence[Example]) -> Path:
    path = folder / "examples.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "intent"])
        rows.writerows([one.text, one.intent] for one in examples)
    return path


def taught(source: EncoderSource, examples: Sequence[Example]) -> Taught:
    ids = [one for one in token_ids(source.codec(), [one.text for one in examples]) if one is not None]
    assert len(ids) == len(examples)
    labels = label_numbers([one.intent for one in examples], NAMES)
    return Taught(ids=ids, labels_N=labels, weights_N=np.ones(len(ids), np.float32))


def start(dim: int = 32) -> LinearFit:
    return LinearFit(
        weights_CD=np.zeros((3, dim), np.float32), bias_C=np.zeros(3, np.float32), l2=1e-5, trials=()
    )


@pytest.mark.parametrize("method", ["linear", "full"])
def test_a_shops_file_becomes_a_head_that_the_engine_carries(
    tmp_path: Path, source: EncoderSource, method: str
) -> None:
    """Trained, told in a report with the threshold drawn, packaged in FP32 and INT8, and both answer alike."""
    part = IntentsPart(
        examples=written(tmp_path, questions(420)),
        method="full" if method == "full" else "linear",
        finetune=TUNING,
    )
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()

    record = train_intents(part, source, folder=out, scratch=scratch, progress=Silent())

    head = load_head(out)
    assert head.labels == NAMES == record.labels
    told = record.of("test")
    assert told.accuracy > (0.95 if method == "full" else 0.85)
    assert told.outside > 0
    report = (out / "intents_report.html").read_text(encoding="utf-8")
    assert report.count("<svg") == 4
    plain = json.loads((out / "intents_report.json").read_text(encoding="utf-8"))
    assert {row["label"] for row in plain["test"]["rows"]} == set(NAMES)
    checkpoint = out / CHECKPOINT if method == "full" else Path(record.checkpoint)
    calibration = [one for one in judged_texts(out)[0] if one is not None]
    for variant in ("fp32", "int8"):
        options = EncoderOptions(variant="fp32" if variant == "fp32" else "int8")
        package_encoder(checkpoint, out / variant, options=options, head=head, calibration=calibration)
    pair = compare_engines(head, out, out / "fp32" / "model.onnx", out / "int8" / "model.onnx")
    assert pair.parent.accuracy == pytest.approx(told.accuracy)  # the graph is what was judged
    assert pair.same_answer > 0.9


def test_texts_about_nothing_make_the_head_unsure(source: EncoderSource) -> None:
    """The same head without them is surer of what it should not be."""
    learnt, judged = questions(400), [one for one in questions(300, seed=5) if one.intent == "out_of_scope"]
    session, codec = open_graph(encoder_graph(source)), source.codec()

    def vectors(examples: Sequence[Example]) -> np.ndarray:
        return run_texts(session, token_ids(codec, [one.text for one in examples]))[0]

    def confidence(examples: Sequence[Example]) -> float:
        labels = label_numbers([one.intent for one in examples], NAMES)
        fit = fit_linear(vectors(examples), labels, vectors(learnt[:90]), label_numbers(
            [one.intent for one in learnt[:90]], NAMES
        ), 3, LinearConfig(outside_weight=1.0))  # fmt: skip
        logits = vectors(judged) @ fit.weights_CD.T + fit.bias_C
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return float((raised.max(axis=1) / raised.sum(axis=1)).mean())

    assert confidence(learnt) < confidence([one for one in learnt if one.intent != "out_of_scope"]) - 0.1


def test_wrong_labels_are_found_among_right_ones(source: EncoderSource) -> None:
    """Most of what was swapped is found, and hardly anything else."""
    examples = questions(400, outside=False)
    vectors, _ = run_texts(
        open_graph(encoder_graph(source)), token_ids(source.codec(), [one.text for one in examples])
    )
    true = label_numbers([one.intent for one in examples], NAMES)
    swapped = np.zeros(len(true), np.bool_)
    swapped[::25] = True
    labels = np.where(swapped, (true + 1) % 3, true)
    config = LinearConfig(l2=(1e-6,))
    fit = fit_linear(vectors, labels, vectors, labels, 3, config)

    suspect, like = suspect_labels(fit, vectors, labels, config)

    assert suspect[swapped].mean() > 0.5
    assert suspect[~swapped].mean() < 0.02
    assert (like[suspect & swapped] == true[suspect & swapped]).all()


class Killed(RuntimeError):
    """A power cut, for a test."""


def killed_at(stop: int) -> Callable[[int, int, LossPoint | None], None]:
    def progress(step: int, steps: int, point: LossPoint | None) -> None:
        if step == stop:
            raise Killed

    return progress


def test_a_fine_tuning_that_was_killed_ends_with_the_same_bits(tmp_path: Path, source: EncoderSource) -> None:
    """Weights, their mean and the curve go on from the checkpoint as if nothing had happened."""
    train, judged = taught(source, questions(120)), taught(source, questions(40, seed=9))
    whole, resumed = (load_torch_encoder(source, start()) for _ in range(2))
    expected = finetune_encoder(whole, TUNING, train, judged)
    with pytest.raises(Killed):
        finetune_encoder(
            load_torch_encoder(source, start()),
            TUNING,
            train,
            judged,
            checkpoint=tmp_path / "c.pt",
            progress=killed_at(11),
        )

    result = finetune_encoder(resumed, TUNING, train, judged, checkpoint=tmp_path / "c.pt")

    assert [point.heldout_loss for point in result.curve] == [point.heldout_loss for point in expected.curve]
    for name, one in whole.named_parameters():
        assert torch.equal(one, dict(resumed.named_parameters())[name]), name


def test_a_tuned_encoder_is_saved_in_the_form_it_came_in(tmp_path: Path, source: EncoderSource) -> None:
    """What the graph of the saved checkpoint answers is what the trained model answers."""
    train, judged = taught(source, questions(120)), taught(source, questions(40, seed=9))
    model = load_torch_encoder(source, start())
    finetune_encoder(model, TUNING, train, judged)

    save_encoder(model, source.checkpoint, tmp_path / "saved")

    weights_CD, bias_C = model.head()
    tuned = EncoderSource(checkpoint=tmp_path / "saved", options=EncoderOptions())
    vectors, _ = run_texts(open_graph(encoder_graph(tuned)), judged.ids)
    np.testing.assert_allclose(
        vectors @ weights_CD.T + bias_C, torch_logits(model, judged.ids, "cpu"), atol=2e-3
    )
    assert (tmp_path / "saved" / "config.json").read_bytes() == (
        source.checkpoint / "config.json"
    ).read_bytes()


def test_targets_and_weights_of_texts_about_nothing() -> None:
    """The same for every intent, and together they count what the recipe says."""
    labels = np.array([0, 1, OUTSIDE, OUTSIDE], np.int64)

    targets = soft_targets(labels, 2, smoothing=0.2)
    weights = example_weights(labels, 2, balance=0.0, outside_weight=0.5)

    np.testing.assert_allclose(targets, [[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(weights, [1, 1, 0.5, 0.5])


def test_words_of_a_glossary_are_read_and_nothing_else_changes(tmp_path: Path, source: EncoderSource) -> None:
    """A foreign word gets its translation's vector; a text without one has the very vector that it had."""
    (tmp_path / "glossary.txt").write_text(
        "# words\n退款=refund; 退=stop\n包裹=parcel; 我的=my\n", encoding="utf-8"
    )
    words = read_glossary(tmp_path / "glossary.txt")

    added = add_words(source.checkpoint, words, tmp_path / "grown")

    grown = EncoderSource(checkpoint=tmp_path / "grown", options=EncoderOptions())
    assert added == 4
    texts = ["我的退款", "my refund", "where is the parcel?", "退我的包裹", "stop my parcel"]
    vectors, read = run_texts(open_graph(encoder_graph(grown)), token_ids(grown.codec(), texts))
    before, _ = run_texts(open_graph(encoder_graph(source)), token_ids(source.codec(), texts[1:3]))
    np.testing.assert_array_equal(vectors[1:3], before)
    np.testing.assert_allclose(vectors[[0, 3]], vectors[[1, 4]], atol=1e-5)
    assert read.all()
    assert token_ids(source.codec(), ["退款"]) == [None]


def test_a_line_that_is_no_glossary_is_named(tmp_path: Path) -> None:
    """File and line, and how to write it."""
    (tmp_path / "glossary.txt").write_text("退款=refund\n退款 refund\n", encoding="utf-8")

    with pytest.raises(BuildError, match=r"glossary\.txt:2: '退款 refund' is no word=translation"):
        read_glossary(tmp_path / "glossary.txt")
