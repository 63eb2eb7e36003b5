"""The gRPC client: unary calls over hand-written HTTP/2, on the same loop as the HTTP client.

On two cores shared with the server, what the client costs is taken from what it measures: grpcio takes 170 to
190 us of processor a call (``grpc.aio`` on uvloop; 210 us with threads and ``future``), this 95 to 105 us, of
which half is the ``send`` that wakes the server.  The wire is the real one: a few connections, many streams,
header compression, flow control, deadlines, cancellation.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from loadtest import http2
from loadtest.client import ClientOptions, Clock, Target, Unreachable
from loadtest.measure import (
    BAD_ANSWER,
    CONNECT_FAILED,
    FALLBACK,
    GRPC,
    LOST,
    MODEL,
    OPEN,
    TIMED_OUT,
    UNKNOWN_TIER,
    Recorder,
)
from loadtest.poller import Poller
from loadtest.socket_client import SocketClient

_BUFFER = 1 << 18
_LARGEST_STREAM = 2**31 - 1
_DEADLINE_EXCEEDED, _INTERNAL = 4, 13
_OF_RESET = {7: 14, 8: 1, 11: 8, 12: 7}  # HTTP/2 error code -> gRPC status; others are INTERNAL
_CANCEL = (8).to_bytes(4, "big")
_WINDOW_STEP = 1 << 28


def serialize(bodies: Sequence[bytes]) -> list[bytes]:
    """Protobuf messages for JSON bodies; the names are the same on both wires.

    Raises:
        ValueError: a body does not fit ``RecommendRequest``; names it.
    """
    from google.protobuf import json_format

    from server.grpc_api import vitrine_pb2

    messages = []
    for number, body in enumerate(bodies):
        try:
            messages.append(json_format.Parse(body, vitrine_pb2.RecommendRequest()).SerializeToString())
        except json_format.ParseError as error:
            raise ValueError(f"body {number} is no RecommendRequest: {error}") from error
    return messages


def tier_of(data: bytes) -> int:
    """Who answered, from the bytes of a RecommendResponse (field 2, a string)."""
    if b"\x12\x05model" in data:
        return MODEL
    return FALLBACK if b"\x12\x08fallback" in data else UNKNOWN_TIER


class _Connection:
    __slots__ = (
        "block",
        "connecting",
        "data",
        "headers",
        "next_stream",
        "out",
        "received",
        "sock",
        "streams",
        "streams_most",
        "tiers",
        "usable",
        "window",
    )  # fmt: skip

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.connecting = True
        self.usable = True  # new streams may be opened
        self.out = http2.hello()
        self.data = b""
        self.next_stream = 1
        self.streams: dict[int, int] = {}  # stream -> row, oldest first
        self.tiers: dict[int, int] = {}
        self.streams_most = 1 << 30
        self.window = http2.DEFAULT_WINDOW
        self.received = 0
        self.block = b""  # a header block that is continued
        self.headers = 0  # its flags


class GrpcClient(SocketClient[_Connection]):
    """See ``loadtest.client.Client``.

    Args:
        target: where to.
        messages: protobuf messages; row r sends number ``r % len(messages)``.
        recorder: where rows end.
        clock: seconds since the start of the run.
        options: connections (``channels`` of them), deadline, time-out.

    Raises:
        ValueError: a message is larger than one frame of HTTP/2 (16 KB).
    """

    def __init__(
        self,
        target: Target,
        messages: Sequence[bytes],
        recorder: Recorder,
        clock: Clock,
        options: ClientOptions,
    ) -> None:
        if not messages:
            raise ValueError("no request bodies to send")
        if max(len(message) for message in messages) > 16_000:
            raise ValueError("a message of more than 16,000 bytes does not fit one HTTP/2 frame")
        super().__init__(target, recorder, clock, options, self._drop)
        self._messages = [http2.grpc_message(message) for message in messages]
        extra = dict(options.headers)
        if options.deadline_s is not None:
            extra["grpc-timeout"] = http2.grpc_timeout(options.deadline_s)
        self._first, self._later = http2.request_blocks(f"{target.host}:{target.port}", target.path, extra)
        self._turn: list[_Connection] = []
        self._next = 0

    def open(self) -> None:
        """Connect all channels."""
        target = self._target
        try:
            self._resolve()
            family, address = self._address
            probe = socket.socket(family, socket.SOCK_STREAM)
            with probe:
                probe.settimeout(min(self._options.timeout_s, 5.0))
                probe.connect(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
            while len(self._connections) < self._options.channels:
                self._connect()
        except OSError as error:
            raise Unreachable(f"{target.host}:{target.port}", str(error)) from error

    def send(self, row: int) -> None:
        """Open a stream on the next channel that has room, else wait."""
        message = self._messages[row % len(self._messages)]
        turn = self._turn
        for _ in range(len(turn)):
            self._next = (self._next + 1) % len(turn)
            connection = turn[self._next]
            if (
                connection.usable
                and connection.window >= len(message)
                and len(connection.streams) < connection.streams_most
            ):
                self._start(connection, row, message)
                return
        if len(self._connections) < self._options.channels:
            fresh = self._connect()
            if fresh is None:
                self._recorder.end(row, CONNECT_FAILED, 0, self._clock())
            else:
                self._start(fresh, row, message)
        else:
            self.stats.waited_for_connection += 1
            self._waiting.append(row)

    def poll(self, timeout_s: float) -> None:
        """Handle what is ready."""
        for fd, events in self._poller.wait(timeout_s):
            connection = self._connections.get(fd)
            if connection is None:
                continue
            if (connection.connecting or connection.out) and not self._pushed(connection):
                continue
            if events & ~Poller.WRITE:
                self._read(connection)
        for _ in range(len(self._waiting)):
            waited = self.stats.waited_for_connection
            self.send(self._waiting.popleft())
            if self.stats.waited_for_connection > waited:  # still no room: back it went, now at the end
                self.stats.waited_for_connection = waited
                self._waiting.rotate(1)
                break

    def expire(self, now_s: float) -> None:
        """Cancel calls past their deadline or the time-out; streams are in the order they were sent."""
        due, limit_s, reason = self._recorder.due, self._options.timeout_s, TIMED_OUT
        if self._options.deadline_s is not None and self._options.deadline_s <= limit_s:
            limit_s, reason = self._options.deadline_s, GRPC + _DEADLINE_EXCEEDED
        before = now_s - limit_s
        for connection in list(self._connections.values()):
            late = []
            for stream, row in connection.streams.items():
                if due[row] >= before:
                    break
                late.append(stream)
            for stream in late:
                self._end(connection, stream, reason, now_s)
            if late:
                self._queue(
                    connection, b"".join(http2.frame(http2.RST_STREAM, 0, stream, _CANCEL) for stream in late)
                )
        self._give_up_waiting(now_s, before)

    def close(self) -> None:
        """Drop everything."""
        now_s = self._clock()
        self._give_up_waiting(now_s)
        for connection in list(self._connections.values()):
            self._drop(connection, TIMED_OUT)
        self._poller.close()

    def _connect(self) -> _Connection | None:
        family, address = self._address
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sock.connect_ex(address) not in (0, errno.EINPROGRESS):  # type: ignore[arg-type]  # as getaddrinfo gave it
            sock.close()
            return None
        connection = _Connection(sock)
        self._connections[sock.fileno()] = connection
        self._turn.append(connection)
        self.stats.connections_opened += 1
        self._poller.watch(sock.fileno(), Poller.READ_WRITE)
        return connection

    def _start(self, connection: _Connection, row: int, message: bytes) -> None:
        stream = connection.next_stream
        block = self._later if stream > 1 else self._first
        connection.next_stream = stream + 2
        if connection.next_stream >= _LARGEST_STREAM:
            connection.usable = False
        connection.streams[stream] = row
        connection.window -= len(message)
        self._took_off()
        self._queue(
            connection,
            http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block)
            + http2.frame(http2.DATA, http2.END_STREAM, stream, message),
        )

    def _queue(self, connection: _Connection, data: bytes) -> None:
        if connection.connecting or connection.out:
            connection.out += data
            return
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(connection, LOST)
            return
        if sent < len(data):
            connection.out = data[sent:]
            self._poller.change(connection.sock.fileno(), Poller.READ_WRITE)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection, LOST)
            return
        connection.received += len(data)
        if connection.data:
            data = connection.data + data
        at, size = 0, len(data)
        try:
            while size - at >= 9:
                end = at + 9 + (data[at] << 16 | data[at + 1] << 8 | data[at + 2])
                if end > size:
                    break
                stream = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
                self._frame(connection, data[at + 3], data[at + 4], stream, data[at + 9 : end])
                at = end
        except http2.BadFrame:
            self._drop(connection, BAD_ANSWER)
            return
        connection.data = data[at:]
        if connection.received >= _WINDOW_STEP:
            self._queue(connection, http2.window_update(connection.received))
            connection.received = 0

    def _frame(self, connection: _Connection, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == http2.DATA:
            if stream in connection.streams:
                connection.tiers[stream] = connection.tiers.get(stream, 0) or tier_of(payload)
                if flags & http2.END_STREAM:  # an answer without trailers is none
                    self._end(connection, stream, GRPC + _INTERNAL, self._clock())
        elif kind in (http2.HEADERS, http2.CONTINUATION):
            self._headers(connection, kind, flags, stream, payload)
        elif kind == http2.WINDOW_UPDATE:
            if stream == 0:
                connection.window += int.from_bytes(payload, "big") & 0x7FFFFFFF
        elif kind == http2.PING:
            if not flags & http2.ACK:
                self._queue(connection, http2.frame(http2.PING, http2.ACK, 0, payload))
        elif kind == http2.SETTINGS:
            if not flags & http2.ACK:
                settings = http2.read_settings(payload)
                connection.streams_most = settings.get(http2.MAX_CONCURRENT_STREAMS, connection.streams_most)
                self._queue(connection, http2.frame(http2.SETTINGS, http2.ACK, 0, b""))
        elif kind == http2.RST_STREAM:
            code = int.from_bytes(payload, "big")
            self._end(connection, stream, GRPC + _OF_RESET.get(code, _INTERNAL), self._clock())
        elif kind == http2.GOAWAY:
            connection.usable = False
            last, now_s = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF, self._clock()
            for number in [number for number in connection.streams if number > last]:
                self._end(connection, number, GRPC + 14, now_s)
            if not connection.streams:
                self._drop(connection, LOST)

    def _headers(self, connection: _Connection, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == http2.HEADERS:
            if flags & http2.PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            if flags & http2.PRIORITY:
                payload = payload[5:]
            connection.headers = flags
            connection.block = payload
        else:
            connection.block += payload
        if flags & http2.END_HEADERS and connection.headers & http2.END_STREAM:
            status = http2.grpc_status(connection.block)
            if status is None:
                self._end(connection, stream, BAD_ANSWER, self._clock())
            else:
                self._end(connection, stream, 200 if status == 0 else GRPC + status, self._clock())

    def _end(self, connection: _Connection, stream: int, status: int, now_s: float) -> None:
        row = connection.streams.pop(stream, None)
        tier = connection.tiers.pop(stream, UNKNOWN_TIER)
        if row is None:
            return
        self._in_flight -= 1
        if self._recorder.status[row] == OPEN:
            self._recorder.end(row, status, tier if status == 200 else UNKNOWN_TIER, now_s)
        if not connection.usable and not connection.streams:
            self._drop(connection, LOST)

    def _drop(self, connection: _Connection, reason: int) -> None:
        connection.usable = False
        if self._connections.pop(connection.sock.fileno(), None) is None:
            return
        self._turn = [other for other in self._turn if other is not connection]
        connection.sock.close()  # leaves the poller by itself
        now_s = self._clock()
        for stream in list(connection.streams):
            self._end(connection, stream, reason, now_s)
