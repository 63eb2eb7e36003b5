"""The shop's data as the load stage leaves it and later stages read it, in one row space.

Units: ``timestamps_ms``, milliseconds since 1970 UTC.  Rows are ``1..N``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from build_engines.data.interactions import Interactions
from build_engines.data.items import Catalogue
from build_engines.data.sequences import Sequences
from build_engines.data.splits import Split, SplitRule, split_interactions

INTERACTIONS, IDS, ITEMS, ATTRIBUTES = "interactions.npz", "ids.json", "items.parquet", "attributes.msgpack"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Shop:
    """What a shop knows: who clicked what, and what there is."""

    interactions: Interactions
    catalogue: Catalogue

    def split(self, rule: SplitRule) -> Split:
        """Who trains, chooses, judges and calibrates."""
        return split_interactions(self.interactions, rule)


def save_shop(folder: Path, shop: Shop) -> None:
    """Write a shop into ``folder``."""
    log = shop.interactions
    arrays = {"offsets_U1": log.sequences.offsets_U1, "item_rows_E": log.sequences.item_rows_E}
    if log.timestamps_ms_E is not None:
        arrays["timestamps_ms_E"] = log.timestamps_ms_E
    np.savez(folder / INTERACTIONS, **arrays)  # type: ignore[arg-type]  # numpy's stub takes **kwds for allow_pickle
    (folder / IDS).write_bytes(msgspec.json.encode({"users": log.users, "items": log.items}))
    shop.catalogue.frame.write_parquet(folder / ITEMS)
    (folder / ATTRIBUTES).write_bytes(
        msgspec.msgpack.encode([dict(item) for item in shop.catalogue.attributes])
    )


def read_shop(folder: Path) -> Shop:
    """Read what ``save_shop`` wrote."""
    ids = msgspec.json.decode((folder / IDS).read_bytes(), type=dict[str, tuple[str, ...]])
    with np.load(folder / INTERACTIONS) as arrays:
        interactions = Interactions(
            users=ids["users"],
            items=ids["items"],
            sequences=Sequences(arrays["offsets_U1"], arrays["item_rows_E"]),
            timestamps_ms_E=arrays.get("timestamps_ms_E"),
        )
    attributes = msgspec.msgpack.decode((folder / ATTRIBUTES).read_bytes())
    return Shop(
        interactions=interactions,
        catalogue=Catalogue(pl.read_parquet(folder / ITEMS), tuple(attributes)),
    )
