"""Two recommenders on the same shoppers: item ids are what they share, rows are each one's own.

An item that a version does not know cannot be recommended by it: where it is what the shopper chose, that is a miss.

Suffixes: C cases, K ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engines.compare.limits import CompareLimits
from build_engines.compare.records import MetricRow
from build_engines.data.sequences import Sequences
from build_engines.data.splits import Cases
from build_engines.errors import BuildError
from build_engines.evaluation.evaluate import ANSWERS
from build_engines.evaluation.metrics import CUTOFFS, NOT_FOUND, per_case, ranks_from_topk
from build_engines.proof.examples import Examples
from build_engines.proof.fairness import Shown, group_rows
from build_engines.proof.paired_means import PairedVerdict, paired_verdict
from build_engines.proof.records import GroupRow, SliceRow
from build_engines.proof.shop_examples import COUNTS, cases_of, shop_groups
from build_engines.proof.signed_rank import signed_rank
from build_engines.proof.slices import judged, of_means
from build_engines.ranker import ServedRanker
from build_engines.records import SpeedRow
from build_engines.speed import measure_in_turn, speed_row
from server.artifacts.repository import OpenedVersion

BATCH = 256


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """Of one version to all examples: ranks ``[C]``, and best items in rows of the examples' version ``[C, K]``."""

    ranks_C: npt.NDArray[np.int32]
    top_rows_CK: npt.NDArray[np.int64]


def compare_recommenders(
    a: OpenedVersion, b: OpenedVersion, examples: Examples, source: OpenedVersion, limits: CompareLimits
) -> tuple[tuple[MetricRow, ...], tuple[SliceRow, ...], tuple[GroupRow, ...], tuple[SpeedRow, ...]]:
    """Figures, slices, groups and speed.

    Raises:
        BuildError: the two have hardly an item in common, or the metric is not known.
        ArtifactError: one of them cannot be loaded.
    """
    rankers = {"A": ServedRanker(a), "B": ServedRanker(b)}
    own = rankers["A" if source.folder == a.folder else "B"]
    ids = own.loaded.runner.catalogue.index.ids
    first, _ = cases_of(examples)
    chosen = min(limits.examples or len(first), len(first))
    cases = first.take(np.arange(chosen))
    answers = {name: _answers(ranker, cases, ids) for name, ranker in rankers.items()}
    figures = {name: per_case(one.ranks_C) for name, one in answers.items()}
    if limits.metric not in figures["A"]:
        raise BuildError(f"--metric {limits.metric}: not known; there are {', '.join(figures['A'])}")
    masks = {name: mask[:chosen] for name, mask in examples.slices.items()}
    before, after = figures["A"][limits.metric], figures["B"][limits.metric]
    rows = [_metric(limits.metric, before, after, limits, judge=True)]
    rows += [
        _metric(name, figures["A"][name], figures["B"][name], limits, judge=False)
        for name in ("recall@10", "ndcg@10", "mrr@10")
        if name != limits.metric
    ]
    slices = judged(
        [
            of_means(
                name,
                paired_verdict(
                    before[mask],
                    after[mask],
                    metric=limits.metric,
                    limit=limits.max_slice_loss,
                    seed=limits.seed,
                ),
            )
            for name, mask in masks.items()
        ]
    )
    columns = own.loaded.runner.catalogue.columns
    groups = shop_groups(
        cases,
        examples.arrays[COUNTS].astype(np.int64),
        {name: list(columns[name]) for name in ("category", "brand") if name in columns},
        limits.fairness,
    )
    shown = {
        name: Shown(top_rows_CK=answers[name].top_rows_CK, quality_C=figures[name][limits.metric])
        for name in answers
    }
    group = group_rows(shown["B"], shown["A"], groups, limits.fairness, seed=limits.seed)
    return tuple(rows), slices, group, _speed(rankers, cases, ids, limits)


def _answers(ranker: ServedRanker, cases: Cases, ids: tuple[str, ...]) -> _Answers:
    index = ranker.loaded.runner.catalogue.index
    own_of = np.array([index.row(item) if row else 0 for row, item in enumerate(ids)], np.int64)
    known = np.count_nonzero(own_of)
    if known < 0.5 * (len(ids) - 1):
        raise BuildError(
            f"only {known} of {len(ids) - 1} items are known to both versions; they are of two shops, or of two row spaces"
        )
    back = np.zeros(len(index.ids), np.int64)
    back[own_of[own_of > 0]] = np.flatnonzero(own_of > 0)
    targets_C = own_of[cases.targets_C]
    ranks_C = np.full(len(cases), NOT_FOUND, np.int32)
    top_CK = np.zeros((len(cases), max(CUTOFFS)), np.int64)
    histories = [own_of[rows][own_of[rows] > 0].tolist() for rows in cases.histories]
    answered = np.array([place for place, rows in enumerate(histories) if rows], np.int64)
    for start in range(0, answered.size, BATCH):
        places = answered[start : start + BATCH]
        rows_BK, scores_BK = ranker.top_k(
            Sequences.of([histories[place] for place in places.tolist()]), ANSWERS
        )
        found = ranks_from_topk(rows_BK, targets_C[places].astype(np.int32), scores_BK)
        ranks_C[places] = np.where(targets_C[places] > 0, found, NOT_FOUND)
        top_CK[places, : min(rows_BK.shape[1], top_CK.shape[1])] = back[rows_BK[:, : top_CK.shape[1]]]
    return _Answers(ranks_C, top_CK)


def _metric(
    name: str,
    before_C: npt.NDArray[np.float64],
    after_C: npt.NDArray[np.float64],
    limits: CompareLimits,
    *,
    judge: bool,
) -> MetricRow:
    found: PairedVerdict = paired_verdict(
        before_C, after_C, metric=name, limit=limits.max_loss, seed=limits.seed
    )
    known = all(map(np.isfinite, (found.relative_loss, found.ci_low, found.ci_high)))
    return MetricRow(
        name=name,
        n=found.n,
        a=found.parent_mean,
        b=found.candidate_mean,
        loss=found.relative_loss if known else None,
        interval=(found.ci_low, found.ci_high) if known else None,
        limit=limits.max_loss if judge else None,
        test="paired bootstrap over shoppers; p by Wilcoxon's signed ranks",
        p_value=signed_rank(after_C - before_C).p_two_sided,
        verdict=found.verdict,
        n_to_decide=found.n_to_decide if found.verdict == "undecidable" else None,
    )


def _speed(
    rankers: Mapping[str, ServedRanker], cases: Cases, ids: tuple[str, ...], limits: CompareLimits
) -> tuple[SpeedRow, ...]:
    most = min(ranker.opened.manifest.limits["max_batch"] for ranker in rankers.values())
    generator = np.random.default_rng(limits.seed)
    rows = []
    for size in (one for one in limits.batch_sizes if one <= most and limits.rounds):
        asked = [
            [ids[row] for row in rows.tolist()]
            for rows in cases.histories.take(generator.integers(0, len(cases), size))
        ]
        runs = {
            name: ranker.prepared(
                Sequences.of([ranker.loaded.runner.catalogue.index.rows(one) for one in asked])
            )
            for name, ranker in rankers.items()
        }
        measured = measure_in_turn(runs, rounds=limits.rounds)
        rows.append(speed_row(size, measured["A"], measured["B"], seed=limits.seed))
    return tuple(rows)
