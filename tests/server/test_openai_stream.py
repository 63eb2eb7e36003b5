"""Streams whose readers leave, stall or stay, and servers that stop under them: every text ends once, nothing leaks."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import openai
import pytest

from server.errors import EngineFault
from tests.server.fake_text import FakeText
from tests.server.serving import post, until
from tests.server.text_serving import MESSAGES, TextServing, serving

CHAT = "/v1/chat/completions"


def body(**more: Any) -> dict[str, Any]:
    return {"model": "writer", "messages": MESSAGES, **more}


async def idle(server: TextServing) -> None:
    """Nothing of any text is left."""
    text = server.app.text
    assert text is not None
    await until(lambda: not server.text.live and not text.service.flights)
    await until(lambda: text.service.admission.in_flight == 0)


def outcomes(server: TextServing) -> dict[tuple[str, str], int]:
    """How often each outcome of each endpoint was recorded."""
    out: dict[tuple[str, str], int] = {}
    for metric in server.app.registry.collect():
        if metric.name == "vitrine_request_duration_seconds":
            for sample in metric.samples:
                if sample.name.endswith("_count"):
                    key = (sample.labels["endpoint"], sample.labels["outcome"])
                    out[key] = out.get(key, 0) + int(sample.value)
    return out


async def events(connection: Any) -> list[tuple[str, str]]:
    """Read a chunked event stream to its end: (event, data)."""
    raw = b""
    while True:
        size = int((await connection.reader.readline()).strip(), 16)
        data = await connection.reader.readexactly(size + 2)
        if size == 0:
            break
        raw += data[:-2]
    found = []
    for block in raw.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line)
        if fields:
            found.append((fields.get("event", "message"), fields["data"]))
    return found


async def test_fifty_streams_of_which_a_third_is_cancelled() -> None:
    """Those who stay get their own text whole; those who leave free theirs; every request has one outcome."""
    text = FakeText()
    text.script = lambda request: f"{request.sampling.seed}:" + "word " * 40

    async def read(client: openai.AsyncOpenAI, number: int) -> str | None:
        stream = await client.chat.completions.create(
            model="writer", messages=MESSAGES, stream=True, seed=number
        )
        said = ""
        async for piece in stream:
            said += piece.choices[0].delta.content or ""
            if number % 3 == 0 and len(said) > 10:
                await stream.close()
                return None
        return said

    async with serving(text) as server, server.client() as client:
        said = await asyncio.gather(*(read(client, number) for number in range(50)))
        await idle(server)
        counted = outcomes(server)

    for number, one in enumerate(said):
        assert one is None if number % 3 == 0 else one == f"{number}:" + "word " * 40
    assert sum(counted.values()) == 50
    assert counted[("chat_completions", "ok")] + counted[("chat_completions", "cancelled")] == 50
    assert counted[("chat_completions", "ok")] >= 33 and text.cancelled > 0


async def test_tasks_that_are_cancelled_free_their_texts() -> None:
    """Cancelling the coroutine that waits for a whole answer is a reader that left, too."""
    text = FakeText()
    text.hold_after = 3
    async with serving(text) as server, server.client() as client:
        tasks = [
            asyncio.create_task(client.chat.completions.create(model="writer", messages=MESSAGES))
            for _ in range(8)
        ]
        await until(lambda: len(text.live) == 8)
        for task in tasks[::2]:
            task.cancel()
        await until(lambda: len(text.live) == 4)
        text.go_on()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await idle(server)

    good = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert [answer.choices[0].message.content for answer in good] == ["echo: a blue mug"] * 4


STAGES = ["head", "half a body", "before the first token", "within the text", "before the whole answer"]


@pytest.mark.parametrize("stage", STAGES)
async def test_a_reader_may_leave_at_every_stage(stage: str) -> None:
    """Whenever the connection breaks, the permit and the text are free again and others are served."""
    text = FakeText()
    text.hold_after = {"before the first token": 0, "before the whole answer": 5}.get(stage, 5)
    async with serving(text) as server:
        whole = post(body(stream=stage != "before the whole answer"), CHAT)
        connection = await server.connect()
        head, _, rest = whole.partition(b"\r\n\r\n")
        if stage == "head":
            connection.send(head)
        elif stage == "half a body":
            connection.send(head + b"\r\n\r\n" + rest[: len(rest) // 2])
            await until(lambda: server.app.text and server.app.text.service.admission.in_flight == 1)
        else:
            connection.send(whole)
            await text.held.wait()
        if stage == "within the text":
            await connection.reader.readuntil(b'"content":"c"')
        connection.writer.transport.abort()
        await idle(server)
        text.go_on()
        async with server.client() as client:
            after = await client.chat.completions.create(model="writer", messages=MESSAGES)
        await idle(server)
        counted = outcomes(server)

    assert after.choices[0].message.content == "echo: a blue mug"
    assert counted.get(("chat_completions", "cancelled"), 0) == (0 if stage == "head" else 1)
    assert counted[("chat_completions", "ok")] == 1


def large(seed: int) -> bytes:
    """A request whose stream is about 8 MB: more than any socket buffer takes."""
    return post(body(stream=True, seed=seed, max_tokens=4000, logprobs=True, top_logprobs=20), CHAT)


async def stalled(server: TextServing) -> socket.socket:
    """A client that sends one large request and reads nothing."""
    ours = socket.socket()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(ours, ("127.0.0.1", server.app.http_port))
    await loop.sock_sendall(ours, large(seed=1))
    return ours


async def test_a_reader_who_stalls_does_not_pile_up_text() -> None:
    """Its text is cancelled at the limit and its connection closed in time; a neighbour reads on."""
    text = FakeText()
    text.script = lambda _: "y" * 4000
    async with serving(text, write_timeout_s=0.3, text_buffer_chars=20_000) as server:
        ours = await stalled(server)
        await until(lambda: text.cancelled == 1)
        async with server.client() as client:
            neighbour = await client.chat.completions.create(model="writer", messages=MESSAGES, max_tokens=20)
        await idle(server)
        counted = outcomes(server)
        ours.close()

    assert neighbour.choices[0].message.content == "y" * 20
    assert counted == {("chat_completions", "cancelled"): 1, ("chat_completions", "ok"): 1}


async def test_a_reader_who_was_too_slow_is_told_so() -> None:
    """Reading on after the limit, it finds the error event at the end of what it got."""
    text = FakeText()
    text.script = lambda _: "y" * 4000
    async with serving(text, write_timeout_s=60, text_buffer_chars=20_000) as server:
        ours = await stalled(server)
        await until(lambda: text.cancelled == 1)
        raw = b""
        loop = asyncio.get_running_loop()
        while b"\r\n0\r\n\r\n" not in raw[-64:]:
            raw += await loop.sock_recv(ours, 1 << 20)
        await idle(server)
        ours.close()

    assert b"event: error" in raw[-1000:] and b"read faster" in raw[-1000:] and b"[DONE]" not in raw


async def test_a_stream_that_fails_ends_with_the_error_event() -> None:
    """What was written is kept, then comes an event named error with OpenAI's body, and no [DONE]."""
    text = FakeText()
    text.fault, text.fault_after = EngineFault("the engine failed"), 6
    async with serving(text) as server:
        connection = await server.connect()
        connection.send(post(body(stream=True), CHAT))
        head = await connection.reader.readuntil(b"\r\n\r\n")
        told = await events(connection)
        async with server.client() as client:
            stream = await client.chat.completions.create(model="writer", messages=MESSAGES, stream=True)
            said = ""
            with pytest.raises(openai.APIError) as caught:
                async for piece in stream:
                    said += piece.choices[0].delta.content or ""
        await idle(server)
        counted = outcomes(server)

    assert b" 200 " in head and b"text/event-stream" in head
    name, data = told[-1]
    error = json.loads(data)["error"]
    assert name == "error" and error["type"] == "server_error" and error["request_id"]
    assert all(data != "[DONE]" for _, data in told)
    assert said == "echo: " and "the engine failed" in caught.value.message
    assert counted == {("chat_completions", "internal"): 2}


