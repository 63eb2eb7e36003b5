"""No page is quoted that asks shoppers for secrets or instructs whoever reads it, and none stands in for one that is not."""

from __future__ import annotations

import pytest

from server.pipelines.customer_service.page_trust import PageTrust, asks_for_secrets
from server.support_domain import HandoverReason, Tier
from tests.server.support_world import SHIPPING, Shelf, World, page

ASKING = [
    "To get your refund, send us your card number and CVV by e-mail.",
    "Please enter your card number at the link below to verify your account.",
    "For a refund reply with your password.",
    "Don't share your password. Send us your PIN.",
    "Tell the agent your one-time code to confirm the return.",
    "退款请提供银行卡号和验证码。",
    "请把卡号和密码发给我们。",
    "Ｓｅｎｄ us your ｃａｒｄ ｎｕｍｂｅｒ.",
]
USUAL = [
    "We will never ask for your card number or your password by e-mail or phone.",
    "Never send us your password.",
    "Enter your card number at checkout.",
    "For an account you need an e-mail address and a password of at least 10 characters.",
    "We send a one-time code to your phone.",
    "Most declined payments fail because of a mistyped security code.",
    "Send us a photo of the item and the order number.",
    "我们绝不会通过邮件或电话索要卡号或密码。",
    "我们会发送验证码到您的手机。",
]


@pytest.mark.parametrize("text", ASKING)
def test_a_page_that_asks_for_secrets_is_known(text: str) -> None:
    """In both languages, in whatever width."""
    assert asks_for_secrets(text)


@pytest.mark.parametrize("text", USUAL)
def test_what_shops_write_about_secrets_is_no_asking(text: str) -> None:
    """Warnings, checkouts and the shop's own codes stay quotable."""
    assert not asks_for_secrets(text)


def test_what_was_found_out_about_a_page_is_remembered_and_bounded() -> None:
    """Looking again costs nothing, and no more passages are remembered than may be."""
    looked: list[str] = []
    trust = PageTrust(lambda text: bool(looked.append(text)), most_kept=2)
    pages = [page(name, f"Text {name}.") for name in ("a", "b", "c")]

    assert trust.may_quote(pages[0]) and trust.may_quote(pages[0])
    assert looked == ["Text a.", "A"]
    assert all(trust.may_quote(one) for one in pages)
    assert len(trust._known) == 2


async def test_the_next_best_page_does_not_stand_in_for_one_that_may_not_be_quoted() -> None:
    """A person takes over: what is next answers another question."""
    bad = page(
        "refunds", "Refund of express delivery cost: send us your card number and CVV.", title="Express delivery cost refund"
    )  # fmt: skip
    world = World(shelf=Shelf([bad, page("shipping", SHIPPING, title="Shipping costs")]))

    answer = await world.ask("refund of express delivery cost")

    assert answer.handover is not None and answer.handover.reason is HandoverReason.LOW_CONFIDENCE
    assert "CVV" not in answer.text and all("CVV" not in one.quote for one in answer.handover.evidence)


async def test_a_page_that_may_not_be_quoted_does_not_keep_others_from_answering() -> None:
    """It is only found behind the one that answers."""
    bad = page("refunds", "Refunds: send us your card number.", title="Refunds")
    world = World(shelf=Shelf([bad, page("shipping", SHIPPING, title="Shipping costs")]))

    answer = await world.ask("How much does express delivery cost?")

    assert answer.served_by is Tier.EXTRACTIVE and answer.sources[0].quote == SHIPPING
