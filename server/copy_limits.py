"""What a request for product copy may hold; both wires and bulk work ask here, so all refuse in the same words.

Units: characters, words, and seconds.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from server.copy_domain import CopyRequest, ProductRecord, Value
from server.errors import InvalidRequest

MAX_TITLE_CHARS = 1_000
MAX_NAME_CHARS = 300  # brand and category
MAX_DESCRIPTION_CHARS = 20_000
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE_NAME_CHARS = 100
MAX_VALUE_CHARS = 2_000
MAX_LIST_VALUES = 32
MAX_AUDIENCE_CHARS = 200
MAX_KEYWORDS = 16
MAX_KEYWORD_CHARS = 80
MAX_PRICE = 1e9
MIN_WORDS, MAX_WORDS = 8, 1_000  # fewer than eight words are no headline and sentence
MAX_SEED = 2**53 - 1  # what a JSON reader that knows only floats keeps
_CURRENCY = re.compile(r"[A-Za-z]{3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequestLimits:
    """What the server's operator may set.

    Attributes:
        max_variants: of one request (> 0).
        default_deadline_s: of a request that names none (> 0).
        max_deadline_s: longer ones are taken as this (> 0).
    """

    max_variants: int = 4
    default_deadline_s: float = 30.0
    max_deadline_s: float = 600.0

    def deadline_s(self, asked_s: float | None) -> float:
        """Seconds from arrival that the server works towards."""
        return self.default_deadline_s if asked_s is None else min(asked_s, self.max_deadline_s)


def check_copy_request(request: CopyRequest, limits: CopyRequestLimits) -> None:
    """Hold a request against the limits.

    Raises:
        InvalidRequest: names the field, its value and the limit.
    """
    _check_product(request.product)
    _check_text("audience", request.audience, MAX_AUDIENCE_CHARS)
    if len(request.keywords) > MAX_KEYWORDS:
        raise _wrong("keywords", f"has {len(request.keywords)} entries", f"send at most {MAX_KEYWORDS}")
    for at, keyword in enumerate(request.keywords):
        _check_text(f"keywords[{at}]", keyword, MAX_KEYWORD_CHARS, needed=True)
    if not 1 <= request.variants <= limits.max_variants:
        raise _wrong("variants", f"is {request.variants}", f"ask for 1 to {limits.max_variants}")
    words = request.max_words
    if words is not None and not MIN_WORDS <= words <= MAX_WORDS:
        raise _wrong("max_words", f"is {words}", f"give {MIN_WORDS} to {MAX_WORDS}, or leave it out")
    if not 0 <= request.seed <= MAX_SEED:
        raise _wrong("seed", f"is {request.seed}", f"give 0 to {MAX_SEED}")
    deadline_s = request.deadline_s
    if deadline_s is not None and not (math.isfinite(deadline_s) and deadline_s > 0):
        raise _wrong("deadline_ms", f"is {deadline_s * 1e3:g}", "give milliseconds above 0, or leave it out")


def _check_product(product: ProductRecord) -> None:
    _check_text("product.title", product.title, MAX_TITLE_CHARS, needed=True)
    _check_text("product.brand", product.brand, MAX_NAME_CHARS)
    _check_text("product.category", product.category, MAX_NAME_CHARS)
    _check_text("product.description", product.description, MAX_DESCRIPTION_CHARS)
    if len(product.attributes) > MAX_ATTRIBUTES:
        count = len(product.attributes)
        raise _wrong("product.attributes", f"has {count} entries", f"send at most {MAX_ATTRIBUTES}")
    for name, value in product.attributes.items():
        _check_text("product.attributes", name, MAX_ATTRIBUTE_NAME_CHARS, needed=True, what="a name")
        _check_value(f"product.attributes.{name}", value)
    price = product.price
    if price is not None and not 0 <= price <= MAX_PRICE:
        raise _wrong("product.price", f"is {price:g}", f"give 0 to {MAX_PRICE:.0f}, or leave it out")
    if product.currency and not _CURRENCY.fullmatch(product.currency):
        shown = product.currency[:20]
        raise _wrong("product.currency", f"is {shown!r}", "give a code of three letters, such as EUR")


def _check_value(field: str, value: Value) -> None:
    if isinstance(value, tuple):
        if len(value) > MAX_LIST_VALUES:
            raise _wrong(field, f"has {len(value)} entries", f"send at most {MAX_LIST_VALUES}")
        for entry in value:
            _check_value(field, entry)
    elif isinstance(value, str):
        _check_text(field, value, MAX_VALUE_CHARS)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _wrong(field, f"is {value}", "give a finite number")
    elif isinstance(value, int) and abs(value) > 10**18:
        raise _wrong(field, "is a number of more than 18 digits", "send it as text")


def _check_text(field: str, text: str, most: int, *, needed: bool = False, what: str = "") -> None:
    shown = f"{what} " if what else ""
    if len(text) > most:
        raise _wrong(
            field,
            f"has {shown}of {len(text)} characters" if what else f"has {len(text)} characters",
            f"at most {most} are read; shorten it",
        )
    if needed and not text.strip():
        raise _wrong(field, f"has {shown.strip()} that is empty" if what else "is empty", "it is needed")


def _wrong(field: str, state: str, advice: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {state}; {advice}", field=field, limit=advice)
