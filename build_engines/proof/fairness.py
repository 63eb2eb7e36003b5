"""Who is shown and who is served well: exposure of groups of items, quality for groups of users, with limits that refuse.

- exposure: what share of all attention a group of items gets, attention falling with the rank as in DCG. Against the parent:
  compression must not take a brand's or the tail's places. Against what people chose (``representation``): a group must not
  be shown less than its share of what shoppers really took.
- quality: a group of users must not lose more than the limit against the parent.
- gap: the worst-served group's quality over everybody's, a limit on the candidate alone.

Every figure has an interval over users (bootstrap); a group is refused where its whole interval lies below the limit at a
level that is divided by the number of groups (Bonferroni), so that many groups do not refuse a fair model by chance.

Shapes: C cases (users), K ranks, G groups.

Source:
    Singh and Joachims, "Fairness of Exposure in Rankings", 2018 (exposure by rank, and in proportion to relevance).
    Ekstrand et al., "All The Cool Kids, How Do They Fit In?", 2018 (quality by user group).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from build_engines.proof.fairness_part import FairnessPart
from build_engines.proof.records import GroupRow, Outcome
from server.artifacts.manifest import Measurement

RESAMPLES = 2000
MOST_GROUPS = 12


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Shown:
    """What one model did for every user.

    Attributes:
        top_rows_CK: item rows, best first; 0: no answer.
        quality_C: the gate's metric.
    """

    top_rows_CK: npt.NDArray[np.integer]
    quality_C: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Groups:
    """Who belongs where.

    Attributes:
        items_N1: by kind, the group of each item row (index 0: padding), an index of its names; -1: none.
        users_C: by kind, the group of each case.
        names: by kind, the groups' names.
        targets_C: the rows that users chose.
    """

    items_N1: Mapping[str, npt.NDArray[np.int64]]
    users_C: Mapping[str, npt.NDArray[np.int64]]
    names: Mapping[str, Sequence[str]]
    targets_C: npt.NDArray[np.integer]


def group_rows(
    candidate: Shown, parent: Shown | None, groups: Groups, part: FairnessPart, *, seed: int = 0
) -> tuple[GroupRow, ...]:
    """Every figure for every group that is large enough.

    Args:
        candidate: what is judged.
        parent: the model before compression, on the same users; None: there is none.
        groups: who belongs where.
        part: the limits.
        seed: of the resampling.
    """
    weights_RC = _resampled(len(candidate.quality_C), seed)
    rows: list[GroupRow] = []
    for by, group_N1 in groups.items_N1.items():
        if not groups.names[by]:
            continue  # no group is large enough
        rows += _exposure(by, group_N1, candidate, parent, groups, part, weights_RC)
    for by, group_C in groups.users_C.items():
        rows += _quality(by, group_C, candidate, parent, groups.names[by], part, weights_RC)
    return tuple(rows)


def fairness_evidence(rows: Sequence[GroupRow], part: FairnessPart) -> list[Measurement]:
    """For the gate: one measurement a figure that has a limit, of the group that is worst off."""
    limits = {
        "exposure": part.max_exposure_loss, "representation": part.min_representation,
        "quality": part.max_group_loss, "gap": part.min_group_quality,
    }  # fmt: skip
    evidence = []
    for kind, limit in limits.items():
        asked = [one for one in rows if one.kind == kind]
        if limit is None or not asked:
            continue
        failed = [one for one in asked if one.verdict == "fail"]
        worst = min(failed or asked, key=lambda one: one.high_of_all - one.limit)
        evidence.append(
            Measurement(
                kind="quality",
                name=f"fairness, {_NAMES[kind]} of {worst.by} {worst.group}, upper end of its interval among all groups",
                value=worst.high_of_all,
                unit="ratio",
                limit=worst.limit,
                sense="at_least",
                verdict="fail" if failed else "pass",
                sample_size=worst.n,
                interval=(worst.interval[0], worst.high_of_all),
                note=f"{worst.before:.4f} -> {worst.after:.4f}; the worst of {len(asked)} groups"
                + (f", {len(failed)} of them below the limit" if failed else ""),
            )
        )
    return evidence


_NAMES = {
    "exposure": "change of exposure",
    "representation": "exposure against what people chose",
    "quality": "change of quality",
    "gap": "quality against everybody's",
}


def popularity_groups(counts_N1: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Head (the most popular fifth of the items), middle (the next two fifths) and tail."""
    items = counts_N1.size - 1
    group_N1 = np.full(counts_N1.size, -1, np.int64)
    order = np.argsort(-counts_N1[1:], kind="stable") + 1
    bounds = (int(np.ceil(0.2 * items)), int(np.ceil(0.6 * items)))
    group_N1[order[: bounds[0]]] = 0
    group_N1[order[bounds[0] : bounds[1]]] = 1
    group_N1[order[bounds[1] :]] = 2
    return group_N1, ("head", "middle", "tail")


