"""Errors in OpenAI's form, on the paths that OpenAI's clients call.

The statuses are those of every other path (``http_api/status.py``). Beside OpenAI's four fields the body carries our
``request_id`` and ``limit``, which its clients skip. Light on purpose: refusals on a connection use it too.
"""

from __future__ import annotations

import msgspec

from server.errors import Code, ServeError
from server.http_api.kserve.status import error_json, is_kserve
from server.http_api.schemas import encode
from server.http_api.status import ErrorBody, ErrorDetail, error_detail

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
_PATHS = tuple(path.encode() for path in PATHS)
_MODELS = b"/v1/models"

TYPE: dict[Code, str] = {
    Code.INVALID_ARGUMENT: "invalid_request_error",
    Code.MALFORMED: "invalid_request_error",
    Code.TOO_LARGE: "invalid_request_error",
    Code.UNAUTHENTICATED: "authentication_error",
    Code.PERMISSION_DENIED: "permission_error",
    Code.NOT_FOUND: "not_found_error",
    Code.OVERLOADED: "rate_limit_error",
    Code.DEADLINE_EXCEEDED: "timeout_error",
    Code.NOT_READY: "server_error",
    Code.CANCELLED: "cancelled_error",
    Code.BAD_UPSTREAM: "server_error",
    Code.INTERNAL: "server_error",
}
_CODE = {Code.UNAUTHENTICATED: "invalid_api_key", Code.NOT_FOUND: "model_not_found"}


class OpenAIError(msgspec.Struct):
    """What went wrong.

    Attributes:
        message: a sentence that says what, where, the limit, and what to do.
        type: family of the error.
        param: dotted path of the offending field, or null.
        code: neutral code, as on the other paths, but where OpenAI's clients look for a word of theirs.
        limit: the limit that was broken, or null.
        request_id: the id to ask the operator about.
    """

    message: str
    type: str
    param: str | None
    code: str
    limit: str | None
    request_id: str


class OpenAIErrorBody(msgspec.Struct):
    """The body of every answer on these paths that is not a success."""

    error: OpenAIError


class BothErrors(ErrorDetail, kw_only=True):
    """What went wrong on a path that both kinds of clients call: our fields, and those that OpenAI's look for."""

    type: str
    param: str | None


class BothErrorsBody(msgspec.Struct):
    """The body of every answer on such a path that is not a success."""

    error: BothErrors


def error_out(error: ServeError, request_id: str) -> OpenAIErrorBody:
    """The wire form of an error."""
    code = _CODE.get(error.code, error.code.value)
    return OpenAIErrorBody(
        OpenAIError(error.message, TYPE[error.code], error.field, code, error.limit, request_id)
    )


def error_bytes(error: ServeError, request_id: str) -> bytes:
    """The body of an error on one of ``PATHS``."""
    return encode(error_out(error, request_id))


def error_body(path: str | bytes, error: ServeError, request_id: str) -> bytes:
    """The body of an error, in the form that callers of this path expect."""
    if isinstance(path, str):
        path = path.encode("utf-8", "replace")
    path = path.split(b"?", 1)[0]
    if path in _PATHS:
        return error_bytes(error, request_id)
    if is_kserve(path):
        return error_json(error)
    detail = error_detail(error, request_id)
    if path == _MODELS or path.startswith(_MODELS + b"/"):
        ours = {name: getattr(detail, name) for name in detail.__struct_fields__}
        return encode(BothErrorsBody(BothErrors(**ours, type=TYPE[error.code], param=error.field)))
    return encode(ErrorBody(detail))
