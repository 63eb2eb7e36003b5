"""Item files: every form, every refusal, and how a catalogue meets a log."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from build_engines.data.bad_rows import BadRowPolicy
from build_engines.data.catalogue_match import bare_catalogue, match_catalogue
from build_engines.data.errors import DataError
from build_engines.data.interactions import Interactions
from build_engines.data.item_features import item_features
from build_engines.data.items import Catalogue, load_catalogue
from build_engines.data.sequences import Sequences

RECORDS = [
    {
        "item_id": "b",
        "title": "Mug",
        "brand": "Ada",
        "category": "Cups",
        "price": 4.5,
        "in_stock": False,
        "colour": "red",
    },
    {
        "item_id": "a",
        "title": "Pot",
        "brand": "Bea",
        "category": "Pots",
        "price": 20,
        "in_stock": True,
        "colour": "blue",
    },
]


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def jsonl(folder: Path, *records: object) -> Path:
    return written(folder, "items.jsonl", "".join(json.dumps(record) + "\n" for record in records))


def log_of(*histories: list[str]) -> Interactions:
    items = tuple(sorted({item for history in histories for item in history}))
    rows = Sequences.of([[items.index(item) + 1 for item in history] for history in histories])
    users = tuple(f"u{number}" for number in range(len(histories)))
    return Interactions(users=users, items=items, sequences=rows, timestamps_ms_E=None)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "json"])
def test_every_form_of_item_file_gives_the_same_catalogue(tmp_path: Path, kind: str) -> None:
    """CSV, JSONL, Parquet and one JSON object say the same thing; what we do not know is kept as an attribute."""
    path = tmp_path / f"items.{kind}"
    if kind == "csv":
        pl.DataFrame(RECORDS, strict=False).write_csv(path)
    elif kind == "parquet":
        pl.DataFrame(RECORDS, strict=False).write_parquet(path)
    elif kind == "jsonl":
        jsonl(tmp_path, *RECORDS)
    else:
        path.write_text(json.dumps({record["item_id"]: record for record in RECORDS}))

    catalogue, report = load_catalogue(path)

    assert catalogue.item_ids == ("a", "b")
    assert catalogue.frame["price"].to_list() == [20.0, 4.5]
    assert catalogue.frame["in_stock"].to_list() == [True, False]
    assert [one["colour"] for one in catalogue.attributes] == ["blue", "red"]
    assert (report.items, report.out_of_stock, report.without_price) == (2, 1, 0)


def test_attribute_lists_of_the_public_sets_are_a_catalogue(tmp_path: Path) -> None:
    """``{"4": [1, 2]}``: ids only, with attributes that become features; ids in order of value."""
    catalogue, _ = load_catalogue(written(tmp_path, "a.json", '{"10": [1, 2], "4": [2, 7], "5": [9]}'))
    features = item_features(catalogue, max_share=1.0)

    assert catalogue.item_ids == ("4", "5", "10")
    assert features.names == ("attribute_ids=2",)
    assert [one.tolist() for one in features.of_items] == [[1], [], [1]]


def test_a_shop_may_name_its_columns(tmp_path: Path) -> None:
    """``sku`` is an item id where the recipe says so; an unknown name in the recipe is an error."""
    path = written(tmp_path, "items.csv", "sku,name,extra\nx,Mug,\n")

    catalogue, _ = load_catalogue(path, columns={"item_id": "sku", "title": "name"})

    assert catalogue.frame["title"].to_list() == ["Mug"]
    assert catalogue.attributes == ({},)
    with pytest.raises(ValueError, match="'idd'; known are item_id"):
        load_catalogue(path, columns={"idd": "sku"})


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"item_id": "x", "price": -1}, "price is -1"),
        ({"item_id": "x", "price": float("nan")}, "price is nan"),
        ({"item_id": "x", "price": float("inf")}, "price is inf"),
        ({"item_id": "x", "price": "cheap"}, "price is 'cheap'"),
        ({"item_id": "x", "price": True}, "price is True"),
        ({"item_id": "x", "price": 10**400}, "not a number of 0 or more"),
        ({"item_id": "x", "in_stock": "maybe"}, "in_stock is 'maybe'"),
        ({"item_id": "x", "title": ["a"]}, "title is"),
        ({"item_id": "x", "attributes": 3}, "attributes is '3'"),
        ({"item_id": " "}, "item_id"),
        ({"item_id": None}, "item_id is empty"),
        ({"item_id": 1.5}, "item_id is 1.5"),
        ({"item_id": "a\u0000b"}, "control characters"),
        ({"title": "no id"}, "item_id is empty"),
        ([1], "not an object"),
    ],
)
def test_a_record_that_cannot_be_used_is_refused_with_file_and_line(
    tmp_path: Path, record: object, says: str
) -> None:
    """File, line, value; with ``drop`` it is left out and counted."""
    path = jsonl(tmp_path, {"item_id": "ok"}, record)

    with pytest.raises(DataError, match=says) as caught:
        load_catalogue(path)
    _, report = load_catalogue(path, policy=BadRowPolicy(on_bad_row="drop", max_bad_share=0.5))

    assert caught.value.line == 2
    assert (report.items, report.rows_bad) == (1, 1)


@pytest.mark.parametrize("drop", [False, True])
def test_an_id_twice_is_refused_whatever_the_policy(tmp_path: Path, drop: bool) -> None:
    """Which of two prices holds is the shop's to say; both lines are named."""
    path = jsonl(tmp_path, {"item_id": "x", "price": 1}, {"item_id": 7}, {"item_id": "x", "price": 2})

    with pytest.raises(DataError, match=r"items\.jsonl:3: item 'x' is already on line 1"):
        load_catalogue(path, policy=BadRowPolicy(on_bad_row="drop" if drop else "refuse"))


