"""The sequence model of the recommender: a small causal transformer scored by cosine (SASRec).

An engine's graph is written node by node from the arrays of ``export_weights``, so the arithmetic is fixed
here.  With L the padded length (any 1..length), D ``dim``, H ``heads``, d ``head_dim`` (D / H unless it was set), W = H d:

1. input: ``ids_BL``, item rows 1..N, oldest first, padded with 0 on the LEFT: the newest item is at L - 1.
   ``x_BLD = item_emb_ND[ids_BL] * input_scale_N[ids_BL][:, :, None] + position_LD[-L:]``.
   Positions are aligned from the end: a shorter L uses the last L rows.
   Where the table has fewer rows than the catalogue (``prune_rows``), ``input_row_N`` says which row stands for an item in a
   history and ``score_row_N`` which row scores it; both tables then have R rows.
2. every block is pre-norm, ``x = x + attention(norm1(x))`` and then ``x = x + ffn(norm2(x))``:
   - ``norm1``, ``norm2``: LayerNorm over D, epsilon 1e-5, weight and bias;
   - attention: ``qkv = norm1(x) @ qkv_weight[D, 3W] + qkv_bias[3W]``; columns [0, W) are q, [W, 2W) k,
     [2W, 3W) v; head h owns columns [h d, (h + 1) d) of each; ``softmax(q @ k.T / sqrt(d) + mask) @ v``,
     heads concatenated, then ``@ out_weight[W, D] + out_bias[D]``.  A query at position p sees the keys at
     positions <= p whose id is not 0.  Masked scores are REPLACED by -1e9 before the softmax; a query that
     sees nothing (padding) thus averages all L keys: finite, and never read by a real position;
   - ffn: ``gelu(y @ up_weight[D, F] + up_bias[F]) @ down_weight[F, D] + down_bias[D]``; exact GELU (erf).
3. ``final_norm`` (same LayerNorm) on the LAST position, then division by its L2 norm (at least 1e-12):
   the query ``x_BD``, of length 1.
4. ``logits_BN = x_BD @ item_emb_ND.T``.  Cosine and temperature are folded into the table: its rows are
   the item vectors (id embedding + mean of the item's attribute embeddings), normalized, over ``tau``.  So
   the table serves input and output; ``input_scale_N`` undoes the folding for the input (and holds sqrt(D)).
   Row 0 is zero; the caller masks column 0.
An empty history (all padding) gives a finite query that means nothing: serve the popular items instead.

Dropout exists in training only.  Shape suffixes: B histories, L positions, D width, F inner width of the
ffn, N items with the padding row 0 (``num_items + 1`` rows), R rows of the table (N unless items share rows), K attributes
of an item.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -1e9
EPSILON = 1e-5
INPUT_ROW, SCORE_ROW = "input_row_N", "score_row_N"


@dataclass(frozen=True, slots=True, kw_only=True)
class SasRecConfig:
    """The size of the model and what never changes while it trains.

    Attributes:
        num_items: catalogue size N (>= 1); item rows are 1..N.
        dim: width D, a multiple of ``heads`` unless ``head_dim`` is given.
        blocks: transformer blocks (>= 1).
        heads: attention heads (>= 1).
        length: newest items of a history that the model sees, L (>= 1).
        dropout: on the input, the attention weights and both branches of a block (0 <= p < 1).
        tau: temperature of the cosine (> 0).
        ffn_multiplier: inner width of the ffn over ``dim`` (> 0).
        head_dim: width of a head (>= 1); None: ``dim / heads``.
        inner: inner width of the ffn (>= 1); None: ``ffn_multiplier * dim``.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    num_items: int
    dim: int = 128
    blocks: int = 1
    heads: int = 1
    length: int = 50
    dropout: float = 0.5
    tau: float = 0.07
    ffn_multiplier: float = 4.0
    head_dim: int | None = None
    inner: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_items", "dim", "blocks", "heads", "length", "head_dim", "inner"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}, must be >= 1")
        if self.head_dim is None and self.dim % self.heads:
            raise ValueError(f"dim: {self.dim}, must be a multiple of heads ({self.heads})")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: {self.dropout}, must be in [0, 1)")
        if not self.tau > 0:
            raise ValueError(f"tau: {self.tau}, must be > 0")
        if not self.ffn_multiplier * self.dim >= 1:
            raise ValueError(f"ffn_multiplier: {self.ffn_multiplier}, must be > 0")

    @property
    def head_width(self) -> int:
        """Width of a head, d."""
        return self.head_dim or self.dim // self.heads

    @property
    def inner_width(self) -> int:
        """Inner width of the ffn, F."""
        return self.inner or int(self.ffn_multiplier * self.dim)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ItemRows:
    """Which rows of the table stand for which item, where there are fewer rows than items.

    Attributes:
        input_N: int64 ``[N]``, the row that an item of a history is looked up in; 0 for item 0 alone.
        score_N: int64 ``[N]``, the row that scores it.
        rows: R, rows of the table with row 0.
    """

    input_N: npt.NDArray[np.int64]
    score_N: npt.NDArray[np.int64]
    rows: int

    def __post_init__(self) -> None:
        for name in ("input_N", "score_N"):
            found = getattr(self, name)
            if (
                found.min(initial=0) < 0
                or found.max(initial=0) >= self.rows
                or (found[1:] < 1).any()
                or found[0]
            ):
                raise ValueError(f"{name}: rows must be in 1..{self.rows - 1}, and 0 for item 0 alone")


