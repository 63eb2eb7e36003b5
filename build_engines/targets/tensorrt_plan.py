"""Build TensorRT plans: ``tensorrt_rtx`` ahead of time for listed GPUs, ``tensorrt`` where its libraries and a GPU are.

Both have nearly the same API, and precision is in the graph (strongly typed), so one function serves both. Neither is
imported until a plan is asked for: this module imports on any machine.

Never set a timing cache when building for RTX ahead of time: it asks for a GPU.
"""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import onnx

from build_engines.targets.sparse_matmuls import sparse_matmuls

# What the parser says that is no loss: that an int64 input wants int64 memory. Every other warning is an error.
HARMLESS_WARNINGS: tuple[str, ...] = ("has Int64 binding",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Smallest, usual and largest shape of one input in the optimization profile."""

    low: tuple[int, ...]
    usual: tuple[int, ...]
    high: tuple[int, ...]


class TensorRTUnavailable(RuntimeError):
    """The runtime's libraries are not on this machine; says what to install."""


class PlanRefused(ValueError):
    """The parser or the builder refused the graph; says where."""


def load_tensorrt(kind: str) -> ModuleType:
    """Import ``tensorrt_rtx`` or ``tensorrt``.

    Raises:
        TensorRTUnavailable: it is not installed, or its libraries do not load.
    """
    hints = {
        "tensorrt_rtx": "pip install '.[tensorrt-rtx]'",
        "tensorrt": "pip install '.[tensorrt]' on a machine whose index has NVIDIA's libraries, or use its container image",
    }
    if kind not in hints:
        raise ValueError(f"unknown TensorRT flavour {kind!r}, there are {sorted(hints)}")
    try:
        return importlib.import_module(kind)
    except (ImportError, OSError) as error:
        raise TensorRTUnavailable(f"{kind} cannot be loaded ({error}); to have it: {hints[kind]}") from error


def build_plan(
    kind: str,
    model_bytes: bytes,
    profile: Mapping[str, Range],
    *,
    attention: int,
    capability: str | None = None,
) -> bytes:
    """Parse and build one plan; with the sparse kernels allowed where weights of the graph are 2:4.

    Args:
        kind: "tensorrt_rtx" or "tensorrt".
        model_bytes: the source graph, tables as inputs.
        profile: shapes of every input.
        attention: Attention nodes the graph has; each must keep its mask.
        capability: "sm86" ...: the GPU to build for (RTX only); None: the GPU that is here.

    Returns:
        The serialized engine.

    Raises:
        TensorRTUnavailable: the libraries are missing.
        PlanRefused: parse errors, parser warnings that are not listed as harmless, or a failed build.
    """
    trt = load_tensorrt(kind)
    log = _collecting_logger(trt)
    builder = trt.Builder(log)
    flags = 0
    if hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model_bytes):
        raise PlanRefused("; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    _refuse_warnings(log.warnings)
    found = _prepare_attention(trt, network)
    if found != attention:
        raise PlanRefused(f"the parser found {found} attentions, the graph has {attention}")
    config = builder.create_builder_config()
    if sparse_matmuls(onnx.load_from_string(model_bytes)):
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if capability is not None:
        _set_capability(trt, config, capability)
    config.add_optimization_profile(_profile(builder, network, profile))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise PlanRefused(
            f"{kind} could not build a plan for {capability or 'this GPU'}: {'; '.join(log.errors[-3:])}"
        )
    return bytes(plan)


def fix_dimensions(source: onnx.ModelProto, sizes: Mapping[str, int]) -> onnx.ModelProto:
    """Write sizes in for symbols of the inputs: TensorRT's DequantizeLinear takes no table of unknown size.

    Args:
        source: a graph by ``build_graph``.
        sizes: by symbol ("N", "M", "X").
    """
    model = onnx.ModelProto()
    model.CopyFrom(source)
    del model.graph.value_info[:]
    for value in model.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in sizes:
                dimension.dim_value = sizes[dimension.dim_param]
    return model


def versions(kind: str) -> dict[str, str]:
    """Package versions for the manifest."""
    return {kind: str(load_tensorrt(kind).__version__)}


def this_gpu() -> str:
    """Compute capability of the GPU here, as "sm90"; from the driver's own tool, so that no CUDA binding is needed.

    Raises:
        TensorRTUnavailable: there is none.
    """
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise TensorRTUnavailable(f"no GPU found here ({error}); build where the GPU is") from error
    return "sm" + answer.stdout.splitlines()[0].strip().replace(".", "")


def _collecting_logger(trt: ModuleType) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.warnings: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity == trt.ILogger.WARNING:
                self.warnings.append(message)
            elif severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()


def _refuse_warnings(warnings: Sequence[str]) -> None:
    serious = [text for text in warnings if not any(harmless in text for harmless in HARMLESS_WARNINGS)]
    if serious:
        raise PlanRefused(
            f"the parser warns, and a warning here has meant wrong answers: {'; '.join(serious[:5])}"
        )


def _prepare_attention(trt: ModuleType, network: Any) -> int:
    """Let FP32 attention be built from simpler kernels (FP16 and BF16 need no leave), and check what was parsed.

    Returns:
        How many attentions there are.
    """
    count = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type != trt.LayerType.ATTENTION_INPUT:
            continue
        layer.__class__ = (
            trt.IAttentionInputLayer
        )  # the bindings return the base class; this is their documented cast
        attention = layer.attention
        attention.decomposable = True
        count += 1
        if attention.mask is None or attention.causal_kind != trt.CausalMaskKind.NONE:
            raise PlanRefused(f"attention {layer.name!r} lost its mask or became causal in the parser")
    return count


def _set_capability(trt: ModuleType, config: Any, capability: str) -> None:
    name = capability.upper()
    known = [entry for entry in dir(trt.ComputeCapability) if entry.startswith("SM")]
    if name not in known:
        raise PlanRefused(
            f"{trt.__name__} {trt.__version__} cannot build for {capability!r}; it knows {sorted(known)}"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)


def _profile(builder: Any, network: Any, ranges: Mapping[str, Range]) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        name = network.get_input(index).name
        if name not in ranges:
            raise PlanRefused(f"input {name!r} has no shape range; given are {sorted(ranges)}")
        shape = ranges[name]
        profile.set_shape(name, shape.low, shape.usual, shape.high)
    return profile
