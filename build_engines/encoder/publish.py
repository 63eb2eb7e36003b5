"""Stage 5 of an encoder: a verified engine into the repository, with its evidence, provenance and report.

Keeps the contract of ``server.pipelines.encoder_loading``. The copy in the repository is loaded as the server does it, golden
texts included, before it gets its name; the same build is never published twice.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from build_engines.compression.records import step_provenance
from build_engines.encoder.recipe import EncoderRecipe
from build_engines.encoder.report import encoder_report_html, make_encoder_report
from build_engines.encoder.states import CANDIDATE, EncoderPublished, EncoderVerified
from build_engines.hardware import packages
from build_engines.intents.report import REPORT_HTML as INTENTS_HTML
from build_engines.models.encoder.package import GRAPH_FILE
from build_engines.proof.examples import EXAMPLES_FILE
from build_engines.release import place, provenance_of
from build_engines.report_frame import REPORT_HTML, REPORT_JSON
from build_engines.version_files import link_folder, with_files
from server.artifacts.golden import GOLDEN_FILE
from server.artifacts.manifest import MANIFEST_FILE, SCHEMA_VERSION, Manifest, Provenance, Target
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion
from server.artifacts.schema import encode_manifest
from server.encoder_domain import ENCODER_TASK
from server.pipelines.encoder_loading import load_encoder


def publish(
    verified: EncoderVerified,
    recipe: EncoderRecipe,
    releases: Releases,
    scratch: Path,
    *,
    again: bool = False,
) -> EncoderPublished:
    """Publish, unless this very build is in the repository already.

    Raises:
        ArtifactError: the repository is busy or full, or the copy does not reproduce its golden texts.
    """
    placed = place(
        releases,
        recipe,
        [verified.content],
        lambda staging, build: assemble(staging, verified, recipe, build),
        replay_encoder,
        scratch=scratch,
        again=again,
    )
    return EncoderPublished(verified=verified, opened=placed.opened, new=placed.new, current=placed.current)


def replay_encoder(opened: OpenedVersion) -> None:
    """Load a version as the server does, golden texts included.

    Raises:
        ArtifactError: it would not serve; says why.
    """
    load_encoder(opened).tokens.engine.close()


def assemble(staging: Path, verified: EncoderVerified, recipe: EncoderRecipe, build: str) -> None:
    """Lay out a version: engines, tokenizer, descriptions, golden texts, reports, manifest."""
    packaged = verified.packaged
    link_folder(packaged.output.folder / CANDIDATE, staging)
    shutil.copyfile(verified.output.folder / GOLDEN_FILE, staging / GOLDEN_FILE)
    examples = verified.output.folder / EXAMPLES_FILE
    if examples.is_file():
        shutil.copyfile(examples, staging / EXAMPLES_FILE)
    intents = packaged.headed.output.folder / INTENTS_HTML
    if intents.is_file():
        shutil.copyfile(intents, staging / INTENTS_HTML)
    provenance = _provenance(verified, recipe, build)
    report = make_encoder_report(verified, recipe, provenance)
    (staging / REPORT_JSON).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    (staging / REPORT_HTML).write_text(encoder_report_html(report), encoding="utf-8")
    record, engine = verified.record, packaged.record.candidate
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        model=recipe.model.name,
        version="0",
        task=ENCODER_TASK,
        created_unix_s=0.0,
        graph=GRAPH_FILE,
        files=(),
        inputs=engine.inputs,
        outputs=engine.outputs,
        constants=(),
        limits=engine.limits,
        parameters={},
        targets=(
            Target(
                kind="onnxruntime",
                file=GRAPH_FILE,
                precision=engine.precision,
                proven="gated",
                cost=record.cost,
                built_with=packages(),
            ),
            *packaged.record.plans,
        ),
        parity=record.tolerance,
        evidence=record.evidence,
        figures=_figures(verified),
        provenance=provenance,
        calibration=packaged.record.calibration,
        flags=packaged.headed.loaded.record.flags,
    )
    (staging / MANIFEST_FILE).write_bytes(encode_manifest(with_files(manifest, staging)))


def _figures(verified: EncoderVerified) -> dict[str, float]:
    record, engine = verified.record, verified.packaged.record.candidate
    figures = {
        "cosine_fp32": record.cosine[0],
        "parameters": float(engine.parameters),
        "size_bytes": float(engine.size_bytes),
        "cost_tokens": float(record.cost_tokens),
    }
    if CANDIDATE in record.recall:
        figures["recall@1"] = record.recall[CANDIDATE]
    if CANDIDATE in record.accuracy:
        figures["intent_accuracy"] = record.accuracy[CANDIDATE]
    for row in record.speed:
        figures[f"speedup_batch_{row.batch_size}"] = row.speedup
    return figures


def _provenance(verified: EncoderVerified, recipe: EncoderRecipe, build: str) -> Provenance:
    packaged = verified.packaged
    headed = packaged.headed
    seeds = {"texts": recipe.texts.seed, "gate": recipe.gate.seed}
    if recipe.checkpoint.trained_small is not None:
        seeds["trained_small"] = recipe.checkpoint.trained_small.seed
    if recipe.intents is not None and recipe.intents.sample_shop is not None:
        seeds["sample_intents"] = recipe.intents.sample_shop.seed
    return provenance_of(
        recipe,
        build,
        (*headed.loaded.line, headed, packaged, verified),
        data=headed.loaded.record.sources,
        hardware=verified.record.hardware,
        chain=(
            *(one.provenance() for one in headed.loaded.chain),
            *([step_provenance(packaged.record.mixed)] if packaged.record.mixed is not None else []),
        ),
        seeds=seeds,
    )
