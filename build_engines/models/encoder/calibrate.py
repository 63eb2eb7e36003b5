"""Scales of INT8 activations, measured on texts: one a product, from the largest value seen, cut off where the error says so.

The graph itself is run in float32 with the input of every product as an output, so that what is measured is what will be
computed, in every family. Cutting off is judged by the error of the *product*: few large values of an encoder carry much of
its meaning, and the error of the input alone would cut them.

Suffixes: B texts, T tokens, M tokens looked at, K and N rows and columns of a product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort

from build_engines.errors import BuildError
from build_engines.models.causal.checkpoint import Checkpoint, Floats
from build_engines.models.causal.rounding import INT8_HIGH, TINY, int8_codes, int8_scales
from build_engines.models.encoder.architecture import EncoderArchitecture
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.graph import INPUT_IDS, LENGTHS, EncoderForm, build_graph
from build_engines.models.encoder.layout import Layout, Matrix
from build_engines.onnx_writer import model_bytes

CUTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # of the largest activation
BATCH = 16  # texts
MOST_TEXTS = 512
JUDGED_TOKENS, JUDGED_COLUMNS = 512, 192  # of these the error is computed, evenly spread


def calibrate(
    arch: EncoderArchitecture,
    layout: Layout,
    checkpoint: Checkpoint,
    texts: Sequence[Ids],
    *,
    threads: int = 1,
) -> dict[str, float]:
    """The scale of each product's input.

    Args:
        arch, layout, checkpoint: the encoder.
        texts: token ids of texts, special tokens included; the gate never sees them.
        threads: of the runtime.

    Raises:
        BuildError: there are no texts, they are no tokens of this encoder, or its activations are not finite.
    """
    taken = _checked(arch, texts)
    seen = _observe(arch, layout, checkpoint, taken, threads)
    matrices = {matrix.name: matrix for layer in layout.layers for matrix in layer.matrices}
    return {name: _scale(checkpoint, matrix, *seen[name]) for name, matrix in matrices.items()}


def _observe(
    arch: EncoderArchitecture, layout: Layout, checkpoint: Checkpoint, texts: Sequence[Ids], threads: int
) -> Mapping[str, tuple[float, Floats]]:
    model = model_bytes(build_graph(arch, layout, checkpoint, EncoderForm(observe=True)))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()][1:]
    largest = dict.fromkeys(names, 0.0)
    kept: dict[str, list[Floats]] = {name: [] for name in names}
    in_order = sorted(texts, key=len)
    step = max(1, sum(len(one) for one in texts) // JUDGED_TOKENS)
    for start in range(0, len(in_order), BATCH):
        ids_BT, lengths_B = padded(in_order[start : start + BATCH])
        inside_BT = np.arange(ids_BT.shape[1]) < lengths_B[:, None]
        for name, x_BTK in zip(
            names, session.run(names, {INPUT_IDS: ids_BT, LENGTHS: lengths_B}), strict=True
        ):
            x_MK = x_BTK[inside_BT]
            largest[name] = max(largest[name], float(np.abs(x_MK).max()))
            kept[name].append(x_MK[start % step :: step].copy())
    for name, value in largest.items():
        if not np.isfinite(value):
            raise BuildError(
                f"{checkpoint.folder}: the input of {name} is not finite on the calibration texts"
            )
    return {name: (largest[name], np.concatenate(kept[name])) for name in names}


def _scale(checkpoint: Checkpoint, matrix: Matrix, largest: float, x_MK: Floats) -> float:
    weight_KN = matrix.weight(checkpoint)
    weight_KN = weight_KN[:, :: max(1, weight_KN.shape[1] // JUDGED_COLUMNS)]
    scales_N = int8_scales(np.abs(weight_KN).max(axis=0))
    rounded_KN = int8_codes(weight_KN, scales_N) * scales_N
    wanted_MN = x_MK @ weight_KN
    scales = [max(largest * cut / INT8_HIGH, float(TINY)) for cut in CUTS]
    errors = []
    for scale in scales:
        seen_MK = int8_codes(x_MK, np.float32(scale)) * np.float32(scale)
        errors.append(float(np.square(seen_MK @ rounded_KN - wanted_MN, dtype=np.float64).sum()))
    return scales[int(np.argmin(errors))]


def _checked(arch: EncoderArchitecture, texts: Sequence[Ids]) -> list[Ids]:
    if not texts:
        raise BuildError("int8 needs calibration texts, there are none; give some, as token ids")
    taken = list(texts[:: max(1, len(texts) // MOST_TEXTS)])[:MOST_TEXTS]
    for place, ids in enumerate(taken):
        if ids.ndim != 1 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
            raise BuildError(
                f"calibration text {place}: {ids.dtype} of shape {ids.shape}, must be int64 [tokens]"
            )
        if ids.min() < 0 or ids.max() >= arch.vocab_size:
            raise BuildError(
                f"calibration text {place}: tokens {ids.min()}..{ids.max()}, the encoder has {arch.vocab_size}"
            )
        if ids.size > arch.max_tokens:
            raise BuildError(
                f"calibration text {place}: {ids.size} tokens, the encoder reads {arch.max_tokens}; cut it"
            )
    return taken
