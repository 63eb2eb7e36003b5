"""What goes to the client: answers, cut to its windows and its frame size, each stream in turn.

Source: RFC 9113, sections 5.2 and 6.9.
"""

from __future__ import annotations

from collections.abc import Callable

from server.http2 import frames as h2
from server.http2.frames import ConnectionFault, ErrorCode
from server.http2.streams import Stream


class Outgoing:
    """The sending half of a connection.

    Attributes:
        write: puts bytes on the wire.
        streams: those that are open, by number.
        left: what the connection's window allows, bytes.
        stream_window: what a new stream's window allows, bytes.
        frame_bytes: the largest payload of a frame.
        ready: streams with something to send and a window for it, by number, whose turn it is first.
        blocked: streams with something to send and no window of their own.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        sent: Callable[[Stream], None],
        clock: Callable[[], float],
    ) -> None:
        self.write = write
        self.streams: dict[int, Stream] = {}
        self.left = h2.WINDOW_BYTES
        self.stream_window = h2.WINDOW_BYTES
        self.frame_bytes = h2.FRAME_BYTES
        self.ready: dict[int, Stream] = {}
        self.blocked: dict[int, Stream] = {}
        self._sent = sent
        self._clock = clock

    def answer(self, stream: Stream, head: bytes, message: bytes, end_block: bytes) -> None:
        """Send a whole answer and end the stream: header block, body, trailing header block."""
        number, size = stream.number, len(message)
        if size <= self.left and size <= stream.send_left and size <= self.frame_bytes and not stream.waiting:
            self.left -= size
            self.write(
                h2.frame(h2.HEADERS, h2.END_HEADERS, number, head)
                + h2.frame(h2.DATA, 0, number, message)
                + h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, number, end_block)
            )
            self._close(stream)
        else:
            self.send_headers(stream, head)
            self.send(stream, message)
            self.finish(stream, end_block)

    def send_headers(self, stream: Stream, block: bytes) -> None:
        """Send the first header block of an answer that goes on; a block of at most 16,384 bytes."""
        self.write(h2.frame(h2.HEADERS, h2.END_HEADERS, stream.number, block))

    def send(self, stream: Stream, data: bytes) -> bool:
        """Send a part of the body as the windows allow; False: some of it waits, and ``Events.sent`` says when not."""
        stream.waiting.append(data if len(data) <= self.frame_bytes else memoryview(data))
        if len(stream.waiting) == 1:
            stream.stalled_since_s = self._clock()
            self.ready[stream.number] = stream
        self.flush()
        return not stream.waiting

    def finish(self, stream: Stream, end_block: bytes) -> None:
        """End the stream with a trailing header block, once all of its body is sent."""
        if stream.waiting:
            stream.end_block = end_block
        else:
            self.write(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream.number, end_block))
            self._close(stream)

    def forget(self, number: int) -> Stream | None:
        """The stream is no more; what it had to send is dropped."""
        self.ready.pop(number, None)
        self.blocked.pop(number, None)
        return self.streams.pop(number, None)

    def widen(self, stream: Stream, more: int) -> None:
        """The client's window of a stream is ``more`` bytes larger."""
        stream.send_left += more
        if stream.send_left > 0 and self.blocked.pop(stream.number, None) is not None:
            self.ready[stream.number] = stream

    def resize(self, window: int) -> None:
        """The client has set the window of every stream anew.

        Raises:
            ConnectionFault: a stream's window would be over 2^31 - 1.
        """
        more = window - self.stream_window
        self.stream_window = window
        for stream in self.streams.values():
            self.widen(stream, more)
            if stream.send_left > h2.MOST:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is over 2^31 - 1")

    def _close(self, stream: Stream) -> None:
        if stream.receiving:  # tell the client that the rest of its body is not wanted
            self.write(h2.reset(stream.number, ErrorCode.NO_ERROR))
        self.forget(stream.number)
        stream.owner = None  # which knows the stream: a ring that only a garbage collection would take apart

    def flush(self) -> None:
        """Let the streams that may send do so, a frame each in turn, as far as the windows go.

        What it takes is in proportion to what it sends: a client that opens windows byte by byte makes us look at no
        stream that has none (CVE-2019-9511).
        """
        ready = self.ready
        while ready and self.left > 0:
            number = next(iter(ready))
            stream = ready.pop(number)
            data = stream.waiting[0]
            if stream.send_left <= 0 and data:
                self.blocked[number] = stream
                continue
            size = min(len(data), self.left, stream.send_left, self.frame_bytes) if data else 0
            self.write(h2.frame(h2.DATA, 0, number, data[:size]))
            self.left -= size
            stream.send_left -= size
            stream.stalled_since_s = self._clock()
            if size < len(data):
                stream.waiting[0] = data[size:]
            else:
                stream.waiting.popleft()
            if stream.waiting:
                ready[number] = stream
                continue
            stream.stalled_since_s = None
            if stream.end_block is not None:
                self.finish(stream, stream.end_block)
            else:
                self._sent(stream)
