"""Header blocks of HTTP/2: reading them by the hpack library with a memory of blocks seen before, and writing literals.

A client that asks the same thing again sends the same few bytes, all of them references into the table that both sides
keep. As long as nothing changed that table, the same bytes mean the same headers: they are looked up, not decoded
(2 microseconds instead of 20 to 30). A block that changes the table, or comes after one that did, is decoded.

What we send is written without the table (RFC 7541, 6.2.2), so that it can be put together once, ahead of time.

Source: RFC 7541; RFC 9113, section 8.2 and 8.3 for what headers are malformed.
"""

from __future__ import annotations

import re

import hpack

from server.http2.frames import ConnectionFault, ErrorCode, StreamFault

Headers = dict[bytes, bytes]

HARD_LIMIT_FACTOR = 4
_REMEMBERED = 64  # blocks; those with an id or a deadline of their own push each other out
_REMEMBERED_BYTES = 1024  # of a block: longer ones are rare and would be kept for nothing
_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_BAD_VALUE = re.compile(rb"[\x00\r\n]")
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_OF_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)


class HeaderReader:
    """Reads the header blocks of one connection, in their order."""

    def __init__(self, max_bytes: int) -> None:
        """Headers over ``max_bytes``, counted as RFC 9113 does, end their stream; four times as many are not unpacked."""
        self._decoder = hpack.Decoder(max_header_list_size=HARD_LIMIT_FACTOR * max_bytes)
        self._max_bytes = max_bytes
        self._known: dict[bytes, Headers] = {}

    def read(self, block: bytes) -> Headers:
        """Names in lower case and values; of a repeated header the last. Not to be written into.

        Raises:
            ConnectionFault: the table is out of step from here on, or the block is too large.
            StreamFault: the headers are malformed, or too large; the table is whole.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        table = self._decoder.header_table
        entries = table.dynamic_entries
        before = (len(entries), table.maxsize)
        newest = entries[0] if entries else None  # held, so that no later entry can be the same object
        try:
            pairs = self._decoder.decode(block, raw=True)
        except hpack.OversizedHeaderListError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too large") from error
        except (hpack.HPACKError, ValueError, IndexError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "the header block does not decode") from error
        entries = table.dynamic_entries
        changed = (len(entries), table.maxsize) != before or (entries[0] if entries else None) is not newest
        if changed:
            self._known.clear()
        headers = _checked(pairs, self._max_bytes)
        if not changed and len(block) <= _REMEMBERED_BYTES:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[block] = headers
        return headers


def literal(name: bytes, value: bytes) -> bytes:
    """One header, never put into the table; ``value`` must not hold NUL, CR or LF."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(value: int) -> bytes:
    if value < 127:
        return bytes((value,))
    out = bytearray((127,))
    value -= 127
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _checked(pairs: object, max_bytes: int) -> Headers:
    headers: Headers = {}
    regular = False
    size = 0
    for name, value in pairs:  # type: ignore[attr-defined]  # raw: pairs of bytes, which the library's types don't say
        if not _NAME.match(name) or _BAD_VALUE.search(value):
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a header has a name or value that is not allowed")
        if name[0] == 0x3A:
            if regular or name in headers or name not in _PSEUDO:
                raise StreamFault(
                    ErrorCode.PROTOCOL_ERROR, "a pseudo-header is unknown, repeated or out of place"
                )
        else:
            regular = True
            if name in _OF_CONNECTION or (name == b"te" and value != b"trailers"):
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a header of HTTP/1.1 connections is not allowed")
        headers[name] = value
        size += len(name) + len(value) + 32
    if size > max_bytes:
        raise StreamFault(ErrorCode.ENHANCE_YOUR_CALM, f"headers of {size} bytes; {max_bytes} is the most")
    return headers
