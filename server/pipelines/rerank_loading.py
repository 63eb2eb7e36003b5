"""From an opened version of a re-ranker to a runner that may serve: features, engine, golden rows, golden lists.

A version holds, beside what every model of tensors has: ``features.json`` and its tables, item ids and the columns that are
read, and ``golden_lists.json``: histories, candidates and the logits that they got when the version was judged. These are
replayed through features *and* engine, so that a change of either that moves an answer is found before it serves.

Units: seconds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec
import numpy as np

from server.artifacts.errors import ArtifactError
from server.artifacts.repository import OpenedVersion
from server.batching.cost import CostModel
from server.batching.policy import BatchLimits
from server.domain import RERANK_TASK, ModelInfo
from server.encoding.catalogue import ITEM_COLUMNS_FILE, ITEM_IDS_FILE, load_catalogue
from server.encoding.rerank_features import FeatureDeclaration, RerankFeatures
from server.pipelines.rerank import LOGIT, RerankAsk, RerankRunner
from server.pipelines.tensor_loading import load_tensors

FEATURES_FILE, GOLDEN_LISTS_FILE = "features.json", "golden_lists.json"
_REPEATS = 8


class GoldenList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One list as it was judged: logits are parallel to ``item_ids``."""

    history: tuple[str, ...]
    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    logits: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedReranker:
    """One version, ready to serve.

    Attributes:
        info: as ``GET /v1/models`` lists it.
        runner: what ranks.
        limits: of a batch, in requests of ``max_candidates`` each.
        cost: of a batch of such requests on this machine.
        max_candidates: of one request.
    """

    info: ModelInfo
    runner: RerankRunner
    limits: BatchLimits
    cost: CostModel
    max_candidates: int


def load_reranker(opened: OpenedVersion, *, threads: int = 1, candidates: int = 0) -> LoadedReranker:
    """Load, warm and check one version.

    Args:
        opened: a verified version.
        threads: of the CPU engine.
        candidates: of one request, at most the version's own limit; 0: that.

    Raises:
        ArtifactError: no re-ranker, features that this code does not make, or golden answers that are not reproduced; says
            which and what to do.
    """
    manifest = opened.manifest
    where = f"{manifest.model} version {manifest.version}"
    tensors = load_tensors(opened, task=RERANK_TASK, threads=threads)
    try:
        features = load_features(opened)
        runner = RerankRunner(features, tensors.engine)
        check_golden_lists(opened, runner)
    except KeyError as error:
        raise ArtifactError(f"{where}: {error} is missing; build and publish it again") from error
    except (ValueError, RuntimeError, OSError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{where}: cannot be loaded: {error}; build and publish it again") from error
    most = manifest.limits["max_candidates"]
    count = min(candidates, most) if candidates else most
    limits = BatchLimits(max_items=max(1, manifest.limits["max_batch"] // count), max_wait_s=0.0)
    return LoadedReranker(
        info=tensors.info,
        runner=runner,
        limits=limits,
        cost=measure_cost(runner, count, limits.max_items),
        max_candidates=count,
    )


def measure_cost(runner: RerankRunner, candidates: int, most: int) -> CostModel:
    """Fit ``a + b * n`` requests on this machine, features included, from a few runs of two sizes."""
    ids = runner.features.index.ids[1:]
    listed = tuple(ids[at % len(ids)] for at in range(candidates)) if ids else ("",) * candidates
    history = listed[: runner.features.declaration.max_history]
    ask = RerankAsk(history, listed, tuple(float(candidates - at) for at in range(candidates)))
    times = {}
    for size in (1, min(most, 8)):
        packed = runner.pack([ask] * size)
        took = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            runner.run(packed)
            took.append(time.perf_counter() - start)
        times[size] = float(np.median(took))
    if len(times) < 2:
        return CostModel(times[1], 0.0)
    large = max(times)
    per_item_s = max((times[large] - times[1]) / (large - 1), 1e-7)
    return CostModel(max(times[1] - per_item_s, 0.0), per_item_s)


def load_features(opened: OpenedVersion) -> RerankFeatures:
    """Features of a version, held against what its manifest declares.

    Raises:
        ValueError: they do not go together; says which.
    """
    manifest = opened.manifest
    declared = msgspec.json.decode(opened.path(FEATURES_FILE).read_bytes(), type=FeatureDeclaration)
    hashing = {name: manifest.parameters.get(name) for name in declared.parameters()}
    if hashing != declared.parameters():
        raise ValueError(f"{FEATURES_FILE} hashes as {declared.parameters()}, the manifest says {hashing}")
    if declared.max_history != manifest.limits["max_history"]:
        raise ValueError(f"{FEATURES_FILE} reads {declared.max_history} items, the manifest says otherwise")
    catalogue = load_catalogue(opened.path(ITEM_IDS_FILE), opened.path(ITEM_COLUMNS_FILE))
    return RerankFeatures(declared, catalogue.index.ids[1:], catalogue.columns, opened.constants(mmap=False))


def check_golden_lists(opened: OpenedVersion, runner: RerankRunner) -> None:
    """Replay the golden lists through features and engine.

    Raises:
        ArtifactError: a logit differs beyond the manifest's tolerance; names the list.
        ValueError: there are none.
    """
    golden = msgspec.json.decode(opened.path(GOLDEN_LISTS_FILE).read_bytes(), type=list[GoldenList])
    if not golden:
        raise ValueError(f"{GOLDEN_LISTS_FILE} holds no lists")
    tolerance = opened.manifest.parity
    for number, one in enumerate(golden):
        packed = runner.pack([RerankAsk(one.history, one.item_ids, one.scores)])
        found, wanted = runner.run(packed)[LOGIT], np.array(one.logits)
        apart = np.abs(found - wanted) - tolerance.score_rel * np.abs(wanted)
        if found.shape != wanted.shape or not float(apart.max()) <= tolerance.score_abs:
            raise ArtifactError(
                f"{opened.folder}: golden list {number} is ranked by other logits than in the gate ({float(apart.max()):.3g} "
                f"apart, tolerance is {tolerance.score_abs:.3g}): features or engine have changed; build it again"
            )
