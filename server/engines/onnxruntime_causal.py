"""A causal language model in ONNX Runtime on the CPU; see ``CausalEngine`` for the rules of ``run`` and ``copy``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from server.engines.causal import CausalCall, CausalLimits


class OnnxRuntimeCausal:
    """One graph, its weights, and a KV cache of its own.

    Args:
        path: the packaged graph ("model.onnx", its weights beside it).
        pools: capacity in tokens to number of slots; allocated here, once (memory is touched as slots fill).
        threads: intra-op threads (>= 1).
        spin: whether idle intra-op threads spin.
        max_chunk: prompt tokens a call may hold in one row.

    Raises:
        ValueError: a pool or the thread count is out of range.
        RuntimeError: the runtime refuses the graph; names the file.
    """

    kind = "onnxruntime"

    def __init__(
        self,
        path: Path,
        *,
        pools: Mapping[int, int],
        threads: int = 2,
        spin: bool = False,
        max_chunk: int = 256,
    ) -> None:
        self.limits = CausalLimits(vocab_size=1, pools=dict(pools), max_chunk=max_chunk)
        raise RuntimeError(f"{path}: not written yet")

    def run(self, call: CausalCall) -> npt.NDArray[np.float32]:
        """Compute one call; see ``CausalEngine.run``."""
        raise NotImplementedError

    def copy(self, source: tuple[int, int], target: tuple[int, int], tokens: int) -> None:
        """Copy the first ``tokens`` of one slot's cache to another slot (capacity, index)."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of memory."""
