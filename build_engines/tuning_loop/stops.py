"""Why a training ends before its time, and what is taken for divergence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from build_engines.tuning_loop.options import LossPoint

RISE, MARGIN = 4.0, 1.0  # of the first held-out loss: above both, a run has lost what it knew


class TuningDiverged(RuntimeError):
    """Training makes the model worse and will not mend; the message says what to do."""

    def __init__(self, step: int, loss: float, what: str = "loss") -> None:
        super().__init__(f"step {step}: {what} is {loss}; lower learning_rate")
        self.step = step
        self.loss = loss


def check_finite(step: int, value: float, what: str = "loss") -> None:
    """Raise ``TuningDiverged`` where a number is none."""
    if not math.isfinite(value):
        raise TuningDiverged(step, value, what)


def check_course(curve: Sequence[LossPoint]) -> None:
    """Raise ``TuningDiverged`` where the last held-out loss is far above the first.

    Far is ``RISE`` times as high and ``MARGIN`` nats above; a run that overfits stops by its patience long before.
    """
    first, last = curve[0].heldout_loss, curve[-1].heldout_loss
    check_finite(curve[-1].step, last, "held-out loss")
    if last > RISE * abs(first) and last > first + MARGIN:
        raise TuningDiverged(curve[-1].step, last, f"held-out loss was {first:.4g} at first and")
