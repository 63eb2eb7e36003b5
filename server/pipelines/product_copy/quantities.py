"""Numbers in a text, in digits and words of both languages, with what each may be measured in.

A spelling can have several readings ("16 in" is inches or a bare sixteen, "8 oz" is a mass or a volume); a claim holds if
one of its readings stands in the record. Values are exact fractions in the base unit of their dimension.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from server.pipelines.product_copy.folding import stem
from server.pipelines.product_copy.lexicon import read_list

BARE = "bare"
_SMALL = {word: at for at, word in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen".split())} | {word: 10 * (at + 2) for at, word in enumerate(
    "twenty thirty forty fifty sixty seventy eighty ninety".split())}  # fmt: skip
_SCALE = {"hundred": 100, "thousand": 1000, "million": 10**6, "dozen": 12}
_CN = {char: at for at, char in enumerate("零一二三四五六七八九")}
_CN_SCALE = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
_WORDS = "|".join(sorted([*_SMALL, *_SCALE, "half", "twice", "double", "triple"], key=len, reverse=True))
_VULGAR = "½¼¾⅓⅔⅛⅜⅝⅞⅕⅙"
_NUMBER = re.compile(
    rf"(?<![a-z0-9.])(?P<mixed>\d+[- ]\d+/\d+|\d+/\d+)(?![\d/])"
    rf"|(?<![a-z0-9])(?<!\d[.,])(?P<digits>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|(?<!\d)\.\d+)(?P<vulgar>[{_VULGAR}])?(?P<cn>[十百千万亿]+)?"
    rf"|(?P<only>[{_VULGAR}])"
    rf"|(?<![a-z-])(?P<words>(?:{_WORDS})(?:(?:[\s-]|\sand\s)(?:{_WORDS}))*)(?![a-z])"
    r"|(?P<percent>百分之)?(?P<chinese>[零一二三四五六七八九十百千万亿半]+(?:点[零一二三四五六七八九]+)?)"
)
_CN_COUNTERS = "合一|个月|个小时|英寸|件套|只|支|片|张|件|层|格|档|倍|人|种|包|盒|袋|瓶|条|双|套|块|把|粒|抽|页|口|匹|枚|卷|本|根|颗|组|台|位|孔|色|挡|款|个|年"
_COUNTER = re.compile(rf"\s?(?:{_CN_COUNTERS})")
_CN_NOT = re.compile(r"十分|千万|万一|万能|一[一-鿿]|三脚|二手|半[自全导]")
_CURRENCY = {"$": "USD", "us$": "USD", "€": "EUR", "£": "GBP", "¥": "CNY", "usd": "USD", "eur": "EUR", "gbp": "GBP", "rmb": "CNY", "cny": "CNY"}
_CURRENCY_BEFORE = re.compile(r"(us\$|[$€£¥]|\b(?:usd|eur|gbp|rmb|cny))\s?$")
_CURRENCY_AFTER = re.compile(
    r"\s?(?:(?P<USD>usd\b|dollars?\b|bucks\b|美元|美金|\$)|(?P<EUR>eur\b|euros?\b|欧元|€)|(?P<GBP>gbp\b|英镑|£)|(?P<CNY>cny\b|rmb\b|yuan\b|元|块钱|人民币))"
)
_NEXT_WORDS = re.compile(r"[\s-]{0,2}([a-z][a-z]+)(?:[\s-]([a-z][a-z]+))?")
_PER = re.compile(r"^\s?(?:per|/|a|each)\s?")
COUNT_WORDS = frozenset("pack count pcs piece set ct pk item unit per and or with for in of the to x on at by is are from total".split())
NUMBER_LINK = re.compile(r"^[\"']?\s?(?:-|×|x|/|to|by|and|or|~|至|到|乘)\s?$")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and its readings.

    Attributes:
        start, end: its place, unit included.
        readings: dimension and value in its base unit; ``BARE`` is the number itself.
        step: what its last digit counts, in itself (1 for 16, 1/10 for 16.5), for conversions between units.
        nouns: stems of the one or two words after it.
        currency: if it is money, else "".
        spelled: it is a word, not digits.
    """

    start: int
    end: int
    readings: tuple[tuple[str, Fraction], ...]
    step: tuple[Fraction, ...]
    nouns: tuple[str, ...] = ()
    currency: str = ""
    spelled: bool = False


@cache
def _units() -> tuple[re.Pattern[str], dict[str, list[tuple[str, Fraction]]]]:
    table: dict[str, list[tuple[str, Fraction]]] = {}
    for line in read_list("units.txt"):
        dimension, factor, rest = line.split(" ", 2) if line[0].isalpha() else ("", "", "")
        if not factor.replace(".", "").isdigit():
            continue
        for spelling in rest.split("|"):
            table.setdefault(spelling, []).append((dimension, Fraction(factor)))
    ordered = sorted(table, key=len, reverse=True)
    latin = "|".join(re.escape(s) for s in ordered if s[-1].isascii() and s[-1].isalnum())
    other = "|".join(re.escape(s) for s in ordered if not (s[-1].isascii() and s[-1].isalnum()))
    return re.compile(rf"[\s-]?(?:({latin})(?![a-z0-9])|({other}))"), table


def quantities(folded: str) -> list[Quantity]:
    """All numbers of a folded text, in order."""
    found = [quantity for match in _NUMBER.finditer(folded) for quantity in _read(folded, match)]
    for at in range(len(found) - 2, -1, -1):  # "60 x 30 cm": the first takes the unit of the second
        here, after = found[at], found[at + 1]
        if all(dimension == BARE for dimension, _ in here.readings) and NUMBER_LINK.match(folded[here.end : after.start]):
            number = here.readings[0][1]
            extra = [(d, number * (v / _bare(after))) for d, v in after.readings if d != BARE and _bare(after)]
            if extra:
                readings = (*here.readings, *extra)
                step = (*here.step, *(abs(v / number) * here.step[0] if number else Fraction(0) for _, v in extra))
                found[at] = Quantity(here.start, here.end, readings, step, after.nouns, here.currency, here.spelled)
    return found


