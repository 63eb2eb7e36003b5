"""Amounts of money: which currency stands beside a number, and which a sign may stand for."""

from __future__ import annotations

import re
from fractions import Fraction

_CODES = ["usd", "eur", "gbp", "cny", "rmb", "jpy", "chf", "cad", "aud", "nzd", "sek", "nok", "dkk", "pln", "czk", "huf", "inr", "krw", "hkd", "sgd", "twd", "brl", "mxn", "zar", "try", "aed", "sar", "rub", "thb", "myr", "idr", "php", "vnd", "ils", "ron", "bgn", "uah"]  # fmt: skip
_DOLLARS = ("USD", "CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "MXN")
# What a sign or a word beside a number may mean.
_MEANINGS = {
    "us$": ("USD",), "c$": ("CAD",), "a$": ("AUD",), "hk$": ("HKD",), "nt$": ("TWD",), "$": _DOLLARS, "dollar": _DOLLARS,
    "dollars": _DOLLARS, "bucks": ("USD",), "美元": ("USD",), "美金": ("USD",), "€": ("EUR",), "euro": ("EUR",), "euros": ("EUR",),
    "欧元": ("EUR",), "£": ("GBP",), "quid": ("GBP",), "英镑": ("GBP",), "¥": ("CNY", "JPY"), "元": ("CNY",), "块钱": ("CNY",),
    "人民币": ("CNY",), "yuan": ("CNY",), "rmb": ("CNY",), "yen": ("JPY",), "日元": ("JPY",), "₩": ("KRW",), "韩元": ("KRW",),
    "₹": ("INR",), "rupees": ("INR",), "港币": ("HKD",), "港元": ("HKD",), "新台币": ("TWD",), "₽": ("RUB",), "卢布": ("RUB",),
    "francs": ("CHF",), "zł": ("PLN",), "kr": ("SEK", "NOK", "DKK"), "₺": ("TRY",), "₪": ("ILS",), "₫": ("VND",), "฿": ("THB",),
    "cent": ("USD", "EUR"), "cents": ("USD", "EUR"), "¢": ("USD",), "pence": ("GBP",), "角": ("CNY",),
} | {code: (code.upper(),) for code in _CODES if code != "rmb"}  # fmt: skip
_SMALL = {"cent": 100, "cents": 100, "¢": 100, "pence": 100, "角": 10}
_ORDERED = sorted(_MEANINGS, key=len, reverse=True)
_EITHER = "|".join(
    rf"(?<![a-z]){re.escape(m)}" if m[0].isascii() and m[0].isalpha() else re.escape(m) for m in _ORDERED
)
_BEFORE = re.compile(rf"({_EITHER})\s?$")
_AFTER = re.compile(
    r"\s?-?("
    + "|".join(re.escape(m) + ("(?![a-z])" if m[-1].isascii() and m[-1].isalpha() else "") for m in _ORDERED)
    + r")(?![素件])"
)
PRICE_WORDS = re.compile(
    r"(?:\bpriced?(?: at| is| of| now)?|\bcosts?(?: just| only| you)?|\byours for(?: just| only)?|\bfor (?:just|only)|\bonly|\bjust|\bpay"
    r"|\bstarting at|售价(?:为|仅|是)?|价格(?:为|是)?|仅需|只需|只要|到手价|仅售|卖价)\s?[:：]?\s?$"
)


def currency_at(folded: str, start: int, end: int) -> tuple[int, int, str, Fraction] | None:
    """Money at a number: where it begins and ends with its sign, the sign, and what one is in the currency; None if it is none."""
    begin, stop, sign = start, end, ""
    before = _BEFORE.search(folded, max(0, start - 8), start)
    if before is not None and before.end() == start:
        begin, sign = before.start(), before.group(1)
    after = _AFTER.match(folded, end)
    if after is not None and not (sign and after.group(1) in ("$", "¥")):
        stop = after.end()
        # "¥39.90 CNY": the narrower one says more
        if not sign or len(_MEANINGS[after.group(1)]) < len(_MEANINGS[sign]):
            sign = after.group(1)
    return (begin, stop, sign, Fraction(1, _SMALL.get(sign, 1))) if sign else None


def may_mean(sign: str, currency: str) -> bool:
    """Whether a sign beside a number may stand for an ISO 4217 code."""
    return currency.upper() in _MEANINGS.get(sign, ())


def meanings(sign: str) -> tuple[str, ...]:
    """The ISO 4217 codes that a sign may stand for, the usual one first."""
    return _MEANINGS[sign]
