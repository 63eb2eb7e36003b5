"""Item ids to catalogue rows and back, and ragged lists of rows to the matrices an engine takes.

Row 0 is nothing (padding); item ``item_ids[r - 1]`` is row ``r``. Columns of score matrices are rows, so an engine's
answer needs no arithmetic to become an id.

Suffixes: B requests, L history positions, E excluded rows, K ranks, N rows of the catalogue (padding included).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

PAD = 0


class ItemIndex:
    """The shop's ids, both ways.

    Args:
        item_ids: the id of row 1, 2, ...; unique.

    Raises:
        ValueError: an id appears twice; names it and both rows.
    """

    def __init__(self, item_ids: Sequence[str]) -> None:
        self.ids: tuple[str, ...] = ("", *item_ids)
        self._rows = {item_id: row for row, item_id in enumerate(self.ids) if row}
        if len(self._rows) != len(item_ids):
            seen: dict[str, int] = {}
            for row, item_id in enumerate(item_ids, start=1):
                if item_id in seen:
                    raise ValueError(f"item id {item_id!r} is both row {seen[item_id]} and row {row}")
                seen[item_id] = row

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, item_id: str) -> int:
        """The row of an id; 0 when unknown."""
        return self._rows.get(item_id, PAD)

    def rows(self, item_ids: Iterable[str]) -> list[int]:
        """Rows of the known ids, in their order; unknown ids are left out (compare lengths to count them)."""
        get = self._rows.get
        return [row for item_id in item_ids if (row := get(item_id))]


def pad_left(rows_B: Sequence[Sequence[int]], *, length: int) -> npt.NDArray[np.int32]:
    """Pack ragged histories into one left-padded matrix, as narrow as the longest of them.

    Left padding keeps the newest item in the last column, so the engine reads its answer at position ``-1`` whatever the
    history's length, and positions are counted from the end, so a narrow batch means what a wide one means.

    Args:
        rows_B: B histories, oldest first, rows in 1..N-1.
        length: most positions the engine takes; longer histories keep their newest.

    Returns:
        ``item_ids_BL``: int32, C-contiguous, ``PAD`` on the left, L >= 1.

    Source:
        Kang and McAuley, "Self-Attentive Sequential Recommendation", 2018, section III-A.
    """
    cut = [rows[-length:] if len(rows) > length else rows for rows in rows_B]
    width = max(1, max(map(len, cut), default=1))
    item_ids_BL = np.zeros((len(cut), width), dtype=np.int32)
    for b, rows in enumerate(cut):
        if rows:
            item_ids_BL[b, width - len(rows) :] = rows
    return item_ids_BL


def pad_right(rows_B: Sequence[Sequence[int]]) -> npt.NDArray[np.int32]:
    """Pack ragged lists into one right-padded int32 matrix of at least one column; ``PAD`` means nothing."""
    width = max(1, max(map(len, rows_B), default=1))
    rows_BE = np.zeros((len(rows_B), width), dtype=np.int32)
    for b, rows in enumerate(rows_B):
        if rows:
            rows_BE[b, : len(rows)] = rows
    return rows_BE
