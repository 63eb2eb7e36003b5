"""How much each head, inner channel, residual channel and block matters, measured on calibration examples.

Two measures, the same for everything that can be cut:

- ``activation``: how much it adds to the residual stream. A head or inner channel: mean norm of its contribution (its
  activation through its columns of the outgoing matrix). A residual channel: its share of the stream's square, averaged over
  blocks. A block: 1 - cos(in, out), its influence.
- ``taylor``: first-order change of the training loss if it were multiplied by 0, ``|sum(activation * gradient)|`` of each
  example, averaged over examples of the first epoch: calibration examples have no targets in every family.

Both say nothing of what two parts do together: that is what rounds with fine-tuning between are for.

Sources: Michel et al., "Are Sixteen Heads Really Better than One?", 2019 (heads, gradient of a gate); Molchanov et al.,
"Importance Estimation for Neural Network Pruning", 2019 (first-order Taylor); Men et al., "ShortGPT", 2024 (influence of a
block); Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation", 2024 (activations).

Suffixes as in ``build_engines.compression.model``; L blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from build_engines.compression.model import Compressible
from build_engines.errors import BuildError

Measure = Literal["activation", "taylor"]
Floats = npt.NDArray[np.float64]
Tap = Callable[[str, Tensor], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Of everything that can be cut; higher matters more. Comparable inside one array only.

    Attributes:
        heads_LH: query heads of each block.
        inner_LF: inner channels of each block.
        dims_D: channels of the residual path.
        blocks_L: whole blocks.
    """

    heads_LH: Floats
    inner_LF: Floats
    dims_D: Floats
    blocks_L: Floats


def measure_importance(model: Compressible, measure: Measure, examples: int) -> Importance:
    """Measure on about ``examples`` examples; the model's weights and gradients stay as they are.

    Raises:
        BuildError: there is nothing to calibrate with, or what was measured is no number.
    """
    sizes = model.sizes
    totals = Importance(
        heads_LH=np.zeros((sizes.blocks, sizes.heads)),
        inner_LF=np.zeros((sizes.blocks, sizes.inner)),
        dims_D=np.zeros(sizes.dim),
        blocks_L=np.zeros(sizes.blocks),
    )
    seen = 0
    chosen = model.calibration(examples) if measure == "activation" else training_batches(model, examples)
    for batch in chosen:
        seen += len(batch)
        if measure == "activation":
            _add_activations(model, batch, totals)
        else:
            _add_taylor(model, batch, totals)
    if not seen:
        raise BuildError(
            "there are no calibration examples: importance cannot be measured; give the model data"
        )
    for name in ("heads_LH", "inner_LF", "dims_D", "blocks_L"):
        if not np.isfinite(getattr(totals, name)).all():
            raise BuildError(
                f"importance ({measure}) of {name.split('_')[0]} is not finite: the model's weights or loss are broken"
            )
    return totals


@torch.no_grad()
def linear_inputs(model: Compressible, names: tuple[str, ...], examples: int) -> Iterator[dict[str, Tensor]]:
    """What linears get to see on calibration examples: by name, ``[positions, in]`` of each batch, padding left out.

    Raises:
        BuildError: there is nothing to calibrate with.
    """
    seen = 0
    for batch in model.calibration(examples):
        seen += len(batch)
        kept: dict[str, Tensor] = {}
        with taps(model.module, names, lambda name, x, kept=kept: kept.update({name: x})):  # type: ignore[misc]
            visible_BT = model.traces(batch).visible_BT
        missing = [name for name in names if name not in kept]
        if missing:
            raise BuildError(f"{missing[0]} saw no input while the model ran: it cannot be calibrated")
        yield {name: _rows(kept[name], visible_BT) for name in names}
    if not seen:
        raise BuildError(
            "there are no calibration examples: give the model data, or choose method = 'magnitude'"
        )


@contextmanager
def taps(module: nn.Module, names: tuple[str, ...], tap: Tap) -> Iterator[None]:
    """Show ``tap`` the input of each named module as it is computed."""
    with ExitStack() as stack:
        for name in names:
            part = module.get_submodule(name)
            handle = part.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: tap(name, _first(args, kwargs)), with_kwargs=True
            )
            stack.callback(handle.remove)
        yield


@contextmanager
def without_dropout(module: nn.Module) -> Iterator[None]:
    """Dropout off although the model is in training mode."""
    parts = [(one, one.p) for one in module.modules() if isinstance(one, nn.Dropout)]
    try:
        for one, _ in parts:
            one.p = 0.0
        yield
    finally:
        for one, chance in parts:
            one.p = chance


def training_batches(model: Compressible, examples: int) -> Iterator[tuple[int, ...]]:
    """The first batches of the first epoch, of about ``examples`` examples in all."""
    for batch in model.plan(0).batches:
        if examples <= 0:
            return
        yield batch
        examples -= len(batch)


