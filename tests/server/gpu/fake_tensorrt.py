"""A TensorRT that runs a numpy function on the fake device, in the streams' order; methods are those of the real classes.

A plan is the number of a ``Model`` in ``MODELS``. Contexts read buffers when the stream gets there, never before; a launch is
refused (False) where a shape or an address is missing, and recorded into a graph only if these shapes ran in the open first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from tests.server.gpu.fake_cuda import FakeCuda

__version__ = "10.0.fake"
Shape = tuple[int, ...]
Shapes = dict[str, Shape]


@dataclass
class Model:
    """What a plan computes.

    Attributes:
        inputs, outputs: dtype by name.
        profiles: (smallest, largest) shape of each input.
        shape: of the outputs; -1 where data decides.
        run: arrays to arrays.
        memory: of a context.
    """

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    profiles: list[dict[str, tuple[Shape, Shape]]]
    shape: Callable[[Shapes], Shapes]
    run: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
    memory: int = 1000


MODELS: dict[bytes, Model] = {}


def plan_of(model: Model) -> bytes:
    """Serialize."""
    key = b"plan %d" % len(MODELS)
    MODELS[key] = model
    return key


class TensorIOMode(Enum):
    """Directions."""

    INPUT = 1
    OUTPUT = 2


class ILogger:
    """Base of loggers."""

    ERROR, INTERNAL_ERROR, WARNING = "error", "internal", "warning"


def nptype(dtype: Any) -> Any:
    """Numpy's name of a type."""
    return dtype


class Runtime:
    """Loads plans; ``cuda`` is set by the test."""

    cuda: FakeCuda

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        if serialized_engine not in MODELS:
            self.logger.log(ILogger.ERROR, "magic tag does not match")
            return None
        return ICudaEngine(MODELS[serialized_engine], type(self).cuda)


@dataclass
class ICudaEngine:
    """A loaded plan."""

    model: Model
    cuda: FakeCuda

    @property
    def num_io_tensors(self) -> int:
        return len(self.model.inputs) + len(self.model.outputs)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.model.profiles)

    def get_tensor_name(self, index: int) -> str:
        return [*self.model.inputs, *self.model.outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.model.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return {**self.model.inputs, **self.model.outputs}[name]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        low, high = self.model.profiles[profile_index][name]
        return [low, high, high]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return self.model.memory

    def create_execution_context(self) -> IExecutionContext | None:
        return IExecutionContext(self)


@dataclass
class IExecutionContext:
    """Shapes and addresses of one user."""

    owner: ICudaEngine
    shapes: Shapes = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    profile: int = 0
    ran: Shapes = field(default_factory=dict)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: Any) -> bool:
        self.profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        low, high = self.owner.model.profiles[self.profile][name]
        if len(shape) != len(low) or any(
            not a <= size <= b for a, size, b in zip(low, shape, high, strict=True)
        ):
            return False
        self.shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory % 256 == 0, "TensorRT wants aligned addresses"
        self.addresses[name] = memory
        return True

    def get_tensor_shape(self, name: str) -> Shape:
        if name in self.owner.model.inputs:
            return self.shapes[name]
        return self.owner.model.shape(self.shapes)[name]

    def execute_async_v3(self, stream_handle: Any) -> bool:
        model, shapes, addresses = self.owner.model, dict(self.shapes), dict(self.addresses)
        if set(shapes) != set(model.inputs) or set(addresses) != {*model.inputs, *model.outputs}:
            return False
        cuda = self.owner.cuda
        if stream_handle.capturing is not None and self.ran != shapes:
            cuda.faults.append("a launch was recorded that never ran in the open with these shapes")
        self.ran = shapes
        cuda.calls.append("execute_async_v3")
        if cuda.fail_at is not None and len(cuda.calls) - 1 == cuda.fail_at:
            return False

        def view(name: str, dtype: Any, shape: Shape) -> np.ndarray:
            size = math.prod(shape) * np.dtype(dtype).itemsize
            return cuda.device_bytes(addresses[name], size).view(dtype).reshape(shape)

        def do() -> None:
            found = model.run(
                {name: view(name, dtype, shapes[name]).copy() for name, dtype in model.inputs.items()}
            )
            for name, shape in model.shape(shapes).items():
                view(name, model.outputs[name], shape)[...] = found[name]

        cuda.enqueue(stream_handle, do, tuple(addresses.values()))
        return True
