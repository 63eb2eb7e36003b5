"""From an opened version of somebody's own model to an engine that may serve: opened, warmed, replayed.

The contract of a version of task ``TENSOR_TASK``: the graph declared by ``inputs`` and ``outputs``; limits ``max_batch`` and,
for every other bounded symbol X, ``max_X``; golden inputs and outputs. Nothing here knows what the model is for.

Units: seconds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, Arrays, compare, read_golden
from server.artifacts.manifest import Manifest, Tolerance
from server.artifacts.repository import OpenedVersion
from server.batching.cost import CostModel
from server.domain import ModelInfo
from server.engines.base import TensorSpec
from server.engines.onnxruntime_tensors import OnnxRuntimeTensors
from server.engines.tensors import TensorEngine

TENSOR_TASK = "tensor_inference"
_BATCH_LIMIT, _DIM_PREFIX = "max_batch", "max_"
_REPEATS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTensors:
    """One version, ready to be asked.

    Attributes:
        info: as ``GET /v1/models`` lists it.
        engine: what runs it.
        cost: what a batch of rows costs on this machine, measured at load.
    """

    info: ModelInfo
    engine: TensorEngine
    cost: CostModel


def load_tensors(opened: OpenedVersion, *, task: str = TENSOR_TASK, threads: int = 1) -> LoadedTensors:
    """Load, warm and check one version.

    Args:
        opened: a verified version.
        task: that it must be of.
        threads: of the CPU engine.

    Raises:
        ArtifactError: of another task, no target for this machine, or golden answers that are not reproduced; says which and
            what to do.
    """
    manifest = opened.manifest
    where = f"{manifest.model} version {manifest.version}"
    try:
        if manifest.task != task:
            raise ValueError(f"task is {manifest.task!r}, asked for is {task!r}")
        engine = open_tensors(opened, threads=threads)
        check_golden_tensors(opened, engine)
        golden = read_golden(opened.path(GOLDEN_FILE))
        target = manifest.target(engine.kind)
        info = ModelInfo(
            name=manifest.model,
            version=manifest.version,
            task=manifest.task,
            engine=engine.kind,
            precision=target.precision if target else "unknown",
            items=0,
            limits=manifest.limits,
            created_unix_s=manifest.created_unix_s,
            sample_ids=(),
            ready=True,
            flags=manifest.flags,
        )
        return LoadedTensors(info=info, engine=engine, cost=measure_cost(engine, golden.inputs))
    except KeyError as error:
        raise ArtifactError(f"{where}: {error} is missing; build and publish it again") from error
    except (ValueError, RuntimeError, OSError) as error:
        raise ArtifactError(f"{where}: cannot be loaded: {error}") from error


def open_tensors(opened: OpenedVersion, *, threads: int = 1) -> OnnxRuntimeTensors:
    """The engine of a version, not replayed; the builder writes golden answers with it.

    Raises:
        ValueError: there is no target that this machine runs, or the graph is not what the manifest declares.
        RuntimeError: the runtime refuses the graph.
    """
    manifest = opened.manifest
    target = manifest.target("onnxruntime")
    if target is None:
        have = sorted({one.kind for one in manifest.targets})
        raise ValueError(f"no target for onnxruntime, it has {have}; build with that target in the recipe")
    return OnnxRuntimeTensors(
        opened.path(target.file),
        inputs=tuple(TensorSpec(name=one.name, dtype=one.dtype, shape=one.shape) for one in manifest.inputs),
        outputs=tuple(
            TensorSpec(name=one.name, dtype=one.dtype, shape=one.shape) for one in manifest.outputs
        ),
        max_batch=manifest.limits[_BATCH_LIMIT],
        max_dims=_max_dims(manifest),
        threads=threads,
    )


def check_golden_tensors(opened: OpenedVersion, engine: TensorEngine) -> None:
    """Replay the golden inputs.

    Raises:
        ArtifactError: an output differs beyond the manifest's tolerance; names it.
    """
    golden = read_golden(opened.path(GOLDEN_FILE))
    problem = different(golden.outputs, engine.run(golden.inputs), opened.manifest.parity)
    if problem is not None:
        raise ArtifactError(
            f"{opened.folder}: golden replay differs on {engine.kind}: {problem}; this version is not served. Build it "
            "again, or run `python -m build_engines verify` to see where"
        )


def different(wanted: Arrays, got: Arrays, tolerance: Tolerance) -> str | None:
    """How outputs differ beyond a tolerance, as a sentence; None: they do not.

    Numbers of floating point may differ by the tolerance; of all others, ``1 - min_overlap`` of the values may differ.
    """
    for name, want in wanted.items():
        have = got.get(name)
        if have is None or have.shape != want.shape:
            return f"{name}: {'missing' if have is None else f'shape {have.shape}'}, needs {want.shape}"
        if want.dtype.kind != "f" and want.size:
            share = float(np.mean(have == want))
            if share < tolerance.min_overlap:
                return f"{name}: {share:.3g} of the values agree, must be {tolerance.min_overlap:.3g}"
    floats = {name: array for name, array in wanted.items() if array.dtype.kind == "f"}
    return compare(floats, got, tolerance).problem if floats else None


def measure_cost(engine: TensorEngine, rows: Arrays) -> CostModel:
    """Warm the engine and fit ``a + b * n`` on this machine from a few runs of two sizes.

    Args:
        engine: to warm.
        rows: inputs that it takes, such as the golden ones; repeated to fill the larger batch.
    """
    batched = {spec.name for spec in engine.inputs if spec.shape[:1] == ("B",)}
    if not batched:
        return CostModel(_median_s(engine, rows), 0.0)
    large = min(engine.max_batch, 32)
    times = [_median_s(engine, _of_size(rows, batched, size)) for size in (1, large)]
    per_item_s = max((times[1] - times[0]) / max(large - 1, 1), 1e-8)
    return CostModel(max(times[0] - per_item_s, 0.0), per_item_s)


def _of_size(rows: Arrays, batched: set[str], size: int) -> Arrays:
    return {
        name: np.resize(array, (size, *array.shape[1:])) if name in batched else array
        for name, array in rows.items()
    }


def _median_s(engine: TensorEngine, inputs: Arrays) -> float:
    engine.run(inputs)
    took = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        engine.run(inputs)
        took.append(time.perf_counter() - start)
    return float(np.median(took))


def _max_dims(manifest: Manifest) -> dict[str, int]:
    symbols = {dim for one in manifest.inputs for dim in one.shape if isinstance(dim, str)}
    return {
        symbol: manifest.limits[_DIM_PREFIX + symbol]
        for symbol in sorted(symbols)
        if _DIM_PREFIX + symbol in manifest.limits
    }
