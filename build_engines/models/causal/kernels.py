"""Run a packaged graph once as the server does, and look at which kernels ran: every silent fallback shows there.

Profiled and not read from the optimized graph: writing that one would write all weights once more.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from build_engines.errors import BuildError
from build_engines.models.causal.architecture import Architecture
from build_engines.models.causal.graph import matrix_count
from build_engines.models.causal.mapped import given_back
from build_engines.models.causal.options import Precision
from build_engines.models.causal.store import SUFFIX
from server.engines.onnxruntime_causal import INT4_ACCURACY

# By precision: the kernels that its products must run as.
PRODUCTS: dict[Precision, tuple[str, ...]] = {
    "fp32": ("MatMul", "FusedMatMul"),
    "int4": ("MatMulNBits",),
    "int8": ("MatMulIntegerToFloat", "QLinearMatMul"),
}
# Writes keys and values in place if past and present are one memory and nothing stands between it and the output.
ATTENTION_KERNEL = "GroupQueryAttention"
CAPACITY = 16


def check_kernels(
    graph: Path,
    arch: Architecture,
    precision: Precision,
    precisions: Mapping[str, Precision] | None = None,
) -> dict[str, int]:
    """Compute one token and count what ran; ``precisions`` are those of matrices that have another one.

    Returns:
        Node counts by operator.

    Raises:
        BuildError: the runtime refuses the graph, copies the cache, gives no finite logits, or fell back to other
            kernels; says which.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            counts, finite = _profile(graph, arch, precision, Path(folder))
        except Exception as error:  # onnxruntime has no common base for its errors
            raise BuildError(f"{graph}: ONNX Runtime {ort.__version__} refuses the graph: {error}") from error
    between = _cache_producers(graph) - {ATTENTION_KERNEL}
    if between:
        raise BuildError(f"{graph}: copies the cache in every step, by {', '.join(sorted(between))}")
    if not finite:
        raise BuildError(
            f"{graph}: the logits of token 0 are not finite; the checkpoint's weights are broken"
        )
    _expect(graph, counts, (ATTENTION_KERNEL,), arch.layers)
    wanted = Counter({precision: matrix_count(arch)})
    for other in (precisions or {}).values():
        wanted[precision] -= 1
        wanted[other] += 1
    for kind, count in wanted.items():
        _expect(graph, counts, PRODUCTS[kind], count)
    return dict(sorted(counts.items()))


def _profile(
    graph: Path, arch: Architecture, precision: Precision, folder: Path
) -> tuple[Counter[str], bool]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", INT4_ACCURACY)
    # Packed copies of weights are for speed; without them the weights stay in the mapped file. INT4 products that are not
    # packed are multiplied in FP32, each matrix written out whole: those copies are the smaller evil.
    options.add_session_config_entry("session.disable_prepacking", "0" if precision == "int4" else "1")
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    fed = {
        "input_ids": np.zeros((1, 1), np.int64),
        "write_index": np.zeros(1, np.int64),
        "n_new": np.ones(1, np.int64),
    }
    logits = np.empty((1, arch.vocab_size), np.float32)
    caches: list[Any] = []
    for name, array in fed.items():
        binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)
    for index in range(arch.layers):
        for part in "kv":
            cache = np.zeros((1, arch.kv_heads, CAPACITY, arch.head_dim), np.float32)
            caches.append(cache)
            binding.bind_input(f"past.{index}.{part}", "cpu", 0, np.float32, cache.shape, cache.ctypes.data)
            binding.bind_output(
                f"present.{index}.{part}", "cpu", 0, np.float32, cache.shape, cache.ctypes.data
            )
    binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
    with ExitStack() as stack:
        for weights in graph.parent.glob(f"*{SUFFIX}"):
            stack.enter_context(given_back(weights))
        session.run_with_iobinding(binding)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = (event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time"))
    return Counter(ran), bool(np.isfinite(logits).all())


def _cache_producers(graph: Path) -> set[str]:
    model = onnx.load(str(graph), load_external_data=False)
    cached = {value.name for value in model.graph.output if value.name.startswith("present.")}
    return {node.op_type for node in model.graph.node if cached & set(node.output)}


def _expect(graph: Path, counts: Mapping[str, int], kinds: Sequence[str], wanted: int) -> None:
    have = sum(counts.get(kind, 0) for kind in kinds)
    if have != wanted:
        raise BuildError(
            f"{graph}: {have} {' or '.join(kinds)} ran, must be {wanted}: ONNX Runtime {ort.__version__} fell back "
            f"silently; what ran is {dict(sorted(counts.items()))}"
        )
