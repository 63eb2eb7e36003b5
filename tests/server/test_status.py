"""Every outcome has a status on both wires, and an error says what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from server.errors import (
    Code,
    InvalidRequest,
    NotReady,
    Overloaded,
    ServeError,
    Unauthenticated,
    retry_after_ms,
    retry_after_whole_s,
)
from server.grpc_api import status as grpc_status
from server.http_api import status as http_status
from server.http_api.schemas import encode

SERVER = Path(http_status.__file__).parents[1]
AGREED = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def test_every_error_code_has_an_http_status() -> None:
    """A new ``Code`` cannot be added without deciding how HTTP shows it."""
    assert set(http_status.STATUS) == set(Code)


def test_every_error_is_somebodys() -> None:
    """The tree has no branch that nothing raises: an outcome that is only counted is a ``Code``, not an error."""
    code = "".join(
        path.read_text(encoding="utf-8") for path in SERVER.rglob("*.py") if path != SERVER / "errors.py"
    )
    tree = ServeError.__subclasses__()
    for kind in tree:
        tree += kind.__subclasses__()

    assert not [kind.__name__ for kind in tree if not re.search(rf"\b{kind.__name__}\(", code)]


def test_every_error_code_has_a_grpc_status() -> None:
    """A new ``Code`` cannot be added without deciding how gRPC shows it."""
    assert set(grpc_status.STATUS) == set(Code)


@pytest.mark.parametrize("code", Code)
def test_both_wires_mean_the_same(code: Code) -> None:
    """One table: what HTTP calls 429 is RESOURCE_EXHAUSTED on gRPC, and so on."""
    assert AGREED[http_status.STATUS[code]] is grpc_status.STATUS[code]


@pytest.mark.parametrize(("seconds", "header"), [(0.003, b"1"), (1.0, b"1"), (1.2, b"2"), (29.5, b"30")])
def test_retry_after_is_whole_seconds_and_never_zero(seconds: float, header: bytes) -> None:
    """Zero would make every refused client come back at once."""
    assert http_status.retry_after(Overloaded("shop", 9, 8, seconds)) == header


@pytest.mark.parametrize(
    ("seconds", "ms", "whole_s"),
    [(0.0, 1, 1), (0.0004, 1, 1), (0.057, 57, 1), (0.2501, 251, 1), (1.0, 1000, 1), (1.0006, 1001, 2)],
)
def test_nobody_is_called_back_before_the_time(seconds: float, ms: int, whole_s: int) -> None:
    """A wait is rounded up in milliseconds and in seconds, by one function for both wires, and is never 0."""
    error = Overloaded("shop", 9, 8, seconds)

    assert (retry_after_ms(error), retry_after_whole_s(error)) == (ms, whole_s)
    assert http_status.error_detail(error, "abc").retry_after_ms == ms
    assert retry_after_ms(InvalidRequest("k is 0")) is None


def test_an_error_without_a_hint_has_no_retry_after() -> None:
    """Trying again does not mend a wrong request."""
    assert http_status.retry_after(InvalidRequest("k is 0")) is None


def test_the_error_body_has_all_its_fields() -> None:
    """Clients may rely on code, message, field, limit and request_id being there."""
    error = InvalidRequest("k is 0; ask for 1 to 9", field="k", limit="1 .. 9")

    body = json.loads(encode(http_status.ErrorBody(http_status.error_detail(error, "abc"))))

    assert body == {
        "error": {
            "code": "invalid_argument",
            "message": "k is 0; ask for 1 to 9",
            "field": "k",
            "limit": "1 .. 9",
            "request_id": "abc",
        }
    }


def test_the_precise_wait_is_in_the_body() -> None:
    """The header counts seconds; a client with a 50 ms budget needs milliseconds."""
    detail = http_status.error_detail(NotReady("starting", retry_after_s=0.25), "abc")

    assert detail.retry_after_ms == 250


def test_grpc_errors_carry_the_same_facts() -> None:
    """ErrorInfo has code, field, limit and request id; RetryInfo has the wait."""
    raw = grpc_status.error_details(Overloaded("shop", 9, 8, 0.25), "abc")

    status = status_pb2.Status.FromString(raw)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, dict(info.metadata)) == ("overloaded", {"request_id": "abc", "limit": "8"})
    assert retry.retry_delay.ToMilliseconds() == 250
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


def test_a_refused_key_is_not_a_wrong_field() -> None:
    """No BadRequest detail where no field is named."""
    status = status_pb2.Status.FromString(grpc_status.error_details(Unauthenticated("no key"), "abc"))

    assert len(status.details) == 1
