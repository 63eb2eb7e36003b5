"""An encoder's examples of the gate, as they are kept in a version: questions, passages, and texts with their intents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from build_engines.encoder.load import ANSWERS_FILE, GATE, PASSAGES, QUESTIONS, ids_path
from build_engines.encoder.texts import load_ids
from build_engines.intents.paired import JUDGED_FILE, judged_texts
from build_engines.proof.examples import Examples, with_ragged
from build_engines.proof.slices import value_masks

ANSWERS, JUDGED, LABELS = "answers_C", "judged", "labels_C"
RECALL, ACCURACY = "R@1", "intent accuracy"  # metrics; slices are named after theirs


def encoder_examples(loaded: Path, headed: Path, languages: Mapping[str, Sequence[str]]) -> Examples:
    """What the stages ``encoder-load`` and ``intents`` left for the gate.

    Args:
        loaded: folder of the first.
        headed: folder of the second.
        languages: by metric, of each example.
    """
    arrays = {}
    for name in (GATE, QUESTIONS, PASSAGES):
        arrays.update(with_ragged(name, load_ids(ids_path(loaded, name))))
    arrays[ANSWERS] = np.load(loaded / ANSWERS_FILE).astype(np.int32)
    if (headed / JUDGED_FILE).is_file():
        ids, labels_N = judged_texts(headed)
        arrays.update(with_ragged(JUDGED, [np.zeros(0, np.int64) if one is None else one for one in ids]))
        arrays[LABELS] = labels_N.astype(np.int32)
    slices = {
        f"{metric}/{name}": mask
        for metric, values in languages.items()
        for name, mask in value_masks("language", values).items()
    }
    return Examples(arrays=arrays, slices=slices)
