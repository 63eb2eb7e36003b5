"""What the answer needs of those who listen: language, signals, entities, and a text without personal data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from server.copy_domain import Language
from server.support_domain import Entity, Signals, Turn


class Hearing(Protocol):
    """Plain computation without a clock or a loop; bounded in the length of its text."""

    def language(self, text: str, turns: Sequence[Turn], locale: str) -> Language:
        """The language to answer in: the locale's, else the text's, else that of the turns before it."""
        ...

    def signals(self, text: str) -> Signals:
        """What a person must hear, each with the words that say it."""
        ...

    def instructs(self, text: str) -> bool:
        """Whether a page or a field of an order gives instructions to whoever reads it; then it is not shown."""
        ...

    def without_attempts(self, text: str) -> str:
        """What a shopper wrote, without the sentences that give instructions: what may be searched, matched and prompted with."""
        ...

    def entities(self, text: str) -> tuple[Entity, ...]:
        """Order numbers, dates, amounts and products that a text names, in its order."""
        ...

    def masked(self, text: str) -> str:
        """The text without personal data."""
        ...
