"""Two encoders on the same texts: whose passages are found first, whose intents are right, how certain each is rightly.

Suffixes: N texts, C intents, D width.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from build_engines.compare.limits import CompareLimits
from build_engines.compare.records import MetricRow
from build_engines.compare.texts import refuse_other_tokens
from build_engines.encoder.load import GATE, PASSAGES, QUESTIONS
from build_engines.encoder.verify import encode
from build_engines.errors import BuildError
from build_engines.intents.calibration import Floats, Labels
from build_engines.intents.figures import figures
from build_engines.intents.head import INTENTS_FILE, softmax
from build_engines.intents.linear import OUTSIDE
from build_engines.intents.paired import logits_of
from build_engines.models.encoder.batches import Ids
from build_engines.models.encoder.package import GRAPH_FILE
from build_engines.proof.encoder_examples import ACCURACY, ANSWERS, JUDGED, LABELS, RECALL
from build_engines.proof.examples import Examples
from build_engines.proof.paired_right import paired_texts
from build_engines.proof.records import Outcome, SliceRow
from build_engines.proof.slices import judged, of_right
from build_engines.records import SpeedRow
from build_engines.speed import measure_in_turn, speed_row
from server.artifacts.repository import OpenedVersion
from server.engines.onnxruntime_encoder import OnnxRuntimeEncoder

TOKENS = 24
Right = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """Of one version: vectors of the gate's texts, questions that find their passage, intents (None: no head)."""

    vectors_ND: Floats
    found_N: Right
    right_N: Right | None
    macro_f1: float
    ece: float


def compare_encoders(
    a: OpenedVersion, b: OpenedVersion, examples: Examples, limits: CompareLimits
) -> tuple[tuple[MetricRow, ...], tuple[SliceRow, ...], tuple[SpeedRow, ...]]:
    """R@1, intents, cosines, slices, speed.

    Raises:
        BuildError: the two have different tokenizers.
    """
    refuse_other_tokens(a, b)
    _refuse_other_labels(a, b)
    with contextlib.ExitStack() as stack:
        engines = {}
        for name, opened in (("A", a), ("B", b)):
            engines[name] = OnnxRuntimeEncoder(opened.path(GRAPH_FILE), threads=1)
            stack.callback(engines[name].close)
        told = {
            name: _told(engines[name], opened, examples, limits.examples)
            for name, opened in (("A", a), ("B", b))
        }
        speed = _speed(engines, limits)
    before, after = told["A"], told["B"]
    rows: list[MetricRow] = []
    if before.found_N.size:
        rows.append(_shares(RECALL, before.found_N, after.found_N, limits))
    if before.right_N is not None and after.right_N is not None:
        inside_N = examples.arrays[LABELS][: before.right_N.size] != OUTSIDE
        rows.append(_shares(ACCURACY, before.right_N[inside_N], after.right_N[inside_N], limits))
        n = int(inside_N.sum())
        rows += [
            MetricRow(name="macro F1 of the intents", n=n, a=before.macro_f1, b=after.macro_f1),
            MetricRow(name="calibration error (ECE) of the intents", n=n, a=before.ece, b=after.ece),
        ]
    rows += _cosines(before.vectors_ND, after.vectors_ND)
    return tuple(rows), judged(_slices(told, examples, limits)), speed


def _refuse_other_labels(a: OpenedVersion, b: OpenedVersion) -> None:
    labels = [
        json.loads((one.folder / INTENTS_FILE).read_text(encoding="utf-8"))["labels"]
        for one in (a, b)
        if (one.folder / INTENTS_FILE).is_file()
    ]
    if len(labels) == 2 and labels[0] != labels[1]:
        raise BuildError(
            f"{a.folder} and {b.folder} know other intents ({len(labels[0])} and {len(labels[1])}, or in another order): "
            "what is right for one is not right for the other"
        )


