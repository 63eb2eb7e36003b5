"""Alive by the turning of the loop, ready by golden replay and engine progress; both also told by another thread."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server import app as app_module
from tests.server.fake_recommender import Health
from tests.server.serving import post, serving, until


@pytest.mark.parametrize(
    ("health", "says"),
    [
        (Health(ready=False, why="a batch has been running for 9 s"), "a batch has been running for 9 s"),
        (Health(golden_ok=False), "golden replay has not passed"),
    ],
)
async def test_not_ready_says_why(health: Health, says: str) -> None:
    """503 with the reasons, on both ports; alive all the same."""
    async with serving() as server, httpx.AsyncClient() as client:
        server.fake.health_now = health
        for base in (server.url, server.metrics_url):
            response = await client.get(base + "/readyz")
            assert response.status_code == 503
            assert response.json()["reasons"] == [says]
            assert (await client.get(base + "/healthz")).status_code == 200


async def test_a_loop_that_hangs_is_told_by_the_metrics_port() -> None:
    """While the loop is stuck, another thread answers /healthz with 503; when it turns again, with 200."""
    async with serving(max_loop_lag_s=0.2) as server:
        statuses: list[int] = []

        def probe() -> None:
            try:
                with urllib.request.urlopen(server.metrics_url + "/healthz", timeout=5) as response:
                    statuses.append(response.status)
            except urllib.error.HTTPError as error:
                statuses.append(error.code)

        thread = threading.Thread(target=lambda: (time.sleep(0.5), probe()))
        thread.start()
        thread.join(10)  # the loop is stuck in here
        assert statuses == [503]

        beat = server.app.heartbeat
        await until(lambda: beat.last_lag_s >= 0.2)  # the late beat
        await until(lambda: beat.last_lag_s < 0.2)  # and the next, in time
        await asyncio.to_thread(probe)
        assert statuses == [503, 200]


async def test_a_scrape_during_overload_is_answered() -> None:
    """Every permit taken and a crowd refused: the numbers still come, and show it."""
    async with serving(max_in_flight=1, max_batch_requests=1) as server, httpx.AsyncClient() as client:
        server.fake.hold = True
        connection = await server.connect()
        connection.send(post({"history": ["sku-1"], "k": 1}))
        await until(lambda: server.fake.waiting)
        refused = await server.connect()
        refused.send(post({"history": ["sku-1"], "k": 1}) * 500)
        for _ in range(500):
            assert (await refused.answer())[0] == 429

        text = (await client.get(server.metrics_url + "/metrics")).text

        assert 'vitrine_rejected_total{reason="overloaded"} 500.0' in text
        assert "vitrine_in_flight 1.0" in text


async def test_scrapers_that_stall_do_not_use_up_the_metrics_port() -> None:
    """Sixteen connections that say nothing are dropped in time, and do not touch the serving port."""
    async with serving() as server, httpx.AsyncClient() as client:
        stalled = [await asyncio.open_connection("127.0.0.1", server.app.metrics_port) for _ in range(16)]
        assert (await client.get(server.url + "/healthz")).status_code == 200
        assert await stalled[0][0].read() == b""
        assert (await client.get(server.metrics_url + "/healthz")).status_code == 200
        for _, writer in stalled:
            writer.close()


async def test_metrics_off_serves_health_and_no_numbers() -> None:
    """The port stays for probes; nothing is measured."""
    async with serving(metrics=False) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.metrics_url + "/readyz")).status_code == 200
        assert "vitrine_" not in (await client.get(server.metrics_url + "/metrics")).text


async def test_grpc_health_follows_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that stops answering turns the gRPC health to NOT_SERVING without a restart."""
    monkeypatch.setattr(app_module, "HEALTH_EVERY_S", 0.01)
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        ask = health_pb2.HealthCheckRequest(service="vitrine.v1.Recommendations")
        watch = health_pb2_grpc.HealthStub(channel).Watch(ask, timeout=10)
        states = []
        async for status in watch:
            states.append(status.status)
            if states[-1] == health_pb2.HealthCheckResponse.SERVING:
                server.fake.health_now = Health(ready=False, why="stuck")
            if len(states) > 1 and states[-1] == health_pb2.HealthCheckResponse.NOT_SERVING:
                break
        watch.cancel()


class Broken:
    """A product beside the recommendations that does not work."""

    essential = False

    def models(self) -> list[object]:
        return []

    def reasons(self) -> list[str]:
        return ["writer: its engine hangs"]


async def test_a_broken_neighbour_degrades_recommendations_and_takes_them_from_nobody() -> None:
    """/readyz stays 200 and says what is wrong; health checks of the whole and of the recommendations say SERVING."""
    async with serving() as server, httpx.AsyncClient() as client:
        server.app.service.companions.append(Broken())  # type: ignore[arg-type]
        response = await client.get(server.url + "/readyz")
        assert response.status_code == 200
        assert response.json()["reasons"] == []
        assert response.json()["degraded"] == ["writer: its engine hangs"]


async def test_health_is_told_for_each_service() -> None:
    """A service that answers without the engine goes on saying so where the recommendations' own is gone."""
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        told = server.app._grpc
        assert told is not None
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=10)
        async for status in watch:  # the app itself has told it, and tells it again only of a change
            if status.status == health_pb2.HealthCheckResponse.SERVING:
                break
        watch.cancel()
        told._names = ("vitrine.v1.Recommendations", "vitrine.v1.ProductCopy")
        await told.serving(False, own=False, others=True)
        stub = health_pb2_grpc.HealthStub(channel)
        asked = ("", *told._names)
        found = [(await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in asked]
    response = health_pb2.HealthCheckResponse
    assert found == [response.NOT_SERVING, response.NOT_SERVING, response.SERVING]


async def test_a_damaged_knowledge_file_is_named_and_stops_nothing(tmp_path: Path) -> None:
    """/readyz stays 200 and says which file is wrong and what to do."""
    file = tmp_path / "knowledge.db"
    file.write_bytes(b"this is no database, and long enough to be looked at as one" * 100)
    async with serving(knowledge=file) as server, httpx.AsyncClient() as client:
        await server.app.warm()
        answer = await client.get(server.url + "/readyz")

    assert answer.status_code == 200 and answer.json()["ready"]
    (trouble,) = answer.json()["degraded"]
    assert "knowledge base" in trouble and "damaged" in trouble
