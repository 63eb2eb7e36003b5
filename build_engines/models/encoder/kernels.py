"""Load a packaged graph as the server does and count the kernels in the optimized graph: every silent fallback shows there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from build_engines.errors import BuildError
from build_engines.models.encoder.architecture import EncoderArchitecture
from build_engines.models.encoder.options import Variant
from build_engines.targets import onnxruntime_cpu

PRODUCTS_PER_LAYER = 6


def check_kernels(
    graph: bytes,
    arch: EncoderArchitecture,
    variant: Variant,
    checkpoint: Path,
    *,
    kept: Sequence[str] = (),
) -> dict[str, int]:
    """Count; ``kept`` are the products that stayed in float32.

    Returns:
        Node counts by operator.

    Raises:
        BuildError: the runtime refuses the graph, or fell back to other kernels; says which.
    """
    plain = sum(3 if name.endswith(".qkv") else 1 for name in kept)
    integer = PRODUCTS_PER_LAYER * arch.layers - plain if variant == "int8" else 0
    try:
        return onnxruntime_cpu.check_kernels(graph, {}, attention=arch.layers, integer_matmuls=integer)
    except ValueError as error:
        raise BuildError(f"{checkpoint}: {error}") from error
