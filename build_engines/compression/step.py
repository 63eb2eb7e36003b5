"""What a compression step is: a function from model to model, and a record of what it did.

A recipe names any chain of them, in order, under ``[[compress]]``; each entry has ``step = "<name>"`` and the fields of the
step's options dataclass. ``build_engines.compression.registry`` knows which names there are and where they live (by module
path, imported when used). Training between two prunings is a step too (``finetune``, ``distil``), so a schedule is either a
chain, or the step's own ``rounds``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from build_engines.compression.model import Compressible, Sizes
from build_engines.compression.step_records import Curve as Curve
from build_engines.compression.step_records import StepRecord as StepRecord
from build_engines.progress import Progress

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """Where a step works.

    Attributes:
        scratch: survives a kill and is there again when the same step runs again (checkpoints of training).
        progress: what the person sees.
        parent: the model as it was before the first step of the chain: the default teacher.
    """

    scratch: Path
    progress: Progress
    parent: Compressible


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[Options]):
    """One kind of step.

    Attributes:
        name: in recipes.
        options: frozen dataclass of its fields, all with defaults or required; its ``__post_init__`` raises ValueError with
            field, value and limit.
        run: does it. May change the model that it gets (the chain owns it) or return another; never ``work.parent``.
        families: that it makes sense for; a recipe that names it for another is refused.
        code: modules of ours besides the step's own that its result depends on.
    """

    name: str
    options: type[Options]
    run: Callable[[Compressible, Options, StepWork], tuple[Compressible, StepRecord]]
    families: tuple[str, ...] = ("recommender", "encoder", "decoder")
    code: tuple[str, ...] = field(default=())


def sizes_of(sizes: Sizes) -> dict[str, int]:
    """For a record."""
    names = ("blocks", "dim", "heads", "kv_heads", "head_dim", "inner", "rows")
    return {name: int(getattr(sizes, name)) for name in names}
