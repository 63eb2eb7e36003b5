"""From an opened version to everything that serves it: engines bound, warmed, replayed against the golden answers.

Runs in a worker thread while the old version serves; nothing here touches the event loop. A version that does not
reproduce its golden answers is refused here, with the figure and the tolerance, and never reaches a request.

Units: seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, compare, read_golden
from server.artifacts.manifest import Manifest, Target, TensorInfo
from server.artifacts.repository import OpenedVersion
from server.batching.cost import CostModel
from server.batching.policy import BatchLimits
from server.domain import ModelInfo, ModelRef
from server.encoding import tables
from server.encoding.catalogue import ITEM_COLUMNS_FILE, ITEM_IDS_FILE, Catalogue, load_catalogue
from server.engines.base import Engine, TensorSpec
from server.engines.onnxruntime import OnnxRuntimeEngine
from server.errors import DeadlineExceeded, NotReady
from server.pipelines.explain import Explainer
from server.pipelines.fallback import Fallback
from server.pipelines.recommend import RecommendRunner
from server.tensor_domain import TensorContract, TensorShape

if TYPE_CHECKING:
    from server.engines.triton_fleet import TritonFleet

CANDIDATE = "candidate"
MASKED_SUFFIX = "_masked"  # of the fleet's model that takes the candidate mask
TASK = "recommendation"

# Batch sizes that are timed when a version is loaded; more repeats of the small ones, which are noisier.
_TIMED = ((1, 12), (4, 8), (16, 4))
_SAMPLE_IDS = 20


@dataclass(frozen=True, slots=True)
class Fleet:
    """Where the engines of a version are asked that are not here.

    Attributes:
        asked: the hosts.
        wait_s: how long they may take to have a version ready.
    """

    asked: TritonFleet
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """One version, ready to serve.

    Attributes:
        info: as ``GET /v1/models`` lists it.
        runner: the model tier.
        fallback: the tier below.
        limits: of a batch.
        cost: what a batch costs on this machine, measured at load.
    """

    info: ModelInfo
    runner: RecommendRunner
    fallback: Fallback
    limits: BatchLimits
    cost: CostModel


def load_model(
    opened: OpenedVersion,
    *,
    engine: str = "auto",
    threads: int = 1,
    max_items: int = 0,
    max_wait_s: float = 0.0,
    fleet: Fleet | None = None,
) -> LoadedModel:
    """Load, warm and check one version.

    Args:
        opened: a verified version.
        engine: runner; "auto" takes ONNX Runtime, the embedded default.
        threads: of a CPU engine.
        max_items: largest batch; 0: the version's own limit.
        max_wait_s: longest wait for company.
        fleet: that is asked where ``engine`` is "triton".

    Raises:
        ArtifactError: not a recommender, no target for the engine, tables or items that do not fit, or golden answers
            that are not reproduced; says which and what to do.
    """
    where = f"{opened.manifest.model} version {opened.manifest.version}"
    try:
        return _load(opened, engine, threads, max_items, max_wait_s, fleet)
    except KeyError as error:
        raise ArtifactError(f"{where}: {error} is missing; build and publish it again") from error
    except (ValueError, RuntimeError, OSError, StopIteration, NotReady, DeadlineExceeded) as error:
        raise ArtifactError(f"{where}: cannot be loaded: {error}") from error


def _load(
    opened: OpenedVersion,
    engine: str,
    threads: int,
    max_items: int,
    max_wait_s: float,
    fleet: Fleet | None,
) -> LoadedModel:
    manifest = opened.manifest
    if manifest.task != TASK:
        raise ValueError(f"task is {manifest.task!r}, this server serves {TASK!r}")
    # Views of the mapped files as plain arrays: indexing a memmap costs several times as much.
    stored = tables.plain({name: np.asarray(table) for name, table in opened.constants(mmap=True).items()})
    bound = tables.engine_tables(stored)
    rows = tables.catalogue_rows(stored)
    catalogue = load_catalogue(opened.path(ITEM_IDS_FILE), opened.path(ITEM_COLUMNS_FILE), rows=rows)
    engines = _engines(opened, bound, engine, threads, fleet)
    runner, fallback = _tiers(manifest, catalogue, stored, engines)
    check_golden(opened, engines)
    limit = manifest.limits["max_batch"]
    limits = BatchLimits(max_items=min(limit, max_items) if max_items else limit, max_wait_s=max_wait_s)
    kind = next(iter(engines.values())).kind
    target = manifest.target("onnxruntime" if kind == "triton" else kind)
    info = ModelInfo(
        name=manifest.model,
        version=manifest.version,
        task=manifest.task,
        engine=kind,
        precision=target.precision if target else "unknown",
        items=len(catalogue.index),
        limits=manifest.limits,
        created_unix_s=manifest.created_unix_s,
        sample_ids=catalogue.index.ids[1 : _SAMPLE_IDS + 1],
        ready=True,
        item_fields=tuple(catalogue.columns),
    )
    cost = measure_cost(engines, manifest, limits.max_items)
    return LoadedModel(info=info, runner=runner, fallback=fallback, limits=limits, cost=cost)


def check_golden(opened: OpenedVersion, engines: Mapping[str, Engine]) -> None:
    """Replay the golden inputs on every entry.

    Raises:
        ArtifactError: an entry answers otherwise, beyond the manifest's tolerance.
    """
    golden = read_golden(opened.path(GOLDEN_FILE))
    # The rows that filter nothing hide only what is always hidden: theirs are the widest masks.
    allowed_B = golden.inputs[CANDIDATE].sum(axis=1)
    filters_nothing_B = allowed_B == allowed_B.max()
    for entry, engine in engines.items():
        rows_B = filters_nothing_B if entry == "unmasked" else np.ones_like(filters_nothing_B)
        inputs = {name: array[rows_B] for name, array in golden.inputs.items()}
        outputs = {name: array[rows_B] for name, array in golden.outputs.items()}
        wanted = {spec.name for spec in engine.inputs}
        got = engine.run({name: array for name, array in inputs.items() if name in wanted})
        parity = compare(outputs, got, opened.manifest.parity)
        if parity.problem is not None:
            raise ArtifactError(
                f"{opened.folder}: golden replay differs on {engine.kind} ({entry}): {parity.problem}; this version is "
                "not served. Build it again, or run `python -m build_engines verify` to see where"
            )


def measure_cost(engines: Mapping[str, Engine], manifest: Manifest, max_items: int) -> CostModel:
    """Warm every entry and fit ``a + b * n`` on this machine, now; the builder's figure is from the builder's machine.

    Takes some tens of milliseconds. The median of a few runs of three sizes; the least squares line through them.
    """
    rng = np.random.default_rng(0)
    sizes: list[int] = []
    times: list[float] = []
    for entry, engine in engines.items():
        for size, repeats in _TIMED:
            if size > max_items:
                continue
            inputs = _dummy(engine, manifest, size, rng)
            took = []
            for _ in range(repeats):
                start = time.perf_counter()
                engine.run(inputs)
                took.append(time.perf_counter() - start)
            if entry == "unmasked" or "unmasked" not in engines:
                sizes.append(size)
                times.append(float(np.median(took)))
    if len(sizes) < 2:
        return CostModel(times[0] / 2, times[0] / 2)
    per_item_s, base_s = np.polyfit(sizes, times, 1)
    return CostModel(max(float(base_s), 0.0), max(float(per_item_s), 1e-7))


def _dummy(
    engine: Engine, manifest: Manifest, size: int, rng: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    rows = int(manifest.parameters["items"])
    shapes = {"B": size, "L": manifest.limits["max_history"], "E": manifest.limits["max_history"], "N": 0}
    shapes["N"] = next(item.shape[0] for item in manifest.constants if item.tensor == tables.POPULARITY)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for spec in engine.inputs:
        shape = [dim if isinstance(dim, int) else shapes[dim] for dim in spec.shape]
        if spec.dtype == "bool":
            arrays[spec.name] = np.ones(shape, dtype=np.bool_)
        else:
            arrays[spec.name] = rng.integers(1, rows + 1, shape).astype(spec.dtype)
    return arrays


def _engines(
    opened: OpenedVersion,
    bound: Mapping[str, npt.NDArray[Any]],
    kind: str,
    threads: int,
    fleet: Fleet | None,
) -> dict[str, Engine]:
    manifest = opened.manifest
    if kind == "triton":
        return _fleet_engines(manifest, fleet)
    wanted = "onnxruntime" if kind == "auto" else kind
    targets = [target for target in manifest.targets if target.kind == wanted]
    if not targets:
        have = sorted({target.kind for target in manifest.targets})
        raise ValueError(
            f"no target for engine {wanted!r}, it has {have}; build with that target in the recipe"
        )
    if wanted != "onnxruntime":
        raise ValueError(
            f"engine {wanted!r} is built into this version, but this server cannot run it yet; use onnxruntime"
        )
    return {target.entry: open_engine(opened, target, bound, threads=threads) for target in targets}


def _fleet_engines(manifest: Manifest, fleet: Fleet | None) -> dict[str, Engine]:
    """Both entries of a version, which ``build_engines package`` lays out as two models."""
    from server.engines.triton import TritonEngine

    if fleet is None:
        raise ValueError("engine 'triton' needs VITRINE_TRITON_HOSTS")
    outputs = tuple(_spec(item) for item in manifest.outputs)
    engines: dict[str, Engine] = {}
    for entry in ("unmasked", "masked"):
        inputs = tuple(_spec(item) for item in manifest.inputs if item.name != CANDIDATE or entry == "masked")
        name = manifest.model + (MASKED_SUFFIX if entry == "masked" else "")
        engines[entry] = TritonEngine(
            fleet.asked, name, manifest.version, inputs=inputs, outputs=outputs, wait_s=fleet.wait_s
        )
    return engines


def open_engine(
    opened: OpenedVersion, target: Target, bound: Mapping[str, npt.NDArray[Any]], *, threads: int = 1
) -> OnnxRuntimeEngine:
    """One entry of a version on ONNX Runtime, its tables bound; the builder writes its golden answers with it."""
    manifest = opened.manifest
    inputs = tuple(
        _spec(item) for item in manifest.inputs if item.name != CANDIDATE or target.entry == "masked"
    )
    outputs = tuple(_spec(item) for item in manifest.outputs)
    engine = OnnxRuntimeEngine(
        opened.path(target.file),
        inputs=inputs,
        outputs=outputs,
        packed=tuple(name for name in bound if name in tables.PACKED),
        fed=tuple(name for name in bound if name not in tables.PACKED),
        threads=threads,
    )
    engine.bind(bound)
    return engine


def contract_of(manifest: Manifest, *, rows: int) -> TensorContract:
    """What may be asked of a version by tensors."""

    def shapes(listed: tuple[TensorInfo, ...]) -> tuple[TensorShape, ...]:
        return tuple(TensorShape(item.name, item.dtype, item.shape) for item in listed)

    limits = manifest.limits
    return TensorContract(
        model=ModelRef(name=manifest.model, version=manifest.version),
        inputs=shapes(manifest.inputs),
        outputs=shapes(manifest.outputs),
        rows=rows,
        max_history=limits["max_history"],
        max_exclude=limits["max_exclude"],
        max_batch=limits["max_batch"],
    )


def _spec(item: TensorInfo) -> TensorSpec:
    return TensorSpec(name=item.name, dtype=item.dtype, shape=item.shape)


def _tiers(
    manifest: Manifest,
    catalogue: Catalogue,
    stored: Mapping[str, npt.NDArray[Any]],
    engines: Mapping[str, Engine],
) -> tuple[RecommendRunner, Fallback]:
    model = ModelRef(name=manifest.model, version=manifest.version)
    decay, window = (
        manifest.parameters["transition_decay"],
        int(manifest.parameters["transition_window"]),
    )
    neighbour_ids, neighbour_weights = stored[tables.NEIGHBOUR_IDS], stored[tables.NEIGHBOUR_WEIGHTS]
    explainer = Explainer(
        catalogue,
        emb_ND=tables.ItemVectors(stored),
        emb_row_N=stored.get(tables.INPUT_ROW),
        neighbour_ids_NM=neighbour_ids,
        neighbour_weights_NM=neighbour_weights,
        decay=decay,
        window=window,
    )
    runner = RecommendRunner(
        model=model,
        catalogue=catalogue,
        engines=engines,
        max_history=manifest.limits["max_history"],
        max_exclude=manifest.limits["max_exclude"],
        explainer=explainer,
        contract=contract_of(manifest, rows=catalogue.rows),
    )
    fallback = Fallback(
        model=model,
        catalogue=catalogue,
        neighbour_ids_NM=neighbour_ids,
        neighbour_weights_NM=neighbour_weights,
        popularity_N=stored[tables.POPULARITY],
        decay=decay,
        window=window,
        explainer=explainer,
    )
    return runner, fallback
