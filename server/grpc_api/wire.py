"""What gRPC puts into HTTP/2: header blocks, length-prefixed messages, time-outs, metadata.

Source: the gRPC document "PROTOCOL-HTTP2.md".
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterable

from server.errors import MalformedRequest, RequestTooLarge
from server.http2.header_blocks import Headers, literal

PREFIX_BYTES = 5
_CONTENT_TYPE = literal(b"content-type", b"application/grpc")
_ACCEPTED = literal(b"grpc-accept-encoding", b"identity,gzip,deflate")
OPENING = b"\x88" + _CONTENT_TYPE + _ACCEPTED  # :status 200
OK_END = literal(b"grpc-status", b"0")
NOT_GRPC = b"\x08\x03415" + literal(b"content-type", b"text/plain")  # :status 415
ENCODINGS = {b"gzip": 31, b"deflate": 15}  # windowBits of zlib

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])\Z")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_ESCAPED = re.compile(rb"[^\x20-\x24\x26-\x7e]")


def timeout_s(headers: Headers) -> float | None:
    """Seconds that the caller gives the call; None: as long as it takes.

    Raises:
        MalformedRequest: the header is not a number of at most eight digits and a unit.
    """
    given = headers.get(b"grpc-timeout")
    if given is None:
        return None
    match = _TIMEOUT.match(given)
    if match is None:
        raise MalformedRequest(
            "grpc-timeout must be 1 to 8 digits and one of H, M, S, m, u, n", field="grpc-timeout"
        )
    return int(match[1]) * _SECONDS[match[2]]


def message(payload: bytes) -> bytes:
    """A message with its prefix, not compressed."""
    return b"\x00" + len(payload).to_bytes(4, "big") + payload


def ending(code: int, text: str = "", trailing: bytes = b"") -> bytes:
    """The trailing header block of a call: status, sentence, and further literals."""
    block = literal(b"grpc-status", b"%d" % code)
    if text:
        block += literal(b"grpc-message", _ESCAPED.sub(_escape, text.encode("utf-8", "replace")[:2048]))
    return block + trailing


def metadata_literals(metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    """Metadata as header literals; values of names in ``-bin`` are bytes.

    Raises:
        ValueError: a value cannot be sent: it has control characters.
    """
    block = b""
    for name, value in metadata:
        raw = value.encode("latin-1") if isinstance(value, str) else bytes(value)
        if name.endswith("-bin"):
            raw = base64.b64encode(raw).rstrip(b"=")
        elif not raw.isascii() or re.search(rb"[\x00-\x1f\x7f]", raw):
            raise ValueError(f"metadata {name} holds characters that cannot be sent")
        block += literal(name.encode(), raw)
    return block


def metadata_of(headers: Headers) -> tuple[tuple[str, str | bytes], ...]:
    """The caller's metadata, without what belongs to the protocol."""
    pairs: list[tuple[str, str | bytes]] = []
    for name, value in headers.items():
        if name[0] == 0x3A or name in _PROTOCOL or name.startswith(b"grpc-"):
            continue
        if name.endswith(b"-bin"):
            try:
                pairs.append(
                    (name.decode(), base64.b64decode(value + b"=" * (-len(value) % 4), validate=True))
                )
            except binascii.Error:
                continue  # cannot be meant for anybody
        else:
            pairs.append((name.decode(), value.decode("latin-1")))
    return tuple(pairs)


_PROTOCOL = frozenset((b"te", b"content-type", b"user-agent"))


def inflated(payload: bytes, encoding: bytes | None, most_bytes: int) -> bytes:
    """A compressed message as it was; never more than ``most_bytes`` are unpacked.

    Raises:
        MalformedRequest: it does not unpack, or says it is compressed and not how.
        RequestTooLarge: it would be larger.
    """
    bits = ENCODINGS.get(encoding or b"")
    if bits is None:
        raise MalformedRequest(
            "a message is compressed, and grpc-encoding does not say how", field="grpc-encoding"
        )
    unpacking = zlib.decompressobj(bits)
    try:
        out = unpacking.decompress(payload, most_bytes + 1)
    except zlib.error as error:
        raise MalformedRequest("a message does not unpack", field="message") from error
    if len(out) > most_bytes:
        raise RequestTooLarge(len(out), most_bytes)
    if not unpacking.eof:
        raise MalformedRequest("a compressed message is cut off", field="message")
    return out


def _escape(match: re.Match[bytes]) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in match[0])
