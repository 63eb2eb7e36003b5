"""The JSON of ``POST /v1/embeddings``: bytes to what is asked, and vectors to bytes.

Units: milliseconds on the wire, seconds in the domain; tokens.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from server.encoder_domain import Encoded, EncodeRequest, InputKind, Truncate
from server.errors import InvalidRequest
from server.http_api.openai.decoding import decode

# Of a value of a vector of length 1; more digits than a float32 has there.
_DECIMALS = 9
_Word = TypeVar("_Word", bound=StrEnum)


class EncodingFormat(StrEnum):
    """How a vector is written."""

    FLOAT = "float"
    BASE64 = "base64"  # of little-endian float32


class EmbeddingsIn(msgspec.Struct, kw_only=True):
    """Texts to encode."""

    input: Annotated[
        str | list[str | int | list[int]],
        Meta(description="a text, texts, token ids, or lists of token ids (without special tokens)"),
    ]
    model: Annotated[str, Meta(description="as /v1/models lists it; empty: the only encoder")] = ""
    encoding_format: Annotated[
        str | None,
        Meta(
            description="float, or base64 of little-endian float32",
            extra_json_schema={"enum": ["float", "base64", None]},
        ),
    ] = None
    dimensions: Annotated[
        int | None, Meta(description="width of the vectors; one that the model was trained for")
    ] = None
    user: Annotated[str | None, Meta(description="ignored; never logged")] = None
    truncate: Annotated[
        str | None,
        Meta(
            description="extension; what happens to a text that is too long: error (default), or end: its end is left out, and usage says so",
            extra_json_schema={"enum": ["error", "end", None]},
        ),
    ] = None
    input_type: Annotated[
        str | None,
        Meta(
            description="extension; query or passage, for encoders that mark them; plain (default): neither",
            extra_json_schema={"enum": ["plain", "query", "passage", None]},
        ),
    ] = None
    deadline_ms: Annotated[
        float | None,
        Meta(description="extension; milliseconds from arrival within which the answer is of use"),
    ] = None


class EmbeddingOut(msgspec.Struct, gc=False):
    """One vector."""

    object: str
    index: int
    embedding: Annotated[list[float] | str, Meta(description="numbers, or base64 of little-endian float32")]
    truncated: Annotated[
        bool | UnsetType, Meta(description="extension; the end of this text was left out")
    ] = UNSET


class EmbeddingUsage(msgspec.Struct, gc=False):
    """What was read."""

    prompt_tokens: int
    total_tokens: int
    truncated_inputs: Annotated[int, Meta(description="extension; texts whose end was left out")]


class EmbeddingsOut(msgspec.Struct):
    """Vectors, in the order of the inputs."""

    object: str
    data: list[EmbeddingOut]
    model: str
    usage: EmbeddingUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsAsked:
    """What a request asks.

    Attributes:
        request: the texts.
        model: that is wanted; empty: any.
        dimensions: width of the vectors; None: the model's.
        encoding: how they are written.
        deadline_s: seconds from arrival; None: not said.
    """

    request: EncodeRequest
    model: str
    dimensions: int | None
    encoding: EncodingFormat
    deadline_s: float | None


_decoder = msgspec.json.Decoder(EmbeddingsIn)


def decode_embeddings(body: bytes | bytearray) -> EmbeddingsAsked:
    """Read a body.

    Raises:
        MalformedRequest: it is not JSON in UTF-8.
        InvalidRequest: a field is wrong; names it, its value, the limit and what to do.
    """
    given = decode(body, _decoder)
    if given.deadline_ms is not None and not given.deadline_ms > 0.0:
        raise InvalidRequest(
            f"deadline_ms is {given.deadline_ms:g}; give the milliseconds from now within which the answer is of use",
            field="deadline_ms",
            limit="> 0 ms",
        )
    return EmbeddingsAsked(
        request=EncodeRequest(
            inputs=_inputs(given.input),
            kind=_word("input_type", given.input_type, InputKind, InputKind.PLAIN),
            truncate=_word("truncate", given.truncate, Truncate, Truncate.ERROR),
        ),
        model=given.model,
        dimensions=given.dimensions,
        encoding=_word("encoding_format", given.encoding_format, EncodingFormat, EncodingFormat.FLOAT),
        deadline_s=None if given.deadline_ms is None else given.deadline_ms * 1e-3,
    )


def embeddings_out(encoded: Encoded, encoding: EncodingFormat, model: str) -> EmbeddingsOut:
    """The wire form of vectors."""
    vectors_ND = encoded.vectors_ND
    written: list[Any]
    if encoding is EncodingFormat.BASE64:
        little_ND = np.ascontiguousarray(vectors_ND, "<f4")
        written = [base64.b64encode(row_D.data).decode("ascii") for row_D in little_ND]
    else:
        written = vectors_ND.astype(np.float64).round(_DECIMALS).tolist()
    data = [EmbeddingOut("embedding", at, vector) for at, vector in enumerate(written)]
    for entry, truncated in zip(data, encoded.truncated_N, strict=True):
        if truncated:
            entry.truncated = True
    tokens = sum(encoded.tokens_N)
    usage = EmbeddingUsage(tokens, tokens, encoded.truncated_N.count(True))
    return EmbeddingsOut("list", data, model, usage)


def _inputs(given: str | list[str | int | list[int]]) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(given, str):
        return (given,)
    if not given:
        raise InvalidRequest("input has no entries; send at least one", field="input", limit=">= 1 entry")
    first = type(given[0])
    for at, one in enumerate(given):
        if type(one) is not first:
            raise InvalidRequest(
                f"input[{at}] is of another kind than input[0]; send texts, token ids, or lists of token ids",
                field=f"input[{at}]",
                limit="one kind",
            )
    if first is int:
        return (tuple(given),)  # type: ignore[arg-type]
    return tuple(one if isinstance(one, str) else tuple(one) for one in given)  # type: ignore[arg-type]


def _word(field: str, given: str | None, kind: type[_Word], default: _Word) -> _Word:
    if given is None:
        return default
    try:
        return kind(given)
    except ValueError:
        words = ", ".join(kind)
        raise InvalidRequest(f"{field} is {given[:40]!r}; use {words}", field=field, limit=words) from None
