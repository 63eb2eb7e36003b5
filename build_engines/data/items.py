"""The catalogue: what can be recommended, in the row order that everything else uses.

Rules: a missing price is no price; a missing ``in_stock`` is in stock; anything that we do not know is kept as an
attribute.  An id that appears twice is always refused: which of two prices holds is the shop's to say.

Units: prices are in the shop's currency; they are finite and never negative.  Rows are ``1..N``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from build_engines.data.bad_rows import EXAMPLES, BadRow, BadRowPolicy
from build_engines.data.errors import DataError
from build_engines.data.interactions import ordered_ids
from build_engines.data.item_records import Record, read_item_records
from build_engines.data.log_rows import MAX_ID_CHARS

SCHEMA = pl.Schema(
    {
        "item_id": pl.String,
        "title": pl.String,
        "brand": pl.String,
        "category": pl.String,
        "price": pl.Float64,
        "in_stock": pl.Boolean,
        "description": pl.String,
        "listed": pl.Boolean,
    }
)
TEXT_COLUMNS = ("title", "brand", "category", "description")
TRUE_WORDS = frozenset({"true", "1", "yes", "y", "t"})
FALSE_WORDS = frozenset({"false", "0", "no", "n", "f"})
OnUnlisted = Literal["keep", "refuse"]  # what becomes of clicked items without a record


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsReport:
    """What an item file held, and what was done about it.

    Attributes:
        path: the file.
        rows: records read.
        rows_bad: records left out because they cannot be used.
        examples: the first of them.
        items: what is left.
        without_price: items without a price.
        out_of_stock: items not in stock.
    """

    path: str
    rows: int
    rows_bad: int
    examples: tuple[BadRow, ...]
    items: int
    without_price: int
    out_of_stock: int


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """N products, row ``r`` at index ``r - 1``.

    Attributes:
        frame: columns as in ``SCHEMA``; texts are empty, never null; ``price`` is null where unknown.
        attributes: everything else the shop wrote about each item, by name.

    Raises:
        ValueError: a column is missing or of another type, an id appears twice, or the lengths differ.
    """

    frame: pl.DataFrame
    attributes: tuple[Mapping[str, Any], ...] = field(repr=False)

    def __post_init__(self) -> None:
        if self.frame.schema != SCHEMA:
            raise ValueError(f"columns are {self.frame.schema}, must be {SCHEMA}")
        if len(self.attributes) != len(self.frame):
            raise ValueError(f"{len(self.attributes)} attribute records for {len(self.frame)} items")
        if self.frame["item_id"].n_unique() != len(self.frame):
            raise ValueError("an item id appears twice")

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids in row order, [N]."""
        return tuple(self.frame["item_id"])

    def in_order(self, item_ids: tuple[str, ...]) -> Catalogue:
        """The items of ``item_ids`` in that order; one without a record becomes a bare, unlisted, unavailable item."""
        at = {item: index for index, item in enumerate(self.frame["item_id"])}
        wanted = pl.DataFrame({"item_id": item_ids}, schema={"item_id": pl.String})
        frame = wanted.join(self.frame, on="item_id", how="left", maintain_order="left").with_columns(
            *[pl.col(name).fill_null("") for name in TEXT_COLUMNS],
            *[pl.col(name).fill_null(False) for name in ("in_stock", "listed")],
        )
        attributes = tuple(self.attributes[at[item]] if item in at else {} for item in item_ids)
        return Catalogue(frame.select(SCHEMA.names()), attributes)


