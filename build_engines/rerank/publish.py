"""Stage 7 of a re-ranker: a verified engine into the repository, with its features, evidence, provenance and report.

Keeps the contract of ``server.pipelines.rerank_loading``; the copy is loaded as the server does it, golden rows and golden lists
included, before it gets its name.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np

from build_engines.own_model.publish import draft_of
from build_engines.own_model.recipe_parts import ServePart
from build_engines.own_model.report import (
    REPORT_HTML,
    REPORT_JSON,
    make_own_report,
    own_report_html,
    report_json,
)
from build_engines.own_model.states import CANDIDATE
from build_engines.release import place, provenance_of
from build_engines.report_frame import StepTaken
from build_engines.rerank.recipe import RerankRecipe
from build_engines.rerank.states import RerankPublished, RerankTrained, RerankVerified
from build_engines.rerank.train import FEATURES_FILE, TABLES_FOLDER
from build_engines.rerank.verify import RERANKER
from build_engines.version_files import link_folder, with_files
from server.artifacts.golden import GOLDEN_FILE
from server.artifacts.manifest import MANIFEST_FILE, Constant, Provenance
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion
from server.artifacts.schema import encode_manifest
from server.domain import RERANK_TASK
from server.encoding.catalogue import ITEM_COLUMNS_FILE, ITEM_IDS_FILE
from server.encoding.rerank_features import TABLES, FeatureDeclaration
from server.pipelines.rerank_loading import GOLDEN_LISTS_FILE, load_reranker


def publish(
    verified: RerankVerified, recipe: RerankRecipe, releases: Releases, scratch: Path, *, again: bool = False
) -> RerankPublished:
    """Publish, unless this very build is in the repository already.

    Raises:
        ArtifactError: the repository is busy or full, or the copy does not reproduce its golden answers.
    """
    placed = place(
        releases,
        recipe,
        [verified.content],
        lambda staging, build: _assemble(staging, verified, recipe, build),
        replay_reranker,
        scratch=scratch,
        again=again,
    )
    return RerankPublished(verified=verified, opened=placed.opened, new=placed.new, current=placed.current)


def replay_reranker(opened: OpenedVersion) -> None:
    """Load a version as the server does, golden answers included.

    Raises:
        ArtifactError: it would not serve; says why.
    """
    load_reranker(opened).runner.close()


def _assemble(staging: Path, verified: RerankVerified, recipe: RerankRecipe, build: str) -> None:
    compiled, record, trained = verified.compiled, verified.record, verified.trained
    link_folder(compiled.output.folder / CANDIDATE, staging)
    for folder, name in (
        (verified.output.folder, GOLDEN_FILE),
        (verified.output.folder, GOLDEN_LISTS_FILE),
        (trained.output.folder, FEATURES_FILE),
        (trained.output.folder, ITEM_IDS_FILE),
        (trained.output.folder, ITEM_COLUMNS_FILE),
    ):
        shutil.copyfile(folder / name, staging / name)
    link_folder(trained.output.folder / TABLES_FOLDER, staging / TABLES_FOLDER)
    provenance = _provenance(verified, recipe, build)
    states = (trained.candidates, trained, compiled.quantized, compiled, verified)
    report = make_own_report(
        compiled,
        model=recipe.model.name,
        description=recipe.model.description,
        steps=tuple(
            StepTaken(stage=one.output.stage, seconds=one.output.seconds, notes=one.notes) for one in states
        ),
        evidence=record.engine.evidence,
        quality={
            f"{name}, {who}": value for who, some in record.lists.items() for name, value in some.items()
        },
        speed=record.engine.speed,
        cost=record.engine.cost,
        provenance=provenance,
    )
    (staging / REPORT_JSON).write_bytes(report_json(report))
    (staging / REPORT_HTML).write_text(own_report_html(report), encoding="utf-8")
    draft = draft_of(
        compiled,
        ServePart(max_batch=recipe.serve.max_batch),
        model=recipe.model.name,
        task=RERANK_TASK,
        cost=record.engine.cost,
        tolerance=record.engine.tolerance,
        evidence=record.engine.evidence,
        figures={
            **record.lists[RERANKER],
            "size_bytes": float(compiled.record.sizes_bytes[CANDIDATE]),
            "parameters": float(trained.graph.parameters),
            **{f"speedup_batch_{row.batch_size}": row.speedup for row in record.engine.speed},
        },
        provenance=provenance,
    )
    manifest = msgspec.structs.replace(
        draft,
        limits={
            **draft.limits,
            "max_candidates": trained.candidates.record.candidates,
            "max_history": trained.record.max_history,
        },
        parameters=_declared(trained),
        constants=tuple(_constant(staging, name) for name in TABLES),
    )
    (staging / MANIFEST_FILE).write_bytes(encode_manifest(with_files(manifest, staging)))


def _declared(trained: RerankTrained) -> dict[str, float]:
    file = trained.output.folder / FEATURES_FILE
    return msgspec.json.decode(file.read_bytes(), type=FeatureDeclaration).parameters()


def _constant(staging: Path, name: str) -> Constant:
    file = f"{TABLES_FOLDER}/{name}.npy"
    table = np.load(staging / file, mmap_mode="r")
    return Constant(tensor=name, file=file, dtype=str(table.dtype), shape=table.shape)


def _provenance(verified: RerankVerified, recipe: RerankRecipe, build: str) -> Provenance:
    compiled, trained = verified.compiled, verified.trained
    loaded, first = trained.candidates.loaded, trained.candidates.record
    data = {**loaded.record.sources, "first_stage": f"{first.first_model} version {first.first_version}"}
    seeds = {"training": recipe.train.seed, "gate": recipe.gate.seed, "calibration": recipe.quantize.seed}
    if recipe.data.sample_shop is not None:
        seeds["sample_shop"] = recipe.data.sample_shop.seed
    states = (loaded, trained.candidates, trained, compiled.quantized, compiled, verified)
    return provenance_of(
        recipe, build, states, data=data, hardware=verified.record.engine.hardware, seeds=seeds
    )
