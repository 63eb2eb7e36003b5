"""Header blocks: what is remembered is what the hpack library would say, and what is malformed is refused."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.http2.frames import ConnectionFault, StreamFault
from server.http2.header_blocks import HeaderReader, literal

NAMES = st.sampled_from([b"x-a", b"x-b", b"traceparent", b"grpc-timeout", b"user-agent"])
VALUES = st.binary(max_size=40).filter(lambda value: not set(value) & {0, 10, 13})
REQUESTS = st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=6), max_size=30)


@settings(deadline=None)
@given(REQUESTS, st.lists(st.sampled_from([0, 64, 4096]), max_size=30))
def test_every_block_reads_as_it_was_written(
    requests: list[list[tuple[bytes, bytes]]], sizes: list[int]
) -> None:
    """Through table changes, evictions and blocks seen before, in any order."""
    encoder, reader = hpack.Encoder(), HeaderReader(1 << 20)
    for at, pairs in enumerate(requests):
        if at < len(sizes):
            encoder.header_table_size = sizes[at]
        block = encoder.encode([(b":path", b"/a"), *pairs], huffman=at % 2 == 0)

        assert reader.read(block) == {b":path": b"/a", **dict(pairs)}


def test_the_same_block_twice_is_decoded_once() -> None:
    """A block of references alone is looked up: the very same headers come back."""
    encoder, reader = hpack.Encoder(), HeaderReader(1 << 16)
    pairs = [(b":method", b"POST"), (b":path", b"/vitrine.v1.Recommendations/Recommend")]
    reader.read(encoder.encode(pairs))
    again = encoder.encode(pairs)

    assert reader.read(again) is reader.read(again)


def test_a_table_that_changed_makes_remembered_blocks_strangers() -> None:
    """The newest entry means something else after another was put in front of it."""
    reader = HeaderReader(1 << 16)
    reader.read(b"\x40\x03x-a\x011")
    newest = bytes((0x80 | 62,))
    assert reader.read(newest) == {b"x-a": b"1"}
    assert reader.read(newest) == {b"x-a": b"1"}
    reader.read(b"\x40\x03x-b\x012")

    assert reader.read(newest) == {b"x-b": b"2"}


@settings(deadline=None)
@given(NAMES, VALUES)
def test_a_literal_reads_as_it_was_written(name: bytes, value: bytes) -> None:
    """By the hpack library."""
    assert [tuple(pair) for pair in hpack.Decoder().decode(literal(name, value * 9), raw=True)] == [
        (name, value * 9)
    ]


@pytest.mark.parametrize(
    "pairs",
    [
        [(b"X-Upper", b"1")],
        [(b"x", b"a\r\nb")],
        [(b"x-a", b"1"), (b":path", b"/")],
        [(b":path", b"/"), (b":path", b"/")],
        [(b":status", b"200")],
        [(b"connection", b"close")],
        [(b"te", b"gzip")],
        [(b"", b"1")],
    ],
)
def test_malformed_headers_end_the_stream(pairs: list[tuple[bytes, bytes]]) -> None:
    """As RFC 9113 says, and only that stream: the table stays in step."""
    reader = HeaderReader(1 << 16)
    with pytest.raises(StreamFault):
        reader.read(b"".join(literal(name, value) for name, value in pairs))
    assert reader.read(literal(b"x-a", b"1")) == {b"x-a": b"1"}


@pytest.mark.parametrize("block", [b"\xff", b"\xbe", b"\x40\x03x-", b"\x3f\xff\xff\xff\x7f", b"\x80"])
def test_a_block_that_does_not_decode_ends_the_connection(block: bytes) -> None:
    """From there on both sides would disagree about the table."""
    with pytest.raises(ConnectionFault):
        HeaderReader(1 << 16).read(block)


def test_headers_over_the_limit_end_their_stream_alone() -> None:
    """The other calls of the channel go on: the table is in step."""
    reader = HeaderReader(16 * 1024)
    reader.read(b"\x40\x03x-a\x011")
    with pytest.raises(StreamFault):
        reader.read(literal(b"x-big", b"x" * 20_000))
    assert reader.read(bytes((0x80 | 62,))) == {b"x-a": b"1"}


def test_headers_far_over_the_limit_end_the_connection() -> None:
    """A bomb of references to one long entry is not unpacked."""
    reader = HeaderReader(16 * 1024)
    reader.read(b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000)
    with pytest.raises(ConnectionFault):
        reader.read(bytes((0x80 | 62,)) * 1000)
