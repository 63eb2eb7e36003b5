"""From ranks to Recall, NDCG and MRR: one target per case, the whole catalogue, ties counted against us.

Every model is reduced to the rank that it gave the one right item; all figures follow
from ranks, so an engine, a torch model and a table of counts cannot be measured in different ways.

A target that the user has already seen is masked and can never be recommended: a miss.

Shapes: C cases, B a batch, N items, K answers.  Ranks start at 1; ``NOT_FOUND`` is a rank beyond every cutoff.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from build_engines.data.sequences import Sequences

NOT_FOUND = np.iinfo(np.int32).max
CUTOFFS = (5, 10, 20)
Ranks = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def ranks_from_scores(
    scores_BN: Scores, target_rows_B: Ranks, seen: Sequences, *, first_row: int = 1
) -> Ranks:
    """Exact ranks in the whole catalogue, seen items masked, ties and NaN counted against us.

    Args:
        scores_BN: column ``j`` is the score of item row ``j + first_row``; not changed.
        target_rows_B: the right item rows, ``1..N``.
        seen: B sets of item rows to mask (a row may appear twice).
        first_row: 1, or 0 where the scores have a column for padding (masked).

    Returns:
        int32 [B]; ``NOT_FOUND`` where the target is masked or its score is NaN.

    Raises:
        ValueError: the sizes differ, or a target or seen row has no column.
    """
    batch, columns = scores_BN.shape
    targets = np.asarray(target_rows_B) - first_row
    if not batch == targets.size == len(seen):
        raise ValueError(f"{batch} rows of scores, {targets.size} targets, {len(seen)} seen sets")
    if batch == 0:
        return np.zeros(0, np.int32)
    largest_seen = int(seen.item_rows_E.max(initial=0))
    if targets.min() < 1 - first_row or max(int(targets.max()), largest_seen - first_row) >= columns:
        raise ValueError(f"a target or seen row is outside 1..{columns - 1 + first_row}")
    target_scores = scores_BN[np.arange(batch), targets]
    above = np.count_nonzero(~(scores_BN < target_scores[:, None]), axis=1)  # the target itself is the "1 +"
    pairs = np.unique(seen.owners_E() * columns + (seen.item_rows_E - first_row))
    owners, masked = pairs // columns, pairs % columns
    counted = ~(scores_BN[owners, masked] < target_scores[owners])
    above -= np.bincount(owners[counted], minlength=batch)
    if first_row == 0:
        above -= ~(scores_BN[:, 0] < target_scores)
    lost = np.isnan(target_scores)
    lost[owners[masked == targets[owners]]] = True
    return np.where(lost, NOT_FOUND, above).astype(np.int32)


def ranks_from_topk(
    top_rows_BK: npt.NDArray[np.integer], target_rows_B: Ranks, top_scores_BK: Scores | None = None
) -> Ranks:
    """Ranks from an engine that answers its K best only; metrics at cutoffs up to K are then exact.

    With scores, ties are counted against us; a tie with the K-th answer may go on beyond it
    and is not found, so ask the engine for more answers than the largest cutoff.  Without scores the
    engine's own order stands.

    Args:
        top_rows_BK: item rows, best first; 0 is no answer.
        target_rows_B: the right item rows.
        top_scores_BK: their scores, falling.

    Returns:
        int32 [B]; ``NOT_FOUND`` beyond K.

    Raises:
        ValueError: the sizes differ.
    """
    targets = np.asarray(target_rows_B)
    if top_rows_BK.shape[0] != targets.size:
        raise ValueError(f"{top_rows_BK.shape[0]} answers for {targets.size} targets")
    hits = top_rows_BK == targets[:, None]
    found = hits.any(axis=1)
    place = hits.argmax(axis=1)
    if top_scores_BK is None:
        return np.where(found, place + 1, NOT_FOUND).astype(np.int32)
    if top_scores_BK.shape != top_rows_BK.shape:
        raise ValueError(f"scores are {top_scores_BK.shape}, answers {top_rows_BK.shape}")
    if not top_rows_BK.size:
        return np.full(targets.size, NOT_FOUND, np.int32)
    own = top_scores_BK[np.arange(targets.size), place]
    answered = top_rows_BK != 0
    rank = (answered & ~(top_scores_BK < own[:, None])).sum(axis=1)
    open_ended = answered[:, -1] & ~(top_scores_BK[:, -1] < own)
    return np.where(found & ~open_ended, rank, NOT_FOUND).astype(np.int32)


def topk_rows(scores_BN: Scores, seen: Sequences, k: int, *, first_row: int = 1) -> npt.NDArray[np.int32]:
    """The k best unseen item rows, best first, int32 [B, k]; 0 where fewer are left.  Equal scores: lower row first."""
    masked = np.array(scores_BN)
    masked[np.isnan(masked)] = -np.inf
    masked[seen.owners_E(), seen.item_rows_E - first_row] = -np.inf
    if first_row == 0:
        masked[:, 0] = -np.inf
    k_here = min(k, masked.shape[1])
    threshold = np.partition(masked, -k_here, axis=1)[:, -k_here]
    top = np.zeros((masked.shape[0], k), np.int32)
    for row, (scores, least) in enumerate(zip(masked, threshold, strict=True)):
        candidates = np.flatnonzero((scores >= least) & (scores > -np.inf))
        best = candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
        top[row, : best.size] = best + first_row
    return top


def per_case(ranks_C: Ranks, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, npt.NDArray[np.float64]]:
    """Each metric for each case, float64 [C], by name: ``recall@10``, ``ndcg@10``, ``mrr@10`` and so on.

    With one right answer NDCG is ``1 / log2(rank + 1)`` within the cutoff, MRR ``1 / rank``, Recall 1.

    Raises:
        ValueError: a rank is below 1.
    """
    ranks = np.asarray(ranks_C).astype(np.float64)
    if ranks.size and ranks.min() < 1:
        raise ValueError(f"rank {ranks.min():.0f} at case {int(ranks.argmin())} is below 1")
    values: dict[str, npt.NDArray[np.float64]] = {}
    for k in cutoffs:
        hit = ranks <= k
        values[f"recall@{k}"] = hit.astype(np.float64)
        values[f"ndcg@{k}"] = np.where(hit, 1.0 / np.log2(ranks + 1.0), 0.0)
        values[f"mrr@{k}"] = np.where(hit, 1.0 / ranks, 0.0)
    return values


def means(ranks_C: Ranks, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """The mean of each metric over the cases; NaN (which passes no gate) for no cases."""
    return {
        name: float(value.mean()) if value.size else float("nan")
        for name, value in per_case(ranks_C, cutoffs).items()
    }


def coverage(
    top_rows_CK: npt.NDArray[np.integer], num_items: int, cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, float]:
    """Share of the catalogue that appears in anybody's first k, by name ``coverage@10`` and so on."""
    shares = {}
    for k in cutoffs:
        shown = np.unique(top_rows_CK[:, :k])
        shares[f"coverage@{k}"] = float(np.count_nonzero(shown)) / num_items
    return shares
