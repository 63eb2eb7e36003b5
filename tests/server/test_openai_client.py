"""What OpenAI's own clients get: the same answers whole and streamed, and errors of the classes they know."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from server.errors import EngineFault, InvalidRequest, NotReady, Overloaded
from tests.server.fake_text import FakeText
from tests.server.text_serving import MESSAGES, serving


async def test_a_chat_is_answered_by_the_model() -> None:
    """Text, reason, usage and model come as the client's types."""
    async with serving() as server, server.client() as client:
        answer = await client.chat.completions.create(model="writer", messages=MESSAGES)

    assert answer.object == "chat.completion" and answer.model == "writer"
    assert answer.choices[0].message.content == "echo: a blue mug"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len("echo: a blue mug")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_the_synchronous_client_works_as_well() -> None:
    """The blocking client gets the same answer."""
    async with serving() as server:

        def ask() -> str | None:
            with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
                return (
                    client.chat.completions.create(model="writer", messages=MESSAGES)
                    .choices[0]
                    .message.content
                )

        assert await asyncio.to_thread(ask) == "echo: a blue mug"


async def test_a_stream_says_the_same_as_the_whole_answer() -> None:
    """Pieces joined are the text; the role comes first, the reason last."""
    async with serving() as server, server.client() as client:
        server.text.script = lambda _: "蓝色 mug 🙂"
        stream = await client.chat.completions.create(model="writer", messages=MESSAGES, stream=True)
        pieces = [piece async for piece in stream]

    assert pieces[0].choices[0].delta.role == "assistant"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "蓝色 mug 🙂"
    assert [piece.choices[0].finish_reason for piece in pieces][-1] == "stop"
    assert len({piece.id for piece in pieces}) == 1
    assert all("�" not in (piece.choices[0].delta.content or "") for piece in pieces)


async def test_usage_comes_in_an_event_of_its_own_when_it_is_asked_for() -> None:
    """With include_usage the last event has no choices and the figures, those before say null; without it there is none."""
    async with serving() as server, server.client() as client:
        server.text.cached[(257, *b"user\na blue mug", 258, 257)] = 12
        stream = await client.chat.completions.create(
            model="writer", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        pieces = [piece async for piece in stream]
        plain = await client.chat.completions.create(model="writer", messages=MESSAGES, stream=True)
        without = [piece async for piece in plain]

    last = pieces[-1]
    assert last.choices == [] and last.usage is not None
    assert last.usage.completion_tokens == len("echo: a blue mug")
    assert last.usage.prompt_tokens_details is not None
    assert last.usage.prompt_tokens_details.cached_tokens == 12
    assert all(piece.usage is None for piece in pieces[:-1])
    assert all(piece.usage is None and piece.choices for piece in without)


async def test_several_answers_have_their_own_places_and_seeds() -> None:
    """n answers come by index; a seed is not the same for all of them, and the prompt counts once."""
    async with serving() as server, server.client() as client:
        server.text.script = lambda request: f"seed {request.sampling.seed}"
        answer = await client.chat.completions.create(model="writer", messages=MESSAGES, n=3, seed=5)
        stream = await client.chat.completions.create(
            model="writer",
            messages=MESSAGES,
            n=3,
            seed=5,
            stream=True,
            stream_options={"include_usage": True},
        )
        texts = ["", "", ""]
        usage = None
        async for piece in stream:
            for choice in piece.choices:
                texts[choice.index] += choice.delta.content or ""
            usage = piece.usage or usage

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [choice.message.content for choice in answer.choices] == ["seed 5", "seed 6", "seed 7"]
    assert texts == ["seed 5", "seed 6", "seed 7"]
    assert answer.usage is not None and usage is not None
    assert answer.usage.prompt_tokens == len(server.text.seen[0].prompt_ids) == usage.prompt_tokens
    assert answer.usage.completion_tokens == 18


async def test_stop_length_and_limits_reach_the_engine() -> None:
    """stop ends a text before the string; max_tokens and its newer name end it by length."""
    async with serving() as server, server.client() as client:
        ask = client.chat.completions.create
        stopped = await ask(model="writer", messages=MESSAGES, stop=[" mug"])
        short = await ask(model="writer", messages=MESSAGES, max_tokens=4)
        newer = await ask(model="writer", messages=MESSAGES, max_completion_tokens=5)

    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("echo: a blue", "stop")
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("echo", "length")
    assert newer.choices[0].message.content == "echo:"


async def test_every_sampling_field_reaches_the_engine() -> None:
    """What a caller asks is what the engine is asked."""
    async with serving() as server, server.client() as client:
        await client.chat.completions.create(
            model="writer",
            messages=MESSAGES,
            temperature=0.5,
            top_p=0.9,
            presence_penalty=0.25,
            frequency_penalty=-0.5,
            seed=9,
            logit_bias={"65": 3},
            user="shop-1",
            stop="X",
            extra_body={
                "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1, "ignore_eos": True, "stop_token_ids": [7],
                "deadline_ms": 5000,
            },
        )  # fmt: skip

    asked = server.text.seen[0]
    sampling = asked.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 40, 0.05)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.25, -0.5)
    assert (sampling.repetition_penalty, sampling.seed, dict(sampling.logit_bias)) == (1.1, 9, {65: 3.0})
    assert (asked.ignore_eos, asked.stop_token_ids, asked.stop) == (True, frozenset({7}), ("X",))
    assert asked.tenant == "shop-1" and sampling.top_logprobs is None