def _bare(quantity: Quantity) -> Fraction:
    for (_, value), step in zip(quantity.readings, quantity.step, strict=True):
        if quantity.readings[0][0] == BARE:
            return quantity.readings[0][1]
        factor = step / quantity.step[0] if quantity.step[0] else Fraction(1)
        return value / factor if factor else value
    return Fraction(0)


def _read(folded: str, match: re.Match[str]) -> Iterator[Quantity]:
    start, end = match.span()
    value = _value(match)
    if value is None:
        return
    spelled = match.group("words") is not None or match.group("chinese") is not None
    digits = match.group("digits")
    step = Fraction(1, 10 ** len(digits.split(".")[1])) if digits and "." in digits else Fraction(1)
    pattern, table = _units()
    rest = folded[end : end + 40]
    if match.group("percent"):
        yield Quantity(start, end, (("percent", value),), (step,), (), "", True)
        return
    before = _CURRENCY_BEFORE.search(folded[max(0, start - 5) : start])
    after = _CURRENCY_AFTER.match(rest)
    if before or after:
        currency = _CURRENCY[before.group(1)] if before else next(k for k, v in after.groupdict().items() if v)  # type: ignore[union-attr]
        begin = start - len(before.group()) if before else start
        yield Quantity(begin, end + (after.end() if after else 0), ((BARE, value),), (step,), (), currency, spelled)
        return
    article = re.match(r"(?:\s(?:a|an))(?=\s)", rest) if match.group() == "half" else None
    skip = article.end() if article else 0
    unit = pattern.match(rest, skip)
    chinese = match.group("chinese")
    if chinese is not None:
        counted = _COUNTER.match(rest)
        if _CN_NOT.match(folded[start : start + 2] + folded[end : end + 1]) and not (unit or (counted and value != 1)):
            return
        if unit is None and (counted is None or value == 1):
            return
    if match.group() in ("one", "second", "half a") and unit is None:
        return
    if unit is not None:
        spelling = unit.group(1) or unit.group(2)
        readings = [(dimension, value * factor) for dimension, factor in table[spelling]]
        steps = [step * factor for _, factor in table[spelling]]
        ambiguous = spelling in ("in", "a", "c", "f", "k", "g", "x", "m", "l", "s", "h", "v", "w", "cup", "cups", "pt", "ct", "second", "寸", "度", "码", "分", "天")
        nouns = _nouns(folded, end + unit.end()) if spelling != "in" else _nouns(folded, end)
        if ambiguous and spelling in ("in", "a"):
            readings.insert(0, (BARE, value))
            steps.insert(0, step)
        yield Quantity(start, end + unit.end(), tuple(readings), tuple(steps), nouns, "", spelled)
        return
    counter = _COUNTER.match(rest)
    nouns = (counter.group().strip(),) if counter else _nouns(folded, end)
    yield Quantity(start, end + (counter.end() if counter else 0), ((BARE, value),), (step,), nouns, "", spelled)


def _nouns(folded: str, at: int) -> tuple[str, ...]:
    words = _NEXT_WORDS.match(folded[at : at + 40])
    if words is None:
        return ()
    return tuple(stem(word) for word in words.groups() if word and stem(word) not in COUNT_WORDS)


def _value(match: re.Match[str]) -> Fraction | None:
    if (mixed := match.group("mixed")) is not None:
        whole, _, part = mixed.replace("-", " ").rpartition(" ")
        over, under = part.split("/")
        return None if int(under) == 0 else Fraction(int(whole or 0)) + Fraction(int(over), int(under))
    if (digits := match.group("digits")) is not None:
        if len(digits) > 24:
            return Fraction(0)
        value = Fraction(digits.replace(",", "") if not digits.startswith(".") else "0" + digits)
        if (vulgar := match.group("vulgar")) is not None:
            value += Fraction(unicodedata.numeric(vulgar)).limit_denominator(16)
        for char in match.group("cn") or "":
            value *= _CN_SCALE[char]
        return value
    if (only := match.group("only")) is not None:
        return Fraction(unicodedata.numeric(only)).limit_denominator(16)
    if (words := match.group("words")) is not None:
        return _from_words(re.split(r"[\s-]+", words))
    return _from_chinese(match.group("chinese"))


def _from_words(words: list[str]) -> Fraction | None:
    plain = {"half": Fraction(1, 2), "twice": Fraction(2), "double": Fraction(2), "triple": Fraction(3)}
    if len(words) == 1 and words[0] in plain:
        return plain[words[0]]
    total, part = 0, 0
    for word in words:
        if word in _SMALL:
            part += _SMALL[word]
        elif word in _SCALE:
            part = max(1, part) * _SCALE[word]
            if word in ("thousand", "million"):
                total, part = total + part, 0
    return Fraction(total + part)


def _from_chinese(text: str) -> Fraction | None:
    if text == "半":
        return Fraction(1, 2)
    whole, _, tail = text.removesuffix("半").partition("点")
    total, part, digit = 0, 0, 0
    plain = all(char in _CN for char in whole) and len(whole) > 1
    if plain:
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
        value += Fraction(int("".join(str(_CN[char]) for char in tail)), 10 ** len(tail))
    return value + (Fraction(1, 2) if text.endswith("半") and len(text) > 1 else 0)
