"""Tensors as they travel: whatever is claimed, only what is there is believed."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.utils import (
    deserialize_bf16_tensor,
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_bf16_tensor,
    serialize_byte_tensor,
)

from server.errors import InvalidRequest
from server.kserve.classification import classify
from server.kserve.tensors import DATATYPES, bytes_array, datatype_of, from_json, from_raw, to_json, to_raw

NUMBERS = ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
tensors = st.sampled_from(NUMBERS).flatmap(
    lambda kind: arrays.arrays(
        np.dtype(kind), arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
    )
)
entries = st.lists(st.binary(max_size=40), max_size=12)


@given(tensors)
def test_numbers_come_back_bit_by_bit(array: np.ndarray) -> None:
    """Whatever numbers and shape are sent raw, the same are read, under the name that Triton's client gives the dtype."""
    datatype = datatype_of(array.dtype)

    back = from_raw("x", datatype, array.shape, to_raw(array))

    assert datatype == np_to_triton_dtype(array.dtype)
    assert back.dtype == array.dtype and back.tobytes() == array.tobytes() and back.shape == array.shape


@given(entries)
def test_bytes_are_read_and_written_as_tritons_client_does(values: list[bytes]) -> None:
    """What the client's own code writes is read here, and the other way round."""
    array = bytes_array(values, (len(values),))

    raw = to_raw(array)

    if values:  # of nothing its writer makes an array of another kind
        assert raw == serialize_byte_tensor(array).item()
        assert deserialize_bytes_tensor(raw).tolist() == values
    assert from_raw("x", "BYTES", (len(values),), raw).tolist() == values


@given(arrays.arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32, allow_nan=False)))
def test_bf16_is_widened_as_tritons_client_does(array: np.ndarray) -> None:
    raw = serialize_bf16_tensor(array).item()

    assert from_raw("x", "BF16", array.shape, raw).tolist() == deserialize_bf16_tensor(raw).ravel().tolist()


@given(tensors.filter(lambda array: array.dtype.kind != "f" or bool(np.isfinite(array).all())))
def test_json_numbers_come_back(array: np.ndarray) -> None:
    """Flat or nested lists of JSON are the same tensor."""
    import json

    datatype = datatype_of(array.dtype)

    flat = from_json("x", datatype, array.shape, json.dumps(to_json(array)).encode())
    nested = from_json("x", datatype, array.shape, json.dumps(array.tolist()).encode())

    assert flat.tobytes() == array.tobytes() == nested.tobytes()


@given(st.binary(max_size=60), st.sampled_from(DATATYPES), st.lists(st.integers(-3, 2**62), max_size=10))
def test_any_bytes_under_any_claim_are_a_tensor_of_that_shape_or_a_sentence(
    raw: bytes, datatype: str, shape: list[int]
) -> None:
    try:
        array = from_raw("x", datatype, shape, raw)
    except InvalidRequest as error:
        assert error.field is not None and "x" in error.message
    else:
        assert list(array.shape) == shape


@given(st.binary(max_size=60), st.sampled_from(DATATYPES), st.lists(st.integers(-3, 2**62), max_size=10))
def test_any_text_under_any_claim_is_a_tensor_of_that_shape_or_a_sentence(
    raw: bytes, datatype: str, shape: list[int]
) -> None:
    try:
        array = from_json("x", datatype, shape, raw)
    except InvalidRequest as error:
        assert "x" in error.message
    else:
        assert list(array.shape) == shape


@pytest.mark.parametrize(
    ("datatype", "shape", "raw"),
    [
        ("FP32", [1 << 40], b"\0" * 64),
        ("FP64", [1 << 31, 1 << 31, 1 << 31], b""),
        ("BYTES", [1 << 31], struct.pack("<I", 3) + b"abc"),
        ("BYTES", [1], struct.pack("<I", 0x7FFFFFFF) + b"abc"),
        ("INT4", [1], b"\0"),
        ("INT32", [-1, -4], b"\0" * 16),
        ("INT32", [1] * 20, b"\0" * 4),
        ("BOOL", [1], b"\2"),
    ],
)
def test_a_claim_of_gigabytes_takes_no_memory(datatype: str, shape: list[int], raw: bytes) -> None:
    """A shape, a length prefix or a datatype that lies is refused before anything is allocated for it."""
    tracemalloc.start()

    with pytest.raises(InvalidRequest):
        from_raw("x", datatype, shape, raw)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    ("datatype", "data"),
    [("INT8", b"[300]"), ("UINT8", b"[-1]"), ("INT32", b"[1.5]"), ("BOOL", b"[1]"), ("BYTES", b"[1]")],
)
def test_numbers_that_the_datatype_cannot_hold_are_refused(datatype: str, data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"is no list of|range"):
        from_json("x", datatype, [1], data)


def test_classes_are_the_best_values_with_their_columns_and_labels() -> None:
    """The form is Triton's: value, column, label; best first, equal values by column."""
    scores = np.array([[0.5, 2.0, 0.5], [1.0, -1.0, 3.0]], np.float32)

    best = classify("y", scores, 2, ("a", "b", "c"))

    assert best.tolist() == [[b"2.000000:1:b", b"0.500000:0:a"], [b"3.000000:2:c", b"1.000000:0:a"]]
    assert classify("y", np.array([[7, 9]], np.int32), 5).tolist() == [[b"9:1", b"7:0"]]
