"""The sample shop's products, in English and Chinese, from a seed.

What a shopper's taste acts on (a brand's style and tier, a product's fame and the day it
appears) is drawn here and handed to ``sample_clicks.py``; it is never written to the item file: a model has to find it in the clicks.

Units: prices in the shop's currency; launches as a share of the log's time, 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from build_engines.data import sample_text_en as en
from build_engines.data import sample_text_zh as zh
from build_engines.data.sample_taxonomy import (
    BRANDS,
    CATEGORIES,
    COLOURS,
    FEATURES_PER_CATEGORY,
    KINDS,
    LINES,
    STYLES,
    TIER_PRICE,
    TIERS,
)

BRANDS_PER_CATEGORY = 12
FAME_FALLOFF = 0.8  # of the k-th best known product of a kind: k ** -0.8
LATE_SHARE = 0.25  # products that appear while the log runs
NEW_SHARE = 0.03  # products that appear after it: nobody has clicked them


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SampleProducts:
    """N products and what shoppers respond to.

    Attributes:
        records: what the item file holds, one per product.
        kind_N: int64 [N], index into ``KINDS``.
        style_N: int64 [N], style of the brand.
        tier_N: int64 [N], price tier of the brand.
        colour_N: int64 [N], index into ``COLOURS``.
        fame_N: float64 [N], relative popularity within the kind (> 0).
        launch_N: float64 [N], when it appears, as a share of the log's time.
    """

    records: list[dict[str, Any]]
    kind_N: npt.NDArray[np.int64]
    style_N: npt.NDArray[np.int64]
    tier_N: npt.NDArray[np.int64]
    colour_N: npt.NDArray[np.int64]
    fame_N: npt.NDArray[np.float64]
    launch_N: npt.NDArray[np.float64]


def make_products(generator: np.random.Generator, count: int) -> SampleProducts:
    """Draw ``count`` products, spread evenly over the kinds.

    Args:
        generator: the only source of chance.
        count: products (> 0).
    """
    kinds = list(KINDS)
    brands_of = {one: generator.permutation(len(BRANDS))[:BRANDS_PER_CATEGORY] for one in CATEGORIES}
    kind_N = np.sort(np.arange(count) % len(kinds))
    brand_N = np.array(
        [brands_of[KINDS[kinds[kind]].category][generator.integers(BRANDS_PER_CATEGORY)] for kind in kind_N]
    )
    tier_N = brand_N // STYLES % TIERS
    colour_N = generator.integers(len(COLOURS), size=count)
    launch_N = np.where(generator.random(count) < LATE_SHARE, generator.random(count) * 0.9, 0.0)
    launch_N[generator.random(count) < NEW_SHARE] = 1.0
    fame_N = np.empty(count)
    for kind in range(len(kinds)):
        members = np.flatnonzero(kind_N == kind)
        fame_N[members] = (1.0 + generator.permutation(members.size)) ** -FAME_FALLOFF
    taken: set[str] = set()
    records = [
        _record(generator, number, kinds[kind], BRANDS[brand], tier, COLOURS[colour], taken)
        for number, (kind, brand, tier, colour) in enumerate(
            zip(kind_N, brand_N, tier_N, colour_N, strict=True), start=1
        )
    ]
    return SampleProducts(
        records=records,
        kind_N=kind_N,
        style_N=brand_N % STYLES,
        tier_N=tier_N,
        colour_N=colour_N,
        fame_N=fame_N,
        launch_N=launch_N,
    )


def _record(
    generator: np.random.Generator,
    number: int,
    kind: str,
    brand: str,
    tier: int,
    colour: str,
    taken: set[str],
) -> dict[str, Any]:
    facts = KINDS[kind]
    size = facts.sizes[generator.integers(len(facts.sizes))]
    material = facts.materials[generator.integers(len(facts.materials))]
    line = _unused_line(generator, brand, kind, taken)
    picked = [int(one) for one in generator.permutation(FEATURES_PER_CATEGORY)[:2]]
    warranty_months, variant = int(generator.choice([6, 12, 24, 36])), int(generator.integers(3))
    words = {"brand": brand, "line": line, "kind": kind, "material": material, "colour": colour}
    words |= {"measure": facts.measure, "size": size}
    features_en = tuple(en.FEATURES[facts.category][one] for one in picked)
    features_zh = tuple(zh.FEATURES[facts.category][one] for one in picked)
    price = facts.price * TIER_PRICE[tier] * float(np.exp(generator.normal(0.0, 0.15)))
    return {
        "item_id": f"sku-{number:06d}",
        "title": en.title(brand, line, kind, colour, size),
        "brand": brand,
        "category": en.CATEGORY[facts.category],
        "price": max(round(price) - 0.01, 0.99) if price < 100 else float(round(price / 5) * 5 - 1),
        "in_stock": bool(generator.random() < 0.94),
        "description": en.description(words, features_en, warranty_months, variant),
        "title_zh": zh.title(brand, line, kind, colour, size),
        "category_zh": zh.CATEGORY[facts.category],
        "description_zh": zh.description(words, features_zh, warranty_months, variant),
        "attributes": {
            "subcategory": en.KIND[kind],
            "material": en.MATERIAL[material],
            "colour": en.COLOUR[colour],
            en.MEASURE[facts.measure].lower().replace(" ", "_"): size,
            "features": list(features_en),
            "warranty_months": warranty_months,
        },
        "attributes_zh": {
            "品类": zh.KIND[kind],
            "材质": zh.MATERIAL[material],
            "颜色": zh.COLOUR[colour],
            zh.MEASURE[facts.measure]: size,
            "特点": list(features_zh),
            "质保月数": warranty_months,
        },
    }


def _unused_line(generator: np.random.Generator, brand: str, kind: str, taken: set[str]) -> str:
    line = LINES[generator.integers(len(LINES))]
    mark = 1
    while f"{brand} {line} {mark} {kind}" in taken:
        mark += 1
    taken.add(f"{brand} {line} {mark} {kind}")
    return line if mark == 1 else f"{line} {mark}"
