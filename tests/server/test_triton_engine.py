"""The engine on a fleet: against our own server, which speaks the same protocol, and against a real tritonserver."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from bench.real_triton import MISSING, RealTriton, triton_venv
from build_engines.triton.package import package
from server.app import Application
from server.engines.base import TensorSpec, on_behalf_of
from server.engines.triton import TritonEngine
from server.engines.triton_fleet import FleetOptions, TritonFleet
from server.errors import DeadlineExceeded, NotReady
from server.settings import Settings
from tests.server.kserve.kserve_world import HISTORY, serving
from tests.tiny import MAX_K, Tiny

INPUTS = (
    TensorSpec(name="item_ids", dtype="int32", shape=("B", "L")),
    TensorSpec(name="exclude_ids", dtype="int32", shape=("B", "E")),
)
OUTPUTS = (
    TensorSpec(name="ids", dtype="int32", shape=("B", MAX_K)),
    TensorSpec(name="scores", dtype="float32", shape=("B", MAX_K)),
)
ASK = {"item_ids": HISTORY, "exclude_ids": HISTORY}
NOWHERE = "127.0.0.1:9"  # a port that nobody listens on
needs_triton = pytest.mark.skipif(triton_venv() is None, reason=MISSING)


@dataclass
class Someone:
    """Who waits for a batch."""

    latest_s: float
    gone: bool = False

    def abandoned(self) -> bool:
        return self.gone


@contextlib.contextmanager
def fleet_of(*addresses: str, **options: Any) -> Iterator[TritonFleet]:
    fleet = TritonFleet(addresses, FleetOptions(look_every_s=0.05, **options))
    try:
        yield fleet
    finally:
        fleet.close()


def engine_on(fleet: TritonFleet, version: str = "1", wait_s: float = 10.0) -> TritonEngine:
    return TritonEngine(fleet, "tiny", version, inputs=INPUTS, outputs=OUTPUTS, wait_s=wait_s)


async def test_a_fleet_gives_what_the_engine_here_gives(tiny: Tiny) -> None:
    """A dead host among them is never asked, and the scores are numpy's from the weights."""
    async with serving(tiny.repository) as server:

        def run() -> dict[str, np.ndarray]:
            with fleet_of(NOWHERE, server.grpc) as fleet:
                return engine_on(fleet).run(ASK)

        answer = await asyncio.to_thread(run)

    reference_BN = tiny.reference(HISTORY.tolist())
    np.testing.assert_allclose(
        answer["scores"], -np.sort(-reference_BN, axis=1)[:, :MAX_K], rtol=1e-3, atol=1e-3
    )


async def test_a_version_that_no_host_has_is_said_with_what_each_host_said(tiny: Tiny) -> None:
    async with serving(tiny.repository) as server:

        def run() -> None:
            with fleet_of(NOWHERE, server.grpc) as fleet:
                engine_on(fleet, version="7", wait_s=0.3)

        with pytest.raises(NotReady, match=f"tiny version 7.*{NOWHERE}.*{server.grpc}"):
            await asyncio.to_thread(run)


async def test_a_host_that_dies_is_left_and_taken_back(tiny: Tiny) -> None:
    """What was not sent goes to the other host; without another one it is NotReady at once; a host that is back is asked."""
    async with contextlib.AsyncExitStack() as servers:
        first, second = [await servers.enter_async_context(serving(tiny.repository)) for _ in range(2)]
        fleet = servers.enter_context(fleet_of(first.grpc, second.grpc))
        engine = await asyncio.to_thread(engine_on, fleet)
        await asyncio.to_thread(_until, lambda: not any(host.out for host in fleet.hosts.all))
        port = first.app.grpc_port
        await first.app.stop()
        answers = [await asyncio.to_thread(engine.run, ASK) for _ in range(4)]
        assert len({answer["ids"].tobytes() for answer in answers}) == 1
        await second.app.stop()
        with pytest.raises(NotReady):
            for _ in range(3):  # the first may still be on its way to a host that is just going
                await asyncio.to_thread(engine.run, ASK)

        await servers.enter_async_context(serving(tiny.repository, grpc_port=port))

        await asyncio.to_thread(_until, lambda: not fleet.hosts.all[0].out)
        assert (await asyncio.to_thread(engine.run, ASK))["ids"].shape == (1, MAX_K)


async def test_a_deadline_is_tritons_time_out_and_a_batch_that_all_have_left_is_cancelled() -> None:
    """The call carries what is left as its own limit and as the timeout parameter, and ends when nobody waits any more."""
    seen: dict[str, Any] = {"cancelled": 0}
    async with _slow_host(seen) as address:

        def run() -> tuple[float, float]:
            with fleet_of(address) as fleet:
                engine = engine_on(fleet)
                began_s = time.monotonic()
                with on_behalf_of(Someone(began_s + 0.3)), pytest.raises(DeadlineExceeded):
                    engine.run(ASK)
                late_s = time.monotonic() - began_s
                someone = Someone(time.monotonic() + 30.0, gone=True)
                began_s = time.monotonic()
                with on_behalf_of(someone), pytest.raises(DeadlineExceeded):
                    engine.run(ASK)
                return late_s, time.monotonic() - began_s

        late_s, left_s = await asyncio.to_thread(run)
        async with asyncio.timeout(5):
            while seen["cancelled"] < 2:
                await asyncio.sleep(0.01)

    assert 0.25 < late_s < 15.0 and left_s < 15.0  # the host would take 30; a busy machine pauses
    assert 0 < seen["timeout_us"][0] <= 300_000 and 0 < seen["remaining_s"][0] <= 0.3


