"""Vectors of a knowledge base in memory: found by a scan in two steps, changed without disturbing those who search.

Every passage has one vector here, kept twice: as INT8 with a scale of its own (D bytes) and as the signs of its parts
(D/8 bytes).  A search counts the signs that differ, for all rows, and computes the cosine only for the thousand
rows that differ least.  Both steps are plain passes over arrays, so there is no index to build, to tune, to mend after
a deletion, or to carry as a dependency; ``bench/retrieval.py`` holds it against the exact ranking and against others.

An index is immutable to its readers: ``with_changes`` gives another one, which shares the arrays.  Rows are only ever
appended behind those an older index looks at, and a removal is a new mask of 1 byte per row.  Ids must ascend, as
``INTEGER PRIMARY KEY AUTOINCREMENT`` makes them, so that an id is found by bisection and needs no dictionary.

Shapes: N rows, D dimensions, K hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

KEPT_ROWS = 1200  # whose cosine is computed: 20 times the hits that are asked for, and more than 1 % of 100,000 passages
_BLOCK_ROWS = 8192  # of a pass over the signs: its intermediate results stay in the second-level cache
_GROWTH = 1.25
_MOST_DEAD = 0.25  # share of removed rows from which the arrays are written anew


def unit(rows_ND: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(rows_ND, axis=-1, keepdims=True)
    return np.asarray(rows_ND / np.where(lengths > 0, lengths, 1), np.float32)


def pack_rows(rows_ND: Floats) -> bytes:
    """Write vectors as a database keeps them: per row a float32 scale and D signed bytes.

    The cosine of a row with itself before packing is above 0.9999 for sentence vectors of 384 dimensions.
    """
    scales = np.abs(rows_ND).max(axis=1) / 127
    codes = np.rint(rows_ND / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8)
    packed = np.empty(len(rows_ND), _row_type(rows_ND.shape[1]))
    packed["scale"], packed["codes"] = scales, codes
    return packed.tobytes()


def rows_in(data: bytes, dim: int) -> int:
    """Count the rows that ``pack_rows`` wrote."""
    return len(data) // _row_type(dim).itemsize


def dots(rows_ND: Floats, query_D: Floats) -> Floats:
    """Multiply rows with a vector on this thread alone.

    ``@`` wakes BLAS's threads for products of this size, which then spin on the cores that the engines need.
    """
    return np.asarray(np.einsum("nd,d->n", rows_ND, query_D), np.float32)


def unpack_rows(data: bytes, dim: int) -> Floats:
    """Read what ``pack_rows`` wrote.

    Raises:
        ValueError: the bytes are not rows of ``dim`` parts; says both lengths.
    """
    rows = _as_rows(data, dim)
    return np.asarray(rows["codes"].astype(np.float32) * rows["scale"][:, None], np.float32)


@cache
def _row_type(dim: int) -> np.dtype[np.void]:
    return np.dtype([("scale", "<f4"), ("codes", "i1", (dim,))])


def _as_rows(data: bytes, dim: int) -> npt.NDArray[np.void]:
    size = _row_type(dim).itemsize
    if len(data) % size:
        raise ValueError(f"vectors of {len(data)} bytes are not rows of {dim} dimensions ({size} bytes each)")
    return np.frombuffer(data, _row_type(dim))


@dataclass(slots=True)
class _Arrays:
    """Shared by indexes of one lineage; ``rows`` is how far they are written."""

    ids: Ids
    scales: Floats
    codes_ND: npt.NDArray[np.int8]
    signs_WN: npt.NDArray[np.uint64]
    rows: int

    @staticmethod
    def empty(capacity: int, dim: int) -> _Arrays:
        words = -(-dim // 64)
        return _Arrays(
            ids=np.empty(capacity, np.int64),
            scales=np.empty(capacity, np.float32),
            codes_ND=np.empty((capacity, dim), np.int8),
            signs_WN=np.empty((words, capacity), np.uint64),
            rows=0,
        )

    def append(self, ids: Ids, scales: Floats, codes_ND: npt.NDArray[np.int8]) -> None:
        end = self.rows + len(ids)
        self.ids[self.rows : end] = ids
        self.scales[self.rows : end] = scales
        self.codes_ND[self.rows : end] = codes_ND
        self.signs_WN[:, self.rows : end] = _signs(codes_ND).T
        self.rows = end


def _signs(rows_ND: npt.NDArray[np.int8] | Floats) -> npt.NDArray[np.uint64]:
    bits = np.packbits(rows_ND > 0, axis=1)
    missing = -bits.shape[1] % 8
    return np.ascontiguousarray(np.pad(bits, ((0, 0), (0, missing)))).view(np.uint64)


class VectorIndex:
    """What one epoch's searches look at.

    Any number of threads may search one index; ``with_changes`` is for one thread at a time, and only for the newest
    index of a lineage.
    """

    def __init__(self, dim: int) -> None:
        """Make an empty index for vectors of ``dim`` parts."""
        self._arrays = _Arrays.empty(0, dim)
        self._rows = 0
        self._alive = np.empty(0, np.bool_)
        self._sum_D = np.zeros(dim, np.float64)
        self._dim = dim

    @property
    def dim(self) -> int:
        """D."""
        return self._dim

    def __len__(self) -> int:
        """Passages that can be found."""
        return int(self._alive.sum())

    @property
    def mean_D(self) -> Floats:
        """Mean of all vectors: what every passage is a little about; zeros of an empty index."""
        return np.asarray(self._sum_D / max(1, len(self)), np.float32)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        shared = self._arrays
        parts = (shared.ids, shared.scales, shared.codes_ND, shared.signs_WN, self._alive)
        return sum(part.nbytes for part in parts)

    def with_changes(
        self, ids: Sequence[int], packed: Sequence[bytes], removed: Sequence[int]
    ) -> VectorIndex:
        """Add rows and take some away; this index stays as it is.

        Args:
            ids: of the new rows, ascending, all greater than any before.
            packed: one row each, as ``pack_rows`` writes it.
            removed: ids to take away; unknown ones are passed over.

        Raises:
            ValueError: the ids do not ascend, or a row has another length; nothing has changed.
        """
        rows = _as_rows(b"".join(packed), self._dim)
        if len(rows) != len(ids):
            raise ValueError(f"{len(ids)} passages but {len(rows)} vectors of {self._dim} dimensions")
        new_ids = np.asarray(ids, np.int64)
        last = self._arrays.ids[self._rows - 1] if self._rows else -1
        if len(new_ids) and (new_ids[0] <= last or np.any(np.diff(new_ids) <= 0)):
            raise ValueError(
                f"ids of passages must ascend from {last + 1}; got {new_ids[0]} to {new_ids[-1]}"
            )
        alive = np.concatenate([self._alive, np.ones(len(new_ids), np.bool_)])
        after = VectorIndex(self._dim)
        after._arrays, after._rows, after._alive = self._room_for(len(new_ids)), self._rows, alive
        after._arrays.append(new_ids, rows["scale"], rows["codes"])
        after._rows += len(new_ids)
        gone = after.rows_of(np.asarray(removed, np.int64))
        gone = np.unique(gone[gone >= 0])
        after._sum_D = self._sum_D + after._sum_of(slice(self._rows, None)) - after._sum_of(gone)
        alive[gone] = False
        return after._compacted() if alive.sum() < (1 - _MOST_DEAD) * len(alive) else after

    def _sum_of(self, rows: slice | npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        arrays = self._arrays
        return arrays.scales[: self._rows][rows].astype(np.float64) @ arrays.codes_ND[: self._rows][rows]

    def _room_for(self, more: int) -> _Arrays:
        arrays, need = self._arrays, self._rows + more
        if arrays.rows == self._rows and need <= len(arrays.ids):
            return arrays
        capacity = need if not self._rows else max(need, int(self._rows * _GROWTH) + 64)
        room = _Arrays.empty(capacity, self._dim)
        rows = slice(0, self._rows)
        room.append(arrays.ids[rows], arrays.scales[rows], arrays.codes_ND[rows])
        return room

    def _compacted(self) -> VectorIndex:
        keep = np.flatnonzero(self._alive)
        after = VectorIndex(self._dim)
        after._arrays = _Arrays.empty(len(keep), self._dim)
        after._arrays.append(self._arrays.ids[keep], self._arrays.scales[keep], self._arrays.codes_ND[keep])
        after._rows, after._alive, after._sum_D = len(keep), np.ones(len(keep), np.bool_), self._sum_D
        return after

    def rows_of(self, ids: Ids) -> npt.NDArray[np.intp]:
        """Rows of ids; -1 where an id is unknown or removed."""
        known = self._arrays.ids[: self._rows]
        if not len(known):
            return np.full(len(ids), -1, np.intp)
        rows = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where((known[rows] == ids) & self._alive[rows], rows, -1)

    def vectors(self, ids: Ids) -> Floats:
        """Vectors of ids that are there; a row of NaN for one that is not."""
        rows = self.rows_of(ids)
        if not self._rows:
            return np.full((len(ids), self._dim), np.nan, np.float32)
        found = np.asarray(
            self._arrays.codes_ND[rows].astype(np.float32) * self._arrays.scales[rows][:, None]
        )
        found[rows < 0] = np.nan
        return found

    def search(self, query_D: Floats, k: int, *, kept: int = KEPT_ROWS) -> tuple[Ids, Floats]:
        """Find the rows that lie closest.

        Args:
            query_D: of length 1.
            k: K, at most.
            kept: rows whose cosine is computed; N or more makes the search exact but for the rounding of INT8.

        Returns:
            ``ids_K`` and ``cosines_K``, best first.
        """
        rows = self._candidates(query_D, kept)
        codes_RD = self._arrays.codes_ND[rows].astype(np.float32)
        cosines = dots(codes_RD, query_D) * self._arrays.scales[rows]
        if len(rows) > k:
            best = np.argpartition(cosines, -k)[-k:]
            rows, cosines = rows[best], cosines[best]
        order = np.argsort(-cosines, kind="stable")
        return self._arrays.ids[rows[order]], cosines[order]

    def _candidates(self, query_D: Floats, kept: int) -> npt.NDArray[np.intp]:
        if self._rows <= kept:
            return np.flatnonzero(self._alive)
        query_W1 = _signs(query_D[None]).T
        differ = np.empty(self._rows, np.uint16)
        unlike_WB = np.empty((len(query_W1), _BLOCK_ROWS), np.uint64)
        counts_WB = np.empty((len(query_W1), _BLOCK_ROWS), np.uint8)
        for start in range(0, self._rows, _BLOCK_ROWS):
            block = self._arrays.signs_WN[:, start : min(start + _BLOCK_ROWS, self._rows)]
            within = slice(0, block.shape[1])
            np.bitwise_xor(block, query_W1, out=unlike_WB[:, within])
            np.bitwise_count(unlike_WB[:, within], out=counts_WB[:, within])
            np.add.reduce(
                counts_WB[:, within], axis=0, dtype=np.uint16, out=differ[start : start + block.shape[1]]
            )
        differ[~self._alive] = 64 * len(query_W1) + 1  # more than any row can differ
        rows_within = np.bincount(differ, minlength=64 * len(query_W1) + 2).cumsum()
        most = min(int(np.searchsorted(rows_within, kept)), 64 * len(query_W1))
        return np.flatnonzero(differ <= most)
