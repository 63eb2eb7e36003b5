"""Names of calibrators, for recipes; what they do is in ``calibrators``."""

from __future__ import annotations

from typing import Literal

Calibrator = Literal["minmax", "percentile", "entropy", "mse"]
CALIBRATORS: tuple[Calibrator, ...] = ("minmax", "percentile", "entropy", "mse")
# Families that know what an activation is multiplied by also search for the range with the least error of the product.
ProductCalibrator = Literal["product", "minmax", "percentile", "entropy", "mse"]
PRODUCT_CALIBRATORS: tuple[ProductCalibrator, ...] = ("product", *CALIBRATORS)


def check_ranges(calibrator: str, percentile: float, smooth: float | None) -> None:
    """See that a family's options can be meant.

    Raises:
        ValueError: one is out of range; names it.
    """
    if calibrator not in PRODUCT_CALIBRATORS:
        raise ValueError(f"calibrator is {calibrator!r}; there are {', '.join(PRODUCT_CALIBRATORS)}")
    if not 50 <= percentile <= 100:
        raise ValueError(f"percentile is {percentile:g}; use 50 to 100")
    if smooth is not None and not 0 <= smooth <= 1:
        raise ValueError(f"smooth is {smooth:g}; use 0 to 1")
