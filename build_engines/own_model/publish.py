"""Stage 5 of somebody's own model: a verified engine into the repository, with its evidence, provenance and report.

Keeps the contract of ``server.pipelines.tensor_loading``. The copy in the repository is loaded and replayed as the server does it
before it gets its name; the same build is never published twice.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from build_engines.hardware import packages
from build_engines.own_model.compile import SOURCE_FILE
from build_engines.own_model.recipe import OwnRecipe
from build_engines.own_model.recipe_parts import ServePart
from build_engines.own_model.report import (
    REPORT_HTML,
    REPORT_JSON,
    make_own_report,
    own_report_html,
    report_json,
)
from build_engines.own_model.states import CANDIDATE, OwnCompiled, OwnLoaded, OwnPublished, OwnVerified
from build_engines.release import place, provenance_of
from build_engines.report_frame import StepTaken
from build_engines.version_files import link_folder, with_files
from server.artifacts.golden import GOLDEN_FILE
from server.artifacts.manifest import (
    MANIFEST_FILE,
    SCHEMA_VERSION,
    Cost,
    Manifest,
    Measurement,
    Provenance,
    Tolerance,
)
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion
from server.artifacts.schema import encode_manifest
from server.pipelines.tensor_loading import TENSOR_TASK, load_tensors


def publish(
    verified: OwnVerified, recipe: OwnRecipe, releases: Releases, scratch: Path, *, again: bool = False
) -> OwnPublished:
    """Publish, unless this very build is in the repository already.

    Raises:
        ArtifactError: the repository is busy or full, or the copy does not reproduce its golden answers.
    """
    placed = place(
        releases,
        recipe,
        [verified.content],
        lambda staging, build: _assemble(staging, verified, recipe, build),
        replay_tensors,
        scratch=scratch,
        again=again,
    )
    return OwnPublished(verified=verified, opened=placed.opened, new=placed.new, current=placed.current)


def replay_tensors(opened: OpenedVersion) -> None:
    """Load a version as the server does, golden answers included.

    Raises:
        ArtifactError: it would not serve; says why.
    """
    load_tensors(opened).engine.close()


def draft_of(
    compiled: OwnCompiled,
    serve: ServePart,
    *,
    model: str,
    task: str,
    cost: Cost,
    tolerance: Tolerance,
    evidence: tuple[Measurement, ...],
    figures: dict[str, float],
    provenance: Provenance,
) -> Manifest:
    """The manifest of a compiled graph; files, limits and parameters of its own are whoever's who publishes it."""
    record, graph = compiled.record, compiled.quantized.source.graph
    gated = msgspec.structs.replace(
        record.targets[0],
        cost=cost,
        proven="gated",
        built_with={**packages(), **record.targets[0].built_with},
    )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=model,
        version="0",
        task=task,
        created_unix_s=0.0,
        graph=SOURCE_FILE if len(record.targets) > 1 else gated.file,
        files=(),
        inputs=graph.inputs,
        outputs=graph.outputs,
        constants=(),
        limits={"max_batch": serve.max_batch, **{f"max_{name}": most for name, most in serve.dims.items()}},
        parameters={},
        targets=(gated, *record.targets[1:]),
        parity=tolerance,
        evidence=evidence,
        figures=figures,
        provenance=provenance,
        calibration=compiled.quantized.record.calibration,
    )


def _assemble(staging: Path, verified: OwnVerified, recipe: OwnRecipe, build: str) -> None:
    compiled, record = verified.compiled, verified.record
    quantized = compiled.quantized
    source = quantized.source
    assert isinstance(source, OwnLoaded), "this line's own source"
    link_folder(compiled.output.folder / CANDIDATE, staging)
    shutil.copyfile(verified.output.folder / GOLDEN_FILE, staging / GOLDEN_FILE)
    states = (source, quantized, compiled, verified)
    provenance = provenance_of(
        recipe,
        build,
        states,
        data=source.record.sources,
        hardware=record.hardware,
        seeds={"gate": recipe.gate.seed, "calibration": recipe.quantize.seed},
    )
    steps = tuple(
        StepTaken(stage=state.output.stage, seconds=state.output.seconds, notes=state.notes)
        for state in states
    )
    report = make_own_report(
        compiled,
        model=recipe.model.name,
        description=recipe.model.description,
        steps=steps,
        evidence=record.evidence,
        quality={f"{record.metric}, {name}": value for name, value in record.quality.items()},
        speed=record.speed,
        cost=record.cost,
        provenance=provenance,
    )
    (staging / REPORT_JSON).write_bytes(report_json(report))
    (staging / REPORT_HTML).write_text(own_report_html(report), encoding="utf-8")
    figures = {
        "size_bytes": float(compiled.record.sizes_bytes[CANDIDATE]),
        "parameters": float(source.graph.parameters),
    }
    if record.metric:
        figures[record.metric] = record.quality[CANDIDATE]
    figures |= {f"speedup_batch_{row.batch_size}": row.speedup for row in record.speed}
    manifest = draft_of(
        compiled,
        recipe.serve,
        model=recipe.model.name,
        task=TENSOR_TASK,
        cost=record.cost,
        tolerance=record.tolerance,
        evidence=record.evidence,
        figures=figures,
        provenance=provenance,
    )
    (staging / MANIFEST_FILE).write_bytes(encode_manifest(with_files(manifest, staging)))
