"""From a shopper's history and the first stage's candidates to what a re-ranker reads: one function, for training and serving.

The decision not to undo: the builder calls ``RerankFeatures.rows`` to make its training rows and the server calls it to answer,
on tables of the same version. There is no second implementation that could drift from it; what it gave at build time is also
replayed at every load (``rerank_loading``).

Sparse values are hashed: ``blake2b(salt, feature, value)`` as 64 bits, modulo the feature's buckets. No table of words is needed,
an item that is new gets a bucket too, and the same value has the same bucket in every process and on every machine.

Suffixes: N item rows with row 0 (unknown), A attributes, B requests, R candidate rows of all requests, H history positions,
F dense features, S sparse ones, E pairs that followed each other.

Source:
    Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from server.encoding.items import ItemIndex

LOG_PRICE, LOG_POPULARITY, PAIR_KEYS, PAIR_COUNTS = (
    "log_price_N",
    "log_popularity_N",
    "pair_keys_E",
    "pair_counts_E",
)
TABLES = (LOG_PRICE, LOG_POPULARITY, PAIR_KEYS, PAIR_COUNTS)
ITEM, NEWEST, CROSS = "item_id", "newest_item_id", "newest_x_candidate"
RECENT_PAIRS = 3  # newest items whose followers are looked at
MOST_BUCKETS = 1 << 24
_PLAIN = (
    "score", "score_below_best", "place", "log_popularity", "log_price", "price_distance", "log_history", "follows_newest",
    "follows_recent",
)  # fmt: skip
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]


class FeatureDeclaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the features of a version are; ``features.json``, and in numbers in its manifest.

    Attributes:
        attributes: columns of the item data that are hashed and compared with the history's; the first is also crossed with the
            newest item's.
        buckets: by sparse feature, in their order: ``item_id``, each attribute, ``newest_item_id``, ``newest_x_candidate``.
        salt: of the hash.
        max_history: newest items of a history that are looked at.
        dense: names of the dense features, in order; derived from the attributes, and written down to be read.
    """

    attributes: tuple[str, ...]
    buckets: dict[str, int]
    salt: int
    max_history: int
    dense: tuple[str, ...]

    def problem(self) -> str | None:
        """What does not hold together, as a sentence; None: nothing."""
        if not self.attributes:
            return "no attributes: name a column of the item data"
        if tuple(self.buckets) != sparse_names(self.attributes):
            return f"buckets are of {tuple(self.buckets)}, must be of {sparse_names(self.attributes)}"
        wrong = next((name for name, count in self.buckets.items() if not 1 <= count <= MOST_BUCKETS), None)
        if wrong is not None:
            return f"{wrong} has {self.buckets[wrong]} buckets, must be 1 to {MOST_BUCKETS}"
        if self.max_history < 1:
            return f"max_history is {self.max_history}, must be 1 or more"
        if self.dense != dense_names(self.attributes):
            return f"dense features are {self.dense}, this code makes {dense_names(self.attributes)}"
        return None

    def parameters(self) -> dict[str, float]:
        """The hashing in numbers, for the manifest."""
        return {
            "hash_salt": float(self.salt),
            **{f"buckets.{name}": float(n) for name, n in self.buckets.items()},
        }


@dataclass(slots=True)
class RerankRows:
    """Rows of several requests, one after the other; where one ends, the next begins."""

    dense_RF: Floats
    sparse_RS: Ints


def dense_names(attributes: Sequence[str]) -> tuple[str, ...]:
    """Names of the dense features, in order."""
    return (*_PLAIN, *(f"{prefix}.{name}" for name in attributes for prefix in ("share", "as_newest")))


def sparse_names(attributes: Sequence[str]) -> tuple[str, ...]:
    """Names of the sparse features, in order."""
    return (ITEM, *attributes, NEWEST, CROSS)


def hash_value(salt: int, feature: str, value: str) -> int:
    """64 bits of a value of a feature; the same everywhere and for ever."""
    data = f"{salt}\0{feature}\0{value}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


