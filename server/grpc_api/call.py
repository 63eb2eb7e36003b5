"""One gRPC call on its stream: messages in, messages and one status out.

Methods see only this. A call ends exactly once, by ``reply``, ``finish``, ``fail`` or by its caller's leaving; what is
done to it afterwards does nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from server.errors import MalformedRequest, RequestTooLarge, ServeError
from server.grpc_api import wire
from server.grpc_api.status import DETAILS_KEY, STATUS, error_details
from server.http2.header_blocks import Headers, literal
from server.http2.streams import Stream
from server.request_ids import chosen_request_id, sane_traceparent

if TYPE_CHECKING:
    from server.grpc_api.protocol import GrpcProtocol


class Work(Protocol):
    """What goes on for a call."""

    def cancel(self) -> None:
        """The caller left: drop it; safe at any time."""
        ...


class Method(Protocol):
    """What answers the calls of one path.

    Attributes:
        takes_stream: whether it wants to begin before the caller's messages are there, and takes any number of them.
        keyed: whether the connection checks the caller's key; else the method does.
        holds_drain: whether a server that stops waits for its calls.
    """

    takes_stream: bool
    keyed: bool
    holds_drain: bool

    def start(self, call: Call) -> Work | None:
        """Begin; never raises. Without ``takes_stream``, ``call.body`` is the one message."""
        ...


class Call:
    """See the module.

    Attributes:
        headers: of the call, to be read only.
        body: the message of a call that has one.
        method: what answers.
        work: what goes on for it.
        arrived_s: when its headers were there.
        timeout_s: what its caller gave it; None: no limit.
        refusal: ends the call, which was refused by its headers, once its caller can take that.
        complete: whether all of the caller's messages are there.
        ended: whether the call is over.
    """

    __slots__ = (
        "_buffer",
        "_held",
        "_opened",
        "_protocol",
        "_request_id",
        "_unused",
        "arrived_s",
        "body",
        "complete",
        "ended",
        "headers",
        "messages",
        "method",
        "on_message",
        "on_sent",
        "refusal",
        "stream",
        "timeout_s",
        "work",
    )

    def __init__(self, protocol: GrpcProtocol, stream: Stream, method: Method) -> None:
        self._protocol = protocol
        self._request_id: str | None = None
        self._buffer: bytes | bytearray = b""
        self._unused = 0  # bytes of messages that are not taken yet
        self._held = 0  # of the budget
        self._opened = False
        self.stream = stream
        self.headers: Headers = stream.headers
        self.method = method
        self.body = b""
        self.work: Work | None = None
        self.messages: deque[bytes] = deque()
        self.on_message: Callable[[], None] | None = None
        self.on_sent: Callable[[], None] | None = None
        self.refusal: Callable[[], None] | None = None
        self.arrived_s = time.monotonic()
        self.timeout_s: float | None = None
        self.complete = False
        self.ended = False

    @property
    def request_id(self) -> str:
        """The caller's ``x-request-id`` if it is up to 128 printable characters, else a new one."""
        if self._request_id is None:
            self._request_id = chosen_request_id(self.headers.get(b"x-request-id"))
        return self._request_id

    # --- in ---

    def feed(self, data: bytes, ended: bool) -> None:
        """Bytes of messages.

        Raises:
            MalformedRequest, RequestTooLarge: they are none that can be taken.
            TooManyBytes: too many bytes of all calls wait already.
        """
        self.hold(len(data))
        self._unused += len(data)
        if not self._buffer:
            self._buffer = data
        elif data:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data
        most = self._protocol.max_message_bytes
        while len(buffer := self._buffer) >= wire.PREFIX_BYTES:
            size = int.from_bytes(buffer[1:5], "big")
            if size > most:
                raise RequestTooLarge(size, most)
            end = wire.PREFIX_BYTES + size
            if len(buffer) < end:
                break
            message = bytes(buffer[:end])
            self._buffer = buffer[end:]
            if self.messages and not self.method.takes_stream:
                raise MalformedRequest("the call carries more than one message", field="message")
            self.messages.append(message)
        if ended:
            if self._buffer:
                raise MalformedRequest("the call ends within a message", field="message")
            if not self.messages and not self.method.takes_stream:
                raise MalformedRequest("the call carries no message", field="message")
            self.complete = True

    def hold(self, size: int) -> None:
        """Count bytes that wait with this call.

        Raises:
            TooManyBytes: too many wait already.
        """
        self._protocol.budget.take(size)
        self._held += size

    def use(self) -> bytes:
        """Take the next message (there must be one) and let the caller send as much again.

        Only now is it unpacked: were it before, calls that never end could hold a thousand times what they sent.

        Raises:
            MalformedRequest, RequestTooLarge: it does not unpack to a message of the allowed size.
        """
        message = self.messages.popleft()
        if not self.messages:
            self._give_back()
        payload = message[wire.PREFIX_BYTES :]
        if message[0]:
            return wire.inflated(
                payload, self.headers.get(b"grpc-encoding"), self._protocol.max_message_bytes
            )
        return payload

    # --- out ---

    def remaining_s(self) -> float | None:
        """Seconds left of what the caller gave; None: no limit."""
        return None if self.timeout_s is None else self.arrived_s + self.timeout_s - time.monotonic()

    def reply(self, payload: bytes, trailing: bytes = b"") -> None:
        """The one answer, and the end."""
        if self._ends():
            self.work = None
            self._protocol.http2.out.answer(
                self.stream, wire.OPENING, wire.message(payload), wire.OK_END + trailing + self._marks()
            )

    def send(self, payload: bytes) -> bool:
        """One of many answers; False: it waits for the caller to read, and ``on_sent`` is called when it need not."""
        if self.ended:
            return True
        self._open()
        return (
            self._protocol.http2.out.send(self.stream, wire.message(payload))
            and not self._protocol.write_paused
        )

    def finish(self, trailing: bytes = b"") -> None:
        """The end after ``send``."""
        if self._ends():
            self.work = None
            self._open()
            self._protocol.http2.out.finish(self.stream, wire.OK_END + trailing + self._marks())

    def fail(self, code: int, text: str, trailing: bytes = b"") -> None:
        """The end with a status that is not OK."""
        if self._ends():
            self.work = None
            block = wire.ending(code, text, trailing + self._marks())
            if not self._opened:
                block = b"\x88" + literal(b"content-type", b"application/grpc") + block
            self._protocol.http2.out.finish(self.stream, block)

    def reply_error(self, error: ServeError) -> None:
        """The end with an error of ours, its details and a request id."""
        details = wire.metadata_literals([(DETAILS_KEY, error_details(error, self.request_id))])
        self.fail(STATUS[error.code].value[0], error.message, details)

    def leave(self) -> None:
        """The caller is gone."""
        if self._ends():
            work, self.work = self.work, None
            if work is not None:
                work.cancel()

    def _ends(self) -> bool:
        if self.ended:
            return False
        self.ended = True
        self._give_back()
        self.messages.clear()
        self._buffer = self.body = b""
        self.refusal = None
        return True

    def _give_back(self) -> None:
        self._protocol.budget.give(self._held)
        self._held = 0
        if self._unused:
            self._protocol.http2.credit(self.stream, self._unused)
            self._unused = 0

    def _open(self) -> None:
        if not self._opened:
            self._opened = True
            self._protocol.http2.out.send_headers(self.stream, wire.OPENING)

    def _marks(self) -> bytes:
        block = literal(b"x-request-id", self.request_id.encode())
        traceparent = self.headers.get(b"traceparent")
        if traceparent is not None and sane_traceparent(traceparent):
            block += literal(b"traceparent", traceparent)
        return block
