"""What an engine of named tensors is: a model that Vitrine knows nothing of but its manifest.

Whoever asks (a wire that speaks tensors, a second stage) reads names, dtypes and shapes here and needs to know no model.
The decision not to undo: a request is checked against the *declared* tensors before the runtime sees it, so that a wrong
one is a sentence about the caller's tensor and never a failed engine.

Suffixes: B rows of a batch.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy.typing as npt

from server.engines.base import Arrays, TensorSpec

BATCH = "B"  # the symbol of the axis that rows of different requests share


class TensorEngine(Protocol):
    """One compiled model of named tensors, loaded on one device.

    Attributes:
        kind: runner name ("onnxruntime").
        inputs: what ``run`` needs; a dimension is a number or a symbol. ``"B"`` in first place is the batch: rows are
            independent of each other, and rows of several requests may be put one after the other.
        outputs: what ``run`` returns.
        max_batch: most rows of one run (>= 1); 1 where no axis is the batch.
        max_dims: largest size of each other symbol that is bounded.
    """

    kind: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int
    max_dims: dict[str, int]

    def check(self, inputs: Arrays) -> int:
        """Hold arrays against the declaration; needs no engine and may be called from any thread.

        Returns:
            Rows of the batch; 1 where no axis is the batch.

        Raises:
            ValueError: a tensor is missing, unknown, of another dtype or shape, or above a limit; names it, what was given
                and what is needed.
        """
        ...

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one batch and block until its outputs are in host memory; the interpreter lock is released meanwhile.

        Not thread-safe: exactly one thread may be inside. Outputs are fresh arrays.

        Raises:
            ValueError: see ``check``; the engine is as it was.
            RuntimeError: the runtime failed, or the engine is closed; the caller decides whether it is kept.
        """
        ...

    def close(self) -> None:
        """Free its memory; ``run`` afterwards raises RuntimeError. Safe to call twice."""
        ...


def check_tensors(
    specs: tuple[TensorSpec, ...], inputs: Arrays, *, max_batch: int, max_dims: dict[str, int]
) -> int:
    """See ``TensorEngine.check``."""
    unknown = sorted(set(inputs) - {spec.name for spec in specs})
    if unknown:
        raise ValueError(f"{unknown[0]}: no input of this model; it has {[spec.name for spec in specs]}")
    symbols: dict[str, int] = {}
    for spec in specs:
        array = inputs.get(spec.name)
        if array is None:
            raise ValueError(f"{spec.name}: missing, got {sorted(inputs)}; send every input of the model")
        spec.check(array, symbols)
    rows = symbols.get(BATCH, 1)
    if not 1 <= rows <= max_batch:
        raise ValueError(f"{rows} rows in the batch, must be 1 to {max_batch}; send several batches")
    for symbol, most in max_dims.items():
        size = symbols.get(symbol, 1)
        if not 1 <= size <= most:
            raise ValueError(f"dimension {symbol} is {size}, must be 1 to {most}")
    return rows
