"""How the input of each product is rounded to 8 bits, measured on texts.

The graph itself is run in float32 with the input of every product as an output, so that what is measured is what will be
computed, in every family. Then, product by product, the least error *of the product* is searched:

* over cut-offs of the range: few large values of an encoder carry much of its meaning, and the error of the input alone
  would cut them;
* over channel scales (SmoothQuant): a few channels are far larger than the others. They are divided before rounding, and
  the rows of the matrix are multiplied. A normalization's output is also the residual here (post-norm), and a GELU takes
  up no scale, so the division cannot be folded and is a pass of its own: it is taken where it removes much of the error.
  (all-MiniLM-L6-v2: cosine 0.992 with neither, 0.9986 with this and unsigned inputs, for 4 % of the time.)

For ONNX Runtime inputs are unsigned with a zero point of their own: what comes out of a GELU is hardly ever below zero and
gains a whole bit. TensorRT takes signed ones around zero only.

Suffixes: B texts, T tokens, M tokens looked at, K and N rows and columns of a product.

Source:
    Xiao et al., "SmoothQuant", 2022, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import torch

from build_engines.compression.calibrator_names import ProductCalibrator
from build_engines.compression.calibrators import Histogram, threshold
from build_engines.errors import BuildError
from build_engines.models.causal.checkpoint import Checkpoint, Floats
from build_engines.models.causal.rounding import TINY, int8_codes, int8_scales
from build_engines.models.encoder.architecture import EncoderArchitecture
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.graph import INPUT_IDS, LENGTHS, EncoderForm, build_graph
from build_engines.models.encoder.layout import Layout
from build_engines.models.encoder.rounding import InputRounding
from build_engines.onnx_writer import model_bytes

CUTS = (1.0, 0.85, 0.7, 0.55, 0.4)  # of the range seen
ALPHAS = (0.3, 0.5, 0.7, 0.85)  # how much of a channel's size goes into the matrix
WORTH_A_PASS = 0.75  # of the error without channel scales, which must be below this with them
BATCH = 16  # texts
MOST_TEXTS = 512
JUDGED_TOKENS, JUDGED_COLUMNS = 512, 128  # of these the error is computed, evenly spread
SMALLEST, LARGEST = 0.05, 20.0  # of a channel's divisor


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeSearch:
    """How ranges are found; see ``EncoderOptions``."""

    calibrator: ProductCalibrator = "product"
    percentile: float = 99.99
    smooth: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """Values that went into a product: the least and largest of each channel, and those of some tokens."""

    low_K: Floats
    high_K: Floats
    judged_MK: Floats


def calibrate(
    arch: EncoderArchitecture,
    layout: Layout,
    checkpoint: Checkpoint,
    texts: Sequence[Ids],
    *,
    unsigned: bool,
    threads: int = 1,
    search: RangeSearch | None = None,
) -> dict[str, InputRounding]:
    """How each product's input is rounded, by the product's name.

    Args:
        arch: of the encoder.
        layout: its tensors.
        checkpoint: where they are.
        texts: token ids of texts, special tokens included; the gate never sees them.
        unsigned: for ONNX Runtime.
        threads: of the runtime.
        search: how ranges and channel scales are found; None: as is best known, see the module docstring.

    Raises:
        BuildError: there are no texts, they are no tokens of this encoder, or its activations are not finite.
    """
    seen = _observe(arch, layout, checkpoint, _checked(arch, texts), threads)
    matrices = [matrix for layer in layout.layers for matrix in layer.matrices]
    search = search or RangeSearch()
    return {
        matrix.name: _search(matrix.weight(checkpoint), seen[matrix.name], unsigned, search)
        if search.calibrator == "product"
        else _by_histogram(seen[matrix.name], unsigned, search)
        for matrix in matrices
    }


def _observe(
    arch: EncoderArchitecture, layout: Layout, checkpoint: Checkpoint, texts: Sequence[Ids], threads: int
) -> Mapping[str, _Seen]:
    model = model_bytes(build_graph(arch, layout, checkpoint, EncoderForm(observe=True)))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()][1:]
    batches: dict[str, list[_Seen]] = {name: [] for name in names}
    in_order = sorted(texts, key=len)
    step = max(1, sum(len(one) for one in texts) // JUDGED_TOKENS)
    for start in range(0, len(in_order), BATCH):
        ids_BT, lengths_B = padded(in_order[start : start + BATCH])
        inside_BT = np.arange(ids_BT.shape[1]) < lengths_B[:, None]
        found = session.run(names, {INPUT_IDS: ids_BT, LENGTHS: lengths_B})
        for name, x_BTK in zip(names, found, strict=True):
            x_MK = x_BTK[inside_BT]
            batches[name].append(_Seen(x_MK.min(axis=0), x_MK.max(axis=0), x_MK[start % step :: step].copy()))
    seen = {name: _joined(parts) for name, parts in batches.items()}
    for name, one in seen.items():
        if not (np.isfinite(one.low_K).all() and np.isfinite(one.high_K).all()):
            raise BuildError(
                f"{checkpoint.folder}: the input of {name} is not finite on the calibration texts"
            )
    return seen


def _joined(parts: Sequence[_Seen]) -> _Seen:
    return _Seen(
        np.min([part.low_K for part in parts], axis=0),
        np.max([part.high_K for part in parts], axis=0),
        np.concatenate([part.judged_MK for part in parts]),
    )


def _by_histogram(seen: _Seen, unsigned: bool, search: RangeSearch) -> InputRounding:
    divisors_K = _divisors(seen, search.smooth) if search.smooth else None
    by_K = np.ones(seen.low_K.size, np.float32) if divisors_K is None else divisors_K
    low, high = float((seen.low_K / by_K).min()), float((seen.high_K / by_K).max())
    values = Histogram()
    values.add(seen.judged_MK / by_K)
    limit = threshold(values, search.calibrator, percentile=search.percentile)  # type: ignore[arg-type]  # not "product"
    if search.calibrator == "minmax":
        limit = max(-low, high)  # of all tokens, not of those that are looked at
    return _rounding(max(low, -limit), min(high, limit), unsigned, divisors_K)


def _search(weight_KN: Floats, seen: _Seen, unsigned: bool, search: RangeSearch) -> InputRounding:
    weight_KN = weight_KN[:, :: max(1, weight_KN.shape[1] // JUDGED_COLUMNS)]
    wanted_MN = _product(seen.judged_MK, weight_KN)
    if search.smooth is not None:
        fixed = _divisors(seen, search.smooth) if search.smooth else None
        return _best(weight_KN, wanted_MN, seen, unsigned, fixed)[0]
    plain, least = _best(weight_KN, wanted_MN, seen, unsigned, None)
    least *= WORTH_A_PASS
    for alpha in ALPHAS:
        found, error = _best(weight_KN, wanted_MN, seen, unsigned, _divisors(seen, alpha))
        if error < least:
            plain, least = found, error
    return plain


def _best(
    weight_KN: Floats, wanted_MN: Floats, seen: _Seen, unsigned: bool, divisors_K: Floats | None
) -> tuple[InputRounding, float]:
    by_K = np.ones(len(weight_KN), np.float32) if divisors_K is None else divisors_K
    rows_KN = weight_KN * by_K[:, None]
    scales_N = int8_scales(np.abs(rows_KN).max(axis=0))
    rounded_KN = int8_codes(rows_KN, scales_N) * scales_N
    x_MK = seen.judged_MK / by_K
    low, high = float((seen.low_K / by_K).min()), float((seen.high_K / by_K).max())
    tried = [_rounding(low * cut, high * cut, unsigned, divisors_K) for cut in CUTS]
    found_MN = _product(np.concatenate([one.seen(x_MK) for one in tried]), rounded_KN)
    gaps_CMN = found_MN.reshape(len(tried), *wanted_MN.shape) - wanted_MN
    errors_C = np.square(gaps_CMN, dtype=np.float64).sum(axis=(1, 2))
    least = int(errors_C.argmin())
    return tried[least], float(errors_C[least])


def _rounding(low: float, high: float, unsigned: bool, divisors_K: Floats | None) -> InputRounding:
    low, high = min(low, 0.0), max(high, 0.0)  # zero is a value of its own: padding and what is switched off
    if not unsigned:
        return InputRounding(
            scale=max(-low, high, float(TINY)) / 127, zero=0, unsigned=False, divisors_K=divisors_K
        )
    scale = max(high - low, float(TINY)) / 255
    return InputRounding(scale=scale, zero=round(-low / scale), unsigned=True, divisors_K=divisors_K)


def _divisors(seen: _Seen, alpha: float) -> Floats:
    size_K = np.maximum(np.maximum(-seen.low_K, seen.high_K), 1e-6).astype(np.float32) ** np.float32(alpha)
    middle = np.exp(np.log(size_K).mean())
    clipped: Floats = np.clip(size_K / middle, SMALLEST, LARGEST).astype(np.float32)
    return clipped


def _product(x_MK: Floats, weight_KN: Floats) -> Floats:
    # By torch: where cores are shared, numpy's OpenBLAS waits for its own threads by spinning.
    product: Floats = (torch.from_numpy(x_MK) @ torch.from_numpy(weight_KN)).numpy()
    return product


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
