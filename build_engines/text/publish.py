"""Stage 5 of a text model: a verified engine into the repository, with its evidence, provenance and report.

Keeps the contract of ``server.pipelines.text_loading``. The copy in the repository is opened and its golden texts are
replayed before it gets its name; the same build is never published twice.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from build_engines.compression.records import step_provenance
from build_engines.hardware import packages
from build_engines.proof.examples import EXAMPLES_FILE
from build_engines.release import Made, place, provenance_of
from build_engines.report_frame import REPORT_HTML, REPORT_JSON
from build_engines.text.checkpoint import TEXT_FILES
from build_engines.text.recipe import TextRecipe
from build_engines.text.records import PackagedRecord
from build_engines.text.report import make_text_report, text_report_html
from build_engines.text.states import CANDIDATE, TextPublished, TextVerified
from build_engines.text.verify import GRAPH_FILE, LIGHT_FILE, open_packaged
from build_engines.version_files import link_folder, with_files
from server.artifacts.golden import GOLDEN_FILE, read_golden
from server.artifacts.manifest import MANIFEST_FILE, SCHEMA_VERSION, Cost, Manifest, Provenance, Target
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion
from server.artifacts.schema import encode_manifest
from server.pipelines.text_golden import replay_golden
from server.text_domain import TEXT_TASK

DEMONSTRATION = "demonstration"
_REPLAY_CAPACITY = 1024


def publish(
    verified: TextVerified, recipe: TextRecipe, releases: Releases, scratch: Path, *, again: bool = False
) -> TextPublished:
    """Publish, unless this very build is in the repository already.

    Raises:
        ArtifactError: the repository is busy or full, or the copy does not reproduce its golden texts.
    """
    placed = place(
        releases,
        recipe,
        [verified.content, recipe.model.demonstration],
        lambda staging, build: assemble(staging, verified, recipe, build),
        replay_text,
        scratch=scratch,
        again=again,
    )
    return TextPublished(verified=verified, opened=placed.opened, new=placed.new, current=placed.current)


def replay_text(opened: OpenedVersion) -> None:
    """Open a version's engine and hold it against its golden texts.

    Raises:
        ArtifactError: it would write something else; says where.
        RuntimeError: the runtime refuses the graph.
    """
    manifest = opened.manifest
    limits = manifest.limits
    capacity = min(limits["max_context"], max(_REPLAY_CAPACITY, limits["max_chunk"] + 64))
    engine = open_packaged(opened.folder, {capacity: 1}, limits["max_chunk"])
    try:
        golden = read_golden(opened.path(GOLDEN_FILE))
        replay_golden(engine, golden, manifest.parity, opened.folder)
    finally:
        engine.close()


def assemble(staging: Path, verified: TextVerified, recipe: TextRecipe, build: str) -> None:
    """Lay out a version: engine, texts of the checkpoint, golden texts, report, manifest."""
    packaged = verified.packaged
    link_folder(packaged.output.folder / CANDIDATE, staging)
    shutil.copyfile(verified.output.folder / GOLDEN_FILE, staging / GOLDEN_FILE)
    examples = verified.output.folder / EXAMPLES_FILE
    if examples.is_file():
        shutil.copyfile(examples, staging / EXAMPLES_FILE)
    for name in TEXT_FILES:
        if (packaged.tuned.checkpoint / name).is_file():
            shutil.copyfile(packaged.tuned.checkpoint / name, staging / name)
    provenance = _provenance(verified, recipe, build)
    report = make_text_report(verified, recipe, provenance)
    (staging / REPORT_JSON).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    (staging / REPORT_HTML).write_text(text_report_html(report), encoding="utf-8")
    record, engine = verified.record, packaged.record.candidate
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        model=recipe.model.name,
        version="0",
        task=TEXT_TASK,
        created_unix_s=0.0,
        graph=GRAPH_FILE,
        files=(),
        inputs=engine.inputs,
        outputs=engine.outputs,
        constants=(),
        limits=engine.limits,
        parameters={},
        targets=_targets(engine, record.cost),
        parity=record.tolerance,
        evidence=record.evidence,
        figures=_figures(verified),
        provenance=provenance,
        calibration=packaged.record.calibration,
        flags=(DEMONSTRATION,) if recipe.model.demonstration else (),
    )
    (staging / MANIFEST_FILE).write_bytes(encode_manifest(with_files(manifest, staging)))


def _targets(engine: PackagedRecord, cost: Cost) -> tuple[Target, ...]:
    own = Target(
        kind="onnxruntime",
        file=GRAPH_FILE,
        precision=engine.precision,
        proven="gated",
        cost=cost,
        built_with=packages(),
    )
    if engine.light is None:
        return own, *engine.plans
    light = msgspec.structs.replace(own, file=LIGHT_FILE, precision=engine.light, entry="light")
    return own, light, *engine.plans


def _figures(verified: TextVerified) -> dict[str, float]:
    record, tuned = verified.record, verified.packaged.tuned
    figures = {
        "perplexity": record.perplexity[CANDIDATE],
        "parameters": float(
            tuned.chain[-1].parameters_after if tuned.chain else tuned.loaded.record.parameters
        ),
        "size_bytes": float(record.sizes_bytes[CANDIDATE]),
    }
    for row in record.speed:
        figures[f"speedup_batch_{row.batch_size}"] = row.speedup
    return figures


def _provenance(verified: TextVerified, recipe: TextRecipe, build: str) -> Provenance:
    packaged = verified.packaged
    tuned = packaged.tuned
    states: tuple[Made, ...] = (tuned.loaded, *tuned.line, packaged, verified)
    seeds = {**tuned.record.seeds, "split": recipe.split.seed, "gate": recipe.gate.seed}
    if recipe.data.sample_copy is not None:
        seeds["sample_copy"] = recipe.data.sample_copy.seed
    return provenance_of(
        recipe,
        build,
        states,
        data=tuned.loaded.record.sources,
        hardware=verified.record.hardware,
        seeds=seeds,
        chain=(
            *(one.provenance() for one in tuned.chain),
            *([step_provenance(packaged.record.mixed)] if packaged.record.mixed is not None else []),
        ),
    )
