"""What can go wrong, as a closed tree that knows no HTTP and no gRPC.

Every error that may reach a caller is a ``ServeError`` with a ``Code``; each wire owns one total table from ``Code`` to
its own statuses (``http_api/status.py``, ``grpc_api/status.py``), and a test proves both tables total. Anything else that
escapes is a bug and is answered as ``Code.INTERNAL`` without its text. A caller who leaves is ``Code.CANCELLED``: nobody
is left to be told, so that there is no error of it, only an outcome in the log and the metrics.

    ServeError
    ├── InvalidRequest      a field is wrong: names field, value, limit and what to do
    │   ├── MalformedRequest    the bytes do not parse
    │   └── RequestTooLarge     more bytes than the limit
    ├── Unauthenticated     no or wrong key
    ├── NotAllowed          nobody may do this here by a request
    ├── NotFound            unknown model, version or path
    ├── Overloaded          no permit: refused at once, with a retry hint
    ├── DeadlineExceeded    passed, or cannot be met
    ├── NotReady            draining, starting, or the engine is gone; with a retry hint
    └── EngineFault         the engine failed; ours to mend
        └── UpstreamFault       the server behind this one failed, or answered what nobody can read

Units: seconds.
"""

from __future__ import annotations

import enum
import math
from typing import Self


class Code(enum.Enum):
    """Neutral outcome codes; closed, so that a wire's table can be total."""

    INVALID_ARGUMENT = "invalid_argument"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    OVERLOADED = "overloaded"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_READY = "not_ready"
    CANCELLED = "cancelled"
    BAD_UPSTREAM = "bad_upstream"
    INTERNAL = "internal"


class ServeError(Exception):
    """Base of everything a caller may be told.

    Attributes:
        code: the neutral outcome.
        message: a sentence that says what, where, the limit, and what to do.
        field: dotted path of the offending request field, or None.
        limit: the limit that was broken, as text, or None.
        retry_after_s: when to try again, or None.
    """

    code: Code = Code.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        limit: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.limit = limit
        self.retry_after_s = retry_after_s


class InvalidRequest(ServeError):
    """A field of the request is wrong."""

    code = Code.INVALID_ARGUMENT

    def inside(self, where: str) -> Self:
        """This error, of a part of a larger request: ``where`` (``requests[3].``) goes before its field and sentence."""
        if where:
            self.message = f"{where}{self.message}"
            self.args = (self.message,)
            self.field = where + (self.field or "body")
        return self


class MalformedRequest(InvalidRequest):
    """The bytes of the request do not parse at all."""

    code = Code.MALFORMED


class RequestTooLarge(InvalidRequest):
    """The request has more bytes than the limit; refused before parsing."""

    code = Code.TOO_LARGE

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"request body of {size_bytes} bytes is over the limit of {limit_bytes} bytes; send fewer items per request",
            field="body",
            limit=f"{limit_bytes} bytes",
        )


class HeadTooLarge(InvalidRequest):
    """The request line and headers have more bytes than the limit."""

    code = Code.TOO_LARGE

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the request's line and headers are over the limit of {limit_bytes} bytes; send fewer or shorter headers",
            field="request",
            limit=f"{limit_bytes} bytes",
        )


class Unauthenticated(ServeError):
    """No key, or a wrong one."""

    code = Code.UNAUTHENTICATED


class NotAllowed(ServeError):
    """Nobody may do this here by a request; a setting says so."""

    code = Code.PERMISSION_DENIED


class NotFound(ServeError):
    """No such model, version or path; the message lists what there is."""

    code = Code.NOT_FOUND


class Overloaded(ServeError):
    """Admission refused: accepting would only make every queued request late."""

    code = Code.OVERLOADED

    def __init__(self, name: str, queued: int, limit: int, retry_after_s: float) -> None:
        super().__init__(
            f"{name}: {queued} requests are waiting, the limit is {limit}; retry in {retry_after_s:.3g} s",
            limit=str(limit),
            retry_after_s=retry_after_s,
        )
        self.queued = queued


class TooManyBytes(ServeError):
    """So many bytes of requests are arriving at once that one more would endanger the server's memory."""

    code = Code.OVERLOADED

    def __init__(self, most_bytes: int, retry_after_s: float) -> None:
        super().__init__(
            f"requests of {most_bytes} bytes in all are arriving already; send this one again in {retry_after_s:.3g} s",
            limit=f"{most_bytes} bytes",
            retry_after_s=retry_after_s,
        )


class DeadlineExceeded(ServeError):
    """The deadline has passed, or is known to be unreachable; ``stage`` says where that was found."""

    code = Code.DEADLINE_EXCEEDED

    def __init__(self, message: str, *, stage: str) -> None:
        super().__init__(message, field="deadline_ms")
        self.stage = stage


class NotReady(ServeError):
    """Starting, draining, or without a working engine."""

    code = Code.NOT_READY

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class EngineFault(ServeError):
    """The engine failed on a batch. The cause is chained and logged, and never shown to a caller."""

    code = Code.INTERNAL


class UpstreamFault(EngineFault):
    """The server behind this one failed, or answered what nobody can read; the caller may ask again, and we are well."""

    code = Code.BAD_UPSTREAM


def shown_as(error: BaseException) -> ServeError:
    """An error that may be shown: ours as it is, any other as an internal one whose text stays in the chain."""
    if isinstance(error, ServeError):
        return error
    fault = EngineFault("the server failed on this request; its log says more under the request id")
    fault.__cause__ = error
    return fault


def retry_after_ms(error: ServeError) -> int | None:
    """When to try again, in whole milliseconds: the one rule for whatever either wire says of it.

    Rounded up and never 0: told a moment too early, everyone who was refused is refused once more, and told 0, they all
    come back at once.

    Returns:
        Milliseconds (>= 1), or None where trying again would not help.
    """
    wait_s = error.retry_after_s
    if wait_s is None:
        return None
    return max(1, math.ceil(wait_s * 1e3 - _SLACK_MS))


def retry_after_whole_s(error: ServeError) -> int | None:
    """``retry_after_ms`` in whole seconds, for a header that has no finer unit; rounded up as well."""
    wait_ms = retry_after_ms(error)
    return None if wait_ms is None else -(-wait_ms // 1000)


_SLACK_MS = 1e-6  # 0.057 s is 57.000000000000001 ms in floating point, which is 57