async def test_logprobs_tell_every_token() -> None:
    """Chat and completions tell each token with its alternatives, whole and streamed, and they join to the text."""
    async with serving() as server, server.client() as client:
        server.text.script = lambda _: "aé"
        chat = await client.chat.completions.create(
            model="writer", messages=MESSAGES, logprobs=True, top_logprobs=2
        )
        stream = await client.chat.completions.create(
            model="writer", messages=MESSAGES, logprobs=True, stream=True
        )
        streamed: list[int] = []
        async for piece in stream:
            told = piece.choices[0].logprobs
            streamed += [byte for one in (told.content or [] if told else []) for byte in one.bytes or []]
        older = await client.completions.create(model="writer", prompt="x", logprobs=1)

    content = chat.choices[0].logprobs and chat.choices[0].logprobs.content
    assert content is not None
    assert bytes(byte for one in content for byte in one.bytes or []).decode() == "aé"
    assert content[0].token == "a" and content[0].logprob == -0.25
    assert [other.token for other in content[0].top_logprobs] == ["a", "b"]
    assert bytes(streamed).decode() == "aé"
    told_older = older.choices[0].logprobs
    assert told_older is not None and told_older.tokens is not None
    assert told_older.tokens[0] == "a" and told_older.text_offset is not None
    assert told_older.text_offset[:2] == [0, 1]


async def test_completions_take_texts_and_tokens() -> None:
    """A text, several, token ids, and lists of these; n for each; echo."""
    async with serving() as server, server.client() as client:
        ask = client.completions.create
        one = await ask(model="writer", prompt="hello", max_tokens=32)
        many = await ask(model="writer", prompt=["ab", "cd"], max_tokens=32, n=2)
        tokens = await ask(model="writer", prompt=[104, 105], max_tokens=32)
        lists = await ask(model="writer", prompt=[[104], [105]], max_tokens=32)
        echoed = await ask(model="writer", prompt="hello", max_tokens=4, echo=True)
        default = await ask(model="writer", prompt="a prompt of some length")

    assert one.object == "text_completion" and one.choices[0].text == "echo: hello"
    assert [choice.text for choice in many.choices] == ["echo: ab", "echo: ab", "echo: cd", "echo: cd"]
    assert tokens.choices[0].text == "echo: hi"
    assert [choice.text for choice in lists.choices] == ["echo: h", "echo: i"]
    assert echoed.choices[0].text == "helloecho"
    assert default.usage is not None and default.usage.completion_tokens == 16


async def test_completions_stream() -> None:
    """Pieces joined are the text, with usage at the end, echo at the beginning."""
    async with serving() as server, server.client() as client:
        stream = await client.completions.create(
            model="writer",
            prompt="hi",
            max_tokens=50,
            echo=True,
            stream=True,
            stream_options={"include_usage": True},
        )
        pieces = [piece async for piece in stream]

    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == "hiecho: hi"
    assert pieces[-1].usage is not None and pieces[-1].usage.completion_tokens == 8
    assert pieces[-2].choices[0].finish_reason == "stop"


async def test_models_are_listed() -> None:
    """Both models are in the list, and each can be asked for."""
    async with serving() as server, server.client() as client:
        names = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("writer")
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.models.retrieve("gpt-9")

    assert names == ["shop", "writer"]
    assert (one.id, one.object, one.owned_by, one.created) == ("writer", "model", "vitrine", 1_700_000_000)
    assert unknown.value.type == "not_found_error" and "writer" in unknown.value.message


