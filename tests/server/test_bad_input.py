"""Whatever is sent: never a 500, never a neighbour harmed, always a sentence that says what to do."""

from __future__ import annotations

import json
import math

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.errors import InvalidRequest
from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.vitrine_pb2_grpc import RecommendationsStub
from server.http_api.schemas import RecommendIn, decode_batch, decode_request
from tests.server.serving import post, serving, until

DEEP = 100_000
BODIES: dict[str, tuple[bytes, int, str | None]] = {
    "empty": (b"", 400, "body"),
    "half": (b'{"history": ["sku', 400, "body"),
    "trailing comma": (b'{"k": 1,}', 400, "body"),
    "two documents": (b'{"k": 1}{"k": 2}', 400, "body"),
    "not UTF-8": (b'{"history": ["\xff\xfe"]}', 400, "body"),
    "half a surrogate": (b'{"history": ["\\ud800"]}', 400, "body"),
    "NaN": (b'{"k": NaN}', 400, "body"),
    "Infinity": (b'{"deadline_ms": Infinity}', 400, "body"),
    "a number beyond floats": (b'{"deadline_ms": 1e999}', 422, "deadline_ms"),
    "an endless integer": (b'{"k": ' + b"9" * 5000 + b"}", 422, "k"),
    "nested lists": (b"[" * DEEP, 400, "body"),
    "nested lists that end": (b"[" * DEEP + b"]" * DEEP, 400, "body"),
    "nested in the history": (b'{"history": ' + b"[" * DEEP + b"]" * DEEP + b"}", 400, "body"),
    "nested in an unknown field": (b'{"x": ' + b'{"x":' * DEEP + b"1" + b"}" * DEEP + b"}", 400, "body"),
    "a list": (b"[]", 422, "body"),
    "a number": (b"3", 422, "body"),
    "null": (b"null", 422, "body"),
    "misspelt": (b'{"histroy": ["a"]}', 422, "histroy"),
    "misspelt inside": (b'{"filters": {"colour": "red"}}', 422, "filters.colour"),
    "k as text": (b'{"k": "10"}', 422, "k"),
    "k as a fraction": (b'{"k": 1.5}', 422, "k"),
    "k as null": (b'{"k": null}', 422, "k"),
    "history as text": (b'{"history": "sku-1"}', 422, "history"),
    "a number in the history": (b'{"history": ["sku-1", 7]}', 422, "history[1]"),
    "an event without an item": (b'{"events": [{"timestamp": 1}]}', 422, "events[0].item_id"),
    "explain as a number": (b'{"explain": 1}', 422, "explain"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_wrong_body_is_refused_by_its_field_and_the_connection_lives(name: str) -> None:
    """A sentence, the field, the right status; the next request on the same connection is answered."""
    body, want, field = BODIES[name]
    async with serving() as server:
        connection = await server.connect()
        connection.send(post(body))
        status, headers, answer = await connection.answer()

        error = json.loads(answer)["error"]
        assert (status, error["field"]) == (want, field)
        assert error["request_id"] == headers["x-request-id"]
        assert len(error["message"]) < 1000
        assert server.app.admission.in_flight == 0
        connection.send(post({"history": ["sku-1"], "k": 1}))
        assert (await connection.answer())[0] == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
near_requests = st.dictionaries(st.sampled_from(RecommendIn.__struct_fields__), json_values, max_size=4)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(near_requests.map(lambda v: json.dumps(v).encode()), st.binary(max_size=60)))
def test_any_bytes_are_a_request_or_a_refusal(body: bytes) -> None:
    """Decoding ends in a domain request or an InvalidRequest, and in nothing else."""
    for decode in (decode_request, lambda data: decode_batch(data, 4)):
        try:
            decode(body)
        except InvalidRequest as error:
            assert error.message
            assert error.field


async def test_a_batch_answers_each_entry_by_itself() -> None:
    """Wrong entries get their own error with their place; their neighbours get answers."""
    entries = [
        {"history": ["sku-1"], "k": 1},
        {"k": "x"},
        {"k": 0},
        7,
        {"history": ["who"], "k": 1},
        {"history": ["sku-1", ""]},
        {"events": [{"item_id": "a", "timestamp": 1.0}, {"item_id": "b"}]},
        {"filters": {"price_max": -1.0}},
        {"history": ["sku-1"], "fields": ["colour"]},
    ]
    async with serving() as server, httpx.AsyncClient() as client:
        response = await client.post(server.url + "/v1/recommendations/batch", json={"requests": entries})

        assert response.status_code == 200
        results = response.json()["results"]
        assert results[0]["items"][0]["item_id"] == "sku-1-r1"
        assert [result.get("error", {}).get("field") for result in results] == [
            None,
            "requests[1].k",
            "requests[2].k",
            "requests[3]",
            None,
            "requests[5].history[1]",
            "requests[6].events[1].timestamp",
            "requests[7].filters.price_max",
            "requests[8].fields[0]",
        ]
        assert all(
            error["message"].startswith((f"requests[{at}].", f"requests[{at}] is "))
            for at, result in enumerate(results)
            if (error := result.get("error"))
        ), "the sentence names the entry too"
        assert results[4]["fallback_reason"] == "cold_start"


@pytest.mark.parametrize("body", [{"requests": []}, {"requests": [{}] * 257}, {}, [], {"requests": 3}])
async def test_a_batch_of_none_or_too_many_is_refused(body: object) -> None:
    """0 and 257 shoppers are refused with the limit."""
    async with serving() as server, httpx.AsyncClient() as client:
        response = await client.post(server.url + "/v1/recommendations/batch", json=body)

        assert response.status_code == 422
        assert server.app.admission.in_flight == 0


async def test_a_batch_needs_a_permit_for_each_shopper() -> None:
    """Permits for all at once, or 429 for all, and none is kept."""
    async with serving(max_in_flight=4, max_batch_requests=4) as server, httpx.AsyncClient() as client:
        server.fake.hold = True
        held = await server.connect()
        held.send(post({"history": ["sku-1"], "k": 1}))
        await until(lambda: server.fake.waiting)
        four = {"requests": [{"history": ["sku-1"], "k": 1}] * 4}
        response = await client.post(server.url + "/v1/recommendations/batch", json=four)

        assert response.status_code == 429
        assert server.app.admission.in_flight == 1


@pytest.mark.parametrize(("method", "path", "status", "allow"), [
    ("GET", "/v1/recommendations", 405, "POST"),
    ("PUT", "/v1/recommendations/batch", 405, "POST"),
    ("POST", "/v1/models", 405, "GET"),
    ("GET", "/v1/nothing", 404, None),
    ("POST", "/v1/recommendations/", 404, None),
    ("GET", "/v1/models/none", 404, None),
])  # fmt: skip
async def test_a_wrong_method_or_path_says_what_there_is(
    method: str, path: str, status: int, allow: str | None
) -> None:
    """405 with Allow, 404 with a list; both in the error form."""
    async with serving() as server, httpx.AsyncClient() as client:
        response = await client.request(method, server.url + path)

        assert response.status_code == status
        assert response.headers.get("allow") in (allow, f"{allow}, HEAD", f"HEAD, {allow}")
        assert response.json()["error"]["message"]


async def test_grpc_bytes_that_do_not_parse_are_invalid() -> None:
    """Broken protobuf is the caller's fault, not an internal error."""
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        call = channel.unary_unary("/vitrine.v1.Recommendations/Recommend")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"\xff\xff\xff", timeout=5)

        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("size", [2 << 20, 64 << 20])
async def test_grpc_messages_over_the_limit_are_refused(size: int) -> None:
    """As soon as their length is known, with the limit, and the connection goes on."""
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        stub = RecommendationsStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Recommend(pb.RecommendRequest(user_id="x" * size), timeout=10)

        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "1048576" in (refused.value.details() or "")
        assert (await stub.Recommend(pb.RecommendRequest(history=["sku-1"], k=1), timeout=5)).items


@pytest.mark.parametrize("deadline_ms", [math.nan, math.inf, -math.inf, 0.0, -1.0])
async def test_grpc_deadlines_that_are_no_time_are_refused(deadline_ms: float) -> None:
    """NaN and infinity can be sent by protobuf, unlike JSON."""
    async with serving(grpc=True) as server, grpc.aio.insecure_channel(server.grpc_target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            request = pb.RecommendRequest(history=["sku-1"], deadline_ms=deadline_ms)
            await RecommendationsStub(channel).Recommend(request, timeout=5)

        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "deadline_ms" in (refused.value.details() or "")
