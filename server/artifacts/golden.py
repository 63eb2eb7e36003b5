"""Golden answers: inputs and reference outputs that a version must reproduce to be published and to serve.

The comparison knows what an output is by its dtype: floats are scores and may differ by the manifest's
tolerance, integers are ranked ids and may swap where scores are that close. Constants (the catalogue) are not
part of the file; they are bound.

Suffix: ``_BK`` rows of a batch by rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from server.artifacts.errors import CorruptFile
from server.artifacts.manifest import Tolerance

GOLDEN_FILE = "golden.npz"

# Scores of what may not be returned are far below any real one; where a row runs out of items, ids mean nothing.
_MASKED = -1.0e8

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """What to ask and what must come back, by tensor name."""

    inputs: Arrays
    outputs: Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How close answers were to the reference.

    Attributes:
        overlap: smallest share of one row's top items that agree (1 when there are no ranked ids).
        score_error: largest score difference beyond the relative allowance.
        rows: rows compared.
        problem: a sentence when they are not the same answers, else None.
    """

    overlap: float
    score_error: float
    rows: int
    problem: str | None


def write_golden(path: Path, golden: Golden) -> None:
    """Write ``golden.npz``; keys are ``in.<tensor>`` and ``out.<tensor>``."""
    arrays: dict[str, npt.NDArray[Any]] = {f"in.{name}": array for name, array in golden.inputs.items()}
    arrays.update({f"out.{name}": array for name, array in golden.outputs.items()})
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes **kwds for allow_pickle


def read_golden(path: Path) -> Golden:
    """Read ``golden.npz``.

    Raises:
        CorruptFile: it is not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise CorruptFile(path, f"holds no golden answers ({error})") from error
    inputs = {name[3:]: array for name, array in arrays.items() if name.startswith("in.")}
    outputs = {name[4:]: array for name, array in arrays.items() if name.startswith("out.")}
    if not inputs or not outputs:
        raise CorruptFile(path, "holds no golden answers")
    return Golden(inputs=inputs, outputs=outputs)


def compare(reference: Arrays, got: Arrays, tolerance: Tolerance) -> Parity:
    """Hold answers against the reference.

    Args:
        reference: outputs of the reference, by tensor name.
        got: outputs of the engine under test.
        tolerance: of the manifest.

    Returns:
        How close they are; ``problem`` names the first tensor that is out of tolerance.
    """
    overlap, score_error, rows, problem = 1.0, 0.0, 0, None
    for name, want in reference.items():
        have = got.get(name)
        if have is None or have.shape != want.shape:
            shape = "missing" if have is None else f"shape {have.shape}"
            problem = f"{name}: {shape}, needs {want.shape}"
            return Parity(overlap=0.0, score_error=np.inf, rows=0, problem=problem)
        rows = max(rows, len(want))
        if np.issubdtype(want.dtype, np.floating):
            error = _score_error(want, have, tolerance)
            score_error = max(score_error, error)
            if not error <= tolerance.score_abs:
                problem = problem or f"{name}: differs by {error:.3g}, tolerance is {tolerance.score_abs:.3g}"
        else:
            share = _overlap(want, have)
            overlap = min(overlap, share)
            if share < tolerance.min_overlap:
                need = tolerance.min_overlap
                problem = problem or f"{name}: a row shares {share:.3g} of its items, must be {need:.3g}"
    problem = problem or _misplaced(reference, got, tolerance)
    return Parity(overlap=overlap, score_error=score_error, rows=rows, problem=problem)


def _misplaced(reference: Arrays, got: Arrays, tolerance: Tolerance) -> str | None:
    """Whether an id stands at a rank whose score is not its own: items may swap only where their scores are that close."""
    ids_name = next(
        (name for name, array in reference.items() if array.dtype.kind == "i" and array.ndim == 2), None
    )
    scores_name = next(
        (name for name, array in reference.items() if array.dtype.kind == "f" and array.ndim == 2), None
    )
    if ids_name is None or scores_name is None or reference[ids_name].shape != reference[scores_name].shape:
        return None
    for row, (ids, scores) in enumerate(zip(reference[ids_name], reference[scores_name], strict=True)):
        own = dict(zip(ids.tolist(), scores.tolist(), strict=True))
        for rank, (item, score) in enumerate(zip(got[ids_name][row].tolist(), scores.tolist(), strict=True)):
            want = own.get(item)
            if (
                want is None or score <= _MASKED
            ):  # not among the reference's (the overlap judges that), or no answer
                continue
            if abs(want - score) > 2 * (tolerance.score_abs + tolerance.score_rel * abs(score)):
                return (
                    f"{ids_name}: row {row} has {item} at rank {rank + 1} with score {score:.6g}, its reference score is "
                    f"{want:.6g}"
                )
    return None


def _score_error(want: npt.NDArray[Any], have: npt.NDArray[Any], tolerance: Tolerance) -> float:
    same_ends = ~np.isfinite(want) & (want == have)  # masked places are -inf on both sides
    with np.errstate(invalid="ignore"):
        error = np.abs(have - want) - tolerance.score_rel * np.abs(want)
    error = np.where(same_ends, 0.0, np.where(np.isfinite(error), error, np.inf))
    return float(max(0.0, error.max(initial=0.0)))


def _overlap(want: npt.NDArray[Any], have: npt.NDArray[Any]) -> float:
    if want.ndim < 2 or want.shape[-1] == 0:
        return 1.0 if np.array_equal(want, have) else 0.0
    shares = [
        np.intersect1d(a, b).size / max(np.unique(a).size, 1)
        for a, b in zip(want.reshape(-1, want.shape[-1]), have.reshape(-1, want.shape[-1]), strict=True)
    ]
    return float(min(shares, default=1.0))
