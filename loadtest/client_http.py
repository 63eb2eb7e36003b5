"""The HTTP/1.1 client: keep-alive sockets, prepared bytes out, the end of the response found, nothing else.

It shares two cores with the server that it measures, so what it costs is taken from what it measures.  That
is why it is neither a library nor an asyncio protocol: one loop owns the sockets, the clock and the schedule,
and a request is one ``send`` and one ``recv``.

A request that finds a kept connection closed by the server is sent once more on another, if that connection
had been idle for a second and not a byte had come back: that race is HTTP's, not the server's.  It is
counted, and the latency still counts from the intended time.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from loadtest.client import ClientOptions, Clock, Target, Unreachable
from loadtest.http_response import UNTIL_CLOSE, BadResponse, scan_chunks, scan_head, tier_of
from loadtest.measure import BAD_ANSWER, CONNECT_FAILED, LOST, OPEN, TIMED_OUT, Recorder
from loadtest.poller import Poller
from loadtest.socket_client import SocketClient

_BUFFER = 1 << 18
_LARGEST_ANSWER = 64 << 20
_STALE_S = 1.0
_CONNECTS_A_TURN = 4  # one costs what five requests do: a burst of them would make the next requests late


def prepare(target: Target, bodies: Sequence[bytes], headers: dict[str, str]) -> list[bytes]:
    """The bytes of a POST for each JSON body."""
    head = f"POST {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\nContent-Type: application/json\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]


class _Connection:
    __slots__ = ("answered_s", "connecting", "data", "fd", "need", "out", "row", "sock", "used")

    def __init__(self, sock: socket.socket, row: int) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.row = row  # -1: idle
        self.connecting = True
        self.out = b""
        self.data = b""  # of the answer, while it is incomplete
        self.need = 0  # bytes of the answer in all, once known
        self.used = False
        self.answered_s = 0.0


class HttpClient(SocketClient[_Connection]):
    """See ``loadtest.client.Client``.

    Args:
        target: where to.
        wires: prepared requests; row r sends number ``r % len(wires)``.
        recorder: where rows end.
        clock: seconds since the start of the run.
        options: connections, time-out.
    """

    def __init__(
        self, target: Target, wires: Sequence[bytes], recorder: Recorder, clock: Clock, options: ClientOptions
    ) -> None:
        if not wires:
            raise ValueError("no request bodies to send")
        super().__init__(target, recorder, clock, options, self._fail)
        self._wires = wires
        self._idle: list[_Connection] = []  # newest last: few connections stay warm
        self._oldest: deque[int] = (
            deque()
        )  # rows in the order they came, to see in one look that none is too old
        self._fresh = 0  # connections made in this turn of the loop

    def open(self) -> None:
        """Connect the first connections and leave them idle."""
        target = self._target
        try:
            self._resolve()
            family, address = self._address
            for _ in range(max(1, min(self._options.preopen, self._options.connections))):
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.settimeout(min(self._options.timeout_s, 5.0))
                try:
                    sock.connect(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
                except OSError:
                    sock.close()
                    raise
                connection = self._adopt(sock, -1)
                connection.connecting = False
                self._poller.watch(connection.fd, Poller.READ)
                self._idle.append(connection)
        except OSError as error:
            raise Unreachable(f"{target.host}:{target.port}", str(error)) from error

    def send(self, row: int) -> None:
        """Send on a kept connection, else on a new one, else wait for one."""
        self._oldest.append(row)
        if not self._sent(row):
            self.stats.waited_for_connection += 1
            self._waiting.append(row)

    def _sent(self, row: int) -> bool:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.fd in self._connections:
                self._write(connection, row)
                return True
        if self._room():
            self._fresh += 1
            self._connect(row)
            return True
        return False

    def _room(self) -> bool:
        return self._fresh < _CONNECTS_A_TURN and len(self._connections) < self._options.connections

    def poll(self, timeout_s: float) -> None:
        """Handle what is ready."""
        connections = self._connections
        if self._fresh == _CONNECTS_A_TURN and self._waiting:  # only held back for this turn
            timeout_s = 0.0
        self._fresh = 0
        for fd, events in self._poller.wait(timeout_s):
            connection = connections.get(fd)
            if connection is None:
                continue
            if connection.connecting or connection.out:
                if not self._pushed(connection):
                    continue
                if not events & ~Poller.WRITE:
                    continue
            self._read(connection)
        while self._waiting and self._sent(self._waiting[0]):
            self._waiting.popleft()

    def expire(self, now_s: float) -> None:
        """Drop connections whose request is too old, and requests that waited too long for one."""
        due, status, before = self._recorder.due, self._recorder.status, now_s - self._options.timeout_s
        oldest = self._oldest
        while oldest and status[oldest[0]] != OPEN:
            oldest.popleft()
        if not oldest or due[oldest[0]] >= before:
            return
        for connection in [c for c in self._connections.values() if c.row >= 0 and due[c.row] < before]:
            self._fail(connection, TIMED_OUT)
        self._give_up_waiting(now_s, before)

    def close(self) -> None:
        """Drop everything."""
        now_s = self._clock()
        self._give_up_waiting(now_s)
        for connection in list(self._connections.values()):
            if connection.row >= 0:
                self._recorder.end(connection.row, TIMED_OUT, 0, now_s)
            connection.row = -1
            self._drop(connection)
        self._poller.close()

    def _adopt(self, sock: socket.socket, row: int) -> _Connection:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(sock, row)
        self._connections[connection.fd] = connection
        self.stats.connections_opened += 1
        return connection

    def _connect(self, row: int) -> None:
        family, address = self._address
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # out of descriptors
            self._recorder.end(row, CONNECT_FAILED, 0, self._clock())
            return
        connection = self._adopt(sock, row)
        self._took_off()
        connection.out = self._wires[row % len(self._wires)]
        code = sock.connect_ex(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
        if code not in (0, errno.EINPROGRESS):
            self._fail(connection, CONNECT_FAILED)
            return
        self._poller.watch(connection.fd, Poller.READ_WRITE)

    def _write(self, connection: _Connection, row: int) -> None:
        wire = self._wires[row % len(self._wires)]
        connection.row = row
        self._took_off()
        try:
            sent = connection.sock.send(wire)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._fail(connection, LOST)
            return
        if sent < len(wire):
            connection.out = wire[sent:]
            self._poller.change(connection.fd, Poller.READ_WRITE)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or connection.row < 0:  # closed by the server, or it speaks out of turn
            self._closed(connection)
            return
        if connection.data:
            data = connection.data + data
        try:
            if len(data) < connection.need:
                connection.data = data
                return
            head = scan_head(data)
            if head is not None:
                status, start, length, keep = head
                end = (
                    start + length
                    if length >= 0
                    else None
                    if length == UNTIL_CLOSE
                    else scan_chunks(data, start)
                )
                if end is not None and end <= len(data):
                    self._answered(connection, status, data, keep and end == len(data))
                    return
                connection.need = end or 0
            if len(data) > _LARGEST_ANSWER:
                raise BadResponse("an answer of more than 64 MiB")
        except BadResponse:
            self._fail(connection, BAD_ANSWER)
            return
        connection.data = data

    def _closed(self, connection: _Connection) -> None:
        if connection.row >= 0 and connection.data:
            with suppress(BadResponse):
                head = scan_head(connection.data)
                if head is not None and head[2] == UNTIL_CLOSE:
                    self._answered(connection, head[0], connection.data, False)
                    return
        self._fail(connection, LOST)

    def _answered(self, connection: _Connection, status: int, data: bytes, keep: bool) -> None:
        now_s = self._clock()
        self._recorder.end(connection.row, status, tier_of(data) if status == 200 else 0, now_s)
        self._in_flight -= 1
        connection.row = -1
        connection.need = 0
        connection.data = b""
        connection.used = True
        connection.answered_s = now_s
        if keep:
            if self._waiting:
                self._write(connection, self._waiting.popleft())
            else:
                self._idle.append(connection)
        else:
            self._drop(connection)

    def _fail(self, connection: _Connection, reason: int) -> None:
        row, now_s = connection.row, self._clock()
        connection.row = -1
        if row >= 0:
            self._in_flight -= 1
        stale = reason == LOST and connection.used and not connection.data and row >= 0
        stale = stale and self._recorder.sent[row] - connection.answered_s > _STALE_S
        self._drop(connection)
        if row < 0 or self._recorder.status[row] != OPEN:
            return
        if stale:
            self.stats.retried_stale += 1
            self._connect(row)  # a fresh one, so it cannot be stale again
        else:
            self._recorder.end(row, reason, 0, now_s)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.fd, None) is not None:
            connection.sock.close()  # leaves the poller by itself
        connection.fd = -1
