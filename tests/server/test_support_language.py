"""The language of what shoppers write: scripts, small words, mixtures, and texts without a word."""

import pytest

from server.copy_domain import Language
from server.pipelines.customer_service.language import Tongue, answer_language, identify
from server.support_domain import Role, Turn

CASES = (
    ("Where is my order?", "en"),
    ("refund", "en"),
    ("REFUND NOW", "en"),
    ("Ｗｈｅｒｅ ｉｓ ｍｙ ｏｒｄｅｒ", "en"),
    ("Do you sell 茅台 in the shop?", "en"),
    ("my size is L, 可以", "en"),
    ("我的订单在哪里", "zh"),
    ("我的order什么时候ship", "zh"),
    ("iPhone 15 Pro Max case 有货吗", "zh"),
    ("退款", "zh"),
    ("請問我的訂單什麼時候到？", "zh"),
    ("注文はいつ届きますか", "other"),
    ("주문이 어디에 있나요", "other"),
    ("Где мой заказ?", "other"),
    ("أين طلبي؟", "other"),
    ("איפה ההזמנה שלי", "other"),
    ("Wo ist meine Bestellung, bitte?", "other"),
    ("¿Dónde está mi pedido?", "other"),
    ("Où est ma commande ?", "other"),
    ("😡😡😡", "none"),
    ("\u200b\x00\x07", "none"),
    ("12345 / 678", "none"),
    ("", "none"),
    ("\u202eWhere is my order\u202c", "en"),
)


@pytest.mark.parametrize(("text", "tongue"), CASES)
def test_a_language_is_told_by_its_script_and_its_small_words(text: str, tongue: str) -> None:
    assert identify(text).tongue is Tongue(tongue)


def test_a_right_to_left_text_and_a_mixture_are_said_to_be_so() -> None:
    assert identify("أين طلبي؟").right_to_left
    assert identify("我的order呢").mixed
    assert not identify("Where is it?").mixed


def test_the_locale_comes_first_then_the_text_then_the_turns_before() -> None:
    """A row of emoji is answered in the language of the conversation, and a wish for a language is kept."""
    before = (Turn(role=Role.USER, content="我的订单呢"), Turn(role=Role.ASSISTANT, content="Here it is."))

    assert answer_language("Where is it?", before, "zh-CN") is Language.ZH
    assert answer_language("订单", before, "EN_us") is Language.EN
    assert answer_language("Where is it?", before, "") is Language.EN
    assert answer_language("订单呢", before, "de") is Language.ZH
    assert answer_language("😡", before, "") is Language.ZH
    assert answer_language("😡", (), "") is Language.EN


def test_a_megabyte_takes_no_longer_than_a_page() -> None:
    for hostile in ("a" * 1_000_000, "的" * 1_000_000, "@" * 1_000_000, "a'" * 500_000, "http://" * 100_000):
        identify(hostile)
