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
    return Parity(overlap=overlap, score_error=score_error, rows=rows, problem=problem)


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
