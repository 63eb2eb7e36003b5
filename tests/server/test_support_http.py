"""``POST /v1/customer-service`` over real sockets: answers, events, refusals, and no word of a shopper in a log."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest

from server.support_domain import HandoverReason
from tests.server.serving import Serving, until
from tests.server.support_serving import serving_support
from tests.server.support_world import SHIPPING, World

PATH = "/v1/customer-service"
ASKED = "How much does express delivery cost?"
ORDER = {
    "order_id": "A-1001",
    "status": "shipped",
    "expected_on": "2026-03-05",
    "carrier": "DHL",
    "tracking_number": "JD0146000012",
    "items": [{"title": "Mug", "quantity": 2}],
}


def events_of(text: str) -> list[tuple[str, Any]]:
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def body(text: str = ASKED, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def ask(running: Serving, **request: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=running.url) as http:
        return await http.post(PATH, **request)


async def test_an_answer_has_the_documented_shape() -> None:
    """Every field of the design's shape, with the quote, the epoch and the times."""
    async with serving_support(World()) as running:
        response = await ask(running, json=body())

    answer = response.json()
    assert response.status_code == 200
    assert answer["answer"] == answer["sources"][0]["quote"] and answer["answer"] in SHIPPING
    assert answer["sources"][0] | {"quote": ""} == {
        "id": "shipping.md#shipping", "title": "Shipping costs", "quote": "", "url": "http://localhost/shipping#shipping",
    }  # fmt: skip
    assert answer["intent"]["label"] == "shipping_cost" and answer["handover"] is None
    assert (answer["served_by"], answer["language"], answer["knowledge_epoch"]) == ("extractive", "en", 7)
    assert answer["model"] == {"name": "words", "version": "1"} and answer["missing"] == []
    assert set(answer["timings_ms"]) == {"queue", "encode", "retrieve", "answer", "check", "total"}
    assert "retrieve;dur=" in response.headers["server-timing"]


async def test_the_order_answers_and_a_person_takes_over() -> None:
    """The two other tiers on the same wire."""
    async with serving_support(World()) as running:
        order = (await ask(running, json=body("Where is my order?", order=ORDER))).json()
        person = (await ask(running, json=body("a human, please; I am ann@example.com"))).json()

    assert order["served_by"] == "order" and "5 March 2026" in order["answer"]
    assert {source["id"] for source in order["sources"]} == {"order"}
    assert person["served_by"] == "handover" and person["sources"] == []
    assert person["handover"]["reason"] == "asked_for_person"
    assert "ann@example.com" not in person["handover"]["summary"]


