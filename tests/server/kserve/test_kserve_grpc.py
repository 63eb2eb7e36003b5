"""KServe v2 over gRPC, by Triton's own clients, by raw messages, and by reflection."""

from __future__ import annotations

import asyncio
import queue
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as blocking
import tritonclient.grpc.aio as triton
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.server.kserve.kserve_world import HISTORY, serving, tensor
from tests.tiny import LENGTH, MAX_K, Tiny

SERVICE = "inference.GRPCInferenceService"


async def test_tritons_client_gets_the_engines_own_tensors(tiny: Tiny) -> None:
    """The same numbers as by HTTP, which are numpy's from the weights; health, metadata and statistics beside them."""
    wide = np.stack([HISTORY[0], HISTORY[0][::-1]])
    async with serving(tiny.repository) as server, triton.InferenceServerClient(server.grpc) as client:
        given = [tensor(triton, name, wide, "INT32") for name in ("item_ids", "exclude_ids")]
        answer = await client.infer("tiny", given, request_id="mine")
        best = await client.infer(
            "tiny", given, outputs=[triton.InferRequestedOutput("scores", class_count=2)]
        )

        reference_BN = tiny.reference(wide.tolist())
        np.testing.assert_allclose(
            answer.as_numpy("scores"), -np.sort(-reference_BN, axis=1)[:, :MAX_K], rtol=1e-3, atol=1e-3
        )
        assert answer.get_response().id == "mine" and answer.get_response().model_version == "1"
        assert best.as_numpy("scores").shape == (2, 2) and b":0" in best.as_numpy("scores")[0][0]
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("tiny") and not await client.is_model_ready("tiny", "9")
        assert (await client.get_server_metadata()).name == "vitrine"
        assert (await client.get_model_metadata("tiny", as_json=True))["platform"] == "onnxruntime_onnx"
        assert (await client.get_model_config("tiny")).config.max_batch_size == 8
        assert (await client.get_model_repository_index()).models[0].state == "READY"
        sums = (await client.get_inference_statistics("tiny")).model_stats[0]
        assert sums.inference_count == 4 and sums.inference_stats.success.count == 2


async def test_the_blocking_client_and_its_stream_work(tiny: Tiny) -> None:
    """Ten requests on one stream are answered in their order; a wrong one among them is an error and no end."""

    def ask(url: str) -> tuple[Any, list[tuple[Any, Any]]]:
        seen: queue.Queue[tuple[Any, Any]] = queue.Queue()
        with blocking.InferenceServerClient(url) as client:
            given = [tensor(blocking, "item_ids", HISTORY, "INT32")]
            whole = client.infer("tiny", given).as_numpy("ids")
            client.start_stream(lambda result, error: seen.put((result, error)))
            for number in range(10):
                client.async_stream_infer("nope" if number == 4 else "tiny", given, request_id=str(number))
            told = [seen.get(timeout=10) for _ in range(10)]
            client.stop_stream()
        return whole, told

    async with serving(tiny.repository) as server:
        whole, told = await asyncio.to_thread(ask, server.grpc)
        assert server.app.admission.in_flight == 0

    assert [None if result is None else result.get_response().id for result, _ in told] == [
        str(number) if number != 4 else None for number in range(10)
    ]
    assert "nope" in str(told[4][1])
    assert all(np.array_equal(result.as_numpy("ids"), whole) for result, _ in told if result is not None)


async def test_a_stream_that_its_caller_leaves_holds_nothing(tiny: Tiny) -> None:
    async with serving(tiny.repository) as server:
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
            for _ in range(50):
                await call.write(message())
            await call.read()
            call.cancel()
        async with asyncio.timeout(5):
            while server.app.admission.in_flight:
                await asyncio.sleep(0.005)


def message(**changes: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="tiny")
    one = request.inputs.add(name="item_ids", datatype="INT32", shape=[1, LENGTH])
    for name, value in changes.items():
        if name in ("name", "datatype"):
            setattr(one, name, value)
        elif name == "shape":
            del one.shape[:]
            one.shape.extend(value)
    if changes.get("typed"):
        one.contents.int_contents.extend(changes["typed"])
    else:
        request.raw_input_contents.append(changes.get("raw", HISTORY.tobytes()))
    return request


async def test_typed_contents_are_the_same_as_raw_ones(tiny: Tiny) -> None:
    async with serving(tiny.repository) as server, grpc.aio.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        raw = await stub.ModelInfer(message())
        typed = await stub.ModelInfer(message(typed=HISTORY[0].tolist()))
    assert raw.raw_output_contents == typed.raw_output_contents and len(raw.raw_output_contents) == 2


async def test_what_lies_is_refused_and_disturbs_nobody(tiny: Tiny) -> None:
    """Shapes, counts and datatypes that do not fit the bytes end with INVALID_ARGUMENT and hold no permit."""
    both = message()
    both.inputs[0].contents.int_contents.append(1)
    twice = message()
    twice.raw_input_contents.append(b"")
    cases = {
        "a shape of gigabytes": message(shape=[100_000_000, 50]),
        "a negative shape": message(shape=[-1, LENGTH]),
        "a hundred dimensions": message(shape=[1] * 100),
        "an unknown datatype": message(datatype="INT7"),
        "another datatype": message(datatype="FP32"),
        "an unknown input": message(name="x"),
        "too few bytes": message(raw=b"abc"),
        "too few values": message(typed=[1, 2]),
        "raw and typed": both,
        "more raw than inputs": twice,
        "typed half floats": message(datatype="FP16", typed=[1]),
    }
    async with serving(tiny.repository) as server, grpc.aio.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for what, wrong in cases.items():
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.ModelInfer(wrong)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, what
            assert server.app.admission.in_flight == 0, what
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await stub.ModelMetadata(pb.ModelMetadataRequest(name="nope"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as garbage:
            await channel.unary_unary(f"/{SERVICE}/ModelInfer")(b"\xff\xff\xff")
        assert garbage.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await stub.ModelInfer(message())).model_name == "tiny"


async def test_the_calls_own_limit_and_the_timeout_parameter_are_deadlines(tiny: Tiny) -> None:
    async with serving(tiny.repository) as server, triton.InferenceServerClient(server.grpc) as client:
        with pytest.raises(InferenceServerException) as late:
            await client.infer("tiny", [tensor(triton, "item_ids", HISTORY, "INT32")], timeout=1)
        assert late.value.status() == "StatusCode.DEADLINE_EXCEEDED"


async def test_reflection_lists_and_describes_the_service(tiny: Tiny) -> None:
    """grpcurl and its kin find the service and its messages without a proto file."""

    def look(url: str) -> tuple[list[str], list[str]]:
        with grpc.insecure_channel(url) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            file = database.FindFileContainingSymbol(SERVICE)
            return list(database.get_services()), [method.name for method in file.service[0].method]

    async with serving(tiny.repository) as server:
        services, methods = await asyncio.to_thread(look, server.grpc)

    assert SERVICE in services
    assert {"ModelInfer", "ModelStreamInfer", "RepositoryIndex"} <= set(methods)
