"""The catalogue's attributes as small integers: what a model can learn about an item that nobody clicked yet.

A feature is ``name=value``.  Values that occur once say nothing about any other item and
are left out; prices become tenths of the catalogue, because "12.99" is a feature of one item and "cheap" of many.

Shapes: N items, F features.  Feature rows are ``1..F``; 0 is padding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from build_engines.data.items import Catalogue
from build_engines.data.sequences import Sequences

PRICE_BANDS = 10


@dataclass(frozen=True, slots=True, eq=False)
class ItemFeatures:
    """Features per item.

    Attributes:
        names: [F], ``names[f - 1]`` such as ``brand=Alder`` or ``price=band 3``.
        of_items: N sets of feature rows in ascending order; item row ``r`` at index ``r - 1``.
    """

    names: tuple[str, ...]
    of_items: Sequences


def item_features(catalogue: Catalogue, *, min_items: int = 2, max_share: float = 0.5) -> ItemFeatures:
    """Features of every item: brand, category, price band and each short attribute value.

    Args:
        catalogue: the items.
        min_items: a feature of fewer items is left out (>= 1).
        max_share: a feature of a larger share of the items is left out (0..1].
    """
    per_item = [sorted(set(found)) for found in _values(catalogue)]
    counts = Counter(name for found in per_item for name in found)
    ceiling = max(max_share * len(catalogue), min_items)
    names = tuple(sorted(name for name, count in counts.items() if min_items <= count <= ceiling))
    row_of = {name: row for row, name in enumerate(names, start=1)}
    return ItemFeatures(
        names, Sequences.of([[row_of[name] for name in found if name in row_of] for found in per_item])
    )


def _values(catalogue: Catalogue) -> Iterator[list[str]]:
    frame = catalogue.frame
    prices = frame["price"].to_numpy().astype(np.float64)
    known = prices[np.isfinite(prices)]
    edges = np.quantile(known, np.linspace(0, 1, PRICE_BANDS + 1)[1:-1]) if known.size else np.zeros(0)
    bands = np.searchsorted(edges, prices, side="right")
    columns = zip(frame["brand"], frame["category"], prices, bands, catalogue.attributes, strict=True)
    for brand, category, price, band, attributes in columns:
        found = [f"brand={brand}"] if brand else []
        found += [f"category={category}"] if category else []
        found += [f"price=band {band + 1}"] if np.isfinite(price) else []
        for name, value in attributes.items():
            for one in value if isinstance(value, list | tuple) else [value]:
                if isinstance(one, str | int | float) and len(str(one)) <= 64:
                    found.append(f"{name}={one}")
        yield found
