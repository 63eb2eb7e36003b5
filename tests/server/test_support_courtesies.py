"""Greetings, thanks and goodbyes are returned kindly and cost no person's time; a question beside one is still a question."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.copy_domain import Language
from server.pipelines.customer_service.courtesies import COURTESIES, MOST_CHARS, Courtesy, courtesy_of
from server.support_domain import HandoverReason, Tier
from server.support_telemetry import SUPPORT_TIERS
from tests.server.support_world import World

SAID = {
    Courtesy.GREETING: ["hi", "Hi there!", "HELLO 👋", "Good morning", "ｈｅｌｌｏ", "你好", "您好！", "在吗", "你好，在吗？"],
    Courtesy.THANKS: [
        "thank you", "Thanks a lot!!", "OK, thank you so much for your help :)", "no thanks", "hi, thanks", "thanks, bye",
        "谢谢", "好的，谢谢您", "非常感谢你们的帮助！",
    ],
    Courtesy.GOODBYE: ["bye", "Goodbye!", "see you later", "再见", "拜拜~"],
}  # fmt: skip
NONE = [
    "hi where is my order", "thanks, and my refund?", "thanks for nothing", "thanks, you lied to me", "ok", "great", "hint",
    "你好，我要退货", "谢谢，运费多少", "好的", "拜托", "bye-law", "👋", "",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in SAID.items() for text in texts])
def test_a_courtesy_is_known(kind: Courtesy, text: str) -> None:
    assert courtesy_of(text) is kind


@pytest.mark.parametrize("text", NONE)
def test_what_asks_for_more_is_none(text: str) -> None:
    assert courtesy_of(text) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["拜", "早", "嗯", "好", "谢谢", "你", "在", "吗", "hi", "ok", "thanks", "so", "much", "bye", "x"]
        ),
        max_size=60,
    )
)
def test_no_message_takes_long(words: list[str]) -> None:
    began_s = time.perf_counter()
    courtesy_of("".join(words))
    courtesy_of(" ".join(words)[:MOST_CHARS])
    assert time.perf_counter() - began_s < 0.1


async def test_a_courtesy_is_answered_by_a_sentence_and_nothing_is_looked_up() -> None:
    """No source, no page, no person; and it is no failure that the next question counts."""
    world = World()

    hello = await world.ask("hello!")
    chinese = await world.ask("谢谢")
    after = await world.ask("hi", hello.text, "hi", hello.text, "How much does express delivery cost?")

    assert (hello.served_by, hello.handover, hello.sources) == (Tier.COURTESY, None, ())
    assert hello.text == COURTESIES[Language.EN][Courtesy.GREETING]
    assert chinese.text == COURTESIES[Language.ZH][Courtesy.THANKS]
    assert world.shelf is not None and len(world.shelf.asked) == 1
    assert after.served_by is Tier.EXTRACTIVE


async def test_what_a_person_must_hear_is_heard_before_manners() -> None:
    answer = await World().ask("thank you, my kettle is on fire")

    assert answer.handover is not None and answer.handover.reason is HandoverReason.SAFETY


def test_every_tier_is_counted() -> None:
    assert tuple(tier.value for tier in Tier) == SUPPORT_TIERS
