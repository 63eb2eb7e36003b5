"""The line, strung together: which stage follows which, and what each gets of the recipe.

The only place that knows all stages. Each is imported when it runs, so that a command that only looks does
not wait for torch. A step of compression is a ``Stage`` from ``Trained`` to ``Trained``: as many as the recipe names stand
between ``train`` and ``quantize``.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from build_engines.compression.records import CompressRecord
from build_engines.compression.stage_parts import CompressPart
from build_engines.load import LoadPart, sources
from build_engines.load import run as run_load
from build_engines.recipe import Recipe
from build_engines.recipe_parts import CompilePart, ExportPart, QuantizePart
from build_engines.records import (
    CompileRecord,
    ExportRecord,
    LoadRecord,
    QuantizeRecord,
    TrainRecord,
    VerifyRecord,
)
from build_engines.stage import In, Out, Part, Record, Stage, Work
from build_engines.stage_parts import TrainStagePart, VerifyPart
from build_engines.states import (
    Compiled,
    Exported,
    Loaded,
    Output,
    Published,
    Quantized,
    Start,
    Trained,
    Verified,
)
from build_engines.steps import Looker, Redo, run_to_published
from build_engines.workspace import Workspace
from server.artifacts.releases import Releases

_COUNTS = ("build_engines.models.mix", "build_engines.models.popularity", "build_engines.models.transitions")
_DATA = ("build_engines.data.splits", "build_engines.data.sequences", "build_engines.data.interactions")
_FILES = ("build_engines.shop_files", "build_engines.trained_files")
_COMPRESS = (
    "build_engines.compression.stage_recommender",
    "build_engines.compression.families.recommender",
    "build_engines.compression.families.recommender_state",
    "build_engines.models.sasrec",
    "build_engines.models.training",
    "build_engines.models.catalogue_loss",
    "build_engines.models.bfloat16",
    "build_engines.tuning_loop",
    *_COUNTS,
    *_DATA,
    *_FILES,
)
_GRAPH = (
    "build_engines.graph_stages",
    "build_engines.quantize",
    "build_engines.export",
    "build_engines.onnx_writer",
    "build_engines.models.sasrec_graph",
    "build_engines.compression.calibrators",
    "build_engines.compression.codebooks",
    *(f"build_engines.compression.{name}" for name in ("knapsack", "mixed", "node_times")),
    "build_engines.mixed_linears",
    "build_engines.compression.tune_codes",
    "server.encoding",
)


def _train(loaded: Loaded, part: TrainStagePart, work: Work) -> TrainRecord:
    from build_engines import train

    return train.run(loaded, part, work)


def _quantize(trained: Trained, part: QuantizePart, work: Work) -> QuantizeRecord:
    from build_engines import graph_stages

    return graph_stages.quantize(trained, part, work)


def _export(quantized: Quantized, part: ExportPart, work: Work) -> ExportRecord:
    from build_engines import graph_stages

    return graph_stages.export(quantized, part, work)


def _compile(exported: Exported, part: CompilePart, work: Work) -> CompileRecord:
    from build_engines import graph_stages

    return graph_stages.compile(exported, part, work)


def _verify(compiled: Compiled, part: VerifyPart, work: Work) -> VerifyRecord:
    from build_engines import verify

    return verify.run(compiled, part, work)


LOAD: Stage[Start, LoadPart, LoadRecord, Loaded] = Stage(
    name="load",
    run=run_load,
    record=LoadRecord,
    state=lambda start, output, record: Loaded(output=output, record=record),
    code=("build_engines.load", "build_engines.shop_files", "build_engines.data"),
    packages=("polars", "numpy"),
    inputs=sources,
)
TRAIN: Stage[Loaded, TrainStagePart, TrainRecord, Trained] = Stage(
    name="train",
    run=_train,
    record=TrainRecord,
    state=lambda loaded, output, record: Trained(loaded=loaded, output=output, record=record),
    code=(
        "build_engines.train",
        "build_engines.models.sasrec",
        "build_engines.models.training",
        "build_engines.models.catalogue_loss",
        "build_engines.models.bfloat16",
        "build_engines.data.item_features",
        *_COUNTS,
        *_DATA,
        *_FILES,
    ),
    packages=("torch", "numpy"),
)


def _compress(trained: Trained, part: CompressPart, work: Work) -> CompressRecord:
    from build_engines.compression import stage_recommender

    return stage_recommender.run(trained, part, work)


def compress_stages(
    recipe: Recipe,
) -> list[tuple[Stage[Trained, CompressPart, CompressRecord, Trained], CompressPart]]:
    """A stage for each step that the recipe names, and what it gets."""
    if not recipe.compress:
        return []
    from build_engines.compression.stage import compress_stage

    return [
        (
            compress_stage("compress", entry, _compress, _compressed, _COMPRESS),
            CompressPart(number=number, entry=entry, train=recipe.train),
        )
        for number, entry in enumerate(recipe.compress)
    ]


def _compressed(trained: Trained, output: Output, record: CompressRecord) -> Trained:
    after = record.record.after
    network = replace(
        trained.record.network,
        dim=after["dim"],
        blocks=after["blocks"],
        heads=after["heads"],
        head_dim=after["head_dim"],
        inner=after["inner"],
    )
    return replace(
        trained,
        output=output,
        record=msgspec.structs.replace(trained.record, network=network),
        before=trained,
        step=record,
    )


QUANTIZE: Stage[Trained, QuantizePart, QuantizeRecord, Quantized] = Stage(
    name="quantize",
    run=_quantize,
    record=QuantizeRecord,
    state=lambda trained, output, record: Quantized(trained=trained, output=output, record=record),
    code=(*_GRAPH, *_COUNTS, *_DATA, *_FILES, "build_engines.proof.leak"),
    packages=("onnxruntime", "onnx-ir", "numpy"),
)
EXPORT: Stage[Quantized, ExportPart, ExportRecord, Exported] = Stage(
    name="export",
    run=_export,
    record=ExportRecord,
    state=lambda quantized, output, record: Exported(quantized=quantized, output=output, record=record),
    code=(*_GRAPH, *_COUNTS, *_FILES),
    packages=("onnx", "onnx-ir", "numpy"),
)
COMPILE: Stage[Exported, CompilePart, CompileRecord, Compiled] = Stage(
    name="compile",
    run=_compile,
    record=CompileRecord,
    state=lambda exported, output, record: Compiled(exported=exported, output=output, record=record),
    code=(*_GRAPH, "build_engines.compile", "build_engines.targets"),
    packages=("onnxruntime", "onnx", "tensorrt-rtx", "tensorrt"),
)
VERIFY: Stage[Compiled, VerifyPart, VerifyRecord, Verified] = Stage(
    name="verify",
    run=_verify,
    record=VerifyRecord,
    state=lambda compiled, output, record: Verified(compiled=compiled, output=output, record=record),
    code=(
        "build_engines.verify",
        "build_engines.proof.sizes",
        "build_engines.gate",
        "build_engines.proof",
        "build_engines.ranker",
        "build_engines.speed",
        "build_engines.version_files",
        "build_engines.evaluation",
        "server.pipelines",
        "server.batching",
        "server.engines",
        "server.encoding",
        "server.tensor_domain",
        "server.artifacts",
        *_COUNTS,
        *_DATA,
        *_FILES,
    ),
    packages=("onnxruntime", "numpy"),
)


def build(recipe: Recipe, workspace: Workspace, releases: Releases, redo: Redo | None = None) -> Published:
    """Run a recipe to a published version; what is there already is reused.

    Raises:
        GateRefused: the candidate does not hold, and the recipe does not say to publish the parent instead.
        BuildError, DataError, ArtifactError: something could not be done; says what and what to do.
    """
    from build_engines.publish import publish

    return run_to_published(
        recipe,
        workspace,
        redo or Redo(),
        parent_instead=recipe.gate.on_refused == "publish_parent"
        and (recipe.quantize.precision != "fp32" or bool(recipe.compress)),
        verified_by=verified_by,
        publish=lambda verified, built, scratch, again: publish(
            verified, built, releases, scratch, again=again
        ),
    )


def verified_by(recipe: Recipe, workspace: Workspace, redo: Redo) -> Verified:
    """Run a recipe to a candidate that passed the gate."""

    def do(stage: Stage[In, Part, Record, Out], came_from: In, part: Part) -> Out:
        return workspace.do(stage, came_from, part, redo=redo.covers(stage.name))

    loaded = do(LOAD, Start(), LoadPart(data=recipe.data, split=recipe.split))
    trained = do(TRAIN, loaded, train_part(recipe))
    if recipe.compress and trained.record.mix.neural_weight == 0:
        workspace.progress.say(
            "compress: left out; the counts alone were best, and nothing of the network is served"
        )
        recipe = replace(recipe, compress=())
    if recipe.compress:
        from build_engines.compression.stage import run_chain

        trained = run_chain(trained, compress_stages(recipe), do, workspace.progress.say)
    quantized = do(QUANTIZE, trained, recipe.quantize)
    exported = do(EXPORT, quantized, recipe.export)
    compiled = do(COMPILE, exported, recipe.compile)
    return do(VERIFY, compiled, verify_part(recipe))


def train_part(recipe: Recipe) -> TrainStagePart:
    """What the train stage gets."""
    return TrainStagePart(
        network=recipe.network, train=recipe.train, transitions=recipe.transitions, mix=recipe.mix
    )


def verify_part(recipe: Recipe) -> VerifyPart:
    """What the gate gets; what to do with a refusal is not its business."""
    return VerifyPart(gate=replace(recipe.gate, on_refused="stop"), model=recipe.model.name)


def status(recipe: Recipe, workspace: Workspace) -> list[tuple[str, str]]:
    """Each stage and whether its result is here; looks only.

    A stage whose input is not here yet cannot be asked: its key depends on it.
    """
    looker = Looker(workspace=workspace)
    peek = looker.peek
    loaded = peek(LOAD, Start(), LoadPart(data=recipe.data, split=recipe.split))
    trained = peek(TRAIN, loaded, train_part(recipe))
    for stage, step in compress_stages(recipe):
        trained = peek(stage, trained, step)
    quantized = peek(QUANTIZE, trained, recipe.quantize)
    exported = peek(EXPORT, quantized, recipe.export)
    compiled = peek(COMPILE, exported, recipe.compile)
    peek(VERIFY, compiled, verify_part(recipe))
    return looker.rows
