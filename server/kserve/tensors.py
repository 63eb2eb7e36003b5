"""Tensors as they travel: KServe's datatypes, raw little-endian bytes, length-prefixed strings, lists of JSON.

What a header claims is held against the bytes that are really there before anything is made of it: a shape of 2^40 numbers,
a length prefix of 4 GiB or a size that does not fit costs an error and no memory. Decoding raw numbers copies nothing (the
array is a view of the message), and never makes more elements than the message has bytes.

Source: the Open Inference Protocol, "Tensor data", and Triton's binary data extension.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from server.errors import InvalidRequest

Array = npt.NDArray[Any]
Buffer = bytes | bytearray | memoryview

BYTES, BF16 = "BYTES", "BF16"
MAX_DIMENSIONS = 8
_NUMPY = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
DATATYPES = (*_NUMPY, BYTES, BF16)
_NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in _NUMPY.items()} | {np.dtype(object): BYTES}
_LENGTH = struct.Struct("<I")
_SHOWN_CHARS = 60


def datatype_of(dtype: str | np.dtype[Any]) -> str:
    """The protocol's name of a numpy dtype (an object array holds BYTES).

    Raises:
        KeyError: it has none.
    """
    return _NAMES[dtype if isinstance(dtype, np.dtype) else np.dtype(dtype)]


def elements(name: str, datatype: str, shape: Sequence[int]) -> int:
    """How many elements a shape claims.

    Raises:
        InvalidRequest: an unknown datatype, a negative dimension, or too many of them.
    """
    if datatype not in _NUMPY and datatype not in (BYTES, BF16):
        raise InvalidRequest(
            f"input '{name[:_SHOWN_CHARS]}' has unknown datatype '{datatype[:_SHOWN_CHARS]}'; there are {', '.join(DATATYPES)}",
            field=f"inputs.{name[:_SHOWN_CHARS]}.datatype",
            limit=", ".join(DATATYPES),
        )
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidRequest(
            f"input '{name[:_SHOWN_CHARS]}' has {len(shape)} dimensions, the limit is {MAX_DIMENSIONS}",
            field=f"inputs.{name[:_SHOWN_CHARS]}.shape",
            limit=f"{MAX_DIMENSIONS} dimensions",
        )
    if shape and min(shape) < 0:
        raise InvalidRequest(
            f"input '{name[:_SHOWN_CHARS]}' has shape {list(shape)}; a dimension cannot be negative",
            field=f"inputs.{name[:_SHOWN_CHARS]}.shape",
            limit=">= 0",
        )
    return math.prod(shape)


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: Buffer) -> Array:
    """An array of raw bytes: a read-only view of them, but for BF16 (widened to float32) and BYTES (objects).

    Args:
        name: of the tensor, for messages.
        datatype: the protocol's name.
        shape: as claimed.
        raw: little-endian numbers in row-major order; BYTES: each a 4-byte length and as many bytes.

    Raises:
        InvalidRequest: the claim and the bytes do not fit each other; says both.
    """
    count = elements(name, datatype, shape)
    if datatype == BYTES:
        return _bytes_array(name, count, shape, raw)
    width = 2 if datatype == BF16 else _NUMPY[datatype].itemsize
    if count * width != len(raw):
        raise _does_not_fit(name, f"{len(raw)} bytes", datatype, shape, f"{count * width} bytes")
    if datatype == BF16:
        codes = np.frombuffer(raw, "<u2").astype(np.uint32)
        return np.left_shift(codes, 16).view(np.float32).reshape(tuple(shape))
    if datatype == "BOOL":
        codes = np.frombuffer(raw, np.uint8)
        if codes.size and codes.max() > 1:
            raise InvalidRequest(
                f"input '{name[:_SHOWN_CHARS]}' is BOOL and holds a byte of {codes.max()}; each is 0 or 1",
                field=f"inputs.{name[:_SHOWN_CHARS]}",
                limit="0 or 1",
            )
    return np.frombuffer(raw, _NUMPY[datatype]).reshape(tuple(shape))


def to_raw(array: Array) -> bytes:
    """The bytes that ``from_raw`` reads; an object array holds ``bytes``."""
    if array.dtype == object:
        return b"".join(_LENGTH.pack(len(entry)) + entry for entry in array.ravel().tolist())
    return array.tobytes()


def from_json(name: str, datatype: str, shape: Sequence[int], data: Buffer) -> Array:
    """An array of a JSON list, flat or nested as the shape is.

    Raises:
        InvalidRequest: not such a list, numbers out of the datatype's range, or another count than the shape says.
    """
    count = elements(name, datatype, shape)
    if count > len(data):  # an element is at least a digit
        raise _does_not_fit(name, f"fewer than {len(data)} elements", datatype, shape, f"{count} element(s)")
    kind: Any = bool if datatype == "BOOL" else str if datatype == BYTES else float
    if datatype.startswith(("INT", "UINT")):
        kind = int
    try:
        flat = msgspec.json.decode(data, type=list[kind])
    except msgspec.MsgspecError:
        flat = _flattened(name, datatype, len(shape), kind, data)
    except UnicodeDecodeError as error:
        raise _not_data(name, datatype, "it is not UTF-8") from error
    if len(flat) != count:
        raise _does_not_fit(name, f"{len(flat)} element(s)", datatype, shape, f"{count} element(s)")
    if datatype == BYTES:
        return _objects([text.encode() for text in flat], shape)
    dtype = np.dtype(np.float32) if datatype == BF16 else _NUMPY[datatype]
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=dtype).reshape(tuple(shape))
    except (OverflowError, ValueError) as error:
        raise _not_data(name, datatype, f"a number is out of the range of {datatype}") from error


def to_json(array: Array) -> list[Any]:
    """The flat list that ``from_json`` reads; bytes that are not UTF-8 become U+FFFD, as they have no form in JSON."""
    if array.dtype == object:
        return [entry.decode("utf-8", "replace") for entry in array.ravel().tolist()]
    flat: list[Any] = array.ravel().tolist()
    return flat


def texts(name: str, array: Array) -> list[str]:
    """The strings of a BYTES tensor.

    Raises:
        InvalidRequest: one is not UTF-8.
    """
    try:
        return [entry.decode() for entry in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"input '{name}' holds text that is not UTF-8", field=f"inputs.{name}", limit="UTF-8"
        ) from error


def bytes_array(entries: Sequence[bytes], shape: Sequence[int]) -> Array:
    """A BYTES tensor."""
    return _objects(list(entries), shape)


def _bytes_array(name: str, count: int, shape: Sequence[int], raw: Buffer) -> Array:
    size = len(raw)
    if count * _LENGTH.size > size:
        raise _does_not_fit(
            name, f"{size} bytes", BYTES, shape, f"at least {count * _LENGTH.size} bytes of lengths"
        )
    found: list[bytes] = []
    at = 0
    while at < size and len(found) < count:
        if at + _LENGTH.size > size:
            raise _cut_off(name, len(found), size)
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if length > size - at:
            raise _cut_off(name, len(found), size)
        found.append(bytes(raw[at : at + length]))
        at += length
    if len(found) != count or at != size:
        more = "more" if at != size else str(len(found))
        raise _does_not_fit(name, f"{more} element(s)", BYTES, shape, f"{count} element(s)")
    return _objects(found, shape)


def _objects(entries: list[bytes], shape: Sequence[int]) -> Array:
    array = np.empty(len(entries), dtype=object)
    array[:] = entries
    return array.reshape(tuple(shape))


def _flattened(name: str, datatype: str, dimensions: int, kind: Any, data: Buffer) -> list[Any]:
    nested: Any = kind
    for _ in range(max(1, dimensions)):
        nested = list[nested]
    try:
        level = msgspec.json.decode(data, type=nested)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _not_data(name, datatype, str(error)) from error
    for _ in range(dimensions - 1):
        level = [entry for inner in level for entry in inner]
    flat: list[Any] = level
    return flat


def _not_data(name: str, datatype: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"input '{name[:_SHOWN_CHARS]}' has data that is no list of {datatype}: {why}",
        field=f"inputs.{name[:_SHOWN_CHARS]}.data",
        limit=datatype,
    )


def _cut_off(name: str, element: int, size: int) -> InvalidRequest:
    return InvalidRequest(
        f"input '{name[:_SHOWN_CHARS]}' is BYTES and ends within element {element} ({size} bytes are there); each element "
        "is its length in 4 bytes, little endian, and then as many bytes",
        field=f"inputs.{name[:_SHOWN_CHARS]}",
        limit=f"{size} bytes",
    )


def _does_not_fit(name: str, have: str, datatype: str, shape: Sequence[int], need: str) -> InvalidRequest:
    return InvalidRequest(
        f"input '{name[:_SHOWN_CHARS]}' got {have}, expected {need} for datatype {datatype} and shape {list(shape)}",
        field=f"inputs.{name[:_SHOWN_CHARS]}",
        limit=need,
    )
