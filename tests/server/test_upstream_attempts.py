"""Attempts at a text elsewhere, with servers that are functions: what is tried again, raced, bounded and let go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from server.engines.upstream import UpstreamText
from server.engines.upstream_server import UpstreamServer
from server.engines.upstream_wire import WireCodec
from server.errors import Code, EngineFault, InvalidRequest, NotReady, Overloaded
from server.http_api.status import STATUS
from server.text_domain import (
    Chunk,
    Failed,
    Finished,
    GenerateRequest,
    TextEvent,
)
from tests.server.event_streams import said, sse
from tests.server.serving import LIMIT_S, until

MODELS = {
    "object": "list",
    "data": [{"id": "shop", "task": "recommendation"}, {"id": "writer", "max_model_len": 512}],
}


GOOD = sse(
    said("good", None),
    said("", "stop"),
    {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1}},
    b"[DONE]",
)


class There:
    """A server elsewhere as a list of answers: bytes of a stream, a status, or an exception; the last one repeats."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.cancelled = 0
        self.now_s = 0.0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=MODELS)
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, asyncio.Event):
            try:
                await answer.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            answer = GOOD
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(
                answer, json={"error": {"message": "because", "param": "n"}}, headers={"retry-after": "3"}
            )
        return httpx.Response(200, stream=Bytes(answer))


class Bytes(httpx.AsyncByteStream):
    def __init__(self, data: Any) -> None:
        self._data = data if isinstance(data, list) else [data]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for data in self._data:
            if isinstance(data, Exception):
                raise data
            yield data


@contextlib.asynccontextmanager
async def upstream(*there: There, **options: Any) -> AsyncIterator[UpstreamText]:
    servers = [
        UpstreamServer(
            f"http://127.0.0.1:{i}/v1",
            model="",
            key="",
            connections=8,
            transport=httpx.MockTransport(one.handle),
        )
        for i, one in enumerate(there)
    ]
    text = UpstreamText(servers, "writer", probe_every_s=3600.0, **options)
    await text.start()
    try:
        async with asyncio.timeout(LIMIT_S):
            yield text
    finally:
        await text.close(0.0)


async def write(text: UpstreamText, **more: Any) -> list[TextEvent]:
    """All events of one text, to its end."""
    events: list[TextEvent] = []
    ended = asyncio.Event()

    def sink(event: TextEvent) -> None:
        assert not ended.is_set()
        events.append(event)
        if not isinstance(event, Chunk):
            ended.set()

    ids = tuple(WireCodec().encode("x"))
    text.submit(GenerateRequest(**{"prompt_ids": ids, "max_tokens": 9, **more}), sink)
    await ended.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    return events


def failure(events: list[TextEvent]) -> Any:
    assert isinstance(events[-1], Failed)
    return events[-1].error


def words(events: list[TextEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Chunk))


@pytest.mark.parametrize(
    "first", [503, 500, httpx.ConnectError("no"), sse(b"{nonsense")], ids=["503", "500", "down", "nonsense"]
)
async def test_a_text_without_a_token_is_asked_for_again(first: Any) -> None:
    """On the next server, or on the same one where it is alone; the caller sees one good text."""
    alone, one, two = There(first, GOOD), There(first), There(GOOD)
    async with upstream(alone) as text:
        assert words(await write(text)) == "good" and alone.asked == 2
    async with upstream(one, two) as text:
        assert words(await write(text)) == "good"
        assert (one.asked, two.asked) == (1, 1)


async def test_attempts_are_bounded() -> None:
    """After the retries the last error is the text's."""
    there = There(503)
    async with upstream(there, retries=2) as text:
        error = failure(await write(text))

    assert isinstance(error, NotReady) and there.asked == 3


@pytest.mark.parametrize(
    ("status", "kind"), [(400, InvalidRequest), (422, InvalidRequest), (429, Overloaded)]
)
async def test_what_would_not_help_is_not_asked_again(status: int, kind: type[Exception]) -> None:
    """A refused request is the caller's; a server that is full and alone is not asked again; neither opens the breaker."""
    there = There(status)
    async with upstream(there, retries=5) as text:
        errors = [failure(await write(text)) for _ in range(5)]
        assert text.ready()[0]

    assert all(isinstance(error, kind) for error in errors) and there.asked == 5
    if status == 429:
        assert errors[0].retry_after_s == 3.0
    else:
        assert errors[0].field == "n" and "because" in errors[0].message


async def test_our_own_wrong_key_is_not_the_callers_fault() -> None:
    """401 there is an internal error here, without what the server there said."""
    async with upstream(There(401), retries=0) as text:
        error = failure(await write(text))

    assert error.code is Code.INTERNAL and "because" not in error.message