async def test_the_only_model_needs_no_name() -> None:
    """An empty model is the only one."""
    async with serving() as server, server.client() as client:
        answer = await client.chat.completions.create(model="", messages=MESSAGES)

    assert answer.model == "writer"


CASES: list[tuple[str, Exception, type[openai.APIStatusError], int, str]] = [
    ("invalid", InvalidRequest("the prompt is too long", field="messages", limit="9"), openai.UnprocessableEntityError, 422, "invalid_request_error"),
    ("full", Overloaded("writer", 9, 8, 3.2), openai.RateLimitError, 429, "rate_limit_error"),
    ("starting", NotReady("the text engine is starting"), openai.InternalServerError, 503, "server_error"),
    ("fault", EngineFault("the engine failed"), openai.InternalServerError, 500, "server_error"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "error", "kind", "status", "family"), CASES, ids=[case[0] for case in CASES]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_before_the_first_token_have_their_status(
    name: str, error: Any, kind: type[openai.APIStatusError], status: int, family: str, stream: bool
) -> None:
    """Whether a stream was asked for or not: status, family, sentence, and when to try again."""
    text = FakeText()
    text.refusal = error
    async with serving(text) as server, server.client() as client:
        with pytest.raises(kind) as caught:
            await client.chat.completions.create(model="writer", messages=MESSAGES, stream=stream)  # type: ignore[call-overload]

    told = caught.value
    assert told.status_code == status and told.type == family and error.message in told.message
    assert told.request_id
    if name == "full":
        assert told.response.headers["retry-after"] == "4"
    if name == "invalid":
        assert told.param == "messages"


async def test_a_text_that_fails_before_its_first_token_has_a_status() -> None:
    """An engine that fails at once is a 500, even where a stream was asked for."""
    text = FakeText()
    text.fault = EngineFault("boom")
    async with serving(text) as server, server.client() as client:
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(model="writer", messages=MESSAGES, stream=stream)
        text.fault = None
        after = await client.chat.completions.create(model="writer", messages=MESSAGES)

    assert after.choices[0].message.content == "echo: a blue mug"


async def test_an_unknown_model_is_named() -> None:
    """The refusal lists what there is, under the code that clients know."""
    async with serving() as server, server.client() as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="gpt-9", messages=MESSAGES)

    assert caught.value.code == "model_not_found" and "writer" in caught.value.message
    assert caught.value.param == "model"


async def test_keys_guard_the_text_paths_in_openais_form() -> None:
    """No key and a wrong key are OpenAI's authentication error; the right one is let in, and is the tenant."""
    async with serving(api_keys=("secret",)) as server:
        async with server.client(api_key="wrong") as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                await client.chat.completions.create(model="writer", messages=MESSAGES)
        async with server.client(api_key="secret") as client:
            await client.chat.completions.create(model="writer", messages=MESSAGES, user="u1")
            await client.chat.completions.create(model="writer", messages=MESSAGES, user="u2")

    assert caught.value.code == "invalid_api_key" and caught.value.type == "authentication_error"
    first, second = (request.tenant for request in server.text.seen)
    assert first == second and first not in ("", "u1") and "secret" not in first


async def test_a_form_reaches_the_engine_as_a_constraint() -> None:
    """json_schema, json_object and the extensions become the constraint of the request."""
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    async with serving() as server, server.client() as client:
        ask = client.chat.completions.create
        form: Any = {"type": "json_schema", "json_schema": {"name": "mug", "schema": schema, "strict": True}}
        await ask(model="writer", messages=MESSAGES, response_format=form)
        await ask(model="writer", messages=MESSAGES, response_format={"type": "json_object"})
        await ask(model="writer", messages=MESSAGES, response_format={"type": "text"})
        await ask(
            model="writer", messages=MESSAGES, extra_body={"structured_outputs": {"choice": ["yes", "no"]}}
        )

    kinds = [
        (seen.constraint.kind.value, seen.constraint.text) if seen.constraint else None
        for seen in server.text.seen
    ]
    assert kinds == [
        ("json_schema", '{"type":"object","properties":{"name":{"type":"string"}}}'),
        ("json_schema", '{"type":"object"}'),
        None,
        ("choice", '["yes","no"]'),
    ]
