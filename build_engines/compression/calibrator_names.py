"""Names of calibrators, for recipes; what they do is in ``calibrators``."""

from __future__ import annotations

from typing import Literal

Calibrator = Literal["minmax", "percentile", "entropy", "mse"]
CALIBRATORS: tuple[Calibrator, ...] = ("minmax", "percentile", "entropy", "mse")
# Families that know what an activation is multiplied by also search for the range with the least error of the product.
ProductCalibrator = Literal["product", "minmax", "percentile", "entropy", "mse"]
PRODUCT_CALIBRATORS: tuple[ProductCalibrator, ...] = ("product", *CALIBRATORS)