async def test_a_hedge_asks_a_second_host_when_the_first_is_slow(tiny: Tiny) -> None:
    """With one slow host among two, the answer is the other's, and it comes long before the slow one would have answered."""
    seen: dict[str, Any] = {"cancelled": 0}
    async with _slow_host(seen) as slow, serving(tiny.repository) as server:

        def run() -> tuple[int, float]:
            with fleet_of(server.grpc, slow, hedge=True) as fleet:
                engine = engine_on(fleet)
                _until(lambda: not any(host.out for host in fleet.hosts.all))
                fleet._took_s.extend([0.01] * 64)
                began_s = time.monotonic()
                for _ in range(4):  # two of them go to the slow one first
                    with on_behalf_of(Someone(time.monotonic() + 10.0)):
                        engine.run(ASK)
                return fleet.hedged, time.monotonic() - began_s

        hedged, took_s = await asyncio.to_thread(run)

    assert hedged >= 1 and took_s < 15.0  # two that waited for the slow one would take 20


@needs_triton
async def test_a_killed_tritonserver_costs_nobody_an_answer_and_is_used_again_when_it_is_back(
    tiny: Tiny, tmp_path: Path
) -> None:
    """Under load: kill it, bring it back. Every request ends once with 200, meanwhile from the fallback tier, never with a wrong item."""
    package(tiny.repository, tmp_path / "fleet", backend="python")
    triton = RealTriton(tmp_path / "fleet", log=tmp_path / "log")
    await asyncio.to_thread(triton.start)
    histories = [[f"sku-{n}", f"sku-{n + 9}"] for n in range(1, 20)]
    tiers: Counter[str] = Counter()
    wrong: list[Any] = []
    try:
        async with _in_front_of(tiny, triton.grpc) as app, httpx.AsyncClient() as client:
            url = f"http://127.0.0.1:{app.http_port}/v1/recommendations"

            async def ask(history: list[str]) -> tuple[str, list[str]]:
                answer = await client.post(url, json={"history": history, "k": 5}, timeout=10.0)
                assert answer.status_code == 200, answer.text
                body = answer.json()
                return body["served_by"], [item["item_id"] for item in body["items"]]

            right = {}
            for history in histories:
                tier, items = await ask(history)
                assert tier == "model"
                right[history[0]] = items
            stop = asyncio.Event()

            async def load(number: int) -> None:
                while not stop.is_set():
                    history = histories[number % len(histories)]
                    number += 1
                    tier, items = await ask(history)
                    tiers[tier] += 1
                    if tier == "model" and items != right[history[0]]:
                        wrong.append((history, items))

            loads = [asyncio.create_task(load(number)) for number in range(8)]
            await _until_async(lambda: tiers["model"] > 50)
            triton.kill()
            await _until_async(lambda: tiers["fallback"] > 100)
            await asyncio.to_thread(triton.start)
            ready_s, before = time.monotonic(), tiers["model"]
            await _until_async(lambda: tiers["model"] > before + 50)
            back_s = time.monotonic() - ready_s
            stop.set()
            await asyncio.gather(*loads)
            assert app.admission.in_flight == 0 and not app.service.flights
    finally:
        triton.kill()
    assert not wrong
    assert back_s < 5.0


@contextlib.asynccontextmanager
async def _in_front_of(tiny: Tiny, *hosts: str) -> AsyncIterator[Application]:
    fixed = {"http_port": 0, "grpc_port": 0, "metrics_port": 0, "drain_s": 2.0, "reload_interval_s": 0.0}
    quiet = {"text_engine": "off", "encoder": False, "copy": False, "support": False, "target_wait_ms": 0.0}
    remote = {"engine": "triton", "triton_hosts": hosts, "default_deadline_ms": 2_000.0}
    app = await asyncio.to_thread(
        Application, Settings.from_env({}, **fixed, **quiet, **remote, repository=tiny.repository)
    )
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


@contextlib.asynccontextmanager
async def _slow_host(seen: dict[str, Any]) -> AsyncIterator[str]:
    """A server of the protocol that is ready and then answers nothing."""
    from tritonclient.grpc import service_pb2 as pb
    from tritonclient.grpc import service_pb2_grpc

    class Slow(service_pb2_grpc.GRPCInferenceServiceServicer):
        async def ModelReady(self, request: Any, context: Any) -> Any:
            return pb.ModelReadyResponse(ready=True)

        async def ModelInfer(self, request: Any, context: Any) -> Any:
            seen.setdefault("timeout_us", []).append(request.parameters["timeout"].int64_param)
            seen.setdefault("remaining_s", []).append(context.time_remaining())
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                seen["cancelled"] += 1
                raise

    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Slow(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def _until(condition: Any) -> None:
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < 20.0
        time.sleep(0.005)


async def _until_async(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)
