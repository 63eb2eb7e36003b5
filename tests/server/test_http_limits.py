"""The limits of an HTTP connection: how large a request may be, and how slow a client. Raw sockets."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from server.byte_budget import ByteBudget
from server.http_api.connections import Connections
from server.telemetry_interface import NullTelemetry
from tests.server.serving import post, serving, until

ASK = {"history": ["sku-1"], "k": 1}


async def test_a_64_megabyte_body_is_refused_before_it_is_read() -> None:
    """413 arrives while nothing but the head was sent."""
    async with serving() as server:
        connection = await server.connect()
        connection.send(
            b"POST /v1/recommendations HTTP/1.1\r\nhost: shop\r\ncontent-length: 67108864\r\n\r\n"
        )
        status, headers, body = await connection.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert json.loads(body)["error"]["limit"] == "1048576 bytes"


async def test_a_client_that_sends_all_64_megabytes_still_gets_its_413() -> None:
    """The rest is thrown away for a moment, so that a client which writes first can read our answer."""
    async with serving() as server:
        connection = await server.connect()
        connection.send(
            b"POST /v1/recommendations HTTP/1.1\r\nhost: shop\r\ncontent-length: 67108864\r\n\r\n"
        )
        block = bytes(1 << 20)
        for _ in range(64):
            connection.send(block)
            await connection.writer.drain()
        assert (await connection.answer())[0] == 413


async def test_a_chunked_body_over_the_limit_is_refused() -> None:
    """Without a length the limit counts what has come."""
    async with serving(max_body_bytes=1024) as server:
        connection = await server.connect()
        connection.send(
            b"POST /v1/recommendations HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"800\r\n" + b" " * 2048 + b"\r\n"
        )  # fmt: skip
        assert (await connection.answer())[0] == 413
        assert await connection.closed()


async def test_the_body_limit_holds_on_every_path() -> None:
    """A path that is not ours is no way around the limit."""
    async with serving() as server:
        connection = await server.connect()
        connection.send(b"POST /nowhere HTTP/1.1\r\nhost: shop\r\ncontent-length: 67108864\r\n\r\n")
        assert (await connection.answer())[0] == 413


async def test_an_endless_head_is_cut_off() -> None:
    """Headers have a limit too."""
    async with serving() as server:
        connection = await server.connect()
        connection.send(b"GET /healthz HTTP/1.1\r\n" + b"x-filler: " + b"a" * 40_000)
        assert (await connection.answer())[0] == 431
        assert await connection.closed()


@pytest.mark.parametrize("before", [b"", post({"k": 0})])
@pytest.mark.parametrize("more", [(), ("connection: upgrade", "upgrade: h2c")])
async def test_a_head_that_comes_whole_is_held_to_its_limit(before: bytes, more: tuple[str, ...]) -> None:
    """40 KB of headers in one packet are refused, also behind another request; a large body does not count as head."""
    async with serving() as server:
        connection = await server.connect()
        await until(lambda: server.app.connections._open)
        protocol = next(iter(server.app.connections._open))
        for filler, size, want in ((30_000, 60_000, 200), (40_000, 0, 431)):
            text = json.dumps(ASK).encode() + b" " * size
            request = post(text, "/v1/recommendations", "x-filler: " + "a" * filler, *more)
            protocol.data_received(before + request)  # a socket might cut it in two
            if before:
                assert (await connection.answer())[0] == 422
            status, headers, body = await connection.answer()
            assert status == want
        error = json.loads(body)["error"]
        assert (error["field"], error["limit"]) == ("request", "32768 bytes")
        assert headers["connection"] == "close"
        assert await connection.closed()


async def test_who_sends_a_byte_now_and_then_is_cut_off() -> None:
    """A request must be whole within the limit, however lively its sender looks."""
    async with serving(read_timeout_s=0.3) as server:
        connection = await server.connect()
        began = time.monotonic()

        async def drip() -> None:
            for byte in post(ASK) * 100:
                connection.send(bytes((byte,)))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        status, headers, _ = await connection.answer()
        dripping.cancel()
        assert (status, headers["connection"]) == (408, "close")
        assert 0.2 < time.monotonic() - began < 2.0


async def test_who_does_not_read_is_cut_off_and_harms_nobody() -> None:
    """A client that asks for megabytes and takes none loses its connection; a neighbour is answered meanwhile."""
    async with serving(
        write_timeout_s=0.3, max_in_flight=4096, target_wait_ms=0, max_batch_requests=256
    ) as server:
        greedy = await server.connect()
        greedy.writer.transport.pause_reading()  # type: ignore[attr-defined]
        batch = {"requests": [{"history": ["sku-1"], "k": 100}] * 256}
        greedy.send(post(batch, "/v1/recommendations/batch") * 8)
        await until(lambda: len(server.fake.seen) >= 256)

        neighbour = await server.connect()
        neighbour.send(post(ASK))
        assert (await neighbour.answer())[0] == 200
        await until(lambda: len(server.app.connections) == 1)
        assert server.app.admission.in_flight == 0


class Reader:
    """A connection that is being written to, as the sweep sees it."""

    def __init__(self) -> None:
        self.transport = self
        self.discarding_until_s = None
        self.stalled_since_s: float | None = None
        self.unread_bytes = 0
        self.buffered_bytes = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.buffered_bytes

    def abort(self) -> None:
        self.aborted = True


def test_who_reads_slowly_but_steadily_is_kept_and_who_stops_is_not() -> None:
    """Ten limits long a buffer that never empties but shrinks is progress; one limit without a change is the end."""
    connections = Connections(
        10,
        ByteBudget(1),
        keep_alive_s=9.0,
        read_timeout_s=9.0,
        write_timeout_s=2.0,
        telemetry=NullTelemetry(),
    )
    slow: Any = Reader()
    connections.add(slow)
    for at in range(20):
        slow.buffered_bytes = 100_000 - at
        connections.sweep(float(at))
        assert not slow.aborted
    connections.sweep(20.5)
    assert not slow.aborted
    connections.sweep(21.0)
    assert slow.aborted


async def test_an_idle_connection_is_closed() -> None:
    """Keep-alive ends, so that forgotten clients do not use up the connections."""
    async with serving(keep_alive_s=0.2) as server:
        connection = await server.connect()
        connection.send(post(ASK))
        await connection.answer()
        assert await connection.closed()
