"""Numbers, measures and prices of a copy against those of its record.

A measure must be the same in one of its readings: exactly where the units are of one system (1000 ml is 1 l), else as exactly
as the copy tells it (16.9 oz is 500 ml, not 510). It must be a measure of the same thing where both say of what. A bare number
must count the same thing where the record says what it counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from server.copy_domain import ClaimKind
from server.pipelines.product_copy.findings import Finding
from server.pipelines.product_copy.folding import CJK
from server.pipelines.product_copy.money import PRICE_WORDS, may_mean
from server.pipelines.product_copy.quantities import BARE, COUNT_WORDS, COUNTERS, Quantity, Reading
from server.pipelines.product_copy.record import Evidence, RecordFacts, RecordNumber

_MOST_DRIFT = Fraction(1, 50)  # between systems of units
_SPECIFIC_COUNTERS = frozenset(["层", "格", "档", "倍", "人", "孔", "口", "位", "色", "挡", "页", "台", "种"])
_CODE = re.compile(
    r"(?<![a-z0-9])(?=[a-z0-9.#/-]*[a-z])(?=[a-z0-9.#/-]*\d)[a-z0-9]+(?:[.#/-][a-z0-9]+)*(?![a-z0-9])"
)
_SAID_OTHERWISE = {"pixel": "resolution", "people": "person", "person": "people"}
_PACKED = re.compile(r"(?:pack|set|box|case|bundle|count|lot|carton|packs) of\s?$")


def number_findings(text: str, found: Sequence[Quantity], facts: RecordFacts) -> Iterator[Finding]:
    """Every number of a folded text, with what bears it out."""
    for quantity in found:
        if quantity.currency or PRICE_WORDS.search(text, max(0, quantity.start - 24), quantity.start):
            money = _price(text, quantity, facts)
            if money is not None:
                yield money
                continue
        kind = ClaimKind.MEASURE if quantity.measured else ClaimKind.NUMBER
        evidence, reason = _borne_out(text, quantity, facts)
        yield Finding(kind, quantity.start, quantity.end, evidence, reason)
    covered = [(one.start, one.end) for one in found if one.measured or one.currency or one.spelled]
    for code in _CODE.finditer(text):
        if not any(start <= code.start() and code.end() <= end for start, end in covered):
            if any(start < code.end() and code.start() < end for start, end in covered) and not _is_code(
                code.group()
            ):
                continue
            evidence = _code(code.group(), facts)
            yield Finding(ClaimKind.NUMBER, *code.span(), evidence, "the record has no such designation")


def _is_code(token: str) -> bool:
    return bool(re.match(r"[a-z]+[-/#]?\d", token))


def _code(token: str, facts: RecordFacts) -> Evidence | None:
    edge = rf"(?<![a-z0-9]){re.escape(token)}(?![a-z0-9])"
    for place in facts.places:
        found = re.search(edge, place.folded.text)
        if found:
            return place.evidence(*found.span())
    parts = re.split(r"[.#/-]", token)  # "2-pack", "pre-2020": each part that has a digit must be there
    digits = [part for part in parts if any(char.isdigit() for char in part)]
    if len(parts) > 1 and digits and all(part.isdigit() for part in digits):
        return next((evidence for part in digits if (evidence := facts.words.get(part))), None) or _counted(
            digits, facts
        )
    if any(char.isdigit() for char in token) and (whole := facts.words.get(token.replace("-", ""))):
        return whole
    spaced = re.sub(r"(?<=[a-z])(?=\d)|(?<=\d)(?=[a-z])|-", " ", token)
    return facts.literal(spaced) if spaced != token else None


def _counted(digits: list[str], facts: RecordFacts) -> Evidence | None:
    value = Fraction(digits[0]) if len(digits[0]) < 10 else Fraction(-1)
    for number in facts.numbers:
        if any(reading.value / reading.factor == value for reading in number.quantity.readings):
            return number.evidence
    return None


def _price(text: str, quantity: Quantity, facts: RecordFacts) -> Finding | None:
    product, value = facts.product, quantity.readings[0].value
    span = quantity.start, quantity.end
    if not quantity.currency and quantity.measured:
        return None  # "only 30 cm wide"
    for number in facts.numbers:  # the record may name an amount in its text
        other = number.quantity
        if other.currency and other.currency == quantity.currency and other.readings[0].value == value:
            return Finding(ClaimKind.PRICE, *span, number.evidence)
    if not quantity.currency and product.price is None:
        return None
    lead = text[max(0, quantity.start - 8) : quantity.start]
    if (
        not quantity.currency
        and value != _amount(product.price)
        and re.search(r"\b(?:only|just)\s?$|只要\s?$", lead)
    ):
        return None  # "just 12 pens" is no price
    if product.price is None:
        return Finding(ClaimKind.PRICE, *span, None, "the record has no price")
    shown = Evidence("price", f"{product.price:.2f} {product.currency}".strip())
    if value != _amount(product.price):
        return Finding(ClaimKind.PRICE, *span, None, f"the record's price is {shown.quote}")
    if quantity.currency and not may_mean(quantity.currency, product.currency):
        reason = f"the record's currency is {product.currency or 'not told'}"
        return Finding(ClaimKind.PRICE, *span, None, reason)
    if quantity.more:
        return Finding(ClaimKind.PRICE, *span, None, f"the record's price is {shown.quote}")
    return Finding(ClaimKind.PRICE, *span, shown)


def _amount(price: float | None) -> Fraction | None:
    try:
        return None if price is None else Fraction(f"{price:.2f}")
    except ValueError:  # not a number
        return None


def _borne_out(text: str, quantity: Quantity, facts: RecordFacts) -> tuple[Evidence | None, str]:
    equal = [number for number in facts.numbers if agree(quantity, number.quantity)]
    if quantity.more:
        equal = [number for number in equal if number.quantity.more]
    if not equal:
        price = _as_price(quantity, facts)
        return (price, "") if price else (None, _instead(quantity, facts))
    if _literal(text, quantity, facts):
        return equal[0].evidence, ""
    if quantity.aspect:
        told = [
            number
            for number in facts.numbers
            if number.quantity.aspect == quantity.aspect and _comparable(quantity, number.quantity)
        ]
        if told:
            same = [number for number in equal if number.quantity.aspect == quantity.aspect]
            reason = f"the record's {quantity.aspect} is {told[0].evidence.quote}"
            return (same[0].evidence, "") if same else (None, reason)
        equal = [number for number in equal if not number.quantity.aspect]
        if not equal:
            return None, f"the record does not say this of the {quantity.aspect}"
    if quantity.measured:
        return equal[0].evidence, ""
    for number in equal:
        if _counts_the_same(text, quantity, number, facts):
            return number.evidence, ""
    nouns = " ".join(quantity.nouns)
    return None, f"the record says {equal[0].evidence.quote}, but not of {nouns or 'this'}"


def agree(here: Quantity, there: Quantity) -> bool:
    """Whether two quantities are the same in one of their readings; money is equal to nothing."""
    if there.currency:
        return False
    return any(
        one.dimension == other.dimension and _same(one, other)
        for one in here.readings
        for other in there.readings
    )


def _same(one: Reading, other: Reading) -> bool:
    if one.value == other.value:
        return True
    ratio = max(one.factor, other.factor) / min(one.factor, other.factor)
    if one.dimension == BARE or ratio.denominator == 1:  # one system: exact or not at all
        return False
    drift = abs(one.value - other.value)
    return 2 * drift <= one.step and drift <= _MOST_DRIFT * abs(other.value)


def _comparable(here: Quantity, there: Quantity) -> bool:
    dimensions = {reading.dimension for reading in there.readings}
    return any(reading.dimension in dimensions for reading in here.readings)


def _as_price(quantity: Quantity, facts: RecordFacts) -> Evidence | None:
    price = facts.product.price
    if price is None or quantity.measured or quantity.nouns or quantity.spelled:
        return None
    reading = quantity.readings[0]
    if reading.dimension == BARE and reading.step < 1 and reading.value == _amount(price):  # "At 39.90."
        return Evidence("price", f"{price:.2f} {facts.product.currency}".strip())
    return None


def _literal(text: str, quantity: Quantity, facts: RecordFacts) -> bool:
    """Whether it stands in the record with the word before it or the words after it."""
    after = re.match(rf"[\s-]?(?:[a-z]{{3,}}|[{CJK}]{{1,2}})", text[quantity.end : quantity.end + 24])
    if after and facts.literal(text[quantity.start : quantity.end] + after.group()):
        return True
    before = re.search(rf"(?:[a-z]+|[{CJK}])[\s-]?$", text[max(0, quantity.start - 24) : quantity.start])
    if before is None or before.group().strip(" -") in (
        "of",
        "the",
        "with",
        "in",
        "for",
        "has",
        "and",
        "to",
        "by",
        "a",
        "its",
        "is",
    ):
        return False
    shown = before.group() + text[quantity.start : quantity.end]
    at = facts.literal(shown)
    return at is not None and bool(
        re.search(
            rf"(?<![a-z0-9]){re.escape(shown)}(?![a-z0-9])", " ".join(p.folded.text for p in facts.places)
        )
    )


def _counts_the_same(text: str, quantity: Quantity, number: RecordNumber, facts: RecordFacts) -> bool:
    nouns = set(quantity.nouns)
    other = number.quantity
    counter = next((noun for noun in nouns if noun in COUNTERS.split("|")), None)
    if counter is not None:
        return _same_counter(counter, number, facts)
    if number.quantity.measured:
        return False
    telling = nouns - COUNT_WORDS
    if not telling:
        packed = bool(nouns) or bool(_PACKED.search(text, max(0, quantity.start - 12), quantity.start))
        if not packed:
            return not other.aspect or not quantity.aspect
        theirs = set(other.nouns)
        return (
            number.counted
            or bool(theirs & COUNT_WORDS)
            or (bool(theirs) and _kind_words(facts) & theirs != set())
        )
    if telling & number.context or any(_SAID_OTHERWISE.get(noun, "") in number.context for noun in telling):
        return True
    if number.counted or not other.nouns:  # "pack_size: 12" and "12 pens"
        counted_otherwise = any(
            telling & set(one.quantity.nouns) and one.quantity.readings[0].value != quantity.readings[0].value
            for one in facts.numbers
        )
        return not counted_otherwise and any(facts.says(noun) for noun in telling)
    return False


def _same_counter(counter: str, number: RecordNumber, facts: RecordFacts) -> bool:
    theirs = number.quantity.nouns
    if counter in theirs:
        return True
    if any(noun in COUNTERS.split("|") for noun in theirs):
        return counter == "件" and number.counted
    if number.quantity.measured:
        return False
    if counter in _SPECIFIC_COUNTERS:
        return facts.literal(counter) is not None
    return True


def _kind_words(facts: RecordFacts) -> set[str]:
    return {word for word, evidence in facts.words.items() if evidence.source in ("title", "category")}


def _instead(quantity: Quantity, facts: RecordFacts) -> str:
    if quantity.aspect:
        for number in facts.numbers:
            if number.quantity.aspect == quantity.aspect and _comparable(quantity, number.quantity):
                return f"the record's {quantity.aspect} is {number.evidence.quote}"
    return "it is not in the record"
