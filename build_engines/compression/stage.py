"""One stage for each entry of ``[[compress]]``, whatever the line: between states of one type, its result kept by itself.

The stage's code is the chain's, the family's and the step's own, so that a change in one step makes no other stale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from build_engines.compression.named_files import named_files
from build_engines.compression.parts import CompressEntry
from build_engines.compression.records import CompressRecord
from build_engines.compression.registry import STEPS, find
from build_engines.stage import Part, Stage, Work
from build_engines.states import Output, State

Same = TypeVar("Same", bound=State)

_CHAIN = (
    *(
        f"build_engines.compression.{name}"
        for name in (
            "chain",
            "model",
            "named_files",
            "packed_size",
            "parts",
            "registry",
            "sharing",
            "stage_parts",
            "step",
            "step_records",
        )
    ),
    "build_engines.compression.families.narrowing",
    "build_engines.proof.leak",
    "build_engines.recipe_toml",
)
_PACKAGES = ("torch", "safetensors", "numpy")


def compress_stage(
    name: str,
    entry: CompressEntry,
    run: Callable[[Same, Part, Work], CompressRecord],
    state: Callable[[Same, Output, CompressRecord], Same],
    code: tuple[str, ...],
) -> Stage[Same, Part, CompressRecord, Same]:
    """The stage of one step.

    Args:
        name: of all steps of this line, in messages and of their folder.
        entry: what the step is.
        run: opens models, and runs ``chain.run_step``.
        state: the state after it.
        code: modules of the family.
    """
    return Stage(
        name=name,
        run=run,
        record=CompressRecord,
        state=state,
        code=tuple(sorted({*_CHAIN, *code, STEPS[entry.step], *find(entry.step).code})),
        packages=_PACKAGES,
        inputs=lambda part: named_files(entry.options),
    )


def run_chain(
    state: Same,
    steps: Sequence[tuple[Stage[Same, Part, CompressRecord, Same], Part]],
    do: Callable[[Stage[Same, Part, CompressRecord, Same], Same, Part], Same],
    say: Callable[[str], None],
) -> Same:
    """Every step in its order.

    Args:
        state: before the first.
        steps: a stage and its part each.
        do: runs a stage, or takes its result from the workspace.
        say: told which step of how many is next.
    """
    for number, (stage, part) in enumerate(steps, start=1):
        say(f"{stage.name}: step {number} of {len(steps)}, {part_name(part)}")
        state = do(stage, state, part)
    return state


def part_name(part: object) -> str:
    """Of the step that a part is for."""
    entry = getattr(part, "entry", None)
    return entry.step if isinstance(entry, CompressEntry) else ""
