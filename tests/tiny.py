"""A real but tiny recommender, exported, compiled and published in about a second: what server tests serve.

300 items of random vectors, with transition counts; nothing is trained and nothing is mocked. Score order is known only
through the model, so tests compare with ``reference`` (numpy) where they need an answer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from build_engines.compile import TargetSpec, compile_graph, load_bound
from build_engines.export import Ingredients, export_graph, stored_tables
from build_engines.models.mix import MixConfig, mix_scores_BN
from build_engines.models.sasrec_graph import Int8Scales
from build_engines.models.transitions import TransitionConfig, build_transitions
from build_engines.quantize import quantize_catalogue
from build_engines.triton.graph import write_self_contained
from server.artifacts.golden import GOLDEN_FILE, Golden, write_golden
from server.artifacts.manifest import SCHEMA_VERSION, Cost, Manifest, Measurement, Provenance, Tolerance
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion, describe_folder
from server.artifacts.schema import encode_manifest
from server.encoding.catalogue import ITEM_COLUMNS_FILE, ITEM_IDS_FILE, write_catalogue
from server.encoding.items import pad_left, pad_right
from server.encoding.tables import PACKED, catalogue_rows
from server.engines.base import TensorSpec
from server.engines.onnxruntime import OnnxRuntimeEngine

ITEMS = 300
DIM = 16
LENGTH = 12
MAX_K = 20


@dataclass(frozen=True)
class Tiny:
    """A published tiny model and what it was made of."""

    repository: Path
    opened: OpenedVersion
    ingredients: Ingredients
    item_ids: list[str]

    def reference(self, histories: list[list[int]]) -> np.ndarray:
        """Scores of every row by numpy alone, history masked."""
        scores_BN = reference_scores(self.ingredients, histories)
        for b, history in enumerate(histories):
            scores_BN[b, history] = -np.inf
        return scores_BN


def ingredients(
    seed: int = 0, *, items: int = ITEMS, blocks: int = 2, mix: MixConfig | None = None
) -> Ingredients:
    """Random weights of the right shapes, and counts from random logs."""
    rng = np.random.default_rng(seed)
    inner = 4 * DIM
    table = rng.standard_normal((items + 1, DIM)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True) * 0.2
    table[0] = 0
    weights: dict[str, np.ndarray] = {
        "item_emb_ND": table,
        "input_scale_N": np.full(items + 1, 0.2 * np.sqrt(DIM), np.float32),
        "position_LD": rng.standard_normal((LENGTH, DIM)).astype(np.float32) * 0.1,
        "final_norm_weight": np.ones(DIM, np.float32),
        "final_norm_bias": np.zeros(DIM, np.float32),
    }
    weights["input_scale_N"][0] = 0
    shapes = {"qkv": (DIM, 3 * DIM), "out": (DIM, DIM), "up": (DIM, inner), "down": (inner, DIM)}
    for block in range(blocks):
        for name, shape in shapes.items():
            matrix = rng.standard_normal(shape) / np.sqrt(shape[0])
            weights[f"blocks.{block}.{name}_weight"] = matrix.astype(np.float32)
            weights[f"blocks.{block}.{name}_bias"] = rng.standard_normal(shape[1]).astype(np.float32) * 0.05
        for name in ("norm1", "norm2"):
            weights[f"blocks.{block}.{name}_weight"] = np.ones(DIM, np.float32)
            weights[f"blocks.{block}.{name}_bias"] = np.zeros(DIM, np.float32)
    logs = [rng.integers(1, items + 1, 8) for _ in range(4 * items)]
    return Ingredients(
        weights=weights,
        transitions=build_transitions(logs, items, TransitionConfig(top_m=8)),
        popularity_N=np.bincount(np.concatenate(logs), minlength=items + 1).astype(np.float32),
        mix=mix or MixConfig(window=3, decay=0.7),
        heads=2,
        max_k=min(MAX_K, items),
        max_batch=8,
        max_exclude=64,
    )


def reference_scores(parts: Ingredients, histories: list[list[int]]) -> np.ndarray:
    """The served score of every row, computed by numpy and torch's formulas from the weights alone."""
    queries_BD = np.stack([_query(parts, history[-LENGTH:]) for history in histories])
    logits_BN = queries_BD @ parts.weights["item_emb_ND"].T
    rows = [np.asarray(history, np.int64) for history in histories]
    return mix_scores_BN(logits_BN.astype(np.float32), parts.transitions, rows, parts.mix, parts.popularity_N)


