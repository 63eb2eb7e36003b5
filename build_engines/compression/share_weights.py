"""Step ``share_weights``: every matrix keeps 2 to 256 values of its own, and each weight is a code of one of them.

Objective: least squared error of each tensor (k-means from a linear start); then, with ``epochs``, the family's own loss over
the codebooks alone, codes fixed. The gradient of a codebook's value is the sum over the weights that have it (Deep
Compression, figure 3), which is what indexing gives by itself.

What is left is an ordinary model whose matrices have few different values. Whoever writes it for ONNX Runtime stores such a
matrix as codes and codebook (``build_engines.targets.shared_constants``); the runtime writes it out when it loads. So
sharing makes files and downloads smaller, and neither memory nor answers: the record says both sizes. Matrices that several
places share (tied tables, blocks of ``share_blocks``) are coded once and counted once.

Source:
    Han et al., "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman Coding",
    2015, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from build_engines.compression.codebooks import CodebookRefused, Shared, share_values
from build_engines.compression.learning import PRUNED_SHARE, LearningOptions, TaskLearner, learn, lesson_of
from build_engines.compression.model import Compressible
from build_engines.compression.step import Curve, Step, StepRecord, StepWork, sizes_of
from build_engines.errors import BuildError

MOST_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareWeightsOptions(LearningOptions):
    """How weights are shared; the rest is how codebooks learn, see ``LearningOptions``.

    Attributes:
        bits: of a code (1..8): codebooks of ``2 ** bits`` values.
        table: the table of items or tokens too, with a codebook of its own.
        rounds: most of k-means (>= 1).
        tune: codebooks learn the family's task afterwards.

    Raises:
        ValueError: a value is out of range; names it.
    """

    bits: int = 6
    table: bool = False
    rounds: int = 20
    tune: bool = False
    epochs: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        LearningOptions.__post_init__(self)
        if not 1 <= self.bits <= MOST_BITS:
            raise ValueError(f"bits is {self.bits}; use 1 to {MOST_BITS}")
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; use 1 or more")


class _Coded(nn.Module):
    """A weight as its codebook and codes; a value that pruning made zero stays zero."""

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self.register_buffer("codes", torch.from_numpy(shared.codes.astype(np.int64)), persistent=False)
        moves = torch.from_numpy((shared.codebook_K != 0).astype(np.float32))
        self.register_buffer("moves_K", moves, persistent=False)
        self._codebook_K = torch.from_numpy(shared.codebook_K)

    def forward(self, codebook_K: Tensor) -> Tensor:
        """The weight."""
        return (codebook_K * self.get_buffer("moves_K"))[self.get_buffer("codes")]

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The codebook that k-means found, whatever the weight was."""
        return self._codebook_K.to(weight.dtype)


def run(model: Compressible, options: ShareWeightsOptions, work: StepWork) -> tuple[Compressible, StepRecord]:
    """Share, and let the codebooks learn if that is asked for.

    Raises:
        BuildError: a matrix is too small for its codebook or not finite, or learning diverged; names it.
    """
    found = list(_matrices(model, options))
    before = stored = 0
    lost = norm = 0.0
    for done, (name, owner, attribute) in enumerate(found):
        work.progress.step("sharing weights, matrix", done, len(found), name)
        weight = owner.get_parameter(attribute)
        values = weight.detach().cpu().numpy()
        pruned = float((values == 0).mean()) >= PRUNED_SHARE
        try:
            shared = share_values(values, 2**options.bits, rounds=options.rounds, what=name, keep_zero=pruned)
        except CodebookRefused as error:
            raise BuildError(f"share_weights: {error}") from error
        lost += float(np.square(shared.values() - values).sum(dtype=np.float64))
        norm += float(np.square(values).sum(dtype=np.float64))
        before += values.nbytes
        stored += shared.stored_bytes
        parametrize.register_parametrization(owner, attribute, _Coded(shared), unsafe=True)
    figures = {
        "matrices": float(len(found)),
        "bytes in memory": float(before),
        "bytes stored": float(stored),
        "relative squared error": lost / max(norm, 1e-30),
    }
    curves: tuple[Curve, ...] = ()
    said = f"{len(found)} matrices of {2**options.bits} values each: {before / 1e6:.2f} MB, stored in {stored / 1e6:.2f} MB"
    try:
        if options.tune:
            tuned, curves = _tuned(model, found, options, work)
            figures |= tuned
            said += (
                f"; held-out loss {tuned['loss before']:.4f} -> {tuned['loss after']:.4f} by their codebooks"
            )
    finally:
        _write_out(found)
    sizes = sizes_of(model.sizes)
    return model, StepRecord(
        step=STEP.name, said=said, figures=figures, before=sizes, after=sizes, curves=curves
    )


def _matrices(model: Compressible, options: ShareWeightsOptions) -> Iterator[tuple[str, nn.Module, str]]:
    """Name, module and attribute of every matrix to share, none twice."""
    names = [f"{name}.weight" for block in model.blocks for name in block.linears]
    seen: set[int] = set()
    for name in [*names, *([model.table] if options.table else [])]:
        path, _, attribute = name.rpartition(".")
        owner = model.module.get_submodule(path)
        weight = owner.get_parameter(attribute)
        if id(weight) not in seen:
            seen.add(id(weight))
            if name == model.table and _owners(model.module, weight) > 1:
                raise BuildError(
                    f"share_weights: {name} is tied to another layer of the network; leave table = true out: it is stored once "
                    "already"
                )
            yield name, owner, attribute


def _owners(network: nn.Module, weight: Tensor) -> int:
    return sum(one is weight for module in network.modules() for one in module.parameters(recurse=False))


def _tuned(
    model: Compressible,
    found: list[tuple[str, nn.Module, str]],
    options: ShareWeightsOptions,
    work: StepWork,
) -> tuple[dict[str, float], tuple[Curve, ...]]:
    books = {
        id(owner.get_submodule("parametrizations").get_submodule(attribute).get_parameter("original"))
        for _, owner, attribute in found
    }
    frozen = [one for one in model.module.parameters() if one.requires_grad and id(one) not in books]
    for one in frozen:
        one.requires_grad_(False)
    try:
        learnt = learn(lesson_of(TaskLearner(model), options, what=f"share_weights {options.bits}"), work)
    finally:
        for one in frozen:
            one.requires_grad_(True)
    return learnt.figures(), learnt.curves()


@torch.no_grad()
def _write_out(found: list[tuple[str, nn.Module, str]]) -> None:
    # As plain weights: the family's checkpoint and graph know no codes. Other names of one module see it too.
    for _, owner, attribute in found:
        if not parametrize.is_parametrized(owner, attribute):
            continue
        value = getattr(owner, attribute).detach().clone()
        parametrize.remove_parametrizations(owner, attribute, leave_parametrized=True)
        owner.register_parameter(attribute, nn.Parameter(value))


STEP: Step[ShareWeightsOptions] = Step(
    name="share_weights",
    options=ShareWeightsOptions,
    run=run,
    code=(
        "build_engines.tuning_loop",
        "build_engines.models.bfloat16",
        "build_engines.compression.activations",
        "build_engines.compression.codebooks",
        "build_engines.compression.learning",
        "build_engines.compression.weights_digest",
        "build_engines.distributed",
        "server.encoding.packed_tables",
    ),
)
