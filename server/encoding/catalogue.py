"""What the shop sells, as the server needs it: ids, a few columns, and masks over rows for business filters.

A ``Catalogue`` belongs to one published version and never changes; a new version brings a new one. Masks are cached by
the filter that asked for them, because shops filter by a handful of categories again and again.

Suffix: N rows, row 0 (padding) included.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from server.domain import AttributeValue, Filters
from server.encoding.items import ItemIndex

Mask = npt.NDArray[np.bool_]

ITEM_IDS_FILE = "item_ids.json"
ITEM_COLUMNS_FILE = "item_columns.msgpack"

_CACHED_MASKS = 256


class Catalogue:
    """Items of one version.

    Args:
        item_ids: ids of rows 1, 2, ...
        columns: item data by name, each as long as ``item_ids``; "category", "brand", "price" and "in_stock" can be
            filtered on where they are there.
        rows: N, rows of the engine's tables (``len(item_ids) + 1``, or more where the engine's table is padded).

    Raises:
        ValueError: a column has another length, or ids repeat.
    """

    def __init__(
        self, item_ids: Sequence[str], columns: Mapping[str, Sequence[Any]], *, rows: int | None = None
    ) -> None:
        self.index = ItemIndex(item_ids)
        self.rows = rows if rows is not None else len(item_ids) + 1
        if not isinstance(columns, StoredColumns):  # those check themselves when they are read
            for name, column in columns.items():
                _check_length(name, column, len(item_ids))
        self.columns = columns
        self._codes_N: dict[str, tuple[dict[str, int], npt.NDArray[np.int32]]] = {}
        self._prices_N = self._numbers("price")
        self._in_stock_N = self._flags("in_stock")
        self._listed_N: Mask = np.zeros(self.rows, dtype=np.bool_)
        self._listed_N[1 : len(item_ids) + 1] = True
        self._masks: OrderedDict[Filters, Mask] = OrderedDict()

    def mask(self, filters: Filters | None) -> Mask:
        """Rows that pass ``filters``, as ``mask_N`` (read only; shared between calls).

        Items without a price fail a price bound; items without stock data count as in stock.
        """
        if filters is None or filters.is_empty():
            return self._listed_N
        found = self._masks.get(filters)
        if found is not None:
            self._masks.move_to_end(filters)
            return found
        mask_N = self._listed_N.copy()
        if filters.categories:
            mask_N &= self._any_of("category", filters.categories)
        if filters.brands:
            mask_N &= self._any_of("brand", filters.brands)
        if filters.min_price is not None:
            mask_N &= self._prices_N >= filters.min_price
        if filters.max_price is not None:
            mask_N &= self._prices_N <= filters.max_price
        if filters.in_stock is not None:
            mask_N &= self._in_stock_N == filters.in_stock
        self._masks[filters] = mask_N
        if len(self._masks) > _CACHED_MASKS:
            self._masks.popitem(last=False)
        return mask_N

    def item_fields(self, row: int, names: Sequence[str]) -> dict[str, AttributeValue]:
        """Item data of one row; names that the catalogue has not are left out."""
        return {name: self.columns[name][row - 1] for name in names if name in self.columns}

    def value(self, row: int, name: str) -> Any:
        """One field of one row; None when there is no such column."""
        column = self.columns.get(name)
        return None if column is None else column[row - 1]

    def _any_of(self, name: str, values: Sequence[str]) -> Mask:
        codes, codes_N = self._column_codes(name)
        wanted = [codes[value] for value in values if value in codes]
        return np.isin(codes_N, wanted)

    def _column_codes(self, name: str) -> tuple[dict[str, int], npt.NDArray[np.int32]]:
        found = self._codes_N.get(name)
        if found is None:
            codes: dict[str, int] = {}
            codes_N = np.full(self.rows, -1, dtype=np.int32)
            for row, value in enumerate(self.columns.get(name, ()), start=1):
                if value is not None:
                    codes_N[row] = codes.setdefault(str(value), len(codes))
            found = self._codes_N[name] = (codes, codes_N)
        return found

    def _numbers(self, name: str) -> npt.NDArray[np.float64]:
        values_N = np.full(self.rows, np.nan)
        column = self.columns.get(name)
        if column is not None:
            values_N[1 : len(column) + 1] = [np.nan if value is None else value for value in column]
        return values_N

    def _flags(self, name: str) -> Mask:
        flags_N: Mask = np.ones(self.rows, dtype=np.bool_)
        column = self.columns.get(name)
        if column is not None:
            flags_N[1 : len(column) + 1] = [True if value is None else bool(value) for value in column]
        return flags_N


class StoredColumns(Mapping[str, Sequence[Any]]):
    """Item data in one file, a column read when it is first asked for.

    Descriptions in two languages are most of a catalogue's bytes and are rarely asked for; as Python strings they would
    be most of a server's memory. The file stays open, so that a version can be deleted while it serves. Equal strings of
    a column (brands, categories) are kept once.

    Args:
        path: the file by ``write_catalogue``: length of the header (8 bytes, little endian), the header (msgpack: offset
            and length of each column by name), the columns (msgpack arrays).
        items: values that each column must have.

    Raises:
        ValueError: it is not such a file.
    """

    def __init__(self, path: Path, items: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._path, self._items = path, items
        self._read: dict[str, Sequence[Any]] = {}
        try:
            size = int.from_bytes(self._slice(0, 8), "little")
            places = msgspec.msgpack.decode(self._slice(8, size), type=dict[str, tuple[int, int]])
        except msgspec.MsgspecError as error:
            raise ValueError(f"{path.name}: header cannot be read: {error}") from error
        self._places = {name: (8 + size + offset, length) for name, (offset, length) in places.items()}

    def __getitem__(self, name: str) -> Sequence[Any]:
        found = self._read.get(name)
        if found is None:
            offset, length = self._places[name]
            try:
                column = msgspec.msgpack.decode(self._slice(offset, length), type=list[Any])
            except msgspec.MsgspecError as error:
                raise ValueError(f"{self._path.name}: column {name!r} cannot be read: {error}") from error
            _check_length(name, column, self._items)
            kept: dict[Any, Any] = {}
            found = [kept.setdefault(value, value) if isinstance(value, str) else value for value in column]
            self._read[name] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _slice(self, offset: int, length: int) -> bytes:
        data = os.pread(self._file.fileno(), length, offset)
        if len(data) != length:
            raise ValueError(
                f"{self._path.name}: ends after {offset + len(data)} bytes, {offset + length} are needed"
            )
        return data


def load_catalogue(ids_path: Path, columns_path: Path | None, *, rows: int | None = None) -> Catalogue:
    """Open ``item_ids.json`` and ``item_columns.msgpack`` of a version.

    Raises:
        ValueError: a file does not hold what it should; names the file.
    """
    try:
        item_ids = msgspec.json.decode(ids_path.read_bytes(), type=list[str])
        columns: Mapping[str, Sequence[Any]] = {}
        if columns_path is not None and columns_path.exists():
            columns = StoredColumns(columns_path, len(item_ids))
        return Catalogue(item_ids, columns, rows=rows)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{ids_path.parent}: items cannot be read: {error}") from error


def write_catalogue(
    ids_path: Path, columns_path: Path, item_ids: Sequence[str], columns: Mapping[str, Sequence[Any]]
) -> None:
    """Write what ``load_catalogue`` reads; the builder's side of the same two files."""
    ids_path.write_bytes(msgspec.json.encode(list(item_ids)))
    blobs = {name: msgspec.msgpack.encode(list(column)) for name, column in columns.items()}
    places, offset = {}, 0
    for name, blob in blobs.items():
        places[name] = (offset, len(blob))
        offset += len(blob)
    header = msgspec.msgpack.encode(places)
    columns_path.write_bytes(b"".join((len(header).to_bytes(8, "little"), header, *blobs.values())))


def _check_length(name: str, column: Sequence[Any], items: int) -> None:
    if len(column) != items:
        raise ValueError(f"column {name!r} has {len(column)} values for {items} items")
