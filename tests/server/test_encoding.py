"""Ids to rows and back, padding, and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain import Filters
from server.encoding.catalogue import Catalogue, load_catalogue, write_catalogue
from server.encoding.items import ItemIndex, pad_left, pad_right
from server.encoding.tables import engine_tables

ids_lists = st.lists(st.text(max_size=8), min_size=1, max_size=50, unique=True)


@given(ids_lists, st.lists(st.text(max_size=8), max_size=20))
def test_ids_become_rows_and_the_same_ids_again(known: list[str], asked: list[str]) -> None:
    """Every known id has its own row, row 0 is nobody's, and unknown ids are left out."""
    index = ItemIndex(known)

    rows = index.rows(asked)

    assert [index.ids[row] for row in rows] == [item for item in asked if item in set(known)]
    assert [index.row(item) for item in known] == list(range(1, len(known) + 1))
    assert 0 not in rows


def test_an_id_that_stands_twice_is_named_with_both_rows() -> None:
    """A catalogue with a repeated id cannot be served by chance."""
    with pytest.raises(ValueError, match=r"'a' is both row 1 and row 3"):
        ItemIndex(["a", "b", "a"])


@given(st.lists(st.lists(st.integers(1, 99), max_size=12), min_size=1, max_size=8), st.integers(1, 10))
def test_padding_keeps_the_newest_items_in_the_last_columns(rows_B: list[list[int]], length: int) -> None:
    """The newest item is always in the last column, and nothing but padding is left of a history."""
    packed = pad_left(rows_B, length=length)

    assert packed.dtype == np.int32
    assert packed.shape[1] == max(1, max(min(len(rows), length) for rows in rows_B))
    for line, rows in zip(packed.tolist(), rows_B, strict=True):
        kept = rows[-length:]
        assert line[len(line) - len(kept) :] == kept
        assert not any(line[: len(line) - len(kept)])
    assert [[v for v in line if v] for line in pad_right(rows_B).tolist()] == rows_B


def shop() -> Catalogue:
    return Catalogue(
        ["a", "b", "c", "d"],
        {
            "title": ["A", "B", "C", "D"],
            "category": ["x", "y", "x", None],
            "brand": ["p", "p", "q", "q"],
            "price": [1.0, 2.0, None, 4.0],
            "in_stock": [True, False, True, None],
        },
        rows=8,
    )


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        (Filters(), "abcd"),
        (Filters(categories=("x",)), "ac"),
        (Filters(categories=("x", "y"), brands=("p",)), "ab"),
        (Filters(categories=("nowhere",)), ""),
        (Filters(min_price=2.0), "bd"),
        (Filters(min_price=1.0, max_price=2.0), "ab"),
        (Filters(in_stock=True), "acd"),
        (Filters(in_stock=False), "b"),
    ],
)
def test_a_filter_passes_just_the_items_it_should(filters: Filters, passing: str) -> None:
    """All conditions must hold; an item without a price has none that fits a bound; padding never passes."""
    catalogue = shop()

    mask = catalogue.mask(filters)

    assert "".join(catalogue.index.ids[row] for row in np.flatnonzero(mask)) == passing
    assert catalogue.mask(filters) is mask  # cached


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """Ids and columns survive the two files, whatever the language."""
    write_catalogue(
        tmp_path / "i", tmp_path / "c", ["甲", "b"], {"title": ["茶壶", None], "price": [1.5, None]}
    )

    catalogue = load_catalogue(tmp_path / "i", tmp_path / "c")

    assert catalogue.item_fields(1, ["title", "price", "nothing"]) == {"title": "茶壶", "price": 1.5}


def test_a_column_is_read_when_it_is_asked_for_even_after_its_file_is_gone(tmp_path: Path) -> None:
    """A version may be deleted while it serves; what was never asked for was never in memory."""
    write_catalogue(tmp_path / "i", tmp_path / "c", ["a", "b"], {"title": ["A", "B"], "brand": ["x", "x"]})
    catalogue = load_catalogue(tmp_path / "i", tmp_path / "c")
    (tmp_path / "c").unlink()

    assert catalogue.item_fields(2, ["title", "brand"]) == {"title": "B", "brand": "x"}
    assert "price" not in catalogue.columns and set(catalogue.columns) == {"title", "brand"}


def test_a_cut_column_file_is_a_sentence(tmp_path: Path) -> None:
    """Half a file is refused when it is opened, or names its column when that is read; never half a column."""
    write_catalogue(tmp_path / "i", tmp_path / "c", ["a", "b"], {"title": ["A", "B"]})
    whole = (tmp_path / "c").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "c").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"ends after|cannot be read"):
            load_catalogue(tmp_path / "i", tmp_path / "c").item_fields(1, ["title"])


def test_a_broken_item_file_is_named(tmp_path: Path) -> None:
    """A cut file is a sentence with its folder, not a stack trace from a parser."""
    (tmp_path / "i").write_bytes(b'["a", ')

    with pytest.raises(ValueError, match="items cannot be read"):
        load_catalogue(tmp_path / "i", None)


def test_tables_that_do_not_fit_each_other_are_refused() -> None:
    """A missing table, a wrong length and a scale without codes are each told."""
    good = {
        "item_emb_ND": np.zeros((4, 2), np.float32),
        "input_scale_N": np.zeros(4, np.float32),
        "neighbour_ids_NM": np.zeros((4, 1), np.int32),
        "neighbour_weights_NM": np.zeros((4, 1), np.float32),
        "hidden_rows_X": np.zeros(1, np.int32),
    }

    assert engine_tables(good)["score_emb_DN"].shape == (2, 4)
    with pytest.raises(ValueError, match="missing"):
        engine_tables({"item_emb_ND": good["item_emb_ND"]})
    with pytest.raises(ValueError, match="input_scale_N has 3 rows"):
        engine_tables({**good, "input_scale_N": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="int8 codes"):
        engine_tables({**good, "score_scale_N": np.zeros(4, np.float32)})
