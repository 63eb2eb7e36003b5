"""``ModelInferRequest`` to ``Asked``, ``Inferred`` to ``ModelInferResponse``.

The messages are those that ``tritonclient`` brings; its package is imported at the first call and not before, because it takes
as long as opening a recommender. Tensors come raw (``raw_input_contents``) or in typed fields, and always leave raw.

Source: ``grpc_service.proto`` of Triton 2.x.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from server.errors import InvalidRequest, MalformedRequest
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
from server.kserve.tensors import bytes_array, datatype_of, elements, from_raw, to_raw

MAX_TENSORS = 64
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_RANGES = {"INT8": 127, "INT16": 32767, "UINT8": 255, "UINT16": 65535}
_DTYPES = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP32": np.float32,
    "FP64": np.float64,
}


@functools.cache
def pb() -> Any:
    """The generated messages."""
    from tritonclient.grpc import service_pb2

    return service_pb2


def parse_infer(raw: bytes) -> Any:
    """A ``ModelInferRequest``.

    Raises:
        MalformedRequest: it is none.
    """
    try:
        return pb().ModelInferRequest.FromString(raw)
    except DecodeError as error:
        raise MalformedRequest(
            "the message is not an inference.ModelInferRequest", field="message"
        ) from error


def asked_of(message: Any, timeout_s: float | None) -> Asked:
    """What a message asks.

    Args:
        message: a ``ModelInferRequest``.
        timeout_s: what the call gives it; None: as long as it takes.

    Raises:
        InvalidRequest: its claims do not fit its bytes; names the input.
    """
    listed, raws = list(message.inputs), list(message.raw_input_contents)
    count = len(listed)
    if max(count, len(message.outputs)) > MAX_TENSORS:
        raise InvalidRequest(
            f"the request has {count} inputs and {len(message.outputs)} outputs, the limit is {MAX_TENSORS}",
            field="inputs",
            limit=str(MAX_TENSORS),
        )
    if raws and len(raws) != count:
        raise InvalidRequest(
            f"expected number of raw_input_contents to be {count} to match the inputs, got {len(raws)}",
            field="raw_input_contents",
            limit=str(count),
        )
    inputs: dict[str, Array] = {}
    for at, one in enumerate(listed):
        name = one.name
        if name in inputs:
            raise InvalidRequest(
                f"input '{name[:60]}' already exists in request", field="inputs", limit="once"
            )
        if "shared_memory_region" in one.parameters:
            raise no_shared_memory(_parameter(one.parameters["shared_memory_region"]))
        if raws and one.HasField("contents"):
            raise InvalidRequest(
                f"contents field must not be specified when using raw_input_contents for '{name[:60]}'",
                field=f"inputs.{name[:60]}",
                limit="one of both",
            )
        if raws:
            inputs[name] = from_raw(name, one.datatype, tuple(one.shape), raws[at])
        else:
            inputs[name] = _typed(name, one)
    parameters = {name: _parameter(value) for name, value in message.parameters.items()}
    if parameters:
        check_priority(parameters.pop("priority", None))
    return Asked(
        inputs=inputs,
        outputs=tuple(_output(one) for one in message.outputs),
        id=message.id,
        deadline_s=deadline_of(parameters.pop("timeout", None), timeout_s),
        parameters=parameters,
    )


def response_of(meta: ModelMeta, asked: Asked, answer: Inferred) -> Any:
    """A ``ModelInferResponse``.

    Raises:
        InvalidRequest: an output is asked for that is not there, or as what it cannot be.
    """
    messages = pb()
    tensor = messages.ModelInferResponse.InferOutputTensor
    shown, raws = [], []
    for one in outputs_asked(meta, asked):
        array = answer.outputs[one.name]
        if one.classes:
            labels = meta.labels.get(one.name, ())
            array = classify(one.name, array, one.classes, labels, batched=meta.max_batch > 0)
        shown.append(tensor(name=one.name, datatype=datatype_of(array.dtype), shape=array.shape))
        raws.append(to_raw(array))
    return messages.ModelInferResponse(
        model_name=meta.name,
        model_version=answer.version,
        id=asked.id,
        outputs=shown,
        raw_output_contents=raws,
    )


def _typed(name: str, one: Any) -> Array:
    datatype = one.datatype
    count = elements(name, datatype, one.shape)
    kind = _CONTENTS.get(datatype)
    if kind is None:
        raise InvalidRequest(
            f"input '{name[:60]}' is {datatype}, which has no typed field; send it in raw_input_contents",
            field=f"inputs.{name[:60]}",
            limit="raw_input_contents",
        )
    values = getattr(one.contents, kind)
    if len(values) != count:
        raise InvalidRequest(
            f"input '{name[:60]}' got {len(values)} element(s) in {kind}, expected {count} for datatype {datatype} and "
            f"shape {list(one.shape)}",
            field=f"inputs.{name[:60]}",
            limit=f"{count} element(s)",
        )
    if datatype == "BYTES":
        return bytes_array(list(values), tuple(one.shape))
    most = _RANGES.get(datatype)
    if most is not None and values and not -most - 1 <= min(values) <= max(values) <= most:
        raise InvalidRequest(
            f"input '{name[:60]}' holds numbers out of the range of {datatype}",
            field=f"inputs.{name[:60]}",
            limit=datatype,
        )
    return np.array(values, dtype=_DTYPES[datatype]).reshape(tuple(one.shape))


def _output(one: Any) -> OutputAsked:
    parameters = one.parameters
    if "shared_memory_region" in parameters:
        raise no_shared_memory(_parameter(parameters["shared_memory_region"]))
    classes = _parameter(parameters["classification"]) if "classification" in parameters else 0
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
        raise InvalidRequest(
            f"output '{one.name[:60]}' has classification {str(classes)[:40]}; give how many, a whole number",
            field=f"outputs.{one.name[:60]}.parameters.classification",
            limit=">= 0",
        )
    return OutputAsked(one.name, True, classes)


def _parameter(value: Any) -> Any:
    choice = value.WhichOneof("parameter_choice")
    return None if choice is None else getattr(value, choice)
