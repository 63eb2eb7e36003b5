"""Train what a recipe's [intents] asks for: read, divide, learn, calibrate, choose the threshold, judge, write.

Everything is chosen on validation; test is looked at once, at the end, by the head that is written. The folder that comes out
holds ``intent_head.npz`` and ``intents.json`` (``head``), ``judged.npz`` with the test texts' tokens (so that the INT8 engine
is judged on the same ones, ``paired``), ``intents_report.json`` and ``.html``, and for the method "full" the tuned encoder
in ``checkpoint``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from build_engines.intents.calibration import (
    Floats,
    chosen_threshold,
    expected_calibration_error,
    fitted_temperature,
    threshold_curve,
)
from build_engines.intents.examples import Example, labels_of
from build_engines.intents.figures import figures
from build_engines.intents.head import OUT_OF_SCOPE, IntentHead, save_head
from build_engines.intents.judging import Side, by_language, judged, probabilities, save_judged
from build_engines.intents.linear import (
    OUTSIDE,
    LinearFit,
    example_weights,
    fit_linear,
    label_numbers,
    refit_linear,
)
from build_engines.intents.recipe_parts import IntentsPart
from build_engines.intents.records import IntentsRecord
from build_engines.intents.report import IntentsReport, write_report
from build_engines.intents.sources import load_sets
from build_engines.intents.suspects import suspect_labels
from build_engines.intents.vectors import EncoderSource, encoder_graph, open_graph, run_texts, token_ids
from build_engines.progress import Progress

CHECKPOINT = "checkpoint"
THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(50))
_SUSPECTS_SHOWN = 20


def train_intents(
    part: IntentsPart,
    source: EncoderSource,
    *,
    folder: Path,
    scratch: Path,
    progress: Progress,
    threads: int = 1,
) -> IntentsRecord:
    """See the module.

    Args:
        part: of the recipe.
        source: the encoder.
        folder: to write into.
        scratch: for checkpoints; survives a kill.
        progress: what the person sees.
        threads: of the runtime, and of torch.

    Raises:
        DataError: the examples cannot be used; says where.
        BuildError: the encoder cannot be read or tuned.
    """
    import torch

    began = time.perf_counter()
    # A linear fit is thousands of dot products of some ten thousand values: a second thread spins between them, and costs
    # more than half of the time.
    torch.set_num_threads(threads if part.method == "full" else 1)
    sets, notes = load_sets(part)
    names = labels_of(sets.train)
    codec = source.codec(part.max_tokens)
    session = open_graph(encoder_graph(source), threads)

    def side(examples: tuple[Example, ...]) -> Side:
        ids = token_ids(codec, [one.text for one in examples])
        vectors_ND, read_N = run_texts(session, ids)
        labels_N = label_numbers([one.intent for one in examples], names)
        return Side(examples=examples, ids=ids, vectors_ND=vectors_ND, read_N=read_N, labels_N=labels_N)

    progress.say(f"intents: {len(sets.train)} examples of {len(names)} intents ...")
    train, validation, test = side(sets.train), side(sets.validation), side(sets.test)
    notes += _unread(train)
    fit = fit_linear(*train.readable(), *validation.readable(), len(names), part.linear)
    trust_N, suspects = _trust(train, fit, part)
    if part.suspect_weight < 1 and suspects:
        fit = fit_linear(
            *train.readable(), *validation.readable(), len(names), part.linear, trust_N[train.read_N]
        )
    if part.method == "full":
        head, epochs, logits = _tuned(
            part, source, train, validation, test, fit, names, trust_N, folder, scratch, progress
        )
    else:
        head, epochs = IntentHead(weights_CD=fit.weights_CD, bias_C=fit.bias_C, labels=names), 0.0
        logits = (head.logits(validation.vectors_ND), head.logits(test.vectors_ND))
    head = _calibrated(head, logits[0], validation, part)
    chosen_by = judged(head, "validation", logits[0], validation)
    if part.method == "linear" and part.linear.refit:
        head = _refitted(head, fit, train, validation, trust_N, part)
        logits = (logits[0], head.logits(test.vectors_ND))
    save_head(head, folder)
    save_judged(folder, test)
    all_figures = (chosen_by, *by_language(head, logits[1], test))
    record = IntentsRecord(
        method=part.method,
        checkpoint="" if part.method == "full" else str(source.checkpoint.absolute()),
        labels=names,
        train=len(sets.train),
        validation=len(sets.validation),
        test=len(sets.test),
        l2=fit.l2,
        temperature=head.temperature,
        threshold=head.threshold,
        epochs=epochs,
        suspects=len(suspects),
        figures=all_figures,
        seconds=time.perf_counter() - began,
        notes=notes,
    )
    write_report(folder, record, _report(head, fit, logits, validation, test, suspects))
    told = record.of("test")
    progress.say(
        f"intents: test accuracy {told.accuracy:.4f} (n = {told.texts}), macro F1 {told.macro_f1:.4f}, "
        f"calibration error {told.ece:.4f}, threshold {head.threshold:.2f}: {told.coverage:.1%} get an intent, "
        f"{told.answered_accuracy:.1%} of those the right one"
    )
    return record


def _tuned(
    part: IntentsPart,
    source: EncoderSource,
    train: Side,
    validation: Side,
    test: Side,
    fit: LinearFit,
    names: tuple[str, ...],
    trust_N: Floats,
    folder: Path,
    scratch: Path,
    progress: Progress,
) -> tuple[IntentHead, float, tuple[Floats, Floats]]:
    from build_engines.intents.finetune import (
        Taught,
        finetune_encoder,
        load_torch_encoder,
        save_encoder,
        torch_logits,
    )
    from build_engines.tuning_loop import LossPoint

    def taught(side: Side, weights_N: Floats) -> Taught:
        kept = np.flatnonzero(side.read_N)
        ids = [one for one in side.ids if one is not None]
        return Taught(ids=ids, labels_N=side.labels_N[kept], weights_N=weights_N[kept])

    def told(step: int, steps: int, point: LossPoint | None) -> None:
        if point is not None:
            progress.say(
                f"intents: step {step} of {steps}, loss {point.loss:.4f}, validation {point.heldout_loss:.4f}"
            )

    weights_N = trust_N * example_weights(
        train.labels_N,
        len(names),
        balance=part.linear.balance,
        outside_weight=part.linear.outside_weight,
    )
    model = load_torch_encoder(source, fit)
    result = finetune_encoder(
        model,
        part.finetune,
        taught(train, weights_N),
        taught(validation, np.ones(len(validation.labels_N), np.float32)),
        checkpoint=scratch / "intents.pt",
        progress=told,
    )

    def logits(side: Side) -> Floats:
        found_NC = np.zeros((len(side.ids), len(names)), np.float32)
        ids = [one for one in side.ids if one is not None]
        found_NC[side.read_N] = torch_logits(model, ids, part.finetune.device)
        return found_NC

    save_encoder(model, source.checkpoint, folder / CHECKPOINT)
    weights_CD, bias_C = model.head()
    head = IntentHead(weights_CD=weights_CD, bias_C=bias_C, labels=names)
    return head, result.curve[-1].epoch, (logits(validation), logits(test))


def _calibrated(head: IntentHead, logits_NC: Floats, validation: Side, part: IntentsPart) -> IntentHead:
    inside_N = (validation.labels_N != OUTSIDE) & validation.read_N
    head = replace(head, temperature=fitted_temperature(logits_NC[inside_N], validation.labels_N[inside_N]))
    inside_N = validation.labels_N != OUTSIDE
    probabilities_NC = probabilities(head, logits_NC, validation.read_N)
    threshold = chosen_threshold(
        probabilities_NC[inside_N],
        validation.labels_N[inside_N],
        probabilities_NC[~inside_N],
        max_out_answered=part.threshold.max_out_answered,
        max_wrong=part.threshold.max_wrong,
        min_coverage=part.threshold.min_coverage,
    )
    return replace(head, threshold=threshold)


def _refitted(
    head: IntentHead, fit: LinearFit, train: Side, validation: Side, trust_N: Floats, part: IntentsPart
) -> IntentHead:
    (some_ND, some_N), (more_ND, more_N) = train.readable(), validation.readable()
    trust = np.concatenate([trust_N[train.read_N], np.ones(len(more_N), np.float32)])
    weights_CD, bias_C = refit_linear(
        fit, np.concatenate([some_ND, more_ND]), np.concatenate([some_N, more_N]), part.linear, trust
    )
    return replace(head, weights_CD=weights_CD, bias_C=bias_C)


def _trust(train: Side, fit: LinearFit, part: IntentsPart) -> tuple[Floats, tuple[tuple[str, str, str], ...]]:
    trust_N = np.ones(len(train.examples), np.float32)
    if part.sample_shop is not None:  # generated labels are as they were meant
        return trust_N, ()
    suspect_N, like_N = suspect_labels(fit, *train.readable(), part.linear)
    rows = np.flatnonzero(train.read_N)[suspect_N]
    trust_N[rows] = part.suspect_weight
    names = labels_of(train.examples)
    likes = like_N[suspect_N].tolist()
    shown = tuple(
        (train.examples[row].text, train.examples[row].intent, names[like])
        for row, like in zip(rows.tolist(), likes, strict=True)
    )
    return trust_N, shown


def _unread(train: Side) -> tuple[str, ...]:
    unread = int((~train.read_N).sum())
    if not unread:
        return ()
    return (
        f"{unread} of {len(train.examples)} examples hold nothing that this encoder can read, and are not learnt from",
    )


def _report(
    head: IntentHead,
    fit: LinearFit,
    logits: tuple[Floats, Floats],
    validation: Side,
    test: Side,
    suspects: Sequence[tuple[str, str, str]],
) -> IntentsReport:
    inside_N = test.labels_N != OUTSIDE
    probabilities_NC = probabilities(head, logits[1], test.read_N)
    chosen_NC = probabilities(head, logits[0], validation.read_N)
    within_N = validation.labels_N != OUTSIDE
    return IntentsReport(
        test=figures(probabilities_NC[inside_N], test.labels_N[inside_N], head.labels),
        reliability_N=probabilities_NC[inside_N],
        labels_N=test.labels_N[inside_N],
        uncalibrated_ece=expected_calibration_error(
            replace(head, temperature=1.0).probabilities(logits[1][inside_N]), test.labels_N[inside_N]
        ),
        chosen_on=threshold_curve(
            chosen_NC[within_N], validation.labels_N[within_N], chosen_NC[~within_N], THRESHOLDS
        ),
        told_on=threshold_curve(
            probabilities_NC[inside_N], test.labels_N[inside_N], probabilities_NC[~inside_N], THRESHOLDS
        ),
        has_outside=any(one.intent == OUT_OF_SCOPE for one in (*validation.examples, *test.examples)),
        trials=fit.trials,
        suspects=tuple(suspects[:_SUSPECTS_SHOWN]),
    )
