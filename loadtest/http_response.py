"""Finds where an HTTP/1.x response ends, and no more of it than a load test has to know.  Pure.

Bodies are not decoded: the status, the end, and whether the connection lives on decide everything.
"""

from __future__ import annotations

from loadtest.measure import FALLBACK, MODEL, UNKNOWN_TIER

UNTIL_CLOSE = -1
_HEAD_LIMIT = 65536


class BadResponse(ValueError):
    """What the server sent is not an HTTP/1.x response."""


def scan_head(data: bytes) -> tuple[int, int, int, bool] | None:
    """Read the head of a response.

    Returns:
        None while the head is incomplete; else ``(status, body_start, body_length, keep_alive)``, where a
        length of -1 means "until the connection closes" and -2 "chunked".

    Raises:
        BadResponse: it is no response, or the head is longer than 64 KiB.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > _HEAD_LIMIT or not b"HTTP/1.".startswith(data[:7]):
            raise BadResponse(f"no HTTP/1.x response head in {data[:40]!r}")
        return None
    if data[:7] != b"HTTP/1." or not data[9:12].isdigit():
        raise BadResponse(f"not an HTTP/1.x status line: {data[:40]!r}")
    status = int(data[9:12])
    head = data[:end].lower()
    keep = data[7:8] == b"1"
    if b"\r\nconnection:" in head:
        value = _header(head, b"\r\nconnection:")
        keep = value == b"keep-alive" if not keep else value != b"close"
    if status in (204, 304):
        return status, end + 4, 0, keep
    if b"\r\ncontent-length:" in head:
        value = _header(head, b"\r\ncontent-length:")
        if not value.isdigit():
            raise BadResponse(f"content-length is {value!r}")
        return status, end + 4, int(value), keep
    if b"\r\ntransfer-encoding:" in head and b"chunked" in _header(head, b"\r\ntransfer-encoding:"):
        return status, end + 4, -2, keep
    return status, end + 4, UNTIL_CLOSE, False


def scan_chunks(data: bytes, start: int) -> int | None:
    """Where a chunked body that begins at ``start`` ends; None while it is incomplete.

    Raises:
        BadResponse: a chunk size is not a hexadecimal number.
    """
    at = start
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return None
        size_text = data[at:line_end].split(b";", 1)[0].strip()
        try:
            size = int(size_text, 16)
        except ValueError as error:
            raise BadResponse(f"chunk size {size_text[:20]!r}") from error
        if size < 0:
            raise BadResponse(f"chunk size {size}")
        if size == 0:  # trailers, then an empty line
            trailer_end = data.find(b"\r\n", line_end + 2)
            if trailer_end == line_end + 2:
                return trailer_end + 2
            end = data.find(b"\r\n\r\n", line_end + 2)
            return end + 4 if end >= 0 else None
        at = line_end + 2 + size + 2
        if at > len(data):
            return None


def tier_of(data: bytes) -> int:
    """Who answered, from the bytes of a JSON answer (``"served_by": "model"``)."""
    at = data.rfind(b'"served_by"')
    if at < 0:
        return UNKNOWN_TIER
    value = data[at + 11 : at + 26]
    if b'"model"' in value:
        return MODEL
    return FALLBACK if b'"fallback"' in value else UNKNOWN_TIER


def _header(head: bytes, name: bytes) -> bytes:
    start = head.find(name) + len(name)
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()
