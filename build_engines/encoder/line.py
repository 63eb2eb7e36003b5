"""The encoder's line, strung together; see ``build_engines.text.line`` for the text model's."""

from __future__ import annotations

from dataclasses import replace

from build_engines.compression.records import CompressRecord
from build_engines.compression.stage_parts import CompressEncoderPart
from build_engines.encoder.intents import IntentsStagePart
from build_engines.encoder.intents import run as run_intents
from build_engines.encoder.load import run as run_load
from build_engines.encoder.load import sources
from build_engines.encoder.recipe import EncoderRecipe
from build_engines.encoder.recipe_parts import LoadEncoderPart, PackageStagePart, VerifyEncoderPart
from build_engines.encoder.records import EncoderLoadRecord, EncoderVerifyRecord, HeadRecord, PackagesRecord
from build_engines.encoder.states import (
    EncoderLoaded,
    EncoderPackaged,
    EncoderPublished,
    EncoderVerified,
    Headed,
)
from build_engines.intents.sources import file_digests
from build_engines.stage import In, Out, Part, Record, Stage, Work
from build_engines.stage_names import ENCODER_STAGES
from build_engines.states import Output, Start
from build_engines.steps import Looker, Redo, run_to_published
from build_engines.workspace import Workspace
from server.artifacts.releases import Releases

_GRAPH = (
    *(f"build_engines.compression.{name}" for name in ("calibrators", "knapsack", "mixed", "node_times")),
    "build_engines.models.encoder",
    "build_engines.models.causal",
    "build_engines.models.config_fields",
    "build_engines.onnx_writer",
    "build_engines.targets",
)
_COMPRESS = (
    "build_engines.compression.stage_encoder",
    "build_engines.compression.families.encoder",
    "build_engines.compression.families.encoder_state",
    "build_engines.compression.families.encoder_texts",
    "build_engines.encoder.load",
    "build_engines.encoder.texts",
    "build_engines.intents",
    "build_engines.data",
    "build_engines.tuning_loop",
    "build_engines.models.bfloat16",
    *_GRAPH,
    "server.encoding",
    "server.encoder_domain",
    "server.support_domain",
)
_TOKENS = ("server.encoding", "server.encoder_domain")
_HERE = tuple(f"build_engines.encoder.{name}" for name in ("load", "texts", "checkpoint", "small_parts"))


def _package(headed: Headed, part: PackageStagePart, work: Work) -> PackagesRecord:
    from build_engines.encoder import package

    return package.run(headed, part, work)


def _verify(packaged: EncoderPackaged, part: VerifyEncoderPart, work: Work) -> EncoderVerifyRecord:
    from build_engines.encoder import verify

    return verify.run(packaged, part, work)


LOAD: Stage[Start, LoadEncoderPart, EncoderLoadRecord, EncoderLoaded] = Stage(
    name="encoder-load",
    run=run_load,
    record=EncoderLoadRecord,
    state=lambda start, output, record: EncoderLoaded(output=output, record=record),
    code=(
        *_HERE,
        "build_engines.proof.leak",
        "build_engines.encoder.small",
        "build_engines.encoder.small_texts",
        "build_engines.tuning_loop",
        "build_engines.models.bfloat16",
        *_GRAPH,
        *_TOKENS,
        "build_engines.intents",
        "build_engines.data",
        "server.support_domain",
    ),
    packages=("tokenizers", "safetensors", "numpy", "torch", "transformers"),
    inputs=sources,
)
INTENTS: Stage[EncoderLoaded, IntentsStagePart, HeadRecord, Headed] = Stage(
    name="intents",
    run=run_intents,
    record=HeadRecord,
    state=lambda loaded, output, record: Headed(loaded=loaded, output=output, record=record),
    code=(
        "build_engines.encoder.intents",
        "build_engines.intents",
        "build_engines.proof.paired_right",
        "build_engines.proof.sample_size",
        "build_engines.data",
        "build_engines.tuning_loop",
        "build_engines.report_frame",
        "build_engines.report_svg",
        "build_engines.models.bfloat16",
        "server.support_domain",
        *_GRAPH,
        *_TOKENS,
    ),
    packages=("onnxruntime", "onnx-ir", "torch", "transformers", "safetensors", "tokenizers", "numpy"),
    inputs=lambda part: file_digests(part.intents) if part.intents is not None else {},
)
PACKAGE: Stage[Headed, PackageStagePart, PackagesRecord, EncoderPackaged] = Stage(
    name="encoder-package",
    run=_package,
    record=PackagesRecord,
    state=lambda headed, output, record: EncoderPackaged(headed=headed, output=output, record=record),
    code=(
        "build_engines.encoder.package",
        "build_engines.intents.head",
        "build_engines.proof.leak",
        *_HERE,
        *_GRAPH,
        *_TOKENS,
        "build_engines.data",
    ),
    packages=("onnxruntime", "onnx", "onnx-ir", "torch", "numpy"),
)
VERIFY: Stage[EncoderPackaged, VerifyEncoderPart, EncoderVerifyRecord, EncoderVerified] = Stage(
    name="encoder-verify",
    run=_verify,
    record=EncoderVerifyRecord,
    state=lambda packaged, output, record: EncoderVerified(packaged=packaged, output=output, record=record),
    code=(
        *(f"build_engines.encoder.{name}" for name in ("verify", "evidence", "reference", "package")),
        "build_engines.proof",
        *_HERE,
        *_GRAPH,
        *_TOKENS,
        "build_engines.intents",
        "build_engines.data",
        "build_engines.speed",
        "server.engines",
        "server.artifacts",
        "server.pipelines.encoder_golden",
    ),
    packages=("onnxruntime", "transformers", "torch", "numpy"),
)


