"""What was found in a text: a span, what kind of claim it is, and where the record bears it out, or why it may not stand."""

from __future__ import annotations

from dataclasses import dataclass

from server.copy_domain import ClaimKind
from server.pipelines.product_copy.record import Evidence


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim in a folded text.

    Attributes:
        kind: see there.
        start, end: in the folded text.
        evidence: where the record says it; None: it does not, or it may not be said.
        reason: why not.
    """

    kind: ClaimKind
    start: int
    end: int
    evidence: Evidence | None
    reason: str = ""