@torch.no_grad()
def _add_activations(model: Compressible, batch: tuple[int, ...], totals: Importance) -> None:
    names = tuple(name for one in model.blocks for name in (one.attention_out, one.ffn_down))
    kept: dict[str, Tensor] = {}
    with taps(model.module, names, lambda name, x: kept.update({name: x})):
        traces = model.traces(batch)
    visible = traces.visible_BT
    for at, names_of in enumerate(model.blocks):
        heads = model.sizes.heads
        out_DI = weight_of(model.module, names_of.attention_out)
        mixed_PHd = _rows(kept[names_of.attention_out], visible).reshape(-1, heads, model.sizes.head_dim)
        added_PHD = torch.einsum("phd,nhd->phn", mixed_PHd, out_DI.reshape(-1, heads, model.sizes.head_dim))
        totals.heads_LH[at] += _numpy(added_PHD.norm(dim=-1).sum(0))
        inner_PF = _rows(kept[names_of.ffn_down], visible).abs()
        totals.inner_LF[at] += _numpy(
            inner_PF.sum(0) * weight_of(model.module, names_of.ffn_down).norm(dim=0)
        )
    hidden = [_rows(one, visible).float() for one in traces.hidden_BTD]
    for after in hidden[1:]:
        totals.dims_D[:] += _numpy(
            (after.square() / after.square().mean(1, keepdim=True).clamp_min(1e-12)).sum(0)
        )
    for at, (before, after) in enumerate(itertools.pairwise(hidden)):
        totals.blocks_L[at] += float((1 - torch.cosine_similarity(before, after, dim=-1)).sum())


def _add_taylor(model: Compressible, batch: tuple[int, ...], totals: Importance) -> None:
    effects: dict[str, Tensor] = {}

    def watch(name: str, x: Tensor, moved: Tensor | None = None) -> None:
        if not x.requires_grad:
            raise BuildError(
                f"{name} gets no gradient: importance by taylor needs a model that can be trained"
            )
        value = (x if moved is None else moved).detach()
        x.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: effects.update({name: value * gradient})
        )

    def watch_block(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        before, after = _first(args, kwargs), output[0] if isinstance(output, tuple) else output
        watch(f"{name}/dims", after)
        watch(f"{name}/block", after, after - before)

    with ExitStack() as stack:
        names = tuple(name for one in model.blocks for name in (one.attention_out, one.ffn_down))
        stack.enter_context(taps(model.module, names, watch))
        stack.enter_context(without_dropout(model.module))
        stack.enter_context(torch.enable_grad())
        for names_of in model.blocks:
            handle = model.module.get_submodule(names_of.block).register_forward_hook(
                lambda _, args, kwargs, output, name=names_of.block: watch_block(name, args, kwargs, output),
                with_kwargs=True,
            )
            stack.callback(handle.remove)
        kept = {name: one.grad for name, one in model.module.named_parameters()}
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                loss = model.loss(batch)
                loss.backward()  # type: ignore[no-untyped-call]
        finally:
            for name, parameter in model.module.named_parameters():
                parameter.grad = kept[name]
    weight = len(batch)  # the loss is a mean: batches count by their size
    for at, names_of in enumerate(model.blocks):
        mixed_BI = _of_examples(effects[names_of.attention_out])
        heads_BH = mixed_BI.reshape(len(batch), model.sizes.heads, -1).sum(-1)
        totals.heads_LH[at] += weight * _numpy(heads_BH.abs().sum(0))
        totals.inner_LF[at] += weight * _numpy(_of_examples(effects[names_of.ffn_down]).abs().sum(0))
        totals.dims_D[:] += weight * _numpy(_of_examples(effects[f"{names_of.block}/dims"]).abs().sum(0))
        block_BD = _of_examples(effects[f"{names_of.block}/block"])
        totals.blocks_L[at] += weight * float(block_BD.sum(-1).abs().sum())


def best(importance: Floats, count: int) -> tuple[int, ...]:
    """Indices of the ``count`` most important, rising; of equals the first. So fewer are always among more."""
    return tuple(sorted(np.argsort(-importance, kind="stable")[:count].tolist()))


def weight_of(module: nn.Module, name: str) -> Tensor:
    """A linear's matrix ``[out, in]``."""
    weight = module.get_submodule(name).get_parameter("weight")
    return weight.detach()


def _rows(x: Tensor, visible_BT: Tensor) -> Tensor:
    if x.shape[:-1] == visible_BT.shape:
        return x[visible_BT]
    return x.reshape(-1, x.shape[-1])


def _of_examples(effect: Tensor) -> Tensor:
    return effect.reshape(effect.shape[0], -1, effect.shape[-1]).sum(1).double()


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    found = next((one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)), None)
    if found is None:
        raise BuildError("a module of the network was called without a tensor: it cannot be looked into")
    return found


def _numpy(x: Tensor) -> Floats:
    array: Floats = x.double().cpu().numpy()
    return array