@pytest.mark.parametrize(
    ("first", "code", "status"),
    [
        (500, Code.BAD_UPSTREAM, 502),
        (502, Code.BAD_UPSTREAM, 502),
        (503, Code.NOT_READY, 503),
        (504, Code.DEADLINE_EXCEEDED, 504),
        (sse(b"{nonsense"), Code.BAD_UPSTREAM, 502),
        (httpx.ReadTimeout("slow"), Code.DEADLINE_EXCEEDED, 504),
        (httpx.RemoteProtocolError("gone"), Code.BAD_UPSTREAM, 502),
        (httpx.ConnectError("no"), Code.NOT_READY, 503),
    ],
    ids=["500", "502", "503", "504", "nonsense", "slow", "broke off", "down"],
)
async def test_a_failure_behind_us_is_told_from_our_own(first: Any, code: Code, status: int) -> None:
    """502: it failed or cannot be read; 504: it took too long; 503: it is not there, or says so."""
    async with upstream(There(first), retries=0) as text:
        error = failure(await write(text))

    assert error.code is code and STATUS[error.code] == status


BROKEN: list[Any] = [
    [sse(said("half")), httpx.ReadError("gone")],
    [sse(said("half"))],
    [sse(said("half")), sse({"error": {"message": "boom", "code": "internal"}})],
    [sse(said("half")), sse(b"{nonsense")],
]


@pytest.mark.parametrize("stream", BROKEN, ids=["broken", "cut", "error event", "nonsense"])
async def test_nothing_is_retried_after_the_first_token(stream: Any) -> None:
    """What was written stands, the text fails, and the server was asked once."""
    there = There(stream)
    async with upstream(there, There(GOOD), retries=5) as text:
        events = await write(text)

    assert words(events) == "half" and isinstance(failure(events), EngineFault) and there.asked == 1


async def test_a_second_attempt_races_the_first_where_it_is_slow() -> None:
    """With hedging on, the second server's text is told, and the first attempt is let go."""
    slow, quick = There(asyncio.Event()), There(GOOD)
    async with upstream(slow, quick, hedge_s=0.01) as text:
        events = await write(text)

    assert words(events) == "good" and isinstance(events[-1], Finished)
    assert (slow.asked, slow.cancelled, quick.asked) == (1, 1, 1)


async def test_without_hedging_a_slow_server_is_waited_for() -> None:
    """No second attempt is made, until the deadline ends the first."""
    slow, quick = There(asyncio.Event()), There(GOOD)
    async with upstream(slow, quick) as text:
        error = failure(await write(text, deadline_at_s=text.clock() + 0.05))

    assert error.code is Code.DEADLINE_EXCEEDED and error.stage == "queue"
    assert (slow.asked, slow.cancelled, quick.asked) == (1, 1, 0)


async def test_a_server_that_fails_is_left_alone_until_it_is_looked_at() -> None:
    """After three failures it is not asked, and the texts go to the other at once; alone, it makes this one not ready."""
    bad, good = There(503), There(GOOD)
    async with upstream(bad, good) as text:
        for _ in range(6):
            assert words(await write(text)) == "good"
        assert (bad.asked, good.asked) == (3, 6) and text.ready()[0]
    async with upstream(There(503), retries=2) as alone:
        failure(await write(alone))
        ready, why = alone.ready()
        error = failure(await write(alone))

    assert not ready and why and isinstance(error, NotReady) and error.retry_after_s is not None


async def test_closing_ends_what_is_under_way() -> None:
    """A text that outlasts the drain gets NotReady, once; new ones are refused."""
    there = There(asyncio.Event())
    async with upstream(there) as text:
        events: list[TextEvent] = []
        text.submit(GenerateRequest(prompt_ids=(65,), max_tokens=4), events.append)
        await until(lambda: there.asked)
        await text.close(0.0)
        with pytest.raises(NotReady):
            text.submit(GenerateRequest(prompt_ids=(65,), max_tokens=4), events.append)

    assert len(events) == 1 and isinstance(failure(events), NotReady) and there.cancelled == 1


async def test_cancelling_tells_nothing_more() -> None:
    """The attempt is dropped; a second cancel changes nothing."""
    there = There(asyncio.Event())
    async with upstream(there) as text:
        events: list[TextEvent] = []
        generation = text.submit(GenerateRequest(prompt_ids=(65,), max_tokens=4), events.append)
        await until(lambda: there.asked)
        generation.cancel()
        generation.cancel()
        await until(lambda: there.cancelled)

    assert events == []


async def test_running_out_of_our_own_connections_says_nothing_of_the_server() -> None:
    """However often no connection is free, the server goes on being asked: it has not failed."""
    there = There(httpx.PoolTimeout("all in use"))
    async with upstream(there, retries=0) as text:
        for _ in range(5):
            assert isinstance(failure(await write(text)), NotReady)
        there.answers = [GOOD]
        assert words(await write(text)) == "good" and text.ready()[0]

    assert there.asked == 6
