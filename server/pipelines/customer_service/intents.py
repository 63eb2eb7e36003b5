"""What a question is about, from the encoder's intent head: a calibrated probability, and "out of scope" below a threshold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from server.encoder_domain import EncoderInfo
from server.support_domain import Intent

OUT_OF_SCOPE = "out_of_scope"


def intent_of(
    info: EncoderInfo, logits_NC: npt.NDArray[np.float32] | None, threshold: float | None = None
) -> Intent:
    """Read one text's logits.

    Args:
        info: of the encoder: labels, temperature, threshold.
        logits_NC: of one text; None: the encoder has no head.
        threshold: the shop's own; None: the model's.

    Returns:
        The likeliest intent with its probability; ``OUT_OF_SCOPE`` below the threshold, with the same probability; empty
        where there is no head.
    """
    if logits_NC is None or not info.labels or logits_NC.shape[1] != len(info.labels):
        return Intent(label="", confidence=0.0)
    scaled_C = logits_NC[0].astype(np.float64) / info.temperature
    raised_C = np.exp(scaled_C - scaled_C.max())
    best = int(raised_C.argmax())
    confidence = float(raised_C[best] / raised_C.sum())
    least = info.threshold if threshold is None else threshold
    label = info.labels[best] if confidence >= least else OUT_OF_SCOPE
    return Intent(label=label, confidence=confidence)
