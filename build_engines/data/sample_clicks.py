"""The sample shop's clicks: shoppers with tastes, on missions, in sessions, while fashions change.

A mission is a chain of kinds (camera, lens, memory card, tripod, bag); a shopper looks at substitutes, goes
on to the next kind, and comes back days later where they left off.  *Which* product of a kind it is depends on their taste (a
brand's style, a price tier) far more than on the last click: so counting transitions finds the chains, and only
a model of the whole history finds the shopper.

Units: times are seconds since 1970 UTC; ``moment`` is a share of the log's time, 0..1.
"""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import numpy as np

from build_engines.data.sample_catalogue import SampleProducts
from build_engines.data.sample_taxonomy import COLOURS, KINDS, MISSIONS, STYLES, TIERS

START_S = 1_704_067_200  # 2024-01-01
SPAN_S = 180 * 86_400
PERIODS = 4  # fashions change this many times less one
OWN_STYLE, OTHER_STYLE = 12.0, 1.0
TIER_FALLOFF = (1.0, 0.3, 0.06)  # by distance in tiers
OTHER_COLOUR = 0.2  # how often a product not in one of the shopper's two colours is looked at all the same
LINKED = 3  # products of the next kind that are often bought with one
Click = tuple[str, int, int]  # user id, product index, seconds


def make_clicks(seed: int, products: SampleProducts, num_users: int) -> list[Click]:
    """Every click of ``num_users`` shoppers, in order of time.

    Args:
        seed: the only source of chance.
        products: the catalogue.
        num_users: shoppers (> 0).
    """
    shop = _Shop(np.random.default_rng([seed, 2]), products)
    chance = random.Random(seed)
    clicks: list[Click] = []
    for number in range(1, num_users + 1):
        clicks += _shopper(f"u{number:05d}", shop, chance.random)
    clicks.sort(key=lambda click: (click[2], click[0]))
    return clicks


class _Shop:
    """Tables to draw from, made once: by kind, style, tier and period."""

    def __init__(self, generator: np.random.Generator, products: SampleProducts) -> None:
        self.launch: list[float] = products.launch_N.tolist()
        self.colour: list[int] = products.colour_N.tolist()
        kind_index = {kind: index for index, kind in enumerate(KINDS)}
        self.missions = [[kind_index[kind] for kind in mission] for mission in MISSIONS]
        self.season_phase = generator.random(len(MISSIONS)).tolist()
        self.mission_fame = (1.0 / (1.0 + generator.permutation(len(MISSIONS))) ** 0.5).tolist()
        fashion = np.exp(generator.normal(0.0, 0.5, (PERIODS, products.fame_N.size)))
        fame = products.fame_N * fashion
        self.members = [np.flatnonzero(products.kind_N == kind) for kind in range(len(KINDS))]
        self.tables: dict[tuple[int, int, int, int], list[float]] = {}
        style_fit = np.where(np.arange(STYLES)[:, None] == products.style_N, OWN_STYLE, OTHER_STYLE)
        tier_fit = np.array(TIER_FALLOFF)[np.abs(np.arange(TIERS)[:, None] - products.tier_N)]
        for kind, members in enumerate(self.members):
            weights = (
                fame[:, None, None, members] * (style_fit[:, None] * tier_fit[None])[None, :, :, members]
            )
            cumulative = np.cumsum(weights, axis=-1)
            for at in np.ndindex(PERIODS, STYLES, TIERS):
                self.tables[(kind, *at)] = cumulative[at].tolist()
        self.everything = np.cumsum(fame, axis=1).tolist()
        self.links = self._links(generator, products)

    def _links(
        self, generator: np.random.Generator, products: SampleProducts
    ) -> dict[tuple[int, int], list[int]]:
        links = {}
        for before, after in sorted({pair for mission in self.missions for pair in pairwise(mission)}):
            members = self.members[after]
            if not members.size:
                continue
            for product in self.members[before]:
                weights = products.fame_N[members] * np.where(
                    products.style_N[members] == products.style_N[product], OWN_STYLE, OTHER_STYLE
                )
                noisy = np.log(weights) + generator.gumbel(size=members.size)
                links[int(product), after] = members[np.argsort(-noisy)[:LINKED]].tolist()
        return links

    def pick(self, draw: Callable[[], float], kind: int, style: int, tier: int, moment: float) -> int | None:
        """A product of a kind by taste; None where the one drawn is not on sale yet."""
        table = self.tables[kind, min(int(moment * PERIODS), PERIODS - 1), style, tier]
        if not table:
            return None
        product = int(self.members[kind][bisect(table, draw() * table[-1], 0, len(table) - 1)])
        return product if self.launch[product] <= moment else None

    def season(self, mission: int, moment: float) -> float:
        """How much a mission is in season (0.2 to 1.8)."""
        return 1.0 + 0.8 * math.cos(2.0 * math.pi * (moment - self.season_phase[mission]))


