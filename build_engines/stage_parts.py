"""What a stage gets where that is more than one section; apart from stages, which import torch."""

from __future__ import annotations

from dataclasses import dataclass

from build_engines.models.mix import MixGrid
from build_engines.models.transitions import TransitionConfig
from build_engines.recipe_parts import GatePart, NetworkPart, TrainPart


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainStagePart:
    """For ``train``: the network, how it learns, how transitions are counted, which mixes are tried."""

    network: NetworkPart
    train: TrainPart
    transitions: TransitionConfig
    mix: MixGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyPart:
    """For ``verify``: the gate's limits, and the model's name for messages and manifest."""

    gate: GatePart
    model: str
