"""The little of HTTP/2 and HPACK that a unary gRPC call needs.  Pure: bytes in, bytes out.

Two settings keep it little.  We announce a header table of size 0, so every header block that the server
sends can be read by itself; and a stream window of 2 GiB, so answers never wait for a window update of ours.

Source: RFC 9113 (frames), RFC 7541 (HPACK; appendix B for the few Huffman codes used here), and the gRPC
document "PROTOCOL-HTTP2.md" (headers, length-prefixed messages, mapping of stream errors).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
MAX_CONCURRENT_STREAMS, HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE = 3, 1, 2, 4
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STATIC_ENTRIES = 61
_CODES = {
    "0": "00000", "1": "00001", "2": "00010", "3": "011001", "4": "011010", "5": "011011", "6": "011100",
    "7": "011101", "8": "011110", "9": "011111", "a": "00011", "c": "00100", "g": "100110", "p": "101011",
    "r": "101100", "s": "01000", "t": "01001", "u": "101101", "-": "010110",
}  # fmt: skip


class BadFrame(ValueError):
    """The server broke HTTP/2 in a way that leaves the connection unusable."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def hello() -> bytes:
    """What a client says first: the preface, its settings, and a connection window of 2 GiB."""
    settings = b"".join(
        struct.pack(">HI", name, value)
        for name, value in ((HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, LARGEST_WINDOW))
    )
    return PREFACE + frame(SETTINGS, 0, 0, settings) + window_update(LARGEST_WINDOW - DEFAULT_WINDOW)


def window_update(more: int) -> bytes:
    """Give the connection's window ``more`` bytes."""
    return frame(WINDOW_UPDATE, 0, 0, more.to_bytes(4, "big"))


def read_settings(payload: bytes) -> dict[int, int]:
    """The settings in a SETTINGS frame."""
    if len(payload) % 6:
        raise BadFrame(f"a SETTINGS frame of {len(payload)} bytes")
    return {name: value for name, value in struct.iter_unpack(">HI", payload)}


def request_blocks(authority: str, path: str, extra: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Header blocks of a gRPC call: the first of a connection, and every later one.

    The first puts its fields into the server's header table, the later ones are a byte a field: what a real
    client does, so the server's own cost is a real one.
    """
    static = b"\x83\x86"  # :method POST, :scheme http
    fields = [
        (":authority", authority),
        (":path", path),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "vitrine-loadtest"),
        *((name.lower(), value) for name, value in extra.items()),
    ]
    first = static + b"".join(b"\x40" + _literal(name) + _literal(value) for name, value in fields)
    used = sum(32 + len(name.encode()) + len(value.encode()) for name, value in fields)
    if used > 4096:  # would not fit the table
        plain = static + b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in fields)
        return plain, plain
    newest = _STATIC_ENTRIES + 1  # the last field put in
    later = static + b"".join(bytes((0x80 | (newest + back),)) for back in range(len(fields) - 1, -1, -1))
    return first, later


def grpc_timeout(seconds: float) -> str:
    """A deadline as the ``grpc-timeout`` header writes it."""
    microseconds = max(1, round(seconds * 1e6))
    return f"{microseconds}u" if microseconds < 10**8 else f"{min(round(seconds * 1e3), 10**8 - 1)}m"


def grpc_message(payload: bytes) -> bytes:
    """A message with its gRPC prefix (not compressed)."""
    return b"\x00" + len(payload).to_bytes(4, "big") + payload


def grpc_status(block: bytes) -> int | None:
    """The ``grpc-status`` in a header block; None where there is none (the block before an answer)."""
    at = block.find(b"\x0bgrpc-status")
    if at >= 0 and at + 12 < len(block):
        length = block[at + 12]
        value = block[at + 13 : at + 13 + length]
        if length <= 2 and value.isdigit():
            return int(value)
    for name, value in _fields(block):
        if name in (b"grpc-status", _NAME_HUFFMAN):
            if value.isdigit():
                return int(value)
            return _NUMBERS.get(value, 2)
    return None


def _huffman(text: str) -> bytes:
    bits = "".join(_CODES[letter] for letter in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


_NAME_HUFFMAN = _huffman("grpc-status")
_NUMBERS = {_huffman(str(number)): number for number in range(17)}


def _literal(text: str) -> bytes:
    raw = text.encode()
    return _integer(len(raw), 7) + raw


def _integer(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    out, value = [most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes((*out, value))


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 28:
            raise BadFrame("an HPACK integer without end")


def _fields(block: bytes) -> Sequence[tuple[bytes, bytes]]:
    """Names and values as they stand on the wire: a Huffman string stays encoded, an indexed name is empty."""
    fields: list[tuple[bytes, bytes]] = []
    at = 0
    try:
        while at < len(block):
            byte = block[at]
            if byte & 0x80:  # indexed: nothing of ours is in the static table
                _, at = _read_integer(block, at, 7)
                continue
            if byte & 0xE0 == 0x20:  # table size update
                _, at = _read_integer(block, at, 5)
                continue
            index, at = _read_integer(block, at, 6 if byte & 0x40 else 4)
            name = b""
            if index == 0:
                name, at = _read_string(block, at)
            value, at = _read_string(block, at)
            fields.append((name, value))
    except IndexError as error:
        raise BadFrame("a header block that ends too soon") from error
    return fields


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    length, at = _read_integer(block, at, 7)
    if at + length > len(block):
        raise BadFrame("a header that ends too soon")
    return block[at : at + length], at + length
