"""A ``Compressible`` of a few thousand weights that learns a made-up language in a second: what steps are tested on.

Its form has everything that a step has to look after: grouped keys and values, heads that are together wider than the
residual path, a tied table, learned positions, norms with weight and bias. Row 0 of the table stands for every token whose row
is gone. Shape suffixes as in ``build_engines.compression.model``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from build_engines.compression.model import BlockNames, Family, Keep, Sizes, Traces
from build_engines.errors import BuildError
from build_engines.tuning_loop import Plan

SIZES = Sizes(blocks=3, dim=16, heads=4, kv_heads=2, head_dim=8, inner=32, rows=24)
TOKENS = 10  # of an example
BATCH = 16


class TinyBlock(nn.Module):
    """Pre-norm attention with grouped keys and values, then a GELU feed-forward part."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.norm1, self.norm2 = nn.LayerNorm(sizes.dim), nn.LayerNorm(sizes.dim)
        self.q = nn.Linear(sizes.dim, sizes.heads * sizes.head_dim)
        self.k = nn.Linear(sizes.dim, sizes.kv_heads * sizes.head_dim)
        self.v = nn.Linear(sizes.dim, sizes.kv_heads * sizes.head_dim)
        self.out = nn.Linear(sizes.heads * sizes.head_dim, sizes.dim)
        self.up, self.down = nn.Linear(sizes.dim, sizes.inner), nn.Linear(sizes.inner, sizes.dim)
        self.relations: dict[str, Tensor] = {}

    def forward(self, x_BTD: Tensor, visible_BT: Tensor) -> Tensor:
        batch, length, _ = x_BTD.shape
        y = self.norm1(x_BTD)
        q, k, v = (
            part(y).view(batch, length, -1, self.sizes.head_dim).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        self.relations = {"q": q, "k": k, "v": v}
        group = self.sizes.heads // self.sizes.kv_heads
        seen = torch.ones(length, length, dtype=torch.bool).tril() & visible_BT[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(
            q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), attn_mask=seen
        )
        x_BTD = x_BTD + self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        return x_BTD + self.down(functional.gelu(self.up(self.norm2(x_BTD))))


class TinyNet(nn.Module):
    """Table, positions, blocks, norm; the table again for the logits."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.table = nn.Embedding(sizes.rows, sizes.dim)
        self.positions = nn.Parameter(torch.randn(TOKENS, sizes.dim) * 0.1)
        self.blocks = nn.ModuleList(TinyBlock(sizes) for _ in range(sizes.blocks))
        self.norm = nn.LayerNorm(sizes.dim)
        nn.init.normal_(self.table.weight, std=0.3)

    def forward(self, ids_BT: Tensor, visible_BT: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = self.table(ids_BT) + self.positions[: ids_BT.shape[1]]
        hidden = [x]
        for block in self.blocks:
            x = block(x, visible_BT)
            hidden.append(x)
        return self.norm(x) @ self.table.weight.T, tuple(hidden)


class TinyModel:
    """See the module docstring. Examples: 96 to learn from, of which the first 48 calibrate; 48 others are held out."""

    def __init__(
        self,
        sizes: Sizes = SIZES,
        *,
        seed: int = 0,
        family: Family = "decoder",
        net: TinyNet | None = None,
        row_of: npt.NDArray[np.int64] | None = None,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._net = net or TinyNet(sizes)
        self._sizes, self._family = sizes, family
        self._row_of = np.arange(SIZES.rows) if row_of is None else row_of
        self._texts = _language(144)

    @property
    def family(self) -> Family:
        return self._family

    @property
    def module(self) -> TinyNet:
        return self._net

    @property
    def sizes(self) -> Sizes:
        return self._sizes

    @property
    def blocks(self) -> tuple[BlockNames, ...]:
        return tuple(
            BlockNames(
                block=f"blocks.{at}",
                attention_out=f"blocks.{at}.out",
                ffn_down=f"blocks.{at}.down",
                linears=tuple(f"blocks.{at}.{name}" for name in ("q", "k", "v", "out", "up", "down")),
            )
            for at in range(self._sizes.blocks)
        )

    @property
    def table(self) -> str:
        return "table.weight"

    @property
    def identity(self) -> str:
        digest = hashlib.sha256(f"{self._family}{self._sizes}".encode())
        digest.update(self._row_of.tobytes())
        for one in self._texts:
            digest.update(one.tobytes() + b"/")
        return digest.hexdigest()

    def plan(self, epoch: int) -> Plan:
        order = np.random.default_rng([0, epoch]).permutation(96)
        return Plan(
            epoch, tuple(tuple(order[begin : begin + BATCH].tolist()) for begin in range(0, 96, BATCH))
        )

    def loss(self, batch: Sequence[int]) -> Tensor:
        self._net.train()
        return self._loss([self._texts[at] for at in batch])

    def tokens(self, batch: Sequence[int]) -> int:
        return sum(len(self._texts[at]) for at in batch)

    @torch.no_grad()
    def judge(self) -> float:
        self._net.eval()
        return float(self._loss(self._texts[96:]))

    def calibration(self, limit: int) -> Iterator[tuple[int, ...]]:
        for begin in range(0, min(limit, 48), BATCH):
            yield tuple(range(begin, min(begin + BATCH, limit, 48)))

    def calibration_digests(self) -> frozenset[bytes]:
        return frozenset(hashlib.sha256(one.tobytes()).digest() for one in self._texts[:48])

    def traffic_R(self) -> npt.NDArray[np.float64]:
        rows = self._row_of[np.concatenate(self._texts[:96])]
        return np.bincount(rows, minlength=self._sizes.rows).astype(np.float64)

    def traces(self, batch: Sequence[int]) -> Traces:
        self._net.eval()
        ids_BT, visible_BT = self._padded([self._texts[at] for at in batch])
        logits_BTC, hidden = self._net(ids_BT, visible_BT)
        last = self._net.blocks[-1]
        assert isinstance(last, TinyBlock)
        return Traces(
            logits_PC=logits_BTC[:, :-1][visible_BT[:, 1:]],
            embedding_BE=None,
            hidden_BTD=hidden,
            relations=dict(last.relations),
            visible_BT=visible_BT,
        )

    def narrowed(self, keep: Keep) -> TinyModel:
        old = self._sizes
        blocks = tuple(range(old.blocks)) if keep.blocks is None else keep.blocks
        heads = keep.heads or tuple(tuple(range(old.heads)) for _ in blocks)
        inner = keep.inner or tuple(tuple(range(old.inner)) for _ in blocks)
        dims = list(range(old.dim)) if keep.dims is None else list(keep.dims)
        rows = np.arange(old.rows) if keep.rows is None else keep.rows
        if not blocks or not dims or not len(rows) or not all(heads) or not all(inner):
            raise BuildError("narrowing to nothing: give at least one of blocks, heads, inner, dims and rows")
        if len({len(one) for one in heads}) > 1 or len({len(one) for one in inner}) > 1:
            raise BuildError("blocks of different numbers of heads or inner channels cannot be written")
        if rows[0] != 0:
            raise BuildError("row 0 stands for the tokens that are gone and must be kept")
        group = old.heads // old.kv_heads
        kv = tuple(tuple(sorted({head // group for head in one})) for one in heads)
        if any(
            tuple(at * group + i for at in groups for i in range(group)) != one
            for groups, one in zip(kv, heads, strict=True)
        ):
            raise BuildError(f"heads are kept in whole groups of {group} that share keys and values")
        sizes = replace(
            old,
            blocks=len(blocks),
            dim=len(dims),
            heads=len(heads[0]),
            kv_heads=len(kv[0]),
            inner=len(inner[0]),
            rows=len(rows),
        )
        net = TinyNet(sizes)
        with torch.no_grad():
            net.table.weight.copy_(self._net.table.weight[rows][:, dims])
            net.positions.copy_(self._net.positions[:, dims])
            _copy_vector(net.norm, self._net.norm, dims)
            for new, at, kept_heads, kept_kv, kept_inner in zip(
                net.blocks, blocks, heads, kv, inner, strict=True
            ):
                _copy_block(new, self._net.blocks[at], dims, kept_heads, kept_kv, list(kept_inner))
        new_row = np.zeros(old.rows, np.int64)
        new_row[rows] = np.arange(len(rows))
        return TinyModel(sizes, family=self._family, net=net, row_of=new_row[self._row_of])

    def save(self, folder: Path) -> None:
        torch.save(self._net.state_dict(), folder / "tiny.pt")

    def _loss(self, texts: Sequence[npt.NDArray[np.int64]]) -> Tensor:
        ids_BT, visible_BT = self._padded(texts)
        logits_BTC, _ = self._net(ids_BT, visible_BT)
        seen = visible_BT[:, 1:]
        return functional.cross_entropy(logits_BTC[:, :-1][seen], ids_BT[:, 1:][seen])

    def _padded(self, texts: Sequence[npt.NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        ids_BT = np.zeros((len(texts), max(map(len, texts))), np.int64)
        visible_BT = np.zeros(ids_BT.shape, bool)
        for row, text in enumerate(texts):
            ids_BT[row, : len(text)] = self._row_of[text]
            visible_BT[row, : len(text)] = True
        return torch.from_numpy(ids_BT), torch.from_numpy(visible_BT)


def trained(model: TinyModel, *, epochs: int = 30, learning_rate: float = 1e-2) -> TinyModel:
    """The same model, having learnt (about a second)."""
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=learning_rate)
    for epoch in range(epochs):
        for batch in model.plan(epoch).batches:
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
    return model


def _language(count: int) -> list[npt.NDArray[np.int64]]:
    """Texts in which each token mostly decides the next, and lower tokens are more frequent; row 0 occurs in none."""
    random = np.random.default_rng(7)
    texts = []
    for _ in range(count):
        text = [int(random.integers(1, 8))]
        for _ in range(int(random.integers(6, TOKENS)) - 1):
            regular = (text[-1] * 5 + 3) % (SIZES.rows - 1) + 1
            text.append(regular if random.random() < 0.8 else int(random.integers(1, 8)))
        texts.append(np.array(text, np.int64))
    return texts


def _copy_vector(new: nn.LayerNorm, old: nn.LayerNorm, kept: Sequence[int]) -> None:
    new.weight.copy_(old.weight[kept])
    new.bias.copy_(old.bias[kept])


def _copy_block(
    new: nn.Module,
    old: nn.Module,
    dims: list[int],
    heads: Sequence[int],
    kv: Sequence[int],
    inner: list[int],
) -> None:
    assert isinstance(new, TinyBlock) and isinstance(old, TinyBlock)
    width = old.sizes.head_dim
    q, k = ([head * width + at for head in kept for at in range(width)] for kept in (heads, kv))
    for norm in ("norm1", "norm2"):
        _copy_vector(getattr(new, norm), getattr(old, norm), dims)
    for name, outputs, inputs in (
        ("q", q, dims), ("k", k, dims), ("v", k, dims), ("out", dims, q), ("up", inner, dims), ("down", dims, inner)
    ):  # fmt: skip
        getattr(new, name).weight.copy_(getattr(old, name).weight[outputs][:, inputs])
        getattr(new, name).bias.copy_(getattr(old, name).bias[outputs])
