"""What every adapter does with a ``Keep``: check it against the sizes, and cut parameters along their axes.

Suffixes: as in ``build_engines.compression.model``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

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


@dataclass(frozen=True, slots=True, kw_only=True)
class NormChange:
    """How a normalization over fewer channels differs from the whole one, on average over positions.

    With ``(x - mean) / spread`` over the kept channels in place of all of them, ``weight * scale`` and
    ``bias + weight * shift`` give, on average, what the whole normalization gave.

    Attributes:
        scale: mean of the kept channels' spread over all channels' spread.
        shift: mean of (kept channels' mean - all channels' mean) over all channels' spread; 0 without a mean (RMS).
    """

    scale: float
    shift: float


@torch.no_grad()
def norm_changes(
    module: nn.Module,
    norms: Sequence[str],
    dims: Sequence[int],
    look: Callable[[], Tensor],
) -> dict[str, NormChange]:
    """Measure what each normalization of the residual path would give over ``dims`` alone.

    Args:
        module: the network as it is.
        norms: names of its normalizations of ``[B, T, D]``.
        dims: kept channels.
        look: runs the network on calibration examples, and returns which positions hold something ``[B, T]``.
    """
    seen: dict[str, Tensor] = {}
    handles = [
        module.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: seen.__setitem__(name, inputs[0].detach())
        )
        for name in norms
    ]
    training = module.training
    module.eval()
    try:
        visible_BT = look()
    finally:
        for handle in handles:
            handle.remove()
        module.train(training)
    return {
        name: _change(module.get_submodule(name), x_BTD[visible_BT], dims) for name, x_BTD in seen.items()
    }


def _change(norm: nn.Module, x_PD: Tensor, dims: Sequence[int]) -> NormChange:
    kept = x_PD[:, list(dims)]
    if isinstance(norm, nn.RMSNorm):
        before, after = (one.square().mean(1).sqrt().clamp_min(1e-6) for one in (x_PD, kept))
        return NormChange(scale=float((after / before).mean()), shift=0.0)
    before, after = (one.std(1, correction=0).clamp_min(1e-6) for one in (x_PD, kept))
    shift = (kept.mean(1) - x_PD.mean(1)) / before
    return NormChange(scale=float((after / before).mean()), shift=float(shift.mean()))


def adjust(state: dict[str, Tensor], name: str, change: NormChange | None) -> None:
    """Put a change into a narrowed normalization's weight and bias.

    Args:
        state: of the narrowed network, the normalization's sliced parameters in it.
        name: of the normalization there.
        change: None: the width was not cut.
    """
    if change is None:
        return
    weight = state[f"{name}.weight"]
    if f"{name}.bias" in state:
        state[f"{name}.bias"] = state[f"{name}.bias"] + weight * change.shift
    state[f"{name}.weight"] = weight * change.scale
