"""Frames and header blocks."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import http2
from loadtest.http2 import _huffman


def test_the_huffman_codes_are_those_of_the_standard() -> None:
    """RFC 7541, C.6.1: "302" is written 6402."""
    assert _huffman("302") == bytes.fromhex("6402")


@pytest.mark.parametrize("status", range(17))
def test_a_status_is_read_in_either_encoding(status: int) -> None:
    """A server may compress names and values or not, and may put other fields before."""
    name, value = b"grpc-status", str(status).encode()
    plain = b"\x3f\xe1\x1f\x88\x00\x01a\x01b" + b"\x00\x0b" + name + bytes((len(value),)) + value
    short, code = _huffman("grpc-status"), _huffman(str(status))
    packed = b"\x40" + bytes((0x80 | len(short),)) + short + bytes((0x80 | len(code),)) + code

    assert http2.grpc_status(plain) == status
    assert http2.grpc_status(packed) == status


def test_headers_before_an_answer_have_no_status() -> None:
    """``:status 200`` alone is not the end of a call."""
    assert http2.grpc_status(b"\x88\x5f\x10application/grpc") is None


@given(st.binary(max_size=60))
def test_any_block_is_read_or_refused(block: bytes) -> None:
    """A broken server cannot crash or hang the tester."""
    with contextlib.suppress(http2.BadFrame):
        http2.grpc_status(block)


@given(st.floats(1e-6, 1e5))
def test_a_deadline_has_at_most_eight_digits(seconds: float) -> None:
    """The header's grammar allows no more."""
    text = http2.grpc_timeout(seconds)
    unit = {"u": 1e-6, "m": 1e-3}[text[-1]]

    assert len(text) <= 9
    assert float(text[:-1]) * unit == pytest.approx(seconds, rel=0.5, abs=1e-6)
