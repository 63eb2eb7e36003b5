"""Why an item was recommended: the history item that contributed most, or what it is popular in.

The contribution of a history item is what the served tables say of the pair: the transition weight from it (decayed by
its age, as in the score) where there is one, and the similarity of the two item vectors otherwise. That is the model's
own evidence, item by item; it does not re-run the network without the item, which would cost one engine run a position.

Suffixes: H history items, R recommended items, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from server.encoding.catalogue import Catalogue
from server.encoding.tables import ItemVectors

# Below this cosine two item vectors have nothing to tell each other.
_SIMILAR = 0.2


class Explainer:
    """Explains answers of one version.

    Args:
        catalogue: its items.
        emb_ND: item vectors in any form (a row's scale does not change its cosine).
        emb_row_N: which of them is an item's, where items share vectors; None: each has its own.
        neighbour_ids_NM: transition table, 0 for none.
        neighbour_weights_NM: its weights.
        decay: weight of each step into the past.
        window: history items that the transition part looks at.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        emb_ND: ItemVectors | npt.NDArray[np.generic],
        emb_row_N: npt.NDArray[np.integer[Any]] | None = None,
        neighbour_ids_NM: npt.NDArray[np.int32],
        neighbour_weights_NM: npt.NDArray[np.float32],
        decay: float,
        window: int,
    ) -> None:
        self._catalogue = catalogue
        self._emb_ND, self._emb_row_N = emb_ND, emb_row_N
        self._ids_NM = neighbour_ids_NM
        self._weights_NM = neighbour_weights_NM
        self._decay = decay
        self._window = window

    def explain(
        self, rows: Sequence[int], history: Sequence[int]
    ) -> tuple[tuple[str | None, ...], tuple[str, ...]]:
        """The contributing history item and a sentence for each recommended row.

        Returns:
            ``because`` (ids, None where nothing in the history speaks for the item) and ``reasons``.
        """
        if not rows:
            return (), ()
        if not history:
            return (None,) * len(rows), tuple(self.popular(row) for row in rows)
        past = list(history[-50:])
        similarity_RH = self._similarity(rows, past)
        transition_RH = self._transitions(rows, past)
        because: list[str | None] = []
        reasons: list[str] = []
        for r, row in enumerate(rows):
            if transition_RH[r].max() > 0:
                item, verb = past[int(transition_RH[r].argmax())], "often follows"
            elif similarity_RH[r].max() >= _SIMILAR:
                item, verb = past[int(similarity_RH[r].argmax())], "goes with"
            else:
                because.append(None)
                reasons.append(self.popular(row))
                continue
            because.append(self._catalogue.index.ids[item])
            reasons.append(f"{verb} {self._name(item)}")
        return tuple(because), tuple(reasons)

    def popular(self, row: int) -> str:
        """What to say of an item that nothing in the history speaks for."""
        category = self._catalogue.value(row, "category")
        return f"popular in {category}" if category else "popular in this shop"

    def _name(self, row: int) -> str:
        title = self._catalogue.value(row, "title")
        return str(title) if title else self._catalogue.index.ids[row]

    def _similarity(self, rows: Sequence[int], past: Sequence[int]) -> npt.NDArray[np.float32]:
        left = self._unit(rows)
        right = self._unit(past)
        return np.asarray(left @ right.T, dtype=np.float32)

    def _unit(self, rows: Sequence[int]) -> npt.NDArray[np.float32]:
        places = np.asarray(rows) if self._emb_row_N is None else self._emb_row_N[np.asarray(rows)]
        vectors = self._emb_ND[places].astype(np.float32)
        return np.asarray(
            vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), dtype=np.float32
        )

    def _transitions(self, rows: Sequence[int], past: Sequence[int]) -> npt.NDArray[np.float32]:
        found_RH = np.zeros((len(rows), len(past)), dtype=np.float32)
        wanted = np.asarray(rows)[:, None]
        for age, h in enumerate(range(len(past) - 1, max(-1, len(past) - 1 - self._window), -1)):
            same_RM = self._ids_NM[past[h]][None, :] == wanted
            found_RH[:, h] = (same_RM * self._weights_NM[past[h]][None, :]).max(axis=1) * self._decay**age
        return found_RH
