"""What all lines do with their stages: which to run again, what is here already, and what to say at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self, TypeVar

from build_engines.errors import BuildError, GateRefused
from build_engines.progress import Progress
from build_engines.stage import In, Out, Part, Record, Stage
from build_engines.stage_names import STAGES
from build_engines.workspace import Workspace
from server.artifacts.repository import OpenedVersion

Verified = TypeVar("Verified")
AnyRecipeT = TypeVar("AnyRecipeT", bound="AnyRecipe")
PublishedT = TypeVar("PublishedT", bound="PublishedState")


@dataclass(frozen=True, slots=True, kw_only=True)
class Redo:
    """Which stages run even if their results are here.

    Attributes:
        first: this stage and all after it; None: none.
        stages: of the line, in order.

    Raises:
        BuildError: the line has no such stage.
    """

    first: str | None = None
    stages: Sequence[str] = STAGES

    def __post_init__(self) -> None:
        """Check the name."""
        if self.first is not None and self.first not in self.stages:
            raise BuildError(f"--from {self.first}: no such stage; stages are {', '.join(self.stages)}")

    def covers(self, stage: str) -> bool:
        """Whether this stage runs in any case."""
        return self.first is not None and self.stages.index(stage) >= self.stages.index(self.first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looker:
    """Asks stage after stage whether its result is here; runs none.

    A stage whose input is not here yet cannot be asked: its key depends on it.

    Attributes:
        workspace: where results are kept.
        rows: each stage's name, and what was found.
    """

    workspace: Workspace
    rows: list[tuple[str, str]] = field(default_factory=list)

    def peek(self, stage: Stage[In, Part, Record, Out], came_from: In | None, part: Part) -> Out | None:
        """The stage's result, if it is here."""
        state = None if came_from is None else self.workspace.peek(stage, came_from, part)
        output = getattr(state, "output", None)
        after = "" if came_from is not None else " (after the stage before it)"
        self.rows.append((stage.name, f"done, {output.folder}" if output is not None else f"to do{after}"))
        return state


class PublishedState(Protocol):
    """How each line ends."""

    @property
    def opened(self) -> OpenedVersion:
        """The version in the repository."""
        ...

    @property
    def new(self) -> bool:
        """Whether it was put there now."""
        ...

    @property
    def current(self) -> bool:
        """Whether it serves."""
        ...


class AnyRecipe(Protocol):
    """What every recipe has."""

    def parent(self) -> Self:
        """The same recipe without compression."""
        ...


def run_to_published(
    recipe: AnyRecipeT,
    workspace: Workspace,
    redo: Redo,
    *,
    parent_instead: bool,
    verified_by: Callable[[AnyRecipeT, Workspace, Redo], Verified],
    publish: Callable[[Verified, AnyRecipeT, Path, bool], PublishedT],
) -> PublishedT:
    """Run a line to its end: the candidate, or the parent where the gate refuses it and the recipe says so.

    Args:
        recipe: what to build.
        workspace: where results of stages are kept.
        redo: which stages run in any case; of the parent's none does.
        parent_instead: publish the uncompressed parent if the candidate does not hold.
        verified_by: runs a recipe to what passed the gate.
        publish: puts it into the repository; gets an empty folder, and whether to publish what is there already.

    Raises:
        GateRefused: the candidate does not hold, and nothing is to be published instead.
    """
    say = workspace.progress.say
    try:
        verified = verified_by(recipe, workspace, redo)
    except GateRefused as refused:
        if not parent_instead:
            raise
        say(f"{refused}\nverify: publishing the FP32 parent instead, as the recipe says")
        recipe = recipe.parent()
        verified = verified_by(recipe, workspace, Redo(stages=redo.stages))
    say("publish ...")
    with workspace.scratch("publish") as scratch:
        published = publish(verified, recipe, scratch, redo.covers("publish"))
    say_published(published, workspace.progress)
    return published


def say_published(published: PublishedState, progress: Progress) -> None:
    """Tell what became of a build, and where its report is."""
    manifest, folder = published.opened.manifest, Path(published.opened.folder)
    what = "published" if published.new else "was published before"
    serves = "serves" if published.current else "does not serve (another version is current)"
    progress.say(f"{manifest.model} version {manifest.version} {what} and {serves}: {folder}")
    progress.say(f"report: {folder / 'report.html'}")
