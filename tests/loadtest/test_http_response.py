"""The end of a response is found, however the bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.http_response import BadResponse, scan_chunks, scan_head, tier_of
from loadtest.measure import FALLBACK, MODEL, UNKNOWN_TIER


@given(
    st.integers(100, 599).filter(lambda code: code not in (204, 304)), st.binary(max_size=200), st.booleans()
)
def test_status_and_length_are_read_and_half_a_head_is_waited_for(
    status: int, body: bytes, keep: bool
) -> None:
    """No prefix of a response is taken for the whole, and none for garbage."""
    connection = "" if keep else "CONNECTION: Close\r\n"
    head = f"HTTP/1.1 {status} Whatever\r\nX-Request-Id: 1\r\nCONTENT-length:  {len(body)}\r\n{connection}\r\n".encode()

    assert scan_head(head + body) == (status, len(head), len(body), keep)
    for cut in range(len(head)):
        assert scan_head(head[:cut]) is None


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5))
def test_chunks_end_where_they_end(chunks: list[bytes]) -> None:
    """A chunked body is complete at its last byte and not before."""
    body = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"

    assert scan_chunks(b"HEAD" + body + b"more", 4) == 4 + len(body)
    for cut in range(len(body)):
        assert scan_chunks(b"HEAD" + body[:cut], 4) is None


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"SSH-2.0",
        b"HTTP/1.1 abc X\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_what_is_no_response_is_refused(data: bytes) -> None:
    """Another protocol on the port is said, not waited for."""
    with pytest.raises(BadResponse):
        scan_head(data)


def test_http_1_0_closes_unless_it_says_otherwise() -> None:
    """Old servers are not sent a second request on a connection that they close."""
    assert scan_head(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n") == (200, 38, 0, False)
    assert scan_head(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n") == (
        200,
        62,
        0,
        True,
    )


def test_who_answered_is_read_with_or_without_spaces() -> None:
    """The tier is seen in any JSON style, and a missing one is unknown."""
    assert tier_of(b'{"items":[],"served_by":"model","x":1}') == MODEL
    assert tier_of(b'{"served_by": "fallback"}') == FALLBACK
    assert tier_of(b'{"items": []}') == UNKNOWN_TIER