def named_groups(values: Sequence[str], *, least: int) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """A group for each of the most frequent values; "" and rare values are in none.

    Args:
        values: of each item, row 1 first.
        least: items that a group needs.
    """
    counts: dict[str, int] = {}
    for value in values:
        if value:
            counts[value] = counts.get(value, 0) + 1
    names = sorted((one for one in counts if counts[one] >= least), key=lambda one: (-counts[one], one))[
        :MOST_GROUPS
    ]
    places = {name: place for place, name in enumerate(names)}
    return np.array([-1, *(places.get(value, -1) for value in values)], np.int64), tuple(names)


def activity_groups(lengths_C: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Short, middle and long histories: the same limits for every shop, so that reports can be compared."""
    return np.digitize(lengths_C, [6, 21]).astype(np.int64), (
        "short (to 5)",
        "middle (6 to 20)",
        "long (21 or more)",
    )


def _resampled(cases: int, seed: int) -> npt.NDArray[np.float32]:
    # Each user's weight in each resample: drawn with replacement, as counts. In float32, a matrix of 2000 x C.
    generator = np.random.default_rng(seed)
    resamples = max(200, min(RESAMPLES, 40_000_000 // max(cases, 1)))
    return generator.poisson(1.0, (resamples, cases)).astype(np.float32)


def _attention_CG(
    shown: Shown, group_N1: npt.NDArray[np.int64], count: int, top: int
) -> npt.NDArray[np.float32]:
    rows_CK = np.asarray(shown.top_rows_CK)[:, :top]
    gains_K = 1.0 / np.log2(np.arange(rows_CK.shape[1]) + 2.0)
    group_CK = np.where(rows_CK > 0, group_N1[rows_CK], -1)
    return np.stack([((group_CK == one) * gains_K).sum(axis=1) for one in range(count)], axis=1).astype(
        np.float32
    )


def _exposure(
    by: str,
    group_N1: npt.NDArray[np.int64],
    candidate: Shown,
    parent: Shown | None,
    groups: Groups,
    part: FairnessPart,
    weights_RC: npt.NDArray[np.float32],
) -> list[GroupRow]:
    names = groups.names[by]
    sizes = np.bincount(group_N1[group_N1 >= 0], minlength=len(names))
    after_CG = _attention_CG(candidate, group_N1, len(names), part.top)
    chosen_CG = np.stack([group_N1[groups.targets_C] == one for one in range(len(names))], axis=1).astype(
        np.float32
    )
    before_CG = None if parent is None else _attention_CG(parent, group_N1, len(names), part.top)
    kept = [
        one
        for one in range(len(names))
        if sizes[one] >= part.min_group and after_CG.shape[0] >= part.min_group
    ]
    rows = []
    for kind, base_CG, limit in (
        ("exposure", before_CG, None if part.max_exposure_loss is None else -part.max_exposure_loss),
        (
            "representation",
            chosen_CG,
            None if part.min_representation is None else part.min_representation - 1.0,
        ),
    ):
        if base_CG is None:
            continue
        for one in kept:
            figures = _ratio_of_shares(base_CG, after_CG, one, weights_RC, len(kept))
            if figures is not None:
                rows.append(_row(kind, by, names[one], len(after_CG), *figures, limit))  # type: ignore[arg-type]
    return rows


def _quality(
    by: str,
    group_C: npt.NDArray[np.int64],
    candidate: Shown,
    parent: Shown | None,
    names: Sequence[str],
    part: FairnessPart,
    weights_RC: npt.NDArray[np.float32],
) -> list[GroupRow]:
    rows = []
    kept = [one for one in range(len(names)) if (group_C == one).sum() >= part.min_group]
    after_C = candidate.quality_C.astype(np.float32)
    for one in kept:
        inside_C = (group_C == one).astype(np.float32)
        n = int(inside_C.sum())
        if parent is not None:
            before_C = parent.quality_C.astype(np.float32)
            figures = _ratio_of_means(before_C * inside_C, after_C * inside_C, weights_RC, len(kept))
            if figures is not None:
                scaled = (figures[0] / n, figures[1] / n, *figures[2:])
                limit = None if part.max_group_loss is None else -part.max_group_loss
                rows.append(_row("quality", by, names[one], n, *scaled, limit))
        everybody = float(after_C.mean())
        if everybody > 0:
            own_R = (weights_RC @ (after_C * inside_C)) / np.maximum(weights_RC @ inside_C, 1e-9)
            all_R = (weights_RC @ after_C) / np.maximum(weights_RC.sum(axis=1), 1e-9)
            own = float((after_C * inside_C).sum() / n)
            change, ends = own / everybody - 1, _ends(own_R / np.maximum(all_R, 1e-9) - 1, len(kept))
            limit = None if part.min_group_quality is None else part.min_group_quality - 1
            rows.append(_row("gap", by, names[one], n, everybody, own, change, ends, limit))
    return rows


Figures = tuple[float, float, float, tuple[tuple[float, float], float]]


def _ratio_of_shares(
    before_CG: npt.NDArray[np.float32],
    after_CG: npt.NDArray[np.float32],
    group: int,
    weights_RC: npt.NDArray[np.float32],
    asked: int,
) -> Figures | None:
    # Shares of all attention, not of these groups' alone: what goes to items without a group counts too.
    totals = float(before_CG.sum()), float(after_CG.sum())
    before, after = (
        float(one[:, group].sum()) / max(total, 1e-9)
        for one, total in zip((before_CG, after_CG), totals, strict=True)
    )
    if before <= 0:
        return None
    before_R = (weights_RC @ before_CG[:, group]) / np.maximum(weights_RC @ before_CG.sum(axis=1), 1e-9)
    after_R = (weights_RC @ after_CG[:, group]) / np.maximum(weights_RC @ after_CG.sum(axis=1), 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        changes_R = np.where(before_R > 0, after_R / before_R - 1, np.inf)
    return before, after, after / before - 1, _ends(changes_R, asked)


def _ratio_of_means(
    before_C: npt.NDArray[np.float32],
    after_C: npt.NDArray[np.float32],
    weights_RC: npt.NDArray[np.float32],
    asked: int,
) -> Figures | None:
    before, after = float(before_C.sum()), float(after_C.sum())
    if before <= 0:
        return None
    before_R, after_R = weights_RC @ before_C, weights_RC @ after_C
    with np.errstate(divide="ignore", invalid="ignore"):
        changes_R = np.where(before_R > 0, after_R / before_R - 1, np.inf)
    return before, after, after / before - 1, _ends(changes_R, asked)


def _ends(changes_R: npt.NDArray[np.floating], asked: int) -> tuple[tuple[float, float], float]:
    finite = np.where(np.isfinite(changes_R), changes_R, 1e9)
    low, high = np.quantile(finite, [0.025, 0.975])
    return (float(low), float(high)), float(np.quantile(finite, 1 - 0.025 / max(asked, 1)))


def _row(
    kind: Literal["exposure", "representation", "quality", "gap"],
    by: str,
    group: str,
    n: int,
    before: float,
    after: float,
    change: float,
    ends: tuple[tuple[float, float], float],
    limit: float | None,
) -> GroupRow:
    interval, corrected_high = ends
    verdict: Outcome = "undecidable"
    if limit is None or interval[0] > limit:
        verdict = "pass"
    elif corrected_high < limit:
        verdict = "fail"
    return GroupRow(
        kind=kind, by=by, group=group, n=n, before=before, after=after, change=change, interval=interval,
        high_of_all=corrected_high,
        limit=-1.0 if limit is None else limit, verdict=verdict,
    )  # fmt: skip
