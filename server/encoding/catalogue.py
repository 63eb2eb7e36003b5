"""What the shop sells, as the server needs it: ids, a few columns, and masks over rows for business filters.

A ``Catalogue`` belongs to one published version and never changes; a new version brings a new one. Masks are cached by
the filter that asked for them, because shops filter by a handful of categories again and again.

Suffix: N rows, row 0 (padding) included.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from server.domain import AttributeValue, Filters
from server.encoding.items import ItemIndex

Mask = npt.NDArray[np.bool_]

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
        for name, column in columns.items():
            if len(column) != len(item_ids):
                raise ValueError(f"column {name!r} has {len(column)} values for {len(item_ids)} items")
        self.columns = dict(columns)
        self._codes_N: dict[str, tuple[dict[str, int], npt.NDArray[np.int32]]] = {}
        self._prices_N = self._numbers("price")
        self._in_stock_N = self._flags("in_stock")
        self._listed_N: Mask = np.zeros(self.rows, dtype=np.bool_)
        self._listed_N[1 : len(item_ids) + 1] = True
        self._masks: OrderedDict[Filters, Mask] = OrderedDict()

    def listed(self) -> Mask:
        """Rows that hold an item, ``mask_N``; read only."""
        return self._listed_N

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


def load_catalogue(ids_path: Path, columns_path: Path | None, *, rows: int | None = None) -> Catalogue:
    """Read ``item_ids.json`` and ``item_columns.msgpack`` of a version.

    Raises:
        ValueError: a file does not hold what it should; names the file.
    """
    try:
        item_ids = msgspec.json.decode(ids_path.read_bytes(), type=list[str])
        columns: dict[str, list[Any]] = {}
        if columns_path is not None and columns_path.exists():
            columns = msgspec.msgpack.decode(columns_path.read_bytes(), type=dict[str, list[Any]])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{ids_path.parent}: items cannot be read: {error}") from error
    return Catalogue(item_ids, columns, rows=rows)


def write_catalogue(
    ids_path: Path, columns_path: Path, item_ids: Sequence[str], columns: Mapping[str, Sequence[Any]]
) -> None:
    """Write what ``load_catalogue`` reads; the builder's side of the same two files."""
    ids_path.write_bytes(msgspec.json.encode(list(item_ids)))
    columns_path.write_bytes(msgspec.msgpack.encode({name: list(column) for name, column in columns.items()}))