def _shopper(user: str, shop: _Shop, draw: Callable[[], float]) -> list[Click]:
    style, second_style, tier = int(draw() * STYLES), int(draw() * STYLES), int(draw() ** 1.3 * TIERS)
    colours = (int(draw() * len(COLOURS)), int(draw() * len(COLOURS)))
    tastes = [fame * math.exp(1.6 * _normal(draw)) for fame in shop.mission_fame]
    wanted = (
        1 + int(-1.0 * math.log(1.0 - draw())) if draw() < 0.03 else 4 + int(-6.8 * math.log(1.0 - draw()))
    )
    begin = draw() * 0.8
    moment = begin
    progress: dict[int, int] = {}
    seen: dict[int, None] = {}
    clicks: list[Click] = []
    while len(clicks) < wanted and moment < 1.0:
        mission = _weighted(draw, [taste * shop.season(at, moment) for at, taste in enumerate(tastes)])
        chain = shop.missions[mission]
        time_s = START_S + int(moment * SPAN_S)
        last: int | None = None
        for _ in range(2 + int(-8.0 * math.log(1.0 - draw()))):
            place = progress.get(mission, 0)
            own_style = style if draw() < 0.85 else second_style
            product = _next_product(shop, draw, chain[place % len(chain)], last, own_style, tier, moment)
            if product is not None and shop.colour[product] not in colours and draw() > OTHER_COLOUR:
                product = None
            if product is not None and product not in seen:
                seen[product] = None
                clicks.append((user, product, time_s))
                time_s += 15 + int(draw() * 240)
                last = product
            if len(clicks) >= wanted:
                break
            if product is not None and draw() < 0.6:
                progress[mission] = place + 1
        moment += -0.12 * (1.0 - begin) * math.log(1.0 - draw())
    return clicks


def _next_product(
    shop: _Shop, draw: Callable[[], float], kind: int, last: int | None, style: int, tier: int, moment: float
) -> int | None:
    chance = draw()
    if chance < 0.06:  # whatever is on the front page
        table = shop.everything[min(int(moment * PERIODS), PERIODS - 1)]
        product = bisect(table, draw() * table[-1], 0, len(table) - 1)
        return product if shop.launch[product] <= moment else None
    if last is not None and chance < 0.24 and (last, kind) in shop.links:
        linked = shop.links[last, kind]
        product = linked[int(draw() * draw() * len(linked))]
        return product if shop.launch[product] <= moment else None
    return shop.pick(draw, kind, style, tier, moment)


def _weighted(draw: Callable[[], float], weights: Sequence[float]) -> int:
    cumulative = list(accumulate(weights))
    return bisect(cumulative, draw() * cumulative[-1], 0, len(cumulative) - 1)


def _normal(draw: Callable[[], float]) -> float:
    return math.sqrt(-2.0 * math.log(1.0 - draw())) * math.cos(2.0 * math.pi * draw())
