"""Order numbers, products, days and amounts of what shoppers write, with their places and one spelling each."""

from __future__ import annotations

import datetime
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.pipelines.customer_service.entities import EntityRules, entity_rules, find_entities
from server.support_domain import EntityKind

TODAY = datetime.date(2026, 11, 25)  # a Wednesday


def named(text: str, kind: str, rules: EntityRules | None = None) -> list[tuple[str, str]]:
    found = find_entities(text, TODAY, rules)
    assert all(text[one.start : one.end] == one.text for one in found)
    return [(one.text, one.value) for one in found if one.kind is EntityKind(kind)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("order 2026-11-03", "2026-11-03"),
        ("on 3 November 2026", "2026-11-03"),
        ("on Nov 3rd, 2026", "2026-11-03"),
        ("the 3rd of november", "2026-11-03"),
        ("on January 5", "2027-01-05"),
        ("03/11/2026", "2026-11-03"),
        ("11/23/2026", "2026-11-23"),
        ("3.11.2026", "2026-11-03"),
        ("2026年11月3日", "2026-11-03"),
        ("２０２６年１１月３号", "2026-11-03"),
        ("二零二六年十一月三日", "2026-11-03"),
        ("十二月二十五号", "2026-12-25"),
        ("去年12月1日", "2025-12-01"),
        ("yesterday", "2026-11-24"),
        ("the day before yesterday", "2026-11-23"),
        ("前天", "2026-11-23"),
        ("大后天", "2026-11-28"),
        ("last Tuesday", "2026-11-24"),
        ("last Wednesday", "2026-11-18"),
        ("next Friday", "2026-11-27"),
        ("on Monday", "2026-11-23"),
        ("上周二", "2026-11-17"),
        ("上上周五", "2026-11-13"),
        ("下星期天", "2026-12-06"),
        ("周五", "2026-11-27"),
        ("3 days ago", "2026-11-22"),
        ("two weeks ago", "2026-11-11"),
        ("a month ago", "2026-10-25"),
        ("in 2 weeks", "2026-12-09"),
        ("三天前", "2026-11-22"),
        ("两周前", "2026-11-11"),
        ("last week", "2026-11-16/2026-11-22"),
        ("上个月", "2026-10-01/2026-10-31"),
        ("上个月5号", "2026-10-05"),
    ],
)
def test_a_day_is_told_in_iso_form(text: str, value: str) -> None:
    assert [one[1] for one in named(f"I got it {text}, ok", "date")] == [value]


@pytest.mark.parametrize(
    "text",
    [
        "may I ask",
        "sun cream",
        "2026-13-40",
        "second hand march",
        "31.02.2026 99",
        "1:30",
        "3/4 inch",
        "一周内",
    ],
)
def test_what_is_no_day_is_none(text: str) -> None:
    assert named(text, "date") == []


@pytest.mark.parametrize(
    ("text", "span", "value"),
    [
        ("paid $1,299.00 for", "$1,299.00", "1299.00 USD"),
        ("paid 1.299,00 € for", "1.299,00 €", "1299.00 EUR"),
        ("EUR 49.90 was", "EUR 49.90", "49.90 EUR"),
        ("49,90 EUR", "49,90 EUR", "49.90 EUR"),
        ("£5 fee", "£5", "5.00 GBP"),
        ("一百二十元", "一百二十元", "120.00 CNY"),
        ("付了１２０．５０元", "１２０．５０元", "120.50 CNY"),
        ("￥９９", "￥９９", "99.00 CNY"),
        ("3块5一个", "3块5", "3.50 CNY"),
        ("两百块钱", "两百块钱", "200.00 CNY"),
        ("1.2万元", "1.2万元", "12000.00 CNY"),
        ("50 cents", "50 cents", "0.50 USD"),
        ("1 200 EUR", "1 200 EUR", "1200.00 EUR"),
        ("5000 yen", "5000 yen", "5000 JPY"),
    ],
)
def test_an_amount_has_its_value_and_currency(text: str, span: str, value: str) -> None:
    assert named(text, "amount") == [(span, value)]


