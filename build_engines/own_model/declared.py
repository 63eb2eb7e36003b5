"""What a shop's own model says of itself: the only type that a factory needs to know.

    from build_engines.own_model.declared import DeclaredModel, DeclaredTensor

    def build(weights: Path) -> DeclaredModel:
        scorer = Scorer()
        scorer.load_state_dict(torch.load(weights, weights_only=True))
        return DeclaredModel(
            module=scorer,
            inputs=(DeclaredTensor(name="features", dtype="float32", shape=("B", 12)),),
            outputs=(DeclaredTensor(name="score", dtype="float32", shape=("B",)),),
            sample={"features": torch.zeros(2, 12)},
        )

A dimension is a number, or a symbol where it may change from run to run. ``"B"`` in first place is the batch: rows that have
nothing to do with each other, so that the server may put rows of several requests one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

BATCH = "B"
DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTensor:
    """One input or output.

    Attributes:
        name: of an input, the name of a parameter of ``forward``.
        dtype: one of ``DTYPES``.
        shape: numbers and symbols.

    Raises:
        ValueError: a part of it cannot be; names it.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __post_init__(self) -> None:
        """Check what it says."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"tensor name {self.name!r}: use letters, digits and '_', a letter first")
        if self.dtype not in DTYPES:
            raise ValueError(f"{self.name}: dtype {self.dtype!r}; use one of {', '.join(DTYPES)}")
        for at, dim in enumerate(self.shape):
            if isinstance(dim, int) and dim < 1:
                raise ValueError(f"{self.name}: dimension {at} is {dim}, must be 1 or more")
            if isinstance(dim, str) and not _SYMBOL.fullmatch(dim):
                raise ValueError(f"{self.name}: symbol {dim!r}: use letters, digits and '_', a letter first")
            if dim == BATCH and at:
                raise ValueError(f"{self.name}: B is dimension {at}; the batch comes first")

    def batched(self) -> bool:
        """Whether it has a row for each row of the batch."""
        return self.shape[:1] == (BATCH,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredModel:
    """A module with its tensors.

    Attributes:
        module: in evaluation it must give equal outputs for equal inputs.
        inputs: by the names of ``forward``'s parameters.
        outputs: in the order in which ``forward`` returns them.
        sample: an example of each input; two or more along each symbol, or the tracer would take the size for a constant.

    Raises:
        ValueError: the sample is not what ``inputs`` say; names the tensor.
    """

    module: nn.Module
    inputs: tuple[DeclaredTensor, ...]
    outputs: tuple[DeclaredTensor, ...]
    sample: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        """Check the sample."""
        if not self.inputs or not self.outputs:
            raise ValueError("a model needs an input and an output; declare both")
        names = [one.name for one in (*self.inputs, *self.outputs)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice}: two tensors have this name; give each its own")
        inputs = {one.name for one in self.inputs}
        if set(self.sample) != inputs:
            raise ValueError(f"sample has {sorted(self.sample)}, the inputs are {sorted(inputs)}")
        sizes: dict[str, int] = {}
        for one in self.inputs:
            _hold(one, self.sample[one.name], sizes)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols of the inputs, each once."""
        return tuple(dict.fromkeys(dim for one in self.inputs for dim in one.shape if isinstance(dim, str)))


def _hold(one: DeclaredTensor, tensor: Tensor, sizes: dict[str, int]) -> None:
    dtype = str(np.dtype(str(tensor.dtype).removeprefix("torch.")))
    if dtype != one.dtype:
        raise ValueError(f"sample of {one.name} is {dtype}, declared is {one.dtype}")
    if tensor.ndim != len(one.shape):
        raise ValueError(f"sample of {one.name} has shape {tuple(tensor.shape)}, declared is {one.shape}")
    for size, dim in zip(tensor.shape, one.shape, strict=True):
        if isinstance(dim, int) and size != dim:
            raise ValueError(f"sample of {one.name} has shape {tuple(tensor.shape)}, declared is {one.shape}")
        if isinstance(dim, str):
            if size < 2:
                raise ValueError(
                    f"sample of {one.name}: {dim} is {size}; give 2 or more, or the tracer takes it for a constant"
                )
            if sizes.setdefault(dim, size) != size:
                raise ValueError(f"sample of {one.name}: {dim} is {size} here and {sizes[dim]} elsewhere")
