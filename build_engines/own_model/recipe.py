"""A recipe for somebody's own model: ``kind = "own"``, ``source``, and the sections of ``recipe_parts``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from build_engines.own_model.recipe_parts import (
    OwnDataPart,
    OwnGatePart,
    OwnQuantizePart,
    Scalar,
    ServePart,
    SourcePart,
)
from build_engines.recipe import find_recipe
from build_engines.recipe_parts import CompilePart, ModelPart, PublishPart
from build_engines.recipe_toml import Origin, apply_sets, decode, parse_toml


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRecipe:
    """What to build, from what, how well.

    Attributes:
        kind: always "own".
        source: "python:package.module:factory" or "onnx:file.onnx".
        model: [model]
        data: [data]
        files: [files]
        options: [options]
        quantize: [quantize]
        serve: [serve]
        compile: [compile]
        gate: [gate]
        publish: [publish]
        folder: of the file.
        text: the file, and what was set on the command line.
    """

    kind: Literal["own"]
    source: str
    model: ModelPart
    data: OwnDataPart
    files: dict[str, str] = field(default_factory=dict)
    options: dict[str, Scalar] = field(default_factory=dict)
    quantize: OwnQuantizePart = field(default_factory=OwnQuantizePart)
    serve: ServePart = field(default_factory=ServePart)
    compile: CompilePart = field(default_factory=CompilePart)
    gate: OwnGatePart = field(default_factory=OwnGatePart)
    publish: PublishPart = field(default_factory=PublishPart)
    folder: Path = field(default=Path(), init=False)
    text: str = field(default="", init=False)

    def __post_init__(self) -> None:
        """Check what sections say of each other."""
        self.source_part()
        too_large = [size for size in self.gate.batch_sizes if size > self.serve.max_batch]
        if too_large:
            raise ValueError(
                f"gate.batch_sizes has {too_large[0]}, serve.max_batch is {self.serve.max_batch}"
            )
        if self.quantize.precision == "int8" and self.data.calibration is None:
            raise ValueError(
                'quantize.precision is "int8" and data.calibration is missing: give rows to measure ranges on, or use '
                '"int8_dynamic"'
            )
        plans = [one for one in self.compile.targets if one.startswith("tensorrt")]
        if self.quantize.precision == "int8_dynamic" and plans:
            raise ValueError(
                f'quantize.precision is "int8_dynamic", and compile.targets has {plans[0]!r}: TensorRT has no dynamic '
                'ranges; use "int8" with calibration rows'
            )
        if self.gate.metric is not None and self.data.labels is None:
            raise ValueError(
                f"gate.metric is {self.gate.metric!r} and data.labels is missing: name the array"
            )
        if (self.gate.metric or "").startswith("ndcg") and self.data.groups is None:
            raise ValueError(
                f"gate.metric is {self.gate.metric!r} and data.groups is missing: name the array"
            )

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of ``text``."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def source_part(self) -> SourcePart:
        """Where the model comes from."""
        return SourcePart(source=self.source, folder=self.folder, files=self.files, options=self.options)

    def parent(self) -> OwnRecipe:
        """The same recipe without compression."""
        plain = replace(self, quantize=replace(self.quantize, precision="fp32"))
        note = '\n# the compressed candidate was refused: quantize.precision = "fp32"\n'
        return _whole(plain, self.folder, self.text + note)


def load_own_recipe(file: Path, sets: Sequence[str] = ()) -> OwnRecipe:
    """Read a recipe; see ``recipe.load_recipe``.

    Raises:
        RecipeError: it is missing, not TOML, has an unknown key, or a value is wrong; names the place.
    """
    file = find_recipe(file)
    table, text = parse_toml(file)
    keys = apply_sets(table, sets)
    recipe = decode(OwnRecipe, table, Origin(file=file, set_keys=keys))
    return _whole(recipe, file.parent, text + "".join(f"\n# --set {setting}" for setting in sets))


def _whole(recipe: OwnRecipe, folder: Path, text: str) -> OwnRecipe:
    object.__setattr__(recipe, "folder", folder)
    object.__setattr__(recipe, "text", text)
    return recipe