class RerankFeatures:
    """Features of one version; holds its tables, changes nothing.

    Args:
        declaration: what they are.
        item_ids: of rows 1, 2, ...
        columns: item data; a column that is missing is empty for every item.
        tables: by ``TABLES``: logarithms of price (NaN: none) and of ``1 + popularity``, ``[N]``; ``from * N + to`` of each pair
            that followed each other, rising, and the logarithm of ``1 + count``, ``[E]``.

    Raises:
        ValueError: they do not go together; says which.
    """

    def __init__(
        self,
        declaration: FeatureDeclaration,
        item_ids: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
        tables: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        problem = declaration.problem()
        if problem is not None:
            raise ValueError(problem)
        self.declaration = declaration
        self.index = ItemIndex(item_ids)
        rows = len(item_ids) + 1
        for name, length in ((LOG_PRICE, rows), (LOG_POPULARITY, rows)):
            if tables[name].shape != (length,):
                raise ValueError(f"{name} has shape {tables[name].shape}, there are {length} item rows")
        if tables[PAIR_KEYS].shape != tables[PAIR_COUNTS].shape:
            raise ValueError(f"{PAIR_KEYS} and {PAIR_COUNTS} have other lengths")
        price_N = np.asarray(tables[LOG_PRICE], np.float32)
        self._priced_N = np.isfinite(price_N)
        self._price_N = np.where(self._priced_N, price_N, 0).astype(np.float32)
        self._popularity_N = np.asarray(tables[LOG_POPULARITY], np.float32)
        self._pair_keys_E = np.asarray(tables[PAIR_KEYS], np.int64)
        self._pair_counts_E = np.append(np.asarray(tables[PAIR_COUNTS], np.float32), np.float32(0))
        self._codes_NA, self._hashes_NA = _attributes(declaration, columns, rows)
        salt = declaration.salt
        self._items_N = np.array([hash_value(salt, ITEM, one) for one in self.index.ids], np.uint64)
        self._newest_N = np.array([hash_value(salt, NEWEST, one) for one in self.index.ids], np.uint64)
        self._buckets_S = np.array(list(declaration.buckets.values()), np.uint64)
        self._rows = rows

    def rows(
        self,
        histories: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[int]],
        scores: Sequence[Sequence[float]],
    ) -> RerankRows:
        """Features of every candidate of every request.

        Args:
            histories: B histories in item rows, oldest first; 0 is an item that is not known here.
            candidates: of each, the first stage's item rows, best first.
            scores: of each, the first stage's scores.
        """
        owner_R = np.repeat(np.arange(len(candidates)), [len(one) for one in candidates])
        place_R = np.concatenate([np.arange(len(one)) for one in candidates]) if len(candidates) else owner_R
        items_R = np.fromiter((row for one in candidates for row in one), np.int64, owner_R.size)
        score_R = np.fromiter((score for one in scores for score in one), np.float32, owner_R.size)
        history_BH, known_BH, newest_B = self._histories(histories)
        best_B = np.array([max(one, default=0.0) for one in scores], np.float32)
        dense: list[Floats] = [
            score_R,
            score_R - best_B[owner_R],
            (1.0 / np.log2(place_R + 2.0)).astype(np.float32),
            self._popularity_N[items_R],
            self._price_N[items_R],
            self._price_distance(items_R, history_BH, known_BH, owner_R),
            np.log1p(known_BH.sum(axis=1)).astype(np.float32)[owner_R],
            *self._following(items_R, history_BH, owner_R),
            *self._shares(items_R, history_BH, known_BH, newest_B, owner_R),
        ]
        return RerankRows(np.stack(dense, axis=1), self._sparse(items_R, newest_B[owner_R]))

    def _histories(
        self, histories: Sequence[Sequence[int]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        most = self.declaration.max_history
        newest = [list(one[-most:]) for one in histories]
        width = max((len(one) for one in newest), default=1) or 1
        history_BH = np.zeros((len(newest), width), np.int64)
        for b, one in enumerate(newest):
            if one:
                history_BH[b, width - len(one) :] = one
        return history_BH, history_BH > 0, history_BH[:, -1]

    def _price_distance(
        self,
        items_R: npt.NDArray[np.int64],
        history_BH: npt.NDArray[np.int64],
        known_BH: npt.NDArray[np.bool_],
        owner_R: npt.NDArray[np.int64],
    ) -> Floats:
        priced_BH = known_BH & self._priced_N[history_BH]
        count_B = priced_BH.sum(axis=1)
        mean_B = (self._price_N[history_BH] * priced_BH).sum(axis=1, dtype=np.float64) / np.maximum(
            count_B, 1
        )
        apart_R = np.abs(self._price_N[items_R] - mean_B[owner_R])
        return np.where((count_B > 0)[owner_R] & self._priced_N[items_R], apart_R, 0).astype(np.float32)

    def _following(
        self,
        items_R: npt.NDArray[np.int64],
        history_BH: npt.NDArray[np.int64],
        owner_R: npt.NDArray[np.int64],
    ) -> tuple[Floats, Floats]:
        recent_BH = history_BH[:, -RECENT_PAIRS:]
        counts_RH = self._counts(recent_BH[owner_R] * self._rows + items_R[:, None])
        return counts_RH[:, -1], counts_RH.max(axis=1)

    def _counts(self, keys: npt.NDArray[np.int64]) -> Floats:
        at = np.searchsorted(self._pair_keys_E, keys)
        if self._pair_keys_E.size:
            inside = np.minimum(at, self._pair_keys_E.size - 1)
            at = np.where(self._pair_keys_E[inside] == keys, inside, self._pair_keys_E.size)
        found: Floats = self._pair_counts_E[at]
        return found

    def _shares(
        self,
        items_R: npt.NDArray[np.int64],
        history_BH: npt.NDArray[np.int64],
        known_BH: npt.NDArray[np.bool_],
        newest_B: npt.NDArray[np.int64],
        owner_R: npt.NDArray[np.int64],
    ) -> list[Floats]:
        count_R = np.maximum(known_BH.sum(axis=1), 1)[owner_R]
        found: list[Floats] = []
        for a in range(len(self.declaration.attributes)):
            code_R, of_history_BH = self._codes_NA[items_R, a], self._codes_NA[history_BH, a]
            same_RH = (of_history_BH[owner_R] == code_R[:, None]) & (code_R > 0)[:, None]
            as_newest_R = (self._codes_NA[newest_B, a][owner_R] == code_R) & (code_R > 0)
            found += [(same_RH.sum(axis=1) / count_R).astype(np.float32), as_newest_R.astype(np.float32)]
        return found

    def _sparse(self, items_R: npt.NDArray[np.int64], newest_R: npt.NDArray[np.int64]) -> Ints:
        crossed_R = _mixed(self._hashes_NA[newest_R, 0], self._hashes_NA[items_R, 0])
        hashes_RS = np.concatenate(
            [
                self._items_N[items_R][:, None],
                self._hashes_NA[items_R],
                self._newest_N[newest_R][:, None],
                crossed_R[:, None],
            ],
            axis=1,
        )
        return (hashes_RS % self._buckets_S).astype(np.int32)


def count_pairs(
    offsets_U1: npt.NDArray[np.int64], item_rows_E: npt.NDArray[np.int32], num_items: int
) -> tuple[npt.NDArray[np.int64], Floats]:
    """``PAIR_KEYS`` and ``PAIR_COUNTS`` of U histories: how often one item directly followed another.

    Args:
        offsets_U1: where each history begins in ``item_rows_E``.
        item_rows_E: item rows, oldest first.
        num_items: in the catalogue, without row 0.
    """
    rows = num_items + 1
    events = item_rows_E.astype(np.int64)
    within = np.ones(max(events.size - 1, 0), np.bool_)
    starts = offsets_U1[1:-1]
    inner = starts[(starts > 0) & (starts < events.size)]
    within[inner - 1] = False
    keys_P = (events[:-1] * rows + events[1:])[within]
    keys_E, counts_E = np.unique(keys_P, return_counts=True)
    return keys_E.astype(np.int64), np.log1p(counts_E).astype(np.float32)


def _attributes(
    declaration: FeatureDeclaration, columns: Mapping[str, Sequence[Any]], rows: int
) -> tuple[Ints, Hashes]:
    """Codes that are equal where values are (0: none), and the hashes of the values; both ``[N, A]``."""
    codes_NA = np.zeros((rows, len(declaration.attributes)), np.int32)
    hashes_NA = np.zeros((rows, len(declaration.attributes)), np.uint64)
    for a, name in enumerate(declaration.attributes):
        hashes_NA[:, a] = np.uint64(hash_value(declaration.salt, name, ""))
        seen: dict[str, tuple[int, np.uint64]] = {}
        for row, value in enumerate(columns.get(name, ()), start=1):
            if value is None or value == "":
                continue
            text = str(value)
            if text not in seen:
                seen[text] = (len(seen) + 1, np.uint64(hash_value(declaration.salt, name, text)))
            codes_NA[row, a], hashes_NA[row, a] = seen[text]
    return codes_NA, hashes_NA


def _mixed(one_R: Hashes, two_R: Hashes) -> Hashes:
    """A hash of two hashes, in this order; ``splitmix64``'s finalizer.

    Source:
        Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
    """
    with np.errstate(over="ignore"):
        x = one_R * np.uint64(0x9E3779B97F4A7C15) + two_R
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)), np.uint64)
