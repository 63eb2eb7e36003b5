"""The lines of a bulk input: numbered, bounded, and read as requests.

A line is either a request as ``POST /v1/product-copy`` takes it, with an ``id`` beside ``product``; or a bare record of a
shop's catalogue (``title``, ``brand``, ``category``, ``attributes``, ``price``, ``description``), whose other fields are
left alone. What a line does not say, the job's shared options do.

Units: bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from server.copy_domain import CopyRequest
from server.errors import InvalidRequest, MalformedRequest, RequestTooLarge
from server.http_api.product_copy.shapes import SHAPES, AskedIn, CopyIn, ProductIn, copy_request
from server.http_api.wrong_fields import explain
from server.pipelines.product_copy.prompt import record_from_mapping

MAX_LINE_BYTES = 1 << 20
MAX_ID_CHARS = 200
_ID_NAMES = ("id", "item_id", "sku")
_ONLY_LIVE = ("stream", "deadline_ms")
_BOM = b"\xef\xbb\xbf"
_ASKED = tuple(AskedIn.__struct_fields__)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any = msgspec.json.Decoder()
_full_decoder = msgspec.json.Decoder(CopyIn)


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not blank.

    Attributes:
        number: in the file, from 1.
        data: its bytes, or its beginning if it is too long.
        digest: of the whole line.
        too_long_bytes: its length if it is over the limit, else 0.
    """

    number: int
    data: bytes
    digest: str
    too_long_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A line as a request; ``id`` is the caller's, or the line's number."""

    id: str
    request: CopyRequest


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file, one at a time.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        number = 0
        while True:
            data = file.readline(MAX_LINE_BYTES + 1)
            if not data:
                return
            number += 1
            hasher = hashlib.sha256(data.rstrip(b"\r\n"))
            length = len(data)
            if length > MAX_LINE_BYTES and not data.endswith(b"\n"):
                length += _rest(file, hasher)
                yield Line(number, data[:500], hasher.hexdigest()[:16], length)
                continue
            if number == 1:
                data = data.removeprefix(_BOM)
            if data.strip():
                yield Line(number, data.strip(), hasher.hexdigest()[:16])


def count_lines(path: Path) -> int:
    """How many lines ``read_lines`` gives."""
    return sum(1 for _ in read_lines(path))


def read_asked(line: Line, shared: AskedIn) -> Asked:
    """A line as a request.

    Raises:
        InvalidRequest: it is too long, not JSON, or a field is wrong; says which.
    """
    if line.too_long_bytes:
        raise RequestTooLarge(line.too_long_bytes, MAX_LINE_BYTES)
    try:
        fields = _object.decode(line.data)
        line_id = _id(fields, line.number)
        if "product" in fields:
            return Asked(line_id, _full(fields, shared, line))
        record = _any.decode(line.data)
        product = record_from_mapping(record)
        if not product.title.strip():
            raise InvalidRequest("title is missing; it is needed", field="title", limit="required")
    except msgspec.ValidationError as error:
        raise explain(error, line.data, "", SHAPES) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedRequest(
            f"the line is not valid JSON: {error}; give one object a line, in UTF-8", field="line"
        ) from error
    return Asked(line_id, replace(copy_request(shared, ProductIn(title=product.title)), product=product))


def _full(fields: dict[str, msgspec.Raw], shared: AskedIn, line: Line) -> CopyRequest:
    own = {name: value for name, value in fields.items() if name not in _ID_NAMES}
    for name in _ONLY_LIVE:
        if name in own:
            raise InvalidRequest(f"{name} is not for bulk work; leave it out", field=name)
    merged = {**{name: getattr(shared, name) for name in _ASKED}, **own}
    wire = _full_decoder.decode(msgspec.json.encode(merged))
    return copy_request(wire, wire.product)


def _id(fields: dict[str, msgspec.Raw], number: int) -> str:
    for name in _ID_NAMES:
        if name in fields:
            value = _any.decode(fields[name])
            if not isinstance(value, str | int) or not 0 < len(str(value)) <= MAX_ID_CHARS:
                raise InvalidRequest(
                    f"{name} is {str(value)[:60]!r}; give a text of 1 to {MAX_ID_CHARS} characters, or a number",
                    field=name,
                    limit=f"1 .. {MAX_ID_CHARS} characters",
                )
            return str(value)
    return str(number)


def _rest(file: BinaryIO, hasher: _Hasher) -> int:
    """Skip to the end of a line; returns its length."""
    length = 0
    while True:
        data = file.readline(MAX_LINE_BYTES)
        length += len(data)
        hasher.update(data.rstrip(b"\r\n"))
        if not data or data.endswith(b"\n"):
            return length
