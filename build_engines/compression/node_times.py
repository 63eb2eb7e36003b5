"""How long each product of a graph takes on the runtime that serves, from the runtime's own profile.

Products are told apart by their order: all graphs here are written block by block, and ONNX Runtime runs them so on one
thread. Operators that belong to a product (rounding its input) are given beside it.

Units: seconds.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

# Kernels that multiply by weights, by precision; what is left of them in other places comes after the products.
PRODUCTS: Mapping[str, tuple[str, ...]] = {
    "fp32": ("MatMul", "FusedMatMul", "Gemm"),
    "int8": ("MatMulIntegerToFloat", "QLinearMatMul"),
    "int4": ("MatMulNBits",),
}
ROUNDING = ("QuantizeLinear",)
Open = Callable[[ort.SessionOptions], ort.InferenceSession]


def product_times(
    open_session: Open,
    run: Callable[[ort.InferenceSession], Any],
    *,
    precision: str,
    products: Sequence[int],
    rounds: int,
) -> npt.NDArray[np.float64]:
    """Median seconds of each product in a run, rounding of its input included.

    Args:
        open_session: makes a session with the options given.
        run: runs it once.
        precision: of all products of this graph.
        products: how many multiplications each product is (queries, keys and values may be three).
        rounds: of running, after one that warms up.

    Raises:
        ValueError: the runtime ran another number of multiplications; says how many.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = open_session(options)
        for _ in range(rounds + 1):
            run(session)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times_PR = _by_run(events, PRODUCTS[precision], rounds + 1)
    total = sum(products)
    if len(times_PR) < total:
        raise ValueError(
            f"{len(times_PR)} {' or '.join(PRODUCTS[precision])} ran, there must be {total}: the runtime fell back"
        )
    ends = np.cumsum([0, *products])
    median_P = np.median(times_PR[:, 1:], axis=1)
    found = np.array([median_P[start:stop].sum() for start, stop in itertools.pairwise(ends)])
    if precision == "int8":
        rounded_PR = _by_run(events, ROUNDING, rounds + 1)
        if len(rounded_PR) >= len(products):  # one input each
            found += np.median(rounded_PR[: len(products), 1:], axis=1)
    return found


def _by_run(events: Sequence[Any], kinds: Sequence[str], runs: int) -> npt.NDArray[np.float64]:
    ran = sorted(
        (event["ts"], event["dur"])
        for event in events
        if event.get("name", "").endswith("_kernel_time") and event["args"].get("op_name") in kinds
    )
    each, odd = divmod(len(ran), runs)
    if odd:
        raise ValueError(f"{len(ran)} kernels in {runs} runs: runs are not alike")
    return np.array([duration for _, duration in ran], np.float64).reshape(runs, each).T * 1e-6
