"""How HTTP shows each neutral outcome: one total table, and the error body.

``tests/server/test_status.py`` proves the table total over ``Code``.
"""

from __future__ import annotations

import msgspec

from server.errors import Code, ServeError, retry_after_ms, retry_after_whole_s

STATUS: dict[Code, int] = {
    Code.INVALID_ARGUMENT: 422,
    Code.MALFORMED: 400,
    Code.TOO_LARGE: 413,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.OVERLOADED: 429,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_READY: 503,
    Code.CANCELLED: 499,  # never sent: the caller has left
    Code.BAD_UPSTREAM: 502,
    Code.INTERNAL: 500,
}


class ErrorDetail(msgspec.Struct, omit_defaults=False):
    """What went wrong and what to do about it.

    Attributes:
        code: neutral code, the same on both wires.
        message: a sentence for the engineer who reads it.
        field: dotted path of the offending field, or null.
        limit: the limit that was broken, or null.
        request_id: the id to ask the operator about.
        retry_after_ms: when to try again; only where that makes sense.
    """

    code: str
    message: str
    field: str | None
    limit: str | None
    request_id: str
    retry_after_ms: int | msgspec.UnsetType = msgspec.UNSET


class ErrorBody(msgspec.Struct):
    """The body of every answer that is not a success."""

    error: ErrorDetail


def error_detail(error: ServeError, request_id: str) -> ErrorDetail:
    """The wire form of an error."""
    retry_ms = retry_after_ms(error)
    return ErrorDetail(
        error.code.value,
        error.message,
        error.field,
        error.limit,
        request_id,
        msgspec.UNSET if retry_ms is None else retry_ms,
    )


def retry_after(error: ServeError) -> bytes | None:
    """The ``Retry-After`` value: whole seconds, at least 1, or None where trying again would not help."""
    wait_s = retry_after_whole_s(error)
    return None if wait_s is None else b"%d" % wait_s
