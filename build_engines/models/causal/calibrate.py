"""Scales that make a model easier to round, found on its own activations.

For each product whose input is made by something that can take up a scale (a normalization, or the columns of gate and
up), inputs are divided and rows multiplied by ``size ** alpha``: weights that meet large activations are rounded finer
(AWQ), and for INT8 the activations lose their outliers (SmoothQuant). Of several alphas the one with the least error of
the product on calibration tokens is taken; 0, no scale, is among them, so a search cannot choose worse than none there.

INT8 activations are static: one scale a product, from the largest value seen, cut off where the error of the product says so,
or where another calibrator does (``compression.calibrators``), then at the one alpha that is asked for. INT4 weights may be
rounded by ``gptq``.

Source:
    Lin et al., "AWQ: Activation-aware Weight Quantization", 2023, section 3.2 (the search); Xiao et al., "SmoothQuant",
    2022, section 4 (moving outliers into weights).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from build_engines.compression.calibrators import Histogram, threshold
from build_engines.errors import BuildError
from build_engines.models.causal.architecture import Architecture
from build_engines.models.causal.checkpoint import Checkpoint, Floats
from build_engines.models.causal.forward import walk
from build_engines.models.causal.gptq import Rounded, round_matrix
from build_engines.models.causal.layout import Matrix
from build_engines.models.causal.matrices import Folding, Source
from build_engines.models.causal.options import GRAPHS, Ids, Precision, TextOptions
from build_engines.models.causal.rounding import INT8_HIGH, int4_blocks, int8_codes, int8_scales

ALPHAS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8)
CUTS = (1.0, 0.8, 0.6, 0.4)  # of the largest activation
MOST_TOKENS = 4_096  # of calibration; their activations of one width are in memory, and time grows with them
JUDGED_TOKENS = 128  # of these the error is computed
JUDGED_COLUMNS = 128  # of a matrix' columns, evenly spread
SMALLEST, LARGEST = 1e-2, 1e2  # of a scale


def calibrate(
    checkpoint_folder: Path,
    arch: Architecture,
    checkpoint: Checkpoint,
    options: TextOptions,
    batches: Sequence[Ids],
    precision: Precision | None = None,
) -> Folding:
    """Search scales for "int8", or for "int4" with ``awq`` or ``gptq``; for the first graph unless ``precision`` is given.

    Raises:
        BuildError: there are no batches, or they are no tokens of this model, or its activations are not finite.
    """
    precision = precision or GRAPHS[options.variant][0]
    taken = _check_batches(checkpoint_folder, arch, precision, batches)
    search = _Search(checkpoint, precision == "int8", options)
    walk(arch, checkpoint, taken, search.look)
    return Folding(
        inputs=search.inputs, activation_scales=search.activation_scales, rounded=search.rounded_codes
    )


class _Search:
    def __init__(self, checkpoint: Checkpoint, int8: bool, options: TextOptions) -> None:
        self._checkpoint, self._options = checkpoint, options
        self._int8, self._block = int8, options.block
        self.rounded_codes: dict[str, Rounded] = {}
        self.inputs: dict[str, Floats] = {}
        self.activation_scales: dict[str, float] = {}

    def look(self, matrix: Matrix, x_MK: torch.Tensor) -> None:
        largest_K = torch.maximum(x_MK.amax(dim=0), -x_MK.amin(dim=0))  # without a copy of all activations
        if not bool(torch.isfinite(largest_K).all()):
            raise BuildError(f"the input of {matrix.name} is not finite on the calibration texts")
        size_K = _size(x_MK, largest_K, self._int8)
        if self._int8 and self._options.calibrator != "product":
            self._by_histogram(matrix, largest_K.numpy(), size_K, x_MK)
        elif self._int8 or self._options.awq:
            self._choose(matrix, largest_K.numpy(), size_K, _judged(x_MK))
        if self._options.rounding == "gptq" and self._is_int4(matrix):
            scales_K = self.inputs.get(matrix.name)
            divided = x_MK if scales_K is None else x_MK / torch.from_numpy(scales_K)
            source = Source(self._checkpoint, matrix, scales_K)
            self.rounded_codes[matrix.name] = round_matrix(source, divided, self._block)

    def _is_int4(self, matrix: Matrix) -> bool:
        # Beside INT8 matrices (mixed precision) the INT4 ones go by the same scales.
        own = GRAPHS[self._options.variant][0]
        return not self._int8 or self._options.precisions.get(matrix.name, own) == "int4"

    def _by_histogram(self, matrix: Matrix, largest_K: Floats, size_K: Floats, x_MK: torch.Tensor) -> None:
        alpha = self._options.smooth or 0.0
        scales_K = _scales(size_K, alpha if _foldable(matrix) else 0.0)
        seen = Histogram()
        seen.add((x_MK / torch.from_numpy(scales_K)).numpy())
        limit = threshold(seen, self._options.calibrator, percentile=self._options.percentile)  # type: ignore[arg-type]  # not "product"
        if alpha and _foldable(matrix):
            self.inputs[matrix.name] = scales_K
        self.activation_scales[matrix.name] = max(limit / INT8_HIGH, 1e-9)

    def _choose(self, matrix: Matrix, largest_K: Floats, size_K: Floats, judged_MK: Floats) -> None:
        weight_KN = self._columns(matrix)
        wanted_MN = _product(judged_MK, weight_KN)
        best, best_scales, best_activation = np.inf, None, 0.0
        cuts = CUTS if self._int8 else CUTS[:1]
        fixed = self._options.smooth if self._int8 else None
        alphas = ALPHAS if fixed is None else (fixed,)
        for alpha in alphas if _foldable(matrix) else ALPHAS[:1]:
            scales_K = _scales(size_K, alpha)
            scaled_MK: Floats = (judged_MK / scales_K).astype(np.float32)
            top = float((largest_K / scales_K).max())
            activations = [max(top * cut / INT8_HIGH, 1e-9) for cut in cuts]
            seen = [_through_int8(scaled_MK, one) for one in activations] if self._int8 else [scaled_MK]
            products = _product(np.concatenate(seen), self._rounded(weight_KN * scales_K[:, None]))
            gaps_CMN = products.reshape(len(cuts), *wanted_MN.shape) - wanted_MN
            errors_C = np.square(gaps_CMN, dtype=np.float64).sum(axis=(1, 2))
            least = int(errors_C.argmin())
            if errors_C[least] < best:
                best, best_activation = float(errors_C[least]), activations[least]
                best_scales = scales_K if alpha else None
        if best_scales is not None:
            self.inputs[matrix.name] = best_scales
        if self._int8:
            self.activation_scales[matrix.name] = best_activation

    def _columns(self, matrix: Matrix) -> Floats:
        """Some whole columns ``[K, N']`` in float32, evenly spread; only these are read from the checkpoint."""
        step = max(1, matrix.width // JUDGED_COLUMNS)
        rows = [
            self._checkpoint.spread_rows(part, min(step, columns))
            for part, columns in zip(matrix.parts, matrix.columns, strict=True)
        ]
        return np.ascontiguousarray(np.concatenate(rows).T)

    def _rounded(self, weight_KN: Floats) -> Floats:
        if self._int8:
            scales = int8_scales(np.abs(weight_KN).max(axis=0))
            product: Floats = int8_codes(weight_KN, scales) * scales
            return product
        codes, block_scales = int4_blocks(weight_KN, self._block)
        rounded: Floats = codes.astype(np.float32) * np.repeat(block_scales, self._block, axis=0)
        return rounded


def _size(x_MK: torch.Tensor, largest_K: torch.Tensor, int8: bool) -> Floats:
    size_K = largest_K if int8 else torch.linalg.vector_norm(x_MK, ord=1, dim=0) / len(x_MK)
    array: Floats = size_K.numpy()
    return array


def _judged(x_MK: torch.Tensor) -> Floats:
    array: Floats = x_MK[:: max(1, len(x_MK) // JUDGED_TOKENS)][:JUDGED_TOKENS].numpy()
    return array


def _product(x_MK: Floats, weight_KN: Floats) -> Floats:
    # By torch: where cores are shared, numpy's OpenBLAS waits for its own threads by spinning, and this took minutes.
    product: Floats = (torch.from_numpy(x_MK) @ torch.from_numpy(weight_KN)).numpy()
    return product


def _foldable(matrix: Matrix) -> bool:
    # What comes before "out" is attention: a scale of its own for each head of values would do, and gain little.
    return not matrix.name.endswith(".out")


def _scales(size_K: Floats, alpha: float) -> Floats:
    powers = np.maximum(size_K, 1e-6) ** np.float32(alpha)
    middle = np.exp(np.log(powers).mean())
    clipped: Floats = np.clip(powers / middle, SMALLEST, LARGEST).astype(np.float32)
    return clipped


def _through_int8(x_MK: Floats, scale: float) -> Floats:
    step = np.float32(scale)
    seen: Floats = int8_codes(x_MK, np.asarray(step)) * step
    return seen


def _check_batches(
    folder: Path, arch: Architecture, precision: Precision, batches: Sequence[Ids]
) -> list[Ids]:
    what = "int8" if precision == "int8" else "calibrated int4 (awq, gptq)"
    if not batches:
        raise BuildError(
            f"{folder}: {what} needs calibration texts, there are none; give batches of token ids"
        )
    taken: list[Ids] = []
    tokens = 0
    for place, ids in enumerate(batches):
        if ids.ndim != 2 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
            raise BuildError(
                f"calibration batch {place}: {ids.dtype} of shape {ids.shape}, must be int64 [texts, tokens]"
            )
        if ids.min() < 0 or ids.max() >= arch.vocab_size:
            raise BuildError(
                f"calibration batch {place}: tokens {ids.min()}..{ids.max()}, the model has {arch.vocab_size}"
            )
        if ids.shape[1] > arch.max_positions:
            raise BuildError(
                f"calibration batch {place}: {ids.shape[1]} tokens, the model was trained for {arch.max_positions}"
            )
        if tokens and tokens + ids.size > MOST_TOKENS:
            break
        taken.append(ids.astype(np.int64))
        tokens += ids.size
    return taken
