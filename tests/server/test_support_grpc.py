"""Customer service over gRPC by the generated client: the same answers, limits and outcomes as over HTTP."""

from __future__ import annotations

import asyncio

import grpc
import httpx
import pytest

from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.vitrine_pb2_grpc import CustomerServiceStub
from tests.server.serving import until
from tests.server.support_serving import serving_support
from tests.server.support_world import World

ASKED = "How much does express delivery cost?"
ORDER = pb.SupportOrder(
    order_id="A-1001",
    status="shipped",
    expected_on="2026-03-05",
    items=[pb.SupportOrderItem(title="Mug", quantity=2), pb.SupportOrderItem(title="Kettle")],
    total=49.9,
    currency="EUR",
)


def question(text: str = ASKED, **more: object) -> pb.CustomerServiceRequest:
    return pb.CustomerServiceRequest(messages=[pb.SupportMessage(role="user", content=text)], **more)  # type: ignore[arg-type]


async def test_both_wires_give_the_same_answer() -> None:
    """A page, the order and a person, field by field."""
    order = {
        "order_id": "A-1001", "status": "shipped", "expected_on": "2026-03-05", "total": 49.9, "currency": "EUR",
        "items": [{"title": "Mug", "quantity": 2}, {"title": "Kettle"}],
    }  # fmt: skip
    async with (
        serving_support(World(), grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        for text in (ASKED, "What did I order?", "Where is my order?", "a human, please, about A-1001"):
            told = await CustomerServiceStub(channel).Answer(question(text, order=ORDER), timeout=5)
            body = {"messages": [{"role": "user", "content": text}], "order": order}
            same = (await http.post("/v1/customer-service", json=body)).json()

            assert (told.answer, told.end.served_by) == (same["answer"], same["served_by"])
            assert (
                told.heard.intent.label == same["intent"]["label"] and told.heard.language == same["language"]
            )
            assert [(e.kind, e.value, e.start, e.end) for e in told.heard.entities] == [
                (e["kind"], e["value"], e["start"], e["end"]) for e in same["entities"]
            ]
            assert [(s.id, s.title, s.quote, s.url) for s in told.sources.sources] == [
                (s["id"], s["title"], s["quote"], s["url"]) for s in same["sources"]
            ]
            assert told.sources.knowledge_epoch == same["knowledge_epoch"]
            assert told.end.HasField("handover") == (same["handover"] is not None)
            if same["handover"] is not None:
                assert told.end.handover.reason == same["handover"]["reason"]
                assert told.end.handover.summary == same["handover"]["summary"]


async def test_a_stream_tells_what_the_whole_does() -> None:
    """Heard, sources, the text in parts, one end; and the times after it."""
    async with (
        serving_support(World(), grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        whole = await CustomerServiceStub(channel).Answer(question(), timeout=5)
        call = CustomerServiceStub(channel).AnswerStream(question(), timeout=5)
        seen = [event async for event in call]
        trailing = dict(await call.trailing_metadata() or ())

    assert [event.WhichOneof("event") for event in seen] == ["heard", "sources", "answer", "end"]
    assert seen[2].answer == whole.answer and seen[1].sources == whole.sources
    assert "retrieve;dur=" in trailing["server-timing"]


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (pb.CustomerServiceRequest(), "messages has 0 entries"),
        (
            pb.CustomerServiceRequest(messages=[pb.SupportMessage(role="shop", content="x")]),
            "choose one of user",
        ),
        (question("  "), "is empty"),
        (question(order=pb.SupportOrder(placed_on="soon")), "order.placed_on is 'soon'"),
    ],
)
async def test_a_bad_message_is_told_what_is_wrong(request_: pb.CustomerServiceRequest, says: str) -> None:
    """INVALID_ARGUMENT with the sentence that HTTP gives."""
    async with (
        serving_support(World(), grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await CustomerServiceStub(channel).Answer(request_, timeout=5)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in (refused.value.details() or "")


@pytest.mark.parametrize("method", ["Answer", "AnswerStream"])
async def test_who_cancels_lets_the_question_go(method: str) -> None:
    """The permit comes back."""
    world = World()
    assert world.shelf is not None
    world.shelf.hangs = True
    async with (
        serving_support(world, grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        support = server.app.support
        assert support is not None
        call = getattr(CustomerServiceStub(channel), method)(question(), timeout=60)
        reading = asyncio.ensure_future(call.read() if method == "AnswerStream" else _whole(call))
        await until(lambda: world.shelf is not None and world.shelf.asked)

        call.cancel()

        await until(lambda: support.service.in_flight() == 0)
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_the_calls_own_deadline_counts() -> None:
    """The earlier of the two: DEADLINE_EXCEEDED although the message allows more."""
    world = World()
    assert world.shelf is not None
    world.shelf.hangs = True
    async with (
        serving_support(world, grpc=True) as server,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await CustomerServiceStub(channel).Answer(question(deadline_ms=60_000), timeout=0.1)

    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def _whole(call: object) -> object:
    return await call  # type: ignore[misc]
