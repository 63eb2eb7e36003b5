"""The features' tables of a shop, from training events only, and rows of lists through the function that serves.

Suffixes: C lists, R candidates of one list, N item rows with row 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from build_engines.data.items import Catalogue
from build_engines.data.sequences import Sequences
from build_engines.errors import BuildError
from build_engines.rerank.recipe_parts import FeaturesPart
from build_engines.version_files import item_columns
from server.encoding.rerank_features import (
    LOG_POPULARITY,
    LOG_PRICE,
    PAIR_COUNTS,
    PAIR_KEYS,
    FeatureDeclaration,
    RerankFeatures,
    RerankRows,
    count_pairs,
    dense_names,
)

CHUNK = 256  # lists


def declaration(part: FeaturesPart) -> FeatureDeclaration:
    """What the recipe asks for."""
    return FeatureDeclaration(
        attributes=part.attributes,
        buckets=part.buckets(),
        salt=part.salt,
        max_history=part.max_history,
        dense=dense_names(part.attributes),
    )


def attribute_columns(catalogue: Catalogue, attributes: Sequence[str]) -> dict[str, list[Any]]:
    """The item data that is read.

    Raises:
        BuildError: there is no such column; says which there are.
    """
    columns = item_columns(catalogue)
    unknown = next((name for name in attributes if name not in columns), None)
    if unknown is not None:
        known = ", ".join(sorted(columns))
        raise BuildError(
            f"features.attributes has {unknown!r}, no column of the item data; there are {known}"
        )
    return {name: columns[name] for name in attributes}


def make_tables(catalogue: Catalogue, train: Sequences) -> dict[str, npt.NDArray[Any]]:
    """Tables by ``rerank_features.TABLES``; prices are around their mean, in standard deviations of their logarithm."""
    prices = np.array([np.nan if one is None else one for one in catalogue.frame["price"]], np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_price = np.where(prices > 0, np.log(prices), np.nan)
    known = log_price[np.isfinite(log_price)]
    scaled = (log_price - (known.mean() if known.size else 0)) / max(known.std() if known.size else 1, 1e-6)
    counts_N1 = train.counts_N1(len(catalogue))
    keys, pair_counts = count_pairs(train.offsets_U1, train.item_rows_E, len(catalogue))
    return {
        LOG_PRICE: np.concatenate([[np.nan], scaled]).astype(np.float32),
        LOG_POPULARITY: np.log1p(counts_N1).astype(np.float32),
        PAIR_KEYS: keys,
        PAIR_COUNTS: pair_counts,
    }


def list_rows(
    features: RerankFeatures,
    histories: Sequences,
    rows_CR: npt.NDArray[np.int32],
    scores_CR: npt.NDArray[np.float32],
) -> RerankRows:
    """Features of every candidate of every list, one list after the other; places without a candidate have none."""
    dense, sparse = [], []
    counts_C = (rows_CR > 0).sum(axis=1)
    for start in range(0, len(rows_CR), CHUNK):
        some = range(start, min(start + CHUNK, len(rows_CR)))
        made = features.rows(
            [histories[c].tolist() for c in some],
            [rows_CR[c, : counts_C[c]].tolist() for c in some],
            [scores_CR[c, : counts_C[c]].tolist() for c in some],
        )
        dense.append(made.dense_RF)
        sparse.append(made.sparse_RS)
    return RerankRows(np.concatenate(dense), np.concatenate(sparse))


def arrays_of(rows: RerankRows) -> Mapping[str, npt.NDArray[Any]]:
    """As the network's inputs are named."""
    return {"dense": rows.dense_RF, "sparse": rows.sparse_RS}
