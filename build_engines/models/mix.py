"""Neural scores plus transition counts: the form the engine serves, and how its parameters are picked.

The served score of item i for a history h (newest item ``h[-1]``) is

    neural_weight * logit[i] + sum_{j < window} decay ** j * gamma * log1p(kappa * T[h[-1 - j], i])
                             + popularity_weight * log1p(popularity[i])

``fold`` writes ``gamma * log1p(kappa * T)`` into the table, so a graph needs one matmul and ``window``
scatter-adds.  Decision not to undo: the form has no normaliser over the catalogue.  The exact mixture of
probabilities was measured beside it and is no better.  ``neural_weight`` 0 is the count model alone
and always in the grid, so tuning on validation cannot choose a mix that is worse there than its floor.

Shape suffixes: B or U histories (users), N items with the padding row 0, D width of the neural query.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .popularity import Rows
from .transitions import TransitionTable, newest_items_BW, transition_scores_BN

FloatArray = npt.NDArray[np.float32]
HITS = 10  # every metric here is at 10
TIE_BREAK = 1e-6  # of log1p(popularity): orders equal counts, and nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class MixConfig:
    """The parameters of the served score; see the formula above.

    Attributes:
        neural_weight: factor of the logits, 0 (counts alone) or 1; anything >= 0 works.
        gamma: factor of the counts, >= 0.
        kappa: how early the counts saturate, > 0; a small value makes them linear.
        window: newest items of the history that count, W (1..50).
        decay: factor per step back (0 < decay <= 1).
        popularity_weight: factor of the popularity prior, >= 0; small: a tie-break.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    neural_weight: float = 1.0
    gamma: float = 1.0
    kappa: float = 8.0
    window: int = 5
    decay: float = 0.7
    popularity_weight: float = 0.0

    def __post_init__(self) -> None:
        for name in ("neural_weight", "gamma", "popularity_weight"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: {getattr(self, name)}, must be >= 0 and finite")
        if not 0 < self.kappa < np.inf:
            raise ValueError(f"kappa: {self.kappa}, must be > 0 and finite")
        if not 1 <= self.window <= 50:
            raise ValueError(f"window: {self.window}, must be in 1..50")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay: {self.decay}, must be in (0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MixGrid:
    """What ``tune_mix`` tries; the defaults are meant for any shop, not for one log."""

    gammas: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 4.5, 6.5, 10.0)
    kappas: tuple[float, ...] = (0.5, 2.0, 8.0, 32.0)
    windows: tuple[int, ...] = (1, 3, 5, 8)
    decays: tuple[float, ...] = (0.5, 0.7, 0.85)


@dataclass(frozen=True, slots=True)
class MixRow:
    """One point of the grid and what it scored on the histories it was tuned on."""

    config: MixConfig
    recall_at_10: float
    ndcg_at_10: float


@dataclass(frozen=True, slots=True)
class TunedMix:
    """The best mix, and the two alone: the neural part without counts, the counts without it."""

    best: MixRow
    neural: MixRow
    counts: MixRow


def fold(table: TransitionTable, mix: MixConfig) -> TransitionTable:
    """The table with ``gamma * log1p(kappa * weight)`` in place of the weights: what a graph scatters."""
    weights_NM = np.float32(mix.gamma) * np.log1p(np.float32(mix.kappa) * table.neighbour_weights_NM)
    return TransitionTable(
        neighbour_ids_NM=table.neighbour_ids_NM, neighbour_weights_NM=weights_NM.astype(np.float32)
    )


def mix_scores_BN(
    logits_BN: FloatArray,
    table: TransitionTable,
    histories: Sequence[Rows],
    mix: MixConfig,
    popularity_N: FloatArray | None = None,
) -> FloatArray:
    """Score the whole catalogue as the engine does: the reference for its graph.

    Args:
        logits_BN: neural scores ``[B, num_items + 1]``; ignored columns may hold anything finite.
        table: unfolded, from ``build_transitions``.
        histories: B arrays of item rows, oldest first.
        mix: the parameters.
        popularity_N: from ``decayed_popularity``; None leaves the prior out.

    Returns:
        ``scores_BN``: float32; column 0 (padding) is ``-inf``; items of the history are not masked.
    """
    scores = transition_scores_BN(fold(table, mix), histories, window=mix.window, decay=mix.decay)
    if mix.neural_weight > 0:
        scores += np.float32(mix.neural_weight) * logits_BN
    if popularity_N is not None:
        scores += np.float32(mix.popularity_weight) * np.log1p(popularity_N)[None, :]
    scores[:, 0] = -np.inf
    return scores


class Candidates:
    """The items that can reach a top 10, so that a grid point costs milliseconds and not a matmul.

    Counts only ever *add* to a score, so the final top 10 of a user lies in the union of the neighbours of
    the newest items and the ``HITS + 1`` best of the base scores ``query_UD @ item_ND.T``.  Everything else
    is dropped, which is exact for ranks below ``HITS``; any other rank is reported as ``BEYOND``.

    Protocol: the whole catalogue is ranked, items of the history are masked (a target among them is a miss),
    ties count against the target.
    """

    BEYOND = np.iinfo(np.int64).max

    def __init__(
        self,
        query_UD: FloatArray,
        item_ND: FloatArray,
        histories: Sequence[Rows],
        targets: npt.NDArray[np.int64],
        table: TransitionTable,
        window: int,
    ) -> None:
        width = table.num_items + 1
        users = len(histories)
        target_keys = np.arange(users) * width + targets
        seen = np.sort(
            np.concatenate([user * width + np.asarray(h, np.int64) for user, h in enumerate(histories)])
        )
        newest_UW = newest_items_BW(histories, window)
        user, step, slot = np.nonzero(table.neighbour_ids_NM[newest_UW])
        item = newest_UW[user, step]
        entry_keys = user * width + table.neighbour_ids_NM[item, slot]
        keys = [target_keys, entry_keys, *_best_keys(query_UD, item_ND, histories)]
        self.keys = np.unique(np.concatenate(keys))
        self.keys = self.keys[~_member(self.keys, seen)]
        self.user = self.keys // width
        kept = _member(entry_keys, self.keys)
        self.entry = np.searchsorted(self.keys, entry_keys[kept])
        self.step = step[kept]
        self.weight = table.neighbour_weights_NM[item, slot][kept].astype(np.float64)
        self.missed = ~_member(target_keys, self.keys)
        self.target = np.minimum(np.searchsorted(self.keys, target_keys), max(len(self.keys) - 1, 0))
        self._steps: dict[tuple[float, int], npt.NDArray[np.float32]] = {}
        self.base = np.empty(len(self.keys))
        for lo in range(0, len(self.keys), 1 << 18):
            part = slice(lo, lo + (1 << 18))
            items = item_ND[self.keys[part] % width]
            self.base[part] = np.einsum("nd,nd->n", query_UD[self.user[part]], items)

    def counts(self, mix: MixConfig) -> npt.NDArray[np.float64]:
        """The counts of every candidate before ``gamma``; ``mix.window`` is at most the one built for."""
        total = np.zeros(len(self.keys))
        for step in range(mix.window):
            total += mix.decay**step * self._counts_of_step(mix.kappa, step)
        return total

    def ranks_U(self, mix: MixConfig, counts: npt.NDArray[np.float64] | None = None) -> npt.NDArray[np.int64]:
        """Rank of every user's target, 0 = best, or ``BEYOND``; ``counts`` spares adding them up again."""
        if not len(self.keys):
            return np.full(len(self.missed), self.BEYOND)
        scores = self.base + mix.gamma * (self.counts(mix) if counts is None else counts)
        ahead = scores >= scores[self.target][self.user]
        ranks = np.bincount(self.user[ahead], minlength=len(self.missed)) - 1
        return np.where(self.missed | (ranks >= HITS), self.BEYOND, ranks)

    def _counts_of_step(self, kappa: float, step: int) -> npt.NDArray[np.float32]:
        known = self._steps.get((kappa, step))
        if known is None:
            if any(other != kappa for other, _ in self._steps):
                self._steps.clear()  # one kappa at a time: the grid goes through them in order
            now = self.step == step
            saturated = np.log1p(kappa * self.weight[now])
            known = np.bincount(self.entry[now], saturated, minlength=len(self.keys)).astype(np.float32)
            self._steps[kappa, step] = known
        return known

    def rows(self, mix: MixConfig, gammas: Sequence[float]) -> Iterator[MixRow]:
        """Recall@10 and NDCG@10 of one point of the grid at every gamma."""
        counts = self.counts(mix)
        for gamma in gammas:
            recall, ndcg = recall_and_ndcg(self.ranks_U(replace(mix, gamma=gamma), counts))
            yield MixRow(replace(mix, gamma=gamma), recall, ndcg)


def recall_and_ndcg(ranks_U: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Recall@10 and NDCG@10 of ranks with 0 = best and one relevant item a user."""
    hit = ranks_U < HITS
    gains = np.where(hit, 1.0 / np.log2(np.where(hit, ranks_U, 0) + 2.0), 0.0)
    return float(hit.mean()), float(gains.mean())


def tune_mix(
    query_UD: FloatArray,
    item_ND: FloatArray,
    histories: Sequence[Rows],
    targets: npt.NDArray[np.int64],
    table: TransitionTable,
    popularity_N: FloatArray,
    grid: MixGrid | None = None,
) -> TunedMix:
    """Pick the mix with the best NDCG@10 on validation, by ranking the whole catalogue.

    Took 50 to 110 s for 22,363 users and 12,101 items on one core of a loaded machine.

    Args:
        query_UD: ``x_D`` of every validation user; the logits are ``query_UD @ item_ND.T``.
        item_ND: exported item table ``[num_items + 1, D]``.
        histories: what is known of each user before the target; may be empty arrays.
        targets: int64 ``[U]``, item rows.
        table: unfolded transitions of the train part.
        popularity_N: train popularity; the tie-break of the count model.
        grid: what to try.

    Returns:
        The best row, and the rows of the neural part alone and of the counts alone.

    Raises:
        ValueError: no users, or lengths that differ.
    """
    grid = grid or MixGrid()
    if not len(histories) or not len(histories) == len(targets) == len(query_UD):
        raise ValueError(f"{len(query_UD)} queries, {len(histories)} histories, {len(targets)} targets")
    widest = max(grid.windows)
    prior_N1 = (TIE_BREAK * np.log1p(popularity_N))[:, None].astype(np.float32)
    ones_U1 = np.ones((len(histories), 1), dtype=np.float32)
    alone = MixConfig(neural_weight=0.0, popularity_weight=TIE_BREAK)
    counts = Candidates(ones_U1, prior_N1, histories, targets, table, widest)
    best_counts = _best(counts, _points(grid, alone), (1.0,))
    del counts
    mixed = Candidates(query_UD, item_ND, histories, targets, table, widest)
    neural = _best(mixed, [MixConfig(gamma=0.0, window=1)], (0.0,))
    best = _best(mixed, _points(grid, MixConfig()), grid.gammas)
    return TunedMix(best=max(best_counts, neural, best, key=_quality), neural=neural, counts=best_counts)


def _best(candidates: Candidates, points: Iterable[MixConfig], gammas: Sequence[float]) -> MixRow:
    return max((row for mix in points for row in candidates.rows(mix, gammas)), key=_quality)


def _quality(row: MixRow) -> float:
    return row.ndcg_at_10


def _points(grid: MixGrid, base: MixConfig) -> Iterator[MixConfig]:
    for kappa, window, decay in itertools.product(grid.kappas, grid.windows, grid.decays):
        if window > 1 or decay == grid.decays[0]:  # decay means nothing at window 1
            yield replace(base, window=window, decay=decay, kappa=kappa)


def _member(keys: npt.NDArray[np.int64], of_sorted: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    if not len(of_sorted):
        return np.zeros(len(keys), dtype=np.bool_)
    place = np.minimum(np.searchsorted(of_sorted, keys), len(of_sorted) - 1)
    found: npt.NDArray[np.bool_] = of_sorted[place] == keys
    return found


def _best_keys(
    query_UD: FloatArray, item_ND: FloatArray, histories: Sequence[Rows], chunk: int = 512
) -> Iterator[npt.NDArray[np.int64]]:
    width = len(item_ND)
    keep = min(HITS + 1, width)  # one more: the target may be one of them, and its ties must stay visible
    for lo in range(0, len(histories), chunk):
        scores = query_UD[lo : lo + chunk] @ item_ND.T
        scores[:, 0] = -np.inf
        for row, history in enumerate(histories[lo : lo + chunk]):
            scores[row, np.asarray(history, np.int64)] = -np.inf
        best = np.argpartition(-scores, keep - 1, axis=1)[:, :keep]
        real = best > 0
        users = np.arange(lo, lo + len(scores))[:, None]
        yield (users * width + best)[real]
