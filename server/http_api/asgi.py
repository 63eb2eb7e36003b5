"""A hot endpoint as an ASGI application: the same answers, for requests that did not come by ``protocol.py``.

That is a request with a query string, and any other ASGI server or test client that runs the app. One endpoint object
serves both ways, so they cannot differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from server.errors import RequestTooLarge
from server.http_api.exchange import JSON, Exchange
from server.http_api.recommend import Endpoint

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiExchange(Exchange):
    """Keeps the answer until the application's coroutine sends it."""

    __slots__ = ("answer",)

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        super().__init__(headers)
        self.answer: asyncio.Future[tuple[int, bytes, bytes, bytes]] = (
            asyncio.get_running_loop().create_future()
        )

    def send(self, status: int, extra: bytes, body: bytes, kind: bytes = JSON) -> None:
        """Hand the answer over, unless one was."""
        if not self.answer.done():
            self.answer.set_result((status, extra, body, kind))


class HotAsgi:
    """One endpoint behind ASGI."""

    def __init__(self, endpoint: Endpoint, max_body_bytes: int) -> None:
        self._endpoint = endpoint
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Read the body within its limit, answer, and drop the work if the caller leaves before."""
        exchange = AsgiExchange(dict(scope["headers"]))
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._max_body_bytes:
                exchange.close_after = True
                exchange.reply_error(RequestTooLarge(len(body), self._max_body_bytes))
                break
        if not exchange.answer.done():
            exchange.body = body
            work = self._endpoint.start(exchange)
            left = asyncio.ensure_future(receive())
            await asyncio.wait((exchange.answer, left), return_when=asyncio.FIRST_COMPLETED)
            left.cancel()
            if not exchange.answer.done():
                if work is not None:
                    work.cancel()
                return
        status, extra, answer, kind = exchange.answer.result()
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(answer))]
        for line in extra.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            headers.append((name, value))
        if exchange.close_after:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer, "more_body": False})
