"""What an answer releases on its way, in this order: what was understood, where it stands, its parts. Then it is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.copy_domain import Language
from server.support_domain import Entity, Intent, Source


@dataclass(frozen=True, slots=True)
class IntentHeard:
    """What was understood."""

    intent: Intent
    language: Language
    entities: tuple[Entity, ...]


@dataclass(frozen=True, slots=True)
class SourcesFound:
    """What the answer rests on; empty for a handover."""

    sources: tuple[Source, ...]
    knowledge_epoch: int


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A part of the text; all of them in a row are the text."""

    text: str


SupportEvent = IntentHeard | SourcesFound | AnswerPart
Emit = Callable[[SupportEvent], None]
