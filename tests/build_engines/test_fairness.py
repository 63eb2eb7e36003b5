"""Groups of items and of shoppers: what is taken from one of them is found, and a fair model is not refused by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from build_engines.proof.fairness import (
    Groups,
    Shown,
    activity_groups,
    fairness_evidence,
    group_rows,
    named_groups,
    popularity_groups,
)
from build_engines.proof.fairness_part import FairnessPart

ITEMS, USERS = 100, 600
PART = FairnessPart(
    item_groups=("category",),
    max_exposure_loss=0.1,
    min_representation=0.5,
    max_group_loss=0.1,
    min_group_quality=0.5,
)


def tops(generator: np.random.Generator, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Ten different items a shopper, by their weights."""
    keys = generator.random((USERS, ITEMS)) ** (1 / weights)
    return np.argsort(-keys, axis=1)[:, :10] + 1


def groups(targets: npt.NDArray[np.int64]) -> Groups:
    """Two categories of 50 items; half of the shoppers have short histories."""
    category, names = named_groups(["shoes"] * 50 + ["bags"] * 50, least=30)
    activity, told = activity_groups(np.where(np.arange(USERS) % 2, 3, 30))
    return Groups(
        items_N1={"category": category},
        users_C={"activity": activity},
        names={"category": names, "activity": told},
        targets_C=targets,
    )


def test_equal_models_are_fair() -> None:
    """The same answers: nothing changes, nothing is refused."""
    generator = np.random.default_rng(0)
    shown = Shown(top_rows_CK=tops(generator, np.ones(ITEMS)), quality_C=generator.random(USERS))

    rows = group_rows(shown, shown, groups(generator.integers(1, ITEMS + 1, USERS)), PART)

    assert {one.kind for one in rows} == {"exposure", "representation", "quality", "gap"}
    assert all(one.change == pytest.approx(0) for one in rows if one.kind in ("exposure", "quality"))
    assert all(one.passed for one in fairness_evidence(rows, PART))


def test_a_category_that_loses_its_places_is_named() -> None:
    """Bags are shown half as often as before compression: refused, with the group and the figures."""
    generator = np.random.default_rng(1)
    before = Shown(top_rows_CK=tops(generator, np.ones(ITEMS)), quality_C=np.full(USERS, 0.5))
    fewer = np.where(np.arange(ITEMS) < 50, 1.0, 0.4)
    after = Shown(top_rows_CK=tops(generator, fewer), quality_C=np.full(USERS, 0.5))

    evidence = fairness_evidence(
        group_rows(after, before, groups(generator.integers(1, ITEMS + 1, USERS)), PART), PART
    )

    failed = [one for one in evidence if not one.passed]
    assert len(failed) == 1 or {"exposure"} <= {one.name.split(", ")[1].split(" of ")[0] for one in failed}
    assert any("category bags" in one.name and one.verdict == "fail" for one in failed)


def test_shoppers_who_lose_quality_are_named() -> None:
    """Whoever has a short history gets half of what they got: the mean hides it, the group does not."""
    generator = np.random.default_rng(2)
    top = tops(generator, np.ones(ITEMS))
    quality = generator.random(USERS)
    short = np.arange(USERS) % 2 == 1
    before = Shown(top_rows_CK=top, quality_C=quality)
    after = Shown(top_rows_CK=top, quality_C=np.where(short, quality * 0.3, quality * 1.7))

    rows = group_rows(after, before, groups(generator.integers(1, ITEMS + 1, USERS)), PART)

    assert {one.group for one in rows if one.verdict == "fail"} == {"short (to 5)"}
    kinds = {one.kind for one in rows if one.verdict == "fail"}
    assert kinds == {"quality", "gap"}


def test_a_limit_that_is_left_out_is_reported_and_not_judged() -> None:
    """Figures for everybody, evidence for nobody."""
    generator = np.random.default_rng(3)
    shown = Shown(top_rows_CK=tops(generator, np.ones(ITEMS)), quality_C=generator.random(USERS))
    part = FairnessPart(item_groups=("category",))

    rows = group_rows(shown, None, groups(generator.integers(1, ITEMS + 1, USERS)), part)

    assert {one.kind for one in rows} == {"representation", "gap"}
    assert fairness_evidence(rows, part) == []


def test_models_at_the_limit_are_refused_no_oftener_than_said() -> None:
    """Two draws of the same model, a limit of no loss at all: refused in at most a few of a hundred runs."""
    refused = 0
    for seed in range(60):
        generator = np.random.default_rng(100 + seed)
        sides = [
            Shown(top_rows_CK=tops(generator, np.ones(ITEMS)), quality_C=generator.random(USERS))
            for _ in range(2)
        ]
        part = replace(
            PART, max_exposure_loss=0.0, max_group_loss=0.0, min_representation=None, min_group_quality=None
        )
        rows = group_rows(*sides, groups(generator.integers(1, ITEMS + 1, USERS)), part, seed=seed)
        refused += any(one.verdict == "fail" for one in rows)
    assert refused / 60 <= 0.05 + 0.065  # 2.5 % for each of two kinds, and two standard errors


def test_groups_are_what_they_say() -> None:
    """A fifth of the items is head; rare values and none are in no group."""
    counts = np.array([0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 0])
    group, names = popularity_groups(counts)

    assert names == ("head", "middle", "tail")
    assert group[0] == -1
    assert sorted(np.flatnonzero(group == 0).tolist()) == [1, 3]
    assert np.count_nonzero(group == 1) == 4
    named, labels = named_groups(["a", "a", "b", "", "a"], least=2)
    assert (labels, named.tolist()) == (("a",), [-1, 0, 0, -1, -1, 0])
