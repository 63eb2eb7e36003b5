"""One table of requests through both wires: they must agree in status, in answer, and in the field that they name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2

from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.vitrine_pb2_grpc import RecommendationsStub
from tests.server.serving import Serving, serving

OK = grpc.StatusCode.OK
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@dataclass(frozen=True)
class Case:
    """One request as JSON, what it gives, and the field it is refused for."""

    body: dict[str, Any]
    http: int = 200
    code: Any = OK
    names: str | None = None
    fault: str = ""
    message: pb.RecommendRequest | None = field(default=None, compare=False)


# The field is in the domain and on HTTP; gRPC's message gets it with its next version.
COUNTS_CANDIDATES = "unknown_candidates" in pb.RecommendResponse.DESCRIPTOR.fields_by_name
HISTORY = ["sku-1", "sku-2"]
CASES: dict[str, Case] = {
    "plain": Case({"history": HISTORY, "k": 3}),
    "default k": Case({"history": HISTORY}),
    "nothing known": Case({"history": ["who"], "k": 2}),
    "no history": Case({"k": 2}),
    "unknown among known": Case({"history": ["sku-1", "who"], "k": 2}),
    "repeated item": Case({"history": ["sku-1"] * 1000, "k": 1}),
    "events in order of time": Case(
        {
            "events": [
                {"item_id": "sku-2", "timestamp": 9.0},
                {"item_id": "sku-1", "timestamp": 3.5, "type": "view"},
            ],
            "k": 1,
        }
    ),
    "events without time": Case({"events": [{"item_id": "sku-2"}, {"item_id": "sku-1"}], "k": 1}),
    "explained": Case({"history": HISTORY, "k": 2, "explain": True}),
    "with fields": Case({"history": HISTORY, "k": 2, "fields": ["title", "price"]}),
    "all options": Case(
        {
            "history": HISTORY,
            "k": 2,
            "candidates": ["a", "b"],
            "exclude": ["c"],
            "filters": {
                "categories": ["x"],
                "brands": ["y"],
                "price_min": 1.0,
                "price_max": 2.0,
                "in_stock": True,
            },
            "deadline_ms": 50.0,
            "user_id": "u",
            "allow_seen": True,
        }
    ),
    "deadline of a million": Case({"history": HISTORY, "k": 1, "deadline_ms": 1e6}),
    "deadline of 1e9": Case({"history": HISTORY, "k": 1, "deadline_ms": 1e9}),
    "emoji and right-to-left": Case({"history": ["sku-1", "🛍️", "مرحبا"], "k": 1}),
    "k of 0": Case({"history": HISTORY, "k": 0}, 422, INVALID, "k"),
    "k of -1": Case({"history": HISTORY, "k": -1}, 422, INVALID, "k"),
    "k of a billion": Case({"history": HISTORY, "k": 10**9}, 422, INVALID, "k"),
    "deadline of 0": Case({"history": HISTORY, "deadline_ms": 0.0}, 422, INVALID, "deadline_ms"),
    "deadline of -1": Case({"history": HISTORY, "deadline_ms": -1.0}, 422, INVALID, "deadline_ms"),
    "too long a history": Case({"history": ["sku-1"] * 1001}, 422, INVALID, "history"),
    "a hundred thousand unknown": Case({"history": ["x"] * 100_000}, 422, INVALID, "history"),
    "too many candidates": Case({"candidates": ["x"] * 10_001}, 422, INVALID, "candidates"),
    "no candidates": Case({"history": HISTORY, "candidates": []}, 422, INVALID, "candidates"),
    "too many exclusions": Case({"exclude": ["x"] * 10_001}, 422, INVALID, "exclude"),
    "an empty id": Case({"history": ["sku-1", ""]}, 422, INVALID, "history[1]"),
    "a long id": Case({"history": ["sku-1", "x" * 257]}, 422, INVALID, "history[1]"),
    "a long user id": Case({"history": HISTORY, "user_id": "x" * 257}, 422, INVALID, "user_id"),
    "history and events": Case({"history": HISTORY, "events": [{"item_id": "a"}]}, 422, INVALID, "events"),
    "some events without time": Case(
        {"events": [{"item_id": "a", "timestamp": 1.0}, {"item_id": "b"}]},
        422,
        INVALID,
        "events[1].timestamp",
    ),
    "prices the wrong way round": Case(
        {"filters": {"price_min": 5.0, "price_max": 1.0}}, 422, INVALID, "filters.price_min"
    ),
    "a negative price": Case({"filters": {"price_max": -1.0}}, 422, INVALID, "filters.price_max"),
    "too many categories": Case({"filters": {"categories": ["x"] * 101}}, 422, INVALID, "filters.categories"),
    "too many fields": Case({"fields": ["x"] * 33}, 422, INVALID, "fields"),
    "a field that items have not": Case({"fields": ["title", "colour"]}, 422, INVALID, "fields[1]"),
    "unknown candidates": Case({"history": HISTORY, "k": 2, "candidates": ["sku-3", "who", "what"]}),
    "unknown candidates of a new shopper": Case({"k": 2, "candidates": ["sku-3", "who"]}),
}


def message_of(body: dict[str, Any]) -> pb.RecommendRequest:
    plain = {key: value for key, value in body.items() if key not in ("candidates", "events", "filters")}
    message = pb.RecommendRequest(**plain)
    if "candidates" in body:
        message.candidates.CopyFrom(pb.ItemIds(item_ids=body["candidates"]))
    for event in body.get("events", []):
        message.events.add(**event)
    if "filters" in body:
        message.filters.CopyFrom(pb.Filters(**body["filters"]))
    return message


def plain_answer(answer: pb.RecommendResponse) -> dict[str, Any]:
    """The gRPC answer in the form of the JSON one, without times."""
    items = []
    for item in answer.items:
        out: dict[str, Any] = {"item_id": item.item_id, "score": item.score, "rank": item.rank}
        if item.HasField("reason"):
            out |= {"reason": item.reason, "because": item.because if item.HasField("because") else None}
        if item.fields:
            out["fields"] = {
                name: getattr(value, value.WhichOneof("value")) for name, value in item.fields.items()
            }
        items.append(out)
    out = {
        "items": items,
        "served_by": answer.served_by,
        "model": {"name": answer.model.name, "version": answer.model.version},
        "unknown_items": answer.unknown_items,
    }
    if answer.HasField("fallback_reason"):
        out["fallback_reason"] = answer.fallback_reason
    if COUNTS_CANDIDATES and answer.HasField("unknown_candidates"):  # type: ignore[arg-type]
        out["unknown_candidates"] = answer.unknown_candidates  # type: ignore[attr-defined]
    return out


async def ask_grpc(server: Serving, message: pb.RecommendRequest) -> tuple[Any, dict[str, Any], str | None]:
    async with grpc.aio.insecure_channel(server.grpc_target) as channel:
        try:
            answer = await RecommendationsStub(channel).Recommend(message, timeout=5)
        except grpc.aio.AioRpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
            info = error_details_pb2.ErrorInfo()
            status.details[0].Unpack(info)
            return error.code(), {"message": error.details(), "code": info.reason}, info.metadata.get("field")
    return OK, plain_answer(answer), None


@pytest.mark.parametrize("name", CASES)
async def test_both_wires_agree(name: str) -> None:
    """Status, answer, and for a refusal the sentence, the code and the field are the same."""
    case = CASES[name]
    async with serving(grpc=True, default_deadline_ms=5000) as server, httpx.AsyncClient() as client:
        response = await client.post(server.url + "/v1/recommendations", json=case.body)
        code, answer, names = await ask_grpc(server, message_of(case.body))

        assert (response.status_code, code) == (case.http, case.code)
        body = response.json()
        if case.http == 200:
            body.pop("timings_ms")
            if not COUNTS_CANDIDATES:
                body.pop("unknown_candidates", None)
            assert body == answer
            first, second = server.fake.seen[::2], server.fake.seen[1::2]
            assert [(r.history, r.k, r.candidates, r.exclude, r.filters) for r in first] == [
                (r.history, r.k, r.candidates, r.exclude, r.filters) for r in second
            ]
        else:
            error = body["error"]
            assert (error["field"], names) == (case.names, case.names)
            assert (error["message"], error["code"]) == (answer["message"], answer["code"])
            assert error["limit"]
            assert server.fake.seen == []


async def test_a_query_string_changes_nothing() -> None:
    """The path by ASGI gives the answers of the path beside it."""
    async with serving() as server, httpx.AsyncClient() as client:
        for case in CASES.values():
            content = json.dumps(case.body)
            url = server.url + "/v1/recommendations"
            hot = await client.post(url, content=content)
            cold = await client.post(url + "?by=asgi", content=content)
            assert hot.status_code == cold.status_code
            left, right = hot.json(), cold.json()
            for body in (left, right):
                body.pop("timings_ms", None)
                body.get("error", {}).pop("request_id", None)
            assert left == right
            assert set(hot.headers) == set(cold.headers)
