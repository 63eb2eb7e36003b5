"""Metrics of labelled rows, and what a second engine loses of them on the same rows: one figure with a paired interval.

Suffixes: N rows, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engines.errors import BuildError
from build_engines.own_model.metric_names import higher_is_better, metric_cutoff

Floats = npt.NDArray[np.float64]
_RESAMPLES = 2000
_Z = 1.959963984540054  # of 95 %
CELLS_PER_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedLoss:
    """What the candidate loses.

    Attributes:
        metric: its name.
        parent: of the parent.
        candidate: of the candidate.
        loss: relative to the parent's, positive is worse; NaN where the parent's is 0.
        interval: of ``loss``, 95 %.
        units: rows or groups that it rests on.
    """

    metric: str
    parent: float
    candidate: float
    loss: float
    interval: tuple[float, float]
    units: int


def paired_loss(
    metric: str,
    parent: npt.NDArray[np.floating],
    candidate: npt.NDArray[np.floating],
    labels_N: npt.NDArray[np.generic],
    groups_N: npt.NDArray[np.integer] | None = None,
    *,
    logits: bool = False,
    seed: int = 0,
) -> PairedLoss:
    """Hold two engines' outputs for the same rows against the labels.

    Args:
        metric: see ``metric_names``.
        parent: outputs ``[N]``, ``[N, 1]``, or ``[N, C]`` for "accuracy" and "log_loss" of C classes.
        candidate: the same of the candidate.
        labels_N: 0 and 1 ("auc", "log_loss"), classes, gains ("ndcg"), or numbers.
        groups_N: which rows are ranked together, for "ndcg".
        logits: outputs are logits of a probability, for "log_loss" of one column.
        seed: of resampling.

    Raises:
        BuildError: labels or outputs cannot be judged by this metric; says which.
    """
    if metric == "auc":
        return _paired_auc(_column(metric, parent), _column(metric, candidate), _binary(metric, labels_N))
    units = [unit_values(metric, one, labels_N, groups_N, logits=logits) for one in (parent, candidate)]
    return _bootstrapped(metric, units[0], units[1], seed)


def unit_values(
    metric: str,
    outputs: npt.NDArray[np.floating],
    labels_N: npt.NDArray[np.generic],
    groups_N: npt.NDArray[np.integer] | None = None,
    *,
    logits: bool = False,
) -> Floats:
    """A metric that is a mean: its value for each row, or for each group of rows."""
    name, cutoff = metric.partition("@")[0], metric_cutoff(metric)
    if name == "accuracy":
        return _accuracy(outputs, labels_N)
    if name == "log_loss":
        return _log_losses(outputs, labels_N, logits)
    if name == "ndcg":
        assert cutoff is not None, "ndcg has one"
        if groups_N is None:
            raise BuildError(f"{metric} needs groups: name the array in data.groups")
        return group_ndcg(_column(metric, outputs), labels_N.astype(np.float64), groups_N, cutoff)
    errors = _column(metric, outputs) - labels_N.astype(np.float64)
    return errors**2 if name == "mse" else np.abs(errors)


def auc(scores_N: npt.NDArray[np.floating], labels_N: npt.NDArray[np.generic]) -> float:
    """Area under the receiver operating characteristic; ties count half."""
    positive = labels_N.astype(bool)
    ranks_N = _midranks(np.asarray(scores_N, np.float64))
    ones, zeros = int(positive.sum()), int((~positive).sum())
    return float((ranks_N[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def group_ndcg(scores_N: Floats, gains_N: Floats, groups_N: npt.NDArray[np.integer], cutoff: int) -> Floats:
    """NDCG at a cutoff of each group that has a gain, ``[G]``, in the order of group numbers; ties count against us.

    Source:
        Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002.
    """
    order = np.lexsort((gains_N, -scores_N, groups_N))  # among equal scores the least gain first
    groups, gains = groups_N[order], gains_N[order]
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    place = np.arange(groups.size) - np.repeat(starts, np.diff(np.r_[starts, groups.size]))
    weights = np.where(place < cutoff, 1 / np.log2(place + 2.0), 0.0)
    found = np.add.reduceat(gains * weights, starts)
    best = gains_N[np.lexsort((-gains_N, groups_N))]
    ideal = np.add.reduceat(best * weights, starts)
    kept = ideal > 0
    return np.asarray(found[kept] / ideal[kept], np.float64)


def _paired_auc(parent_N: Floats, candidate_N: Floats, positive_N: npt.NDArray[np.bool_]) -> PairedLoss:
    """Both areas and the interval of their relative difference.

    Source:
        DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
        characteristic curves", 1988; by midranks: Sun and Xu, 2014.
    """
    ones, zeros = int(positive_N.sum()), int((~positive_N).sum())
    areas, of_ones, of_zeros = [], [], []
    for scores_N in (parent_N, candidate_N):
        ranks_N = _midranks(scores_N)
        areas.append(float((ranks_N[positive_N].sum() - ones * (ones + 1) / 2) / (ones * zeros)))
        of_ones.append((ranks_N[positive_N] - _midranks(scores_N[positive_N])) / zeros)
        of_zeros.append(1 - (ranks_N[~positive_N] - _midranks(scores_N[~positive_N])) / ones)
    spread = float(
        np.var(of_ones[0] - of_ones[1], ddof=1) / ones + np.var(of_zeros[0] - of_zeros[1], ddof=1) / zeros
    )
    parent, candidate = areas
    half = _Z * np.sqrt(max(spread, 0.0)) / parent if parent else np.nan
    loss = (parent - candidate) / parent if parent else np.nan
    return PairedLoss(
        metric="auc",
        parent=parent,
        candidate=candidate,
        loss=float(loss),
        interval=(float(loss - half), float(loss + half)),
        units=ones + zeros,
    )


def _bootstrapped(metric: str, parent_U: Floats, candidate_U: Floats, seed: int) -> PairedLoss:
    sign = 1.0 if higher_is_better(metric) else -1.0
    n = parent_U.size
    pairs, counts = np.unique(np.stack([parent_U, candidate_U], axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    losses = []
    chunk = max(1, CELLS_PER_CHUNK // len(pairs))
    for start in range(0, _RESAMPLES, chunk):
        drawn = generator.multinomial(n, counts / n, size=min(chunk, _RESAMPLES - start))
        parents, candidates = (drawn @ pairs).T
        with np.errstate(divide="ignore", invalid="ignore"):
            losses.append(sign * (parents - candidates) / parents)
    every = np.concatenate(losses)
    parent, candidate = float(parent_U.mean()), float(candidate_U.mean())
    loss = sign * (parent - candidate) / parent if parent else float("nan")
    low, high = (
        np.quantile(every, [0.025, 0.975]) if np.isfinite(every).all() else (float("-inf"), float("inf"))
    )
    return PairedLoss(
        metric=metric,
        parent=parent,
        candidate=candidate,
        loss=loss,
        interval=(float(low), float(high)),
        units=n,
    )


def _accuracy(outputs: npt.NDArray[np.floating], labels_N: npt.NDArray[np.generic]) -> Floats:
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        return np.asarray(outputs.argmax(axis=1) == labels_N, np.float64)
    raise BuildError(f"accuracy needs an output with a column for each class, this has shape {outputs.shape}")


def _log_losses(outputs: npt.NDArray[np.floating], labels_N: npt.NDArray[np.generic], logits: bool) -> Floats:
    values = np.asarray(outputs, np.float64)
    if values.ndim == 2 and values.shape[1] > 1:
        classes = labels_N.astype(np.int64)
        if classes.min(initial=0) < 0 or classes.max(initial=0) >= values.shape[1]:
            raise BuildError(
                f"log_loss: labels go to {classes.max()}, the output has {values.shape[1]} classes"
            )
        shifted = values - values.max(axis=1, keepdims=True)
        chosen = np.take_along_axis(shifted, classes[:, None], axis=1)[:, 0]
        return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - chosen, np.float64)
    column, positive = _column("log_loss", values), _binary("log_loss", labels_N)
    if logits:
        return np.asarray(np.logaddexp(0.0, np.where(positive, -column, column)), np.float64)
    if column.min() < 0 or column.max() > 1:
        raise BuildError(
            f"log_loss: outputs go from {column.min():.3g} to {column.max():.3g}, no probabilities; set gate.logits = true where "
            "they are logits"
        )
    kept = np.clip(column, 1e-7, 1 - 1e-7)
    return np.asarray(-np.log(np.where(positive, kept, 1 - kept)), np.float64)


def _column(metric: str, outputs: npt.NDArray[np.floating]) -> Floats:
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        outputs = outputs[:, 0]
    if outputs.ndim != 1:
        raise BuildError(f"{metric} needs one number a row, the output has shape {outputs.shape}")
    return np.asarray(outputs, np.float64)


def _binary(metric: str, labels_N: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    values = np.unique(labels_N)
    if labels_N.ndim != 1 or not np.isin(values, [0, 1]).all() or values.size != 2:
        raise BuildError(f"{metric} needs labels that are 0 or 1, both of them; found {values[:5].tolist()}")
    return labels_N.astype(bool)


def _midranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], np.float64)
