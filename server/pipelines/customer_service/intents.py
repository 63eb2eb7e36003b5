"""What a question is about, from the encoder's intent head: a calibrated probability, and "out of scope" below a threshold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from server.encoder_domain import EncoderInfo
from server.support_domain import Intent

OUT_OF_SCOPE = "out_of_scope"


def intent_probabilities(
    info: EncoderInfo, logits_NC: npt.NDArray[np.float32] | None
) -> npt.NDArray[np.float32] | None:
    """Calibrated probabilities ``[N, C]``; None where the encoder has no head."""
    if logits_NC is None or not info.labels or logits_NC.shape[1] != len(info.labels):
        return None
    scaled_NC = logits_NC.astype(np.float64) / info.temperature
    raised_NC = np.exp(scaled_NC - scaled_NC.max(axis=1, keepdims=True))
    return np.asarray(raised_NC / raised_NC.sum(axis=1, keepdims=True), np.float32)


def intent_of(
    info: EncoderInfo, probabilities_C: npt.NDArray[np.float32] | None, threshold: float | None = None
) -> Intent:
    """The likeliest intent.

    Args:
        info: of the encoder: labels, threshold.
        probabilities_C: of one text; None: the encoder has no head.
        threshold: the shop's own; None: the model's.

    Returns:
        The intent with its probability; ``OUT_OF_SCOPE`` below the threshold, with the same probability; empty where there
        is no head.
    """
    if probabilities_C is None:
        return Intent(label="", confidence=0.0)
    best = int(probabilities_C.argmax())
    confidence = float(probabilities_C[best])
    least = info.threshold if threshold is None else threshold
    return Intent(label=info.labels[best] if confidence >= least else OUT_OF_SCOPE, confidence=confidence)
