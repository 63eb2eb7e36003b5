"""gRPC: deadlines stop work, leaving cancels, and the answer's metadata is data."""

from __future__ import annotations

import asyncio
import re

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.vitrine_pb2_grpc import RecommendationsStub
from tests.server.serving import serving, until

ASK = pb.RecommendRequest(history=["sku-1"], k=1)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_the_answer_trails_its_id_its_times_and_its_trace() -> None:
    """The same facts that HTTP puts into headers."""
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        metadata = (("x-request-id", "cart-42"), ("traceparent", TRACE))
        call = RecommendationsStub(channel).Recommend(ASK, metadata=metadata, timeout=5)
        answer = await call
        trailing = dict(await call.trailing_metadata() or ())

        assert (trailing["x-request-id"], trailing["traceparent"]) == ("cart-42", TRACE)
        assert re.fullmatch(
            r"queue;dur=1\.000, encode;dur=0\.200, engine;dur=3\.000, .*", trailing["server-timing"]
        )
        assert answer.timings_ms.engine_ms == pytest.approx(3.0)


async def test_the_calls_deadline_is_the_requests_deadline() -> None:
    """Of the two the earlier holds, and the pipeline works towards it."""
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        stub = RecommendationsStub(channel)
        await stub.Recommend(pb.RecommendRequest(history=["sku-1"], k=1, deadline_ms=9000), timeout=2)
        await stub.Recommend(pb.RecommendRequest(history=["sku-1"], k=1, deadline_ms=50), timeout=2)
        await stub.Recommend(ASK)

        first, second, third = server.fake.deadlines_s
        # gRPC rounds a timeout up on the wire: a bare grpcio server is told up to 2.0098 s of these 2.
        assert 1.0 < first <= 2.0 * 1.01
        assert 0.0 < second <= 0.05
        assert 0.05 < third <= 0.1


async def test_an_engine_that_hangs_is_answered_before_the_calls_deadline() -> None:
    """The fallback tier answers in time, as on HTTP."""
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        server.fake.hold = True
        request = pb.RecommendRequest(history=["sku-1"], k=1, deadline_ms=50)
        answer = await RecommendationsStub(channel).Recommend(request, timeout=5)

        assert (answer.served_by, answer.fallback_reason) == ("fallback", "deadline")


async def test_who_cancels_takes_the_request_along() -> None:
    """The work is dropped and the permits come back, of one and of a batch."""
    async with serving(grpc=True, default_deadline_ms=9000) as server:
        server.fake.hold = True
        async with grpc.aio.insecure_channel(server.grpc_target) as channel:
            stub = RecommendationsStub(channel)
            many = pb.RecommendBatchRequest(requests=[ASK] * 5)
            for start, message in ((stub.Recommend, ASK), (stub.RecommendBatch, many)):
                call = start(message, timeout=8)
                asking = asyncio.ensure_future(call)
                await until(lambda: server.fake.waiting)
                call.cancel()
                await until(lambda: server.app.admission.in_flight == 0)
                assert all(future.cancelled() for _, future in server.fake.waiting)
                server.fake.waiting.clear()
                with pytest.raises(asyncio.CancelledError):
                    await asking


async def test_a_full_house_is_resource_exhausted_with_a_hint() -> None:
    """RetryInfo says when."""
    async with serving(grpc=True, max_in_flight=1, max_batch_requests=1, default_deadline_ms=9000) as server:
        server.fake.hold = True
        async with grpc.aio.insecure_channel(server.grpc_target) as channel:
            stub = RecommendationsStub(channel)
            held = asyncio.ensure_future(stub.Recommend(ASK, timeout=8))
            await until(lambda: server.fake.waiting)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Recommend(ASK, timeout=5)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (
                b"google.rpc.RetryInfo" in dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
            )
            server.fake.release()
            assert (await held).served_by == "model"


async def test_a_batch_answers_each_by_itself() -> None:
    """Answers and errors in the order of the requests."""
    requests = [ASK, pb.RecommendRequest(history=["sku-1"], k=0), pb.RecommendRequest(history=["who"], k=1)]
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        batch = pb.RecommendBatchRequest(requests=requests)
        results = (await RecommendationsStub(channel).RecommendBatch(batch, timeout=5)).results

        assert [result.WhichOneof("result") for result in results] == ["response", "error", "response"]
        assert results[0].response.items[0].item_id == "sku-1-r1"
        assert (results[1].error.code, results[1].error.field) == ("invalid_argument", "requests[1].k")
        assert results[2].response.fallback_reason == "cold_start"


async def test_candidates_that_nobody_knows_are_counted() -> None:
    """As on HTTP; without candidates there is no count."""
    asked = pb.RecommendRequest(history=["sku-1"], k=1, candidates=pb.ItemIds(item_ids=["sku-2", "who"]))
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        stub = RecommendationsStub(channel)
        assert (await stub.Recommend(asked, timeout=5)).unknown_candidates == 1
        assert not (await stub.Recommend(ASK, timeout=5)).HasField("unknown_candidates")


async def test_reflection_shows_the_services() -> None:
    """grpcurl and friends find their way without the proto file."""
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asks = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="vitrine.v1.Recommendations"),
        ]
        answers = [answer async for answer in stub.ServerReflectionInfo(iter(asks), timeout=5)]

        names = {service.name for service in answers[0].list_services_response.service}
        assert {"vitrine.v1.Recommendations", "grpc.health.v1.Health"} <= names
        assert answers[1].file_descriptor_response.file_descriptor_proto
