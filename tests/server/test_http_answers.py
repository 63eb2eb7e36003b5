"""What belongs to every HTTP answer: ids, traces, times; and documents that are true."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tests.server.serving import serving

KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def fits(value: Any, schema: dict[str, Any], spec: dict[str, Any]) -> bool:
    """Whether a value is as a JSON schema says; the keywords that our document uses."""
    if "$ref" in schema:
        return fits(value, spec["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]], spec)
    if "anyOf" in schema:
        return any(fits(value, one, spec) for one in schema["anyOf"])
    kind = schema.get("type")
    if kind and not (isinstance(value, KINDS[kind]) and (kind == "boolean") == isinstance(value, bool)):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, list):
        return all(fits(one, schema.get("items", {}), spec) for one in value)
    if isinstance(value, dict) and "properties" in schema:
        named = schema["properties"]
        missing = set(schema.get("required", ())) - set(value)
        return not missing and all(
            name in named and fits(one, named[name], spec) for name, one in value.items()
        )
    return True


ASK = {"history": ["sku-1"], "k": 1}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("path", ["/v1/recommendations", "/v1/recommendations?x=1"])
async def test_ids_and_traces_are_carried_through(path: str) -> None:
    """The caller's request id and trace come back, on answers and on errors."""
    headers = {"x-request-id": "cart-42", "traceparent": TRACE}
    async with serving() as server, httpx.AsyncClient(headers=headers) as client:
        for body in (ASK, {"k": 0}):
            response = await client.post(server.url + path, json=body)
            assert response.headers["x-request-id"] == "cart-42"
            assert response.headers["traceparent"] == TRACE
        assert response.json()["error"]["request_id"] == "cart-42"


@pytest.mark.parametrize(
    ("method", "path", "want"),
    [
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/shop", 200),
        ("GET", "/v1/models/none", 404),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
    ],
)
async def test_ids_and_traces_are_carried_through_on_cold_paths(method: str, path: str, want: int) -> None:
    """The caller's id and trace come back on every path and status; an id that is not sane is replaced by one new one."""
    async with serving() as server, httpx.AsyncClient() as client:
        sane = {"x-request-id": "cart-42", "traceparent": TRACE}
        response = await client.request(method, server.url + path, headers=sane)
        assert response.status_code == want
        assert response.headers.get_list("x-request-id") == ["cart-42"]
        assert response.headers.get_list("traceparent") == [TRACE]
        if want >= 400:
            assert response.json()["error"]["request_id"] == "cart-42"

        mad = {"x-request-id": "a b", "traceparent": "00-nonsense"}
        response = await client.request(method, server.url + path, headers=mad)
        chosen = response.headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", chosen)
        assert "traceparent" not in response.headers
        if want >= 400:
            assert response.json()["error"]["request_id"] == chosen


async def test_who_has_no_key_finds_its_own_id_in_the_refusal() -> None:
    """401 of a cold path: an operator is asked about it by the caller's id."""
    async with serving(api_keys=("secret",)) as server, httpx.AsyncClient() as client:
        response = await client.get(
            server.url + "/v1/models", headers={"x-request-id": "cart-42", "traceparent": TRACE}
        )
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert response.headers.get_list("x-request-id") == ["cart-42"]
        assert response.headers["traceparent"] == TRACE
        assert response.json()["error"]["request_id"] == "cart-42"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "caf\xe9"])