def test_a_key_twice_in_one_json_object_is_seen(tmp_path: Path) -> None:
    """JSON readers keep the last without a word; this one does not."""
    with pytest.raises(DataError, match="'4' is already"):
        load_catalogue(written(tmp_path, "a.json", '{"4": [1], "4": [2]}'))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("items.csv", "", "empty"),
        ("items.csv", "item_id,price\nx\n", ":2: the row has 1 fields"),
        ("items.jsonl", "\n", "empty"),
        ("items.jsonl", '{"item_id": "x"}\n{"item_id"\n', ":2: is not JSON"),
        ("items.json", "[1]", "write one object"),
        ("items.json", '{"a": 3}', ":1: item 'a' is 3"),
        ("items.json", '{"a"', ":1: is not JSON"),
        ("items.parquet", "no", "is not a parquet file, or a damaged one; export it again"),
        ("items.xml", "<a/>", "suffix"),
    ],
)
def test_a_broken_item_file_is_refused_in_a_sentence(tmp_path: Path, name: str, text: str, says: str) -> None:
    """Each break has its own sentence, with the line where there is one."""
    with pytest.raises(DataError, match=says):
        load_catalogue(written(tmp_path, name, text))


def test_a_csv_description_over_several_lines_keeps_line_numbers_true(tmp_path: Path) -> None:
    """A quoted line break does not shift the number in the next row's error."""
    path = written(tmp_path, "items.csv", 'item_id,description,price\na,"one\ntwo",1\nb,x,-3\n')

    with pytest.raises(DataError) as caught:
        load_catalogue(path)

    assert caught.value.line == 4


def test_a_log_and_a_catalogue_meet_in_one_row_space(tmp_path: Path) -> None:
    """Never clicked: a cold catalogue item. Clicked without a record: history, but neither listed nor in stock."""
    log = log_of(["b", "z"], ["b", "b"])
    catalogue, _ = load_catalogue(jsonl(tmp_path, *RECORDS))

    joined, joined_catalogue, match = match_catalogue(log, catalogue)

    assert joined.items == joined_catalogue.item_ids == ("a", "b", "z")
    assert [joined.ids_of(rows) for rows in joined.sequences] == [["b", "z"], ["b", "b"]]
    assert joined_catalogue.frame["listed"].to_list() == [True, True, False]
    assert joined_catalogue.frame["in_stock"].to_list() == [True, False, False]
    assert (match.cold_items, match.unlisted_items, match.unlisted_events, match.events) == (1, 1, 1, 4)
    with pytest.raises(DataError, match="1 clicked items have no record, such as 'z'"):
        match_catalogue(log, catalogue, on_unlisted="refuse")


def test_two_files_of_different_shops_are_refused(tmp_path: Path) -> None:
    """Most clicks on unknown items: the ids do not match, and the message shows one of each."""
    catalogue, _ = load_catalogue(jsonl(tmp_path, *RECORDS))

    with pytest.raises(DataError, match="the log says 'SKU-1', the item file 'a'"):
        match_catalogue(log_of(["SKU-1", "SKU-2", "a"]), catalogue)


def test_a_log_without_an_item_file_has_a_bare_catalogue() -> None:
    """Ids only, everything listed and in stock, and no features."""
    catalogue = bare_catalogue(log_of(["x", "y"]))

    assert catalogue.item_ids == ("x", "y")
    assert catalogue.frame["listed"].all()
    assert catalogue.frame["in_stock"].all()
    assert item_features(catalogue).names == ()


def test_a_catalogue_cannot_hold_an_id_twice() -> None:
    """Held by construction, wherever a catalogue comes from."""
    one = bare_catalogue(log_of(["x", "y"]))

    with pytest.raises(ValueError, match="twice"):
        Catalogue(pl.concat([one.frame, one.frame]), one.attributes * 2)
