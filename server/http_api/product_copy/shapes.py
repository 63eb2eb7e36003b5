"""The JSON of ``POST /v1/product-copy``: bytes to a domain request.

The structs are the one description of what may be sent; bounds are in their schema for readers only, and checked by
``server.copy_limits``, so that both wires and bulk work refuse in the same words.

Units: milliseconds on the wire, seconds in the domain.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from server.copy_domain import Channel, CopyRequest, Language, ProductRecord, Scalar, Tone, Value
from server.copy_limits import (
    MAX_ATTRIBUTES,
    MAX_AUDIENCE_CHARS,
    MAX_DESCRIPTION_CHARS,
    MAX_KEYWORD_CHARS,
    MAX_KEYWORDS,
    MAX_NAME_CHARS,
    MAX_SEED,
    MAX_TITLE_CHARS,
    MAX_WORDS,
    MIN_WORDS,
)
from server.errors import InvalidRequest
from server.http_api.wrong_fields import Shapes, explain, malformed

Choice = TypeVar("Choice", bound=StrEnum)
ScalarIn = str | int | float | bool


def _text(most: int, about: str = "") -> Meta:
    return Meta(description=about or None, extra_json_schema={"maxLength": most})


def _one_of(choices: type[StrEnum], about: str) -> Meta:
    return Meta(description=about, extra_json_schema={"enum": [choice.value for choice in choices]})


class ProductIn(Struct, forbid_unknown_fields=True):
    """What the shop knows of a product: the only source of facts."""

    title: Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_TITLE_CHARS})]
    brand: Annotated[str | None, _text(MAX_NAME_CHARS)] = None
    category: Annotated[str | None, _text(MAX_NAME_CHARS)] = None
    attributes: Annotated[
        dict[str, ScalarIn | list[ScalarIn] | None],
        Meta(description="further facts by name", extra_json_schema={"maxProperties": MAX_ATTRIBUTES}),
    ] = msgspec.field(default_factory=dict)
    price: Annotated[float | None, Meta(extra_json_schema={"minimum": 0})] = None
    currency: Annotated[str | None, Meta(description="ISO 4217, such as EUR")] = None
    description: Annotated[
        str | None, _text(MAX_DESCRIPTION_CHARS, "the shop's own text; its facts count")
    ] = None


class AskedIn(Struct, forbid_unknown_fields=True):
    """What is asked for, without the product: the part that the requests of a job share."""

    channel: Annotated[str, _one_of(Channel, "where it will stand; decides the lengths")] = "product_page"
    language: Annotated[str, _one_of(Language, "what it is written in")] = "en"
    tone: Annotated[str, _one_of(Tone, "how it speaks")] = "neutral"
    audience: Annotated[str | None, _text(MAX_AUDIENCE_CHARS, "whom it is for, in a few words")] = None
    keywords: Annotated[
        list[Annotated[str, _text(MAX_KEYWORD_CHARS)]],
        Meta(
            description="should be in it where the record bears them out",
            extra_json_schema={"maxItems": MAX_KEYWORDS},
        ),
    ] = []
    variants: Annotated[int, Meta(extra_json_schema={"minimum": 1})] = 1
    max_words: Annotated[
        int | None,
        Meta(
            description="of headline, description and bullets together",
            extra_json_schema={"minimum": MIN_WORDS, "maximum": MAX_WORDS},
        ),
    ] = None
    seed: Annotated[
        int,
        Meta(
            description="same seed and request, same copy",
            extra_json_schema={"minimum": 0, "maximum": MAX_SEED},
        ),
    ] = 0
    fresh: Annotated[bool, Meta(description="write anew although the cache has it")] = False


class CopyIn(AskedIn, forbid_unknown_fields=True, kw_only=True):
    """One product, one channel, one language."""

    product: ProductIn
    stream: Annotated[bool, Meta(description="answer by server-sent events, a part at a time")] = False
    deadline_ms: Annotated[
        float | None,
        Meta(
            description="milliseconds from arrival within which the answer is of use",
            extra_json_schema={"exclusiveMinimum": 0},
        ),
    ] = None


SHAPES: Shapes = {"": CopyIn, "product": ProductIn}
_decoder = msgspec.json.Decoder(CopyIn)


def decode_copy(body: bytes | bytearray) -> tuple[CopyRequest, bool]:
    """Read a request, and whether it is to be streamed.

    Raises:
        MalformedRequest: the bytes are not JSON.
        InvalidRequest: a field has a wrong type, name or choice; names it, with its value.
    """
    try:
        wire = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise explain(error, body, "", SHAPES) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise malformed(error) from error
    return copy_request(wire, wire.product, wire.deadline_ms), wire.stream


def copy_request(asked: AskedIn, product: ProductIn, deadline_ms: float | None = None) -> CopyRequest:
    """The domain's request.

    Raises:
        InvalidRequest: a choice is none of those there are.
    """
    return CopyRequest(
        product=_record(product),
        channel=_choice("channel", asked.channel, Channel),
        language=_choice("language", asked.language, Language),
        tone=_choice("tone", asked.tone, Tone),
        audience=(asked.audience or "").strip(),
        keywords=tuple(asked.keywords),
        variants=asked.variants,
        max_words=asked.max_words,
        deadline_s=None if deadline_ms is None else deadline_ms * 1e-3,
        seed=asked.seed,
        fresh=asked.fresh,
    )


def _record(product: ProductIn) -> ProductRecord:
    return ProductRecord(
        title=product.title,
        brand=product.brand or "",
        category=product.category or "",
        attributes={name: _value(value) for name, value in product.attributes.items() if value is not None},
        price=product.price,
        currency=(product.currency or "").upper(),
        description=product.description or "",
    )


def _value(value: ScalarIn | list[ScalarIn]) -> Value:
    if isinstance(value, list):
        entries: list[Scalar] = list(value)
        return tuple(entries)
    return value


def _choice(field: str, value: str, choices: type[Choice]) -> Choice:
    try:
        return choices(value)
    except ValueError:
        known = ", ".join(choices)
        raise InvalidRequest(
            f"{field} is {value[:60]!r}; choose one of {known}", field=field, limit=known
        ) from None