def load_catalogue(
    path: Path, *, columns: Mapping[str, str] | None = None, policy: BadRowPolicy | None = None
) -> tuple[Catalogue, ItemsReport]:
    """Read an item file by the rules at the top of this module.

    Args:
        path: the item file (CSV, Parquet, JSONL, or one JSON object by item id).
        columns: the shop's name for any of ours, such as ``{"item_id": "sku"}``.
        policy: what happens to records that cannot be used.

    Returns:
        The catalogue in id order, and the report.

    Raises:
        DataError: the file cannot be read, a record was refused, or an id appears twice.
        ValueError: ``columns`` renames a column that we do not know.
    """
    path, policy, named = Path(path), policy or BadRowPolicy(), dict(columns or {})
    if unknown := sorted(set(named) - set(SCHEMA.names())):
        raise ValueError(f"columns names {unknown[0]!r}; known are {', '.join(SCHEMA.names())}")
    ours = {theirs: name for name, theirs in named.items()}
    line_of: dict[str, int] = {}
    rows: dict[str, tuple[Record, Record]] = {}
    bad: list[BadRow] = []
    read = 0
    for line, record in read_item_records(path, named.get("item_id", "item_id")):
        read += 1
        try:
            if isinstance(record, str):
                raise ValueError(record)
            row, attributes = _parsed({ours.get(name, name): value for name, value in record.items()})
        except ValueError as error:
            bad.append(BadRow(line, str(error)))
            continue
        item = row["item_id"]
        if item in line_of:
            raise DataError(
                path,
                f"item {item!r} is already on line {line_of[item]}",
                hint="keep one record per item",
                line=line,
            )
        line_of[item], rows[item] = line, (row, attributes)
    policy.apply(path, bad[:EXAMPLES], bad=len(bad), rows=read, reasons={"unusable record": len(bad)})
    if not rows:
        raise DataError(
            path, "the item file is empty", hint="write a record per item, with at least an item_id"
        )
    item_ids = ordered_ids(rows)
    frame = pl.DataFrame([rows[item][0] for item in item_ids], schema=SCHEMA)
    catalogue = Catalogue(frame, tuple(rows[item][1] for item in item_ids))
    return catalogue, ItemsReport(
        path=str(path),
        rows=read,
        rows_bad=len(bad),
        examples=tuple(bad[:EXAMPLES]),
        items=len(catalogue),
        without_price=frame["price"].null_count(),
        out_of_stock=int((~frame["in_stock"]).sum()),
    )


def _parsed(record: Record) -> tuple[Record, Record]:
    item = record.pop("item_id", None)
    if isinstance(item, bool) or not isinstance(item, str | int) or not str(item).strip():
        raise ValueError(f"item_id is {item!r}, not a text or an integer" if item else "item_id is empty")
    item_id = str(item).strip()
    if len(item_id) > MAX_ID_CHARS or not item_id.isprintable() or "\ufffd" in item_id:
        raise ValueError(
            f"item_id {item_id[:40]!r} is longer than {MAX_ID_CHARS} characters or has control characters"
        )
    row: Record = {"item_id": item_id, "listed": True}
    for name in TEXT_COLUMNS:
        value = record.pop(name, None)
        if value is not None and not isinstance(value, str | int | float):
            raise ValueError(f"item {item_id!r}: {name} is {str(value)[:40]!r}, not a text")
        row[name] = "" if value is None else str(value).strip()
    row["price"] = _price(item_id, record.pop("price", None))
    row["in_stock"] = _in_stock(item_id, record.pop("in_stock", None))
    record.pop("listed", None)
    nested = record.pop("attributes", None)
    if nested is not None and not isinstance(nested, dict):
        raise ValueError(f"item {item_id!r}: attributes is {str(nested)[:40]!r}, not an object")
    merged = {**record, **(nested or {})}
    return row, {name: value for name, value in merged.items() if value is not None and value != ""}


def _price(item_id: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        price = (
            float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
        )
    except (ValueError, OverflowError):
        price = math.nan
    if not math.isfinite(price) or price < 0:
        raise ValueError(f"item {item_id!r}: price is {value!r}, not a number of 0 or more")
    return price


def _in_stock(item_id: str, value: object) -> bool:
    if value is None or value == "":
        return True
    word = str(value).strip().lower()
    if word not in TRUE_WORDS | FALSE_WORDS:
        raise ValueError(f"item {item_id!r}: in_stock is {value!r}, not true or false")
    return word in TRUE_WORDS
