"""The ``Hearing`` that serves: language, signals, entities and masking by their own modules."""

from __future__ import annotations

from collections.abc import Sequence

from server.copy_domain import Language
from server.pipelines.customer_service.ports import Hearing
from server.support_domain import Entity, Signals, Turn


class Ears:
    """See ``Hearing``."""

    def language(self, text: str, turns: Sequence[Turn], locale: str) -> Language:
        """The language to answer in."""
        from server.pipelines.customer_service.language import answer_language

        return answer_language(text, turns, locale)

    def signals(self, text: str) -> Signals:
        """What a person must hear."""
        from server.pipelines.customer_service.signals import find_signals

        return find_signals(text)

    def instructs(self, text: str) -> bool:
        """Whether stored text gives instructions."""
        from server.pipelines.customer_service.injection import Place, find_attempts

        return bool(find_attempts(text, Place.DOCUMENT))

    def entities(self, text: str) -> tuple[Entity, ...]:
        """What a text names."""
        from server.pipelines.customer_service.entities import find_entities

        return tuple(find_entities(text))

    def masked(self, text: str) -> str:
        """The text without personal data."""
        from server.pipelines.customer_service.masking import mask

        return mask(text)


def open_hearing() -> Hearing:
    """Ears for both languages."""
    return Ears()
