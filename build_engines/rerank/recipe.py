"""A recipe for a re-ranker: ``kind = "rerank"``, and the sections of ``recipe_parts``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from build_engines.data.splits import SplitRule
from build_engines.own_model.metric_names import metric_cutoff
from build_engines.own_model.recipe_parts import OwnQuantizePart, ServePart
from build_engines.recipe import find_recipe
from build_engines.recipe_parts import CompilePart, DataPart, ModelPart, PublishPart
from build_engines.recipe_toml import Origin, apply_sets, decode, parse_toml
from build_engines.rerank.recipe_parts import (
    FeaturesPart,
    FirstStagePart,
    RerankGatePart,
    RerankNetworkPart,
    RerankTrainPart,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRecipe:
    """What to build, behind what, how well.

    Attributes:
        kind: always "rerank".
        model: [model]
        first_stage: [first_stage]
        data: [data], the very log that the first stage was built from.
        split: [split], the very one of the first stage.
        features: [features]
        network: [network]
        train: [train]
        quantize: [quantize]
        serve: [serve]; rows of candidates.
        compile: [compile]
        gate: [gate]
        publish: [publish]
        text: the file, and what was set on the command line.
    """

    kind: Literal["rerank"]
    model: ModelPart
    first_stage: FirstStagePart
    data: DataPart
    split: SplitRule = field(default_factory=SplitRule)
    features: FeaturesPart = field(default_factory=FeaturesPart)
    network: RerankNetworkPart = field(default_factory=RerankNetworkPart)
    train: RerankTrainPart = field(default_factory=RerankTrainPart)
    quantize: OwnQuantizePart = field(default_factory=OwnQuantizePart)
    serve: ServePart = field(default_factory=lambda: ServePart(max_batch=1024))
    compile: CompilePart = field(default_factory=CompilePart)
    gate: RerankGatePart = field(default_factory=RerankGatePart)
    publish: PublishPart = field(default_factory=PublishPart)
    text: str = field(default="", init=False)

    def __post_init__(self) -> None:
        """Check what sections say of each other."""
        if self.serve.dims:
            raise ValueError(
                "serve.dims is for models of one's own; a re-ranker's rows have one size, leave it out"
            )
        if self.first_stage.candidates > self.serve.max_batch:
            raise ValueError(
                f"first_stage.candidates is {self.first_stage.candidates}, serve.max_batch is {self.serve.max_batch} rows"
            )
        too_large = [size for size in self.gate.batch_sizes if size > self.serve.max_batch]
        if too_large:
            raise ValueError(
                f"gate.batch_sizes has {too_large[0]}, serve.max_batch is {self.serve.max_batch}"
            )
        cutoff = metric_cutoff(self.gate.first_metric)
        if cutoff is None:
            raise ValueError(
                f"gate.first_metric is {self.gate.first_metric!r}; use one of ranks, such as ndcg@10"
            )
        if cutoff >= self.first_stage.candidates:
            raise ValueError(
                f"gate.first_metric {self.gate.first_metric} looks at {cutoff} ranks, first_stage.candidates is "
                f"{self.first_stage.candidates}: there would be nothing to rank"
            )
        if self.gate.metric is not None or self.gate.output is not None or self.gate.logits:
            raise ValueError(
                "gate.metric, output and logits are for models of one's own; a re-ranker's are fixed, leave them out"
            )
        plans = [one for one in self.compile.targets if one.startswith("tensorrt")]
        if self.quantize.precision == "int8_dynamic" and plans:
            raise ValueError(
                f'quantize.precision is "int8_dynamic", and compile.targets has {plans[0]!r}: TensorRT has no dynamic ranges; '
                'use "int8"'
            )

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of ``text``."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def parent(self) -> RerankRecipe:
        """The same recipe without compression."""
        plain = replace(self, quantize=replace(self.quantize, precision="fp32"))
        note = '\n# the compressed candidate was refused: quantize.precision = "fp32"\n'
        return _with_text(plain, self.text + note)


def load_rerank_recipe(file: Path, sets: Sequence[str] = ()) -> RerankRecipe:
    """Read a recipe; see ``recipe.load_recipe``.

    Raises:
        RecipeError: it is missing, not TOML, has an unknown key, or a value is wrong; names the place.
    """
    file = find_recipe(file)
    table, text = parse_toml(file)
    keys = apply_sets(table, sets)
    recipe = decode(RerankRecipe, table, Origin(file=file, set_keys=keys))
    return _with_text(recipe, text + "".join(f"\n# --set {setting}" for setting in sets))


def _with_text(recipe: RerankRecipe, text: str) -> RerankRecipe:
    object.__setattr__(recipe, "text", text)
    return recipe
