"""Evidence of speed: a candidate's speed-up over its parent, batch size by batch size."""

from __future__ import annotations

from collections.abc import Sequence

from build_engines.records import SpeedRow
from server.artifacts.manifest import Measurement


def speed_evidence(rows: Sequence[SpeedRow], limit: float, *, of: str) -> list[Measurement]:
    """The speed-up at each batch size; the whole interval must be at the limit or above.

    Args:
        rows: what was timed.
        limit: the least speed-up.
        of: what a batch holds ("texts", "rows").
    """
    return [
        Measurement(
            kind="speed",
            name=f"speed-up over the FP32 parent, {row.batch_size} {of} at once",
            value=row.speedup,
            unit="x",
            limit=limit,
            sense="at_least",
            verdict="pass"
            if row.interval[0] >= limit
            else "fail"
            if row.interval[1] < limit
            else "undecidable",
            sample_size=row.rounds,
            interval=row.interval,
            note="a busy machine times badly; try again"
            if row.interval[0] < limit <= row.interval[1]
            else "",
        )
        for row in rows
    ]
