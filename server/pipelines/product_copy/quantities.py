"""Numbers in a text with what each may be measured in, what it is a measure of, and what it counts.

A spelling can have several readings ("16 in" is inches or a bare sixteen, "8 oz" is a mass or a volume); a claim holds if
one of its readings stands in the record. Values are exact fractions in the base unit of their dimension.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

from server.pipelines.product_copy.folding import stem
from server.pipelines.product_copy.lexicon import read_list, read_words
from server.pipelines.product_copy.money import currency_at
from server.pipelines.product_copy.number_words import NUMBER, step_of, value_of

BARE = "bare"
COUNTERS = "个月|个小时|英寸|件套|只|支|片|张|件|层|格|档|倍|人|种|包|盒|袋|瓶|条|双|套|块|把|粒|抽|页|口|匹|枚|卷|本|根|颗|组|台|位|孔|色|挡|款|个"
_COUNTER = re.compile(rf"\s?(?:{COUNTERS})")
_CN_NOT = re.compile(
    r"十分|千万|万[一能用]|二手|半[自全导]|四[季周]|五[金谷]|七夕|三[脚角]|八[角卦]|九[州天]|百[货年搭叶]|十[字足]|一[次天日]|千家"
)
# Words that say that something is counted, not what.
COUNT_WORDS = read_words("count_words")
_NOT_COUNTED = read_words("not_counted")
_NEXT_WORDS = re.compile(r"[\s-]{0,2}([a-z][a-z]+)(?:[\s-]+([a-z][a-z]+))?(?:[\s-]+([a-z][a-z]+))?")
_ALSO_VERBS = frozenset(["runs", "runs for", "lasts", "holds", "holds up to", "stands", "supports up to"])
_LINK = re.compile(r"^[\"']?\s?(?:-|×|x|/|to|by|and|or|~|至|到|乘)\s?$")
_MORE = re.compile(
    r"(?:\bover|\bmore than|\bat least|\babove|\bexceeding|\bmin(?:imum)?\.?(?: of)?|\bno less than|超过|逾|高达|不少于|至少|大于)\s?$"
)
_CLAUSE = re.compile(r"[,;.!?()|，。；！？、（）\n]")


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a number: its value in the base unit, what its last digit counts, and its unit in base units."""

    dimension: str
    value: Fraction
    step: Fraction
    factor: Fraction


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and its readings.

    Attributes:
        start, end: its place, unit included.
        readings: see there.
        nouns: stems of the words after it, or its Chinese counter.
        currency: if it is money, else "".
        aspect: what it is a measure of, else "".
        more: it is told as a lower bound.
        before: the word before it, if there is one.
        spelled: it is a word, not digits.
    """

    start: int
    end: int
    readings: tuple[Reading, ...]
    nouns: tuple[str, ...] = ()
    currency: str = ""
    aspect: str = ""
    more: bool = False
    before: str = ""
    spelled: bool = False

    @property
    def measured(self) -> bool:
        """Whether it has a unit and cannot be read without."""
        return all(reading.dimension != BARE for reading in self.readings)

    def bare(self) -> Fraction:
        """The number itself."""
        reading = self.readings[0]
        return reading.value / reading.factor


@dataclass(frozen=True, slots=True)
class _Aspect:
    name: str
    dimensions: frozenset[str]
    after: tuple[str, ...]
    before: tuple[str, ...]


@cache
def units() -> tuple[re.Pattern[str], dict[str, list[tuple[str, Fraction]]]]:
    """What a unit looks like behind a number, and what each spelling stands for."""
    table: dict[str, list[tuple[str, Fraction]]] = {}
    for line in read_list("units.txt"):
        dimension, factor, rest = line.split(" ", 2)
        for spelling in rest.split("|"):
            table.setdefault(spelling, []).append((dimension, Fraction(factor)))
    ordered = sorted(table, key=len, reverse=True)
    latin = "|".join(re.escape(s) for s in ordered if s[-1].isascii() and s[-1].isalnum())
    other = "|".join(re.escape(s) for s in ordered if not (s[-1].isascii() and s[-1].isalnum()))
    return re.compile(rf"[\s-]?(?:({latin})(?![a-z0-9])|({other}))"), table


@cache
def _aspects() -> tuple[_Aspect, ...]:
    found = []
    for line in read_list("aspects.txt"):
        head, _, tail = line.partition(":")
        name, *dimensions = head.split()
        after, _, before = tail.partition(" / ")
        found.append(_Aspect(name, frozenset(dimensions), _words(after), _words(before)))
    return tuple(found)


def _words(text: str) -> tuple[str, ...]:
    return tuple(sorted((word.strip() for word in text.split(",")), key=len, reverse=True))


@cache
def _spelled(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(
        "|".join(re.escape(w) if not w.isascii() else rf"(?<![a-z]){re.escape(w)}(?![a-z])" for w in words)
    )


def quantities(folded: str) -> list[Quantity]:
    """All numbers of a folded text, in order."""
    found = [quantity for match in NUMBER.finditer(folded) for quantity in _read(folded, match)]
    for at in range(len(found) - 2, -1, -1):  # "60 x 30 cm": the first takes the unit of the second
        here, after = found[at], found[at + 1]
        if here.currency or after.currency or here.readings[0].dimension != BARE or len(here.readings) > 1:
            continue
        if after.start - here.end < 8 and _LINK.match(folded[here.end : after.start]):
            number, step = here.readings[0].value, here.readings[0].step
            taken = tuple(
                Reading(r.dimension, number * r.factor, step * r.factor, r.factor)
                for r in after.readings
                if r.dimension != BARE
            )
            joint = folded[here.end : after.start].strip(" \"'")
            keep = () if taken and joint in ("×", "x", "by", "乘") else here.readings
            found[at] = replace(here, readings=(*keep, *taken), nouns=here.nouns or after.nouns)
    return [replace(one, aspect=_aspect_at(folded, one)) for one in found]


def aspect_of_name(name: str, dimensions: set[str]) -> str:
    """What an attribute of this folded name is a measure of."""
    for aspect in _aspects():
        if aspect.dimensions & dimensions and _spelled(aspect.before).search(name):
            return aspect.name
    return ""


def aspect_dimensions(name: str) -> frozenset[str]:
    """What something of this folded name may be measured in; empty where it is no measure."""
    named = [aspect.dimensions for aspect in _aspects() if _spelled(aspect.before).fullmatch(name)]
    return frozenset().union(*named)


def _aspect_at(folded: str, quantity: Quantity) -> str:
    dimensions = {reading.dimension for reading in quantity.readings}
    aspects = [aspect for aspect in _aspects() if aspect.dimensions & dimensions]
    if not aspects or quantity.currency:
        return ""
    after = _CLAUSE.split(folded[quantity.end : quantity.end + 18], maxsplit=1)[0]
    for aspect in aspects:
        found = _spelled(aspect.after).search(after)
        if found and not re.search(r"\d", after[: found.start()]) and found.start() < 6:
            return aspect.name
    before = folded[max(0, quantity.start - 26) : quantity.start]
    before = re.split(r"[\d,;.!?()|，。；！？、（）\n]", before)[-1]
    nearest, name, end = -1, "", 0
    for aspect in aspects:
        for found in _spelled(aspect.before).finditer(before):
            weak = found.group() in _ALSO_VERBS  # "the warranty runs for": a noun says more
            at = found.end() if not weak else found.end() - len(before)
            if not name or at > nearest:
                nearest, name, end = at, aspect.name, found.end()
    return name if name and len(before) - end <= 14 else ""


def _read(folded: str, match: re.Match[str]) -> Iterator[Quantity]:
    start, end = match.span()
    value = value_of(match)
    if value is None:
        yield Quantity(
            start, end, (Reading(BARE, Fraction(-1), Fraction(1), Fraction(1)),)
        )  # matches nothing
        return
    spelled = match.group("words") is not None or match.group("chinese") is not None
    step, one = step_of(match), Fraction(1)
    lead = folded[max(0, start - 24) : start]
    more = bool(_MORE.search(lead))
    word = re.search(r"([a-z][a-z'-]*)[\s#.-]*$", lead)
    before = stem(word.group(1)) if word else ""
    if match.group("percent"):
        yield Quantity(start, end, (Reading("percent", value, step, one),), more=more, spelled=True)
        return
    money = currency_at(folded, start, end)
    if money is not None:
        begin, stop, currency, share = money
        amount = (Reading(BARE, value * share, step * share, one),)
        yield Quantity(begin, stop, amount, currency=currency, more=more, spelled=spelled)
        return
    pattern, table = units()
    article = re.match(r"\s(?:a|an)(?=\s)", folded[end : end + 4]) if match.group() == "half" else None
    unit = pattern.match(folded, end + (article.end() if article else 0))
    counter = _COUNTER.match(folded, end)
    if match.group("chinese") is not None and not _chinese_counts(folded, match, value, unit, counter):
        return
    if match.group() in ("one", "second", "pair") and unit is None:
        return
    bare = Reading(BARE, value, step, one)
    if unit is not None and not (counter and counter.end() > unit.end()):
        spelling = unit.group(1) or unit.group(2)
        readings: tuple[Reading, ...] = tuple(Reading(d, value * f, step * f, f) for d, f in table[spelling])
        if spelling in ("in", "a", "x", "'"):  # also ordinary words and signs
            readings = (bare, *readings)
        nouns = _nouns(folded, end if spelling in ("in", "a") else unit.end())
        yield Quantity(start, unit.end(), readings, nouns, more=more, before=before, spelled=spelled)
        return
    nouns = (counter.group().strip(),) if counter else _nouns(folded, end)
    yield Quantity(
        start, counter.end() if counter else end, (bare,), nouns, more=more, before=before, spelled=spelled
    )


def _chinese_counts(
    folded: str,
    match: re.Match[str],
    value: Fraction,
    unit: re.Match[str] | None,
    counter: re.Match[str] | None,
) -> bool:
    start, end = match.span()
    if _CN_NOT.match(folded[start : end + 1]):
        return False
    if (
        folded[start - 1 : start] in ("第", "统", "唯", "万", "同", "之", "单", "初")
        and len(match.group()) == 1
    ):
        return False
    if unit is not None and not (unit.group(2) or "").startswith(("日", "天", "度", "米", "码")):
        return True
    if unit is not None and value != 1:
        return True
    return counter is not None and value != 1


def _nouns(folded: str, at: int) -> tuple[str, ...]:
    words = _NEXT_WORDS.match(folded, at)
    if words is None:
        return ()
    found = []
    for word in words.groups():
        if word is None or word in _NOT_COUNTED:
            break
        found.append(stem(word))
    return tuple(found)
