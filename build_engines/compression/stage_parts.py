"""What the compress stages get of a recipe; apart from the stages, which import torch."""

from __future__ import annotations

from dataclasses import dataclass

from build_engines.compression.parts import CompressEntry
from build_engines.encoder.recipe_parts import FormPart
from build_engines.intents.recipe_parts import IntentsPart
from build_engines.recipe_parts import TrainPart


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressPart:
    """For one step of a recommender's chain: the step, its number, and how the network was trained."""

    number: int
    entry: CompressEntry
    train: TrainPart


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressEncoderPart:
    """For one step of an encoder's chain: the step, its number, how vectors are made, and the intents that teach."""

    number: int
    entry: CompressEntry
    form: FormPart
    intents: IntentsPart | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressTextPart:
    """For one step of a decoder's chain: the step, its number, and how large batches are."""

    number: int
    entry: CompressEntry
    batch_tokens: int
    seed: int
