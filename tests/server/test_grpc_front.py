"""The gRPC port seen by real clients and by those that misbehave."""

from __future__ import annotations

import asyncio
import gzip

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from server.byte_budget import ByteBudget
from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api import wire
from server.grpc_api.call import Call
from server.grpc_api.protocol import GrpcProtocol, Shared
from server.grpc_api.vitrine_pb2_grpc import RecommendationsStub
from server.http2 import frames
from server.http2.frames import frame
from server.http2.header_blocks import literal
from server.http2.streams import Limits
from server.keys import Keys
from server.telemetry_interface import NullTelemetry
from tests.server.serving import Serving, post, serving, until

ASK = pb.RecommendRequest(history=["sku-1"], k=3)
PATH = "/vitrine.v1.Recommendations/Recommend"
HELLO = frames.PREFACE + frame(frames.SETTINGS, 0, 0)


def opening(number: int, *extra: tuple[bytes, bytes], path: str = PATH) -> bytes:
    fields = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b"te", b"trailers"),
        (b"content-type", b"application/grpc"), *extra,
    ]  # fmt: skip
    block = b"".join(literal(name, value) for name, value in fields)
    return frame(frames.HEADERS, frames.END_HEADERS, number, block)


def message(number: int, payload: bytes, prefix: bytes | None = None) -> bytes:
    whole = wire.message(payload) if prefix is None else prefix + payload
    return frame(frames.DATA, frames.END_STREAM, number, whole)


async def raw(target: str, data: bytes, needle: bytes) -> bytes:
    """What the server says to these bytes, until ``needle`` is in it or the connection ends."""
    host, port = target.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    said = b""
    while needle not in said:
        more = await reader.read(65536)
        if not more:
            break
        said += more
    writer.close()
    return said


def open_calls(server: Serving) -> list[Call]:
    grpc_server = server.app._grpc
    assert grpc_server is not None
    return [call for connection in grpc_server._shared.open for call in connection.calls()]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_clients_that_compress_are_understood(compression: grpc.Compression) -> None:
    """By grpcio's own two ways."""
    async with (
        serving(grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target, compression=compression) as channel,
    ):
        many = pb.RecommendRequest(history=["sku-1"] * 300, k=3)
        assert len((await RecommendationsStub(channel).Recommend(many, timeout=5)).items) == 3


def test_the_blocking_client_works_too() -> None:
    """grpcio without asyncio, several calls on one channel from a thread."""

    async def run() -> None:
        async with serving(grpc=True, target_wait_ms=0) as server:

            def ask() -> list[int]:
                with grpc.insecure_channel(server.grpc_target) as channel:
                    stub = RecommendationsStub(channel)
                    futures = [stub.Recommend.future(ASK, timeout=5) for _ in range(200)]
                    return [len(future.result().items) for future in futures]

            assert await asyncio.to_thread(ask) == [3] * 200

    asyncio.run(run())


async def test_an_unknown_method_is_unimplemented() -> None:
    """With its name, and the connection goes on."""
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/vitrine.v1.Nothing/Ask")(b"", timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "/vitrine.v1.Nothing/Ask" in (refused.value.details() or "")
        assert (await RecommendationsStub(channel).Recommend(ASK, timeout=5)).items


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (opening(1) + message(1, b"", prefix=b""), b"3"),  # no message
        (opening(1) + message(1, b"abc", prefix=b"\x00\x00\x00\x00\x09"), b"3"),  # ends within one
        (opening(1) + message(1, wire.message(b"") + wire.message(b""), prefix=b""), b"3"),  # two
        (opening(1) + message(1, b"abc", prefix=b"\x01\x00\x00\x00\x03"), b"3"),  # compressed, not said how
        (opening(1, (b"grpc-encoding", b"gzip")) + message(1, b"abc", prefix=b"\x01\x00\x00\x00\x03"), b"3"),
        (opening(1, (b"grpc-encoding", b"br")) + message(1, b""), b"12"),
        (opening(1, (b"grpc-timeout", b"soon")) + message(1, b""), b"3"),
        (opening(1) + message(1, b"\xff\xff\xff"), b"3"),
    ],
)
async def test_what_is_no_call_gets_a_status_and_the_next_an_answer(sent: bytes, status: bytes) -> None:
    """On the same connection."""
    async with serving(grpc=True) as server:
        following = opening(3) + message(3, ASK.SerializeToString())
        said = await raw(server.grpc_target, HELLO + sent + following, wire.OK_END)

        assert literal(b"grpc-status", status) in said
        assert wire.OK_END in said
        assert server.app.admission.in_flight == 0


