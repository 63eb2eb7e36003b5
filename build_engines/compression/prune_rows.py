"""A smaller table: rows of items or tokens that hardly occur go, and one row stands for them.

Objective: keep the rows that carry the most traffic in what is learnt from. What becomes of an id whose row is gone is the
family's business (``families``): it is looked up in a row that stands for it. The model knows nothing of such an item any more,
so this is for the long tail that other parts of the answer (counts, popularity) cover, and a share of traffic is the honest
way to ask for it.

A row with infinite traffic must stay (padding, special tokens, bytes); row 0 always stays.

Source: rows by frequency as in Chen et al., "GroupReduce", 2018, and Abdaoui et al., "Load What You Need: Smaller Versions of
Multilingual BERT", 2020 (tokens that a language does not use).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engines.compression.cutting import CODE, parameters_of
from build_engines.compression.learning import LearningOptions
from build_engines.compression.model import Compressible, Keep
from build_engines.compression.schedule import check_keep, finite_loss, number_kept, recover, within
from build_engines.compression.step import Curve, Step, StepRecord, StepWork, sizes_of
from build_engines.errors import BuildError


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneRows:
    """Fields of ``step = "prune_rows"``; one of ``keep`` and ``coverage``.

    Attributes:
        keep: rows that are left: a share (above 0, below 1) or a number (whole, from 1 on).
        coverage: as few rows as carry this share of the traffic (0.5 to 1; 1: all that occur at all).
        recovery: fine-tuning after the cut.
    """

    keep: int | float | None = None
    coverage: float | None = None
    recovery: LearningOptions | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        if (self.keep is None) == (self.coverage is None):
            raise ValueError(f"keep is {self.keep} and coverage {self.coverage}; give one of them")
        if self.keep is not None:
            check_keep(self.keep)
        if self.coverage is not None:
            within("coverage", self.coverage, 0.5, 1.0)


def run(model: Compressible, options: PruneRows, work: StepWork) -> tuple[Compressible, StepRecord]:
    """Cut rows.

    Raises:
        BuildError: nothing occurs at all, more rows must stay than are to be left, or training went wrong.
    """
    traffic_R = model.traffic_R()
    before, sizes, weights = finite_loss(model, "before prune_rows"), model.sizes, parameters_of(model.module)
    rows = kept_rows(traffic_R, keep=options.keep, coverage=options.coverage)
    try:
        smaller = model.narrowed(Keep(rows=rows))
    except BuildError as error:
        raise BuildError(f"prune_rows: {error}") from error
    pruned = finite_loss(smaller, f"of {len(rows)} rows")
    curves = recover(smaller, options.recovery, work, "rows", options)
    after = finite_loss(smaller, f"of {len(rows)} rows after fine-tuning") if options.recovery else pruned
    share = covered(traffic_R, rows)
    return smaller, StepRecord(
        step="prune_rows",
        said=(
            f"{len(rows):,} of {sizes.rows:,} rows are left, which carry {share:.1%} of the traffic; "
            f"{parameters_of(smaller.module):,} of {weights:,} parameters"
        ),
        figures={
            "traffic kept": share,
            "loss before": before,
            "loss pruned": pruned,
            "loss after": after,
            "parameters before": float(weights),
            "parameters after": float(parameters_of(smaller.module)),
        },
        before=sizes_of(sizes),
        after=sizes_of(smaller.sizes),
        curves=(_coverage_curve(traffic_R), *curves),
    )


def kept_rows(
    traffic_R: npt.NDArray[np.float64], *, keep: float | None = None, coverage: float | None = None
) -> npt.NDArray[np.int64]:
    """The rows that stay, rising; of equal traffic the first. So fewer are always among more.

    Raises:
        BuildError: nothing occurs at all, or more rows must stay than are to be left.
    """
    must = np.isinf(traffic_R)
    must[0] = True
    counted_R = np.where(must, 0.0, traffic_R)
    if not counted_R.sum() > 0:
        raise BuildError("prune_rows: no row occurs in what is learnt from; there is nothing to choose by")
    order = np.argsort(-np.where(must, np.inf, traffic_R), kind="stable")
    if coverage is not None:
        reached = np.cumsum(counted_R[order]) >= coverage * counted_R.sum() * (1 - 1e-12)
        number = max(int(must.sum()) + 1, int(np.argmax(reached)) + 1)
    else:
        assert keep is not None, "options ask for one of both"
        number = number_kept("rows", keep, len(traffic_R))
        if number <= must.sum():
            raise BuildError(
                f"prune_rows: {number} rows are to be left, and {int(must.sum())} must stay (row 0, padding, special "
                "tokens); ask for more than these"
            )
    return np.sort(order[:number]).astype(np.int64)


def covered(traffic_R: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> float:
    """Share of the traffic that these rows carry."""
    finite_R = np.where(np.isinf(traffic_R), 0.0, traffic_R)
    return float(finite_R[rows].sum() / finite_R.sum())


def _coverage_curve(traffic_R: npt.NDArray[np.float64]) -> Curve:
    counted = np.sort(np.where(np.isinf(traffic_R), 0.0, traffic_R))[::-1].cumsum()
    places = np.unique(np.linspace(0, len(counted) - 1, 33).astype(np.int64))
    points = tuple((float(at + 1), float(counted[at] / counted[-1])) for at in places.tolist())
    return Curve(name="traffic by rows kept", x="rows", y="share of traffic", points=points)


STEP = Step(name="prune_rows", options=PruneRows, run=run, code=CODE)
