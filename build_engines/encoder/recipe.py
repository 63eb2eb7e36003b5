"""A recipe for a sentence encoder: ``kind = "encoder"``, and the sections of ``recipe_parts``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from build_engines.compression.parts import CompressEntry, check_chain
from build_engines.encoder.recipe_parts import (
    EncoderCheckpointPart,
    EncoderGatePart,
    FormPart,
    PackageEncoderPart,
    TextsPart,
)
from build_engines.intents.recipe_parts import IntentsPart
from build_engines.recipe import find_recipe
from build_engines.recipe_parts import ModelPart, PublishPart
from build_engines.recipe_toml import Origin, apply_sets, decode, parse_toml
from build_engines.torch_device import check_device


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRecipe:
    """What to build, from what, how well.

    Attributes:
        kind: always "encoder".
        model: [model]
        checkpoint: [checkpoint]
        texts: [texts]
        form: [form]
        compress: [[compress]], steps in their order, before the intents; see ``build_engines.compression``.
        intents: [intents]; None: the encoder gets no head.
        package: [package]
        gate: [gate]
        publish: [publish]
        text: the file, and what was set on the command line.
    """

    kind: Literal["encoder"]
    model: ModelPart
    checkpoint: EncoderCheckpointPart
    texts: TextsPart
    form: FormPart = field(default_factory=FormPart)
    compress: tuple[CompressEntry, ...] = ()
    intents: IntentsPart | None = None
    package: PackageEncoderPart = field(default_factory=PackageEncoderPart)
    gate: EncoderGatePart = field(default_factory=EncoderGatePart)
    publish: PublishPart = field(default_factory=PublishPart)
    text: str = field(default="", init=False)

    def __post_init__(self) -> None:
        """Check that each step is one for encoders."""
        check_chain(self.compress, "encoder")

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of ``text``."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def parent(self) -> EncoderRecipe:
        """The same recipe without compression."""
        plain = replace(self, compress=(), package=replace(self.package, variant="fp32", mixed=None))
        note = '\n# the compressed candidate was refused: no [[compress]], package.variant = "fp32"\n'
        return _with_text(plain, self.text + note)


def load_encoder_recipe(file: Path, sets: Sequence[str] = ()) -> EncoderRecipe:
    """Read a recipe; see ``recipe.load_recipe``.

    Raises:
        RecipeError: it is missing, not TOML, has an unknown key, or a value is wrong; names the place.
    """
    file = find_recipe(file)
    table, text = parse_toml(file)
    keys = apply_sets(table, sets)
    origin = Origin(file=file, set_keys=keys)
    recipe = decode(EncoderRecipe, table, origin)
    if recipe.intents is not None:
        check_device(origin.place("intents.finetune.device"), recipe.intents.finetune.device)
    return _with_text(recipe, text + "".join(f"\n# --set {setting}" for setting in sets))


def _with_text(recipe: EncoderRecipe, text: str) -> EncoderRecipe:
    object.__setattr__(recipe, "text", text)
    return recipe
