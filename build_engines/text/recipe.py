"""A recipe for a text model: ``kind = "text"``, and the sections of ``recipe_parts``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from build_engines.compression.parts import CompressEntry, check_chain
from build_engines.recipe import find_recipe
from build_engines.recipe_parts import CompilePart, PublishPart
from build_engines.recipe_toml import Origin, apply_sets, decode, parse_toml
from build_engines.text.recipe_parts import (
    CheckpointPart,
    PackagePart,
    TextDataPart,
    TextGatePart,
    TextModelPart,
    TextSplitPart,
)
from build_engines.text.tuning_parts import TuningConfig
from build_engines.torch_device import check_device


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRecipe:
    """What to build, from what, how well.

    Attributes:
        kind: always "text"; it is what tells this recipe from a recommender's.
        model: [model]
        checkpoint: [checkpoint]
        data: [data]
        split: [split]
        finetune: [finetune]; None: the checkpoint is served as it is.
        compress: [[compress]], steps in their order, behind fine-tuning; see ``build_engines.compression``.
        package: [package]
        compile: [compile]; TensorRT plans are made of the engine's own graph, its KV length fixed at package.max_context.
        gate: [gate]
        publish: [publish]
        text: the file, and what was set on the command line.
    """

    kind: Literal["text"]
    model: TextModelPart
    checkpoint: CheckpointPart
    data: TextDataPart
    split: TextSplitPart = field(default_factory=TextSplitPart)
    finetune: TuningConfig | None = None
    compress: tuple[CompressEntry, ...] = ()
    package: PackagePart = field(default_factory=PackagePart)
    compile: CompilePart = field(default_factory=CompilePart)
    gate: TextGatePart = field(default_factory=TextGatePart)
    publish: PublishPart = field(default_factory=PublishPart)
    text: str = field(default="", init=False)

    def __post_init__(self) -> None:
        """Check what sections say of each other."""
        check_chain(self.compress, "decoder")
        if self.data.max_tokens > self.package.max_context:
            raise ValueError(
                f"data.max_tokens is {self.data.max_tokens}, package.max_context is {self.package.max_context}: "
                "the gate could not read such a pair"
            )
        if self.gate.filled >= self.package.max_context:
            raise ValueError(
                f"gate.filled is {self.gate.filled}, must be below package.max_context ({self.package.max_context})"
            )

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of ``text``."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def parent(self) -> TextRecipe:
        """The same recipe without compression."""
        package = replace(self.package, variant="fp32", awq=False, rounding="nearest", mixed=None)
        plain = replace(self, compress=(), package=package)
        note = '\n# the compressed candidate was refused: no [[compress]], package.variant = "fp32"\n'
        return _with_text(plain, self.text + note)


def load_text_recipe(file: Path, sets: Sequence[str] = ()) -> TextRecipe:
    """Read a recipe; see ``recipe.load_recipe``.

    Raises:
        RecipeError: it is missing, not TOML, has an unknown key, or a value is wrong; names the place.
    """
    file = find_recipe(file)
    table, text = parse_toml(file)
    keys = apply_sets(table, sets)
    origin = Origin(file=file, set_keys=keys)
    recipe = decode(TextRecipe, table, origin)
    if recipe.finetune is not None:
        check_device(origin.place("finetune.device"), recipe.finetune.device)
    return _with_text(recipe, text + "".join(f"\n# --set {setting}" for setting in sets))


def _with_text(recipe: TextRecipe, text: str) -> TextRecipe:
    object.__setattr__(recipe, "text", text)
    return recipe
