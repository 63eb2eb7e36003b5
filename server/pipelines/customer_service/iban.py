"""International bank account numbers (ISO 13616) in a folded text, whatever stands between their characters."""

from __future__ import annotations

import re
from collections.abc import Iterator

from server.pipelines.customer_service.personal import Kind, Personal

# Lengths by country, of the SWIFT IBAN registry, release 99.
_LENGTHS = {
    15: "no", 16: "be bi", 18: "dk fi fk fo gl nl sd", 19: "mk si", 20: "at ba ee kz lt lu xk mn", 21: "ch hr li lv",
    22: "bg bh cr de gb ge ie me rs va", 23: "ae gi il iq om so tl", 24: "ad cz dz es md pk ro sa se sk tn vg", 25: "ly pt st",
    26: "is tr", 27: "bf cm fr gr it mc mr sm dj", 28: "al az bj by ci cy do gt hu lb ml mg mz ni pl sn sv", 29: "br eg ps qa ua",
    30: "jo kw mu yf", 31: "mt sc", 32: "lc", 33: "ru",
}  # fmt: skip
_LENGTHS_BY_COUNTRY = {
    country: length for length, countries in _LENGTHS.items() for country in countries.split()
}
_DIGITS_ONLY = frozenset(
    [
        "at",
        "ba",
        "be",
        "ch",
        "cr",
        "cz",
        "de",
        "dk",
        "ee",
        "es",
        "fi",
        "fo",
        "gl",
        "hr",
        "hu",
        "il",
        "is",
        "lt",
        "li",
        "me",
        "mk",
        "no",
        "pl",
        "pt",
        "rs",
        "se",
        "si",
        "sk",
        "tn",
        "va",
        "xk",
    ]
)
_BETWEEN = r"(?:[,，、]?[\s\-._/*|~。:：]?|[\s\-._/*|~。:：]{2,3})(?<!, )(?<!， )"
_HEAD = re.compile(
    rf"(?<![a-z])(?=[a-z]{_BETWEEN}[a-z]{_BETWEEN}\d{_BETWEEN}\d)|(?<=iban)(?=[a-z]{_BETWEEN}[a-z])"
)
_BODY = re.compile(rf"[a-z]{_BETWEEN}[a-z]{_BETWEEN}\d{_BETWEEN}\d(?:{_BETWEEN}[a-z0-9]){{11,30}}")


def ibans(folded: str) -> Iterator[Personal]:
    """Those whose country, length and check digits agree."""
    for head in _HEAD.finditer(folded):
        body = _BODY.match(folded, head.start())
        if body is None:
            continue
        places = [at for at in range(*body.span()) if folded[at].isalnum() and folded[at].isascii()]
        country = folded[places[0]] + folded[places[1]]
        length = _LENGTHS_BY_COUNTRY.get(country)
        if length is None or len(places) < length:
            continue
        number = "".join(folded[at] for at in places[:length])
        if valid_iban(number):
            yield Personal(Kind.IBAN, places[0], places[length - 1] + 1)


def valid_iban(number: str) -> bool:
    """Whether a number in small letters without spaces has its country's form and check digits."""
    country = number[:2]
    if _LENGTHS_BY_COUNTRY.get(country) != len(number) or not number[2:4].isdigit():
        return False
    if country in _DIGITS_ONLY and not number[4:].isdigit():
        return False
    turned = number[4:] + number[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1
