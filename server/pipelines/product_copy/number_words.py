"""What a number is worth, in digits, fractions, English words and Chinese numerals; exact."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

_SMALL = {word: at for at, word in enumerate(
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"])} | {word: 10 * (at + 2) for at, word in enumerate(
    ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"])}  # fmt: skip
_SCALE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "dozen": 12}
_PLAIN = {
    "half": Fraction(1, 2), "twice": Fraction(2), "double": Fraction(2), "triple": Fraction(3), "thrice": Fraction(3),
    "pair": Fraction(2), "trio": Fraction(3), "dozens": Fraction(12), "hundreds": Fraction(100), "thousands": Fraction(1000),
}  # fmt: skip
_CN = {char: at for at, char in enumerate("零一二三四五六七八九")}
_CN_SCALE = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
_WORDS = "|".join(sorted([*_SMALL, *_SCALE, *_PLAIN], key=len, reverse=True))
_VULGAR = "½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚"
_MOST_DIGITS = 24
NUMBER = re.compile(
    rf"(?<![a-z0-9./])(?P<mixed>\d{{1,9}}(?:\s-?|-)\d{{1,4}}/\d{{1,4}}|\d{{1,9}}/\d{{1,9}})(?![\d/])"
    rf"|(?<![a-z0-9])(?<!\d[.,])(?P<digits>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?(?!\d)|\d+,\d{{1,2}}(?![\d,])|\d+(?:\.\d+)?|(?<!\d)\.\d+)"
    rf"(?P<vulgar>\s?[{_VULGAR}])?(?:\s?(?P<scale>hundred|thousand|million|billion|dozen)(?![a-z]))?(?P<cn>[十百千万亿]+)?"
    rf"|(?P<only>[{_VULGAR}])"
    rf"|(?<![a-z])(?<![a-z]-)(?P<words>(?:{_WORDS})(?:(?:[\s-]|\sand\s)(?:{_WORDS}))*)(?![a-z])"
    r"|(?P<percent>百分之)?(?P<chinese>[零一二三四五六七八九十百千万亿半]+(?:点[零一二三四五六七八九]+)?)"
)


def value_of(match: re.Match[str]) -> Fraction | None:
    """What a match of ``NUMBER`` is worth; None where it is no number (a division by zero, more digits than any measure has)."""
    if (mixed := match.group("mixed")) is not None:
        whole, _, part = mixed.replace("-", " ").rpartition(" ")
        over, under = part.split("/")
        return None if int(under) == 0 else Fraction(int(whole or 0)) + Fraction(int(over), int(under))
    if (digits := match.group("digits")) is not None:
        return _from_digits(match, digits)
    if (only := match.group("only")) is not None:
        return _vulgar(only)
    if (words := match.group("words")) is not None:
        return _from_words(re.split(r"[\s-]+", words))
    return _from_chinese(match.group("chinese"))


def step_of(match: re.Match[str]) -> Fraction:
    """What the last digit counts: 1 for 16, 1/10 for 16.5."""
    digits = match.group("digits")
    _, point, after = _plain(digits or "").partition(".")
    return Fraction(1, 10 ** min(_MOST_DIGITS, len(after))) if point else Fraction(1)


def _plain(digits: str) -> str:
    whole, comma, after = digits.rpartition(",")
    if comma and len(after) < 3:  # 39,90
        return f"{whole}.{after}"
    return "0" + digits.replace(",", "")


def _vulgar(char: str) -> Fraction:
    return Fraction(unicodedata.numeric(char)).limit_denominator(16)


def _from_digits(match: re.Match[str], digits: str) -> Fraction | None:
    if len(digits) > _MOST_DIGITS:
        return None
    value = Fraction(_plain(digits))
    if (vulgar := match.group("vulgar")) is not None:
        value += _vulgar(vulgar.strip())
    if (scale := match.group("scale")) is not None:
        value *= _SCALE[scale]
    for char in match.group("cn") or "":
        value *= _CN_SCALE[char]
    return value


def _from_words(words: list[str]) -> Fraction:
    if words[0] in _PLAIN:
        return _PLAIN[words[0]] * (_from_words(words[1:]) if len(words) > 1 else 1)
    total, part = 0, 0
    for word in words:
        if word in _SMALL:
            part += _SMALL[word]
        elif word in _SCALE:
            part = max(1, part) * _SCALE[word]
            if _SCALE[word] >= 1000:
                total, part = total + part, 0
    return Fraction(total + part)


def _from_chinese(text: str) -> Fraction | None:
    if text == "半":
        return Fraction(1, 2)
    if len(text) > _MOST_DIGITS:
        return None
    whole, _, tail = text.removesuffix("半").partition("点")
    total, part, digit = 0, 0, 0
    if len(whole) > 1 and all(char in _CN for char in whole):
        total = int("".join(str(_CN[char]) for char in whole))
    else:
        for char in whole:
            if char in _CN:
                digit = _CN[char]
            elif char in "万亿":
                total = (total + part + digit or 1) * _CN_SCALE[char]
                part = digit = 0
            elif char in _CN_SCALE:
                part += (digit or 1) * _CN_SCALE[char]
                digit = 0
        total += part + digit
    value = Fraction(total)
    if tail:
        value += Fraction(int("".join(str(_CN[char]) for char in tail if char in _CN)), 10 ** len(tail))
    return value + (Fraction(1, 2) if text.endswith("半") and len(text) > 1 else 0)
