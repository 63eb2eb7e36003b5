"""The sections of a re-ranker's recipe; each is what one stage gets, and part of its cache key.

Ranges stand in ``recipe_limits``. Units: as the names say; shares are 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from build_engines.own_model.recipe_parts import OwnGatePart
from build_engines.rerank.shape import Architecture, RerankShape
from server.encoding.rerank_features import CROSS, ITEM, NEWEST

OnRefused = Literal["stop", "publish_parent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStagePart:
    """The published recommender whose candidates are ranked again ([first_stage]).

    Attributes:
        model: its name in the repository.
        version: of it; empty: the one that serves.
        candidates: best items of it that are ranked again.
    """

    model: str
    version: str = ""
    candidates: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesPart:
    """What the re-ranker reads ([features]).

    Attributes:
        attributes: columns of the item data, hashed and compared with the history's.
        item_buckets: of the hash of item ids, the candidate's and the newest one's.
        attribute_buckets: of each attribute.
        cross_buckets: of the newest item's first attribute with the candidate's.
        salt: of the hash: another one is another model.
        max_history: newest items that are looked at.
    """

    attributes: tuple[str, ...] = ("category", "brand")
    item_buckets: int = 4096
    attribute_buckets: int = 512
    cross_buckets: int = 2048
    salt: int = 1
    max_history: int = 20

    def buckets(self) -> dict[str, int]:
        """By sparse feature."""
        return {
            ITEM: self.item_buckets,
            **dict.fromkeys(self.attributes, self.attribute_buckets),
            NEWEST: self.item_buckets,
            CROSS: self.cross_buckets,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankNetworkPart:
    """The network ([network])."""

    architecture: Architecture = "dcn_v2"
    dim: int = 16
    hidden: tuple[int, ...] = (128, 64)
    cross_layers: int = 2
    dropout: float = 0.1

    def shape(self) -> RerankShape:
        """Its sizes."""
        return RerankShape(
            architecture=self.architecture,
            dim=self.dim,
            hidden=self.hidden,
            cross_layers=self.cross_layers,
            dropout=self.dropout,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankTrainPart:
    """How it learns ([train]): click or not by cross-entropy, and which of a list by softmax.

    Attributes:
        list_weight: of the softmax over each list; the rest is of each row's own cross-entropy.
        epochs: passes.
        batch_lists: lists in a step.
        learning_rate: peak.
        weight_decay: of everything but the table.
        table_decay: of the table.
        warmup_share: of all steps.
        clip_norm: of the gradient.
        patience: epochs without a better one.
        checkpoint_every: steps.
        validation_share: of the training lists, to stop by; by user.
        seed: of weights, order and division.
    """

    list_weight: float = 0.5
    epochs: int = 8
    batch_lists: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-5
    table_decay: float = 1e-4
    warmup_share: float = 0.05
    clip_norm: float = 5.0
    patience: int = 2
    checkpoint_every: int = 200
    validation_share: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankGatePart(OwnGatePart):
    """What the finished re-ranker must prove ([gate]): what any model must, and that it beats the first stage's own order.

    Attributes:
        first_metric: of the lists, against the first stage's order; the whole interval of the lead must be above 0.
        max_error: wider than of other models: logits are used for their order alone, which ``max_metric_loss`` judges.
        batch_sizes: in rows of candidates: one request of 50, and eight of them.
    """

    max_error: float = 0.15
    batch_sizes: tuple[int, ...] = (50, 400)
    first_metric: str = "ndcg@10"


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatesPart:
    """For ``rerank-load``.

    Attributes:
        repository: where the first stage lies.
        first: which it is.
        version: resolved.
        manifest_sha256: of that version: another build is another first stage.
        split: how its log was divided, as its recipe says; None where that cannot be read.
    """

    repository: Path
    first: FirstStagePart
    version: str
    manifest_sha256: str
    split: dict[str, object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankTrainStagePart:
    """For ``rerank-train``."""

    features: FeaturesPart
    network: RerankNetworkPart
    train: RerankTrainPart
    max_batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankVerifyPart:
    """For ``rerank-verify``."""

    gate: RerankGatePart
    max_batch: int
    model: str