async def test_an_id_that_is_not_sane_is_replaced(given: str) -> None:
    """Ids go to logs and headers, so only printable ones of up to 128 characters are taken over."""
    async with serving() as server, httpx.AsyncClient() as client:
        headers = {"x-request-id": given.encode("latin-1"), "traceparent": "00-nonsense"}
        seen = set()
        for _ in range(3):
            response = await client.post(server.url + "/v1/recommendations", json=ASK, headers=headers)
            seen.add(response.headers["x-request-id"])
            assert "traceparent" not in response.headers
        assert len(seen) == 3
        assert all(re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", one) for one in seen)


async def test_stage_times_are_in_the_body_and_in_the_header() -> None:
    """Time is data: the same numbers in both places."""
    async with serving() as server, httpx.AsyncClient() as client:
        response = await client.post(server.url + "/v1/recommendations", json=ASK)

        times = response.json()["timings_ms"]
        header = dict(re.findall(r"(\w+);dur=([\d.]+)", response.headers["server-timing"]))
        assert {name: float(value) for name, value in header.items()} == times
        assert list(times) == ["queue", "encode", "engine", "post", "total"]
        assert times["engine"] == 3.0


async def test_the_answer_has_the_wire_shape() -> None:
    """Fields that clients may rely on."""
    async with serving() as server, httpx.AsyncClient() as client:
        body = (await client.post(server.url + "/v1/recommendations", json={**ASK, "k": 2})).json()

        assert body["items"] == [
            {"item_id": "sku-1-r1", "score": 10.0, "rank": 1},
            {"item_id": "sku-1-r2", "score": 9.875, "rank": 2},
        ]
        assert (body["served_by"], body["model"]) == ("model", {"name": "shop", "version": "3"})
        assert body["unknown_items"] == 0


async def test_models_are_listed_with_what_one_needs_to_try_them() -> None:
    """Limits, samples, engine and precision; one by its name."""
    async with serving() as server, httpx.AsyncClient() as client:
        listed = (await client.get(server.url + "/v1/models")).json()
        one = (await client.get(server.url + "/v1/models/shop")).json()

        assert listed["data"] == [one]
        assert (one["id"], one["engine"], one["precision"]) == ("shop", "echo", "fp32")
        assert one["sample_ids"] == ["sku-1", "sku-2", "sku-3"]
        assert one["limits"]["max_k"] == 100
        assert one["limits"]["max_candidates"] == 10_000


async def test_the_documents_are_true() -> None:
    """Every example in /openapi.json is accepted or produced by the server as its schema says."""
    async with serving() as server, httpx.AsyncClient() as client:
        spec = (await client.get(server.url + "/openapi.json")).json()
        for path in ("/v1/recommendations", "/v1/recommendations/batch"):
            operation = spec["paths"][path]["post"]
            takes = operation["requestBody"]["content"]["application/json"]
            gives = operation["responses"]["200"]["content"]["application/json"]
            response = await client.post(server.url + path, json=takes["example"])
            assert response.status_code == 200
            for schema, value in (
                (takes["schema"], takes["example"]),
                (gives["schema"], gives["example"]),
                (gives["schema"], response.json()),
            ):
                assert fits(value, schema, spec), value
            wrong = await client.post(server.url + path, content=b"{")
            error = operation["responses"]["400"]["content"]["application/json"]["schema"]
            assert fits(wrong.json(), error, spec)
            assert not fits({"items": 3}, gives["schema"], spec)
        for path in ("/v1/models", "/healthz", "/readyz"):
            response = await client.get(server.url + path)
            schema = spec["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            assert fits(response.json(), schema, spec)


async def test_the_documents_show_each_status_with_an_error_of_its_own() -> None:
    """What is served is listed, and each example is what the server says (but for its numbers and paths)."""
    path = "/v1/recommendations"
    async with serving(read_timeout_s=0.2) as server, httpx.AsyncClient(base_url=server.url) as client:
        spec = (await client.get("/openapi.json")).json()
        responses = spec["paths"][path]["post"]["responses"]
        shown = {
            int(status): response["content"]["application/json"]["example"]["error"]
            for status, response in responses.items()
            if status != "200"
        }
        assert spec["components"]["schemas"]["RecommendIn"]["properties"]["k"]["maximum"] == 100
        assert len({error["message"] for error in shown.values()}) == len(shown)
        slow = await server.connect()
        slow.send(b"GET /healthz HTTP/1.1\r\nhost")
        answers = [
            await client.post(path, content=b"{"),
            await client.get(path + "/now"),
            await client.get(path),
            await client.post(path, content=b" " * 2_000_000),
            await client.post(path, json={"k": 0}),
            await client.post(path, json=ASK, headers={"x-filler": "a" * 40_000}),
        ]
        served = {answer.status_code: answer.json()["error"] for answer in answers}
        status, _, body = await slow.answer()
        served[status] = json.loads(body)["error"]
    async with serving(api_keys=("secret",)) as server, httpx.AsyncClient(base_url=server.url) as client:
        served[401] = (await client.post(path, json=ASK)).json()["error"]

    assert set(served) == {400, 401, 404, 405, 408, 413, 422, 431}
    for status, error in served.items():
        for key in ("code", "field"):
            assert error[key] == shown[status][key], status
        said, told = (
            re.sub(r"[\d.]+ s|(?<=there are ).*", "", one["message"]) for one in (error, shown[status])
        )
        assert said == told
    for status, code in {
        429: "overloaded",
        500: "internal",
        503: "not_ready",
        504: "deadline_exceeded",
    }.items():
        assert shown[status]["code"] == code


async def test_the_documentation_needs_no_other_host() -> None:
    """A shop's network may be closed: the page loads nothing from outside."""
    async with serving() as server, httpx.AsyncClient() as client:
        page = await client.get(server.url + "/docs")

        assert page.status_code == 200
        assert "openapi.json" in page.text
        assert not re.search(r"(src|href)=|https?://", page.text)
        assert json.loads((await client.get(server.url + "/openapi.json")).text)["openapi"] == "3.1.0"