def publish_tiny(
    repository: Path,
    *,
    model: str = "tiny",
    seed: int = 0,
    int8: bool = False,
    parts: Ingredients | None = None,
    pack: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] | None = None,
) -> Tiny:
    """Export, compile for ONNX Runtime, and publish; ``pack`` makes smaller tables of the FP32 ones."""
    parts = parts or ingredients(seed)
    item_ids = [f"sku-{row}" for row in range(1, parts.items + 1)]
    with tempfile.TemporaryDirectory() as scratch:
        staging = Path(scratch)
        stored = stored_tables(parts)
        scales = Int8Scales(scoring=1 / 127) if int8 or pack else None
        if pack is not None:
            stored = pack(stored)
        elif int8:
            stored = quantize_catalogue(stored)
        record = export_graph(staging, parts, stored=stored, int8=scales)
        targets = compile_graph(staging, staging, record, [TargetSpec(kind="onnxruntime")])
        columns = {
            "title": [f"Product {row}" for row in range(1, parts.items + 1)],
            "category": ["shoes" if row % 3 == 0 else "bags" for row in range(1, parts.items + 1)],
            "brand": [f"brand-{row % 7}" for row in range(1, parts.items + 1)],
            "price": [None if row % 50 == 0 else float(row) for row in range(1, parts.items + 1)],
            "in_stock": [row % 10 != 0 for row in range(1, parts.items + 1)],
        }
        write_catalogue(staging / ITEM_IDS_FILE, staging / ITEM_COLUMNS_FILE, item_ids, columns)
        _golden(staging, record, targets)
        write_self_contained(staging, record.tables, targets)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            model=model,
            version="0",
            task="recommendation",
            created_unix_s=0.0,
            graph=record.file,
            files=describe_folder(staging),
            inputs=record.inputs,
            outputs=record.outputs,
            constants=record.tables,
            limits=record.limits,
            parameters=record.parameters,
            targets=tuple(_with_cost(target) for target in targets),
            parity=Tolerance(score_abs=1e-3, score_rel=1e-3),
            evidence=(_evidence("parity"), _evidence("floor"), _evidence("quality")),
            figures={"items": float(parts.items)},
            provenance=Provenance(recipe="tests/tiny.py", recipe_sha256="0" * 64),
        )
        (staging / "manifest.json").write_bytes(encode_manifest(manifest))
        opened = Releases(repository=repository).publish(staging, model)
    return Tiny(repository, opened, parts, item_ids)


def tamper_golden(opened: OpenedVersion) -> None:
    """Make the golden answers of a published version wrong, with hashes that fit: only the replay can tell."""
    from server.artifacts.golden import read_golden

    golden = read_golden(opened.path(GOLDEN_FILE))
    outputs = {name: array[:, ::-1] for name, array in golden.outputs.items()}
    write_golden(opened.path(GOLDEN_FILE), Golden(inputs=golden.inputs, outputs=outputs))
    rehash(opened)


def rehash(opened: OpenedVersion) -> None:
    """Write a manifest whose hashes fit the files as they are now."""
    path = opened.path("manifest.json")
    document = json.loads(path.read_text())
    document["files"] = json.loads(
        json.dumps(
            [
                {"path": e.path, "sha256": e.sha256, "size_bytes": e.size_bytes}
                for e in describe_folder(opened.folder)
            ]
        )
    )
    path.write_text(json.dumps(document))


def _golden(staging: Path, record, targets) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(7)
    histories = [rng.integers(1, int(record.parameters["items"]) + 1, n).tolist() for n in (1, 2, 5, LENGTH)]
    bound = load_bound(staging, record)
    rows = catalogue_rows(bound)
    candidate = np.zeros((len(histories), rows), np.bool_)
    candidate[:, 1 : int(record.parameters["items"]) + 1] = True
    candidate[-1, : rows // 2] = False
    inputs = {
        "item_ids": pad_left(histories, length=LENGTH),
        "exclude_ids": pad_right(histories),
        "candidate": candidate,
    }
    specs = tuple(TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape) for t in record.inputs)
    outs = tuple(TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape) for t in record.outputs)
    masked = next(target for target in targets if target.entry == "masked")
    engine = OnnxRuntimeEngine(
        staging / masked.file,
        inputs=specs,
        outputs=outs,
        packed=tuple(n for n in bound if n in PACKED),
        fed=tuple(n for n in bound if n not in PACKED),
    )
    engine.bind(bound)
    write_golden(staging / GOLDEN_FILE, Golden(inputs=inputs, outputs=engine.run(inputs)))


def _with_cost(target):  # type: ignore[no-untyped-def]
    import msgspec

    return msgspec.structs.replace(target, proven="gated", cost=Cost(base_s=1e-4, per_item_s=1e-5))


def _evidence(kind: str) -> Measurement:
    return Measurement(
        kind=kind,  # type: ignore[arg-type]
        name=f"{kind} of a test model",
        value=1.0,
        unit="",
        limit=1.0,
        sense="at_least",
        verdict="pass",
        sample_size=1,
    )


def _query(parts: Ingredients, history: list[int]) -> np.ndarray:
    """One history through the network, position by position, in float64."""
    w = {name: np.asarray(value, np.float64) for name, value in parts.weights.items()}
    x = (
        w["item_emb_ND"][history] * w["input_scale_N"][history][:, None]
        + w["position_LD"][LENGTH - len(history) :]
    )
    for block in range(2):
        name = f"blocks.{block}"
        y = _norm(x, w, f"{name}.norm1")
        qkv = y @ w[f"{name}.qkv_weight"] + w[f"{name}.qkv_bias"]
        heads = []
        for h in range(parts.heads):
            size = DIM // parts.heads
            q, k, v = (qkv[:, part * DIM + h * size : part * DIM + (h + 1) * size] for part in range(3))
            scores = q @ k.T / np.sqrt(size)
            scores[np.triu_indices(len(history), 1)] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(weights / weights.sum(axis=1, keepdims=True) @ v)
        x = x + np.concatenate(heads, axis=1) @ w[f"{name}.out_weight"] + w[f"{name}.out_bias"]
        y = _norm(x, w, f"{name}.norm2") @ w[f"{name}.up_weight"] + w[f"{name}.up_bias"]
        x = x + _gelu(y) @ w[f"{name}.down_weight"] + w[f"{name}.down_bias"]
    last = _norm(x, w, "final_norm")[-1]
    return last / np.linalg.norm(last)


def _norm(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) * w[f"{name}_weight"] + w[f"{name}_bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))