async def test_a_compression_bomb_is_not_unpacked() -> None:
    """A thousand times the limit in a few kilobytes is told the limit."""
    bomb = gzip.compress(bytes(64 << 20))
    async with serving(grpc=True) as server:
        data = HELLO + opening(1, (b"grpc-encoding", b"gzip"))
        whole = b"\x01" + len(bomb).to_bytes(4, "big") + bomb
        data += b"".join(
            frame(frames.DATA, 0, 1, whole[at : at + 16384]) for at in range(0, len(whole), 16384)
        ) + frame(frames.DATA, frames.END_STREAM, 1)
        said = await raw(server.grpc_target, data, b"grpc-message")

        assert literal(b"grpc-status", b"3") in said
        assert b"1048576" in said


async def test_a_page_of_http_on_this_port_ends_that_connection_alone() -> None:
    """With GOAWAY, which says what the port speaks; HTTP/2 without gRPC gets 415."""
    async with serving(grpc=True) as server:
        assert b"gRPC" in await raw(server.grpc_target, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"never")
        get = b"".join(
            literal(*pair) for pair in [(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"http")]
        )
        said = await raw(server.grpc_target, HELLO + frame(frames.HEADERS, 0x5, 1, get), b"415")
        assert b"415" in said


async def test_a_message_that_never_ends_and_a_client_that_never_greets_are_ended() -> None:
    """Within the read time-out, by a status where one can be read."""
    async with serving(grpc=True, read_timeout_s=0.2) as server:
        said = await raw(server.grpc_target, HELLO + opening(1), b"grpc-message")
        assert literal(b"grpc-status", b"4") in said
        assert await raw(server.grpc_target, b"PRI * HTTP", b"never") is not None


async def test_who_disconnects_takes_all_calls_along() -> None:
    """The permits come back."""
    async with serving(grpc=True, default_deadline_ms=9000) as server:
        server.fake.hold = True
        host, port = server.grpc_target.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        calls = b"".join(opening(n) + message(n, ASK.SerializeToString()) for n in (1, 3, 5))
        writer.write(HELLO + calls)
        await until(lambda: len(server.fake.waiting) == 3)
        writer.transport.abort()
        await until(lambda: server.app.admission.in_flight == 0)

        assert all(future.cancelled() for _, future in server.fake.waiting)


async def test_bytes_that_arrive_are_bounded_over_all_connections_and_wires() -> None:
    """Who would exceed the sum is told to come again; when the bytes have gone, all is as before."""
    limits = {"max_body_bytes": 50_000, "max_bytes_in_flight": 60_000, "read_timeout_s": 30.0}
    async with serving(grpc=True, **limits) as server:
        budget = server.app._budget
        first = await server.connect()
        body = b'{"history": ["sku-1"]' + b" " * 40_000
        first.send(post(body + b"}")[:-1])
        await until(lambda: budget.used_bytes >= 40_000)
        data = HELLO + opening(1) + frame(frames.DATA, 0, 1, b"\x00\x00\x00\xaf\xc8" + bytes(16_000))
        data += frame(frames.DATA, 0, 1, bytes(16_000))
        said = await raw(server.grpc_target, data, b"grpc-message")
        assert literal(b"grpc-status", b"8") in said
        second = await server.connect()
        second.send(post(body + b"}"))
        status, headers, _ = await second.answer()
        assert (status, "retry-after" in headers) == (429, True)
        first.send(b"}")
        assert (await first.answer())[0] == 200
        second.close()
        await until(lambda: budget.used_bytes == 0)