@pytest.mark.parametrize("text", ["2 pieces", "size 42", "三个月", "100% cotton", "5 stars", "第一次买"])
def test_a_number_without_a_currency_is_no_amount(text: str) -> None:
    assert named(text, "amount") == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("where is ORD-10023?", "ORD-10023"),
        ("my order number is 4711001", "4711001"),
        ("order #4711", "4711"),
        ("订单号：２０２６１１０３００１", "20261103001"),
        ("订单 AB-12345 到哪了", "AB-12345"),
        ("order 112-1234567-7654321", "112-1234567-7654321"),
        ("parcel 1Z999AA10123456784 please", "1Z999AA10123456784"),
    ],
)
def test_an_order_number_is_found_in_its_usual_forms(text: str, value: str) -> None:
    assert [one[1] for one in named(text, "order_number")] == [value]


@pytest.mark.parametrize(
    "text", ["I ordered 2 kettles in 2026", "order on 2026-11-03", "an order of 1200 EUR", "订单什么时候到"]
)
def test_what_is_no_order_number_is_none(text: str) -> None:
    assert named(text, "order_number") == []


def test_a_shop_has_its_own_order_numbers_and_product_names() -> None:
    rules = entity_rules([r"K\d{3}/\d\d"], ["Brimora Aria Kettle", "水壶"])

    assert named("where is k123/45", "order_number", rules) == [("k123/45", "K123/45")]
    assert named("is the brimora ARIA kettle or 水壶 back", "product", rules) == [
        ("brimora ARIA kettle",) * 2,
        ("水壶",) * 2,
    ]
    assert named("does the WH-1000 work with 《三体》", "product") == [("WH-1000", "WH-1000")]


@pytest.mark.parametrize(
    ("form", "what"), [("(a+)+", "for ever"), ("a*", "empty"), ("(", "no regular expression")]
)
def test_a_bad_order_format_is_refused_in_a_sentence(form: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        entity_rules([form])


@settings(max_examples=200, deadline=None)
@given(
    day=st.dates(datetime.date(1990, 1, 1), datetime.date(2090, 1, 1)),
    form=st.sampled_from(["%Y-%m-%d", "%Y/%m/%d", "%d %B %Y", "%B %d, %Y", "%Y年%m月%d日"]),
)
def test_every_day_is_read_back_from_every_form(day: datetime.date, form: str) -> None:
    assert [one[1] for one in named(f"（{day.strftime(form)}）", "date")] == [day.isoformat()]


@settings(max_examples=200, deadline=None)
@given(
    cents=st.integers(1, 10**9),
    style=st.sampled_from(["{:,}", "{:.}", "{}"]),
    sign=st.sampled_from(["€", "EUR"]),
)
def test_every_amount_is_read_back_from_both_ways_of_writing(cents: int, style: str, sign: str) -> None:
    whole, part = divmod(cents, 100)
    grouped = f"{whole:,}"
    written = {
        "{:,}": f"{grouped}.{part:02}",
        "{:.}": f"{grouped.replace(',', '.')},{part:02}",
        "{}": f"{whole}.{part:02}",
    }[style]

    assert [one[1] for one in named(f"I paid {written} {sign} then", "amount")] == [f"{whole}.{part:02} EUR"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_it_and_spans_are_exact(text: str) -> None:
    found = find_entities(text, TODAY)

    assert all(text[one.start : one.end] == one.text and one.value for one in found)
    assert all(a.end <= b.start for a, b in pairwise(found))


def test_a_long_message_of_numbers_is_read_in_bounded_time() -> None:
    began_s = time.perf_counter()
    for part in ("1,2", "一", "1 2 3 ", "order ", "a-1", "$1 ", "上周", '"a'):
        find_entities(part * 100_000, TODAY)
    assert time.perf_counter() - began_s < 20
