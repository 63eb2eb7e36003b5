"""Which products of an encoder stay in float32: measured on its own vectors, timed on the runtime that serves.

Loss of a plan: 1 - mean cosine of the vectors to the FP32 encoder's, on calibration texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from build_engines.compression.mixed import Mixed, Plan, mix
from build_engines.compression.mixed_parts import MixedPart
from build_engines.compression.node_times import product_times
from build_engines.errors import BuildError
from build_engines.models.causal.checkpoint import Checkpoint, Floats
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.calibrate import RangeSearch, calibrate
from build_engines.models.encoder.graph import EMBEDDING, INPUT_IDS, LENGTHS, EncoderForm, build_graph
from build_engines.models.encoder.layout import BUFFERS, find_layout
from build_engines.models.encoder.options import EncoderOptions
from build_engines.models.encoder.package import resolved_form
from build_engines.models.encoder.sentence import weights_folder
from build_engines.onnx_writer import model_bytes
from build_engines.progress import Progress

BATCH, TOKENS = 8, 24  # that products are timed at


def choose_products(
    checkpoint: Path,
    options: EncoderOptions,
    texts: Sequence[Ids],
    part: MixedPart,
    progress: Progress,
) -> tuple[tuple[str, ...], Mixed]:
    """Names of the products that stay in float32, and how that was found.

    Args:
        checkpoint: as ``package_encoder``.
        options: of the engine; ``kept`` is not looked at.
        texts: for calibration; losses are measured on the first ``part.texts`` of them.
        part: how much may be lost.
        progress: told product after product.

    Raises:
        BuildError: there are no texts, or the checkpoint is not supported.
    """
    arch, sentence = resolved_form(checkpoint, options)
    if not texts:
        raise BuildError("mixed precision needs calibration texts, there are none; give some ([texts])")
    judged = sorted(texts[: part.texts], key=len)
    with Checkpoint(weights_folder(checkpoint), left_out=BUFFERS) as tensors:
        layout = find_layout(arch, tensors)
        search = RangeSearch(
            calibrator=options.calibrator, percentile=options.percentile, smooth=options.smooth
        )
        roundings = calibrate(arch, layout, tensors, texts, unsigned=True, search=search)
        products = [matrix.name for layer in layout.layers for matrix in layer.matrices]
        counts = [len(matrix.parts) for layer in layout.layers for matrix in layer.matrices]

        def graph(plan: Plan) -> bytes:
            form = EncoderForm(
                pooling=sentence.pooling,
                roundings={name: one for name, one in roundings.items() if plan.get(name) == "int8"},
                max_tokens=sentence.max_tokens,
            )
            return model_bytes(build_graph(arch, layout, tensors, form))

        wanted_ND = _vectors(graph({}), judged)

        def loss(plan: Plan) -> float:
            return float(1.0 - (_vectors(graph(plan), judged) * wanted_ND).sum(axis=1).mean())

        seconds = {
            precision: _times(graph(dict.fromkeys(products, precision)), precision, counts, part.rounds)
            for precision in ("fp32", "int8")
        }
        found = mix(
            products,
            ("fp32", "int8"),
            loss=loss,
            seconds=seconds,
            budget=part.budget,
            unit="1 - cosine",
            progress=progress,
        )
    return tuple(name for name in products if found.plan[name] == "fp32"), found


def _vectors(graph: bytes, texts: Sequence[Ids]) -> Floats:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    found = []
    for start in range(0, len(texts), BATCH):
        ids_BT, lengths_B = padded(texts[start : start + BATCH])
        found.append(session.run([EMBEDDING], {INPUT_IDS: ids_BT, LENGTHS: lengths_B})[0])
    joined: Floats = np.concatenate(found)
    return joined


def _times(graph: bytes, precision: str, counts: Sequence[int], rounds: int) -> list[float]:
    ids_BT, lengths_B = np.full((BATCH, TOKENS), 7, np.int64), np.full(BATCH, TOKENS, np.int64)
    found = product_times(
        lambda options: ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"]),
        lambda session: session.run([EMBEDDING], {INPUT_IDS: ids_BT, LENGTHS: lengths_B}),
        precision=precision,
        products=counts,
        rounds=rounds,
    )
    return [float(one) for one in found]
