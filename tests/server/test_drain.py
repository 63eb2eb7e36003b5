"""SIGTERM: not ready, what is in flight ends, new work is refused, exit 0."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.vitrine_pb2_grpc import RecommendationsStub
from tests.server.serving import post, serving, until

ASK = {"history": ["sku-1"], "k": 1}
ROOT = Path(__file__).resolve().parents[2]


async def test_what_is_in_flight_ends_and_what_is_new_is_refused() -> None:
    """During the drain: not ready, 503 with Retry-After and close for new work, the old answer whole."""
    async with serving(default_deadline_ms=9000, drain_s=5.0) as server:
        server.fake.hold = True
        held, idle = await server.connect(), await server.connect()
        held.send(post(ASK))
        idle.send(b"GET /readyz HTTP/1.1\r\nhost: shop\r\n\r\n")
        assert (await idle.answer())[0] == 200
        await until(lambda: server.fake.waiting)

        stopping = asyncio.create_task(server.stop())
        await until(lambda: server.app.service.draining)
        idle.send(b"GET /readyz HTTP/1.1\r\nhost: shop\r\n\r\n")
        status, _, body = await idle.answer()
        assert (status, "draining" in json.loads(body)["reasons"][0]) == (503, True)
        late = await server.connect()
        late.send(post(ASK))
        status, headers, _ = await late.answer()
        assert (status, headers["connection"], int(headers["retry-after"]) >= 1) == (503, "close", True)
        assert not stopping.done()

        server.fake.release()
        assert (await held.answer())[0] == 200
        await stopping
        assert server.fake.closed
        with pytest.raises(OSError):
            await server.connect()


async def test_a_pre_stop_time_goes_on_accepting_while_not_ready() -> None:
    """Balancers need a moment to look elsewhere; nobody is refused in it."""
    async with serving(pre_stop_s=0.3) as server:
        connection = await server.connect()
        connection.send(post(ASK))
        await connection.answer()
        stopping = asyncio.create_task(server.stop())
        await until(lambda: server.app.service.draining)
        connection.send(post(ASK))
        assert (await connection.answer())[0] == 200
        await stopping


async def test_a_drain_ends_though_an_engine_does_not() -> None:
    """The limit holds: what is still in flight then is let go, and the ports close."""
    async with serving(default_deadline_ms=60_000, max_deadline_ms=60_000, drain_s=0.2) as server:
        server.fake.hold = True
        held = await server.connect()
        held.send(post(ASK))
        await until(lambda: server.fake.waiting)
        async with asyncio.timeout(5):
            await server.stop()


async def test_grpc_drains_with_the_rest() -> None:
    """Health says NOT_SERVING, the call in flight gets its answer."""
    async with serving(grpc=True, default_deadline_ms=9000, drain_s=5.0) as server:
        server.fake.hold = True
        async with grpc.aio.insecure_channel(server.grpc_target) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            call = RecommendationsStub(channel).Recommend(
                pb.RecommendRequest(history=["sku-1"], k=1), timeout=8
            )
            watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=8)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            await until(lambda: server.fake.waiting)
            stopping = asyncio.create_task(server.stop())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            server.fake.release()
            assert (await call).items[0].item_id == "sku-1-r1"
            watch.cancel()
            await stopping


PROGRAM = """
import sys
import server.app
from tests.server.fake_recommender import FakeRecommender
fake = FakeRecommender()
fake.hold = len(sys.argv) > 1 and sys.argv[1] == "hold"
opened = server.app.Application.__init__
def init(self, settings):
    opened(self, settings, lambda *_: fake)
server.app.Application.__init__ = init
from server.__main__ import main
sys.exit(main(["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--default-deadline-ms", "9000"], env={}))
"""


async def start(*args: str) -> tuple[asyncio.subprocess.Process, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        *args,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    url = metrics = ""
    async with asyncio.timeout(20):
        while line := (await process.stdout.readline()).decode():
            if "HTTP" in line:
                url = line.split()[1]
            if "metrics" in line:
                metrics = line.split()[1]
            if line.startswith("try: "):
                break
    return process, url, metrics


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_exits_0(number: signal.Signals) -> None:
    """The process: ready, told what to try, asked, told to stop, gone with status 0."""
    process, url, _ = await start()
    async with httpx.AsyncClient() as client:
        assert (await client.post(url + "/v1/recommendations", json=ASK)).status_code == 200
    process.send_signal(number)
    async with asyncio.timeout(15):
        assert await process.wait() == 0


async def test_a_second_signal_exits_now() -> None:
    """An operator who is in a hurry does not wait for the drain."""
    process, url, metrics = await start("hold")
    async with httpx.AsyncClient() as client:
        asking = asyncio.create_task(client.post(url + "/v1/recommendations", json=ASK, timeout=20))
        async with asyncio.timeout(10):
            while "vitrine_in_flight 1.0" not in (await client.get(metrics)).text:
                pass
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        async with asyncio.timeout(10):
            while b"draining" not in (line := await process.stdout.readline()):
                assert line, (
                    "it ended without a word"
                )  # requests to try come first, as many as models are built
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 1
        with pytest.raises(httpx.HTTPError):
            await asking
