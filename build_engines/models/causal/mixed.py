"""Which matrices of a decoder have which precision: measured on texts, timed on the runtime that serves.

Loss of a plan: divergence of its next tokens from the FP32 engine's, in nats a token, on calibration texts read token by token
as in decoding. (Perplexity on a few texts moves by percents either way and says nothing of one matrix; the divergence is never
below zero, and about what the logarithm of perplexity rises by where the FP32 engine is right.) Every plan is a graph that is written and opened: for a model of some million weights that is a second, for half a
billion a minute, so what is measured alone is for small models, or for patience.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch

from build_engines.compression.mixed import Mixed, Plan, mix
from build_engines.compression.mixed_parts import MixedPart
from build_engines.compression.node_times import product_times
from build_engines.errors import BuildError
from build_engines.models.causal.architecture import Architecture, read_architecture
from build_engines.models.causal.calibrate import calibrate
from build_engines.models.causal.checkpoint import Checkpoint, Floats
from build_engines.models.causal.graph import GraphForm, build_graph, matrix_names
from build_engines.models.causal.layout import check_tensors
from build_engines.models.causal.options import GRAPHS, Ids, Precision, TextOptions
from build_engines.models.causal.store import SUFFIX, WeightFile
from build_engines.progress import Progress
from build_engines.targets.onnxruntime_cpu import shift_zero_points
from server.engines.causal import CausalCall
from server.engines.onnxruntime_causal import OnnxRuntimeCausal

TOKENS = 192  # of each text are read at most; its second half is judged, where answers stand
CAPACITY = 16
CHOICES: Mapping[str, tuple[Precision, ...]] = {"int8": ("fp32", "int8"), "int4": ("fp32", "int8", "int4")}


def choose_products(
    checkpoint: Path, options: TextOptions, texts: Sequence[Ids], part: MixedPart, progress: Progress
) -> tuple[dict[str, Precision], Mixed]:
    """Precisions of the matrices that have another one than the variant's, and how that was found.

    Args:
        checkpoint: as ``package_text``.
        options: of the engine; ``precisions`` are not looked at.
        texts: batches for calibration; losses are measured on the first ``part.texts`` texts of some length.
        part: how much may be lost.
        progress: told product after product.

    Raises:
        BuildError: there are no texts, or none of more than a few tokens.
    """
    arch = read_architecture(checkpoint)
    own = GRAPHS[options.variant][0]
    judged_BT = _judged(texts, part.texts)
    names = matrix_names(arch)
    with Checkpoint(checkpoint) as tensors, tempfile.TemporaryDirectory() as scratch:
        check_tensors(arch, tensors)
        folding = calibrate(checkpoint, arch, tensors, options, texts, "int8")
        path = Path(scratch) / "model.onnx"

        def write(plan: Plan) -> Path:
            given: dict[str, Any] = {name: plan.get(name, "fp32") for name in names}
            form = GraphForm(
                precision="fp32",
                precisions=given,
                max_context=options.max_context,
                block=options.block,
                fused=True,
            )
            with WeightFile(path.parent, path.with_suffix(SUFFIX).name) as store:
                proto = ir.to_proto(build_graph(arch, tensors, store, form, folding))
            shift_zero_points(proto.graph)
            path.write_bytes(proto.SerializeToString())
            return path

        def read(plan: Plan) -> Floats:
            rows, length = judged_BT.shape
            engine = OnnxRuntimeCausal(write(plan), pools={length: rows}, threads=1)
            try:
                return _log_probabilities(engine, judged_BT)
            finally:
                engine.close()

        wanted_TBV = read({})
        choices = CHOICES[own]
        seconds: dict[str, list[float]] = {
            precision: _times(
                write(dict.fromkeys(names, precision)), arch, precision, len(names), part.rounds
            )
            for precision in choices
        }
        found = mix(
            names,
            choices,
            loss=lambda plan: _divergence(wanted_TBV, read(plan)),
            seconds=seconds,
            budget=part.budget,
            unit="nats a token",
            progress=progress,
        )
    plan: dict[str, Any] = dict(found.plan)
    return {name: one for name, one in plan.items() if one != own}, found


def _log_probabilities(engine: OnnxRuntimeCausal, ids_BT: Ids) -> Floats:
    rows, length = ids_BT.shape
    ones_B = np.ones(rows, np.int64)
    found = []
    for place in range(length):
        column = np.ascontiguousarray(ids_BT[:, place : place + 1])
        logits = torch.from_numpy(
            engine.run(CausalCall(length, 0, column, np.full(rows, place, np.int64), ones_B))
        )
        if place >= length // 2:
            found.append(torch.log_softmax(logits, dim=1).numpy())
    joined: Floats = np.stack(found)
    return joined


def _divergence(wanted_TBV: Floats, got_TBV: Floats) -> float:
    gaps = [np.exp(want) * (want - got) for want, got in zip(wanted_TBV, got_TBV, strict=True)]
    return float(np.mean([gap.sum(axis=1, dtype=np.float64).mean() for gap in gaps]))


def _judged(texts: Sequence[Ids], count: int) -> Ids:
    rows = [row for batch in texts for row in batch if row.size >= 2]
    if not rows:
        raise BuildError(
            "mixed precision needs calibration texts of two tokens or more, there are none; give some"
        )
    length = min(TOKENS, int(np.median([row.size for row in rows])))  # half of the texts are this long
    long = [row[:length] for row in rows if row.size >= length][:count]
    return np.stack(long).astype(np.int64)


def _times(graph: Path, arch: Architecture, precision: str, count: int, rounds: int) -> list[float]:
    cache = np.zeros((1, arch.kv_heads, CAPACITY, arch.head_dim), np.float32)
    fed: dict[str, Any] = {
        "input_ids": np.zeros((1, 1), np.int64),
        "write_index": np.zeros(1, np.int64),
        "n_new": np.ones(1, np.int64),
        **{f"past.{index}.{part}": cache for index in range(arch.layers) for part in "kv"},
    }
    found = product_times(
        lambda options: ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"]),
        lambda session: session.run(["logits"], fed),
        precision=precision,
        products=[1] * count,
        rounds=rounds,
    )
    return [float(one) for one in found]
