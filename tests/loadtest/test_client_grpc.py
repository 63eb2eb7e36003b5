"""The gRPC client against grpcio's own server on the loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from loopback import Background

from loadtest import arrivals, pacing
from loadtest.client import DEFAULT_METHOD, ClientOptions, Target, Unreachable
from loadtest.client_grpc import GrpcClient, serialize
from loadtest.measure import FALLBACK, GRPC, MODEL, Recorder, Samples
from server.grpc_api import vitrine_pb2

pytestmark = pytest.mark.timeout(30)
Respond = Callable[[Any, Any], Awaitable[Any]]


@pytest.fixture
def grpc_server(background: Background) -> Callable[[Respond], Target]:
    def start(respond: Respond) -> Target:
        async def begin() -> tuple[grpc.aio.Server, int]:
            server = grpc.aio.server()
            handler = grpc.unary_unary_rpc_method_handler(
                respond,
                request_deserializer=vitrine_pb2.RecommendRequest.FromString,
                response_serializer=vitrine_pb2.RecommendResponse.SerializeToString,
            )
            service, _, method = DEFAULT_METHOD.strip("/").partition("/")
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, {method: handler}),)
            )
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            return server, port

        server, port = background.do(begin())
        background.closes(lambda: server.stop(None))
        return Target("grpc", "127.0.0.1", port, DEFAULT_METHOD)

    return start


def drive(
    target: Target, count: int = 60, *, options: ClientOptions | None = None, size: int = 3
) -> tuple[Samples, GrpcClient]:
    recorder = Recorder(arrivals.constant(arrivals.steady(400, count / 400)))
    clock = pacing.clock_from(time.monotonic())
    ids = ",".join(f'"sku-{number}"' for number in range(size))
    messages = serialize(
        [b'{"history": [%s], "k": %d}' % (ids.encode(), number + 1) for number in range(count)]
    )
    client = GrpcClient(
        target, messages, recorder, clock, options or ClientOptions(timeout_s=5.0, headers={"X-Test": "yes"})
    )
    try:
        client.open()
        pacing.open_loop(client, recorder, clock)
    finally:
        client.close()
    return recorder.samples(), client


def test_every_call_gets_its_own_answer(grpc_server: Callable[[Respond], Target]) -> None:
    """Statuses and tiers land on their call, over many streams of few connections, with metadata sent."""

    async def respond(request: Any, context: Any) -> Any:
        assert ("x-test", "yes") in {(key, value) for key, value in context.invocation_metadata()}
        assert list(request.history) == ["sku-0", "sku-1", "sku-2"]
        context.set_trailing_metadata((("x-request-id", str(request.k)), ("server-timing", "engine;dur=1")))
        if request.k % 3 == 0:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return vitrine_pb2.RecommendResponse(served_by="model" if request.k % 3 == 1 else "fallback")

    samples, client = drive(grpc_server(respond))

    numbers = np.arange(1, 61)
    assert samples.status.tolist() == [GRPC + 8 if number % 3 == 0 else 200 for number in numbers]
    assert samples.tier.tolist() == [(0, MODEL, FALLBACK)[number % 3] for number in numbers]
    assert samples.refused.sum() == 20
    assert client.stats.connections_opened == 4


def test_large_answers_and_requests_pass_flow_control(grpc_server: Callable[[Respond], Target]) -> None:
    """Requests beyond the first 64 KiB of a connection wait for the server's window; answers never wait for ours."""
    items = [vitrine_pb2.RecommendedItem(item_id=f"sku-{number}", score=1.0) for number in range(3000)]

    async def respond(request: Any, context: Any) -> Any:
        return vitrine_pb2.RecommendResponse(items=items, served_by="model")

    samples, _ = drive(grpc_server(respond), options=ClientOptions(channels=1), size=1200)

    assert samples.statuses() == {"200": 60}


def test_a_deadline_ends_the_call_on_both_sides(grpc_server: Callable[[Respond], Target]) -> None:
    """The server learns of the deadline, and a call that it never answers is over soon after it."""
    remaining: list[float] = []

    async def respond(request: Any, context: Any) -> Any:
        remaining.append(context.time_remaining())
        await asyncio.Event().wait()

    samples, _ = drive(grpc_server(respond), count=20, options=ClientOptions(deadline_s=0.1, timeout_s=5.0))

    assert samples.statuses() == {"DEADLINE_EXCEEDED": 20}
    assert float(samples.elapsed_s.max()) < 2
    assert max(remaining) <= 0.1


def test_an_unknown_method_is_a_failure_with_its_name(grpc_server: Callable[[Respond], Target]) -> None:
    """UNIMPLEMENTED comes without an answer, in the trailers alone."""

    async def respond(request: Any, context: Any) -> Any:
        return vitrine_pb2.RecommendResponse()

    samples, _ = drive(replace(grpc_server(respond), path="/no.Such/Method"), count=10)

    assert samples.statuses() == {"UNIMPLEMENTED": 10}


def test_a_body_that_is_no_request_is_refused_by_name() -> None:
    """A field that the message does not have is found before the run."""
    with pytest.raises(ValueError, match="body 1"):
        serialize([b'{"history": ["a"]}', b'{"nonsense": 1}'])


def test_nobody_listening_is_said_before_the_run() -> None:
    """A wrong port is one sentence."""
    with pytest.raises(Unreachable):
        drive(Target("grpc", "127.0.0.1", 1, DEFAULT_METHOD), count=1)
