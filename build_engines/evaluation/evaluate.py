"""One model's figures, whole and by slice, and two models' paired comparison.

Models come as functions, so this module knows no torch and no engine: one that scores
the whole catalogue, or one that answers its K best, as what is served does.

Shapes: C cases, B a batch, N items, K answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from build_engines.data.sequences import Sequences
from build_engines.data.splits import Cases
from build_engines.evaluation.metrics import (
    CUTOFFS,
    Ranks,
    Scores,
    coverage,
    means,
    per_case,
    ranks_from_scores,
    ranks_from_topk,
    topk_rows,
)
from build_engines.evaluation.slices import case_slices
from build_engines.proof.paired_means import PairedVerdict, paired_verdict

BATCH_CASES = 256
ANSWERS = max(CUTOFFS) + 1  # one more than the largest cutoff, to see a tie that crosses it


class ScoreCatalogue(Protocol):
    """A model that scores every item."""

    def __call__(self, histories: Sequences) -> Scores:
        """Scores [B, N] (column ``j`` is row ``j + 1``) or [B, N + 1] (column 0 is padding); seen items may be in."""
        ...


class RecommendTop(Protocol):
    """A model, or an engine as served, that answers its best unseen items."""

    def __call__(self, histories: Sequences, k: int) -> tuple[npt.NDArray[np.integer], Scores | None]:
        """Item rows [B, k], best first, 0 for no answer; and their scores, or None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceFigures:
    """One slice's figures.

    Attributes:
        n: cases in it.
        metrics: means by name (``ndcg@10``); NaN for no cases.
    """

    n: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Evaluation:
    """What one model did on one set of cases (protocol A; whole catalogue, seen items masked, ties against us).

    Attributes:
        model: its name.
        n: cases.
        metrics: means by name: recall, ndcg, mrr and coverage at each cutoff.
        slices: figures by slice.
        ranks_C: int32 [C], the rank of each case's target.
        masks: bool [C] by slice.
        top_rows_CK: the best items of each case, best first; 0: no answer.
    """

    model: str
    n: int
    metrics: dict[str, float]
    slices: dict[str, SliceFigures]
    ranks_C: Ranks
    masks: dict[str, npt.NDArray[np.bool_]]
    top_rows_CK: npt.NDArray[np.integer]

    def as_json(self) -> dict[str, object]:
        """Plain values for a report, without the ranks; None where there are no cases."""
        slices = {name: {"n": one.n, **_plain(one.metrics)} for name, one in self.slices.items()}
        return {"model": self.model, "n": self.n, "metrics": _plain(self.metrics), "slices": slices}


def evaluate_scores(
    model: str,
    score: ScoreCatalogue,
    cases: Cases,
    train_counts_N1: npt.NDArray[np.int64],
    *,
    batch: int = BATCH_CASES,
    more_slices: Mapping[str, npt.NDArray[np.bool_]] | None = None,
) -> Evaluation:
    """Evaluate a model that scores every item: exact ranks.

    Args:
        model: its name.
        score: the model.
        cases: what to ask.
        train_counts_N1: training events per item row: for slices, and for N.
        batch: cases asked at once.
        more_slices: bool [C] by name, beside those of ``slices``.

    Raises:
        ValueError: the scores have neither N nor N + 1 columns.
    """
    num_items = train_counts_N1.size - 1
    ranks, tops = [], []
    for start in range(0, len(cases), batch):
        histories = cases.histories.slice(start, start + batch)
        scores = score(histories)
        if scores.ndim != 2 or scores.shape[1] not in (num_items, num_items + 1):
            raise ValueError(f"{model}: scores are {scores.shape}, want [{len(histories)}, {num_items}]")
        first_row = num_items + 1 - scores.shape[1]
        targets = cases.targets_C[start : start + batch]
        ranks.append(ranks_from_scores(scores, targets, histories, first_row=first_row))
        tops.append(topk_rows(scores, histories, max(CUTOFFS), first_row=first_row))
    return _evaluation(model, ranks, tops, cases, train_counts_N1, more_slices)


def evaluate_topk(
    model: str,
    recommend: RecommendTop,
    cases: Cases,
    train_counts_N1: npt.NDArray[np.int64],
    *,
    batch: int = BATCH_CASES,
    more_slices: Mapping[str, npt.NDArray[np.bool_]] | None = None,
) -> Evaluation:
    """Evaluate a model that answers its best items only; exact at every cutoff here.

    Args and errors as for :func:`evaluate_scores`.
    """
    ranks, tops = [], []
    for start in range(0, len(cases), batch):
        rows, scores = recommend(cases.histories.slice(start, start + batch), ANSWERS)
        ranks.append(ranks_from_topk(rows, cases.targets_C[start : start + batch], scores))
        tops.append(rows[:, : max(CUTOFFS)])
    return _evaluation(model, ranks, tops, cases, train_counts_N1, more_slices)


def compare(
    parent: Evaluation,
    candidate: Evaluation,
    *,
    metric: str = "ndcg@10",
    limit: float = 0.01,
    slice_limit: float | None = None,
    seed: int = 0,
) -> dict[str, PairedVerdict]:
    """Paired verdicts on all cases (``all``) and on each slice.

    Args:
        parent: the model to be as good as.
        candidate: the model to judge, over the same cases.
        metric: name of a metric at one of the cutoffs.
        limit: relative loss that the candidate must stay below (0: it must be better).
        slice_limit: the same for slices, where fewer cases decide less; as ``limit`` where None.
        seed: of the resampling.

    Raises:
        ValueError: the cases differ in number, or the metric is unknown.
    """
    before, after = per_case(parent.ranks_C), per_case(candidate.ranks_C)
    if metric not in before:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(before)}")
    everyone = np.ones(parent.n, bool)
    verdicts = {}
    for name, mask in {"all": everyone, **parent.masks}.items():
        allowed = limit if name == "all" or slice_limit is None else slice_limit
        verdicts[name] = paired_verdict(
            before[metric][mask],
            after[metric][mask],
            metric=metric if name == "all" else f"{metric} on {name}",
            limit=allowed,
            seed=seed,
        )
    return verdicts


def _plain(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}


def _evaluation(
    model: str,
    ranks: list[Ranks],
    tops: list[npt.NDArray[np.int32]] | list[npt.NDArray[np.integer]],
    cases: Cases,
    train_counts_N1: npt.NDArray[np.int64],
    more_slices: Mapping[str, npt.NDArray[np.bool_]] | None,
) -> Evaluation:
    ranks_C = np.concatenate(ranks) if ranks else np.zeros(0, np.int32)
    top_rows_CK = np.concatenate(tops) if tops else np.zeros((0, max(CUTOFFS)), np.int32)
    masks = {**case_slices(cases, train_counts_N1), **(more_slices or {})}
    return Evaluation(
        model=model,
        n=len(cases),
        metrics={**means(ranks_C), **coverage(top_rows_CK, train_counts_N1.size - 1)},
        slices={
            name: SliceFigures(n=int(mask.sum()), metrics=means(ranks_C[mask]))
            for name, mask in masks.items()
        },
        ranks_C=ranks_C,
        masks=masks,
        top_rows_CK=top_rows_CK,
    )
