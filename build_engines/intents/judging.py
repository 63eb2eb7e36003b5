"""One side of a split as the encoder sees it, and how good a head is on it.

A text that holds nothing the encoder can read gets the same probability for every intent: wrong where it is about one, and
out of scope for any threshold above that.

Suffixes: N texts, C intents, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from build_engines.intents.calibration import Floats, Labels, threshold_curve
from build_engines.intents.examples import Example
from build_engines.intents.figures import figures
from build_engines.intents.head import IntentHead
from build_engines.intents.linear import OUTSIDE
from build_engines.intents.paired import JUDGED_FILE
from build_engines.intents.records import IntentFigures
from build_engines.models.encoder.batches import Ids


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """One side of the split, as the encoder sees it.

    Attributes:
        examples: texts.
        ids: tokens; None: nothing in it can be read.
        vectors_ND: of the frozen encoder; zeros where there is nothing to read.
        read_N: whether there is.
        labels_N: intents, or ``OUTSIDE``.
    """

    examples: tuple[Example, ...]
    ids: list[Ids | None]
    vectors_ND: Floats
    read_N: npt.NDArray[np.bool_]
    labels_N: Labels

    def readable(self) -> tuple[Floats, Labels]:
        """Vectors and labels of what can be read."""
        return self.vectors_ND[self.read_N], self.labels_N[self.read_N]


def probabilities(head: IntentHead, logits_NC: Floats, read_N: npt.NDArray[np.bool_]) -> Floats:
    """Calibrated probabilities; the same for all intents where nothing can be read."""
    return np.where(read_N[:, None], head.probabilities(logits_NC), np.float32(1 / len(head.labels)))


def judged(head: IntentHead, name: str, logits_NC: Floats, side: Side) -> IntentFigures:
    """Figures of one set by the head's own temperature and threshold."""
    inside_N = side.labels_N != OUTSIDE
    probabilities_NC = probabilities(head, logits_NC, side.read_N)
    told = figures(probabilities_NC[inside_N], side.labels_N[inside_N], head.labels)
    (point,) = threshold_curve(
        probabilities_NC[inside_N],
        side.labels_N[inside_N],
        probabilities_NC[~inside_N],
        [head.threshold],
    )
    return IntentFigures(
        name=name,
        texts=told.texts,
        outside=int((~inside_N).sum()),
        unread=int((~side.read_N).sum()),
        accuracy=told.accuracy,
        accuracy_low=told.interval[0],
        accuracy_high=told.interval[1],
        macro_f1=told.macro_f1,
        ece=told.ece,
        coverage=point.coverage,
        answered_accuracy=point.accuracy if point.coverage else 0.0,
        out_answered=point.out_answered,
    )


def by_language(head: IntentHead, logits_NC: Floats, test: Side) -> tuple[IntentFigures, ...]:
    """Figures of the test set, and of each language where the examples name several."""
    languages = sorted({one.language for one in test.examples} - {""})
    told = [judged(head, "test", logits_NC, test)]
    for language in languages if len(languages) > 1 else ():
        rows = np.array([one.language == language for one in test.examples], np.bool_)
        if not (test.labels_N[rows] != OUTSIDE).any():
            continue
        some = Side(
            examples=tuple(one for one in test.examples if one.language == language),
            ids=[one for one, kept in zip(test.ids, rows, strict=True) if kept],
            vectors_ND=test.vectors_ND[rows],
            read_N=test.read_N[rows],
            labels_N=test.labels_N[rows],
        )
        told.append(judged(head, f"test {language}", logits_NC[rows], some))
    return tuple(told)


def save_judged(folder: Path, test: Side) -> None:
    """Write what ``paired.judged_texts`` reads."""
    lengths_N = np.array([0 if one is None else len(one) for one in test.ids], np.int64)
    flat = np.concatenate([one for one in test.ids if one is not None] or [np.zeros(0, np.int64)])
    np.savez(folder / JUDGED_FILE, ids=flat, lengths_N=lengths_N, labels_N=test.labels_N)
