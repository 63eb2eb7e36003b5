"""A re-ranker's line, strung together: the recommender's ``load``, its own candidates and training, then one's own model's stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from build_engines.load import LoadPart
from build_engines.own_model import line as own_line
from build_engines.own_model.recipe_parts import OwnCompilePart, OwnQuantizePart
from build_engines.own_model.records import OwnCompileRecord, OwnQuantizeRecord
from build_engines.own_model.states import GraphState, OwnCompiled, OwnQuantized
from build_engines.pipeline import LOAD
from build_engines.rerank.first_stage import resolved
from build_engines.rerank.recipe import RerankRecipe
from build_engines.rerank.recipe_parts import CandidatesPart, RerankTrainStagePart, RerankVerifyPart
from build_engines.rerank.records import CandidatesRecord, RerankTrainRecord, RerankVerifyRecord
from build_engines.rerank.states import Candidates, RerankPublished, RerankTrained, RerankVerified
from build_engines.stage import In, Out, Part, Record, Stage, Work
from build_engines.stage_names import RERANK_STAGES
from build_engines.states import Loaded, Start
from build_engines.steps import Looker, Redo, run_to_published
from build_engines.workspace import Workspace
from server.artifacts.errors import ArtifactError
from server.artifacts.releases import Releases

_RERANK = "build_engines.rerank"
_SERVING = ("server.pipelines", "server.batching", "server.engines", "server.encoding", "server.artifacts")
_LISTS = (
    f"{_RERANK}.candidates",
    "build_engines.ranker",
    "build_engines.own_model.declared",
    "build_engines.own_model.rows",
    "build_engines.shop_files",
    "build_engines.data",
    *_SERVING,
)
_TRAINING = (
    *(f"{_RERANK}.{name}" for name in ("train", "features", "learner", "network")),
    "build_engines.tuning_loop",
    "build_engines.models.bfloat16",
    "build_engines.version_files",
)


def _candidates(loaded: Loaded, part: CandidatesPart, work: Work) -> CandidatesRecord:
    from build_engines.rerank import candidates

    return candidates.run(loaded, part, work)


def _train(candidates: Candidates, part: RerankTrainStagePart, work: Work) -> RerankTrainRecord:
    from build_engines.rerank import train

    return train.run(candidates, part, work)


def _verify(compiled: OwnCompiled, part: RerankVerifyPart, work: Work) -> RerankVerifyRecord:
    from build_engines.rerank import verify

    return verify.run(compiled, part, work)


CANDIDATES: Stage[Loaded, CandidatesPart, CandidatesRecord, Candidates] = Stage(
    name="rerank-candidates",
    run=_candidates,
    record=CandidatesRecord,
    state=lambda loaded, output, record: Candidates(loaded=loaded, output=output, record=record),
    code=_LISTS,
    packages=("onnxruntime", "numpy"),
)
TRAIN: Stage[Candidates, RerankTrainStagePart, RerankTrainRecord, RerankTrained] = Stage(
    name="rerank-train",
    run=_train,
    record=RerankTrainRecord,
    state=lambda candidates, output, record: RerankTrained(
        candidates=candidates, output=output, record=record
    ),
    code=(*_TRAINING, *_LISTS, *own_line.QUANTIZE.code),
    packages=("torch", "onnx", "onnxscript", "onnxruntime", "numpy"),
)
# A graph of this line goes through the stages of one's own model, under names of this line.
QUANTIZE: Stage[GraphState, OwnQuantizePart, OwnQuantizeRecord, OwnQuantized] = replace(
    own_line.QUANTIZE, name="rerank-quantize"
)
COMPILE: Stage[OwnQuantized, OwnCompilePart, OwnCompileRecord, OwnCompiled] = replace(
    own_line.COMPILE, name="rerank-compile"
)
VERIFY: Stage[OwnCompiled, RerankVerifyPart, RerankVerifyRecord, RerankVerified] = Stage(
    name="rerank-verify",
    run=_verify,
    record=RerankVerifyRecord,
    state=lambda compiled, output, record: RerankVerified(compiled=compiled, output=output, record=record),
    code=(f"{_RERANK}.verify", "build_engines.proof", *own_line.VERIFY.code, *_TRAINING, *_LISTS),
    packages=("onnxruntime", "numpy"),
)


def build(
    recipe: RerankRecipe, workspace: Workspace, releases: Releases, *, first: str | None = None
) -> RerankPublished:
    """Run a recipe to a published version; what is there already is reused.

    Args:
        recipe: what to build.
        workspace: where results of stages are kept.
        releases: where to publish, and where the first stage lies.
        first: run this stage of ``RERANK_STAGES`` and all after it again.

    Raises:
        GateRefused: the candidate does not hold, and the recipe does not say to publish the parent instead.
        BuildError, DataError, ArtifactError: something could not be done; says what and what to do.
    """
    from build_engines.rerank.publish import publish

    return run_to_published(
        recipe,
        workspace,
        Redo(first=first, stages=RERANK_STAGES),
        parent_instead=recipe.gate.on_refused == "publish_parent" and recipe.quantize.precision != "fp32",
        verified_by=lambda built, where, redo: verified_by(built, where, releases.repository, redo),
        publish=lambda verified, built, scratch, again: publish(
            verified, built, releases, scratch, again=again
        ),
    )


def verified_by(recipe: RerankRecipe, workspace: Workspace, repository: Path, redo: Redo) -> RerankVerified:
    """Run a recipe to a candidate that passed the gate."""

    def do(stage: Stage[In, Part, Record, Out], came_from: In, part: Part) -> Out:
        return workspace.do(stage, came_from, part, redo=redo.covers(stage.name))

    part = resolved(repository, recipe.first_stage)  # before anything is done: it may not be there
    loaded = do(LOAD, Start(), LoadPart(data=recipe.data, split=recipe.split))
    candidates = do(CANDIDATES, loaded, part)
    trained = do(TRAIN, candidates, _train_part(recipe))
    quantized = do(QUANTIZE, trained, recipe.quantize)
    compiled = do(COMPILE, quantized, OwnCompilePart(compile=recipe.compile, serve=recipe.serve))
    return do(VERIFY, compiled, _verify_part(recipe))


def status(recipe: RerankRecipe, workspace: Workspace, repository: Path) -> list[tuple[str, str]]:
    """Each stage and whether its result is here; looks only."""
    looker = Looker(workspace=workspace)
    loaded = looker.peek(LOAD, Start(), LoadPart(data=recipe.data, split=recipe.split))
    try:
        part = resolved(repository, recipe.first_stage)
    except ArtifactError as error:
        return [*looker.rows, (CANDIDATES.name, f"to do: {error}")]
    candidates = looker.peek(CANDIDATES, loaded, part)
    trained = looker.peek(TRAIN, candidates, _train_part(recipe))
    quantized = looker.peek(QUANTIZE, trained, recipe.quantize)
    compiled = looker.peek(COMPILE, quantized, OwnCompilePart(compile=recipe.compile, serve=recipe.serve))
    looker.peek(VERIFY, compiled, _verify_part(recipe))
    return looker.rows


def _train_part(recipe: RerankRecipe) -> RerankTrainStagePart:
    return RerankTrainStagePart(
        features=recipe.features,
        network=recipe.network,
        train=recipe.train,
        max_batch=recipe.serve.max_batch,
    )


def _verify_part(recipe: RerankRecipe) -> RerankVerifyPart:
    # What to do with a refusal is not the gate's business.
    return RerankVerifyPart(
        gate=replace(recipe.gate, on_refused="stop"),
        max_batch=recipe.serve.max_batch,
        model=recipe.model.name,
    )
