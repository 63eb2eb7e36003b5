"""What the pacing loop asks of a client; HTTP and gRPC stand behind it.

Units: seconds since the start of the run, on the clock that the pacing loop hands over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

Clock = Callable[[], float]
DEFAULT_PATH = "/v1/recommendations"
DEFAULT_METHOD = "/vitrine.v1.Recommendations/Recommend"


class Unreachable(Exception):
    """No connection to the target could be made before the run."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)  # both, so that it can travel between processes
        self.address = address
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.address}: {self.reason}; is the server running there?"


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go.

    Attributes:
        protocol: ``http`` or ``grpc``.
        host: name or address.
        port: TCP port.
        path: HTTP path, or gRPC method.
    """

    protocol: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"{self.protocol}://{self.host}:{self.port}{self.path}"


def parse_target(text: str) -> Target:
    """Read ``http://127.0.0.1:8000[/path]`` or ``grpc://127.0.0.1:8001[/package.Service/Method]``.

    Raises:
        ValueError: another scheme, no host, or a bad port.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "grpc") or not parts.hostname:
        raise ValueError(f"target {text!r}: write it as http://HOST:PORT[/path] or grpc://HOST:PORT (no TLS)")
    http = parts.scheme == "http"
    path = parts.path if parts.path not in ("", "/") else DEFAULT_PATH if http else DEFAULT_METHOD
    return Target(parts.scheme, parts.hostname, parts.port or (8000 if http else 8001), path)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """How a client behaves.

    Attributes:
        connections: most connections at once (>= 1).
        timeout_s: how long after its intended send time a request is given up (> 0).
        deadline_s: gRPC deadline of a call; None: none is sent. (HTTP carries ``deadline_ms`` in its body.)
        headers: sent with each request (gRPC: metadata).
        preopen: connections opened before the clock starts.
        channels: gRPC connections (>= 1); each carries many calls.
    """

    connections: int = 512
    timeout_s: float = 10.0
    deadline_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    preopen: int = 64
    channels: int = 4


@dataclass(slots=True)
class ClientStats:
    """What a client did beside answering.

    Attributes:
        connections_opened: over the whole run.
        waited_for_connection: requests that found every connection busy.
        in_flight_max: most requests without an answer at one time.
        retried_stale: sent again because the server had closed an idle connection just then.
    """

    connections_opened: int = 0
    waited_for_connection: int = 0
    in_flight_max: int = 0
    retried_stale: int = 0


class Client(Protocol):
    """Sends prepared requests and records how each ends.

    Not thread-safe: all calls come from the pacing loop.  Every row handed to ``send`` is ended in the
    recorder exactly
    once: by an answer, by a failure, by ``expire`` or by ``close``.
    """

    stats: ClientStats

    def open(self) -> None:
        """Connect; raises ``Unreachable``."""
        ...

    def send(self, row: int) -> None:
        """Send the request of this row now, or as soon as a connection is free; never blocks."""
        ...

    def poll(self, timeout_s: float) -> None:
        """Take in answers; returns after at most ``timeout_s``, sooner when there was something to do."""
        ...

    def expire(self, now_s: float) -> None:
        """Give up what is older than the time-out."""
        ...

    def close(self) -> None:
        """Give up everything that is still open and let go of all resources."""
        ...
