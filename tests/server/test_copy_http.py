"""``POST /v1/product-copy`` by a real client: whole, streamed, cached, refused, and left."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.copy_domain import CopyText
from tests.server.copy_serving import LiveScripted, serving_copy
from tests.server.copy_world import GOOD, answer
from tests.server.serving import post, until

PATH = "/v1/product-copy"
KETTLE = {
    "title": "Brimora Kettle 1.7 l",
    "brand": "Brimora",
    "category": "Kitchen / Kettles",
    "attributes": {"capacity": "1.7 l", "colour": "black", "power": "2200 W"},
    "price": 39.9,
    "currency": "eur",
}
ASK: dict[str, Any] = {"product": KETTLE}
LIE = CopyText(headline="The best kettle", description=GOOD.description, bullets=GOOD.bullets)


def events(body: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in body.split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_the_answer_has_the_form_of_the_design_and_a_source_for_each_claim(tmp_path: Path) -> None:
    """Variants with headline, description, bullets and checks; who served it; model, usage and times."""
    async with (
        serving_copy(tmp_path, LiveScripted()) as server,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        told = await http.post(
            PATH, json={**ASK, "keywords": ["black", "tea"]}, headers={"x-request-id": "page-7"}
        )

    body = told.json()
    (variant,) = body["variants"]
    assert (variant["headline"], variant["bullets"]) == (GOOD.headline, list(GOOD.bullets))
    assert variant["checks"]["effort"] == "first_try"
    assert variant["checks"]["keywords_missing"] == ["tea"]
    for claim in variant["checks"]["claims"]:
        part = variant["bullets"][int(claim["part"][8])] if "[" in claim["part"] else variant[claim["part"]]
        assert part[claim["start"] : claim["end"]] == claim["text"]
        assert claim["source"]
    assert (body["served_by"], body["model"]) == ("model", {"name": "scripted", "version": "1"})
    assert body["usage"]["completion_tokens"] > 0
    assert body["timings_ms"]["total"] > 0
    assert told.headers["x-request-id"] == "page-7"
    assert told.headers["cache-status"] == "vitrine; fwd=miss; stored"
    assert "total;dur=" in told.headers["server-timing"]


async def test_equal_requests_are_answered_from_the_cache_with_their_age(tmp_path: Path) -> None:
    """RFC 9211 says where it came from; ``fresh`` writes anew."""
    async with (
        serving_copy(tmp_path, LiveScripted()) as server,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        first = await http.post(PATH, json=ASK)
        second = await http.post(PATH, json=ASK)
        forced = await http.post(PATH, json={**ASK, "fresh": True})

    assert second.headers["cache-status"] == "vitrine; hit; ttl=86399"
    assert second.headers["age"] == "0"
    assert second.json()["variants"] == first.json()["variants"]
    assert second.json()["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0}
    assert forced.headers["cache-status"] == "vitrine; fwd=request; stored"
    assert "age" not in forced.headers


async def test_a_stream_shows_each_part_once_it_is_checked(tmp_path: Path) -> None:
    """Headline first, while the rest is not written yet; never the lie; checks; then done."""
    model = LiveScripted(lambda prompt, part, attempt: answer(LIE) if not part else "A kettle by Brimora")
    async with serving_copy(tmp_path, model) as server, httpx.AsyncClient(base_url=server.url) as http:
        told = await http.post(PATH, json={**ASK, "stream": True})
        again = await http.post(PATH, json={**ASK, "stream": True})

    seen = events(told.text)
    assert [name for name, _ in seen] == ["headline", "description", "bullets", "bullets", "checks", "done"]
    assert seen[0][1]["text"] == "A kettle by Brimora"
    assert [data["index"] for name, data in seen if name == "bullets"] == [0, 1]
    assert seen[4][1]["checks"]["effort"] == "regenerated"
    assert seen[5][1]["served_by"] == "model"
    assert "best" not in "".join(data["text"] for _, data in seen[:4])
    assert told.headers["content-type"].startswith("text/event-stream")
    assert again.headers["cache-status"].startswith("vitrine; hit")
    assert events(again.text)[:5] == seen[:5]


async def test_the_headline_is_there_before_the_rest_is_written(tmp_path: Path) -> None:
    """A stream that waited for the whole would be none."""
    model = LiveScripted()
    model.pause_at = len('{"headline": "", ') + len(GOOD.headline)
    async with serving_copy(tmp_path, model) as server:
        client = await server.connect()
        client.send(post({**ASK, "stream": True}, PATH))
        head = await client.reader.readuntil(b"\r\n\r\n")
        first = await client.reader.readuntil(b"\n\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"event: headline" in first
        client.close()
        await until(lambda: server.app.copy.service.admission.in_flight == 0)
        assert model.running == 0


async def test_without_a_model_the_template_answers_over_the_wire(tmp_path: Path) -> None:
    """``served_by`` and the reason say so."""
    async with serving_copy(tmp_path) as server, httpx.AsyncClient(base_url=server.url) as http:
        body = (await http.post(PATH, json=ASK)).json()

    assert (body["served_by"], body["fallback_reason"]) == ("fallback", "no_model")
    assert body["variants"][0]["checks"]["effort"] == "template"
    assert body["variants"][0]["served_by"] == "fallback"


@pytest.mark.parametrize("stream", [False, True])
async def test_who_hangs_up_takes_the_copy_along(tmp_path: Path, stream: bool) -> None:
    """Permits come back and the engine is let go."""
    model = LiveScripted()
    model.hold = True
    async with serving_copy(tmp_path, model) as server:
        client = await server.connect()
        client.send(post({**ASK, "stream": stream, "deadline_ms": 60_000}, PATH))
        await until(lambda: model.running == 1)
        client.close()
        await until(lambda: server.app.copy.service.admission.in_flight == 0)
        assert (model.running, model.cancelled) == (0, 1)


async def test_a_deadline_is_kept_from_the_field_and_from_the_header(tmp_path: Path) -> None:
    """An engine that hangs costs the caller no more than he said."""
    model = LiveScripted()
    model.hold = True
    async with serving_copy(tmp_path, model) as server, httpx.AsyncClient(base_url=server.url) as http:
        field = await http.post(PATH, json={**ASK, "deadline_ms": 150})
        header = await http.post(PATH, json={**ASK, "seed": 1}, headers={"x-deadline-ms": "150"})
        streamed = await http.post(PATH, json={**ASK, "seed": 2, "deadline_ms": 150, "stream": True})
        wrong = await http.post(PATH, json=ASK, headers={"x-deadline-ms": "soon"})
        model.hold = False

    for told in (field, header):
        assert told.json()["fallback_reason"] == "deadline"
        assert (
            told.json()["timings_ms"]["total"] < 5000
        )  # of a machine that may be busy; the engine would take forever
        assert told.headers["cache-status"] == "vitrine; fwd=miss"
    assert events(streamed.text)[-1][1]["fallback_reason"] == "deadline"
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (400, "x-deadline-ms")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, "body"),
        (b"\xff", 400, "body"),
        ({}, 422, "product"),
        ({"product": {}}, 422, "product.title"),
        ({"product": {"title": ""}}, 422, "product.title"),
        ({"product": {"title": "x", "colour": "red"}}, 422, "product.colour"),
        ({**ASK, "chanel": "ad"}, 422, "chanel"),
        ({**ASK, "channel": "tv"}, 422, "channel"),
        ({**ASK, "language": "de"}, 422, "language"),
        ({**ASK, "tone": "loud"}, 422, "tone"),
        ({**ASK, "variants": 1_000_000}, 422, "variants"),
        ({**ASK, "variants": 1.5}, 422, "variants"),
        ({**ASK, "max_words": 2}, 422, "max_words"),
        ({**ASK, "keywords": ["x"] * 17}, 422, "keywords"),
        ({**ASK, "keywords": "x"}, 422, "keywords"),
        ({**ASK, "seed": -1}, 422, "seed"),
        ({**ASK, "deadline_ms": 0}, 422, "deadline_ms"),
        ({"product": {"title": "x", "price": "9"}}, 422, "product.price"),
        ({"product": {"title": "x", "attributes": {"a": {"b": 1}}}}, 422, "product.attributes[...]"),
        ({"product": {"title": "x", "currency": "EURO"}}, 422, "product.currency"),
        ({"product": {"title": "x" * 2000}}, 422, "product.title"),
        ({"product": {"title": "x", "description": "y" * 2_000_000}}, 413, "body"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(
    tmp_path: Path, body: Any, status: int, field: str
) -> None:
    """The form of every error here: code, sentence, field, limit, request id; nothing is asked of the engine."""
    model = LiveScripted()
    async with serving_copy(tmp_path, model) as server, httpx.AsyncClient(base_url=server.url) as http:
        told = await (
            http.post(PATH, content=body) if isinstance(body, bytes) else http.post(PATH, json=body)
        )

    error = told.json()["error"]
    assert (told.status_code, error["field"]) == (status, field), error
    assert error["request_id"] == told.headers["x-request-id"]
    assert not model.asked


async def test_a_full_house_and_a_wrong_key_are_refused_before_the_body_is_read(tmp_path: Path) -> None:
    """429 with Retry-After, 401, and 405 for what is no POST."""
    model = LiveScripted()
    model.hold = True
    async with (
        serving_copy(tmp_path, model, copy_max_in_flight=1, api_keys=("k",)) as server,
        httpx.AsyncClient(base_url=server.url, headers={"x-api-key": "k"}) as http,
    ):
        held = asyncio.ensure_future(http.post(PATH, json=ASK))
        await until(lambda: model.running == 1)
        full = await http.post(PATH, content=b"{")
        stranger = await http.post(PATH, json=ASK, headers={"x-api-key": "wrong"})
        wrong = await http.get(PATH)
        model.hold = False
        assert (await held).status_code == 200

    assert (full.status_code, full.json()["error"]["code"]) == (429, "overloaded")
    assert int(full.headers["retry-after"]) >= 1
    assert (stranger.status_code, wrong.status_code) == (401, 405)


async def test_a_server_that_stops_finishes_what_it_can_and_tells_the_others(tmp_path: Path) -> None:
    """A stream that cannot be finished ends with an error event, and without done."""
    model = LiveScripted()
    model.pause_at = 60
    async with serving_copy(tmp_path, model, drain_s=0.2) as server:
        client = await server.connect()
        client.send(post({**ASK, "stream": True, "deadline_ms": 60_000}, PATH))
        await client.reader.readuntil(b"\n\n")
        stopping = asyncio.ensure_future(server.stop())
        rest = await client.reader.read(-1)
        await stopping

    assert b"event: error" in rest and b'"code":"not_ready"' in rest
    assert b"event: done" not in rest


async def test_metrics_tell_the_outcome_by_channel(tmp_path: Path) -> None:
    """What was written at the first try, what it took otherwise, what was refused, and how the cache did."""
    model = LiveScripted(
        lambda prompt, part, attempt: (
            "A kettle by Brimora" if part else answer(LIE) if "channel: email" in prompt else answer(GOOD)
        )
    )
    async with serving_copy(tmp_path, model) as server, httpx.AsyncClient(base_url=server.url) as http:
        for body in (ASK, ASK, {**ASK, "channel": "email"}):
            await http.post(PATH, json=body)
        text = (await http.get(f"{server.metrics_url}/metrics")).text

    for line in (
        'vitrine_copy_variants_total{channel="product_page",effort="first_try",language="en"} 1.0',
        'vitrine_copy_variants_total{channel="email",effort="regenerated",language="en"} 1.0',
        'vitrine_copy_claims_refused_total{kind="forbidden"} 1.0',
        'vitrine_copy_cache_total{outcome="hit"} 1.0',
        'vitrine_copy_cache_total{outcome="miss"} 2.0',
        'endpoint="product_copy",outcome="ok",protocol="http",tier="model"',
    ):
        assert line in text, line


async def test_the_document_shows_what_is_served(tmp_path: Path) -> None:
    """Its example can be sent as it is."""
    async with serving_copy(tmp_path) as server, httpx.AsyncClient(base_url=server.url) as http:
        document = (await http.get("/openapi.json")).json()
        operation = document["paths"][PATH]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        assert (await http.post(PATH, json=example)).status_code == 200
        job = document["paths"][PATH + "/jobs"]["post"]["requestBody"]["content"]["application/json"][
            "example"
        ]
        assert (await http.post(PATH + "/jobs", json=job)).status_code == 202
        text = json.dumps(document)
    for name in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert name in document["components"]["schemas"], name
