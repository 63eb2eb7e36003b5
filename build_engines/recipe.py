"""A recipe: one TOML file, one frozen object, every stage's part of it.

The whole recipe is recorded in the manifest, and each stage's key holds only its own part, so that a new gate
limit does not train anything. Unknown keys are refused with the nearest known one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from build_engines.compression.parts import CompressEntry, check_chain
from build_engines.data.splits import SplitRule
from build_engines.errors import RecipeError
from build_engines.models.mix import MixGrid
from build_engines.models.transitions import TransitionConfig
from build_engines.recipe_parts import (
    CompilePart,
    DataPart,
    ExportPart,
    GatePart,
    ModelPart,
    NetworkPart,
    PublishPart,
    QuantizePart,
    TrainPart,
    metric_cutoff,
)
from build_engines.recipe_toml import Origin, apply_sets, decode, parse_toml
from build_engines.torch_device import check_device

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to build, from what, how well.

    Attributes:
        model: [model]
        data: [data]
        split: [split]
        network: [network]
        train: [train]
        transitions: [transitions]
        mix: [mix]
        compress: [[compress]], steps in their order; see ``build_engines.compression``.
        quantize: [quantize]
        export: [export]
        compile: [compile]
        gate: [gate]
        publish: [publish]
        text: the file, and what was set on the command line.
    """

    model: ModelPart
    data: DataPart
    split: SplitRule = field(default_factory=SplitRule)
    network: NetworkPart = field(default_factory=NetworkPart)
    train: TrainPart = field(default_factory=TrainPart)
    transitions: TransitionConfig = field(default_factory=TransitionConfig)
    mix: MixGrid = field(default_factory=MixGrid)
    compress: tuple[CompressEntry, ...] = ()
    quantize: QuantizePart = field(default_factory=QuantizePart)
    export: ExportPart = field(default_factory=ExportPart)
    compile: CompilePart = field(default_factory=CompilePart)
    gate: GatePart = field(default_factory=GatePart)
    publish: PublishPart = field(default_factory=PublishPart)
    text: str = field(default="", init=False)

    def __post_init__(self) -> None:
        """Check what sections say of each other."""
        check_chain(self.compress, "recommender")
        too_large = [size for size in self.gate.batch_sizes if size > self.export.max_batch]
        if too_large:
            raise ValueError(
                f"gate.batch_sizes has {too_large[0]}, export.max_batch is {self.export.max_batch}"
            )
        if self.transitions.half_life_s is not None:
            raise ValueError(
                f"transitions.half_life_s is {self.transitions.half_life_s:g}; leave it out: "
                "training does not keep the times that it needs"
            )
        ranks = metric_cutoff(self.gate.metric) + 1  # one more, to see a tie that crosses the cutoff
        if self.export.max_k < ranks:
            raise ValueError(
                f"export.max_k is {self.export.max_k}, gate.metric {self.gate.metric} needs {ranks} or more"
            )

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of ``text``."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def parent(self) -> Recipe:
        """The same recipe without compression."""
        plain = replace(
            self, compress=(), quantize=replace(self.quantize, precision="fp32", table="int8", neighbours=0)
        )
        return _with_text(
            plain,
            self.text
            + '\n# the compressed candidate was refused: no [[compress]], quantize.precision = "fp32"\n',
        )


def load_recipe(file: Path, sets: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        file: the TOML file; a bare name is also looked for among the recipes that come with the builder.
        sets: ``section.key=value`` settings that win over the file.

    Raises:
        RecipeError: it is missing, not TOML, has an unknown key, or a value is wrong; names the place.
    """
    file = find_recipe(file)
    table, text = parse_toml(file)
    keys = apply_sets(table, sets)
    origin = Origin(file=file, set_keys=keys)
    recipe = decode(Recipe, table, origin)
    check_device(origin.place("train.device"), recipe.train.device)
    return _with_text(recipe, text + "".join(f"\n# --set {setting}" for setting in sets))


def find_recipe(file: Path) -> Path:
    """The file itself, or a built-in recipe of that name.

    Raises:
        RecipeError: neither is there; lists the built-in ones.
    """
    for path in (file, RECIPES / file.name, RECIPES / f"{file.name}.toml"):
        if path.is_file() and (path == file or len(file.parts) == 1):
            return path
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
    raise RecipeError(
        f"{file}: no such recipe; name a TOML file, or one that comes with the builder: {known}"
    )


def _with_text(recipe: Recipe, text: str) -> Recipe:
    object.__setattr__(recipe, "text", text)
    return recipe