def pad_attributes(attributes: Sequence[Sequence[int]], num_items: int) -> npt.NDArray[np.int64]:
    """Pack the attributes of every item into one matrix, renumbered 1..A by value.

    Args:
        attributes: one collection of any ints for each item row; entry 0 (padding) is ignored.
        num_items: catalogue size N; ``len(attributes)`` must be N + 1.

    Returns:
        ``attributes_NK``: int64 ``[num_items + 1, K]``, 0 on the right where an item has fewer; K >= 1.

    Raises:
        ValueError: the number of entries is not ``num_items + 1``.
    """
    if len(attributes) != num_items + 1:
        raise ValueError(
            f"attributes of {len(attributes)} rows, the catalogue has {num_items + 1} (with row 0)"
        )
    known = sorted({value for entry in attributes[1:] for value in entry})
    number = {value: index for index, value in enumerate(known, start=1)}
    width = max([1, *(len(set(entry)) for entry in attributes[1:])])
    packed = np.zeros((num_items + 1, width), dtype=np.int64)
    for row, entry in enumerate(attributes[1:], start=1):
        numbers = sorted(number[value] for value in set(entry))
        packed[row, : len(numbers)] = numbers
    return packed


class _Block(nn.Module):
    def __init__(self, config: SasRecConfig) -> None:
        super().__init__()
        dim, inner, width = config.dim, config.inner_width, config.heads * config.head_width
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(dim, eps=EPSILON)
        self.qkv = nn.Linear(dim, 3 * width)
        self.out = nn.Linear(width, dim)
        self.norm2 = nn.LayerNorm(dim, eps=EPSILON)
        self.up = nn.Linear(dim, inner)
        self.down = nn.Linear(inner, dim)
        self.dropout = nn.Dropout(config.dropout)

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``[B, H, L, d]`` of what ``qkv`` gave."""
        batch, length, width = qkv.shape
        query, key, value = qkv.view(batch, length, 3, self.heads, width // 3 // self.heads).permute(
            2, 0, 3, 1, 4
        )
        return query, key, value

    def forward(self, x_BLD: Tensor, visible_B1LL: Tensor) -> Tensor:
        query, key, value = self.split(self.qkv(self.norm1(x_BLD)))
        scores = (query @ key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
        attention = self.dropout(scores.masked_fill(~visible_B1LL, MASKED).softmax(-1))
        mixed = (attention @ value).transpose(1, 2).flatten(2)
        x_BLD = x_BLD + self.dropout(self.out(mixed))
        x_BLD = x_BLD + self.dropout(self.down(functional.gelu(self.up(self.norm2(x_BLD)))))
        return x_BLD


class SasRec(nn.Module):
    """The model described in the module docstring, as it trains.

    Args:
        config: sizes.
        attributes_NK: from ``pad_attributes``; None trains on item ids alone.
        item_rows: which rows stand for which item; None: each item has its own. Goes with no attributes: they are folded
            into the table before rows are shared.

    Source:
        Kang and McAuley, "Self-Attentive Sequential Recommendation", 2018.  Softmax over the whole catalogue
        on cosine / tau instead of its sampled binary loss; item attributes are summed into the table.
    """

    def __init__(
        self,
        config: SasRecConfig,
        attributes_NK: npt.NDArray[np.int64] | None = None,
        item_rows: ItemRows | None = None,
    ) -> None:
        super().__init__()
        if item_rows is not None and attributes_NK is not None:
            raise ValueError("item_rows goes with no attributes: fold them into the table first")
        if attributes_NK is not None and len(attributes_NK) != config.num_items + 1:
            raise ValueError(f"attributes_NK: {len(attributes_NK)} rows, must be {config.num_items + 1}")
        self.config = config
        self.item_rows = item_rows
        rows = config.num_items + 1
        if item_rows is not None:
            if len(item_rows.input_N) != rows or len(item_rows.score_N) != rows:
                raise ValueError(f"item_rows: {len(item_rows.input_N)} items, must be {rows}")
            rows = item_rows.rows
            self.register_buffer("input_row_N", torch.from_numpy(item_rows.input_N.copy()), persistent=False)
            self.register_buffer("score_row_N", torch.from_numpy(item_rows.score_N.copy()), persistent=False)
        self.items = nn.Embedding(rows, config.dim)
        self.positions = nn.Parameter(torch.randn(config.length, config.dim) * 0.02)
        self.attributes: nn.EmbeddingBag | None = None
        if attributes_NK is not None:
            kinds = int(attributes_NK.max(initial=0)) + 1
            self.attributes = nn.EmbeddingBag(kinds, config.dim, mode="mean", padding_idx=0)
            nn.init.normal_(self.attributes.weight, std=0.02)
            self.register_buffer("attributes_NK", torch.from_numpy(attributes_NK.copy()), persistent=False)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.final_norm = nn.LayerNorm(config.dim, eps=EPSILON)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.items.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def item_vectors_ND(self) -> Tensor:
        """Raw vectors of the table's rows ``[R, D]``: id embedding plus the mean of the attribute embeddings."""
        vectors: Tensor = self.items.weight
        if self.attributes is None:
            return vectors
        mean: Tensor = self.attributes(self.get_buffer("attributes_NK"))
        return vectors + mean

    def output_table_ND(self, vectors_ND: Tensor) -> Tensor:
        """The scoring table: unit rows over tau, one for each item of the catalogue."""
        unit: Tensor = functional.normalize(vectors_ND, dim=-1, eps=1e-12)
        if self.item_rows is not None:
            unit = unit[self.get_buffer("score_row_N")]
        return unit / self.config.tau

    def embedded_BLD(self, ids_BL: Tensor, vectors_ND: Tensor) -> Tensor:
        """What the first block gets of a history, before dropout."""
        rows_BL = ids_BL if self.item_rows is None else self.get_buffer("input_row_N")[ids_BL]
        x = functional.embedding(rows_BL, vectors_ND) * math.sqrt(self.config.dim)
        return x * (ids_BL > 0).unsqueeze(-1) + self.positions[-ids_BL.shape[1] :]

    def forward(self, ids_BL: Tensor, vectors_ND: Tensor | None = None) -> Tensor:
        """Unit queries at every position; only ``[:, -1]`` is served.

        Args:
            ids_BL: int64, left-padded with 0, 1 <= L <= ``config.length``.
            vectors_ND: ``item_vectors_ND()`` when the caller has it already.

        Returns:
            ``x_BLD``, rows of length 1.
        """
        vectors_ND = self.item_vectors_ND() if vectors_ND is None else vectors_ND
        length = ids_BL.shape[1]
        x = self.dropout(self.embedded_BLD(ids_BL, vectors_ND))
        causal = torch.ones(length, length, dtype=torch.bool, device=ids_BL.device).tril()
        visible = (causal[None] & (ids_BL > 0)[:, None, :])[:, None]
        for block in self.blocks:
            x = block(x, visible)
        return functional.normalize(self.final_norm(x), dim=-1, eps=1e-12)

    @torch.no_grad()
    def export_weights(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays of the module docstring, float32, matrices as ``[in, out]``.

        Names: ``item_emb_ND``, ``input_scale_N``, ``position_LD``, ``final_norm_weight`` / ``_bias`` and,
        for block i, ``blocks.{i}.`` + ``norm1``, ``qkv``, ``out``, ``norm2``, ``up``, ``down`` + ``_weight``
        / ``_bias``. Where items share rows, ``input_row_N`` and ``score_row_N`` (int32), and the two tables have R rows.
        """
        vectors = self.item_vectors_ND().clone()
        vectors[0] = 0.0
        scale = vectors.norm(dim=-1).clamp_min(1e-12) * self.config.tau * math.sqrt(self.config.dim)
        scale[0] = 0.0
        arrays = {
            "item_emb_ND": functional.normalize(vectors, dim=-1, eps=1e-12) / self.config.tau,
            "input_scale_N": scale,
            "position_LD": self.positions,
            "final_norm_weight": self.final_norm.weight,
            "final_norm_bias": self.final_norm.bias,
        }
        for index, block in enumerate(self.blocks):
            for name in ("norm1", "qkv", "out", "norm2", "up", "down"):
                layer = block.get_submodule(name)
                weight = layer.get_parameter("weight")
                arrays[f"blocks.{index}.{name}_weight"] = weight.T if weight.ndim == 2 else weight
                arrays[f"blocks.{index}.{name}_bias"] = layer.get_parameter("bias")
        exported: dict[str, npt.NDArray[Any]] = {
            name: np.ascontiguousarray(value.cpu().numpy(), dtype=np.float32)
            for name, value in arrays.items()
        }
        if self.item_rows is not None:
            exported[INPUT_ROW] = self.item_rows.input_N.astype(np.int32)
            exported[SCORE_ROW] = self.item_rows.score_N.astype(np.int32)
        return exported


def left_padded(histories: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Pack histories into ``ids_BL``, as wide as the longest, 0 on the left."""
    ids_BL = np.zeros((len(histories), max(len(history) for history in histories)), dtype=np.int64)
    for row, history in enumerate(histories):
        ids_BL[row, ids_BL.shape[1] - len(history) :] = history
    return ids_BL


@torch.no_grad()
def encode_UD(model: SasRec, histories: Sequence[npt.NDArray[np.integer]]) -> npt.NDArray[np.float32]:
    """Queries of many histories, in their order: float32 ``[U, dim]``; an empty history gets zeros."""
    model.eval()
    length, device = model.config.length, model.positions.device
    newest = [np.asarray(history, dtype=np.int64)[-length:] for history in histories]
    order = [user for user in np.argsort([len(one) for one in newest], kind="stable") if len(newest[user])]
    query_UD = np.zeros((len(histories), model.config.dim), dtype=np.float32)
    vectors_ND = model.item_vectors_ND()
    for lo in range(0, len(order), 1024):
        users = order[lo : lo + 1024]
        ids_BL = torch.from_numpy(left_padded([newest[user] for user in users])).to(device)
        query_UD[users] = model(ids_BL, vectors_ND)[:, -1].cpu().numpy()
    return query_UD
