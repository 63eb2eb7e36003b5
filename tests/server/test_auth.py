"""Keys: with any configured, every path but health wants one."""

from __future__ import annotations

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from server.errors import Unauthenticated
from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.vitrine_pb2_grpc import RecommendationsStub
from server.keys import Keys
from tests.server.serving import serving

KEYS = ("first-key", "second-key")
ASK = {"history": ["sku-1"], "k": 1}


@pytest.mark.parametrize(
    "given", [None, "", "first-ke", "first-keyy", "FIRST-KEY", "first-key,second-key", "é"]
)
def test_only_a_configured_key_opens(given: str | None) -> None:
    """Nearly right is wrong."""
    with pytest.raises(Unauthenticated):
        Keys(KEYS).check(None, None if given is None else given.encode())


@pytest.mark.parametrize("header", [b"Bearer second-key", b"bearer second-key", b"BEARER  second-key"])
def test_bearer_is_accepted_in_any_case(header: bytes) -> None:
    """The scheme's name has no case (RFC 9110)."""
    Keys(KEYS).check(header, None)


def test_without_keys_everybody_may_call() -> None:
    """Keys are optional."""
    Keys(()).check(None, None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/recommendations"),
        ("POST", "/v1/recommendations?x=1"),
        ("POST", "/v1/recommendations/batch"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/shop"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
        ("POST", "/healthz"),
        ("GET", "//v1/models"),
        ("GET", "/healthz/../v1/models"),
    ],
)
async def test_every_path_wants_a_key(method: str, path: str) -> None:
    """No path, known or not, is answered without one; with either header it is."""
    async with serving(api_keys=KEYS) as server, httpx.AsyncClient() as client:
        without = await client.request(method, server.url + path, json=ASK)
        wrong = await client.request(method, server.url + path, json=ASK, headers={"x-api-key": "third-key"})
        bearer = await client.request(
            method, server.url + path, json=ASK, headers={"authorization": "Bearer first-key"}
        )
        header = await client.request(
            method, server.url + path, json=ASK, headers={"x-api-key": "second-key"}
        )

        assert (without.status_code, wrong.status_code) == (401, 401)
        assert without.headers["www-authenticate"] == "Bearer"
        assert without.json()["error"]["code"] == "unauthenticated"
        assert bearer.status_code == header.status_code != 401


async def test_health_wants_no_key_and_metrics_do() -> None:
    """Probes have no secrets; numbers about the shop are not for everybody."""
    async with serving(api_keys=KEYS) as server, httpx.AsyncClient() as client:
        for base in (server.url, server.metrics_url):
            assert (await client.get(base + "/healthz")).status_code == 200
            assert (await client.get(base + "/readyz")).status_code == 200
        assert (await client.get(server.metrics_url + "/metrics")).status_code == 401
        with_key = await client.get(
            server.metrics_url + "/metrics", headers={"authorization": "Bearer first-key"}
        )
        assert with_key.status_code == 200


async def test_grpc_wants_a_key_too() -> None:
    """On every method, reflection included; health is open."""
    async with (
        serving(api_keys=KEYS, grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        stub = RecommendationsStub(channel)
        request = pb.RecommendRequest(history=["sku-1"], k=1)
        for metadata in ((), (("x-api-key", "third-key"),), (("authorization", "Basic first-key"),)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Recommend(request, metadata=metadata, timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        for metadata in ((("x-api-key", "second-key"),), (("authorization", "Bearer first-key"),)):
            assert (await stub.Recommend(request, metadata=metadata, timeout=5)).served_by == "model"
        health = health_pb2_grpc.HealthStub(channel)
        status = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as hidden:
            ask = reflection_pb2.ServerReflectionRequest(list_services="")
            async for _ in reflection.ServerReflectionInfo(iter([ask]), timeout=5):
                pass
        assert hidden.value.code() is grpc.StatusCode.UNAUTHENTICATED
