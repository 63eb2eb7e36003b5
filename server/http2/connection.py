"""One HTTP/2 connection from the server's side, without a socket: bytes in, events and bytes out.

Flow control goes both ways: what is sent waits here for the client's window, and on a stream the client gets window back
only for what the application says it has used (``credit``). The connection's own window is given back as bytes arrive: were
it held until messages are whole, a few long ones in each other's way would wait for each other for ever.

What costs us work and the client nothing is counted (pings, settings, empty frames, streams that are opened and reset at
once: CVE-2019-9512, -9514, -9515, -9518, CVE-2023-44487) and a connection that goes on with it is ended.

Source: RFC 9113.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from server.http2 import frames as h2
from server.http2.frames import ConnectionFault, ErrorCode, StreamFault
from server.http2.header_blocks import HARD_LIMIT_FACTOR, HeaderReader
from server.http2.outgoing import Outgoing
from server.http2.streams import Events, Limits, Stream

_CONTINUATIONS = 16  # frames of one header block
_DRAIN_PING = b"draining"
_LITTLE_BYTES = 256  # windows that are opened by less make us send crumbs


class Connection:
    """See the module.

    Attributes:
        out: the sending half.
        streams: those that are open, by number.
        ended: whether the connection is over: nothing is read any more, and it is to be closed once all is written.
        greeted: whether the client has said hello.
        fault: why it ended, if the client broke a rule.
        unanswered_ping: whether a ping of ours has no answer yet.
    """

    def __init__(
        self,
        events: Events,
        write: Callable[[bytes], None],
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ended = False
        self.greeted = False
        self.fault: ConnectionFault | None = None
        self.unanswered_ping = False
        self.out = Outgoing(write, events.sent, clock)
        self.streams = self.out.streams
        self._events, self._write, self._limits, self._clock = events, write, limits, clock
        self._reader = HeaderReader(limits.head_bytes)
        self._rest = b""
        self._last = 0  # highest stream that was opened
        self._most_streams = h2.MOST  # highest that is still looked at
        self._receive_left = limits.window_bytes
        self._credited = 0
        self._block: tuple[int, int, list[bytes]] | None = (
            None  # stream, flags and parts of an unfinished block
        )
        self._patience = float(limits.nuisances)
        self._patience_at_s = clock()

    def begin(self) -> None:
        """Say hello: our settings, and the connection's window."""
        limits = self._limits
        hello = h2.settings(
            {
                h2.MAX_CONCURRENT_STREAMS: limits.streams,
                h2.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                h2.MAX_HEADER_LIST_SIZE: limits.head_bytes,
            }
        )
        if limits.window_bytes > h2.WINDOW_BYTES:
            hello += h2.window_update(0, limits.window_bytes - h2.WINDOW_BYTES)
        self._write(hello)

    # --- what comes ---

    def receive(self, data: bytes) -> None:
        """Take bytes of the client; a broken rule ends the stream or the connection, and never raises."""
        if self.ended:
            return
        if self._rest:
            data = self._rest + data
        try:
            at = 0 if self.greeted else self._greeting(data)
            size = len(data) if self.greeted else 0
            while size - at >= h2.HEAD_BYTES and not self.ended:
                length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
                if length > h2.FRAME_BYTES:
                    raise ConnectionFault(
                        ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes; 16,384 is the most"
                    )
                end = at + h2.HEAD_BYTES + length
                if end > size:
                    break
                number = int.from_bytes(data[at + 5 : at + 9], "big") & h2.MOST
                self._frame(data[at + 3], data[at + 4], number, data[at + h2.HEAD_BYTES : end])
                at = end
            self._rest = data[at:]
        except ConnectionFault as fault:
            self.fault = fault
            self.end(fault.code, str(fault))

    def _greeting(self, data: bytes) -> int:
        if not h2.PREFACE.startswith(data[: len(h2.PREFACE)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks gRPC over HTTP/2 only")
        if len(data) < len(h2.PREFACE):
            return 0
        self.greeted = True
        return len(h2.PREFACE)

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and kind != h2.CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was left unfinished")
        try:
            if kind == h2.DATA:
                self._data(flags, number, payload)
            elif kind == h2.HEADERS:
                self._headers(flags, number, payload)
            elif kind == h2.WINDOW_UPDATE:
                self._window(number, payload)
            elif kind == h2.RST_STREAM:
                self._reset(number, payload)
            elif kind == h2.CONTINUATION:
                self._continuation(flags, number, payload)
            elif kind == h2.PING:
                self._ping(flags, number, payload)
            elif kind == h2.SETTINGS:
                self._settings(flags, number, payload)
            elif kind == h2.PUSH_PROMISE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")
            elif kind == h2.GOAWAY:
                if number:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY is of the connection")
            else:
                self._bear()  # PRIORITY, and kinds that nobody knows, mean nothing
                if kind == h2.PRIORITY and (not number or len(payload) != 5):
                    raise ConnectionFault(
                        ErrorCode.FRAME_SIZE_ERROR, "a PRIORITY frame is 5 bytes of a stream"
                    )
        except StreamFault as fault:
            self._bear()
            self.reset(number, fault.code)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_left -= size
        if self._receive_left < 0:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR, "more bytes than the connection's window allows"
            )
        self._credit(size)
        stream = self.streams.get(number)
        if stream is None or not stream.receiving:
            if not number & 1 or number > self._last:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on a stream that was never opened")
            self._bear()
            if stream is not None:
                raise StreamFault(ErrorCode.STREAM_CLOSED, "DATA after the end")
            return  # it was on its way when we ended the stream
        stream.receive_left -= size
        if stream.receive_left < 0:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more bytes than the stream's window allows")
        ended = bool(flags & h2.END_STREAM)
        if not size and not ended:
            self._bear()
        if flags & h2.PADDED:
            payload = h2.unpadded(flags, payload)
            self.credit(stream, size - len(payload))
        if ended:
            stream.receiving = False
        self._events.received(stream, payload, ended)

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "clients open streams of odd numbers")
        payload = h2.unpadded(flags, payload)
        if flags & h2.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a HEADERS frame is cut off")
            payload = payload[5:]
        if flags & h2.END_HEADERS:
            self._block_done(number, flags, payload)
        else:
            self._block = (number, flags, [payload])

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without a header block")
        _, first_flags, parts = self._block
        parts.append(payload)
        if len(parts) > _CONTINUATIONS or sum(map(len, parts)) > HARD_LIMIT_FACTOR * self._limits.head_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too large")
        if flags & h2.END_HEADERS:
            self._block = None
            self._block_done(number, first_flags, b"".join(parts))

    def _block_done(self, number: int, flags: int, block: bytes) -> None:
        is_new = number > self._last
        if is_new:
            self._last = number  # even if it turns out malformed: it was opened
        headers = self._reader.read(block)  # also of streams that are refused: the table must stay in step
        ended = bool(flags & h2.END_STREAM)
        stream = self.streams.get(number)
        if stream is not None:
            if not stream.receiving or not ended:
                raise StreamFault(
                    ErrorCode.PROTOCOL_ERROR, "a second header block that does not end the stream"
                )
            stream.receiving = False
            self._events.received(stream, b"", True)
        elif not is_new:
            self._bear()  # trailers of a stream that we have ended
        elif number > self._most_streams:
            self._bear()  # we are going, and have said up to where
        elif len(self.streams) >= self._limits.streams:
            self._bear()
            raise StreamFault(ErrorCode.REFUSED_STREAM, "too many streams")
        else:
            stream = Stream(
                number, headers, self.out.stream_window, self._limits.stream_window_bytes, len(block)
            )
            stream.receiving = not ended
            self.streams[number] = stream
            self._events.opened(stream, ended)

    def _window(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a WINDOW_UPDATE frame is 4 bytes long")
        more = int.from_bytes(payload, "big") & h2.MOST
        if number == 0:
            self.out.left += more
            if not more or self.out.left > h2.MOST:
                raise ConnectionFault(
                    ErrorCode.FLOW_CONTROL_ERROR, "a window update of 0, or beyond 2^31 - 1"
                )
            self._bear(1.0 if more < _LITTLE_BYTES else 0.05)
            self.out.flush()
            return
        stream = self.streams.get(number)
        if stream is None:
            if not number & 1 or number > self._last:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window for a stream that was never opened")
            self._bear(0.1)
            return
        if not more or stream.send_left + more > h2.MOST:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "a window update of 0, or beyond 2^31 - 1")
        self._bear(1.0 if more < _LITTLE_BYTES else 0.05)
        self.out.widen(stream, more)
        self.out.flush()

    def _reset(self, number: int, payload: bytes) -> None:
        if len(payload) != 4 or not number & 1 or number > self._last:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM of a stream that was never opened")
        self._bear()
        self._leave(number)

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 8 or number:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a PING frame is 8 bytes of the connection")
        if not flags & h2.ACK:
            self._bear()
            self._write(h2.frame(h2.PING, h2.ACK, 0, payload))
            return
        self.unanswered_ping = False
        if payload == _DRAIN_PING:
            self.finish_drain()

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS are of the connection")
        if flags & h2.ACK:
            return
        self._bear(1.0 + len(self.streams) / 100)  # each of them gets its window anew
        values = h2.read_settings(payload)
        self.out.frame_bytes = min(values.get(h2.MAX_FRAME_SIZE, self.out.frame_bytes), 1 << 18)
        window = values.get(h2.INITIAL_WINDOW_SIZE)
        if window is not None:
            self.out.resize(window)
        self._write(h2.frame(h2.SETTINGS, h2.ACK, 0))
        self.out.flush()

    def _bear(self, cost: float = 1.0) -> None:
        self._patience -= cost
        if self._patience < 0:
            now_s, limits = self._clock(), self._limits
            earned = (now_s - self._patience_at_s) * limits.nuisances_per_s
            self._patience_at_s = now_s
            self._patience = min(limits.nuisances, self._patience + earned)
            if self._patience < 0:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    # --- what goes ---

    def reset(self, number: int, code: ErrorCode) -> None:
        """Give a stream up."""
        self._write(h2.reset(number, code))
        self._leave(number)

    def credit(self, stream: Stream, size: int) -> None:
        """The application has used ``size`` bytes of the stream's body: the client may send as many more."""
        stream.credited += size
        if stream.receiving and stream.credited * 2 >= self._limits.stream_window_bytes:
            stream.receive_left += stream.credited
            self._write(h2.window_update(stream.number, stream.credited))
            stream.credited = 0

    def ping(self) -> None:
        """Ask whether the client is still there."""
        self.unanswered_ping = True
        self._write(h2.frame(h2.PING, 0, 0, b"vitrine?"))

    def drain(self) -> None:
        """Say that this connection will end. What the client has already sent is still looked at."""
        if not self.ended:
            self._write(h2.go_away(h2.MOST, ErrorCode.NO_ERROR) + h2.frame(h2.PING, 0, 0, _DRAIN_PING))

    @property
    def is_drained(self) -> bool:
        """Whether the client knows which calls were the last that are looked at."""
        return self.ended or not self.greeted or self._most_streams < h2.MOST

    def finish_drain(self) -> None:
        """From here on no new stream is looked at, and the client knows which were the last."""
        if not self.ended and self._most_streams == h2.MOST:
            self._most_streams = self._last
            self._write(h2.go_away(self._last, ErrorCode.NO_ERROR))

    def end(self, code: ErrorCode = ErrorCode.NO_ERROR, text: str = "") -> None:
        """End the connection: every open stream is left."""
        if self.ended:
            return
        self.ended = True
        self._write(h2.go_away(self._last, code, text))
        self.lost()

    def lost(self) -> None:
        """The client is gone: every open stream is left."""
        self.ended = True
        for number in list(self.streams):
            self._leave(number)

    def detach(self) -> None:
        """The transport is gone as well: nothing is told or written any more, and no ring of references is left."""
        self.lost()
        self._write = self.out.write = _nowhere
        self._events = _NOBODY

    def _leave(self, number: int) -> None:
        stream = self.out.forget(number)
        if stream is not None:
            self._events.left(stream)
            stream.owner = None

    def _credit(self, size: int) -> None:
        self._credited += size
        if self._credited * 2 >= self._limits.window_bytes:
            self._receive_left += self._credited
            self._write(h2.window_update(0, self._credited))
            self._credited = 0


def _nowhere(data: bytes) -> None:
    pass


class _Nobody:
    def opened(self, stream: Stream, ended: bool) -> None:
        pass

    def received(self, stream: Stream, data: bytes, ended: bool) -> None:
        pass

    def left(self, stream: Stream) -> None:
        pass

    def sent(self, stream: Stream) -> None:
        pass


_NOBODY = _Nobody()
