"""What is told while copy is being written: a part once it is checked, a variant once it is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.copy_domain import Claim, CopyAnswer, CopyVariant


@dataclass(frozen=True, slots=True)
class PartReleased:
    """A part that may be shown; ``name`` as in ``CopyText.parts``."""

    variant: int
    name: str
    text: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class VariantReleased:
    """All of a variant, with its evidence; its parts have been told before."""

    variant: int
    copy: CopyVariant


CopyEvent = PartReleased | VariantReleased
Emit = Callable[[CopyEvent], None]


def events_of(answer: CopyAnswer) -> list[CopyEvent]:
    """The events of an answer that is there already, as if it were being written."""
    events: list[CopyEvent] = []
    for index, variant in enumerate(answer.variants):
        for name, text in variant.text.parts():
            events.append(PartReleased(index, name, text, claims_of(variant.claims, name)))
        events.append(VariantReleased(index, variant))
    return events


def claims_of(claims: tuple[Claim, ...], name: str) -> tuple[Claim, ...]:
    """Those of one part."""
    return tuple(claim for claim in claims if claim.part == name)
