"""A page answers what it knows: a new topic that no intent was taught for, and not a follow-up that asks for something else."""

from __future__ import annotations

import dataclasses

from server.support_domain import HandoverReason, Tier
from tests.server.support_world import PAGES, SHIPPING, Shelf, WordEncoder, World, page


async def test_a_strong_passage_is_quoted_on_a_topic_that_no_intent_was_taught_for() -> None:
    """Words, meaning and search agree on it; the intents know nothing of engraving."""
    told = "Engraving a name on a kettle costs 7.50 euros."
    unsure = World(
        encoder=WordEncoder(lambda _: (0.1, 0.0, 0.0)),
        shelf=Shelf([*PAGES, page("engraving", told, title="Engraving")]),
        thresholds=dataclasses.replace(World().thresholds, intent=0.9, answer=0.99),
    )

    answer = await unsure.ask("Engraving a name on a kettle?")

    assert answer.served_by is Tier.EXTRACTIVE and answer.text == told and answer.strong


async def test_what_a_follow_up_newly_asks_must_be_in_what_is_quoted() -> None:
    """The page of the question before does not answer "and to Norway?"; one that knows Norway does, and else a person."""
    asked = ("How much does express delivery cost?", SHIPPING, "and to Norway?")
    abroad = page("abroad", "Delivery abroad, to Norway too, costs €12.95.", title="Countries")

    unknown = await World().ask(*asked)
    known = await World(shelf=Shelf([*PAGES, abroad])).ask(*asked)

    assert unknown.handover is not None and unknown.handover.reason is HandoverReason.LOW_CONFIDENCE
    assert known.sources[0].quote == abroad.text