async def test_bytes_of_calls_that_are_over_are_not_held() -> None:
    """Neither those that come while the end waits for a window, nor those of clients that go; nor is one client all."""
    async with serving(grpc=True, max_bytes_in_flight=1 << 24) as server:
        budget = server.app._budget
        host, port = server.grpc_target.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        ask = wire.message(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
        writer.write(HELLO + frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
        for number in (1, 3):
            writer.write(
                opening(number, (b"grpc-timeout", b"50m"), path=path) + frame(frames.DATA, 0, number, ask)
            )
        await until(lambda: len(open_calls(server)) == 2 and all(call.ended for call in open_calls(server)))
        for number in (1, 3):
            writer.write(frame(frames.DATA, 0, number, b"\x00\x00\x08\x00\x00" + bytes(16_000)) * 3)
        assert (await RecommendationsStub(grpc.aio.insecure_channel(server.grpc_target)).Recommend(ASK)).items
        assert budget.used_bytes == 0
        said = await raw(
            server.grpc_target,
            HELLO
            + b"".join(
                opening(n) + frame(frames.DATA, 0, n, b"\x00\x00\x08\x00\x00" + bytes(16_000))
                for n in range(1, 299, 2)
            ),
            literal(b"grpc-status", b"8"),
        )
        assert literal(b"grpc-status", b"8") in said
        writer.transport.abort()
        await until(lambda: budget.used_bytes == 0)


async def test_a_message_of_the_largest_size_fits_however_small_the_budget() -> None:
    """A connection's part of the budget holds one request at least, headers and all."""
    limits = {"max_body_bytes": 50_000, "max_bytes_in_flight": 60_000}
    async with (
        serving(grpc=True, **limits) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        ask = pb.RecommendRequest(history=["sku-1"], k=1, exclude=["x" * 100] * 450)
        answer = await RecommendationsStub(channel).Recommend(
            ask, metadata=(("x-note", "n" * 2000),), timeout=5
        )

    assert 45_000 < ask.ByteSize() < 50_000
    assert answer.items


async def test_compressed_messages_are_unpacked_one_by_one() -> None:
    """Calls that never end hold what they sent, not what that would be."""
    small = gzip.compress(bytes(1_000_000))
    payload = b"\x01" + len(small).to_bytes(4, "big") + small
    async with serving(grpc=True) as server:
        host, port = server.grpc_target.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(HELLO)
        for number in range(1, 401, 2):
            writer.write(
                opening(number, (b"grpc-encoding", b"gzip")) + frame(frames.DATA, 0, number, payload)
            )
        budget = server.app._budget
        await until(lambda: budget.used_bytes >= 200 * len(payload))
        assert sum(len(message) for call in open_calls(server) for message in call.messages) == 200 * len(
            payload
        )
        writer.transport.abort()
        await until(lambda: budget.used_bytes == 0)


async def test_a_flood_of_small_messages_is_no_turn_of_everybody_else() -> None:
    """Between any two of them the loop goes round."""
    async with serving(grpc=True) as server:
        host, port = server.grpc_target.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        writer.write(HELLO + frames.window_update(0, 1 << 30) + opening(1, path=path))
        writer.write(b"".join(frame(frames.DATA, 0, 1, wire.message(b"") * 3000) for _ in range(3)))
        await reader.read(10)
        assert (await RecommendationsStub(grpc.aio.insecure_channel(server.grpc_target)).Recommend(ASK)).items
        assert any(call.messages for call in open_calls(server))
        writer.transport.abort()


async def test_garbage_on_a_stream_of_messages_is_told_so() -> None:
    """Not as a fault of ours."""
    async with serving(grpc=True) as server:
        path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        data = HELLO + opening(1, path=path) + message(1, b"\xff\xff\xff")
        assert literal(b"grpc-status", b"3") in await raw(server.grpc_target, data, b"grpc-message")


async def test_large_metadata_ends_its_own_call_alone() -> None:
    """The others on the channel are answered."""
    async with serving(grpc=True, default_deadline_ms=9000) as server:
        server.fake.hold = True
        options = [("grpc.max_metadata_size", 1 << 20)]
        async with grpc.aio.insecure_channel(server.grpc_target, options=options) as channel:
            stub = RecommendationsStub(channel)
            held = asyncio.ensure_future(stub.Recommend(ASK, timeout=8))
            await until(lambda: server.fake.waiting)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Recommend(ASK, metadata=(("x-big", "x" * 40_000),), timeout=5)
            server.fake.release()
            assert (await held).items
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_who_reads_slowly_is_not_taken_for_stalled() -> None:
    """A buffer that changes is progress; one that does not for the whole limit is none."""

    class Transport:
        unwritten, aborted = 100, False

        def write(self, data: bytes) -> None: ...

        def get_write_buffer_size(self) -> int:
            return self.unwritten

        def is_closing(self) -> bool:
            return self.aborted

        def abort(self) -> None:
            self.aborted = True

    shared = Shared(
        methods={}, keys=Keys(()), telemetry=NullTelemetry(), max_message_bytes=1000, budget=ByteBudget(1 << 20),
        max_connections=9, limits=Limits(), read_timeout_s=1e9, write_timeout_s=10.0,
    )  # fmt: skip
    connection, transport = GrpcProtocol(shared), Transport()
    connection.connection_made(transport)
    for second in range(0, 60, 5):
        transport.unwritten += 1
        connection.sweep(1000.0 + second)
    assert not transport.aborted
    connection.sweep(1100.0)
    assert transport.aborted


async def test_a_watch_of_health_does_not_hold_up_the_drain() -> None:
    """It is told NOT_SERVING, and then that the server is going."""
    async with (
        serving(grpc=True, drain_s=15.0) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(5):
            stopping = asyncio.create_task(server.stop())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await watch.read()
            await stopping
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_connections_beyond_the_limit_are_sent_away() -> None:
    """And those that are there go on."""
    async with (
        serving(grpc=True, max_connections=1) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        assert (await RecommendationsStub(channel).Recommend(ASK, timeout=5)).items
        assert b"too many connections" in await raw(server.grpc_target, HELLO, b"never")
        assert (await RecommendationsStub(channel).Recommend(ASK, timeout=5)).items


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"4m", 0.004), (b"5u", 5e-6), (b"6n", 6e-9)],
)
def test_timeouts_have_six_units(given: bytes, seconds: float) -> None:
    """As PROTOCOL-HTTP2 writes them."""
    assert wire.timeout_s({b"grpc-timeout": given}) == pytest.approx(seconds)
