"""The line of somebody's own model, strung together; see ``build_engines.pipeline`` for the recommender's."""

from __future__ import annotations

from dataclasses import replace

from build_engines.own_model.load import run as run_load
from build_engines.own_model.load import sources
from build_engines.own_model.recipe import OwnRecipe
from build_engines.own_model.recipe_parts import (
    OwnCompilePart,
    OwnLoadPart,
    OwnQuantizePart,
    OwnVerifyPart,
)
from build_engines.own_model.records import (
    OwnCompileRecord,
    OwnLoadRecord,
    OwnQuantizeRecord,
    OwnVerifyRecord,
)
from build_engines.own_model.states import (
    GraphState,
    OwnCompiled,
    OwnLoaded,
    OwnPublished,
    OwnQuantized,
    OwnVerified,
)
from build_engines.stage import In, Out, Part, Record, Stage, Work
from build_engines.stage_names import OWN_STAGES
from build_engines.states import Start
from build_engines.steps import Looker, Redo, run_to_published
from build_engines.workspace import Workspace
from server.artifacts.releases import Releases

_OWN = "build_engines.own_model"
_READING = (
    *(
        f"{_OWN}.{name}"
        for name in ("load", "declared", "graph_facts", "onnx_source", "python_source", "rows")
    ),
    "build_engines.onnx_writer",
)
_GRAPH = ("onnxruntime", "onnx", "numpy")
_QUANTIZE_CODE = (*_READING, f"{_OWN}.quantize_stage", f"{_OWN}.quantize", f"{_OWN}.observe")
_COMPILE_CODE = (
    *_READING,
    f"{_OWN}.compile",
    f"{_OWN}.quantize",
    "build_engines.compile",
    "build_engines.targets",
)
_VERIFY_CODE = (
    *_READING,
    *(f"{_OWN}.{name}" for name in ("verify", "evidence", "metrics", "metric_names")),
    "build_engines.speed",
    "build_engines.proof.sizes",
    "build_engines.proof.speed_ups",
    "server.engines",
    "server.artifacts",
)
_COMPILE_PACKAGES = ("onnxruntime", "onnx", "tensorrt-rtx", "tensorrt")


def _quantize(source: GraphState, part: OwnQuantizePart, work: Work) -> OwnQuantizeRecord:
    from build_engines.own_model import quantize_stage

    return quantize_stage.run(source, part, work)


def _compile(quantized: OwnQuantized, part: OwnCompilePart, work: Work) -> OwnCompileRecord:
    from build_engines.own_model import compile as compile_stage

    return compile_stage.run(quantized, part, work)


def _verify(compiled: OwnCompiled, part: OwnVerifyPart, work: Work) -> OwnVerifyRecord:
    from build_engines.own_model import verify

    return verify.run(compiled, part, work)


LOAD: Stage[Start, OwnLoadPart, OwnLoadRecord, OwnLoaded] = Stage(
    name="own-load",
    run=run_load,
    record=OwnLoadRecord,
    state=lambda start, output, record: OwnLoaded(output=output, record=record),
    code=_READING,
    packages=(*_GRAPH, "torch", "onnxscript"),
    inputs=sources,
)
QUANTIZE: Stage[GraphState, OwnQuantizePart, OwnQuantizeRecord, OwnQuantized] = Stage(
    name="own-quantize",
    run=_quantize,
    record=OwnQuantizeRecord,
    state=lambda source, output, record: OwnQuantized(source=source, output=output, record=record),
    code=_QUANTIZE_CODE,
    packages=_GRAPH,
)
COMPILE: Stage[OwnQuantized, OwnCompilePart, OwnCompileRecord, OwnCompiled] = Stage(
    name="own-compile",
    run=_compile,
    record=OwnCompileRecord,
    state=lambda quantized, output, record: OwnCompiled(quantized=quantized, output=output, record=record),
    code=_COMPILE_CODE,
    packages=_COMPILE_PACKAGES,
)
VERIFY: Stage[OwnCompiled, OwnVerifyPart, OwnVerifyRecord, OwnVerified] = Stage(
    name="own-verify",
    run=_verify,
    record=OwnVerifyRecord,
    state=lambda compiled, output, record: OwnVerified(compiled=compiled, output=output, record=record),
    code=_VERIFY_CODE,
    packages=("onnxruntime", "numpy"),
)


def build(
    recipe: OwnRecipe, workspace: Workspace, releases: Releases, *, first: str | None = None
) -> OwnPublished:
    """Run a recipe to a published version; what is there already is reused.

    Args:
        recipe: what to build.
        workspace: where results of stages are kept.
        releases: where to publish.
        first: run this stage of ``OWN_STAGES`` and all after it again.

    Raises:
        GateRefused: the candidate does not hold, and the recipe does not say to publish the parent instead.
        BuildError, ArtifactError: something could not be done; says what and what to do.
    """
    from build_engines.own_model.publish import publish

    return run_to_published(
        recipe,
        workspace,
        Redo(first=first, stages=OWN_STAGES),
        parent_instead=recipe.gate.on_refused == "publish_parent" and recipe.quantize.precision != "fp32",
        verified_by=verified_by,
        publish=lambda verified, built, scratch, again: publish(
            verified, built, releases, scratch, again=again
        ),
    )


def verified_by(recipe: OwnRecipe, workspace: Workspace, redo: Redo) -> OwnVerified:
    """Run a recipe to a candidate that passed the gate."""

    def do(stage: Stage[In, Part, Record, Out], came_from: In, part: Part) -> Out:
        return workspace.do(stage, came_from, part, redo=redo.covers(stage.name))

    loaded = do(LOAD, Start(), _load_part(recipe))
    quantized = do(QUANTIZE, loaded, recipe.quantize)
    compiled = do(COMPILE, quantized, OwnCompilePart(compile=recipe.compile, serve=recipe.serve))
    return do(VERIFY, compiled, _verify_part(recipe))


def status(recipe: OwnRecipe, workspace: Workspace) -> list[tuple[str, str]]:
    """Each stage and whether its result is here; looks only."""
    looker = Looker(workspace=workspace)
    loaded = looker.peek(LOAD, Start(), _load_part(recipe))
    quantized = looker.peek(QUANTIZE, loaded, recipe.quantize)
    compiled = looker.peek(COMPILE, quantized, OwnCompilePart(compile=recipe.compile, serve=recipe.serve))
    looker.peek(VERIFY, compiled, _verify_part(recipe))
    return looker.rows


def _load_part(recipe: OwnRecipe) -> OwnLoadPart:
    return OwnLoadPart(
        source=recipe.source_part(),
        data=recipe.data,
        max_batch=recipe.serve.max_batch,
        dims=recipe.serve.dims,
    )


def _verify_part(recipe: OwnRecipe) -> OwnVerifyPart:
    # What to do with a refusal is not the gate's business.
    return OwnVerifyPart(
        gate=replace(recipe.gate, on_refused="stop"),
        labels=recipe.data.labels,
        groups=recipe.data.groups,
        serve=recipe.serve,
        model=recipe.model.name,
    )
