"""Where a candidate hurts: each slice held against its limit, and believed to be bad only as one of many.

A slice is refused where its loss is above the limit by a test that is corrected for all slices (Holm): with twenty slices a
plain interval refuses a good model two times in five. A slice passes where its whole interval is below the limit; most are
too small for either and say how many examples would decide.

Units: losses relative to the parent, or percentage points, as each row says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from build_engines.proof.holm import holm_adjusted
from build_engines.proof.paired_means import PairedVerdict
from build_engines.proof.paired_right import paired_texts
from build_engines.proof.paired_sums import paired_rise
from build_engines.proof.records import SliceRow
from server.artifacts.manifest import Measurement

ALPHA = 0.025  # one-sided: the upper half of a 95 % interval
MOST_VALUES = 12  # of one kind of slice (categories): the largest are looked at
MIN_EXAMPLES = 5


def of_means(name: str, verdict: PairedVerdict) -> SliceRow:
    """A slice whose figure is a mean of each example (NDCG, recall)."""
    known = (
        math.isfinite(verdict.relative_loss)
        and math.isfinite(verdict.ci_low)
        and math.isfinite(verdict.ci_high)
    )
    return SliceRow(
        name=name,
        metric=verdict.metric.split(" on ")[0],
        n=verdict.n,
        parent=_finite(verdict.parent_mean),
        candidate=_finite(verdict.candidate_mean),
        loss=_finite(verdict.relative_loss),
        interval=(verdict.ci_low, verdict.ci_high) if known else None,
        limit=verdict.limit,
        p_value=verdict.p_at_limit,
        n_to_decide=verdict.n_to_decide,
    )


def of_right(
    name: str,
    metric: str,
    parent_N: npt.NDArray[np.bool_],
    candidate_N: npt.NDArray[np.bool_],
    *,
    limit_points: float,
) -> SliceRow:
    """A slice whose examples are right or wrong (McNemar).

    The test is against no loss at all where the limit is 0, and against the limit by the interval of the difference
    otherwise: McNemar's test knows no other question than "is there any".
    """
    n = int(parent_N.size)
    if n < MIN_EXAMPLES:
        return SliceRow(
            name=name, metric=metric, n=n, parent=None, candidate=None, loss=None, interval=None, unit="points",
            limit=limit_points,
        )  # fmt: skip
    paired = paired_texts(parent_N, candidate_N)
    spread = (paired.loss_ci[1] - paired.loss_ci[0]) / (2 * 1.96)
    by_interval = 0.5 * math.erfc((paired.loss_points - limit_points) / max(spread, 1e-12) / math.sqrt(2))
    return SliceRow(
        name=name,
        metric=metric,
        n=n,
        parent=paired.parent_accuracy,
        candidate=paired.candidate_accuracy,
        loss=paired.loss_points,
        interval=paired.loss_ci,
        unit="points",
        limit=limit_points,
        p_value=paired.p_worse if limit_points <= 0 else max(by_interval, paired.p_worse),
        n_to_decide=paired.texts_to_decide(limit_points),
    )


def of_sums(
    name: str,
    lost_N: npt.NDArray[np.float64],
    tokens_N: npt.NDArray[np.float64],
    perplexities: tuple[float, float],
    *,
    limit: float,
    seed: int,
) -> SliceRow:
    """A slice of texts whose figure is perplexity; ``perplexities``: of parent and candidate."""
    found = paired_rise(lost_N, tokens_N, limit=limit, seed=seed)
    known = found.n >= MIN_EXAMPLES and math.isfinite(found.low) and math.isfinite(found.high)
    return SliceRow(
        name=name,
        metric="perplexity",
        n=found.n,
        parent=_finite(perplexities[0]),
        candidate=_finite(perplexities[1]),
        loss=_finite(found.rise),
        interval=(found.low, found.high) if known else None,
        limit=limit,
        p_value=found.p_at_limit,
        n_to_decide=found.n_to_decide,
    )


def judged(rows: Sequence[SliceRow]) -> tuple[SliceRow, ...]:
    """The same rows with their corrected p-values and verdicts; those without an interval are no question."""
    asked = [one for one in rows if one.interval is not None]
    adjusted = iter(holm_adjusted([one.p_value for one in asked]))
    return tuple(one if one.interval is None else _judged(one, next(adjusted)) for one in rows)


def slice_evidence(rows: Sequence[SliceRow]) -> list[Measurement]:
    """For the gate: refused are slices whose corrected test says so; judge the rows first (``judged``)."""
    evidence = []
    for one in rows:
        if one.interval is None or one.loss is None:
            continue
        refused = one.verdict == "fail"
        # What the correction leaves of the interval's end is at most the limit where the test does not refuse.
        low = one.interval[0] if refused else min(one.interval[0], one.limit)
        shown = f"{one.loss:+.2%}" if one.unit == "ratio" else f"{one.loss:+.2f} points"
        evidence.append(
            Measurement(
                kind="quality",
                name=f"{one.metric} loss on {one.name}, lower end of its interval",
                value=low,
                unit=one.unit,
                limit=one.limit,
                sense="at_most",
                verdict="fail" if refused else "pass",
                sample_size=one.n,
                interval=one.interval,
                note=f"loss {shown}, p {one.p_holm:.3g} among all slices",
            )
        )
    return evidence


def value_masks(
    kind: str, values_N: Sequence[str], *, most: int = MOST_VALUES, least: int = MIN_EXAMPLES
) -> dict[str, npt.NDArray[np.bool_]]:
    """A mask for each value that enough examples have, the most frequent first: ``{"category: shoes": [N]}``.

    Args:
        kind: what the values are ("category", "language").
        values_N: of each example; empty: it has none.
        most: values at most.
        least: examples of a value at least.
    """
    values = np.array(values_N, dtype=object)
    counts: dict[str, int] = {}
    for value in values_N:
        if value:
            counts[value] = counts.get(value, 0) + 1
    chosen = sorted((one for one in counts if counts[one] >= least), key=lambda one: (-counts[one], one))[
        :most
    ]
    return {f"{kind}: {one}": np.asarray(values == one, np.bool_) for one in chosen}


def script_of(text: str) -> Literal["zh", "en", ""]:
    """The language of a text by its script: mostly Han, or mostly letters; "" where there is neither.

    Enough to tell the languages of a shop's texts apart that share no script; French and English it does not.
    """
    han = sum("\u4e00" <= one <= "\u9fff" or "\u3400" <= one <= "\u4dbf" for one in text)
    letters = sum(one.isalpha() for one in text) - han
    if not han and not letters:
        return ""
    return "zh" if 3 * han >= letters else "en"  # a Han character says about as much as three letters


def _judged(one: SliceRow, p_holm: float) -> SliceRow:
    assert one.interval is not None, "only rows with an interval are asked"
    verdict: Literal["pass", "fail", "undecidable"] = "undecidable"
    if p_holm <= ALPHA:
        verdict = "fail"
    elif one.interval[1] < one.limit:
        verdict = "pass"
    needed = one.n_to_decide if verdict == "undecidable" else None
    return msgspec.structs.replace(one, p_holm=p_holm, verdict=verdict, n_to_decide=needed)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
