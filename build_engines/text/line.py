"""The text line, strung together; see ``build_engines.pipeline`` for the recommender's."""

from __future__ import annotations

from dataclasses import replace

from build_engines.compression.records import CompressRecord
from build_engines.compression.stage_parts import CompressTextPart
from build_engines.stage import In, Out, Part, Record, Stage, Work
from build_engines.stage_names import TEXT_STAGES
from build_engines.states import Output, Start
from build_engines.steps import Looker, Redo, run_to_published
from build_engines.text.load import run as run_load
from build_engines.text.load import sources
from build_engines.text.recipe import TextRecipe
from build_engines.text.recipe_parts import LoadTextPart, PackageTextPart, VerifyTextPart
from build_engines.text.records import FinetuneRecord, PackageRecord, TextLoadRecord, TextVerifyRecord
from build_engines.text.states import Packaged, TextLoaded, TextPublished, TextVerified, Tuned
from build_engines.text.tuning_parts import TuningConfig
from build_engines.workspace import Workspace
from server.artifacts.releases import Releases

_PAIRS = ("build_engines.text.pairs", "build_engines.text.pair_arrays", "build_engines.text.checkpoint")
_CODEC = ("build_engines.data.errors", "server.encoding")
_LEARNING = (
    *(f"build_engines.text.{name}" for name in ("finetune", "tuning", "batches", "quantized_linear")),
    "build_engines.tuning_loop",
)
_COMPRESS = (
    "build_engines.compression.stage_text",
    "build_engines.compression.families.decoder",
    "build_engines.compression.families.decoder_answers",
    "build_engines.text.batches",
    "build_engines.models.causal",
    "build_engines.models.config_fields",
    "build_engines.models.bfloat16",
    "build_engines.tuning_loop",
    *_PAIRS,
    *_CODEC,
)


def _finetune(loaded: TextLoaded, part: TuningConfig | None, work: Work) -> FinetuneRecord:
    if part is None:  # nothing to learn: torch need not be imported for that
        return FinetuneRecord(
            checkpoint=loaded.record.checkpoint, method="none", notes=("served as it came",)
        )
    from build_engines.text import finetune

    return finetune.run(loaded, part, work)


def _package(tuned: Tuned, part: PackageTextPart, work: Work) -> PackageRecord:
    from build_engines.text import package

    return package.run(tuned, part, work)


def _verify(packaged: Packaged, part: VerifyTextPart, work: Work) -> TextVerifyRecord:
    from build_engines.text import verify

    return verify.run(packaged, part, work)


LOAD: Stage[Start, LoadTextPart, TextLoadRecord, TextLoaded] = Stage(
    name="text-load",
    run=run_load,
    record=TextLoadRecord,
    state=lambda start, output, record: TextLoaded(output=output, record=record),
    code=(
        *_PAIRS,
        *_CODEC,
        *(f"build_engines.text.{name}" for name in ("load", "pair_files", "sample_pairs")),
        "build_engines.data",
        "server.copy_domain",
        "server.pipelines.product_copy.prompt",
    ),
    packages=("tokenizers", "jinja2", "numpy"),
    inputs=sources,
)
FINETUNE: Stage[TextLoaded, TuningConfig | None, FinetuneRecord, Tuned] = Stage(
    name="finetune",
    run=_finetune,
    record=FinetuneRecord,
    state=lambda loaded, output, record: Tuned(loaded=loaded, output=output, record=record),
    code=(*_PAIRS, *_LEARNING, "build_engines.text.line", "build_engines.models.bfloat16"),
    packages=("torch", "transformers", "peft", "safetensors"),
)
PACKAGE: Stage[Tuned, PackageTextPart, PackageRecord, Packaged] = Stage(
    name="package",
    run=_package,
    record=PackageRecord,
    state=lambda tuned, output, record: Packaged(tuned=tuned, output=output, record=record),
    code=(
        *_PAIRS,
        "build_engines.proof.leak",
        "build_engines.text.package",
        *(f"build_engines.compression.{name}" for name in ("calibrators", "knapsack", "mixed", "node_times")),
        "build_engines.models.causal",
        "build_engines.models.config_fields",
        "build_engines.onnx_writer",
        "build_engines.targets",
        "server.engines",
    ),
    packages=("onnxruntime", "onnx", "onnx-ir", "numpy"),
)
VERIFY: Stage[Packaged, VerifyTextPart, TextVerifyRecord, TextVerified] = Stage(
    name="text-verify",
    run=_verify,
    record=TextVerifyRecord,
    state=lambda packaged, output, record: TextVerified(packaged=packaged, output=output, record=record),
    code=(
        *_PAIRS,
        *_LEARNING,
        "build_engines.proof",
        *(
            f"build_engines.text.{name}"
            for name in ("verify", "evidence", "scoring", "reference", "checkpoint")
        ),
        "build_engines.speed",
        "build_engines.models.bfloat16",
        *_CODEC,
        "server.engines",
        "server.artifacts",
        "server.pipelines.text_golden",
    ),
    packages=("onnxruntime", "transformers", "torch", "numpy"),
)


