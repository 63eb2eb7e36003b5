"""The gRPC connection: HTTP/2 on a transport, each stream a call to one of our methods.

``grpc.aio`` takes 255 to 310 microseconds of CPU for an empty call here, most of it in handing each call between its own
threads and the loop; HTTP takes 52. This connection reads frames where they arrive and writes an answer in one piece, as
the HTTP connection does (``bench`` measures both).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from server.byte_budget import ByteBudget, Share
from server.errors import ServeError
from server.grpc_api import wire
from server.grpc_api.call import Call, Method
from server.http2.connection import Connection
from server.http2.frames import ErrorCode
from server.http2.streams import Limits, Stream
from server.keys import Keys
from server.telemetry_interface import NullTelemetry

log = logging.getLogger("vitrine.grpc")

_REFUSED_UNREAD_BYTES = 8 * 1024  # of one frame: what has a long message need not send it all to be refused
_LONG_BLOCK_BYTES = 512  # of headers: what is longer counts as bytes that wait
UNIMPLEMENTED, UNAVAILABLE, DEADLINE_EXCEEDED = 12, 14, 4


@dataclass(slots=True, kw_only=True)
class Shared:
    """What all connections of a server have in common.

    Attributes:
        methods: by path.
        keys: who may call.
        telemetry: where refusals by the connection itself are counted.
        max_message_bytes: largest message.
        budget: for messages that are not yet taken, of all connections together.
        max_connections: open at once.
        limits: of HTTP/2.
        read_timeout_s: a request must have arrived whole within this.
        write_timeout_s: what is to be sent must have been taken within this.
        ping_after_s: a silent client is asked whether it is there; one that says nothing for half as long again is not.
        open: the connections.
        draining: whether new connections are refused.
    """

    methods: dict[bytes, Method]
    keys: Keys
    telemetry: NullTelemetry
    max_message_bytes: int
    budget: ByteBudget
    max_connections: int
    limits: Limits
    read_timeout_s: float
    write_timeout_s: float
    ping_after_s: float = 60.0
    open: set[GrpcProtocol] = field(default_factory=set)
    draining: bool = False


class GrpcProtocol(asyncio.Protocol):
    """One connection; is told by its ``Connection`` what its client does (``http2.streams.Events``)."""

    transport: Any

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.max_message_bytes = shared.max_message_bytes
        largest_bytes = shared.max_message_bytes + wire.PREFIX_BYTES + shared.limits.head_bytes
        self.budget = Share(shared.budget, least_bytes=largest_bytes)
        self.write_paused = False
        self._unwritten_bytes = 0
        self.opened_s = self.heard_s = time.monotonic()
        self.stalled_since_s: float | None = None

    # --- the transport ---

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        self.transport = transport
        self.http2 = Connection(self, transport.write, self.shared.limits)
        self.shared.open.add(self)
        if self.shared.draining or len(self.shared.open) > self.shared.max_connections:
            if not self.shared.draining:
                self.shared.telemetry.rejected("connections")
            self.http2.end(ErrorCode.ENHANCE_YOUR_CALM, "too many connections, or the server is going")
            transport.close()
            return
        self.http2.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: drop what it asked for."""
        self.shared.open.discard(self)
        self.http2.detach()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self.heard_s = time.monotonic()
        http2 = self.http2
        http2.receive(data)
        if http2.ended:
            if http2.fault is not None:
                self.shared.telemetry.rejected("http2")
                http2.fault = None
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read: what it asks meanwhile is not read either."""
        self.write_paused = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self.write_paused = False
        self.transport.resume_reading()
        for call in self.calls():
            if call.on_sent is not None:
                call.on_sent()

    # --- what the client does ---

    def opened(self, stream: Stream, ended: bool) -> None:
        """A call begins."""
        headers = stream.headers
        if headers.get(b":method") != b"POST" or not headers.get(b"content-type", b"").startswith(
            b"application/grpc"
        ):
            self.http2.out.finish(stream, wire.NOT_GRPC)
            return
        path = headers.get(b":path", b"")
        method = self.shared.methods.get(path)
        call = stream.owner = Call(self, stream, method or _NONE)
        encoding = headers.get(b"grpc-encoding", b"identity")
        if method is None:
            call.refusal = functools.partial(
                call.fail, UNIMPLEMENTED, f"there is no method {path[:200].decode('latin-1')} here"
            )
        elif encoding != b"identity" and encoding not in wire.ENCODINGS:
            call.refusal = functools.partial(
                call.fail, UNIMPLEMENTED, "messages may be compressed by gzip or deflate, not otherwise"
            )
        else:
            try:
                if stream.block_bytes > _LONG_BLOCK_BYTES:
                    call.hold(stream.block_bytes)
                call.timeout_s = wire.timeout_s(headers)
                if method.keyed and self.shared.keys.required:
                    self.shared.keys.check(headers.get(b"authorization"), headers.get(b"x-api-key"))
            except ServeError as error:
                call.refusal = functools.partial(self._refuse, call, error)
        if call.method.takes_stream and call.refusal is None:
            call.work = call.method.start(call)
        if ended:
            self.received(stream, b"", True)

    def received(self, stream: Stream, data: bytes, ended: bool) -> None:
        """A part of a call's messages."""
        call: Call = stream.owner
        if call.ended:  # and its end waits for the client's window
            self.http2.credit(stream, len(data))
            return
        try:
            call.feed(data, ended)
            if call.complete and call.refusal is None and not call.method.takes_stream:
                call.body = call.use()
        except ServeError as error:
            work = call.work
            self._refuse(call, error)
            if work is not None:
                work.cancel()
            return
        if call.refusal is not None:
            # Not before a message is there: grpcio shows a status that comes while it still sends as a fault of its own.
            if ended or call.messages or len(data) >= _REFUSED_UNREAD_BYTES:
                call.refusal()
        elif call.method.takes_stream:
            if call.on_message is not None:
                call.on_message()
        elif call.complete:
            work = call.method.start(call)
            if not call.ended:
                call.work = work

    def left(self, stream: Stream) -> None:
        """A call's caller is gone."""
        if stream.owner is not None:
            stream.owner.leave()

    def sent(self, stream: Stream) -> None:
        """A caller has taken what waited."""
        if stream.owner is not None and stream.owner.on_sent is not None and not self.write_paused:
            stream.owner.on_sent()

    def _refuse(self, call: Call, error: ServeError) -> None:
        self.shared.telemetry.rejected(error.code.value)
        call.reply_error(error)

    # --- time ---

    def calls(self) -> list[Call]:
        """Those that are open."""
        return [stream.owner for stream in list(self.http2.streams.values()) if stream.owner is not None]

    def sweep(self, now_s: float) -> None:
        """End what keeps us waiting too long."""
        shared, http2 = self.shared, self.http2
        unwritten_bytes = self.transport.get_write_buffer_size()
        if unwritten_bytes == 0 or unwritten_bytes != self._unwritten_bytes:
            self.stalled_since_s = None  # it goes on, however slowly
        if unwritten_bytes > 0:
            if self.stalled_since_s is None:
                self.stalled_since_s = now_s
            elif now_s - self.stalled_since_s >= shared.write_timeout_s:
                self.transport.abort()
                return
        self._unwritten_bytes = unwritten_bytes
        if self.transport.is_closing():
            return
        if not http2.greeted:
            if now_s - self.opened_s >= shared.read_timeout_s:
                self.transport.abort()
            return
        for stream in list(http2.streams.values()):
            if (
                stream.stalled_since_s is not None
                and now_s - stream.stalled_since_s >= shared.write_timeout_s
            ):
                http2.reset(stream.number, ErrorCode.CANCEL)
        for call in self.calls():
            waits = not call.complete and (call.refusal is not None or not call.method.takes_stream)
            if waits and now_s - call.arrived_s >= shared.read_timeout_s:
                shared.telemetry.rejected("timeout")
                call.fail(
                    DEADLINE_EXCEEDED,
                    f"the message did not arrive whole within {shared.read_timeout_s:g} s; send it in one go",
                )
        silent_s = now_s - self.heard_s
        if silent_s >= shared.ping_after_s:
            if not http2.unanswered_ping:
                http2.ping()
            elif silent_s >= 1.5 * shared.ping_after_s:
                self.transport.abort()

    def close(self) -> None:
        """Say goodbye and go; calls that are still open get UNAVAILABLE."""
        for call in self.calls():
            work = call.work
            call.fail(UNAVAILABLE, "the server is going; ask another replica")
            if work is not None:
                work.cancel()
        self.http2.end()
        self.transport.close()


class _NoMethod:
    takes_stream = True
    keyed = False
    holds_drain = False

    def start(self, call: Call) -> None:
        """Never called: the call has ended before."""


_NONE = _NoMethod()
