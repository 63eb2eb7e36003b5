"""A trained intent head: the last matrix of the graph, its labels, and what makes a probability of its logits.

The head reads the engine's own ``embedding`` (pooled, of length 1): ``logits_NC = embedding_ND @ weights_CD.T + bias_C``.
Temperature and threshold are not in the graph: they are chosen again on validation without a new engine, and stand in
``intents.json``, which the server reads (``server/pipelines/encoder_loading.py``).

Suffixes: N texts, C intents, D width of the embedding.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from build_engines.data.errors import DataError

HEAD_FILE, INTENTS_FILE = "intent_head.npz", "intents.json"
OUT_OF_SCOPE = "out_of_scope"  # what the server says below the threshold; no label may be called so
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntentHead:
    """A linear classifier on the embedding.

    Attributes:
        weights_CD, bias_C: float32, finite.
        labels: C names, each once.
        temperature: logits are divided by it before the softmax (> 0).
        threshold: best probability below which a text is out of scope (0..1; 0: nothing is).

    Raises:
        ValueError: shapes, labels or numbers do not go together; says which.
    """

    weights_CD: Floats
    bias_C: Floats
    labels: tuple[str, ...]
    temperature: float = 1.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        """Check that the parts go together."""
        intents = len(self.labels)
        if (
            self.weights_CD.ndim != 2
            or self.weights_CD.shape[0] != intents
            or self.bias_C.shape != (intents,)
        ):
            raise ValueError(
                f"weights are {self.weights_CD.shape}, bias is {self.bias_C.shape}, and there are {intents} labels"
            )
        if (
            intents < 2
            or len(set(self.labels)) != intents
            or OUT_OF_SCOPE in self.labels
            or "" in self.labels
        ):
            raise ValueError(f'labels must be two or more, each once, none empty or "{OUT_OF_SCOPE}"')
        if not (np.isfinite(self.weights_CD).all() and np.isfinite(self.bias_C).all()):
            raise ValueError("a weight or bias is not finite")
        if not (0 < self.temperature < 1e6):
            raise ValueError(f"temperature is {self.temperature}, must be above 0")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}, must be a probability")

    def logits(self, embedding_ND: Floats) -> Floats:
        """What the graph computes, float32 ``[N, C]``."""
        return np.asarray(embedding_ND @ self.weights_CD.T + self.bias_C, np.float32)

    def probabilities(self, logits_NC: Floats) -> Floats:
        """What the server makes of logits, float32 ``[N, C]``."""
        return softmax(logits_NC / self.temperature)

    def described(self) -> dict[str, Any]:
        """The content of ``intents.json``."""
        return {"labels": list(self.labels), "temperature": self.temperature, "threshold": self.threshold}


def softmax(logits_NC: npt.NDArray[np.floating[Any]]) -> Floats:
    """Probabilities of each row."""
    shifted_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
    raised_NC = np.exp(shifted_NC.astype(np.float64))
    return np.asarray(raised_NC / raised_NC.sum(axis=1, keepdims=True), np.float32)


def save_head(head: IntentHead, folder: Path) -> None:
    """Write ``intent_head.npz`` and ``intents.json`` into ``folder``; the second is renamed into place last."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / HEAD_FILE).open("wb") as file:
        np.savez(file, weights_CD=head.weights_CD, bias_C=head.bias_C)
    aside = folder / f"{INTENTS_FILE}.part"
    aside.write_text(json.dumps(head.described(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(aside, folder / INTENTS_FILE)


def load_head(folder: Path) -> IntentHead:
    """Read what ``save_head`` wrote.

    Raises:
        DataError: a file is missing or damaged, or the two do not go together.
    """
    described, arrays = folder / INTENTS_FILE, folder / HEAD_FILE
    hint = "train the head again"
    try:
        texts = json.loads(described.read_text(encoding="utf-8"))
        with np.load(arrays, allow_pickle=False) as kept:
            weights_CD, bias_C = kept["weights_CD"], kept["bias_C"]
        return IntentHead(
            weights_CD=np.asarray(weights_CD, np.float32),
            bias_C=np.asarray(bias_C, np.float32),
            labels=tuple(str(label) for label in texts["labels"]),
            temperature=float(texts["temperature"]),
            threshold=float(texts["threshold"]),
        )
    except OSError as error:
        raise DataError(folder, f"the intent head cannot be read ({error})", hint=hint) from error
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(folder, f"the intent head is damaged ({error})", hint=hint) from error
