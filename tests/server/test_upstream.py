"""Texts that are written by another process: the same answers, one end each, and nothing retried after the first token."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.app import Application
from server.engines.breaker import Breaker
from server.engines.upstream import UpstreamText
from server.engines.upstream_server import UpstreamServer
from server.engines.upstream_wire import EventReader, WireCodec, ask
from server.errors import Code, EngineFault, InvalidRequest, NotReady, Overloaded
from server.settings import Settings
from server.text_domain import (
    Chunk,
    Constraint,
    ConstraintKind,
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    SamplingParams,
    TextEvent,
)
from tests.server.fake_recommender import FakeRecommender
from tests.server.serving import LIMIT_S, until
from tests.server.text_serving import serving

Handler = Callable[[httpx.Request], Any]
MODELS = {
    "object": "list",
    "data": [{"id": "shop", "task": "recommendation"}, {"id": "writer", "max_model_len": 512}],
}


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
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0, "grpc": False, "drain_s": 1.0}
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


async def test_without_any_server_it_starts_not_ready_and_recovers() -> None:
    """The port is up, ready says why, texts are 503 with Retry-After; once a server is there, it is found."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with vitrine(f"http://127.0.0.1:{port}/v1") as (app, client):
        ready, reasons = app.service.ready()
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="", messages=chat("x"))
        async with serving(http_port=port):
            await until(lambda: app.service.ready()[0])
            after = await client.chat.completions.create(model="writer", messages=chat("x"))

    assert not ready and "does not answer" in reasons[0]
    assert caught.value.status_code == 503 and caught.value.response.headers["retry-after"]
    assert after.choices[0].message.content == "echo: x"


# --- attempts, with servers that are functions ---


def sse(*events: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % (e if isinstance(e, bytes) else json.dumps(e).encode()) for e in events)


def said(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}


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
            f"http://s{i}/v1", model="", key="", connections=8, transport=httpx.MockTransport(one.handle)
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


# --- the wire ---


def test_everything_that_is_asked_is_passed_on() -> None:
    """Sampling, stops and constraints by the names that OpenAI, vLLM and Vitrine share; defaults are left out."""
    codec = WireCodec()
    ids = tuple(codec.encode_chat([{"role": "user", "content": "hi"}]))
    schema = Constraint(kind=ConstraintKind.JSON_SCHEMA, text='{"type":"object"}')
    full = GenerateRequest(
        prompt_ids=ids, max_tokens=5, stop=("x",), ignore_eos=True, constraint=schema, stop_token_ids=frozenset({3}),
        sampling=SamplingParams(temperature=0.5, top_k=4, seed=7, logit_bias={9: 1.0}, presence_penalty=1.0),
    )  # fmt: skip
    path, body = ask(full, "m", 100)
    plain_path, plain = ask(
        GenerateRequest(prompt_ids=tuple(codec.encode("héllo")), max_tokens=100), "m", 100
    )

    assert path == "/chat/completions" and plain_path == "/completions"
    assert json.loads(body) == {
        "model": "m", "stream": True, "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "temperature": 0.5, "top_k": 4,
        "presence_penalty": 1.0, "seed": 7, "stop": ["x"], "stop_token_ids": [3], "ignore_eos": True,
        "logit_bias": {"9": 1.0},
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}
        },
    }  # fmt: skip
    assert json.loads(plain) == {
        "model": "m", "stream": True, "stream_options": {"include_usage": True}, "prompt": "héllo", "temperature": 1.0
    }  # fmt: skip


def test_streamed_tool_calls_become_the_text_that_a_model_writes() -> None:
    """Name and arguments in pieces are put together as this house reads them."""

    def call(index: int, **function: str) -> dict[str, Any]:
        return {"choices": [{"delta": {"tool_calls": [{"index": index, "function": function}]}}]}

    stream = sse(
        call(0, name="find", arguments=""), call(0, arguments='{"a":'), call(0, arguments="1}"),
        call(1, name="stock", arguments="{}"), said("", "tool_calls"),
    )  # fmt: skip
    pieces = EventReader().feed(stream)

    assert "".join(piece.text for piece in pieces) == (
        '<tool_call>\n{"name": "find", "arguments": {"a":1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "stock", "arguments": {}}\n</tool_call>'
    )
    assert pieces[-1].reason is FinishReason.STOP


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5), st.lists(st.integers(0, 400), max_size=8))
def test_where_the_network_cuts_a_stream_changes_nothing(texts: list[str], cuts: list[int]) -> None:
    """Any cut, within characters and line ends too, gives the same text; line ends of Unicode are text."""
    data = b"".join(
        b"data: %b\r\n\r\n" % json.dumps(said(text + "\u2028"), ensure_ascii=False).encode("utf-8", "replace")
        for text in texts
    )
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = EventReader()
    pieces = [piece for a, b in itertools.pairwise(places) for piece in reader.feed(data[a:b])]
    whole = EventReader().feed(data)

    assert "".join(piece.text for piece in pieces) == "".join(piece.text for piece in whole)
    assert "".join(piece.text for piece in whole).count("\u2028") >= len(texts)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 40.0), st.sampled_from(["ask", "worked", "failed", "left"])), max_size=40
    )
)
def test_a_breaker_never_locks_for_good(steps: list[tuple[float, str]]) -> None:
    """Whatever happened, a server is let through again within the longest wait, and at most one try is on its way while open."""
    breaker, now_s, trying = Breaker(), 0.0, 0
    for wait_s, what in steps:
        now_s += wait_s
        if what == "ask":
            if breaker.take(now_s) and not breaker.closed:
                trying += 1
                assert trying == 1
        elif what == "worked":
            breaker.worked()
            trying = 0
        elif what == "failed":
            breaker.failed(now_s)
            trying = 0
        else:
            breaker.left()
            trying = 0
        assert breaker.wait_s(now_s) <= 30.0
    breaker.left()
    assert breaker.take(now_s + 30.0)


async def test_what_needs_the_tokens_there_is_refused_here() -> None:
    """A prompt of token ids, and logprobs: a sentence says why."""
    async with serving() as there, vitrine(f"{there.url}/v1") as (_, client):
        with pytest.raises(openai.UnprocessableEntityError) as ids:
            await client.completions.create(model="writer", prompt=[5, 6])
        with pytest.raises(openai.UnprocessableEntityError) as logprobs:
            await client.chat.completions.create(model="writer", messages=chat("x"), logprobs=True)

    assert ids.value.param == "prompt" and "send text" in ids.value.message
    assert logprobs.value.param == "logprobs" and "leave" in logprobs.value.message
