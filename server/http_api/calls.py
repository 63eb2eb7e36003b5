"""One HTTP request by ASGI, for endpoints that read a body, answer once or in events, and notice who leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

from msgspec import Struct

from server.errors import MalformedRequest, NotReady, RequestTooLarge, ServeError
from server.http_api.asgi import Receive, Send
from server.http_api.openai.errors import error_body
from server.http_api.schemas import encode
from server.http_api.status import STATUS, retry_after
from server.request_ids import chosen_request_id, sane_traceparent

Header = tuple[bytes, bytes]
SSE: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
JSON: Header = (b"content-type", b"application/json")


def sse(name: str, data: Struct) -> bytes:
    """An event with its name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(data))


class ReaderLeft(Exception):
    """The connection is gone: there is nobody to answer."""


class HttpCall:
    """A request and its one answer.

    Attributes:
        headers: names in lower case; of a repeated header the last.
        request_id: the caller's, or a new one.
        started: whether the head of the answer is sent.
    """

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = chosen_request_id(self.headers.get(b"x-request-id"))
        self.started = False
        self._path: str = scope["path"]
        self._receive = receive
        self._send = send

    async def body(self, most_bytes: int) -> bytearray:
        """All of the body.

        Raises:
            ReaderLeft: it ended early.
            RequestTooLarge: it is longer than that; the rest is not read.
        """
        body = bytearray()
        async for piece in self.pieces(most_bytes):
            body += piece
        return body

    async def pieces(self, most_bytes: int) -> AsyncIterator[bytes]:
        """The body as it comes; raises what ``body`` does."""
        length, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ReaderLeft
            piece = message.get("body", b"")
            more = message.get("more_body", False)
            length += len(piece)
            if length > most_bytes:
                raise RequestTooLarge(length, most_bytes)
            yield piece

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Run a block whose body has been read, and end it with ``ReaderLeft`` when the caller hangs up."""
        task = asyncio.current_task()
        assert task is not None
        left = False

        def leave(watch: asyncio.Future[Any]) -> None:
            nonlocal left
            if not watch.cancelled():
                left = True
                task.cancel()

        watch = asyncio.ensure_future(self._receive())
        watch.add_done_callback(leave)
        try:
            yield
        except asyncio.CancelledError:
            if left and task.uncancel() == 0:
                raise ReaderLeft from None
            raise
        finally:
            watch.remove_done_callback(leave)
            watch.cancel()

    async def reply(self, status: int, body: bytes, *headers: Header) -> None:
        """Answer whole."""
        self.started = True
        all_headers = [*headers, (b"content-length", b"%d" % len(body)), *self._own()]
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def write(self, data: bytes, *headers: Header) -> None:
        """A piece of an answer; ``headers`` go with the first."""
        if not self.started:
            self.started = True
            head = {"type": "http.response.start", "status": 200, "headers": [*headers, *self._own()]}
            await self._send(head)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        """The end of an answer in pieces."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, error: ServeError) -> None:
        """Answer with an error and its status, or end the stream with an ``error`` event."""
        data = error_body(self._path, error, self.request_id)
        if self.started:
            event = b"event: error\ndata: %b\n\n" % data
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
            return
        headers = [JSON]
        wait = retry_after(error)
        if wait is not None:
            headers.append((b"retry-after", wait))
        if isinstance(error, NotReady):
            headers.append((b"connection", b"close"))
        await self.reply(STATUS[error.code], data, *headers)

    def deadline_s(self) -> float | None:
        """Of the header ``x-deadline-ms``; None without it."""
        given = self.headers.get(b"x-deadline-ms")
        if given is None:
            return None
        try:
            return float(given) * 1e-3
        except ValueError:
            raise MalformedRequest(
                f"x-deadline-ms is {given[:40].decode('latin-1')!r}; give milliseconds",
                field="x-deadline-ms",
                limit="a number",
            ) from None

    def _own(self) -> list[Header]:
        headers = [(b"x-request-id", self.request_id.encode())]
        trace = self.headers.get(b"traceparent")
        if trace is not None and sane_traceparent(trace):
            headers.append((b"traceparent", trace))
        return headers
