"""The gate's rules: from what was measured to evidence with a verdict each.

Pure; measuring is ``verify``'s.

- quality: the whole interval of the paired loss to the FP32 parent lies below the limit; on a slice, the candidate is refused
  where its loss is decidedly above the slice's limit, as one of many slices (they are too small to prove the opposite);
- fairness: no group of items loses exposure, no group of users quality, beyond the limits of [gate.fairness];
- speed: at each batch size served, the whole interval of the speed-up lies above the limit;
- parity: golden answers agree with the reference's;
- floor: decidedly better than the transition counts, or published under a flag that says it is not.

Losses are relative to the parent's mean: positive is worse, 0.01 is 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from build_engines.errors import GateRefused
from build_engines.proof.paired_means import PairedVerdict
from build_engines.proof.records import SliceRow
from build_engines.proof.slices import judged, of_means, slice_evidence
from build_engines.recipe_parts import GatePart
from build_engines.records import SpeedRow
from server.artifacts.manifest import Measurement

BELOW_FLOOR, FLOOR_UNDECIDED = "below_floor", "floor_undecided"
ALL = "all"
MOST_USERS = 1_000_000_000  # a sample size above this decides nothing

# Mean share of a row's best items that must be the reference's, where the recipe does not say.
MIN_OVERLAP = {"fp32": 0.99, "int8": 0.8, "pq": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceAgreement:
    """How an engine's answers agree with the training framework's.

    Attributes:
        overlap: mean share of an engine's best items that are the reference's best (ties counted as
            agreement).
        rows: histories asked.
        items: best items of each that were looked at.
    """

    overlap: float
    rows: int
    items: int


def quality_evidence(verdicts: Mapping[str, PairedVerdict], part: GatePart) -> list[Measurement]:
    """The loss to the parent on everyone (``all``), and on each slice with enough cases to say anything."""
    whole = verdicts[ALL]
    evidence = [
        Measurement(
            kind="quality",
            name=f"{part.metric} loss to the FP32 parent",
            value=whole.relative_loss,
            unit="ratio",
            limit=part.max_relative_loss,
            sense="at_most",
            verdict=whole.verdict,
            sample_size=whole.n,
            interval=_interval(whole.ci_low, whole.ci_high),
            note=_would_decide(whole),
        )
    ]
    return evidence + slice_evidence(slice_rows(verdicts))


def slice_rows(verdicts: Mapping[str, PairedVerdict]) -> tuple[SliceRow, ...]:
    """Every slice beside its limit, judged as one of many."""
    return judged([of_means(name, verdict) for name, verdict in verdicts.items() if name != ALL])


def floor_evidence(verdict: PairedVerdict, part: GatePart) -> tuple[Measurement, tuple[str, ...]]:
    """The lead over the transition counts, and the flag that it needs where there is none.

    Args:
        verdict: of the candidate against the counts, with limit 0.
        part: the recipe's limits.
    """
    flag = None
    if verdict.verdict != "pass" and part.allow_below_floor:
        flag = BELOW_FLOOR if verdict.relative_loss > 0 or verdict.verdict == "fail" else FLOOR_UNDECIDED
    note = f"{verdict.parent_mean:.4f} -> {verdict.candidate_mean:.4f}"
    if verdict.verdict != "pass":
        note += "; " + (_would_decide(verdict) or "publish it on purpose with gate.allow_below_floor = true")
    evidence = Measurement(
        kind="floor",
        name=f"{part.metric} lead over the transition counts",
        value=0.0 - verdict.relative_loss,
        unit="ratio",
        limit=0.0,
        sense="at_least",
        verdict=verdict.verdict,
        sample_size=verdict.n,
        interval=_interval(-verdict.ci_high, -verdict.ci_low),
        note=note,
        waived_by=flag,
    )
    return evidence, (flag,) if flag else ()


def speed_evidence(rows: Sequence[SpeedRow], part: GatePart) -> list[Measurement]:
    """The speed-up at each batch size."""
    evidence = []
    for row in rows:
        low, high = row.interval
        passed = low > part.min_speedup
        evidence.append(
            Measurement(
                kind="speed",
                name=f"speed-up over the FP32 parent at batch {row.batch_size}",
                value=row.speedup,
                unit="x",
                limit=part.min_speedup,
                sense="at_least",
                verdict="pass" if passed else "fail" if high < part.min_speedup else "undecidable",
                sample_size=row.rounds,
                interval=row.interval,
                note=f"{row.parent_s * 1e3:.3f} ms -> {row.candidate_s * 1e3:.3f} ms",
            )
        )
    return evidence


def parity_evidence(name: str, found: ReferenceAgreement, precision: str, part: GatePart) -> Measurement:
    """Agreement of one engine's best items with the reference's."""
    limit = MIN_OVERLAP.get(precision, 0.8) if part.min_overlap is None else part.min_overlap
    return Measurement(
        kind="parity",
        name=f"best {found.items} items of {name} shared with the training framework",
        value=found.overlap,
        unit="ratio",
        limit=limit,
        sense="at_least",
        verdict="pass" if found.overlap >= limit else "fail",
        sample_size=found.rows,
    )


def refuse_unless_all_hold(model: str, evidence: Sequence[Measurement], flags: tuple[str, ...]) -> None:
    """Be the gate, in words.

    Raises:
        GateRefused: something does not hold; says figure, limit and sample size of each.
    """
    if not all(item.holds(flags) for item in evidence):
        raise GateRefused(model, evidence, flags)


def _interval(low: float, high: float) -> tuple[float, float] | None:
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _would_decide(verdict: PairedVerdict) -> str:
    if verdict.verdict != "undecidable":
        return ""
    if verdict.n_to_decide is None or verdict.n_to_decide > MOST_USERS:
        return "no number of users would decide it"
    return f"about {verdict.n_to_decide} users would decide it"
