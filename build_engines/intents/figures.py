"""How good a classifier is, text by text and intent by intent.

A mean hides the intent that is never found, so recall is told for each, and the pairs that are taken for one another by name:
that list is what a shop mends its labels with.

Suffixes: N texts, C intents.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from build_engines.intents.calibration import Floats, Labels, expected_calibration_error
from build_engines.proof.paired_right import wilson_interval

PAIRS_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRow:
    """One intent.

    Attributes:
        label: its name.
        texts: judged.
        recall, precision, f1: NaN where there is nothing to divide by.
    """

    label: str
    texts: int
    recall: float
    precision: float
    f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """How often one intent was taken for another."""

    intent: str
    taken_for: str
    texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of it, over one set.

    Attributes:
        texts: judged.
        accuracy: with its 95 % interval in ``interval``.
        macro_f1: mean over the intents that are judged.
        ece: expected calibration error, 15 bins.
        rows: by intent, worst recall first.
        confusions: most frequent first.
    """

    texts: int
    accuracy: float
    interval: tuple[float, float]
    macro_f1: float
    ece: float
    rows: tuple[IntentRow, ...]
    confusions: tuple[Confusion, ...]


def figures(probabilities_NC: Floats, labels_N: Labels, names: Sequence[str]) -> Figures:
    """Judge probabilities.

    Args:
        probabilities_NC: calibrated.
        labels_N: rows of ``names``.
        names: of the C intents.

    Raises:
        ValueError: there is nothing to judge, or the shapes differ.
    """
    if not len(labels_N) or probabilities_NC.shape != (len(labels_N), len(names)):
        raise ValueError(
            f"{probabilities_NC.shape} probabilities, {len(labels_N)} labels, {len(names)} names"
        )
    chosen_N = probabilities_NC.argmax(axis=1)
    rows = []
    for intent, name in enumerate(names):
        is_N, said_N = labels_N == intent, chosen_N == intent
        both = int((is_N & said_N).sum())
        recall = both / int(is_N.sum()) if is_N.any() else math.nan
        precision = both / int(said_N.sum()) if said_N.any() else math.nan
        f1 = 2 * both / (int(is_N.sum()) + int(said_N.sum())) if is_N.any() else math.nan
        rows.append(IntentRow(label=name, texts=int(is_N.sum()), recall=recall, precision=precision, f1=f1))
    judged = [row for row in rows if row.texts]
    wrong = Counter(
        (names[is_], names[said]) for is_, said in zip(labels_N, chosen_N, strict=True) if is_ != said
    )
    right = int((chosen_N == labels_N).sum())
    return Figures(
        texts=len(labels_N),
        accuracy=right / len(labels_N),
        interval=wilson_interval(right, len(labels_N)),
        macro_f1=math.fsum(row.f1 for row in judged) / len(judged),
        ece=expected_calibration_error(probabilities_NC, labels_N),
        rows=tuple(sorted(judged, key=lambda row: (row.recall, row.label))),
        confusions=tuple(
            Confusion(intent=is_, taken_for=said, texts=count)
            for (is_, said), count in wrong.most_common(PAIRS_SHOWN)
        ),
    )
