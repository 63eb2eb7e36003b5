"""What an engine is: one compiled model on one device that turns named arrays into named arrays.

Engines speak only arrays: no ids, no requests, no clocks of their own. That keeps the seam at which an engine can move
to another process or another machine (DESIGN: "Where it may grow").
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of an engine.

    Attributes:
        name: tensor name in the graph.
        dtype: numpy name ("int32", "float32", "int8", "bool").
        shape: one entry a dimension: a number, or a symbol such as "B", "L", "N".
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def check(self, array: npt.NDArray[Any], symbols: dict[str, int]) -> None:
        """Check one array against this spec, and its symbols against those already bound.

        Raises:
            ValueError: names the tensor, what was given and what is needed.
        """
        if array.dtype != np.dtype(self.dtype):
            raise ValueError(f"{self.name}: dtype {array.dtype}, needs {self.dtype}")
        if array.ndim != len(self.shape):
            raise ValueError(
                f"{self.name}: shape {array.shape}, needs {len(self.shape)} dimensions {self.shape}"
            )
        for size, want in zip(array.shape, self.shape, strict=True):
            bound = want if isinstance(want, int) else symbols.setdefault(want, size)
            if size != bound:
                raise ValueError(
                    f"{self.name}: shape {array.shape}, needs {self.shape} with {want} = {bound}"
                )


class Engine(Protocol):
    """One compiled model, loaded on one device.

    Attributes:
        kind: runner name: "onnxruntime", "tensorrt", "tensorrt_rtx", "triton", "echo".
        inputs: what ``run`` needs.
        outputs: what ``run`` returns.
    """

    kind: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def bind(self, constants: Arrays) -> None:
        """Keep arrays that stay the same from run to run (the catalogue); replaces what was bound before.

        Called by the thread that calls ``run``, never during one. The engine may copy them to its device; the caller
        must not write to them afterwards.
        """
        ...

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one batch and block until its outputs are in host memory.

        Not thread-safe: exactly one thread may be inside ``run``. Outputs are fresh arrays; the engine keeps no
        reference to inputs or outputs. The interpreter lock is released while the device works.

        Raises:
            ValueError: an input does not fit its spec; the engine is as it was.
            RuntimeError: the runtime failed; the caller decides whether the engine is kept.
        """
        ...

    def close(self) -> None:
        """Free the device memory; ``run`` afterwards raises RuntimeError. Safe to call twice."""
        ...


class Waiters(Protocol):
    """Who waits for a batch; may be asked from any thread."""

    @property
    def latest_s(self) -> float:
        """On the monotonic clock: when nobody can use an answer any more."""
        ...

    def abandoned(self) -> bool:
        """Whether everybody has left or has been answered."""
        ...


_waiters: ContextVar[Waiters | None] = ContextVar("waiters", default=None)


@contextlib.contextmanager
def on_behalf_of(waiters: Waiters) -> Iterator[None]:
    """Say to the engine that runs within this block who waits for it: one that can stop in time asks ``waiting_now``."""
    token = _waiters.set(waiters)
    try:
        yield
    finally:
        _waiters.reset(token)


def waiting_now() -> Waiters | None:
    """Who waits for the run that this thread is in; None: nobody in particular (a warm-up, a replay)."""
    return _waiters.get()
