"""Which line a recipe runs down, and which replay a version wants: each is imported when it is asked for, and no other with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from build_engines.errors import RecipeError
from build_engines.recipe_kind import Kind
from build_engines.recipe_parts import PublishPart
from build_engines.stage_names import ENCODER_STAGES, OWN_STAGES, RERANK_STAGES, STAGES, TEXT_STAGES
from build_engines.workspace import Workspace
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion

Places = Callable[[PublishPart], tuple[Workspace, Releases]]
STAGES_OF: dict[Kind, tuple[str, ...]] = {
    "recommender": STAGES,
    "text": TEXT_STAGES,
    "encoder": ENCODER_STAGES,
    "own": OWN_STAGES,
    "rerank": RERANK_STAGES,
}
_WORDS: dict[Kind, str] = {
    "recommender": "a recommender",
    "text": "a text model",
    "encoder": "an encoder",
    "own": "a model of your own",
    "rerank": "a re-ranker",
}


def first_stage(kind: Kind, first: str | None, *, force: bool) -> str | None:
    """The stage from which on all run again; None: none in any case.

    Raises:
        RecipeError: the line has no such stage.
    """
    stages = STAGES_OF[kind]
    first = stages[0] if force else first
    if first is not None and first not in stages:
        raise RecipeError(f"--from {first}: no stage of {_WORDS[kind]}; stages are {', '.join(stages)}")
    return first


@dataclass(frozen=True, slots=True)
class _Line:
    """A recipe with its line.

    Attributes:
        publish: the recipe's [publish].
        build: runs it to a published version, from a stage on in any case.
        status: each stage, and whether its result is here.
    """

    publish: PublishPart
    build: Callable[[Workspace, Releases, str | None], object]
    status: Callable[[Workspace, Path], list[tuple[str, str]]]


def run_line(kind: Kind, file: Path, sets: Sequence[str], places: Places, first: str | None) -> None:
    """Build what a recipe says, and publish it.

    Args:
        kind: of the recipe.
        file: the recipe.
        sets: of the command line.
        places: workspace and repository, by the recipe's [publish].
        first: see ``first_stage``.
    """
    line = _opened(kind, file, sets)
    line.build(*places(line.publish), first)


def line_status(
    kind: Kind, file: Path, sets: Sequence[str], workspace: Workspace, repository: Path
) -> list[tuple[str, str]]:
    """Each stage of a recipe's line, and whether its result is here; looks only."""
    return _opened(kind, file, sets).status(workspace, repository)


def _opened(kind: Kind, file: Path, sets: Sequence[str]) -> _Line:
    if kind == "text":
        from build_engines.text import line as text_line
        from build_engines.text.recipe import load_text_recipe

        text = load_text_recipe(file, sets)
        return _Line(
            text.publish,
            lambda workspace, releases, first: text_line.build(text, workspace, releases, first=first),
            lambda workspace, repository: text_line.status(text, workspace),
        )
    if kind == "encoder":
        from build_engines.encoder import line as encoder_line
        from build_engines.encoder.recipe import load_encoder_recipe

        encoder = load_encoder_recipe(file, sets)
        return _Line(
            encoder.publish,
            lambda workspace, releases, first: encoder_line.build(encoder, workspace, releases, first=first),
            lambda workspace, repository: encoder_line.status(encoder, workspace),
        )
    if kind == "own":
        from build_engines.own_model import line as own_line
        from build_engines.own_model.recipe import load_own_recipe

        own = load_own_recipe(file, sets)
        return _Line(
            own.publish,
            lambda workspace, releases, first: own_line.build(own, workspace, releases, first=first),
            lambda workspace, repository: own_line.status(own, workspace),
        )
    if kind == "rerank":
        from build_engines.rerank import line as rerank_line
        from build_engines.rerank.recipe import load_rerank_recipe

        rerank = load_rerank_recipe(file, sets)
        return _Line(
            rerank.publish,
            lambda workspace, releases, first: rerank_line.build(rerank, workspace, releases, first=first),
            lambda workspace, repository: rerank_line.status(rerank, workspace, repository),
        )
    from build_engines import pipeline
    from build_engines.recipe import load_recipe
    from build_engines.steps import Redo

    recipe = load_recipe(file, sets)
    return _Line(
        recipe.publish,
        lambda workspace, releases, first: pipeline.build(recipe, workspace, releases, Redo(first=first)),
        lambda workspace, repository: pipeline.status(recipe, workspace),
    )


def replay_version(opened: OpenedVersion) -> None:
    """Load a version as the server does, golden answers included.

    Raises:
        ArtifactError: it would not serve; says why.
    """
    task = opened.manifest.task
    if task == "text_generation":
        from build_engines.text.publish import replay_text

        replay_text(opened)
    elif task == "sentence_encoding":
        from build_engines.encoder.publish import replay_encoder

        replay_encoder(opened)
    elif task == "tensor_inference":
        from build_engines.own_model.publish import replay_tensors

        replay_tensors(opened)
    elif task == "reranking":
        from build_engines.rerank.publish import replay_reranker

        replay_reranker(opened)
    else:
        from build_engines.publish import replay

        replay(opened)
