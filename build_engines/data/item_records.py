"""An item file in any of its forms, as ``(line, record)`` pairs; the rules are not here.

Forms, by suffix: ``.csv`` and ``.tsv`` with a header, ``.parquet``, ``.jsonl`` (a record a line), and ``.json``: one object from
item id to a record, or to a list of attribute ids (the form of the Amazon sets).  A JSON object has no line per item, so its
"lines" count the items from 1.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from build_engines.data.errors import DataError

Record = dict[str, Any]
ATTRIBUTE_IDS = "attribute_ids"
ITEM_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson", ".json")


def read_item_records(path: Path, id_column: str) -> Iterator[tuple[int, Record | str]]:
    """Every record with its line; a text in place of a record says why that line is none.

    Args:
        path: the item file.
        id_column: key that a JSON object's own keys are stored under.

    Raises:
        DataError: the file is missing, of no known suffix, or unreadable as a whole.
    """
    if not path.is_file():
        raise DataError(path, "no such file", hint="name the item file as the recipe's folder sees it")
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            yield from _csv_records(path, "\t" if suffix == ".tsv" else ",")
        elif suffix in (".parquet", ".pq"):
            yield from enumerate(pl.read_parquet(path).iter_rows(named=True), start=1)
        elif suffix in (".jsonl", ".ndjson"):
            yield from _jsonl_records(path)
        elif suffix == ".json":
            yield from _json_records(path, id_column)
        else:
            raise DataError(
                path, f"the suffix {suffix!r} is none of {', '.join(ITEM_SUFFIXES)}", hint="convert the file"
            )
    except UnicodeDecodeError as error:
        raise DataError(
            path, f"is not UTF-8 (byte {error.start} of a block)", hint="save it as UTF-8"
        ) from error
    except pl.exceptions.PolarsError as error:
        raise DataError(
            path, f"is not a {suffix[1:]} file, or a damaged one", hint="export it again"
        ) from error
    except (OSError, csv.Error) as error:
        raise DataError(path, f"cannot be read as {suffix[1:]} ({error})", hint="check the file") from error


def _csv_records(path: Path, separator: str) -> Iterator[tuple[int, Record | str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        names = [name.strip() for name in next(reader, [])]
        while True:
            line = reader.line_num + 1  # a quoted description may span lines: name the first
            row = next(reader, None)
            if row is None:
                return
            if not row:
                continue
            if len(row) != len(names):
                yield line, f"the row has {len(row)} fields, the header has {len(names)}"
            else:
                yield line, dict(zip(names, row, strict=True))


def _jsonl_records(path: Path) -> Iterator[tuple[int, Record | str]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except (json.JSONDecodeError, RecursionError) as error:
                yield line, f"is not JSON ({error})"
                continue
            yield line, record if isinstance(record, dict) else f"is {_shown(record)}, not an object"


def _json_records(path: Path, id_column: str) -> Iterator[tuple[int, Record | str]]:
    try:
        whole = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise DataError(
            path, f"is not JSON ({error.msg})", hint="correct the file", line=error.lineno
        ) from error
    if not isinstance(whole, _Pairs):
        raise DataError(path, f"is {_shown(whole)}", hint="write one object from item id to its record")
    for line, (item, value) in enumerate(whole.pairs, start=1):
        if isinstance(value, list):
            yield line, {id_column: item, ATTRIBUTE_IDS: value}
        elif isinstance(value, _Pairs):
            yield line, {**value.plain(), id_column: item}
        else:
            yield line, f"item {item!r} is {_shown(value)}, not a record or a list of attribute ids"


class _Pairs:
    """A JSON object that kept its doubled keys: a ``dict`` would lose the earlier one without a word."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs

    def plain(self) -> Record:
        return {key: value.plain() if isinstance(value, _Pairs) else value for key, value in self.pairs}


def _shown(value: object) -> str:
    text = json.dumps(value, default=lambda _: "...")
    return text if len(text) <= 40 else text[:37] + "..."
