"""How KServe's paths show each neutral outcome: Triton's statuses where it has one for the case, and its error body.

It differs from the other paths (``http_api/status.py``) in that a request which parses and is wrong is 400 too.
``tests/server/kserve/test_kserve_http.py`` proves the table total over ``Code``.
"""

from __future__ import annotations

import msgspec

from server.errors import Code, ServeError

STATUS: dict[Code, int] = {
    Code.INVALID_ARGUMENT: 400,
    Code.MALFORMED: 400,
    Code.TOO_LARGE: 413,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.OVERLOADED: 429,
    Code.DEADLINE_EXCEEDED: 504,
    Code.BAD_UPSTREAM: 502,
    Code.NOT_READY: 503,
    Code.CANCELLED: 499,  # never sent: the caller has left
    Code.INTERNAL: 500,
}
PREFIX = b"/v2"
HEALTH = ("/v2/health/live", "/v2/health/ready")


def error_json(error: ServeError) -> bytes:
    """The body of an error: one sentence."""
    return msgspec.json.encode({"error": error.message})


def is_kserve(path: bytes) -> bool:
    """Whether a path is the protocol's."""
    return path == PREFIX or path.startswith(PREFIX + b"/")