def _told(engine: OnnxRuntimeEncoder, opened: OpenedVersion, examples: Examples, most: int) -> _Told:
    texts = _ids(examples, GATE, most)
    questions, passages = _ids(examples, QUESTIONS, most), _ids(examples, PASSAGES, 0)
    found_N = np.zeros(0, np.bool_)
    if questions:
        first_N = (encode(engine, questions) @ encode(engine, passages).T).argmax(axis=1)
        found_N = first_N == examples.arrays[ANSWERS][: len(questions)]
    right_N, macro_f1, ece = None, 0.0, 0.0
    if LABELS in examples.arrays and (opened.folder / INTENTS_FILE).is_file():
        judged_ids: list[Ids | None] = [one if one.size else None for one in _ids(examples, JUDGED, most)]
        labels_N: Labels = examples.arrays[LABELS][: len(judged_ids)].astype(np.int64)
        logits_NC = logits_of(opened.path(GRAPH_FILE), judged_ids)
        right_N = (logits_NC.argmax(axis=1) == labels_N) & (labels_N != OUTSIDE)
        inside_N = labels_N != OUTSIDE
        described = json.loads(opened.path(INTENTS_FILE).read_text(encoding="utf-8"))
        shares = softmax(logits_NC[inside_N] / float(described["temperature"]))
        both = figures(shares, labels_N[inside_N], [str(one) for one in described["labels"]])
        macro_f1, ece = both.macro_f1, both.ece
    return _Told(encode(engine, texts), found_N, right_N, macro_f1, ece)


def _ids(examples: Examples, name: str, most: int) -> list[Ids]:
    rows = [one.astype(np.int64) for one in examples.ragged(name)]
    return rows[:most] if most else rows


def _shares(name: str, before_N: Right, after_N: Right, limits: CompareLimits) -> MetricRow:
    found = paired_texts(before_N, after_N)
    verdict: Outcome = "undecidable"
    if found.loss_ci[1] < limits.max_points:
        verdict = "pass"
    elif found.loss_ci[0] > limits.max_points:
        verdict = "fail"
    return MetricRow(
        name=name,
        n=found.texts,
        a=found.parent_accuracy,
        b=found.candidate_accuracy,
        loss=found.loss_points,
        interval=found.loss_ci,
        unit="points",
        limit=limits.max_points,
        test=f"McNemar's exact test: only A right {found.only_parent}, only B right {found.only_candidate}",
        p_value=found.p_value,
        verdict=verdict,
        n_to_decide=found.texts_to_decide(limits.max_points),
    )


def _cosines(before_ND: Floats, after_ND: Floats) -> list[MetricRow]:
    n = len(before_ND)
    if before_ND.shape != after_ND.shape:
        return [MetricRow(name="width of the vectors", n=n, a=before_ND.shape[1], b=after_ND.shape[1])]
    lengths_N = np.linalg.norm(before_ND, axis=1) * np.linalg.norm(after_ND, axis=1)
    cosines_N = (before_ND.astype(np.float64) * after_ND).sum(axis=1) / np.maximum(lengths_N, 1e-12)
    return [
        MetricRow(name="mean cosine of B's vectors with A's", n=n, a=1.0, b=float(cosines_N.mean())),
        MetricRow(name="least cosine of B's vectors with A's", n=n, a=1.0, b=float(cosines_N.min())),
    ]


def _slices(told: Mapping[str, _Told], examples: Examples, limits: CompareLimits) -> list[SliceRow]:
    rows = []
    points = 100 * limits.max_slice_loss
    for name, mask in examples.slices.items():
        metric, _, part = name.partition("/")
        sides = [one.found_N if metric == RECALL else one.right_N for one in (told["A"], told["B"])]
        before_N, after_N = sides
        if before_N is None or after_N is None or not before_N.size:
            continue
        inside_N = mask[: before_N.size]
        rows.append(of_right(part, metric, before_N[inside_N], after_N[inside_N], limit_points=points))
    return rows


def _speed(engines: Mapping[str, OnnxRuntimeEncoder], limits: CompareLimits) -> tuple[SpeedRow, ...]:
    rows = []
    generator = np.random.default_rng(limits.seed)
    for size in limits.batch_sizes if limits.rounds else ():
        ids_BT = generator.integers(1, 1000, (size, TOKENS)).astype(np.int64)
        lengths_B = np.full(size, TOKENS, np.int64)
        runs = {name: partial(engine.run, ids_BT, lengths_B) for name, engine in engines.items()}
        measured = measure_in_turn(runs, rounds=limits.rounds)
        rows.append(speed_row(size, measured["A"], measured["B"], seed=limits.seed))
    return tuple(rows)
