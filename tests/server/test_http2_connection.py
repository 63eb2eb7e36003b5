"""One HTTP/2 connection against the h2 library as its client, and against what no library sends."""

from __future__ import annotations

import gc
import random
import weakref

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.http2 import frames
from server.http2.connection import Connection
from server.http2.frames import ErrorCode, frame
from server.http2.header_blocks import literal
from server.http2.streams import Limits, Stream

ASK = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "shop")]
BLOCK = b"".join(literal(name.encode(), value.encode()) for name, value in ASK)
HELLO = frames.PREFACE + frame(frames.SETTINGS, 0, 0)
HEAD, END = b"\x88", literal(b"grpc-status", b"0")


class Echo:
    """Answers each request with its own body once it is whole; ``hold`` keeps them."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.out = bytearray()
        self.now_s = 0.0
        self.bodies: dict[int, bytearray] = {}
        self.whole: list[Stream] = []
        self.gone: list[int] = []
        self.drained: list[int] = []
        self.hold = False
        self.connection = Connection(self, self.out.extend, limits or Limits(), lambda: self.now_s)
        self.connection.begin()

    def opened(self, stream: Stream, ended: bool) -> None:
        self.bodies[stream.number] = bytearray()
        if ended:
            self.received(stream, b"", True)

    def received(self, stream: Stream, data: bytes, ended: bool) -> None:
        self.bodies[stream.number] += data
        self.connection.credit(stream, len(data))
        if ended:
            self.whole.append(stream)
            if not self.hold:
                self.answer(stream)

    def answer(self, stream: Stream) -> None:
        self.connection.out.answer(stream, HEAD, bytes(self.bodies[stream.number]), END)

    def left(self, stream: Stream) -> None:
        self.gone.append(stream.number)

    def sent(self, stream: Stream) -> None:
        self.drained.append(stream.number)

    def take(self) -> bytes:
        out = bytes(self.out)
        self.out.clear()
        return out

    @property
    def code(self) -> ErrorCode | None:
        return None if self.connection.fault is None else self.connection.fault.code


class Client:
    """The h2 library, with what it was told by stream."""

    def __init__(self, server: Echo, **values: int) -> None:
        self.server = server
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        if values:
            self.h2.update_settings(
                {getattr(h2.settings.SettingCodes, name): value for name, value in values.items()}
            )
        self.data: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.acknowledges = True

    def exchange(self) -> None:
        """Carry bytes both ways until nobody has any."""
        while sent := self.h2.data_to_send():
            self.server.connection.receive(sent)
            self.hear()
        self.hear()

    def hear(self) -> None:
        for event in self.h2.receive_data(self.server.take()):
            if isinstance(event, h2.events.DataReceived):
                self.data.setdefault(event.stream_id, bytearray()).extend(event.data)
                if self.acknowledges and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.resets[event.stream_id] = int(event.error_code)


@settings(max_examples=40, deadline=None)
@given(
    bodies=st.lists(st.integers(0, 200_000), min_size=1, max_size=6),
    frame_size=st.sampled_from([16384, 20000, 70000]),
    window=st.sampled_from([0, 1000, 65535, 1 << 20]),
    seed=st.integers(0, 1 << 32),
)
def test_every_answer_arrives_whole_whatever_the_windows(
    bodies: list[int], frame_size: int, window: int, seed: int
) -> None:
    """Bodies in, the same bodies out, interleaved, through small windows that open now and then."""
    chance = random.Random(seed)
    server = Echo(Limits(stream_window_bytes=1 << 18))
    client = Client(server, MAX_FRAME_SIZE=frame_size, INITIAL_WINDOW_SIZE=window)
    client.exchange()
    left: dict[int, bytes] = {}
    for size in bodies:
        number = client.h2.get_next_available_stream_id()
        client.h2.send_headers(number, ASK)
        left[number] = chance.randbytes(size)
    sent = dict(left)
    while left:
        number = chance.choice(list(left))
        room = min(
            client.h2.local_flow_control_window(number), client.h2.max_outbound_frame_size, len(left[number])
        )
        client.h2.send_data(number, left[number][:room], end_stream=room == len(left[number]))
        left[number] = left[number][room:]
        if not left[number]:
            del left[number]
        client.exchange()
    if window < 1000:
        client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    for _ in range(5):
        client.exchange()

    assert {number: bytes(client.data.get(number, b"")) for number in sent} == sent
    assert client.ended == set(sent)
    assert not server.connection.streams
    assert not server.gone


def test_no_byte_is_sent_beyond_the_clients_window() -> None:
    """What is left waits, is told as stalled, and goes when the window opens."""
    server = Echo()
    server.hold = True
    client = Client(server)
    client.acknowledges = False
    client.h2.send_headers(1, ASK, end_stream=True)
    client.exchange()
    out, stream = server.connection.out, server.connection.streams[1]
    out.send_headers(stream, HEAD)
    assert not out.send(stream, b"y" * 70_000)
    client.exchange()

    assert len(client.data[1]) == 65_535
    assert stream.stalled_since_s == 0.0
    client.h2.acknowledge_received_data(65_535, 1)
    client.exchange()
    assert len(client.data[1]) == 70_000
    assert server.drained == [1]


def test_who_resets_is_left_and_the_others_go_on() -> None:
    """The application hears of it once."""
    server = Echo()
    server.hold = True
    client = Client(server)
    for number in (1, 3):
        client.h2.send_headers(number, ASK, end_stream=True)
    client.exchange()
    client.h2.reset_stream(1, ErrorCode.CANCEL)
    client.exchange()
    server.answer(server.whole[1])
    client.exchange()

    assert server.gone == [1]
    assert client.ended == {3}


def test_a_drain_takes_what_was_sent_and_nothing_after() -> None:
    """The first GOAWAY refuses nobody; the second comes when the client has seen the first."""
    server = Echo()
    server.hold = True
    client = Client(server)
    client.h2.send_headers(1, ASK, end_stream=True)
    client.exchange()
    server.connection.drain()
    server.connection.receive(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3, BLOCK))
    assert [stream.number for stream in server.whole] == [1, 3]
    assert not server.connection.is_drained
    server.connection.receive(frame(frames.PING, frames.ACK, 0, b"draining"))
    assert server.connection.is_drained
    server.connection.receive(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 5, BLOCK))

    assert [stream.number for stream in server.whole] == [1, 3]


def test_streams_beyond_the_limit_are_refused_and_may_be_sent_again() -> None:
    """REFUSED_STREAM says that nothing was done."""
    server = Echo(Limits(streams=2))
    server.hold = True
    data = HELLO + b"".join(
        frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number, BLOCK) for number in (1, 3, 5)
    )
    server.connection.receive(data)

    assert frames.reset(5, ErrorCode.REFUSED_STREAM) in server.take()
    assert sorted(server.connection.streams) == [1, 3]


def opened(number: int = 1) -> bytes:
    return frame(frames.HEADERS, frames.END_HEADERS, number, BLOCK)


@pytest.mark.parametrize(
    ("bytes_in", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", ErrorCode.PROTOCOL_ERROR),
        (HELLO + b"\x00\x40\x01" + bytes(6), ErrorCode.FRAME_SIZE_ERROR),
        (HELLO + frame(frames.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (HELLO + opened(2), ErrorCode.PROTOCOL_ERROR),
        (
            HELLO + frame(frames.HEADERS, 0, 1, BLOCK) + frame(frames.PING, 0, 0, bytes(8)),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (HELLO + frame(frames.CONTINUATION, 4, 1, BLOCK), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(frames.HEADERS, 0x0C, 1, b"\xff" + BLOCK), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frame(frames.SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
        (HELLO + frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frames.settings({4: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
        (HELLO + frame(frames.PING, 0, 0, b"1234"), ErrorCode.FRAME_SIZE_ERROR),
        (HELLO + frame(frames.PUSH_PROMISE, 4, 1, BLOCK), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frames.window_update(0, 0), ErrorCode.FLOW_CONTROL_ERROR),
        (HELLO + frames.window_update(0, frames.MOST), ErrorCode.FLOW_CONTROL_ERROR),
        (HELLO + frames.window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
        (HELLO + frames.reset(7, 8), ErrorCode.PROTOCOL_ERROR),
        (
            HELLO + frame(frames.HEADERS, 0, 1, BLOCK) + frame(frames.CONTINUATION, 0, 1) * 40,
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
        (HELLO + frame(frames.PING, 0, 0, bytes(8)) * 5000, ErrorCode.ENHANCE_YOUR_CALM),
        (HELLO + frame(frames.SETTINGS, 0, 0) * 5000, ErrorCode.ENHANCE_YOUR_CALM),
        (HELLO + opened() + frame(frames.DATA, 0, 1) * 5000, ErrorCode.ENHANCE_YOUR_CALM),
        (
            HELLO + b"".join(opened(n) + frames.reset(n, 8) for n in range(1, 12000, 2)),
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
        (HELLO + frame(frames.PRIORITY, 0, 1, bytes(5)) * 5000, ErrorCode.ENHANCE_YOUR_CALM),
    ],
)
def test_a_broken_rule_ends_the_connection_with_its_code(bytes_in: bytes, code: ErrorCode) -> None:
    """However the bytes are cut, and everybody on it is left."""
    for step in (len(bytes_in), 1 if len(bytes_in) < 500 else 997):
        server = Echo()
        server.hold = True
        for at in range(0, len(bytes_in), step):
            server.connection.receive(bytes_in[at : at + step])

        assert (server.code, server.connection.ended) == (code, True)
        assert not server.connection.streams


def test_windows_opened_byte_by_byte_cost_what_they_send() -> None:
    """A thousand blocked streams are not looked at for each; and who goes on with it is sent away."""
    server = Echo(Limits(streams=2000))
    server.hold = True
    numbers = range(1, 2001, 2)
    server.connection.receive(HELLO + frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
    for number in numbers:
        server.connection.receive(frame(frames.HEADERS, 5, number, BLOCK))
    for stream in server.whole:
        server.connection.out.send_headers(stream, HEAD)
        server.connection.out.send(stream, b"x" * 100)
    blocked = server.connection.out.blocked
    assert (len(blocked), len(server.connection.out.ready)) == (1000, 0)
    server.take()
    server.connection.receive(frames.window_update(0, 1) * 3000)
    assert server.take() == b""
    server.connection.receive(frames.window_update(7, 1))
    assert server.take() == frame(frames.DATA, 0, 7, b"x")
    server.connection.receive(frames.window_update(7, 1) * 2000)

    assert server.code is ErrorCode.ENHANCE_YOUR_CALM


def test_nothing_keeps_a_stream_that_is_over() -> None:
    """No ring of references: bodies would stay until the garbage collector comes round."""

    class Owner:
        def __init__(self, stream: Stream) -> None:
            self.stream = stream

    gc.collect()
    gc.disable()
    try:
        server = Echo()
        server.connection.receive(HELLO + frame(frames.HEADERS, 5, 1, BLOCK) + opened(3) + frames.reset(3, 8))
        server.hold = True
        server.connection.receive(frame(frames.HEADERS, 5, 5, BLOCK))
        stream = server.whole.pop()
        stream.owner = Owner(stream)
        gone = weakref.ref(stream.owner)
        server.answer(stream)
        del stream
        assert gone() is None
    finally:
        gc.enable()


def test_nuisances_are_forgiven_with_time() -> None:
    """A client that pings now and then for days is no attacker."""
    server = Echo(Limits(nuisances=10, nuisances_per_s=5.0))
    server.connection.receive(HELLO)
    for _ in range(200):
        server.now_s += 1.0
        server.connection.receive(frame(frames.PING, 0, 0, bytes(8)) * 4)

    assert not server.connection.ended


@pytest.mark.parametrize(
    "bytes_in",
    [
        opened() + frame(frames.DATA, 1, 1, b"x") + frame(frames.DATA, 0, 1, b"y"),
        opened() + opened(),
        opened() + frames.window_update(1, 0),
        opened() + frames.window_update(1, frames.MOST),
        frame(frames.HEADERS, frames.END_HEADERS, 1, literal(b"X-UPPER", b"1")),
        opened() + b"".join(frame(frames.DATA, 0, 1, bytes(16384)) for _ in range(20)),
    ],
)
def test_a_rule_broken_on_one_stream_ends_that_stream_alone(bytes_in: bytes) -> None:
    """The next call on the connection is answered."""
    server = Echo()
    server.hold = True
    server.bodies.setdefault(1, bytearray())
    server.connection.credit = lambda *_: None  # type: ignore[method-assign]  # nothing is used, so windows run out
    server.connection.receive(HELLO + bytes_in)
    server.hold = False
    assert b"\x00\x00\x04\x03\x00\x00\x00\x00\x01" in server.take()
    server.connection.receive(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3, BLOCK))

    assert not server.connection.ended
    assert END in server.take()


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(1, 60))
def test_no_bytes_make_it_raise(noise: bytes, step: int) -> None:
    """Whatever comes after the greeting."""
    server = Echo()
    data = HELLO + opened() + noise
    for at in range(0, len(data), step):
        server.connection.receive(data[at : at + step])


FRAMES = st.builds(
    frame, st.integers(0, 11), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=30) | st.just(BLOCK)
)


@settings(deadline=None)
@given(st.lists(FRAMES, max_size=40))
def test_no_frames_make_it_raise_and_no_stream_is_lost(sent: list[bytes]) -> None:
    """Each stream that was opened is still open, was answered, or is told as left."""
    server = Echo()
    server.hold = True
    server.connection.receive(HELLO + b"".join(sent))
    for stream in list(server.connection.streams.values()):
        server.answer(stream)
    still = set(server.connection.streams)

    assert not still
    assert len(server.gone) == len(set(server.gone))
