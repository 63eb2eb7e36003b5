"""Which compression steps there are, by name; each module is imported when it is used and holds a ``STEP``.

A new step is a module and a line here.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any

from build_engines.errors import RecipeError

if TYPE_CHECKING:  # it imports torch, and a recipe without steps does not wait for it
    from build_engines.compression.step import Step

# Kept in the order in which a person would chain them.
STEPS: dict[str, str] = {
    "prune_weights": "build_engines.compression.prune_weights",  # magnitude, l1, movement, wanda, sparsegpt, 2:4
    "prune_heads": "build_engines.compression.prune_heads",
    "prune_inner": "build_engines.compression.prune_inner",
    "prune_width": "build_engines.compression.prune_width",
    "prune_blocks": "build_engines.compression.prune_blocks",
    "prune_rows": "build_engines.compression.prune_rows",
    "share_weights": "build_engines.compression.share_weights",  # k-means codebooks
    "share_blocks": "build_engines.compression.share_blocks",
    "distil": "build_engines.compression.distil",
    "finetune": "build_engines.compression.finetune",
    "qat": "build_engines.compression.qat",
}


def find(name: str) -> Step[Any]:
    """The step of that name.

    Raises:
        RecipeError: there is none; names the nearest.
    """
    if name not in STEPS:
        near = difflib.get_close_matches(name, STEPS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(STEPS)}"
        raise RecipeError(f"compress: step {name!r} is not known; {hint}")
    step: Step[Any] = importlib.import_module(STEPS[name]).STEP
    return step
