"""Sizes of a re-ranking network, apart from torch: a recipe is read without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["dlrm", "dcn_v2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankShape:
    """Sizes of a network; the fields of ``recipe_parts.RerankNetworkPart`` that it is made of."""

    architecture: Architecture
    dim: int
    hidden: tuple[int, ...]
    cross_layers: int
    dropout: float
