"""The gate's rules for somebody's own model: from outputs, figures and times to evidence with a verdict each. Pure.

Suffix: N rows.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from build_engines.own_model.metrics import PairedLoss
from build_engines.own_model.recipe_parts import OwnGatePart
from build_engines.own_model.rows import Rows
from server.artifacts.manifest import Measurement

Verdict = Literal["pass", "fail", "undecidable"]
_RESAMPLES = 1000


def source_evidence(source: Rows, engine: Rows, limit: float) -> Measurement:
    """The largest difference of the FP32 engine to the source, over the size of the source's values; exact where not floats."""
    worst, name = 0.0, ""
    for output, want in source.items():
        error = _largest_error(want, engine[output])
        if not error <= worst:
            worst, name = error, output
    return Measurement(
        kind="parity",
        name="largest difference of the FP32 engine to the source, over the size of its values",
        value=worst,
        unit="ratio",
        limit=limit,
        sense="at_most",
        verdict="pass" if worst <= limit else "fail",
        sample_size=len(next(iter(source.values()))) if source else 0,
        note=f"in output {name}" if name else "",
    )


def error_evidence(parent: Rows, candidate: Rows, part: OwnGatePart) -> Measurement:
    """Root mean square difference to the parent over its own size, of the worst output; the whole interval must be below."""
    found = max(
        (
            _relative_error(name, want, candidate[name], part.seed)
            for name, want in parent.items()
            if want.dtype.kind == "f"
        ),
        default=(0.0, 0.0, 0.0, "no output is a float"),
    )
    value, low, high, name = found
    limit = part.max_error
    return Measurement(
        kind="parity",
        name="root mean square difference to the FP32 parent, over the size of its values",
        value=value,
        unit="ratio",
        limit=limit,
        sense="at_most",
        verdict="pass" if high <= limit else "fail" if not low <= limit else "undecidable",
        sample_size=len(next(iter(parent.values()))),
        interval=(low, high),
        note=f"in output {name}",
    )


def quality_evidence(paired: PairedLoss, part: OwnGatePart) -> Measurement:
    """What the metric loses; the whole interval must be below the limit."""
    low, high = paired.interval
    limit = part.max_metric_loss
    verdict: Verdict = "pass" if high <= limit else "fail" if low > limit else "undecidable"
    note = f"{paired.parent:.4f} to {paired.candidate:.4f}"
    if verdict == "undecidable":
        needed = paired.units * ((high - low) / 2 / max(abs(limit - paired.loss), 1e-9)) ** 2
        note += (
            f"; about {needed:.0f} rows or groups would decide"
            if needed < 1e9
            else "; no number of rows would decide"
        )
    return Measurement(
        kind="quality",
        name=f"relative loss of {paired.metric} to the FP32 parent",
        value=paired.loss,
        unit="ratio",
        limit=limit,
        sense="at_most",
        verdict=verdict,
        sample_size=paired.units,
        interval=paired.interval,
        note=note,
    )


def disagreement_evidence(
    parent: npt.NDArray[Any], candidate: npt.NDArray[Any], part: OwnGatePart
) -> Measurement:
    """Without labels: pairs of neighbouring rows that are put in another order, or rows with another best class."""
    if parent.ndim == 2 and parent.shape[1] > 1:
        changed, what = parent.argmax(axis=1) != candidate.argmax(axis=1), "rows with another best class"
    else:
        one, two = parent.reshape(len(parent), -1)[:, 0], candidate.reshape(len(candidate), -1)[:, 0]
        order = np.random.default_rng(part.seed).permutation(len(one))
        wanted, found = np.diff(one[order].astype(np.float64)), np.diff(two[order].astype(np.float64))
        changed, what = np.sign(wanted) * np.sign(found) < 0, "pairs of rows in another order"
    share = float(changed.mean()) if changed.size else float("nan")
    half = 1.96 * float(
        np.sqrt(max(share * (1 - share), 3 / max(changed.size, 1) / 4) / max(changed.size, 1))
    )
    limit = part.max_disagreement
    return Measurement(
        kind="quality",
        name=f"{what} than the FP32 parent has",
        value=share,
        unit="ratio",
        limit=limit,
        sense="at_most",
        verdict="pass" if share + half <= limit else "fail" if not share - half <= limit else "undecidable",
        sample_size=int(changed.size),
        interval=(max(share - half, 0.0), share + half),
        note="no labels were given (data.labels)",
    )


def _largest_error(want: npt.NDArray[Any], have: npt.NDArray[Any]) -> float:
    if have.shape != want.shape:
        return float("inf")
    if want.dtype.kind != "f":
        return 0.0 if np.array_equal(want, have) else float("inf")
    one, two = want.astype(np.float64), have.astype(np.float64)
    same_ends = ~np.isfinite(one) & (one == two)
    with np.errstate(invalid="ignore"):
        error = np.where(same_ends, 0.0, np.abs(one - two))
    finite = one[np.isfinite(one)]
    size = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    return float(np.max(error, initial=0.0) / max(size, 1e-6))  # NaN stays NaN: it never passes


def _relative_error(
    name: str, want: npt.NDArray[Any], have: npt.NDArray[Any], seed: int
) -> tuple[float, float, float, str]:
    one, two = want.reshape(len(want), -1).astype(np.float64), have.reshape(len(want), -1).astype(np.float64)
    # Around their mean: a large constant in an output would hide any difference.
    errors_N, sizes_N = ((one - two) ** 2).sum(axis=1), ((one - one.mean(axis=0)) ** 2).sum(axis=1)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(one), (_RESAMPLES, len(one)))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.sqrt(errors_N.sum() / sizes_N.sum()))
        every = np.sqrt(errors_N[drawn].sum(axis=1) / sizes_N[drawn].sum(axis=1))
    if not np.isfinite(every).all():
        return value, value, float("inf"), name
    low, high = np.quantile(every, [0.025, 0.975])
    return value, float(low), float(high), name
