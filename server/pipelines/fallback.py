"""The tier below the model: transition counts from the newest history items, then popular items; no engine at all.

Runs on the event loop in well under a millisecond, so it can answer when there is no time for the engine, when the engine
failed, and when there is nothing to go on (cold start). Filters, candidates and exclusions hold here as they do above, and
``k`` items are returned whenever that many are allowed.

Suffixes: N catalogue rows, M neighbours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from server.domain import ModelRef, RecommendRequest, RecommendResponse, ServedBy
from server.encoding.catalogue import Catalogue
from server.pipelines.explain import Explainer
from server.pipelines.recommend import allowed


class Fallback:
    """Answers from the version's own count tables.

    Args:
        model: the version, for the answers.
        catalogue: its items.
        neighbour_ids_NM: transition table, 0 for none.
        neighbour_weights_NM: its weights.
        popularity_N: decayed popularity of each row (>= 0).
        decay: weight of each step into the past.
        window: newest history items that are looked at.
        explainer: for requests with ``explain``.
    """

    def __init__(
        self,
        *,
        model: ModelRef,
        catalogue: Catalogue,
        neighbour_ids_NM: npt.NDArray[np.int32],
        neighbour_weights_NM: npt.NDArray[np.float32],
        popularity_N: npt.NDArray[np.float32],
        decay: float,
        window: int,
        explainer: Explainer,
    ) -> None:
        self._model = model
        self._catalogue = catalogue
        self._ids_NM = neighbour_ids_NM
        self._weights_NM = neighbour_weights_NM
        self._decay = decay
        self._window = window
        self._explainer = explainer
        ranked = np.argsort(-popularity_N[: len(catalogue.index) + 1], kind="stable")
        self._by_popularity = ranked[ranked != 0]
        top = float(popularity_N.max(initial=0.0))
        # Popular items rank below every item with a transition: their scores are squeezed into [0, 1e-6).
        self._popular_score_N = (popularity_N / (top * 1e6 + 1e-9)).astype(np.float32)

    def answer(self, request: RecommendRequest, reason: str) -> RecommendResponse:
        """Rank by decayed transition counts, then popularity.

        Args:
            request: as the model would get it.
            reason: why the model does not answer ("cold_start", "deadline", "engine_fault", "not_ready").
        """
        index = self._catalogue.index
        history = index.rows(request.history)
        banned = set(index.rows(request.exclude))
        if not request.allow_seen:
            banned.update(history)
        narrowed = request.filters is not None or request.candidates is not None
        mask_N, unknown_candidates = allowed(self._catalogue, request) if narrowed else (None, None)
        scores = self._transition_scores(history)
        best = sorted((-score, row) for row, score in scores.items())
        ranked = [
            (row, -score) for score, row in best if row not in banned and (mask_N is None or mask_N[row])
        ][: request.k]
        if len(ranked) < request.k:
            banned.update(row for row, _ in ranked)
            ranked += self._popular(request.k - len(ranked), banned, mask_N)
        rows = [row for row, _ in ranked]
        response = RecommendResponse(
            item_ids=tuple(index.ids[row] for row in rows),
            scores=tuple(score for _, score in ranked),
            served_by=ServedBy.FALLBACK,
            model=self._model,
            unknown_items=len(request.history) - len(history),
            unknown_candidates=unknown_candidates,
            fallback_reason=reason,
        )
        if request.fields:
            response.item_fields = tuple(self._catalogue.item_fields(row, request.fields) for row in rows)
        if request.explain:
            response.because, response.reasons = self._explainer.explain(rows, history)
        return response

    def _transition_scores(self, history: list[int]) -> dict[int, float]:
        scores: dict[int, float] = {}
        factor = 1.0
        for row in reversed(history[-self._window :] if self._window else []):
            for neighbour, weight in zip(
                self._ids_NM[row].tolist(), self._weights_NM[row].tolist(), strict=True
            ):
                if neighbour:
                    scores[neighbour] = scores.get(neighbour, 0.0) + factor * weight
            factor *= self._decay
        return scores

    def _popular(
        self, count: int, banned: set[int], mask_N: npt.NDArray[np.bool_] | None
    ) -> list[tuple[int, float]]:
        order = self._by_popularity if mask_N is None else self._by_popularity[mask_N[self._by_popularity]]
        rows = [row for row in order[: count + len(banned)].tolist() if row not in banned][:count]
        return [(row, float(self._popular_score_N[row])) for row in rows]
