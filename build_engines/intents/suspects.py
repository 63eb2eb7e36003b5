"""Labels that look wrong: examples that a head learnt from the others is sure to be about something else.

A head learnt from a tenth with wrong labels is still right about most of them, as long as it has not seen them: so each example
is judged by a head that was learnt without its fold. What is found is told by name, for the shop to mend; how much it counts
in training is the recipe's choice.

Source:
    Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from build_engines.intents.calibration import Floats, Labels
from build_engines.intents.head import softmax
from build_engines.intents.linear import OUTSIDE, LinearFit, refit_linear
from build_engines.intents.linear_parts import LinearConfig

FOLDS = 4
SURE, UNSURE = 0.8, 0.05  # probability of the other intent, and of the one that the label says


def suspect_labels(
    fit: LinearFit, vectors_ND: Floats, labels_N: Labels, config: LinearConfig, *, seed: int = 0
) -> tuple[npt.NDArray[np.bool_], Labels]:
    """Which examples look mislabelled ``[N]``, and what they look like ``[N]``.

    Args:
        fit: a head on all of them; its strength is used.
        vectors_ND: of the examples.
        labels_N: their labels.
        config: of the head.
        seed: of the folds.
    """
    fold_N = np.random.default_rng(seed).permutation(len(labels_N)) % FOLDS
    probabilities_NC = np.zeros((len(labels_N), len(fit.bias_C)), np.float32)
    for fold in range(FOLDS):
        rest = fold_N != fold
        # From nothing: the fit on all has seen the fold.
        empty = LinearFit(
            weights_CD=np.zeros_like(fit.weights_CD),
            bias_C=np.zeros_like(fit.bias_C),
            l2=fit.l2,
            trials=(),
        )
        weights_CD, bias_C = refit_linear(empty, vectors_ND[rest], labels_N[rest], config)
        probabilities_NC[~rest] = softmax(vectors_ND[~rest] @ weights_CD.T + bias_C)
    own_N = probabilities_NC[np.arange(len(labels_N)), np.maximum(labels_N, 0)]
    suspect_N = (labels_N != OUTSIDE) & (own_N < UNSURE) & (probabilities_NC.max(axis=1) > SURE)
    return suspect_N, probabilities_NC.argmax(axis=1)
