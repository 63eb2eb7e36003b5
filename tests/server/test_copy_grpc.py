"""Product copy over gRPC by the generated client: the same answers, limits and outcomes as over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.vitrine_pb2_grpc import ProductCopyStub
from tests.server.copy_serving import LiveScripted, serving_copy
from tests.server.copy_world import GOOD, answer
from tests.server.serving import until

RECORD = pb.ProductRecord(
    title="Brimora Kettle 1.7 l",
    brand="Brimora",
    category="Kitchen / Kettles",
    attributes=[
        pb.ProductAttribute(name="capacity", values=[pb.AttributeValue(text="1.7 l")]),
        pb.ProductAttribute(name="power", values=[pb.AttributeValue(text="2200 W")]),
        pb.ProductAttribute(
            name="finishes", values=[pb.AttributeValue(text="black"), pb.AttributeValue(integer=4)]
        ),
    ],
    price=39.9,
    currency="eur",
)
ASK = pb.ProductCopyRequest(product=RECORD)


async def test_both_wires_give_the_same_answer(tmp_path: Path) -> None:
    """The second wire even finds it in the cache of the first: the requests are the same request."""
    body = {
        "product": {
            "title": RECORD.title,
            "brand": RECORD.brand,
            "category": RECORD.category,
            "attributes": {"capacity": "1.7 l", "power": "2200 W", "finishes": ["black", 4]},
            "price": 39.9,
            "currency": "EUR",
        }
    }
    async with (
        serving_copy(tmp_path, LiveScripted(), grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        call = ProductCopyStub(channel).Write(ASK, metadata=(("x-request-id", "page-7"),), timeout=5)
        told = await call
        trailing = dict(await call.trailing_metadata() or ())
        other = await http.post("/v1/product-copy", json=body)

    assert other.headers["cache-status"].startswith("vitrine; hit")
    (variant,) = told.variants
    (same,) = other.json()["variants"]
    assert (variant.headline, variant.description, list(variant.bullets)) == (
        same["headline"], same["description"], same["bullets"],
    )  # fmt: skip
    assert [(c.kind, c.text, c.part, c.start, c.end, c.source) for c in variant.checks.claims] == [
        tuple(c[name] for name in ("kind", "text", "part", "start", "end", "source"))
        for c in same["checks"]["claims"]
    ]
    assert (told.end.served_by, told.end.model.name, variant.checks.effort) == (
        "model",
        "scripted",
        "first_try",
    )
    assert trailing["x-request-id"] == "page-7"
    assert trailing["cache-status"] == "vitrine; fwd=miss; stored"
    assert "total;dur=" in trailing["server-timing"]


async def test_a_stream_tells_parts_checks_and_one_end(tmp_path: Path) -> None:
    """In reading order."""
    async with (
        serving_copy(tmp_path, LiveScripted(), grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        seen = [event async for event in ProductCopyStub(channel).WriteStream(ASK, timeout=5)]

    assert [event.part.name or event.WhichOneof("event") for event in seen] == [
        "headline", "description", "bullets[0]", "bullets[1]", "checked", "end",
    ]  # fmt: skip
    assert seen[0].part.text == GOOD.headline
    assert seen[-1].end.usage.completion_tokens == len(answer(GOOD))


@pytest.mark.parametrize("method", ["Write", "WriteStream"])
async def test_who_cancels_takes_the_copy_along_on_grpc(tmp_path: Path, method: str) -> None:
    """Permits come back and the engine is let go."""
    model = LiveScripted()
    model.hold = True
    async with (
        serving_copy(tmp_path, model, grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        call = getattr(ProductCopyStub(channel), method)(ASK, timeout=60)
        reading = asyncio.ensure_future(_read(call))
        await until(lambda: model.running == 1)
        call.cancel()
        await until(lambda: server.app.copy.service.admission.in_flight == 0)
        assert (model.running, model.cancelled) == (0, 1)
        with pytest.raises(asyncio.CancelledError):
            await reading


async def _read(call: Any) -> None:
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call


async def test_the_calls_deadline_is_kept(tmp_path: Path) -> None:
    """The template answers before the client gives up."""
    model = LiveScripted()
    model.hold = True
    async with (
        serving_copy(tmp_path, model, grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        told = await ProductCopyStub(channel).Write(ASK, timeout=0.4)
        model.hold = False

    assert told.end.fallback_reason == "deadline"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ProductCopyRequest(), "product.title"),
        (pb.ProductCopyRequest(product=RECORD, channel="tv"), "channel"),
        (pb.ProductCopyRequest(product=RECORD, variants=0), "variants"),
        (pb.ProductCopyRequest(product=RECORD, max_words=1), "max_words"),
        (pb.ProductCopyRequest(product=RECORD, deadline_ms=-1), "deadline_ms"),
        (
            pb.ProductCopyRequest(
                product=pb.ProductRecord(title="x", attributes=[pb.ProductAttribute(name="a")])
            ),
            "product.attributes[0]",
        ),
        (
            pb.ProductCopyRequest(
                product=pb.ProductRecord(
                    title="x",
                    attributes=[
                        pb.ProductAttribute(name="a", values=[pb.AttributeValue(integer=1)]),
                        pb.ProductAttribute(name="a", values=[pb.AttributeValue(integer=2)]),
                    ],
                )
            ),
            "product.attributes[1]",
        ),
    ],
)
async def test_a_wrong_message_is_an_invalid_argument_by_name(
    tmp_path: Path, request_: pb.ProductCopyRequest, field: str
) -> None:
    """On both methods, before anything is asked of the engine."""
    model = LiveScripted()
    async with (
        serving_copy(tmp_path, model, grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        stub = ProductCopyStub(channel)
        for call in (stub.Write(request_, timeout=5), stub.WriteStream(request_, timeout=5)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await _read(call)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
            assert field.encode() in details
    assert not model.asked


async def test_bytes_that_are_no_message_and_a_full_house_are_refused(tmp_path: Path) -> None:
    """INVALID_ARGUMENT and RESOURCE_EXHAUSTED, not an internal error."""
    model = LiveScripted()
    model.hold = True
    async with (
        serving_copy(tmp_path, model, grpc=True, copy_max_in_flight=1) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        raw = channel.unary_unary("/vitrine.v1.ProductCopy/Write")
        for data in (b"\xff\xff\xff", b"x" * (2 << 20)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await raw(data, timeout=5)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        held = asyncio.ensure_future(_read(ProductCopyStub(channel).Write(ASK, timeout=60)))
        await until(lambda: model.running == 1)
        with pytest.raises(grpc.aio.AioRpcError) as full:
            await ProductCopyStub(channel).Write(ASK, timeout=5)
        assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        model.hold = False
        await held


async def test_health_knows_the_service(tmp_path: Path) -> None:
    """As a balancer asks for it."""
    async with (
        serving_copy(tmp_path, grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        ask = health_pb2.HealthCheckRequest(service="vitrine.v1.ProductCopy")
        for _ in range(500):
            told = await health_pb2_grpc.HealthStub(channel).Check(ask, timeout=5)
            if told.status == health_pb2.HealthCheckResponse.SERVING:
                return
        raise AssertionError("not serving")
