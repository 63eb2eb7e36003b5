"""What a comparison found; the page and its JSON show just this.

A is what was, B is what is to be: losses are A's figure minus B's, positive is worse. Units: seconds, bytes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from build_engines.proof.records import Footprint, GroupRow, Outcome, SliceRow
from build_engines.records import SpeedRow

Verdict = Literal["holds", "undecided", "regression"]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two.

    Attributes:
        name: "shop version 3", or a folder.
        model, version, precision: of its manifest.
        created_unix_s: when it was published.
        size_bytes: engine and tables, as one server holds them.
        build, recipe_sha256: of its provenance.
        signed_by: key that signed its manifest; empty: none.
    """

    name: str
    model: str
    version: str
    precision: str
    created_unix_s: float
    size_bytes: int
    build: str = ""
    recipe_sha256: str = ""
    signed_by: str = ""


class MetricRow(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of both.

    Attributes:
        name: what was measured.
        n: examples.
        a, b: figures.
        loss: in ``unit``; None where there is nothing to compare.
        interval: 95 %, of ``loss``.
        unit: "ratio" (relative to A) or "points".
        limit: of the loss; None: shown and not judged.
        test: how it was tested.
        p_value: two-sided: how likely so large a difference is by chance; None: not tested.
        verdict: against ``limit``.
        n_to_decide: examples that would decide.
    """

    name: str
    n: int
    a: float | None
    b: float | None
    loss: float | None = None
    interval: tuple[float, float] | None = None
    unit: str = "ratio"
    limit: float | None = None
    test: str = ""
    p_value: float | None = None
    verdict: Outcome = "undecidable"
    n_to_decide: int | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        task: of both.
        a, b: the two.
        verdict: of the whole.
        reasons: a sentence each.
        examples: judged on.
        examples_of: whose gate they are of.
        same_examples: both were judged on these very examples when they were built.
        metrics: the first is the one that counts.
        slices: judged as many.
        groups: fairness.
        speed: B's speed-up over A.
        footprint: of "A" and "B".
        hardware: the machine.
        seed: of resampling.
        notes: a sentence each.
    """

    task: str
    a: Side
    b: Side
    verdict: Verdict
    reasons: tuple[str, ...]
    examples: int
    examples_of: str
    same_examples: bool
    metrics: tuple[MetricRow, ...]
    slices: tuple[SliceRow, ...]
    groups: tuple[GroupRow, ...]
    speed: tuple[SpeedRow, ...]
    footprint: dict[str, Footprint]
    hardware: dict[str, str]
    seed: int
    notes: tuple[str, ...] = ()
