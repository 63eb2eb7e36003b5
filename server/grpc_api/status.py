"""How gRPC shows each neutral outcome: one total table, and the rich error details.

``tests/server/test_status.py`` proves the table total over ``Code``.
"""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from server.errors import Code, ServeError

STATUS: dict[Code, grpc.StatusCode] = {
    Code.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Code.MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    Code.TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    Code.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Code.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Code.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Code.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    Code.CANCELLED: grpc.StatusCode.CANCELLED,
    Code.BAD_UPSTREAM: grpc.StatusCode.UNAVAILABLE,
    Code.INTERNAL: grpc.StatusCode.INTERNAL,
}
DOMAIN = "vitrine"
DETAILS_KEY = "grpc-status-details-bin"


def error_details(error: ServeError, request_id: str) -> bytes:
    """A serialized ``google.rpc.Status``: ErrorInfo, BadRequest for a wrong field, RetryInfo where it makes sense."""
    metadata = {"request_id": request_id}
    if error.field is not None:
        metadata["field"] = error.field
    if error.limit is not None:
        metadata["limit"] = error.limit
    details = [
        _packed(error_details_pb2.ErrorInfo(reason=error.code.value, domain=DOMAIN, metadata=metadata))
    ]
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    code: int = STATUS[error.code].value[0]
    status = status_pb2.Status(code=code, message=error.message, details=details)
    return bytes(status.SerializeToString())


def _packed(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
