"""What a stage is: a function from state to state, and all that its result depends on.

Stages never import each other and know no cache; ``pipeline`` strings them together and ``workspace`` decides
whether one has to run. A stage that reads something that is not in its list would be reused when it should
not be: hence the rule that a stage gets its part of the recipe, never the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from build_engines.progress import Progress
from build_engines.states import Output, State

In = TypeVar("In", bound=State)
Part = TypeVar("Part")
Record = TypeVar("Record", bound=msgspec.Struct)
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Where a stage works.

    Attributes:
        folder: to write the result into; empty at first, and renamed into the cache when the stage returns.
        scratch: survives a kill and is there again when the same stage runs again (checkpoints); removed at
            the end.
        progress: what the person sees.
    """

    folder: Path
    scratch: Path
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Generic[In, Part, Record, Out]):
    """One step of the line.

    Attributes:
        name: of its cache folder, of ``--from``, and in messages.
        run: does the work; writes files into ``work.folder`` and returns the record.
        record: type of the record.
        state: makes the next state.
        code: modules and packages of ours whose change makes the result stale.
        packages: distributions whose version is part of the key.
        inputs: digests of what the part only names (data files), by name.
    """

    name: str
    run: Callable[[In, Part, Work], Record]
    record: type[Record]
    state: Callable[[In, Output, Record], Out]
    code: tuple[str, ...]
    packages: tuple[str, ...] = ()
    inputs: Callable[[Part], Mapping[str, str]] = lambda part: {}
