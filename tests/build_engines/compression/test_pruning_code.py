"""A change in any module that a pruning step is made of makes the step's results stale."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from build_engines.compression import registry
from build_engines.compression.stage import _CHAIN

ROOT = Path(__file__).parents[3]
# Types and errors, and what stands beside a step: the chain reads them anew, or they decide nothing.
PLAIN = {"build_engines.errors", "build_engines.fingerprint", "build_engines.progress"}
STEPS = [name for name in registry.STEPS if name.startswith("prune_") or name == "share_blocks"]


def imported(module: str, seen: set[str]) -> set[str]:
    """All modules of the builder that a module imports, and those that they do."""
    path = ROOT / (module.replace(".", "/") + ".py")
    if module in seen or not path.is_file():
        return seen
    seen.add(module)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("build_engines"):
            imported(node.module or "", seen)
            for name in node.names:
                imported(f"{node.module}.{name.name}", seen)
    return seen


@pytest.mark.parametrize("name", STEPS)
def test_a_step_names_all_the_code_that_it_is_made_of(name: str) -> None:
    """Each is in the step's own list or in the chain's, itself or with its package."""
    step = registry.find(name)
    listed = {registry.STEPS[name], *step.code, *_CHAIN}

    needed = imported(registry.STEPS[name], set()) - PLAIN

    assert len(needed) > 5
    assert (
        sorted(one for one in needed if not any(one == it or one.startswith(f"{it}.") for it in listed)) == []
    )
