"""Amounts of money in what shoppers write: 1,299.00 and 1.299,00, full width, in Chinese numerals. Over folded text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from server.pipelines.product_copy.money import currency_at, meanings
from server.pipelines.product_copy.number_words import NUMBER, value_of

_NO_CENTS = frozenset({"JPY", "KRW", "VND", "IDR", "HUF"})
_DIGITS = re.compile(
    r"(?<![a-z0-9])(?<!\d[.,])(?:\d{1,3}(?:[,.' ]\d{3}){1,4}(?:[.,]\d{1,2})?|\d{1,12}(?:[.,]\d{1,2})?)(?![\d])(?![.,]\d)"
)
_SCALES = {"k": 1_000, "千": 1_000, "万": 10_000, "百": 100}
_SCALE = re.compile(r"\s?([k千万百])(?![a-z])")
_CHINESE = re.compile(r"[零一二三四五六七八九十百千万]{1,16}(?:点[零一二三四五六七八九]{1,4})?")
_CHINESE_UNIT = re.compile(r"\s?(?:元|块|人民币|美元|美金|欧元|英镑|日元|港币)")
_BLOCK = re.compile(r"\s?块(?:钱)?(?P<tenths>[零一二三四五六七八九\d](?![\d个天件十百]))?")
_TENTHS = re.compile(r"(?P<tenths>[零一二三四五六七八九\d])角")
_ONE = {char: at for at, char in enumerate("零一二三四五六七八九")}


class Amount(NamedTuple):
    """An amount; places are characters of the folded text."""

    start: int
    end: int
    value: Decimal
    currency: str

    @property
    def normalized(self) -> str:
        """Such as "49.90 EUR"."""
        cents = Decimal(1) if self.currency in _NO_CENTS else Decimal("0.01")
        return f"{self.value.quantize(cents)} {self.currency}"


def amounts(folded: str) -> Iterator[Amount]:
    """Numbers with a currency beside them."""
    taken = -1
    for found in sorted(
        [*_DIGITS.finditer(folded), *_CHINESE.finditer(folded)], key=lambda found: found.start()
    ):
        if found.start() < taken:
            continue
        value, end = _value(folded, found)
        if value is None:
            continue
        amount = _with_blocks(folded, found.start(), end, value) or _with_sign(
            folded, found.start(), end, value
        )
        if amount is not None:
            taken = amount.end
            yield amount


def read_number(text: str) -> Decimal:
    """A written number: the last of two kinds of signs is the decimal one; alone, a sign before three digits parts thousands."""
    text = re.sub(r"[' ]", "", text)
    signs = [char for char in text if char in ".,"]
    if len(set(signs)) == 2:
        decimal = signs[-1]
        return Decimal(text.replace("," if decimal == "." else ".", "").replace(decimal, "."))
    if signs and (len(signs) > 1 or len(text.rpartition(signs[0])[2]) == 3):
        return Decimal(text.replace(signs[0], ""))
    return Decimal(text.replace(",", "."))


def _value(folded: str, found: re.Match[str]) -> tuple[Decimal | None, int]:
    if found.group()[0].isdigit() and found.group()[0].isascii():
        scale = _SCALE.match(folded, found.end())
        value = read_number(found.group())
        return (value, found.end()) if scale is None else (value * _SCALES[scale.group(1)], scale.end())
    if _CHINESE_UNIT.match(folded, found.end()) is None:
        return None, found.end()
    number = NUMBER.fullmatch(found.group())
    worth = None if number is None else value_of(number)
    return (
        (None, found.end())
        if worth is None
        else (Decimal(worth.numerator) / Decimal(worth.denominator), found.end())
    )


def _with_blocks(folded: str, start: int, end: int, value: Decimal) -> Amount | None:
    block = _BLOCK.match(folded, end)
    if block is None:
        return None
    tenths = block.group("tenths")
    if tenths is not None:
        value += Decimal(_ONE.get(tenths, 0) if not tenths.isdecimal() else int(tenths)) / 10
    return Amount(start, block.end(), value, "CNY")


def _with_sign(folded: str, start: int, end: int, value: Decimal) -> Amount | None:
    money = currency_at(folded, start, end)
    if money is None:
        return None
    begin, stop, sign, part = money
    value = value * part.numerator / part.denominator
    small = _TENTHS.match(folded, stop) if sign == "元" else None
    if small is not None:
        value += (
            Decimal(
                _ONE.get(small.group("tenths"), 0)
                or int(small.group("tenths") if small.group("tenths").isdecimal() else 0)
            )
            / 10
        )
        stop = small.end()
    return Amount(begin, stop, value, meanings(sign)[0])
