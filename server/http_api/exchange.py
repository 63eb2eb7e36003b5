"""One HTTP request on a hot path and its one answer, whatever carries it.

``protocol.py`` carries it straight from uvicorn's connection, ``asgi.py`` through ASGI; endpoints see only this. An
exchange also holds what belongs to every answer: the request id, the trace, and the error body.
"""

from __future__ import annotations

from server.errors import NotReady, ServeError
from server.http_api.schemas import encode
from server.http_api.status import STATUS, ErrorBody, error_detail, retry_after
from server.request_ids import chosen_request_id, sane_traceparent

JSON = b"application/json"


class Exchange:
    """A request with its headers and whole body, to be answered once by ``reply``.

    Attributes:
        headers: names in lower case; of a repeated header the last.
        body: all of it, within the limit.
        close_after: whether the connection ends with this answer.
    """

    __slots__ = ("_request_id", "body", "close_after", "headers")

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self.headers = headers
        self.body: bytes | bytearray = b""
        self.close_after = False
        self._request_id: str | None = None

    @property
    def request_id(self) -> str:
        """The caller's ``x-request-id`` if it is up to 128 printable characters, else a new one."""
        if self._request_id is None:
            self._request_id = chosen_request_id(self.headers.get(b"x-request-id"))
        return self._request_id

    def send(self, status: int, extra: bytes, body: bytes, kind: bytes = JSON) -> None:
        """Put the answer on the wire; ``extra`` is whole header lines, each with its line end."""
        raise NotImplementedError

    def reply(self, status: int, body: bytes, extra: bytes = b"", kind: bytes = JSON) -> None:
        """Answer; with JSON, unless ``kind`` is another media type."""
        traceparent = self.headers.get(b"traceparent")
        if traceparent is not None and sane_traceparent(traceparent):
            extra = b"%btraceparent: %b\r\n" % (extra, traceparent)
        self.send(status, b"%bx-request-id: %b\r\n" % (extra, self.request_id.encode()), body, kind)

    def reply_error(self, error: ServeError) -> None:
        """Answer with the error body, and with when to try again where that makes sense."""
        if isinstance(error, NotReady):
            self.close_after = True  # a balancer should send the next request elsewhere
        status = STATUS[error.code]
        wait = retry_after(error)
        extra = b"" if wait is None else b"retry-after: %b\r\n" % wait
        if status == 401:
            extra += b"www-authenticate: Bearer\r\n"
        self.reply(status, self.error_body(error), extra)

    def error_body(self, error: ServeError) -> bytes:
        """The body that says what went wrong."""
        return encode(ErrorBody(error_detail(error, self.request_id)))
