"""Texts that are written by another process: the same answers, one end each, and nothing retried after the first token."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai
import pytest

from server.app import Application
from server.settings import Settings
from tests.server.fake_recommender import FakeRecommender
from tests.server.serving import LIMIT_S, until
from tests.server.text_serving import serving

Handler = Callable[[httpx.Request], Any]


@contextlib.asynccontextmanager
async def other_process() -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A second server; its base URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.server.fake_text_process", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def vitrine(*urls: str, **more: Any) -> AsyncIterator[tuple[Application, openai.AsyncOpenAI]]:
    """This server, with its texts written there."""
    ports = {
        "http_port": 0,
        "grpc_port": 0,
        "metrics_port": 0,
        "grpc": False,
        "encoder": False,
        "drain_s": 1.0,
    }
    settings = Settings.from_env({}, **ports, text_engine="upstream", text_upstream_url=urls, **more)
    app = Application(settings, lambda *_: FakeRecommender())
    await app.start()
    await app.warm()
    try:
        async with asyncio.timeout(LIMIT_S):
            url = f"http://127.0.0.1:{app.http_port}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
                yield app, client
    finally:
        await app.stop()


def chat(text: str) -> list[Any]:
    return [{"role": "system", "content": "蓝 be kind"}, {"role": "user", "content": text}]


async def test_another_process_writes_the_text() -> None:
    """Chats and completions, whole and streamed, with the usage and the refusals of the server there; twenty at once."""
    async with other_process() as (url, _), vitrine(url) as (app, client):
        ask_chat = client.chat.completions.create
        whole = await ask_chat(model="writer", messages=chat("a 蓝 mug"), seed=3)
        stream = await ask_chat(
            model="writer", messages=chat("a mug"), stream=True, stream_options={"include_usage": True}
        )
        pieces = [piece async for piece in stream]
        text = await client.completions.create(model="writer", prompt="hello", max_tokens=50)
        short = await ask_chat(model="writer", messages=chat("a mug"), max_tokens=4)
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            await ask_chat(model="writer", messages=chat("x" * 5000))
        with pytest.raises(openai.RateLimitError) as full:
            await ask_chat(model="writer", messages=chat("full"))
        many = await asyncio.gather(*(ask_chat(model="writer", messages=chat(f"n{i}")) for i in range(20)))
        models = {model.id: model async for model in client.models.list()}
        metrics = {metric.name: metric for metric in app.registry.collect()}

    assert whole.choices[0].message.content == "echo: a 蓝 mug" and whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None and whole.usage.completion_tokens == len("echo: a 蓝 mug".encode())
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == "echo: a mug"
    assert pieces[-1].usage is not None and pieces[-1].usage.completion_tokens == 11
    assert text.choices[0].text == "echo: hello"
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("echo", "length")
    assert "the upstream server refuses" in refused.value.message and "4096" in refused.value.message
    assert full.value.response.headers["retry-after"] == "7"
    assert [answer.choices[0].message.content for answer in many] == [f"echo: n{i}" for i in range(20)]
    assert list(models) == ["shop", "writer"] and models["writer"].model_extra is not None
    assert models["writer"].model_extra["engine"] == "upstream"
    first = next(
        s for s in metrics["vitrine_time_to_first_token_seconds"].samples if s.name.endswith("_count")
    )
    assert first.value == 24


async def test_tool_calls_cross_both_servers() -> None:
    """A conversation with calls goes there with its arguments as text, and tools are passed on."""
    tools: list[Any] = [{"type": "function", "function": {"name": "find"}}]
    called = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
    messages: list[Any] = [
        *chat("x"),
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c1", "content": '<tool_call>\n{"name": "find", "arguments": {"a": 2}}\n</tool_call>'},
    ]  # fmt: skip
    async with other_process() as (url, _), vitrine(url) as (_, client):
        answer = await client.chat.completions.create(model="writer", messages=messages, tools=tools)

    calls: Any = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls" and answer.choices[0].message.content == "echo:"
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("find", {"a": 2})
    ]


async def test_a_reader_who_leaves_here_is_one_who_leaves_there() -> None:
    """Cancelling the stream frees the text of the other server, which is seen in its metrics of texts in flight."""
    async with serving() as there, vitrine(f"{there.url}/v1") as (_, client):
        there.text.hold_after = 3
        stream = await client.chat.completions.create(model="writer", messages=chat("a mug"), stream=True)
        async for _ in stream:
            break
        assert len(there.text.live) == 1
        await stream.close()
        await until(lambda: not there.text.live)

    assert there.text.cancelled == 1


async def test_a_server_that_dies_within_a_text_fails_that_text_only() -> None:
    """The stream ends with the error event; the next text is written by the second server; ready says so throughout."""
    async with (
        other_process() as (first, dying),
        other_process() as (second, _),
        vitrine(first, second) as (app, client),
    ):
        stream = await client.chat.completions.create(model="writer", messages=chat("die"), stream=True)
        said = ""
        with pytest.raises(openai.APIError) as caught:
            async for piece in stream:
                said += piece.choices[0].delta.content or ""
        await dying.wait()
        after = await client.chat.completions.create(model="writer", messages=chat("a mug"))
        ready = app.service.ready()

    assert said == "ech" and "within the text" in caught.value.message
    assert after.choices[0].message.content == "echo: a mug"
    assert ready == (True, [])


async def test_without_any_server_it_starts_degraded_and_recovers() -> None:
    """Recommendations are served, so that the server is ready and says what is not; texts are 503 with Retry-After.

    Once a server is there, it is found. No caller is told its address.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with vitrine(f"http://127.0.0.1:{port}/v1") as (app, client):
        ready, degraded = app.service.ready(), app.service.degraded()
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="", messages=chat("x"))
        async with serving(http_port=port):
            await until(lambda: not app.service.degraded())
            after = await client.chat.completions.create(model="writer", messages=chat("x"))

    assert ready == (True, []) and "does not answer" in degraded[0]
    assert caught.value.status_code == 503 and caught.value.response.headers["retry-after"]
    assert str(port) not in caught.value.message and str(port) not in degraded[0]
    assert after.choices[0].message.content == "echo: x"


async def test_what_needs_the_tokens_there_is_refused_here() -> None:
    """A prompt of token ids, and logprobs: a sentence says why."""
    async with serving() as there, vitrine(f"{there.url}/v1") as (_, client):
        with pytest.raises(openai.UnprocessableEntityError) as ids:
            await client.completions.create(model="writer", prompt=[5, 6])
        with pytest.raises(openai.UnprocessableEntityError) as logprobs:
            await client.chat.completions.create(model="writer", messages=chat("x"), logprobs=True)

    assert ids.value.param == "prompt" and "send text" in ids.value.message
    assert logprobs.value.param == "logprobs" and "leave" in logprobs.value.message
