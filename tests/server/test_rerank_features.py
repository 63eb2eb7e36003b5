"""Features of a re-ranker: the same row whoever makes it, whenever, in whatever company."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.encoding.rerank_features import (
    LOG_POPULARITY,
    PAIR_COUNTS,
    PAIR_KEYS,
    RerankFeatures,
    count_pairs,
    hash_value,
)
from tests.server.tiny_rerank import columns_of, declared, tables_of, tiny_features

ITEMS = [f"sku-{row}" for row in range(1, 41)]
FEATURES = tiny_features(ITEMS)
ROWS = st.integers(0, len(ITEMS))  # 0: an item that the re-ranker does not know
LISTS = st.lists(
    st.tuples(
        st.lists(ROWS, max_size=9),
        st.lists(st.tuples(ROWS, st.floats(-50, 50, width=32)), min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=6,
)


def rows_of(some: list[tuple[list[int], list[tuple[int, float]]]]) -> tuple[np.ndarray, np.ndarray]:
    made = FEATURES.rows(
        [history for history, _ in some],
        [[row for row, _ in candidates] for _, candidates in some],
        [[score for _, score in candidates] for _, candidates in some],
    )
    return made.dense_RF, made.sparse_RS


@given(LISTS)
def test_a_list_has_the_same_features_alone_as_in_any_company(
    some: list[tuple[list[int], list[tuple[int, float]]]],
) -> None:
    """Training makes rows of hundreds of lists at once and serving of one: to the bit the same."""
    dense, sparse = rows_of(some)

    alone = [rows_of([one]) for one in some]

    assert np.array_equal(dense, np.concatenate([one[0] for one in alone]))
    assert np.array_equal(sparse, np.concatenate([one[1] for one in alone]))


@given(LISTS)
def test_every_row_is_finite_and_every_id_within_its_buckets(
    some: list[tuple[list[int], list[tuple[int, float]]]],
) -> None:
    """Whatever a shopper did, with items that are new and without prices."""
    dense, sparse = rows_of(some)

    assert dense.dtype == np.float32 and sparse.dtype == np.int32
    assert dense.shape[1] == len(FEATURES.declaration.dense)
    assert np.isfinite(dense).all()
    assert (sparse >= 0).all() and (sparse < 64).all()


def test_only_the_newest_items_of_a_history_count() -> None:
    """As many as are declared: what training saw is what serving sees."""
    long, short = [7, 8, 9, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5]

    assert np.array_equal(rows_of([(long, [(6, 1.0)])])[0], rows_of([(short, [(6, 1.0)])])[0])
    assert not np.array_equal(rows_of([(short, [(6, 1.0)])])[0], rows_of([([1, 2, 3, 4, 6], [(6, 1.0)])])[0])


def test_shares_are_of_the_history_and_missing_values_are_like_nothing() -> None:
    """Two of four items have the candidate's brand; an item without a category shares it with nobody."""
    names = FEATURES.declaration.dense
    dense, _ = rows_of([([1, 6, 2, 3], [(11, 1.0)]), ([1, 8], [(15, 1.0)])])

    assert dense[0, names.index("share.brand")] == pytest.approx(0.5)
    assert dense[0, names.index("as_newest.brand")] == 0
    assert dense[1, names.index("share.category")] == 0  # rows 1, 8 and 15 have none


def test_a_value_has_the_same_bucket_in_every_process() -> None:
    """Python's own hash changes from process to process; this one is pinned."""
    assert hash_value(1, "brand", "Acme") == 64162472009418414
    code = "from server.encoding.rerank_features import hash_value; print(hash_value(1, 'brand', 'Ac\\u00e9 \\u5c3a'))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert found == {str(hash_value(1, "brand", "Acé 尺"))}
    assert (
        hash_value(2, "brand", "Acé 尺")
        != hash_value(1, "brand", "Acé 尺")
        != hash_value(1, "category", "Acé 尺")
    )


def test_pairs_do_not_cross_from_one_shopper_to_the_next() -> None:
    """Only what one shopper looked at one after the other followed each other."""
    offsets, rows = np.array([0, 2, 2, 5]), np.array([1, 2, 3, 1, 2], np.int32)

    keys, counts = count_pairs(offsets, rows, 3)

    assert [divmod(int(key), 4) for key in keys] == [(1, 2), (3, 1)]
    assert counts == pytest.approx(np.log1p([2, 1]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"attributes": ()}, "no attributes"),
        ({"buckets": {"item_id": 4}}, "buckets are of"),
        ({"max_history": 0}, "max_history is 0"),
        ({"dense": ("score",)}, "this code makes"),
    ],
)
def test_a_declaration_of_other_code_is_refused(change: dict[str, object], sentence: str) -> None:
    """Features that this code does not make are never half served."""
    import msgspec

    with pytest.raises(ValueError, match=sentence):
        RerankFeatures(
            msgspec.structs.replace(declared(), **change), ITEMS, columns_of(ITEMS), tables_of(ITEMS)
        )


def test_tables_of_another_catalogue_are_refused() -> None:
    """Rows must be the same items."""
    tables = tables_of(ITEMS)
    with pytest.raises(ValueError, match=LOG_POPULARITY):
        RerankFeatures(
            declared(),
            ITEMS[:-1],
            columns_of(ITEMS[:-1]),
            tables | {"log_price_N": tables["log_price_N"][:-1]},
        )
    with pytest.raises(ValueError, match=PAIR_KEYS):
        RerankFeatures(declared(), ITEMS, columns_of(ITEMS), tables | {PAIR_COUNTS: tables[PAIR_COUNTS][:-1]})
