"""A request on a hot path, on its uvicorn connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from server.errors import ServeError
from server.http_api.exchange import JSON, Exchange
from server.http_api.openai.errors import error_body
from server.http_api.recommend import Cancellable, Endpoint

if TYPE_CHECKING:
    from server.http_api.protocol import VitrineProtocol

_JSON = b"content-type: application/json\r\ncontent-length: "
_TYPED = b"content-type: %b\r\ncontent-length: "


class _NoEvent:
    def set(self) -> None:
        pass


class HotExchange(Exchange):
    """A hot request on one connection; looks to uvicorn like a cycle of its own kind."""

    __slots__ = (
        "active",
        "disconnected",
        "endpoint",
        "keep_alive",
        "protocol",
        "received",
        "response_complete",
        "work",
    )
    message_event = _NoEvent()

    def __init__(
        self,
        protocol: VitrineProtocol,
        endpoint: Endpoint | None,
        headers: dict[bytes, bytes],
        keep_alive: bool,
    ) -> None:
        super().__init__(headers)
        self.protocol = protocol
        self.endpoint = endpoint
        self.keep_alive = keep_alive
        self.active = False  # first in line on its connection
        self.received = False  # whole
        self.response_complete = False
        self.disconnected = False
        self.work: Cancellable | None = None

    def send(self, status: int, extra: bytes, body: bytes, kind: bytes = JSON) -> None:
        """Write the answer in one piece and let the connection go on."""
        if self.response_complete or self.disconnected:
            return
        self.response_complete = True
        self.work = None
        protocol = self.protocol
        if self.close_after:
            self.keep_alive = False
        protocol.transport.write(
            b"".join(
                (
                    STATUS_LINE[status],
                    protocol.date_line(),
                    _JSON if kind is JSON else _TYPED % kind,
                    b"%d\r\n" % len(body),
                    extra,
                    b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n",
                    body,
                )
            )
        )
        if not self.keep_alive:
            protocol.end_connection(self.received)
        protocol.on_response_complete()

    def leave(self) -> None:
        """The connection is gone."""
        self.disconnected = True
        work, self.work = self.work, None
        if work is not None:
            work.cancel()


class Refusal(HotExchange):
    """The last answer of a connection that the protocol itself refuses; may have a status outside the table."""

    __slots__ = ("_status",)

    def __init__(self, protocol: VitrineProtocol, headers: dict[bytes, bytes], status: int | None) -> None:
        super().__init__(protocol, None, headers, False)
        self._status = status

    def send(self, status: int, extra: bytes, body: bytes, kind: bytes = JSON) -> None:
        """With the status of its own, if it has one."""
        super().send(self._status or status, extra, body, kind)

    def error_body(self, error: ServeError) -> bytes:
        """In the form that callers of this path expect."""
        return error_body(self.protocol.url, error, self.request_id)
