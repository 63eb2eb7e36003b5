"""What both lines do with their stages: which to run again, what is here already, and what to say at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from build_engines.errors import BuildError
from build_engines.progress import Progress
from build_engines.stage import In, Out, Part, Record, Stage
from build_engines.stage_names import STAGES
from build_engines.workspace import Workspace
from server.artifacts.repository import OpenedVersion


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
    """How either line ends."""

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


def say_published(published: PublishedState, progress: Progress) -> None:
    """Tell what became of a build, and where its report is."""
    manifest, folder = published.opened.manifest, Path(published.opened.folder)
    what = "published" if published.new else "was published before"
    serves = "serves" if published.current else "does not serve (another version is current)"
    progress.say(f"{manifest.model} version {manifest.version} {what} and {serves}: {folder}")
    progress.say(f"report: {folder / 'report.html'}")
