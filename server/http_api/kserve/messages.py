"""The bytes of an infer request to ``Asked``, and ``Inferred`` to the bytes of an answer: JSON, with raw tensors behind it.

Sizes and shapes are held against the bytes that are there (``server/kserve/tensors.py``): nothing is allocated for a claim.

Source: the Open Inference Protocol, "Inference", and Triton's binary data extension (``Inference-Header-Content-Length``).
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from server.errors import InvalidRequest, MalformedRequest, RequestTooLarge
from server.kserve.classification import classify
from server.kserve.model import (
    Array,
    Asked,
    Inferred,
    ModelMeta,
    OutputAsked,
    check_priority,
    deadline_of,
    no_shared_memory,
    outputs_asked,
)
from server.kserve.tensors import datatype_of, from_json, from_raw, to_json, to_raw

HEADER = b"inference-header-content-length"
JSON, OCTETS = b"application/json", b"application/octet-stream"
MAX_TENSORS = 64
_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
_KNOWN = {"priority", "timeout", "binary_data_output", "sequence_id", "sequence_start", "sequence_end"}


class _Input(Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Raw | UnsetType = UNSET


class _Output(Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(Struct):
    inputs: list[_Input]
    id: str = ""
    outputs: list[_Output] = []
    parameters: dict[str, Any] = {}


class _OutputOut(Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | UnsetType = UNSET
    data: list[Any] | UnsetType = UNSET


class _Response(Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[_OutputOut]
    id: str = ""


_decoder = msgspec.json.Decoder(_Request)
_encode = msgspec.json.Encoder().encode


def decode_infer(body: bytes | bytearray, headers: dict[bytes, bytes], *, most_bytes: int) -> Asked:
    """Read a request.

    Args:
        body: all of it.
        headers: names in lower case.
        most_bytes: that a compressed body may unpack to.

    Raises:
        InvalidRequest: it does not parse, or its claims do not fit its bytes; names the field.
    """
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding != b"identity":
        body = _inflated(body, encoding, most_bytes)
    size = _header_size(headers.get(HEADER), len(body))
    view = memoryview(body)
    try:
        message = _decoder.decode(view[:size])
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"Unable to parse the request: {error}", field="body") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"failed to parse the request JSON buffer: {error}", field="body") from error
    if max(len(message.inputs), len(message.outputs)) > MAX_TENSORS:
        raise InvalidRequest(
            f"the request has {len(message.inputs)} inputs and {len(message.outputs)} outputs, the limit is {MAX_TENSORS}",
            field="inputs",
            limit=f"{MAX_TENSORS}",
        )
    inputs, end = _inputs(message.inputs, view, size)
    if end != len(body):
        raise InvalidRequest(
            f"unexpected additional input data: {len(body) - end} bytes are left behind the inputs; their binary_data_size "
            "must add up to the rest of the body",
            field="inputs",
            limit=f"{len(body) - size} bytes",
        )
    parameters = message.parameters
    check_priority(parameters.get("priority"))
    return Asked(
        inputs=inputs,
        outputs=tuple(_output(one, parameters) for one in message.outputs),
        id=message.id,
        deadline_s=deadline_of(parameters.get("timeout")),
        binary=_flag("binary_data_output", parameters, False),
        parameters={name: value for name, value in parameters.items() if name not in _KNOWN},
    )


def encode_inferred(meta: ModelMeta, asked: Asked, answer: Inferred) -> tuple[bytes, bytes, bytes]:
    """Write an answer.

    Returns:
        Body, its content type, and header lines.

    Raises:
        InvalidRequest: an output is asked for that is not there, or as what it cannot be.
    """
    shown: list[_OutputOut] = []
    raws: list[bytes] = []
    for one in outputs_asked(meta, asked):
        array: Array = answer.outputs[one.name]
        if one.classes:
            array = classify(
                one.name, array, one.classes, meta.labels.get(one.name, ()), batched=meta.max_batch > 0
            )
        entry = _OutputOut(one.name, datatype_of(array.dtype), list(array.shape))
        if one.binary:
            raw = to_raw(array)
            raws.append(raw)
            entry.parameters = {"binary_data_size": len(raw)}
        else:
            entry.data = to_json(array)
        shown.append(entry)
    head = _encode(_Response(meta.name, answer.version, shown, asked.id))
    if not raws:
        return head, JSON, b""
    return b"".join((head, *raws)), OCTETS, b"Inference-Header-Content-Length: %d\r\n" % len(head)


def _header_size(given: bytes | None, size: int) -> int:
    if given is None:
        return size
    try:
        header = int(given)
    except ValueError:
        header = -1
    if not 0 < header <= size:
        raise MalformedRequest(
            f"inference header size should be in range (0, {size}], got: {given[:20].decode('latin-1')}",
            field="Inference-Header-Content-Length",
            limit=f"1 .. {size}",
        )
    return header


def _inputs(listed: list[_Input], view: memoryview, at: int) -> tuple[dict[str, Array], int]:
    inputs: dict[str, Array] = {}
    for one in listed:
        name = one.name
        if name in inputs:
            raise InvalidRequest(
                f"input '{name[:60]}' already exists in request", field="inputs", limit="once"
            )
        if "shared_memory_region" in one.parameters:
            raise no_shared_memory(one.parameters["shared_memory_region"])
        size = one.parameters.get("binary_data_size")
        if (size is None) == (one.data is UNSET):
            raise InvalidRequest(
                f"input '{name[:60]}' must set exactly one of 'data' and 'binary_data_size' in 'parameters'",
                field=f"inputs.{name[:60]}",
                limit="data, or binary_data_size",
            )
        if isinstance(one.data, Raw):
            inputs[name] = from_json(name, one.datatype, one.shape, memoryview(one.data))
            continue
        left = len(view) - at
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= left:
            raise InvalidRequest(
                f"unexpected size for input '{name[:60]}': binary_data_size is {str(size)[:40]}, and {left} bytes are there",
                field=f"inputs.{name[:60]}.parameters.binary_data_size",
                limit=f"0 .. {left} bytes",
            )
        inputs[name] = from_raw(name, one.datatype, one.shape, view[at : at + size])
        at += size
    return inputs, at


def _output(one: _Output, request: dict[str, Any]) -> OutputAsked:
    parameters = one.parameters
    if "shared_memory_region" in parameters:
        raise no_shared_memory(parameters["shared_memory_region"])
    classes = parameters.get("classification", 0)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
        raise InvalidRequest(
            f"output '{one.name[:60]}' has classification {str(classes)[:40]}; give how many, a whole number",
            field=f"outputs.{one.name[:60]}.parameters.classification",
            limit=">= 0",
        )
    binary = _flag("binary_data", parameters, _flag("binary_data_output", request, False))
    return OutputAsked(one.name, binary, classes)


def _flag(name: str, parameters: dict[str, Any], default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(
            f"parameter '{name}' is {str(value)[:40]}; it is true or false", field=f"parameters.{name}"
        )
    return value


def _inflated(body: bytes | bytearray, encoding: bytes, most_bytes: int) -> bytes:
    bits = _WINDOW_BITS.get(encoding)
    if bits is None:
        raise MalformedRequest(
            f"Content-Encoding {encoding[:20].decode('latin-1')!r} is not known; gzip, deflate and identity are",
            field="Content-Encoding",
            limit="gzip, deflate, identity",
        )
    unpacking = zlib.decompressobj(bits)
    try:
        out = unpacking.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise MalformedRequest("the compressed body does not unpack", field="body") from error
    if len(out) > most_bytes:
        raise RequestTooLarge(len(out), most_bytes)
    if not unpacking.eof:
        raise MalformedRequest("the compressed body is cut off", field="body")
    return out