async def test_a_stream_tells_intent_sources_answer_and_done() -> None:
    """Named events in order; the parts in a row are the whole answer's text."""
    async with serving_support(World()) as running:
        whole = (await ask(running, json=body())).json()
        response = await ask(running, json=body(stream=True))

    events = events_of(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert [name for name, _ in events] == ["intent", "sources", "answer", "done"]
    told = dict(events)
    assert told["answer"]["text"] == whole["answer"]
    assert told["intent"]["intent"] == whole["intent"] and told["sources"]["sources"] == whole["sources"]
    assert told["done"]["served_by"] == whole["served_by"] and told["done"]["handover"] is None


@pytest.mark.parametrize(
    ("sent", "status", "field", "says"),
    [
        ({"messages": []}, 422, "messages", "send 1 to"),
        ({"messages": [{"role": "user", "content": "  "}]}, 422, "messages[0].content", "is empty"),
        ({"messages": [{"role": "shop", "content": "hi"}]}, 422, "messages[0].role", "choose one of user, assistant"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, 422, "messages[0].role", "the last message is the user's"),
        ({"messages": [{"role": "user"}]}, 422, "messages[0].content", "missing"),
        ({"messages": [{"role": "user", "content": "x" * 20_001}]}, 422, "messages[0].content", "20000"),
        ({"messages": [{"role": "user", "content": "x"}] * 1001}, 422, "messages", "1001 entries"),
        (body(order={"expected_on": "soon"}), 422, "order.expected_on", "2026-03-31"),
        (body(order={"tracking_url": "javascript:alert(1)"}), 422, "order.tracking_url", "https://"),
        (body(order={"currency": "euros"}), 422, "order.currency", "three letters"),
        (body(order={"items": [{"title": "Mug", "quantity": 0}]}), 422, "order.items[0].quantity", "1 to"),
        (body(order={"stat": "x"}), 422, "order.stat", "order_id"),
        (body(locale="English please"), 422, "locale", "zh-CN"),
        (body(deadline_ms=0), 422, "deadline_ms", "above 0"),
        (body(discount=50), 422, "discount", "is not a field"),
        (b"{", 400, "body", "JSON"),
        (b"\xff\xfe", 400, "body", "JSON"),
    ],
)  # fmt: skip
async def test_a_bad_request_is_told_what_is_wrong(sent: Any, status: int, field: str, says: str) -> None:
    """The field, its value, the limit, and what to do."""
    content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    async with serving_support(World()) as running:
        response = await ask(running, content=content)

    error = response.json()["error"]
    assert (response.status_code, error["field"]) == (status, field)
    assert says in error["message"]


async def test_no_word_of_a_shopper_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither of an answered question, nor of a refused one, nor of one that breaks the server."""
    caplog.set_level(logging.DEBUG)
    world = World()
    async with serving_support(world, access_log=1.0) as running:
        await ask(running, json=body("my name is Zanzibar and I am furious"))
        await ask(running, json=body("Zanzibar", locale="!"))
        support = running.app.support
        assert support is not None

        async def broken(*_: Any, **__: Any) -> Any:
            raise RuntimeError("Zanzibar")

        support.service.pipeline.answer = broken  # type: ignore[method-assign]
        response = await ask(running, json=body("Zanzibar"))

    assert response.status_code == 500 and "Zanzibar" not in response.text
    ours = [record for record in caplog.records if record.name.startswith("vitrine")]
    assert ours
    assert not any("Zanzibar" in f"{record.getMessage()} {record.__dict__}" for record in ours)


async def test_a_reader_who_leaves_lets_the_work_go() -> None:
    """The search that hangs is cancelled, and the permit comes back."""
    world = World()
    assert world.shelf is not None
    world.shelf.hangs = True
    async with serving_support(world) as running:
        support = running.app.support
        assert support is not None
        asking = asyncio.create_task(ask(running, json=body()))
        await until(lambda: world.shelf is not None and world.shelf.asked)

        asking.cancel()

        await until(lambda: support.service.in_flight() == 0)


async def test_a_stopping_server_ends_open_questions_with_an_error() -> None:
    """Nobody waits for ever: what is not answered within the drain gets a 503."""
    world = World()
    assert world.shelf is not None
    world.shelf.hangs = True
    async with serving_support(world, drain_s=0.05) as running:
        asking = asyncio.create_task(ask(running, json=body()))
        await until(lambda: world.shelf is not None and world.shelf.asked)

        await running.stop()
        response = await asking

    assert response.status_code == 503


async def test_too_many_questions_are_refused_with_a_hint() -> None:
    """One permit, two questions."""
    world = World()
    assert world.shelf is not None
    world.shelf.hangs = True
    async with serving_support(world, support_max_in_flight=1) as running:
        first = asyncio.create_task(ask(running, json=body(deadline_ms=5000)))
        await until(lambda: world.shelf is not None and world.shelf.asked)

        second = await ask(running, json=body())
        first.cancel()

    assert second.status_code == 429 and "retry-after" in second.headers


async def test_a_deadline_that_passes_is_told() -> None:
    """504 with what was late."""
    world = World()
    assert world.shelf is not None
    world.shelf.hangs = True
    async with serving_support(world) as running:
        response = await ask(running, json=body(), headers={"x-deadline-ms": "30"})

    assert response.status_code == 504 and "pages" in response.json()["error"]["message"]


async def test_the_document_shows_what_is_served() -> None:
    """The path with its shapes, and an example that is answered."""
    async with serving_support(World()) as running, httpx.AsyncClient(base_url=running.url) as http:
        document = (await http.get("/openapi.json")).json()
        post = document["paths"][PATH]["post"]
        example = post["requestBody"]["content"]["application/json"]["example"]
        answer = await http.post(PATH, json=example)

    reasons = document["components"]["schemas"]["HandoverOut"]["properties"]["reason"]["enum"]
    assert reasons == [reason.value for reason in HandoverReason]
    assert answer.json()["served_by"] == "order"


async def test_the_metrics_count_tiers_reasons_and_stages() -> None:
    """With closed labels, and no word of a shopper."""
    async with serving_support(World()) as running, httpx.AsyncClient() as http:
        await ask(running, json=body())
        await ask(running, json=body("transfer me to a human"))
        text = (await http.get(f"{running.metrics_url}/metrics")).text

    assert 'vitrine_support_answers_total{language="en",tier="extractive"} 1.0' in text
    assert 'vitrine_support_handovers_total{reason="asked_for_person"} 1.0' in text
    assert 'vitrine_support_stage_seconds_count{stage="retrieve"} 1.0' in text
    assert "human" not in text
