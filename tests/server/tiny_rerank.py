"""A real but tiny re-ranker, published in a fraction of a second: a graph of a few nodes, real features, engine and golden lists.

Its logit is a weight times the popularity feature plus a number by item bucket, so that versions with another sign rank the other
way round. Nothing is trained and nothing is mocked.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from build_engines.onnx_writer import OnnxWriter, save_model
from server.artifacts.golden import GOLDEN_FILE, Golden, write_golden
from server.artifacts.manifest import (
    MANIFEST_FILE,
    SCHEMA_VERSION,
    Constant,
    Cost,
    Manifest,
    Measurement,
    Provenance,
    Target,
    TensorInfo,
    Tolerance,
)
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion, describe_folder
from server.artifacts.schema import encode_manifest
from server.domain import RERANK_TASK
from server.encoding.catalogue import ITEM_COLUMNS_FILE, ITEM_IDS_FILE, write_catalogue
from server.encoding.rerank_features import (
    LOG_POPULARITY,
    LOG_PRICE,
    PAIR_COUNTS,
    PAIR_KEYS,
    TABLES,
    FeatureDeclaration,
    RerankFeatures,
    count_pairs,
    dense_names,
    sparse_names,
)
from server.engines.base import TensorSpec
from server.engines.onnxruntime import OnnxRuntimeEngine
from server.pipelines.rerank import DENSE, LOGIT, SPARSE
from server.pipelines.rerank_loading import (
    FEATURES_FILE,
    GOLDEN_LISTS_FILE,
    GoldenList,
    load_reranker,
)

ATTRIBUTES = ("category", "brand")
BUCKETS = 64
CANDIDATES = 10


def declared(salt: int = 1, max_history: int = 5) -> FeatureDeclaration:
    """Features of the tiny shop."""
    return FeatureDeclaration(
        attributes=ATTRIBUTES,
        buckets=dict.fromkeys(sparse_names(ATTRIBUTES), BUCKETS),
        salt=salt,
        max_history=max_history,
        dense=dense_names(ATTRIBUTES),
    )


def tiny_features(item_ids: Sequence[str], declaration: FeatureDeclaration | None = None) -> RerankFeatures:
    """Features with popularity rising along the rows."""
    return RerankFeatures(declaration or declared(), item_ids, columns_of(item_ids), tables_of(item_ids))


def columns_of(item_ids: Sequence[str]) -> dict[str, list[str | None]]:
    count = len(item_ids)
    return {
        "category": [f"category {at % 3}" if at % 7 else None for at in range(count)],
        "brand": [f"brand {at % 5}" for at in range(count)],
    }


def tables_of(item_ids: Sequence[str]) -> dict[str, np.ndarray]:
    count = len(item_ids)
    price = np.linspace(-1, 1, count + 1).astype(np.float32)
    price[::11] = np.nan
    logs = np.random.default_rng(0).integers(1, count + 1, 400).astype(np.int32)
    keys, counts = count_pairs(np.arange(0, 401, 8), logs, count)
    return {
        LOG_PRICE: price,
        LOG_POPULARITY: np.linspace(0, 3, count + 1).astype(np.float32),
        PAIR_KEYS: keys,
        PAIR_COUNTS: counts,
    }


def publish_tiny_reranker(
    repository: Path,
    item_ids: Sequence[str],
    *,
    model: str = "tiny-rerank",
    weight: float = 1.0,
    slow: int = 0,
) -> OpenedVersion:
    """Publish a version whose order is that of popularity times ``weight``; ``slow`` products make it slower."""
    with tempfile.TemporaryDirectory() as scratch:
        staging = Path(scratch)
        features = tiny_features(item_ids)
        _write_graph(staging / "model.onnx", features, weight, slow)
        write_catalogue(staging / ITEM_IDS_FILE, staging / ITEM_COLUMNS_FILE, item_ids, columns_of(item_ids))
        (staging / FEATURES_FILE).write_bytes(msgspec.json.encode(features.declaration))
        (staging / "tables").mkdir()
        tables = tables_of(item_ids)
        for name in TABLES:
            np.save(staging / "tables" / f"{name}.npy", tables[name])
        inputs, outputs = _tensors(features)
        engine = OnnxRuntimeEngine(staging / "model.onnx", inputs=inputs, outputs=outputs)
        golden_lists = [_golden_list(features, engine, item_ids, at) for at in range(3)]
        (staging / GOLDEN_LISTS_FILE).write_bytes(msgspec.json.encode(golden_lists))
        rows = features.rows([[1, 2]], [[3, 4, 5]], [[3.0, 2.0, 1.0]])
        asked = {DENSE: rows.dense_RF, SPARSE: rows.sparse_RS}
        write_golden(staging / GOLDEN_FILE, Golden(inputs=asked, outputs=engine.run(asked)))
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            model=model,
            version="0",
            task=RERANK_TASK,
            created_unix_s=0.0,
            graph="model.onnx",
            files=describe_folder(staging),
            inputs=tuple(TensorInfo(name=one.name, dtype=one.dtype, shape=one.shape) for one in inputs),
            outputs=tuple(TensorInfo(name=one.name, dtype=one.dtype, shape=one.shape) for one in outputs),
            constants=tuple(
                Constant(
                    tensor=name,
                    file=f"tables/{name}.npy",
                    dtype=str(tables[name].dtype),
                    shape=tables[name].shape,
                )
                for name in TABLES
            ),
            limits={"max_batch": 80, "max_candidates": CANDIDATES, "max_history": 5},
            parameters=features.declaration.parameters(),
            targets=(
                Target(
                    kind="onnxruntime",
                    file="model.onnx",
                    precision="fp32",
                    proven="gated",
                    cost=Cost(base_s=1e-4, per_item_s=1e-6),
                ),
            ),
            parity=Tolerance(score_abs=1e-4),
            evidence=(
                Measurement(
                    kind="floor",
                    name="f",
                    value=1,
                    unit="",
                    limit=1,
                    sense="at_least",
                    verdict="pass",
                    sample_size=9,
                ),
            ),
            figures={},
            provenance=Provenance(recipe="", recipe_sha256=""),
        )
        (staging / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
        return Releases(repository=repository).publish(
            staging, model, check=lambda opened: load_reranker(opened).runner.close()
        )


def expected_order(item_ids: Sequence[str], weight: float = 1.0) -> list[str]:
    """How the tiny re-ranker orders: by number of the item, as popularity rises with it."""
    return sorted(item_ids, key=lambda one: int(one.rpartition("-")[2]), reverse=weight > 0)


def _tensors(features: RerankFeatures) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    dense, sparse = len(features.declaration.dense), len(features.declaration.buckets)
    return (
        (
            TensorSpec(name=DENSE, dtype="float32", shape=("B", dense)),
            TensorSpec(name=SPARSE, dtype="int32", shape=("B", sparse)),
        ),
        (TensorSpec(name=LOGIT, dtype="float32", shape=("B",)),),
    )


def _write_graph(path: Path, features: RerankFeatures, weight: float, slow: int) -> None:
    names = features.declaration.dense
    w = OnnxWriter("tiny-rerank")
    dense = w.input(DENSE, "float32", ["B", len(names)])
    sparse = w.input(SPARSE, "int32", ["B", len(features.declaration.buckets)])
    weights = np.zeros((len(names), 1), np.float32)
    weights[names.index("log_popularity")] = weight * 100
    for _ in range(slow):
        big = w.op("MatMul", dense, w.constant(np.zeros((len(names), 2048), np.float32), name="wide"))
        back = w.op("MatMul", big, w.constant(np.zeros((2048, len(names)), np.float32), name="narrow"))
        dense = w.op("Add", dense, back)
    column = w.op("MatMul", dense, w.constant(weights))
    table = w.constant(np.linspace(0, 1e-3, BUCKETS, dtype=np.float32)[:, None], name="table")
    buckets = w.op("Gather", table, w.op("Gather", sparse, w.ints(0), axis=1))
    logit = w.op("Add", w.op("Squeeze", column, w.ints(1)), w.op("Squeeze", buckets, w.ints(1, 2)))
    save_model(w.model({LOGIT: (logit, "float32", ["B"])}), path)


def _golden_list(
    features: RerankFeatures, engine: OnnxRuntimeEngine, item_ids: Sequence[str], at: int
) -> GoldenList:
    history, candidates = tuple(item_ids[at : at + 2]), tuple(item_ids[at + 2 : at + 8])
    scores = tuple(float(6 - one) for one in range(6))
    row = features.index.row
    made = features.rows([[row(one) for one in history]], [[row(one) for one in candidates]], [scores])
    logits = engine.run({DENSE: made.dense_RF, SPARSE: made.sparse_RS})[LOGIT]
    return GoldenList(history=history, item_ids=candidates, scores=scores, logits=tuple(logits.tolist()))