async def test_one_of_several_texts_that_fails_ends_them_all() -> None:
    """Half of an answer is none: the others are cancelled, the caller gets the error."""
    text = FakeText()
    text.hold_after = 2
    async with serving(text) as server, server.client() as client:
        call = asyncio.create_task(client.chat.completions.create(model="writer", messages=MESSAGES, n=4))
        await until(lambda: len(text.live) == 4)
        next(iter(text.live)).fail(EngineFault("boom"))
        with pytest.raises(openai.InternalServerError):
            await call
        await idle(server)

    assert text.cancelled == 3


async def test_a_text_that_is_not_whole_by_its_deadline_is_ended() -> None:
    """An engine that hangs keeps nobody: 504 before the first token, the error event after it."""
    text = FakeText()
    text.hold_after = 0
    async with serving(text) as server, server.client() as client:
        with pytest.raises(openai.APIStatusError) as early:
            await client.chat.completions.create(
                model="writer", messages=MESSAGES, stream=True, extra_body={"deadline_ms": 50}
            )
        text.hold_after = 4
        stream = await client.chat.completions.create(
            model="writer", messages=MESSAGES, stream=True, extra_headers={"x-deadline-ms": "200"}
        )
        with pytest.raises(openai.APIError) as late:
            async for _ in stream:
                pass
        await idle(server)
        counted = outcomes(server)

    assert early.value.status_code == 504 and early.value.type == "timeout_error"
    assert "deadline" in late.value.message
    assert counted == {("chat_completions", "deadline_exceeded"): 2}


