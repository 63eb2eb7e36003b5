"""``[[compress]]`` of a recipe: any chain of steps, each entry with the fields of its own step.

    [[compress]]
    step = "prune_heads"
    keep = 4

What fields an entry has depends on its ``step``, so it is read by the step's own options; entries are counted from 0, in
messages as in ``--set compress.0.keep=2``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from build_engines.compression.registry import find
from build_engines.errors import RecipeError
from build_engines.recipe_toml import Origin, decode

MOST_STEPS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressEntry:
    """One entry of ``[[compress]]``.

    Attributes:
        step: its name (``build_engines.compression.registry``).
        options: of that step: its ``Step.options``.
    """

    step: str
    options: Any

    @classmethod
    def from_table(cls, table: Mapping[str, Any], origin: Origin, key: str) -> Self:
        """Read an entry.

        Raises:
            RecipeError: no step, one that is not known (names the nearest), or a field that it has not or that is out of
                range; names file, entry and field.
        """
        name = table.get("step")
        if not isinstance(name, str):
            raise RecipeError(
                f'{origin.place(f"{key}.step")} is {name!r}; name a step, such as step = "finetune"'
            )
        try:
            step = find(name)
        except RecipeError as error:
            raise RecipeError(
                f"{origin.place(f'{key}.step')}: {error}; a recipe from a newer version may name steps that this one has not"
            ) from error
        fields = {field: value for field, value in table.items() if field != "step"}
        return cls(step=name, options=decode(step.options, fields, origin, key, what=f"step {name}"))


def check_chain(entries: Sequence[CompressEntry], family: str) -> None:
    """See that each step makes sense for the family.

    Raises:
        ValueError: one does not; names the entry, and the families that it is for.
    """
    if len(entries) > MOST_STEPS:
        raise ValueError(f"compress has {len(entries)} entries, use {MOST_STEPS} or fewer")
    for number, entry in enumerate(entries):
        families = find(entry.step).families
        if family not in families:
            raise ValueError(
                f"compress.{number}: step {entry.step!r} is for {' and '.join(families)}, not for this kind of recipe ({family}); take it out"
            )
