"""Many item histories in two flat arrays: the form every later stage reads.

Lists of lists cost 60 bytes an event and a Python loop a pass; offsets into one
array cost 4 and none.  Histories are oldest item first everywhere in this project.

Shapes: U users or cases, E events, B a batch, L a window.  Units: rows are item rows ``1..N``; 0 is padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PAD = 0
IntArray = npt.NDArray[np.int64] | npt.NDArray[np.int32]


def frozen_array(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """A C-contiguous, read-only array: what a frozen dataclass may hold and hand out as it is."""
    array = np.ascontiguousarray(values, dtype=dtype)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """U item histories, oldest item first.

    Attributes:
        offsets_U1: int64 [U + 1]; history ``i`` is ``item_rows_E[offsets[i]:offsets[i + 1]]``.
        item_rows_E: int32 [E]; rows ``1..N``.

    Raises:
        ValueError: the offsets do not describe the rows, or a row is below 1.
    """

    offsets_U1: npt.NDArray[np.int64]
    item_rows_E: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "offsets_U1", frozen_array(self.offsets_U1, np.int64))
        object.__setattr__(self, "item_rows_E", frozen_array(self.item_rows_E, np.int32))
        offsets, rows = self.offsets_U1, self.item_rows_E
        if not offsets.size or offsets[0] != 0 or offsets[-1] != rows.size or (np.diff(offsets) < 0).any():
            raise ValueError(f"offsets must rise from 0 to {rows.size}, the number of rows")
        if rows.size and rows.min() < 1:
            raise ValueError(f"row {rows.min()} at event {int(rows.argmin())} is below 1")

    @classmethod
    def of(cls, histories: Sequence[Sequence[int]]) -> Sequences:
        """Pack lists of rows."""
        offsets = np.zeros(len(histories) + 1, np.int64)
        np.cumsum([len(history) for history in histories], out=offsets[1:])
        return cls(
            offsets, np.fromiter((row for one in histories for row in one), np.int32, int(offsets[-1]))
        )

    def __len__(self) -> int:
        return self.offsets_U1.size - 1

    def __getitem__(self, index: int) -> npt.NDArray[np.int32]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"history {index} of {len(self)}")
        index %= len(self)
        return self.item_rows_E[self.offsets_U1[index] : self.offsets_U1[index + 1]]

    def __iter__(self) -> Iterator[npt.NDArray[np.int32]]:
        return (self[index] for index in range(len(self)))

    @property
    def lengths_U(self) -> npt.NDArray[np.int64]:
        """Events per history, int64 [U]."""
        return np.diff(self.offsets_U1)

    def owners_E(self) -> npt.NDArray[np.int64]:
        """Which history each event belongs to, int64 [E]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths_U)

    def slice(self, start: int, stop: int) -> Sequences:
        """Histories ``start..stop`` without copying their rows."""
        start, stop, _ = slice(start, stop).indices(len(self))
        offsets = self.offsets_U1[start : max(start, stop) + 1]
        return Sequences(offsets - offsets[0], self.item_rows_E[offsets[0] : offsets[-1]])

    def take(self, indexes: IntArray) -> Sequences:
        """The histories at ``indexes``, in that order."""
        starts, lengths = self.offsets_U1[:-1][indexes], self.lengths_U[indexes]
        return self._ranges(starts, lengths)

    def without_last(self, count: int) -> Sequences:
        """Every history less its newest ``count`` events (shorter ones become empty)."""
        return self._ranges(self.offsets_U1[:-1], np.maximum(self.lengths_U - count, 0))

    def padded_BL(self, length: int) -> npt.NDArray[np.int32]:
        """Left-padded windows of the newest ``length`` items, int32 [U, length], 0 on the left."""
        lengths = np.minimum(self.lengths_U, length)
        newest = self._ranges(self.offsets_U1[1:] - lengths, lengths)
        padded = np.full((len(self), length), PAD, np.int32)
        within = np.arange(newest.item_rows_E.size) - np.repeat(newest.offsets_U1[:-1], lengths)
        padded[newest.owners_E(), np.repeat(length - lengths, lengths) + within] = newest.item_rows_E
        return padded

    def counts_N1(self, num_items: int) -> npt.NDArray[np.int64]:
        """Events per item row, int64 [N + 1]; index 0 (padding) is 0."""
        return np.bincount(self.item_rows_E, minlength=num_items + 1).astype(np.int64)

    def _ranges(self, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Sequences:
        offsets = np.zeros(lengths.size + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        source = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Sequences(offsets, self.item_rows_E[source])
