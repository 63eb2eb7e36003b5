"""How good a classifier is, text by text and intent by intent, and whether another one is as good.

A mean hides the intent that is never found, so recall is told for each, and the pairs that are taken for one another by name:
that list is what a shop mends its labels with.

Suffixes: N texts, C intents.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engines.intents.calibration import Floats, Labels, expected_calibration_error

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


def wilson_interval(right: int, texts: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share.

    Source:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share = right / texts
    middle = share + z * z / (2 * texts)
    spread = z * math.sqrt(share * (1 - share) / texts + z * z / (4 * texts * texts))
    return (middle - spread) / (1 + z * z / texts), (middle + spread) / (1 + z * z / texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTexts:
    """Two classifiers on the same texts.

    Attributes:
        texts: judged.
        parent_accuracy, candidate_accuracy: shares.
        only_parent: texts that only the parent gets right.
        only_candidate: texts that only the candidate gets right.
        p_value: of McNemar's exact test, two-sided: how likely so uneven a division is by chance.
        loss_points: parent minus candidate in percentage points; negative: the candidate is better.
        loss_ci: its 95 % interval, from the discordant texts.
    """

    texts: int
    parent_accuracy: float
    candidate_accuracy: float
    only_parent: int
    only_candidate: int
    p_value: float
    loss_points: float
    loss_ci: tuple[float, float]

    def sentence(self, parent: str, candidate: str) -> str:
        """For a person."""
        return (
            f"{parent} {self.parent_accuracy:.4f}, {candidate} {self.candidate_accuracy:.4f}: loss "
            f"{self.loss_points:+.2f} points (95 % interval {self.loss_ci[0]:+.2f} to {self.loss_ci[1]:+.2f}); only {parent} right "
            f"{self.only_parent}, only {candidate} right {self.only_candidate}, McNemar p = {self.p_value:.3f}, n = {self.texts}"
        )


def paired_texts(parent_N: npt.NDArray[np.bool_], candidate_N: npt.NDArray[np.bool_]) -> PairedTexts:
    """Compare who is right, text by text.

    Args:
        parent_N: whether the parent is right.
        candidate_N: the same of the candidate.

    Raises:
        ValueError: the lengths differ, or there are no texts.

    Source:
        McNemar, "Note on the sampling error of the difference between correlated proportions", 1947; the exact form.
    """
    if parent_N.shape != candidate_N.shape or not parent_N.size:
        raise ValueError(f"{parent_N.shape} texts of the parent, {candidate_N.shape} of the candidate")
    texts = int(parent_N.size)
    lost, won = int((parent_N & ~candidate_N).sum()), int((~parent_N & candidate_N).sum())
    share = (lost - won) / texts
    # The variance of a difference of paired shares; one more of either kind, as none seen is not none there.
    spread = 1.96 * math.sqrt(max(0.0, (lost + won + 1) / texts - share * share) / texts)
    return PairedTexts(
        texts=texts,
        parent_accuracy=float(parent_N.mean()),
        candidate_accuracy=float(candidate_N.mean()),
        only_parent=lost,
        only_candidate=won,
        p_value=_exact_two_sided(min(lost, won), lost + won),
        loss_points=100 * share,
        loss_ci=(100 * (share - spread), 100 * (share + spread)),
    )


def _exact_two_sided(fewer: int, all_: int) -> float:
    if not all_:
        return 1.0
    log_half = all_ * math.log(0.5)
    tail = math.fsum(
        math.exp(math.lgamma(all_ + 1) - math.lgamma(one + 1) - math.lgamma(all_ - one + 1) + log_half)
        for one in range(fewer + 1)
    )
    return min(1.0, 2 * tail)
