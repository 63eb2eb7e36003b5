"""A small published version, made by hand, for the tests of ``server.artifacts``."""

from __future__ import annotations

import uuid
from pathlib import Path

import msgspec
import numpy as np

from server.artifacts.golden import Golden, write_golden
from server.artifacts.manifest import (
    MANIFEST_FILE,
    SCHEMA_VERSION,
    BatchTime,
    Constant,
    Cost,
    Manifest,
    Measurement,
    Provenance,
    Target,
    TensorInfo,
    Tolerance,
)
from server.artifacts.repository import describe_folder
from server.artifacts.schema import encode_manifest

PASSED = Measurement(
    kind="parity",
    name="overlap",
    value=1.0,
    unit="ratio",
    limit=0.99,
    sense="at_least",
    verdict="pass",
    sample_size=8,
)


def make_staging(parent: Path, *, mark: str = "a", model: str = "shop", graph_bytes: int = 3000) -> Path:
    """A folder that can be published; its graph is full of ``mark``, so that versions can be told apart."""
    folder = parent / f"staging-{uuid.uuid4().hex}"
    (folder / "tables").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(mark.encode() * graph_bytes)
    np.save(folder / "tables" / "item_emb_q8t.npy", np.arange(12, dtype=np.int8).reshape(3, 4))
    (folder / "item_ids.json").write_text('["sku-1", "sku-2"]', encoding="utf-8")
    golden = Golden(
        inputs={"item_ids": np.ones((2, 3), np.int32)}, outputs={"scores": np.ones((2, 2), np.float32)}
    )
    write_golden(folder / "golden.npz", golden)
    write_manifest(folder, make_manifest(folder, model=model))
    return folder


def make_manifest(folder: Path, *, model: str = "shop", version: str = "0") -> Manifest:
    """A manifest that is true of ``folder``."""
    cost = Cost(
        base_s=1e-4,
        per_item_s=2e-5,
        measured=(BatchTime(batch_size=1, median_s=1.2e-4, p90_s=1.3e-4, repeats=50),),
        hardware="2 cores",
    )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=model,
        version=version,
        task="recommendation",
        created_unix_s=0.0,
        graph="model.onnx",
        files=describe_folder(folder),
        inputs=(TensorInfo(name="item_ids", dtype="int32", shape=("B", "L")),),
        outputs=(TensorInfo(name="scores", dtype="float32", shape=("B", "K")),),
        constants=(
            Constant(tensor="item_emb_q8t", file="tables/item_emb_q8t.npy", dtype="int8", shape=(3, 4)),
        ),
        limits={"max_batch": 32, "max_history": 50, "max_k": 100, "max_exclude": 0},
        parameters={"decay": 0.7, "window": 5},
        targets=(Target(kind="onnxruntime", file="model.onnx", precision="int8", proven="gated", cost=cost),),
        parity=Tolerance(score_abs=1e-3, min_overlap=0.9),
        evidence=(PASSED,),
        figures={"ndcg@10": 0.05},
        provenance=Provenance(recipe="[model]\n", recipe_sha256="0" * 64),
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put ``manifest`` into ``folder``."""
    (folder / MANIFEST_FILE).write_bytes(encode_manifest(manifest))


def edit_manifest(folder: Path, **changes: object) -> None:
    """Change raw JSON keys of a manifest on disk, sensible or not."""
    path = folder / MANIFEST_FILE
    raw = msgspec.json.decode(path.read_bytes())
    raw.update(changes)
    path.write_bytes(msgspec.json.encode(raw))


def mark_of(folder: Path) -> str:
    """The mark that ``make_staging`` gave to what is published in ``folder``."""
    return (folder / "model.onnx").read_bytes()[:1].decode()
