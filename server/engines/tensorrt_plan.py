"""Open a TensorRT plan and hold its tensors against the manifest: names, dtypes, directions, ranges of shapes.

Shapes are tuples of sizes. Units: bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.engines.base import TensorSpec
from server.engines.cuda import CudaRuntime

Shape = tuple[int, ...]
Ranges = Mapping[str, tuple[Shape, Shape]]  # smallest and largest shape of each input


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class OpenPlan:
    """A plan that fits.

    Attributes:
        name: in messages.
        engine: the runtime's object.
        profiles: ranges of each optimization profile.
        sizes: largest size of each tensor, tables left out.
        context_bytes: device memory that one set of contexts takes.
        dtypes: of each tensor.
        log: errors that the runtime has told.
        config: of contexts, with the runtime cache; None: the runtime has none.
        cache: the runtime cache.
    """

    name: str
    engine: Any
    profiles: tuple[Ranges, ...]
    sizes: Mapping[str, int]
    context_bytes: int
    dtypes: Mapping[str, Any]
    log: list[str]
    config: Any = None
    cache: Any = None

    def contexts(self) -> list[Any]:
        """An execution context for each profile.

        Raises:
            RuntimeError: the runtime makes none, mostly for want of memory.
        """
        made = []
        for index in range(len(self.profiles)):
            context = self.engine.create_execution_context(*([] if self.config is None else [self.config]))
            if context is None:
                raise RuntimeError(f"{self.name}: no execution context could be made: {self.said()}")
            made.append(context)
            if index and not context.set_optimization_profile_async(index, 0):
                raise RuntimeError(f"{self.name}: profile {index} cannot be used: {self.said()}")
        return made

    def profile(self, shapes: Mapping[str, Shape]) -> int:
        """The narrowest profile that takes these shapes.

        Raises:
            ValueError: none does; says what the last one takes.
        """
        fitting = [
            index
            for index, ranges in enumerate(self.profiles)
            if all(_inside(shape, ranges[name]) for name, shape in shapes.items())
        ]
        if not fitting:
            last = self.profiles[-1]
            name = next((one for one in shapes if not _inside(shapes[one], last[one])), next(iter(shapes)))
            low, high = last[name]
            raise ValueError(f"{self.name}: {name} of shape {shapes[name]}, the plan takes {low} to {high}")
        return min(
            fitting, key=lambda index: sum(math.prod(high) for _, high in self.profiles[index].values())
        )

    def largest(self, inputs: Sequence[TensorSpec], symbol: str) -> int:
        """The largest size that any profile takes for a dimension; 1 where no input has it."""
        sizes = [
            ranges[spec.name][1][spec.shape.index(symbol)]
            for ranges in self.profiles
            for spec in inputs
            if symbol in spec.shape
        ]
        return max(sizes, default=1)

    def check_table(self, name: str, dtype: Any, shape: Shape) -> None:
        """Check an array that stays on the device.

        Raises:
            ValueError: it is of another dtype, or no profile takes its shape.
        """
        if dtype != self.dtypes[name]:
            raise ValueError(f"{name}: dtype {dtype}, needs {self.dtypes[name]}")
        self.profile({name: shape})

    def said(self) -> str:
        """The last of what the runtime has told."""
        return "; ".join(self.log[-3:]) or "it gave no reason"

    def runtime_cache(self) -> bytes:
        """Kernels compiled so far; empty: this runtime keeps none."""
        return b"" if self.cache is None else bytes(self.cache.serialize())


def open_plan(
    trt: Any,
    cuda: CudaRuntime,
    plan: bytes,
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    tables: Sequence[str],
    runtime_cache: bytes,
) -> OpenPlan:
    """Deserialize a plan and check it.

    Raises:
        RuntimeError: not enough memory for its weights, another device or version, other tensors; says what to do.
    """
    free, _ = cuda.free_bytes()
    if len(plan) > free:
        raise RuntimeError(
            f"{name}: the plan has {len(plan) >> 20} MiB, {free >> 20} MiB are free on device {cuda.device}; serve fewer "
            "models on it"
        )
    logger, told = _logger(trt)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise RuntimeError(
            f"{name}: {trt.__name__} {trt.__version__} on {cuda.capability()} cannot load this plan "
            f"({'; '.join(told[-3:]) or 'it gave no reason'}); build it for this GPU with this version"
        )
    dtypes = _check_tensors(trt, engine, name, inputs, outputs, tables)
    profiles = tuple(
        _ranges(engine, [*(spec.name for spec in inputs), *tables], at)
        for at in range(engine.num_optimization_profiles)
    )
    config, cache = _runtime_config(engine, runtime_cache)
    opened = OpenPlan(
        name=name, engine=engine, profiles=profiles, sizes={}, context_bytes=0, dtypes=dtypes, log=told, config=config, cache=cache
    )  # fmt: skip
    return OpenPlan(
        name=name,
        engine=engine,
        profiles=profiles,
        sizes=_sizes(opened, inputs, outputs),
        context_bytes=sum(
            int(engine.get_device_memory_size_for_profile_v2(at)) for at in range(len(profiles))
        ),
        dtypes=dtypes,
        log=told,
        config=config,
        cache=cache,
    )


def _logger(trt: Any) -> tuple[Any, list[str]]:
    told: list[str] = []

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                told.append(message)

    return Log(), told


def _check_tensors(
    trt: Any,
    engine: Any,
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    tables: Sequence[str],
) -> dict[str, Any]:
    modes = {}
    for index in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(index)
        modes[tensor] = engine.get_tensor_mode(tensor)
    wanted = {
        **{spec.name: trt.TensorIOMode.INPUT for spec in inputs},
        **{table: trt.TensorIOMode.INPUT for table in tables},
        **{spec.name: trt.TensorIOMode.OUTPUT for spec in outputs},
    }
    if modes != wanted:
        odd = sorted(tensor for tensor in {*modes, *wanted} if modes.get(tensor) != wanted.get(tensor))
        raise RuntimeError(
            f"{name}: tensors {odd} are not the same in the plan and in the manifest; build the version again"
        )
    dtypes = {tensor: np.dtype(trt.nptype(engine.get_tensor_dtype(tensor))) for tensor in modes}
    for spec in (*inputs, *outputs):
        if dtypes[spec.name] != np.dtype(spec.dtype):
            raise RuntimeError(
                f"{name}: {spec.name} is {dtypes[spec.name]} in the plan, the manifest says {spec.dtype}; build the version again"
            )
    return dtypes


def _ranges(engine: Any, names: Sequence[str], profile: int) -> Ranges:
    found = {}
    for tensor in names:
        low, _, high = engine.get_tensor_profile_shape(tensor, profile)
        found[tensor] = (tuple(int(size) for size in low), tuple(int(size) for size in high))
    return found


def _runtime_config(engine: Any, kept: bytes) -> tuple[Any, Any]:
    # TensorRT for RTX compiles kernels for the GPU that is here when a plan first runs; they are kept between starts.
    if not hasattr(engine, "create_runtime_config"):
        return None, None
    config = engine.create_runtime_config()
    if not hasattr(config, "create_runtime_cache"):
        return config, None
    cache = config.create_runtime_cache()
    if kept and not cache.deserialize(kept):
        cache = config.create_runtime_cache()  # of another version or GPU: compiled anew, a little later
    config.set_runtime_cache(cache)
    return config, cache


def _sizes(opened: OpenPlan, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for context, ranges in zip(opened.contexts(), opened.profiles, strict=True):
        for tensor, (_, high) in ranges.items():
            if not context.set_input_shape(tensor, high):
                raise RuntimeError(
                    f"{opened.name}: {tensor} cannot have its largest shape {high}: {opened.said()}"
                )
        for spec in outputs:
            shape = tuple(int(size) for size in context.get_tensor_shape(spec.name))
            if min(shape, default=1) < 0:
                raise RuntimeError(
                    f"{opened.name}: the size of output {spec.name} depends on data ({shape}); give the graph an output of "
                    "a size that its inputs' shapes decide"
                )
            size = math.prod(shape) * opened.dtypes[spec.name].itemsize
            sizes[spec.name] = max(sizes.get(spec.name, 0), size)
        for spec in inputs:
            size = math.prod(ranges[spec.name][1]) * opened.dtypes[spec.name].itemsize
            sizes[spec.name] = max(sizes.get(spec.name, 0), size)
    return sizes


def _inside(shape: Shape, allowed: tuple[Shape, Shape]) -> bool:
    low, high = allowed
    return len(shape) == len(low) and all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))
