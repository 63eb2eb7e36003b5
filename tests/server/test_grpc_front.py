"""The gRPC port seen by real clients and by those that misbehave."""

from __future__ import annotations

import asyncio
import gzip

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api import wire
from server.grpc_api.vitrine_pb2_grpc import RecommendationsStub
from server.http2 import frames
from server.http2.frames import frame
from server.http2.header_blocks import literal
from tests.server.serving import post, serving, until

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
        async with serving(grpc=True) as server:

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
        )
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
