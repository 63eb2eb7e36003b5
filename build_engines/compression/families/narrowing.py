"""What every adapter does with a ``Keep``: check it against the sizes, and cut parameters along their axes.

Suffixes: as in ``build_engines.compression.model``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from build_engines.compression.model import Keep, Sizes
from build_engines.errors import BuildError


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A ``Keep`` with every None resolved: what is left, by index into the model as it is.

    Attributes:
        blocks: kept blocks.
        heads: of each kept block, its kept query heads.
        kv_heads: of each kept block, its kept key and value heads.
        inner: of each kept block, its kept inner channels.
        dims: kept channels of the residual path.
        sizes: of the model that is left (``rows`` as they were: a family maps rows in its own way).
    """

    blocks: tuple[int, ...]
    heads: tuple[tuple[int, ...], ...]
    kv_heads: tuple[tuple[int, ...], ...]
    inner: tuple[tuple[int, ...], ...]
    dims: tuple[int, ...]
    sizes: Sizes


def resolved(keep: Keep, sizes: Sizes) -> Cut:
    """Check a ``Keep`` against the model's sizes.

    Raises:
        BuildError: nothing would be left, an index is not there or does not rise, blocks would differ, or half a group of
            queries that share keys and values would go; says which.
    """
    blocks = _kept("blocks", keep.blocks, sizes.blocks)
    heads = _each("heads", keep.heads, len(blocks), sizes.heads)
    inner = _each("inner channels", keep.inner, len(blocks), sizes.inner)
    dims = _kept("channels of the residual path", keep.dims, sizes.dim)
    group = sizes.heads // sizes.kv_heads
    kv_heads = tuple(_groups(chosen, group, block) for block, chosen in zip(blocks, heads, strict=True))
    return Cut(
        blocks=blocks,
        heads=heads,
        kv_heads=kv_heads,
        inner=inner,
        dims=dims,
        sizes=Sizes(
            blocks=len(blocks),
            dim=len(dims),
            heads=len(heads[0]),
            kv_heads=len(kv_heads[0]),
            head_dim=sizes.head_dim,
            inner=len(inner[0]),
            rows=sizes.rows,
        ),
    )


def columns_of(heads: Sequence[int], head_dim: int) -> list[int]:
    """Columns of these heads where all heads lie side by side."""
    return [head * head_dim + place for head in heads for place in range(head_dim)]


def taken(parameter: Tensor, *axes: Sequence[int] | None) -> Tensor:
    """A copy with the named indices of each axis; None: all of it."""
    found = parameter.detach()
    for axis, indices in enumerate(axes):
        if indices is not None:
            found = found.index_select(axis, torch.tensor(indices, dtype=torch.long, device=found.device))
    return found.clone()


def check_rows(rows: npt.NDArray[np.int64], size: int) -> tuple[int, ...]:
    """Kept rows of a table, checked as everything else is."""
    return _kept("rows of the table", tuple(int(row) for row in rows), size)


def _kept(what: str, indices: Sequence[int] | None, size: int) -> tuple[int, ...]:
    if indices is None:
        return tuple(range(size))
    kept = tuple(int(index) for index in indices)
    if not kept:
        raise BuildError(f"no {what} would be left of {size}; keep at least one")
    if any(later <= earlier for earlier, later in itertools.pairwise(kept)):
        raise BuildError(f"kept {what} must rise and name each once, they are {kept[:12]}")
    if kept[0] < 0 or kept[-1] >= size:
        raise BuildError(f"kept {what} name {kept[-1] if kept[0] >= 0 else kept[0]}, there are 0..{size - 1}")
    return kept


def _each(
    what: str, chosen: Sequence[Sequence[int]] | None, blocks: int, size: int
) -> tuple[tuple[int, ...], ...]:
    if chosen is None:
        return tuple(tuple(range(size)) for _ in range(blocks))
    if len(chosen) != blocks:
        raise BuildError(f"kept {what} are named for {len(chosen)} blocks, {blocks} are kept")
    kept = tuple(_kept(f"{what} of a block", one, size) for one in chosen)
    if len({len(one) for one in kept}) > 1:
        counts = ", ".join(str(len(one)) for one in kept)
        raise BuildError(f"blocks would keep {counts} {what}; every block must keep as many")
    return kept


def _groups(heads: Sequence[int], group: int, block: int) -> tuple[int, ...]:
    kept = sorted({head // group for head in heads})
    if len(heads) != len(kept) * group:
        raise BuildError(
            f"block {block} would keep heads {tuple(heads)}; {group} heads share one of keys and values, so they stay or go "
            "together"
        )
    return tuple(kept)