def _compress(loaded: EncoderLoaded, part: CompressEncoderPart, work: Work) -> CompressRecord:
    from build_engines.compression import stage_encoder

    return stage_encoder.run(loaded, part, work)


def compress_stages(
    recipe: EncoderRecipe,
) -> list[
    tuple[Stage[EncoderLoaded, CompressEncoderPart, CompressRecord, EncoderLoaded], CompressEncoderPart]
]:
    """A stage for each step that the recipe names, and what it gets."""
    if not recipe.compress:
        return []
    from build_engines.compression.stage import compress_stage

    return [
        (
            compress_stage("encoder-compress", entry, _compress, _compressed, _COMPRESS),
            CompressEncoderPart(number=number, entry=entry, form=recipe.form, intents=recipe.intents),
        )
        for number, entry in enumerate(recipe.compress)
    ]


def _compressed(loaded: EncoderLoaded, output: Output, record: CompressRecord) -> EncoderLoaded:
    return replace(loaded, output=output, before=loaded, step=record)


def build(
    recipe: EncoderRecipe, workspace: Workspace, releases: Releases, *, first: str | None = None
) -> EncoderPublished:
    """Run a recipe to a published version; what is there already is reused.

    Args:
        recipe: what to build.
        workspace: where results of stages are kept.
        releases: where to publish.
        first: run this stage of ``ENCODER_STAGES`` and all after it again.

    Raises:
        GateRefused: the candidate does not hold, and the recipe does not say to publish the parent instead.
        BuildError, DataError, ArtifactError: something could not be done; says what and what to do.
    """
    from build_engines.encoder.publish import publish

    return run_to_published(
        recipe,
        workspace,
        Redo(first=first, stages=ENCODER_STAGES),
        parent_instead=recipe.gate.on_refused == "publish_parent"
        and (recipe.package.variant != "fp32" or bool(recipe.compress)),
        verified_by=verified_by,
        publish=lambda verified, built, scratch, again: publish(
            verified, built, releases, scratch, again=again
        ),
    )


def verified_by(recipe: EncoderRecipe, workspace: Workspace, redo: Redo) -> EncoderVerified:
    """Run a recipe to a candidate that passed the gate."""

    def do(stage: Stage[In, Part, Record, Out], came_from: In, part: Part) -> Out:
        return workspace.do(stage, came_from, part, redo=redo.covers(stage.name))

    loaded = do(LOAD, Start(), _load_part(recipe))
    intents = IntentsStagePart(intents=recipe.intents, form=recipe.form)
    headed = do(INTENTS, loaded, intents)
    if recipe.compress:
        from build_engines.compression.stage import run_chain

        loaded = run_chain(loaded, compress_stages(recipe), do, workspace.progress.say)
        headed = replace(do(INTENTS, loaded, intents), whole=headed)
    packaged = do(PACKAGE, headed, PackageStagePart(package=recipe.package, form=recipe.form))
    return do(VERIFY, packaged, _verify_part(recipe))


def status(recipe: EncoderRecipe, workspace: Workspace) -> list[tuple[str, str]]:
    """Each stage and whether its result is here; looks only."""
    looker = Looker(workspace=workspace)
    peek = looker.peek
    loaded = peek(LOAD, Start(), _load_part(recipe))
    intents = IntentsStagePart(intents=recipe.intents, form=recipe.form)
    headed = peek(INTENTS, loaded, intents)
    if recipe.compress:
        for stage, step in compress_stages(recipe):
            loaded = peek(stage, loaded, step)
        smaller = peek(INTENTS, loaded, intents)
        headed = None if smaller is None or headed is None else replace(smaller, whole=headed)
    packaged = peek(PACKAGE, headed, PackageStagePart(package=recipe.package, form=recipe.form))
    peek(VERIFY, packaged, _verify_part(recipe))
    return looker.rows


def _load_part(recipe: EncoderRecipe) -> LoadEncoderPart:
    return LoadEncoderPart(checkpoint=recipe.checkpoint, texts=recipe.texts, form=recipe.form)


def _verify_part(recipe: EncoderRecipe) -> VerifyEncoderPart:
    # What to do with a refusal is not the gate's business.
    gate = replace(recipe.gate, on_refused="stop")
    return VerifyEncoderPart(gate=gate, form=recipe.form, model=recipe.model.name)
