"""uvicorn's HTTP/1.1 connection, with the hot paths answered in place.

A POST to a hot path never becomes an ASGI cycle: no scope, no task, no queue of events. Its bytes go from the parser to
the endpoint, and the answer goes from the pipeline's callback to the transport. Everything else runs as uvicorn runs it,
on the same connection and in the same order, so keep-alive and pipelining hold across both kinds. Measured on the
fake recommender this takes a request from about 125 to about 52 microseconds of CPU, most of it the two system calls.

What uvicorn leaves to a proxy in front is done here as well, for every path: a limit on the head and on the body before
it is buffered, and an end to clients that send or read a byte a second (``connections.py`` holds the clock for that).

It overrides internals of uvicorn's ``HttpToolsProtocol`` (0.54); ``tests/server/test_http_connection.py`` is what tells
when another version no longer fits.
"""

from __future__ import annotations

import logging
import time
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import (
    HeadTooLarge,
    MalformedRequest,
    NotReady,
    RequestTooLarge,
    ServeError,
    TooManyBytes,
)
from server.http_api.connections import Connections
from server.http_api.hot_exchange import HotExchange, Refusal
from server.http_api.recommend import Endpoint

log = logging.getLogger("vitrine.http")

MAX_HEAD_BYTES = 32 * 1024
# Requests that wait behind another on one connection. Reading goes on up to here, because a connection that is not read
# does not notice that its client has left; a long body in line stops it earlier.
MAX_IN_LINE = 32
MAX_IN_LINE_BYTES = 64 * 1024
# How long what a refused client still sends is read and thrown away, so that it can read our answer.
LINGER_S = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class VitrineProtocol(HttpToolsProtocol):
    """One connection. ``bound`` makes the class that uvicorn instantiates."""

    hot: dict[bytes, Endpoint]
    known: Connections
    max_body_bytes: int

    _dates: tuple[object, bytes] = (None, b"")

    @classmethod
    def bound(
        cls, endpoints: list[Endpoint], connections: Connections, max_body_bytes: int
    ) -> type[VitrineProtocol]:
        """A class with what its connections share."""
        members = {
            "hot": {e.path: e for e in endpoints},
            "known": connections,
            "max_body_bytes": max_body_bytes,
        }
        return cast(type[VitrineProtocol], type("BoundVitrineProtocol", (cls,), members))

    # --- the connection ---

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        self.url = b""
        self.head_bytes = 0  # at least, of a head that is not whole yet
        self.head_at_most_bytes = 0
        self.packet_bytes = 0
        self.in_head = False
        self.wants_upgrade = False
        self.discarding_until_s: float | None = None
        self.receiving_since_s: float | None = None
        self.idle_since_s = time.monotonic()
        self.stalled_since_s: float | None = None
        self.unread_bytes = 0  # of our answers, at the last sweep
        self._advancing = False
        self.body_bytes = 0
        self.held_bytes = 0  # of the shared budget
        self._active: Any = None  # first in line: a HotExchange, or a cycle of uvicorn's
        self._refused = False
        if not self.known.add(self):
            self._refuse_outright(
                NotReady("too many connections; keep fewer open, or try another replica"),
                counted="connections",
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: drop what it asked for."""
        self.known.discard(self)
        self._give_back()
        cycle = self.cycle
        if isinstance(cycle, HotExchange):
            cycle.leave()
        if isinstance(self._active, HotExchange):
            self._active.leave()  # those behind it have not begun
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._refused:
            return  # lingering: thrown away without a look
        if self.receiving_since_s is None or self.in_head:
            self.head_bytes += len(data)
            self.head_at_most_bytes += len(data)
        self.packet_bytes = len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            if not self._refused:
                cause = error.__context__
                if cause is not None and not isinstance(
                    cause, UnicodeDecodeError | httptools.HttpParserError
                ):
                    log.error("connection failed", exc_info=cause)
                self._refuse_outright(MalformedRequest("this is not an HTTP/1.1 request", field="request"))
            return
        if self.in_head and self.head_bytes > MAX_HEAD_BYTES and not self._refused:
            self._refuse_outright(HeadTooLarge(MAX_HEAD_BYTES), status=431)

    def _feed(self, data: bytes) -> None:
        """Parse; a request that asks for another protocol is read again from its head, without the wish.

        The parser ends at such a head, whatever body follows it; RFC 9110 lets us answer as if we had not been asked.
        """
        rest: bytes | memoryview = data
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self.wants_upgrade:
                    return  # CONNECT, which has its answer
                rest = memoryview(rest)[upgrade.args[0] :]
            self.wants_upgrade = False
            old = self.parser
            lines = [b"%b: %b\r\n" % pair for pair in self.headers if pair[0] != b"upgrade"]
            line = b"%b %b HTTP/%b\r\n" % (old.get_method(), self.url, old.get_http_version().encode())
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
            self.parser.feed_data(b"%b%b\r\n" % (line, b"".join(lines)))

    def resume_writing(self) -> None:
        """The client takes its answers again: go on with what waits in line."""
        super().resume_writing()
        if self._active is None or self._active.response_complete:
            self._advance()

    def is_idle(self) -> bool:
        """Whether every request so far has its answer."""
        return self.cycle is None or self.cycle.response_complete

    # --- the parser's callbacks ---

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.in_head = True
        self.head_at_most_bytes = self.packet_bytes
        self.body_bytes = 0
        self.receiving_since_s = time.monotonic()

    def on_headers_complete(self) -> None:
        """The head is whole: hot, cold, or too large."""
        self.in_head = False
        self.head_bytes = 0
        if self._refused:
            return
        parser = self.parser
        if self.head_at_most_bytes > MAX_HEAD_BYTES and self._parsed_head_bytes() > MAX_HEAD_BYTES:
            self._refuse_outright(HeadTooLarge(MAX_HEAD_BYTES), dict(self.headers), status=431)
            return
        if parser.should_upgrade() and parser.get_method() != b"CONNECT":
            self.wants_upgrade = True
            return
        headers = dict(self.headers)
        endpoint = self.hot.get(self.url) if parser.get_method() == b"POST" else None
        length = headers.get(b"content-length")
        if length is not None and int(length) > self.max_body_bytes:
            self._refuse_outright(RequestTooLarge(int(length), self.max_body_bytes), headers)
        elif endpoint is None:
            self._begin_cold()
        else:
            keep_alive = parser.get_http_version() != "1.0" and parser.should_keep_alive()
            self._queue(HotExchange(self, endpoint, headers, keep_alive), length)

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        if self._refused:
            return
        self.body_bytes += len(body)
        cycle = self.cycle
        try:
            self.known.budget.take(len(body))
        except TooManyBytes as error:
            self._refuse_outright(error)
            return
        self.held_bytes += len(body)
        if self.body_bytes > self.max_body_bytes:
            self._refuse_outright(RequestTooLarge(self.body_bytes, self.max_body_bytes))
        elif not isinstance(cycle, HotExchange):
            super().on_body(body)
        elif not cycle.active and self.body_bytes > MAX_IN_LINE_BYTES:
            self.flow.pause_reading()
            _append(cycle, body)
        elif cycle.response_complete:
            pass  # refused before its body came: read on, to keep the connection
        else:
            _append(cycle, body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.receiving_since_s = None
        self._give_back()
        if self._refused or self.wants_upgrade:
            return
        cycle = self.cycle
        if isinstance(cycle, HotExchange):
            cycle.received = True
            if cycle.active and not cycle.response_complete:
                self._run(cycle)
        else:
            super().on_message_complete()

    def _parsed_head_bytes(self) -> int:
        lines = sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)
        return len(self.parser.get_method()) + len(self.url) + len(b"  HTTP/1.1\r\n\r\n") + lines

    # --- order on the connection ---

    def _begin_cold(self) -> None:
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expect
        self.scope["headers"] = headers
        super().on_headers_complete()

    def _queue(self, hot: HotExchange, length: bytes | None) -> None:
        before = self.cycle
        self.cycle = cast(Any, hot)
        if (before is None or before.response_complete) and not self.flow.write_paused:
            hot.active = True
            self._active = hot
            if self.expect_100_continue:
                self.transport.write(_CONTINUE)
            if (
                length is not None
                and int(length) > MAX_HEAD_BYTES
                and hot.endpoint
                and hot.endpoint.refuses_now()
            ):
                self._run(hot)  # refused now, not after a long body has been read
        else:
            self.pipeline.appendleft((cast(Any, hot), self.app))
            if len(self.pipeline) >= MAX_IN_LINE:
                self.flow.pause_reading()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._active = cycle
        if not isinstance(cycle, HotExchange):
            super()._start_asgi_task(cycle, app)
            return
        cycle.active = True
        if cycle.received:
            self._run(cycle)
        elif self.expect_100_continue:
            self.transport.write(_CONTINUE)

    def _run(self, hot: HotExchange) -> None:
        endpoint = hot.endpoint
        assert endpoint is not None
        work = endpoint.start(hot)
        if not hot.response_complete:
            hot.work = work

    def on_response_complete(self) -> None:
        """Go on with the next request on this connection, in a loop and not by recursion: there may be thousands."""
        self.server_state.total_requests += 1
        self.idle_since_s = time.monotonic()
        self._active = None
        self._advance()

    def _advance(self) -> None:
        if self._advancing or self.transport.is_closing():
            return
        self._advancing = True
        try:
            while self.pipeline and not self._refused and not self.flow.write_paused:
                cycle, app = self.pipeline.pop()
                self._start_asgi_task(cycle, app)
                if not cycle.response_complete:
                    break
        finally:
            self._advancing = False
        if len(self.pipeline) < MAX_IN_LINE and not self.flow.write_paused:
            self.flow.resume_reading()

    def _give_back(self) -> None:
        if self.held_bytes:
            self.known.budget.give(self.held_bytes)
            self.held_bytes = 0

    # --- refusals ---

    def date_line(self) -> bytes:
        """The default header lines, which uvicorn renews once a second."""
        headers = self.server_state.default_headers
        cached = VitrineProtocol._dates
        if cached[0] is not headers:
            cached = (headers, b"".join(b"%b: %b\r\n" % pair for pair in headers))
            VitrineProtocol._dates = cached
        return cached[1]

    def send_400_response(self, msg: str) -> None:
        """Refuse what does not parse."""
        self._refuse_outright(MalformedRequest(msg, field="request"))

    def end_connection(self, whole: bool) -> None:
        """Close after the last answer; where the client is still sending, read on for a while so that it can read."""
        if whole or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._refused = True
        self.discarding_until_s = time.monotonic() + LINGER_S
        self.flow.resume_reading()
        self.transport.write_eof()

    def time_out(self) -> None:
        """The request has not arrived whole in time."""
        if isinstance(self.cycle, HotExchange) and self.cycle.response_complete and not self.cycle.received:
            self.transport.close()  # refused already, before its body was there: a second answer would be another's
            return
        self._refuse_outright(
            MalformedRequest(
                f"the request did not arrive whole within {self.known.read_timeout_s:g} s; send it in one go",
                field="request",
                limit=f"{self.known.read_timeout_s:g} s",
            ),
            status=408,
            counted="timeout",
        )

    def _refuse_outright(
        self,
        error: ServeError,
        headers: dict[bytes, bytes] | None = None,
        status: int | None = None,
        counted: str = "",
    ) -> None:
        current = self.cycle
        self._refused = True
        self._give_back()
        self.known.telemetry.rejected(counted or error.code.value)
        if self.pipeline or (
            current is not None and not current.response_complete and not _is_arriving(current)
        ):
            self.transport.close()  # earlier answers are still owed on this connection: this one has no place
            return
        if isinstance(current, HotExchange):
            current.leave()
        elif current is not None and not current.response_complete:
            current.disconnected = True  # its task ends by http.disconnect
            current.message_event.set()
        refusal = Refusal(self, headers or {}, status)
        refusal.close_after = True
        self.cycle = cast(Any, refusal)
        refusal.reply_error(error)


def _is_arriving(cycle: Any) -> bool:
    if isinstance(cycle, HotExchange):
        return cycle.active and not cycle.received
    return bool(cycle.more_body and not cycle.response_started)


def _append(hot: HotExchange, body: bytes) -> None:
    if not hot.body:
        hot.body = body
    else:
        if isinstance(hot.body, bytes):
            hot.body = bytearray(hot.body)
        hot.body += body
