"""Stage 7: a verified candidate into the repository, with its evidence, provenance and report.

Takes a ``Verified`` and nothing else. The copy in the repository is loaded and replayed from disk, as the
server will do it, before it gets its name. The same build is never published twice.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from build_engines.compression.records import step_provenance
from build_engines.compression.step_records import StepRecord
from build_engines.recipe import Recipe
from build_engines.release import Made, place, provenance_of
from build_engines.report import make_report, report_json
from build_engines.report_frame import REPORT_HTML, REPORT_JSON
from build_engines.report_html import report_html
from build_engines.states import Published, Verified
from build_engines.triton.graph import write_self_contained
from build_engines.version_files import draft_manifest, link_folder, with_files
from server.artifacts.manifest import MANIFEST_FILE, CompressionStep, Provenance
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion
from server.artifacts.schema import encode_manifest
from server.pipelines.loading import load_model


def publish(
    verified: Verified, recipe: Recipe, releases: Releases, scratch: Path, *, again: bool = False
) -> Published:
    """Publish, unless this very build is in the repository already.

    Args:
        verified: what passed the gate.
        recipe: for its name, limits and text.
        releases: the repository.
        scratch: an empty folder to assemble the version in, on the workspace's disk.
        again: publish even if it is there.

    Raises:
        ArtifactError: the repository is busy or full, or the copy does not reproduce its golden answers.
    """
    placed = place(
        releases,
        recipe,
        [verified.content],
        lambda staging, build: assemble(staging, verified, recipe, build),
        replay,
        scratch=scratch,
        again=again,
    )
    return Published(verified=verified, opened=placed.opened, new=placed.new, current=placed.current)


def replay(opened: OpenedVersion) -> None:
    """Load a version as the server does, golden answers included.

    Raises:
        ArtifactError: it would not serve; says why.
    """
    load_model(opened, engine="onnxruntime")


def assemble(staging: Path, verified: Verified, recipe: Recipe, build: str) -> None:
    """Lay out a version: engines, tables, items, golden answers, report, manifest."""
    link_folder(verified.output.folder / "candidate", staging)
    record, exported = verified.record, verified.compiled.exported
    targets = tuple(
        msgspec.structs.replace(target, cost=record.cost, proven="gated")
        if target.kind == "onnxruntime"
        else target
        for target in verified.compiled.record.targets
    )
    provenance = _provenance(verified, recipe, build)
    report = make_report(
        verified,
        model=recipe.model.name,
        description=recipe.model.description,
        metric=recipe.gate.metric,
        targets=targets,
        provenance=provenance,
    )
    (staging / REPORT_JSON).write_bytes(report_json(report))
    (staging / REPORT_HTML).write_text(report_html(report), encoding="utf-8")
    draft = draft_manifest(
        recipe.model.name, staging, exported.record.graph, targets, record.tolerance, _figures(verified)
    )
    manifest = msgspec.structs.replace(
        draft,
        evidence=record.evidence,
        flags=record.flags,
        calibration=exported.quantized.record.calibration,
        provenance=provenance,
    )
    write_self_contained(staging, manifest.constants, targets)
    (staging / MANIFEST_FILE).write_bytes(encode_manifest(with_files(manifest, staging)))


def _figures(verified: Verified) -> dict[str, float]:
    record = verified.record
    figures = {name: value for name, value in record.test["candidate"].metrics.items() if value is not None}
    figures["items"] = float(verified.compiled.exported.quantized.trained.loaded.record.items)
    figures["size_bytes"] = float(record.sizes_bytes["candidate"])
    for row in record.speed:
        figures[f"speedup_batch_{row.batch_size}"] = row.speedup
    return figures


def _mixed(record: StepRecord | None) -> tuple[CompressionStep, ...]:
    return () if record is None else (step_provenance(record),)


def _provenance(verified: Verified, recipe: Recipe, build: str) -> Provenance:
    compiled = verified.compiled
    quantized = compiled.exported.quantized
    trained = quantized.trained
    states: tuple[Made, ...] = (
        trained.loaded,
        *trained.line,
        quantized,
        compiled.exported,
        compiled,
        verified,
    )
    seeds = {**trained.record.seeds, "gate": recipe.gate.seed, "calibration": recipe.quantize.seed}
    if recipe.data.sample_shop is not None:
        seeds["sample_shop"] = recipe.data.sample_shop.seed
    return provenance_of(
        recipe,
        build,
        states,
        data=trained.loaded.record.sources,
        hardware=verified.record.hardware,
        seeds=seeds,
        chain=(*(one.provenance() for one in trained.chain), *_mixed(quantized.record.mixed)),
    )
