"""What both clients do with sockets: find the target, finish connecting and writing, count who is on the way.

How requests share connections, and what an answer looks like, is the clients' own.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from loadtest.client import ClientOptions, ClientStats, Clock, Target
from loadtest.measure import CONNECT_FAILED, LOST, NEVER_SENT, Recorder
from loadtest.poller import Poller


class Outgoing(Protocol):
    """The sending half of a connection."""

    sock: socket.socket
    connecting: bool
    out: bytes


Link = TypeVar("Link", bound=Outgoing)


class SocketClient(Generic[Link]):
    """Base of the clients; see ``loadtest.client.Client``.

    Args:
        target: where to.
        recorder: where rows end.
        clock: seconds since the start of the run.
        options: connections, time-out.
        broken: ends a connection and its rows for a reason (of ``loadtest.measure``).
    """

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        clock: Clock,
        options: ClientOptions,
        broken: Callable[[Link, int], None],
    ) -> None:
        self.stats = ClientStats()
        self._target, self._recorder, self._clock, self._options = target, recorder, clock, options
        self._broken = broken
        self._poller = Poller()
        self._connections: dict[int, Link] = {}
        self._waiting: deque[int] = deque()
        self._in_flight = 0
        self._address: tuple[socket.AddressFamily, object] = (socket.AF_INET, ("", 0))

    def _resolve(self) -> None:
        target = self._target
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        self._address = (family, address)

    def _took_off(self) -> None:
        self._in_flight += 1
        if self._in_flight > self.stats.in_flight_max:
            self.stats.in_flight_max = self._in_flight

    def _pushed(self, connection: Link) -> bool:
        """Finish connecting and writing; False when the connection is gone."""
        if connection.connecting:
            if connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._broken(connection, CONNECT_FAILED)
                return False
            connection.connecting = False
        try:
            sent = connection.sock.send(connection.out)
        except BlockingIOError:
            return True
        except OSError:
            self._broken(connection, LOST)
            return False
        connection.out = connection.out[sent:]
        if not connection.out:
            self._poller.change(connection.sock.fileno(), Poller.READ)
        return True

    def _give_up_waiting(self, now_s: float, before_s: float = float("inf")) -> None:
        """End those that never got a connection and were due before a time."""
        due = self._recorder.due
        while self._waiting and due[self._waiting[0]] < before_s:
            self._recorder.end(self._waiting.popleft(), NEVER_SENT, 0, now_s)
