"""What measuring one candidate gave; kept in the study, and enough to judge it again under other limits.

Units: bytes, seconds; losses are relative to the reference, positive is worse.
"""

from __future__ import annotations

import math

import msgspec


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One candidate, measured on one rung.

    Attributes:
        sets: what makes it, as ``--set`` takes it.
        rung: 0 is the cheapest.
        loss: of the metric; None: it could not be measured.
        interval: 95 %, of ``loss``.
        metric: its name.
        before, after: the reference's figure and the candidate's.
        examples: it rests on.
        p99_s: at the rate.
        p99_interval_s: 95 %.
        served_per_s: reached.
        size_bytes: engine and tables.
        memory_bytes: what loading adds.
        cpu_s_per_1000: at the smallest batch.
        seconds: that measuring took.
        refused: why it could not be measured; empty: it was.
    """

    sets: tuple[str, ...]
    rung: int
    loss: float | None = None
    interval: tuple[float, float] | None = None
    metric: str = ""
    before: float | None = None
    after: float | None = None
    examples: int = 0
    p99_s: float | None = None
    p99_interval_s: tuple[float, float] | None = None
    served_per_s: float | None = None
    size_bytes: int = 0
    memory_bytes: int = 0
    cpu_s_per_1000: float = 0.0
    seconds: float = 0.0
    refused: str = ""

    @property
    def measured(self) -> bool:
        """Whether there are figures."""
        return not self.refused and self.loss is not None and self.p99_s is not None

    @property
    def objectives(self) -> tuple[float, float, float, float]:
        """Loss, p99, size, memory: smaller is better; infinite where there are none."""
        if not self.measured or self.loss is None or self.p99_s is None:
            return (math.inf,) * 4
        return (self.loss, self.p99_s, float(self.size_bytes), float(self.memory_bytes))