async def test_streams_end_within_the_drain_limit() -> None:
    """On stop, a text that can be finished is; new ones are refused meanwhile; the ports close after it."""
    text = FakeText()
    text.hold_after = 4
    async with serving(text, drain_s=5.0) as server, server.client() as client:
        stream = await client.chat.completions.create(model="writer", messages=MESSAGES, stream=True)
        await text.held.wait()
        stopping = asyncio.create_task(server.stop())
        await until(lambda: server.app.service.draining)
        await until(lambda: server.app.text and server.app.text.service.admission.refusal() is not None)
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(model="writer", messages=MESSAGES)
        text.go_on()
        said = "".join([piece.choices[0].delta.content or "" async for piece in stream])
        await stopping

    assert said == "echo: a blue mug"
    assert refused.value.status_code == 503 and refused.value.response.headers["retry-after"]


@pytest.mark.parametrize("hangs", [False, True])
async def test_streams_that_outlast_the_drain_limit_end_with_the_error_event(hangs: bool) -> None:
    """Whole answers get a 503, streams the error event, also from an engine that hangs; then the server is gone."""
    text = FakeText()
    text.hangs = hangs
    text.hold_after = 4
    async with serving(text, drain_s=0.1) as server:
        reader, waiting = await server.connect(), await server.connect()
        reader.send(post(body(stream=True), CHAT))
        await until(lambda: len(text.live) == 1)
        waiting.send(post(body(), CHAT))
        await until(lambda: len(text.live) == 2)
        await reader.reader.readuntil(b"\r\n\r\n")
        stopping = asyncio.create_task(server.stop())
        told = await events(reader)
        status, headers, answer = await waiting.answer()
        await stopping

    assert told[-1][0] == "error" and json.loads(told[-1][1])["error"]["code"] == "not_ready"
    assert status == 503 and json.loads(answer)["error"]["code"] == "not_ready"
    assert headers["connection"] == "close"
    assert not text.live and text.closed


async def test_what_a_stream_sends_is_flushed_at_once() -> None:
    """The first token is on the wire before the second is written."""
    text = FakeText()
    text.hold_after = 1
    async with serving(text) as server:
        connection = await server.connect()
        connection.send(post(body(stream=True), CHAT))
        head = await connection.reader.readuntil(b"\r\n\r\n")
        seen = await connection.reader.readuntil(b'"content":"e"')
        assert len(text.live) == 1
        text.go_on()
        rest = await events_after(connection)

    assert b"cache-control: no-cache" in head and b"x-accel-buffering: no" in head
    assert b'"role":"assistant"' in seen and rest.rstrip().endswith(b"[DONE]\n\n\r\n0")


async def events_after(connection: Any) -> bytes:
    raw = b""
    while not raw.endswith(b"\r\n0\r\n\r\n"):
        raw += await connection.reader.read(65536)
    return raw


async def test_many_requests_follow_each_other_on_one_connection() -> None:
    """A stream, a refusal and a whole answer share a connection in turn."""
    async with serving() as server:
        connection = await server.connect()
        connection.send(post(body(stream=True), CHAT))
        await connection.reader.readuntil(b"\r\n\r\n")
        streamed = await events(connection)
        connection.send(post(body(temperature=9), CHAT))
        refused, _, _ = await connection.answer()
        connection.send(post(body(), CHAT))
        status, headers, answer = await connection.answer()

    assert streamed[-1] == ("message", "[DONE]") and refused == 422 and status == 200
    assert json.loads(answer)["choices"][0]["message"]["content"] == "echo: a blue mug"
    assert "total;dur=" in headers["server-timing"]


async def test_text_requests_over_the_limit_are_refused_at_once() -> None:
    """Beyond text_max_in_flight: 429 with Retry-After, before the body is looked at."""
    text = FakeText()
    text.hold_after = 0
    async with serving(text, text_max_in_flight=2) as server, server.client() as client:
        calls = [
            asyncio.create_task(client.chat.completions.create(model="writer", messages=MESSAGES))
            for _ in range(2)
        ]
        await until(lambda: len(text.live) == 2)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="writer", messages=MESSAGES)
        text.go_on()
        await asyncio.gather(*calls)
        await idle(server)

    assert int(caught.value.response.headers["retry-after"]) >= 1
