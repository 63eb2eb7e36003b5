"""Numbers are read as people write them, in both languages, with their units and what they are measures of."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.pipelines.product_copy.folding import fold, folded
from server.pipelines.product_copy.quantities import BARE, quantities


def read(text: str) -> list[tuple[str, Fraction]]:
    """First reading of every number."""
    return [(one.readings[0].dimension, one.readings[0].value) for one in quantities(fold(text))]


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("1.7 l", "volume", 1700), ("1,7 l", "volume", 1700), ("1700ml", "volume", 1700), ("1.7升", "volume", 1700), ("一点七升", "volume", 1700),
        ("半升", "volume", 500), ("half a litre", "volume", 500), ("1½ cups", "volume", Fraction("354.88235475")), ("12 cm", "length", 120),
        ("3/4 inch", "length", Fraction("19.05")), ("1-1/2 feet", "length", Fraction("457.2")), ("8.5\"", "length", Fraction("215.9")),
        ("24 months", "calendar", 24), ("two years", "calendar", 24), ("两年", "calendar", 24), ("二十四个月", "calendar", 24), ("24-month", "calendar", 24),
        ("twenty-five watts", "power", 25), ("1.2 kW", "power", 1200), ("两千毫安时", "charge", 2000), ("2万像素", BARE, 20000), ("百分之五十", "percent", 50),
        ("50 %", "percent", 50), ("two dozen", BARE, 24), ("1,200", BARE, 1200), ("１２", BARE, 12), ("三百六十五天", "time", 365 * 86400), ("2 斤", "mass", 1000),
    ],
)  # fmt: skip
def test_a_number_is_worth_what_it_says(text: str, dimension: str, value: int | Fraction) -> None:
    """Digits, fractions, words and numerals; with the unit in its base."""
    assert read(text)[0] == (dimension, Fraction(value))


@pytest.mark.parametrize(
    "text",
    [
        "一起",
        "十分好用",
        "统一",
        "第一",
        "万能",
        "一款",
        "one of a kind",
        "in a second",
        "someone",
        "tone",
        "often",
        "四季",
        "五金",
    ],
)
def test_words_that_hold_a_numeral_are_no_numbers(text: str) -> None:
    """Nobody counts with them."""
    assert read(text) == []


def test_a_row_of_measures_shares_its_unit() -> None:
    """60 x 30 x 20 cm are three lengths."""
    assert read("60 x 30 x 20 cm") == [("length", 600), ("length", 300), ("length", 200)]


@pytest.mark.parametrize(
    ("text", "aspect"),
    [("30 cm wide", "width"), ("width: 30 cm", "width"), ("宽度为30厘米", "width"), ("stands 75 cm", "height"), ("24 months of warranty", "warranty"),
     ("the warranty runs for 24 months", "warranty"), ("质保24个月", "warranty"), ("battery life: 10 hours", "runtime"), ("30 cm", "")],
)  # fmt: skip
def test_a_measure_is_of_what_stands_beside_it(text: str, aspect: str) -> None:
    """Before or behind it, in its clause."""
    assert quantities(fold(text))[0].aspect == aspect


@pytest.mark.parametrize(
    "text",
    [
        "1/0",
        "9" * 5000,
        "1" * 30 + " l",
        "0/0 cm",
        "½" * 100,
        "一" * 5000,
        "1.2.3.4.5",
        "." * 5000,
        "twenty " * 2000,
    ],
)
def test_broken_numbers_do_not_break_the_reader(text: str) -> None:
    """They prove nothing, and cost little."""
    quantities(fold(text))


@given(st.integers(0, 10**6), st.sampled_from(["ml", "cm", "g", "W", "毫升", "厘米", "克"]))
def test_every_whole_number_is_read_back(number: int, unit: str) -> None:
    """With or without thousands separators."""
    plain, grouped = read(f"{number} {unit}"), read(f"{number:,} {unit}")
    assert plain == grouped and len(plain) == 1


@given(st.text(max_size=120))
def test_folding_keeps_the_way_back(text: str) -> None:
    """Every place of the folded text is a place of the text, in order."""
    whole = folded(text)
    places = list(whole.places)
    assert len(places) == len(whole.text) + 1 and places[-1] == len(text)
    assert places == sorted(places)
