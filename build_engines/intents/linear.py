"""A head on frozen vectors: multinomial logistic regression, its L2 chosen on validation. Seconds, and convex: no seed.

Texts about nothing teach the head to be unsure (their target is the same probability for every intent), so that one number, the
best probability, tells both what a text is about and whether it is about anything.

Suffixes: N texts, C intents, D width.

Source:
    Hendrycks et al., "Deep Anomaly Detection with Outlier Exposure", 2019 (uniform targets for outliers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from build_engines.intents.calibration import Floats, Labels, fitted_temperature, negative_log_likelihood
from build_engines.intents.linear_parts import LinearConfig
from build_engines.intents.split import balanced_weights

OUTSIDE = -1  # label of a text that is about nothing
# Vectors have length 1 and differ little: weights of this size are where the optimum is, and an optimizer starts near it.
_SCALE = 16.0
_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class L2Trial:
    """One strength: loss on validation at the best temperature, and accuracy there."""

    l2: float
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearFit:
    """What came out: ``weights_CD``, ``bias_C``, the strength, and what was tried."""

    weights_CD: Floats
    bias_C: Floats
    l2: float
    trials: tuple[L2Trial, ...]


def fit_linear(
    vectors_ND: Floats,
    labels_N: Labels,
    validation_MD: Floats,
    validation_M: Labels,
    intents: int,
    config: LinearConfig,
    trust_N: Floats | None = None,
) -> LinearFit:
    """Learn a head for each strength, from the strongest on, and keep the one with the smallest loss on validation.

    Args:
        vectors_ND: to learn from.
        labels_N: intents, or ``OUTSIDE``.
        validation_MD: to choose by; rows about nothing are not looked at.
        validation_M: their labels.
        intents: C.
        config: see there.
        trust_N: what each text counts beside balance; None: 1.
    """
    inside_M = validation_M != OUTSIDE
    best: LinearFit | None = None
    trials: list[L2Trial] = []
    start: tuple[Tensor, Tensor] | None = None
    for l2 in sorted(config.l2, reverse=True):
        start = _descend(vectors_ND, labels_N, intents, l2, config, start, trust_N)
        weights_CD, bias_C = _plain(start)
        logits_MC = np.asarray(validation_MD[inside_M] @ weights_CD.T + bias_C, np.float32)
        labels_M = validation_M[inside_M]
        temperature = fitted_temperature(logits_MC, labels_M)
        trial = L2Trial(
            l2=l2,
            loss=negative_log_likelihood(logits_MC, labels_M, temperature),
            accuracy=float((logits_MC.argmax(axis=1) == labels_M).mean()),
        )
        trials.append(trial)
        if best is None or trial.loss < min(one.loss for one in trials[:-1]):
            best = LinearFit(weights_CD=weights_CD, bias_C=bias_C, l2=l2, trials=())
    assert best is not None
    return LinearFit(weights_CD=best.weights_CD, bias_C=best.bias_C, l2=best.l2, trials=tuple(trials))


def refit_linear(
    fit: LinearFit, vectors_ND: Floats, labels_N: Labels, config: LinearConfig, trust_N: Floats | None = None
) -> tuple[Floats, Floats]:
    """Weights and bias from other texts, at the strength that was chosen."""
    start = (torch.from_numpy(fit.weights_CD / _SCALE), torch.from_numpy(fit.bias_C / _SCALE))
    return _plain(_descend(vectors_ND, labels_N, len(fit.bias_C), fit.l2, config, start, trust_N))


def example_weights(labels_N: Labels, intents: int, *, balance: float, outside_weight: float) -> Floats:
    """What each text counts; 1 on average over those about an intent."""
    inside_N = labels_N != OUTSIDE
    counts_C = np.bincount(labels_N[inside_N], minlength=intents)
    by_intent_C = np.asarray(balanced_weights(np.maximum(counts_C, 1).tolist(), balance), np.float32)
    weights_N = np.zeros(len(labels_N), np.float32)
    weights_N[inside_N] = by_intent_C[labels_N[inside_N]]
    outside = int((~inside_N).sum())
    if outside:
        weights_N[~inside_N] = outside_weight * int(inside_N.sum()) / outside
    return weights_N


def soft_targets(labels_N: Labels, intents: int, smoothing: float = 0.0) -> Floats:
    """Probabilities to learn ``[N, C]``: the label's, smoothed, or the same for all where a text is about nothing."""
    targets_NC = np.full((len(labels_N), intents), smoothing / intents, np.float32)
    inside_N = labels_N != OUTSIDE
    targets_NC[np.flatnonzero(inside_N), labels_N[inside_N]] += 1 - smoothing
    targets_NC[~inside_N] = 1 / intents
    return targets_NC


def _descend(
    vectors_ND: Floats,
    labels_N: Labels,
    intents: int,
    l2: float,
    config: LinearConfig,
    start: tuple[Tensor, Tensor] | None,
    trust_N: Floats | None,
) -> tuple[Tensor, Tensor]:
    inputs_ND = torch.from_numpy(np.ascontiguousarray(vectors_ND))
    targets_NC = torch.from_numpy(soft_targets(labels_N, intents))
    counts_N = torch.from_numpy(
        example_weights(labels_N, intents, balance=config.balance, outside_weight=config.outside_weight)
    )
    if trust_N is not None:
        counts_N = counts_N * torch.from_numpy(trust_N)
    if start is None:
        start = torch.zeros(intents, inputs_ND.shape[1]), torch.zeros(intents)
    weights_CD, bias_C = (one.clone().requires_grad_() for one in start)
    optimizer = torch.optim.LBFGS(
        [weights_CD, bias_C],
        max_iter=_STEPS,
        history_size=20,
        tolerance_grad=1e-6,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits_NC = _SCALE * (inputs_ND @ weights_CD.T + bias_C)
        losses_N = torch.nn.functional.cross_entropy(logits_NC, targets_NC, reduction="none")
        value = (losses_N * counts_N).sum() / counts_N.sum()
        value = value + 0.5 * l2 * _SCALE**2 * weights_CD.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights_CD.detach(), bias_C.detach()


def _plain(start: tuple[Tensor, Tensor]) -> tuple[Floats, Floats]:
    weights_CD, bias_C = start
    return (
        np.ascontiguousarray((_SCALE * weights_CD).numpy()),
        np.ascontiguousarray((_SCALE * bias_C).numpy()),
    )


def label_numbers(intents_N: Sequence[str], names: Sequence[str]) -> Labels:
    """Rows of ``names``; ``OUTSIDE`` for what is not there."""
    rows = {name: row for row, name in enumerate(names)}
    return np.array([rows.get(intent, OUTSIDE) for intent in intents_N], np.int64)
