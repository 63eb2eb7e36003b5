"""A log and an item file brought into one row space: the items of either.

Rules, each counted: an item in the file without clicks is a catalogue item too (cold); an item in the log without a
record stays as history but is not ``listed``, so that nobody is offered what the shop no longer has.

Units: rows are ``1..N``.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from build_engines.data.errors import DataError
from build_engines.data.interactions import Interactions, ordered_ids
from build_engines.data.items import SCHEMA, TEXT_COLUMNS, Catalogue, OnUnlisted


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueMatch:
    """How a log and an item file fit together.

    Attributes:
        items: of either.
        cold_items: in the file, never clicked.
        unlisted_items: clicked, not in the file.
        unlisted_events: clicks on those.
        events: clicks in all.
    """

    items: int
    cold_items: int
    unlisted_items: int
    unlisted_events: int
    events: int


def match_catalogue(
    interactions: Interactions,
    catalogue: Catalogue,
    *,
    on_unlisted: OnUnlisted = "keep",
    max_unlisted_share: float = 0.5,
) -> tuple[Interactions, Catalogue, CatalogueMatch]:
    """Bring a log and an item file into one row space: the items of either, in id order.

    Args:
        interactions: the log.
        catalogue: the item file.
        on_unlisted: clicked items without a record: ``keep`` them as history (not listed, not in stock), or ``refuse``.
        max_unlisted_share: share of clicks on such items above which the two files cannot belong together (0..1).

    Returns:
        Both over the same rows, and the counts.

    Raises:
        DataError: an unlisted item was refused, or the two files hardly meet.
    """
    items = ordered_ids([*interactions.items, *catalogue.item_ids])
    known = set(catalogue.item_ids)
    counts = interactions.sequences.counts_N1(interactions.num_items)
    unlisted = [row for row, item in enumerate(interactions.items, start=1) if item not in known]
    match = CatalogueMatch(
        items=len(items),
        cold_items=len(items) - interactions.num_items,
        unlisted_items=len(unlisted),
        unlisted_events=int(counts[unlisted].sum()),
        events=interactions.num_events,
    )
    if unlisted and on_unlisted == "refuse":
        first = interactions.items[unlisted[0] - 1]
        what = f"{len(unlisted)} clicked items have no record, such as {first!r}"
        raise DataError(None, what, hint='add their records, or set on_unlisted = "keep"')
    if match.unlisted_events > max_unlisted_share * match.events:
        first, other = interactions.items[unlisted[0] - 1], catalogue.item_ids[0]
        raise DataError(
            None,
            f"{match.unlisted_events} of {match.events} clicks are on items without a record "
            f"(the log says {first!r}, the item file {other!r}), limit is {max_unlisted_share:.0%}",
            hint="check that both files use the same ids, or raise max_unlisted_share",
        )
    return interactions.over_items(items), catalogue.in_order(items), match


def bare_catalogue(interactions: Interactions) -> Catalogue:
    """A catalogue for a log without an item file: ids only, all listed and in stock."""
    plain = {**dict.fromkeys(TEXT_COLUMNS, ""), "price": None, "in_stock": True, "listed": True}
    frame = pl.DataFrame([{"item_id": item, **plain} for item in interactions.items], schema=SCHEMA)
    return Catalogue(frame, tuple({} for _ in interactions.items))
