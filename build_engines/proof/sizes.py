"""Evidence of size: what a version's engine weighs on disk, over its uncompressed parent."""

from __future__ import annotations

from server.artifacts.manifest import Measurement


def size_evidence(parent_bytes: int, candidate_bytes: int, limit: float) -> Measurement:
    """Bytes of the engine over its parent's."""
    ratio = candidate_bytes / parent_bytes
    return Measurement(
        kind="size",
        name="size of the engine over that of its FP32 parent",
        value=ratio,
        unit="ratio",
        limit=limit,
        sense="at_most",
        verdict="pass" if ratio <= limit else "fail",
        sample_size=1,
        note=f"{parent_bytes} to {candidate_bytes} bytes, {parent_bytes / candidate_bytes:.1f} times smaller",
    )
