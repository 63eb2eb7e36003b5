"""A follow-up question is made whole from the turns before it, and a whole question is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.pipelines.customer_service.rewriting import MOST_CHARS, leans, newly_asked, whole_question
from server.support_domain import Role, Turn
from tests.server.support_world import talk

FOLLOW_UPS = ["and for electronics?", "what happens to my points then?", "how long does it take?", "What about Norway?", "why?", "How much?", "is it free?", "And if it is broken?",
              "Can I return it?", "那运费呢？", "多久？", "它要多少钱？", "那瑞士呢", "还有电子产品呢？", "免费吗？", "如果坏了呢？"]  # fmt: skip
WHOLE = ["How long does delivery take?", "is it possible to return shoes?", "How do I return this item?", "Where is my order?", "Do you ship to Norway?",
         "I bought a lamp last week and it does not work, can I return it or get my money back?", "我可以退货吗", "运费多少钱", "怎么修改收货地址？"]  # fmt: skip


@pytest.mark.parametrize("message", FOLLOW_UPS)
def test_a_follow_up_gets_the_question_before_it(message: str) -> None:
    """Pronouns, ellipsis, "and for ...", in both languages."""
    whole = whole_question(talk("Do you deliver to Switzerland?", "Yes, we do.", message))

    assert whole.startswith("Do you deliver to Switzerland") and whole.endswith(message)
    assert "Yes" not in whole


@pytest.mark.parametrize("message", WHOLE)
def test_a_question_that_stands_alone_is_left_alone(message: str) -> None:
    """What came before does not change it."""
    assert whole_question(talk("Do you sell gift cards?", "Yes.", message)) == message


def test_a_row_of_follow_ups_goes_back_to_what_they_are_about() -> None:
    """Each leans on the one before; what names no subject of its own is passed over."""
    whole = whole_question(
        talk("Do you deliver to Switzerland?", "Yes.", "how long does it take?", "9 days.", "and how much?")
    )

    assert whole == "Do you deliver to Switzerland, and how much?"


def test_a_first_message_has_nothing_to_lean_on() -> None:
    """ "How long does it take?" alone stays what it is."""
    assert whole_question(talk("how long does it take?")) == "how long does it take?"


@given(st.lists(st.text(max_size=60), min_size=1, max_size=30))
def test_any_conversation_gives_a_bounded_question_that_ends_with_the_message(said: list[str]) -> None:
    """Whatever is said, at most ``MOST_CHARS`` characters, and nothing of the shop's own words."""
    turns = tuple(
        Turn(
            role=Role.USER if (len(said) - at) % 2 else Role.ASSISTANT,
            content=text if (len(said) - at) % 2 else "SHOP",
        )
        for at, text in enumerate(said)
    )

    whole = whole_question(turns)

    assert len(whole) <= MOST_CHARS
    assert whole.endswith(said[-1].strip())
    assert "SHOP" in "".join(said) or "SHOP" not in whole


@given(st.text(max_size=2000))
def test_any_text_either_leans_or_does_not(text: str) -> None:
    """No text is too strange."""
    assert leans(text) in (True, False)


@pytest.mark.parametrize(
    ("before", "message", "new"),
    [
        ("How much is express delivery?", "and to Norway?", {"norway"}),
        ("How long is the warranty?", "what about bicycles?", {"bicycl"}),
        ("Where are your shops?", "is there one in Berlin?", {"berlin"}),
        ("羊毛怎么洗？", "真丝呢", {"真丝"}),
        ("快递运费多少？", "那日本呢？", {"日本"}),
        ("Can I change the address?", "even after it has shipped?", set()),
        ("Do you wrap gifts?", "how much is it?", set()),
        ("Do you wrap gifts?", "for 12 too?", set()),
        ("Is delivery to Norway possible?", "and express delivery?", {"express"}),
    ],
)
def test_what_is_new_in_a_follow_up_is_known(before: str, message: str, new: set[str]) -> None:
    """Its subject, or a name in it; how it is asked, and what was asked before, is not new."""
    turns = (
        Turn(role=Role.USER, content=before),
        Turn(role=Role.ASSISTANT, content="..."),
        Turn(role=Role.USER, content=message),
    )

    assert newly_asked(message, whole_question(turns)) == new


def test_a_question_that_stands_alone_has_nothing_new() -> None:
    """Everything in it is what is asked."""
    assert newly_asked("Do you deliver to Norway?", "Do you deliver to Norway?") == frozenset()