def _compress(tuned: Tuned, part: CompressTextPart, work: Work) -> CompressRecord:
    from build_engines.compression import stage_text

    return stage_text.run(tuned, part, work)


def compress_stages(
    recipe: TextRecipe,
) -> list[tuple[Stage[Tuned, CompressTextPart, CompressRecord, Tuned], CompressTextPart]]:
    """A stage for each step that the recipe names, and what it gets."""
    if not recipe.compress:
        return []
    from build_engines.compression.stage import compress_stage

    tuning = recipe.finetune or TuningConfig()
    return [
        (
            compress_stage("text-compress", entry, _compress, _compressed, _COMPRESS),
            CompressTextPart(number=number, entry=entry, batch_tokens=tuning.batch_tokens, seed=tuning.seed),
        )
        for number, entry in enumerate(recipe.compress)
    ]


def _compressed(tuned: Tuned, output: Output, record: CompressRecord) -> Tuned:
    return replace(tuned, output=output, before=tuned, step=record)


def build(
    recipe: TextRecipe, workspace: Workspace, releases: Releases, *, first: str | None = None
) -> TextPublished:
    """Run a recipe to a published version; what is there already is reused.

    Args:
        recipe: what to build.
        workspace: where results of stages are kept.
        releases: where to publish.
        first: run this stage of ``TEXT_STAGES`` and all after it again.

    Raises:
        GateRefused: the candidate does not hold, and the recipe does not say to publish the parent instead.
        BuildError, DataError, ArtifactError: something could not be done; says what and what to do.
    """
    from build_engines.text.publish import publish

    return run_to_published(
        recipe,
        workspace,
        Redo(first=first, stages=TEXT_STAGES),
        parent_instead=recipe.gate.on_refused == "publish_parent"
        and (recipe.package.variant != "fp32" or bool(recipe.compress)),
        verified_by=verified_by,
        publish=lambda verified, built, scratch, again: publish(
            verified, built, releases, scratch, again=again
        ),
    )


def verified_by(recipe: TextRecipe, workspace: Workspace, redo: Redo) -> TextVerified:
    """Run a recipe to a candidate that passed the gate."""

    def do(stage: Stage[In, Part, Record, Out], came_from: In, part: Part) -> Out:
        return workspace.do(stage, came_from, part, redo=redo.covers(stage.name))

    loaded = do(LOAD, Start(), _load_part(recipe))
    tuned = do(FINETUNE, loaded, recipe.finetune)
    if recipe.compress:
        from build_engines.compression.stage import run_chain

        tuned = run_chain(tuned, compress_stages(recipe), do, workspace.progress.say)
    packaged = do(PACKAGE, tuned, _package_part(recipe))
    return do(VERIFY, packaged, _verify_part(recipe))


def status(recipe: TextRecipe, workspace: Workspace) -> list[tuple[str, str]]:
    """Each stage and whether its result is here; looks only."""
    looker = Looker(workspace=workspace)
    peek = looker.peek
    loaded = peek(LOAD, Start(), _load_part(recipe))
    tuned = peek(FINETUNE, loaded, recipe.finetune)
    for stage, step in compress_stages(recipe):
        tuned = peek(stage, tuned, step)
    packaged = peek(PACKAGE, tuned, _package_part(recipe))
    peek(VERIFY, packaged, _verify_part(recipe))
    return looker.rows


def _load_part(recipe: TextRecipe) -> LoadTextPart:
    return LoadTextPart(checkpoint=recipe.checkpoint, data=recipe.data, split=recipe.split)


def _package_part(recipe: TextRecipe) -> PackageTextPart:
    return PackageTextPart(package=recipe.package, compile=recipe.compile)


def _verify_part(recipe: TextRecipe) -> VerifyTextPart:
    # What to do with a refusal is not the gate's business.
    return VerifyTextPart(gate=replace(recipe.gate, on_refused="stop"), model=recipe.model.name)
