"""What writing copy needs of the rules and of the templates; ``writing``, ``repair`` and ``pipeline`` know nothing else of them.

All of it is plain computation without a clock or a loop, and may be called from any one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from server.copy_domain import Claim, CopyRequest, CopyText


class RecordCheck(Protocol):
    """Copy held against one record, with the shop's own rules; made once a request."""

    def claims(self, part: str, text: str) -> Sequence[Claim]:
        """Every claim of a part; one without a source may not be released."""
        ...

    def without(self, part: str, text: str, refused: Sequence[Claim]) -> str:
        """The text without the sentences that make these claims; empty when nothing of use is left."""
        ...

    def shortened(self, part: str, text: str, *, chars: int, words: int) -> str:
        """The text within both limits, cut where a sentence or a clause ends; empty when nothing of use fits."""
        ...


class CopyRules(Protocol):
    """All rules of a shop.

    Attributes:
        version: changes with whatever changes a verdict; part of what a cached answer is found by.
    """

    version: str

    def open(self, request: CopyRequest) -> RecordCheck:
        """Read the record once, for all texts about it."""
        ...


class CopyTemplates(Protocol):
    """Copy without a model; true of its record by construction, and checked like any other.

    Attributes:
        version: changes with the templates.
    """

    version: str

    def write(self, request: CopyRequest, variant: int) -> CopyText:
        """One piece of copy within the request's limits; other variants read otherwise where the record allows it."""
        ...
