"""What a connection is made of: a stream, what a client may do, and what the application is told."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from server.http2 import frames as h2
from server.http2.header_blocks import Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a client may do.

    Attributes:
        streams: open at once.
        head_bytes: headers of one request, counted as RFC 9113 does.
        stream_window_bytes: unread bytes of one stream.
        window_bytes: bytes on their way on all streams together.
        nuisances: how many frames that only cost us are borne at once.
        nuisances_per_s: how many of them are forgiven a second.
    """

    streams: int = 1024
    head_bytes: int = 32 * 1024
    stream_window_bytes: int = h2.WINDOW_BYTES
    window_bytes: int = 1 << 20
    nuisances: int = 4000
    nuisances_per_s: float = 1000.0


class Stream:
    """One request and its answer.

    Attributes:
        number: of the stream.
        headers: of the request; shared, not to be written into.
        owner: whatever the application keeps with it.
        receiving: whether the client may still send on it.
        stalled_since_s: when the last of what is to be sent went, or began to wait for the client's window; None when
            nothing waits.
        block_bytes: size of its header block.
    """

    __slots__ = (
        "block_bytes",
        "credited",
        "end_block",
        "headers",
        "number",
        "owner",
        "receive_left",
        "receiving",
        "send_left",
        "stalled_since_s",
        "waiting",
    )

    def __init__(
        self, number: int, headers: Headers, send_left: int, receive_left: int, block_bytes: int = 0
    ) -> None:
        self.block_bytes = block_bytes
        self.number = number
        self.headers = headers
        self.owner: Any = None
        self.receiving = True
        self.send_left = send_left
        self.receive_left = receive_left
        self.credited = 0
        self.waiting: deque[bytes | memoryview] = deque()
        self.end_block: bytes | None = None
        self.stalled_since_s: float | None = None


class Events(Protocol):
    """What a connection tells the application."""

    def opened(self, stream: Stream, ended: bool) -> None:
        """A request's headers are there; ``ended``: and it has no body."""

    def received(self, stream: Stream, data: bytes, ended: bool) -> None:
        """A part of its body is there, perhaps empty; ``ended``: and it was the last."""

    def left(self, stream: Stream) -> None:
        """The client gave it up, or broke a rule on it. The stream is gone."""

    def sent(self, stream: Stream) -> None:
        """What waited for the client's window is on its way."""
