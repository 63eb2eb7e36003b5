"""What a compression step works on: a model that can be trained, looked into and narrowed, whatever its family.

A step (``build_engines.compression.step``) knows only this file. What a recommender, an encoder or a decoder is, is known to
the adapters in ``families``. So every step is for all three, and a fourth family needs an adapter and no step.

Decisions not to undo:
- Sizes are the same in every block (heads, inner width), so a narrowed model is an ordinary checkpoint of its family with
  smaller numbers in its configuration: no masks and no special graph are left.
- A step trains by ``build_engines.tuning_loop`` only: a ``Compressible`` is a ``Learner``.
- Examples for calibration are disjoint from those that the gate judges; ``calibration_digests`` lets a stage refuse a leak.

Suffixes: B examples, T positions, D width, H heads, F inner width, R rows of the table (items or tokens), C classes or rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from build_engines.tuning_loop import Plan

Family = Literal["recommender", "encoder", "decoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of a model.

    Attributes:
        blocks: of the network.
        dim: width of the residual path.
        heads: of queries in a block.
        kv_heads: of keys and values; divides ``heads``.
        head_dim: width of a head; ``heads * head_dim`` need not be ``dim``.
        inner: width of the feed-forward part.
        rows: of the table of items (with row 0) or tokens.
    """

    blocks: int
    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockNames:
    """Where to look in one block; names of modules in ``Compressible.module``.

    Attributes:
        block: the block itself: its (first) output is the residual stream, ``[B, T, D]``.
        attention_out: linear whose input is all heads side by side, ``[B, T, H * head_dim]``.
        ffn_down: linear whose input is the inner activations, ``[B, T, F]``.
        linears: every linear of the block, these two among them.
    """

    block: str
    attention_out: str
    ffn_down: str
    linears: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What is left of a model; None: all of it. Indices rise.

    Attributes:
        blocks: indices of blocks.
        heads: of each kept block, the kept query heads; as many in each. With grouped keys and values, whole groups.
        inner: of each kept block, the kept inner channels; as many in each.
        dims: channels of the residual path, the same in every block, table and norm.
        rows: of the table. The adapter says what happens to a row that is gone (``families``).
    """

    blocks: tuple[int, ...] | None = None
    heads: tuple[tuple[int, ...], ...] | None = None
    inner: tuple[tuple[int, ...], ...] | None = None
    dims: tuple[int, ...] | None = None
    rows: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What a model computes for a batch, with gradients unless they are off; what distillation compares.

    Attributes:
        logits_PC: at each predicted position: scores of items, tokens or intents; None: an encoder without a head.
        embedding_BE: pooled and normalized; None: not an encoder (a recommender's is its query).
        hidden_BTD: residual stream behind each block, after the tables at index 0.
        relations: of the last block, ``{"q", "k", "v"}`` as ``[B, H, T, head_dim]`` (k and v with their own number of
            heads), what MiniLM's relations are made of.
        visible_BT: positions that hold something.
    """

    logits_PC: Tensor | None
    embedding_BE: Tensor | None
    hidden_BTD: tuple[Tensor, ...]
    relations: Mapping[str, Tensor]
    visible_BT: Tensor


class Compressible(Protocol):
    """A model that can be trained (it is a ``Learner``), looked into and narrowed.

    Examples are numbered; ``plan``, ``loss`` and ``traces`` take these numbers. Two models of one shop or checkpoint that
    were made of the same data have the same examples, so a teacher is asked by the same numbers as its student.
    """

    @property
    def family(self) -> Family:
        """Which adapter it is of."""

    @property
    def module(self) -> nn.Module:
        """The network. Its ``nn.Linear`` and table weights are what steps change in place."""

    @property
    def sizes(self) -> Sizes:
        """Of the network as it is."""

    @property
    def blocks(self) -> tuple[BlockNames, ...]:
        """Where to look, block by block."""

    @property
    def table(self) -> str:
        """Name of the parameter that holds the table of items or tokens, ``[R, D]``."""

    @property
    def identity(self) -> str:
        """Digest of family, sizes and data: what a checkpoint of training belongs to."""

    def plan(self, epoch: int) -> Plan:
        """Batches of an epoch: as many in each, the same for the same epoch."""

    def loss(self, batch: Sequence[int]) -> Tensor:
        """Mean training loss of a batch, with gradients; all randomness is torch's."""

    def tokens(self, batch: Sequence[int]) -> int:
        """Positions in a batch that hold something."""

    def judge(self) -> float:
        """Held-out loss (validation, never the gate's examples); lower is better."""

    def calibration(self, limit: int) -> Iterator[tuple[int, ...]]:
        """Batches of at most ``limit`` calibration examples in all, always the same ones first."""

    def calibration_digests(self) -> frozenset[bytes]:
        """SHA-256 of each calibration example's content."""

    def traffic_R(self) -> npt.NDArray[np.float64]:
        """How often each row of the table occurs in what is learnt from, ``[R]``."""

    def traces(self, batch: Sequence[int]) -> Traces:
        """Everything that is computed for a batch."""

    def narrowed(self, keep: Keep) -> Compressible:
        """A model of smaller shapes with the kept weights, of its own; this one stays as it is.

        Raises:
            BuildError: nothing would be left, or the family cannot do without what is cut (heads of different numbers
                in two blocks, half a group of keys and values); says which.
        """

    def save(self, folder: Path) -> None:
        """Write what the family's next stage reads (trained arrays, or a checkpoint folder) into an empty folder."""
