"""The same texts through two engines: what INT8 costs in intents, text by text.

The texts are the test side of the training (``train.JUDGED_FILE``): both engines read the same tokens, and only the texts that
they answer differently carry information.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from build_engines.data.errors import DataError
from build_engines.intents.calibration import Floats, Labels
from build_engines.intents.figures import Figures, figures
from build_engines.intents.head import IntentHead
from build_engines.intents.linear import OUTSIDE
from build_engines.intents.vectors import open_graph, run_texts
from build_engines.models.encoder.batches import Ids
from build_engines.models.encoder.graph import LOGITS
from build_engines.proof.paired_right import PairedTexts, paired_texts

JUDGED_FILE = "judged.npz"
MAX_LOSS_POINTS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnginePair:
    """What two engines make of the texts about an intent.

    Attributes:
        parent, candidate: each by itself.
        paired: text by text.
        same_answer: share of all texts, about an intent or not, for which both say the same intent.
        parent_right_N, candidate_right_N: of every judged text: its intent is the one that it has. A text about none counts
            as wrong for both and says nothing.
        holds: the loss is at most ``MAX_LOSS_POINTS``.
    """

    parent: Figures
    candidate: Figures
    paired: PairedTexts
    same_answer: float
    parent_right_N: npt.NDArray[np.bool_]
    candidate_right_N: npt.NDArray[np.bool_]
    holds: bool


def compare_engines(
    head: IntentHead,
    folder: Path,
    parent: bytes | Path,
    candidate: bytes | Path,
    *,
    parent_head: IntentHead | None = None,
) -> EnginePair:
    """Run both graphs over the judged texts of ``folder``.

    Args:
        head: whose labels and temperature count.
        folder: of the training.
        parent: FP32 graph with the output ``logits``.
        candidate: the other.
        parent_head: of the parent, where it has one of its own, of the same labels; None: the same head.

    Raises:
        DataError: the texts are missing or damaged.
    """
    ids, labels_N = judged_texts(folder)
    inside_N = labels_N != OUTSIDE
    parent_NC, candidate_NC = (logits_of(graph, ids) for graph in (parent, candidate))
    told = [
        figures(one.probabilities(logits_NC[inside_N]), labels_N[inside_N], one.labels)
        for one, logits_NC in ((parent_head or head, parent_NC), (head, candidate_NC))
    ]
    right = [(logits_NC.argmax(axis=1) == labels_N) & inside_N for logits_NC in (parent_NC, candidate_NC)]
    paired = paired_texts(right[0][inside_N], right[1][inside_N])
    return EnginePair(
        parent=told[0],
        candidate=told[1],
        paired=paired,
        same_answer=float((parent_NC.argmax(axis=1) == candidate_NC.argmax(axis=1)).mean()),
        parent_right_N=right[0],
        candidate_right_N=right[1],
        holds=paired.loss_points <= MAX_LOSS_POINTS,
    )


def judged_texts(folder: Path) -> tuple[list[Ids | None], Labels]:
    """Tokens and labels of the test texts, as the training left them."""
    path = folder / JUDGED_FILE
    try:
        with np.load(path, allow_pickle=False) as kept:
            flat, lengths_N, labels_N = kept["ids"], kept["lengths_N"], kept["labels_N"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            path, f"the judged texts cannot be read ({error})", hint="train the intents again"
        ) from error
    ends = np.cumsum(lengths_N)
    ids = [flat[end - length : end] if length else None for end, length in zip(ends, lengths_N, strict=True)]
    return ids, labels_N


def logits_of(graph: bytes | Path, ids: list[Ids | None]) -> Floats:
    """What a graph with an intent head makes of texts, ``[N, C]``; zeros for a text of which nothing can be read."""
    logits_NC, _ = run_texts(open_graph(graph), ids, LOGITS)
    return logits_NC
