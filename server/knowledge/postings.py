"""Where words stand, remembered for as long as an epoch lasts: the word index is asked once for a word, not once a question.

BM25 of a question is the sum of what each of its words gives, so what FTS5 says of a single word is kept and added up here, in
the order in which FTS5 would add it: the same numbers to the last bit. What a shop's pages have is remembered, and of no question
more than its words.

Shapes: R rows of one word's passages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server.knowledge.reading import EpochView
from server.knowledge.words import match_expression

MOST_ROWS = 500_000  # in all; 8 MB
MOST_ROWS_OF_A_WORD = 5_000  # more are not kept: such a word is asked for alone, and its best are few

_Rows = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


class Postings:
    """Passages of words with the BM25 of each; for one epoch and one thread."""

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self._most_rows = most_rows
        self._kept: dict[str, _Rows] = {}
        self._rows = 0

    def clear(self) -> None:
        """Another epoch has come."""
        self._kept.clear()
        self._rows = 0

    def best(
        self, view: EpochView, words: Sequence[str], frequencies: Sequence[int], limit: int
    ) -> list[tuple[int, float]]:
        """Find passages that any of the words stands in.

        Args:
            view: of the epoch that this remembers.
            words: at least one, each once.
            frequencies: of each word, about.
            limit: passages at most.

        Returns:
            Ids and BM25, best first; of equals the lower id.
        """
        if max(frequencies) > MOST_ROWS_OF_A_WORD:
            return list(view.match(match_expression(words), limit))
        of_words = [self._of(view, word) for word in words]
        ids_R = np.unique(np.concatenate([ids for ids, _ in of_words]))
        scores_R = np.zeros(len(ids_R))
        for ids, scores in of_words:
            scores_R[np.searchsorted(ids_R, ids)] += scores
        order = np.lexsort((ids_R, -scores_R))[:limit]
        return list(zip(ids_R[order].tolist(), scores_R[order].tolist(), strict=True))

    def _of(self, view: EpochView, word: str) -> _Rows:
        known = self._kept.pop(word, None)
        if known is None:
            found = sorted(view.match(match_expression([word]), -1))  # SQLite: without a limit
            known = (
                np.array([at for at, _ in found], np.int64),
                np.array([score for _, score in found], np.float64),
            )
            self._rows += len(found)
        self._kept[word] = known  # those not asked for longest come first
        while self._rows > self._most_rows and len(self._kept) > 1:
            gone, _ = self._kept.pop(next(iter(self._kept)))
            self._rows -= len(gone)
        return known
