"""Bad input to the text endpoints: a sentence with field, value, limit and what to do, in OpenAI's form, and no work done."""

from __future__ import annotations

import json
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import Code, InvalidRequest, ServeError
from server.http_api.openai.errors import TYPE
from server.http_api.openai.jobs import ChatJob, CompletionJob
from server.http_api.openapi import document
from server.http_api.product_copy.document import add_copy
from server.text_service import TextRequestLimits
from tests.server.fake_text import CONTEXT, FakeText
from tests.server.serving import post
from tests.server.text_serving import serving

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = {"role": "user", "content": "hi"}


def deep(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


# body without its messages, status, param, words of the sentence
CHAT_CASES: list[tuple[dict[str, Any] | bytes, int, str, str]] = [
    ({"messages": []}, 422, "messages", "0 entries; send 1 to"),
    ({"messages": None}, 422, "messages", "expected array"),
    ({"messages": [{"role": "king", "content": "x"}]}, 422, "messages[0].role", "'king'"),
    ({"messages": [{"role": "user"}]}, 422, "messages[0].content", "missing"),
    ({"messages": [{"role": "user", "content": 7}]}, 422, "messages[0].content", "7"),
    ({"messages": [{"content": "x"}]}, 422, "messages[0].role", "missing"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        422, "messages[0].content[0].type", "reads text only",
    ),
    ({"temperature": 3}, 422, "temperature", "3; give 0 to 2"),
    ({"temperature": "hot"}, 422, "temperature", '"hot"'),
    ({"top_p": 0}, 422, "top_p", "more than 0"),
    ({"min_p": 2}, 422, "min_p", "0 to 1"),
    ({"top_k": -5}, 422, "top_k", "-5"),
    ({"repetition_penalty": 0}, 422, "repetition_penalty", "more than 0"),
    ({"presence_penalty": -3}, 422, "presence_penalty", "-2 to 2"),
    ({"frequency_penalty": 3}, 422, "frequency_penalty", "-2 to 2"),
    ({"n": 1_000_000}, 422, "n", "1000000; give 1 to 8"),
    ({"n": 0}, 422, "n", "0; give 1"),
    ({"seed": 1 << 70}, 422, "seed", "1180591620717411303424; give"),
    ({"max_tokens": 0}, 422, "max_tokens", "1 or more"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, 422, "max_completion_tokens", "one of them"),
    ({"max_tokens": CONTEXT}, 422, "max_tokens", f"context of {CONTEXT}"),
    ({"stop": ["x"] * 10_000}, 422, "stop", "10000 entries, the limit is 16"),
    ({"stop": [""]}, 422, "stop[0]", "0 characters"),
    ({"stop": "y" * 300}, 422, "stop[0]", "300 characters"),
    ({"stop_token_ids": [-1]}, 422, "stop_token_ids", "token ids"),
    ({"logit_bias": {"cat": 1}}, 422, "logit_bias", "'cat'"),
    ({"logit_bias": {"5": 101}}, 422, "logit_bias", "-100 .. 100"),
    ({"logit_bias": {"99999": 1}}, 422, "logit_bias", "99999"),
    ({"logit_bias": {str(i): 1 for i in range(2000)}}, 422, "logit_bias", "2000 entries"),
    ({"top_logprobs": 2}, 422, "top_logprobs", "logprobs is not true"),
    ({"logprobs": True, "top_logprobs": 21}, 422, "top_logprobs", "21; give 0 to 20"),
    ({"user": "u" * 300}, 422, "user", "300 characters"),
    ({"deadline_ms": -1}, 422, "deadline_ms", "-1"),
    ({"modalities": ["audio"]}, 422, "modalities", "text only"),
    ({"reasoning_effort": "high"}, 422, "reasoning_effort", "leave it out"),
    ({"max_token": 5}, 422, "max_token", "not a field"),
    ({"functions": [{"name": "f"}]}, 422, "functions", "use tools"),
    ({"guided_json": {"type": "object"}}, 422, "guided_json", "response_format"),
    ({"response_format": {"type": "xml"}}, 422, "response_format.type", "'xml'"),
    ({"response_format": {"type": "json_schema"}}, 422, "response_format.json_schema.schema", "missing"),
    (
        {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a+"}},
        422, "structured_outputs", "2 constraints",
    ),
    ({"structured_outputs": {"regexp": "a"}}, 422, "structured_outputs.regexp", "not a field"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, 422, "tools[0].function.name", "'a b'"),
    (
        {"tools": [{"function": {"name": "f"}}, {"function": {"name": "f"}}]},
        422, "tools[1].function.name", "its own name",
    ),
    ({"tools": [{"type": "magic", "function": {"name": "f"}}]}, 422, "tools[0].type", "'magic'"),
    ({"tools": [{"function": {"name": "f"}}] * 200}, 422, "tools", "200 entries"),
    ({"tool_choice": "required"}, 422, "tool_choice", "no tools"),
    ({"tools": [{"function": {"name": "f"}}], "tool_choice": "maybe"}, 422, "tool_choice", "'maybe'"),
    (
        {"tools": [{"function": {"name": "f"}}], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        422, "tool_choice.function.name", "'g'",
    ),
    (
        {"tools": [{"function": {"name": "f"}}], "structured_outputs": {"regex": "a"}},
        422, "structured_outputs", "JSON form only",
    ),
    (b"{", 400, "body", "not valid JSON"),
    (b"[]", 422, "body", "expected object"),
    (b'{"messages": NaN}', 400, "body", "not valid JSON"),
    (b"\xff\xfe", 400, "body", "not valid JSON"),
    (b'{"messages":[{"role":"user","content":"\\ud800"}]}', 400, "body", "not valid JSON"),
    (b'{"messages":[{"role":"user","content":"x"}],"temperature":1e999}', 422, "temperature", "temperature"),
    (f'{{"messages":[{{"role":"user","content":"x"}}],"metadata":{deep(100_000)}}}'.encode(), 400, "body", "not valid JSON"),
    (
        f'{{"messages":[{{"role":"user","content":"x"}}],"response_format":{{"type":"json_schema","json_schema":'
        f'{{"schema":{deep(20_000)}}}}}}}'.encode(),
        400, "body", "not valid JSON",
    ),
]  # fmt: skip

COMPLETION_CASES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "prompt", "missing"),
    ({"prompt": ""}, "prompt", "empty"),
    ({"prompt": []}, "prompt", "empty"),
    ({"prompt": [["a"]]}, "prompt[0]", "neither"),
    ({"prompt": [{}]}, "prompt[0]", "neither"),
    ({"prompt": [5, 10**6]}, "prompt", "1000000"),
    ({"prompt": [-1]}, "prompt", "-1"),
    ({"prompt": ["x"] * 9}, "prompt", "9 entries"),
    ({"prompt": ["x", "y"], "n": 5}, "prompt", "10 texts"),
    ({"prompt": "x", "suffix": "y"}, "suffix", "leave it out"),
    ({"prompt": "x", "best_of": 3}, "best_of", "n = 1"),
    ({"prompt": "x", "echo": True, "logprobs": 1}, "echo", "leave out one"),
    ({"prompt": "x", "logprobs": 50}, "logprobs", "0 to 20"),
    ({"prompt": "x" * CONTEXT}, "prompt", f"{CONTEXT} tokens, the model's context is {CONTEXT}"),
    ({"prompt": "x" * 10, "max_tokens": CONTEXT}, "max_tokens", f"ask for at most {CONTEXT - 10}"),
]


async def test_every_wrong_field_gets_its_sentence() -> None:
    """Status, param and sentence of each case; the engine is asked nothing."""
    problems = []
    async with serving() as server, httpx.AsyncClient() as client:

        async def check(path: str, content: bytes, status: int, param: str, words: str) -> None:
            answer = await client.post(server.url + path, content=content)
            error = answer.json()["error"]
            told = (answer.status_code, error["param"], error["type"])
            if told != (status, param, "invalid_request_error") or words not in error["message"]:
                problems.append((content[:120], told, error["message"]))
            if not error["request_id"] or answer.headers["x-request-id"] != error["request_id"]:
                problems.append((content[:120], "no request id", ""))

        for given_body, status, param, words in CHAT_CASES:
            content = given_body
            if isinstance(content, dict):
                content = json.dumps({"messages": [USER], **content}).encode()
            await check(CHAT, content, status, param, words)
        for more, param, words in COMPLETION_CASES:
            await check(COMPLETIONS, json.dumps(more).encode(), 422, param, words)

    assert problems == []
    assert server.text.seen == []


async def test_refusals_of_the_connection_speak_openais_form_too() -> None:
    """A body over the limit, by its header and as it comes, and a request that does not parse."""
    async with serving(max_body_bytes=2000) as server:
        large = await server.connect()
        large.send(post(b"x" * 3000, CHAT))
        status, _, answer = await large.answer()
        chunked = await server.connect()
        chunked.send(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        chunked.send(b"bb8\r\n" + b"x" * 3000 + b"\r\n0\r\n\r\n")
        chunked_status, _, chunked_answer = await chunked.answer()
        async with httpx.AsyncClient() as client:
            wrong_method = await client.get(server.url + CHAT)
            queried = await client.post(server.url + CHAT + "?api-version=1", json={"messages": [USER]})

    for told in (answer, chunked_answer):
        error = json.loads(told)["error"]
        assert (
            error["type"] == "invalid_request_error"
            and error["limit"] == "2000 bytes"
            and error["code"] == "too_large"
        )
    assert status == chunked_status == 413
    assert wrong_method.status_code == 405 and wrong_method.json()["error"]["param"] == "method"
    assert queried.status_code == 200


async def test_a_prompt_of_a_megabyte_is_refused_with_both_numbers() -> None:
    """It is too long whatever its tokens are, and never encoded."""
    async with serving(max_body_bytes=4 << 20) as server, httpx.AsyncClient() as client:
        body = {"messages": [{"role": "user", "content": "x" * 1_000_000}]}
        answer = await client.post(server.url + CHAT, json=body)

    error = answer.json()["error"]
    assert answer.status_code == 422 and error["param"] == "messages"
    assert "1000000 characters" in error["message"] and str(CONTEXT) in error["message"]


async def test_a_template_that_refuses_is_a_sentence_and_one_that_breaks_is_ours() -> None:
    """What the template says reaches the caller; what it did not mean to say does not."""
    text = FakeText()
    async with serving(text) as server, httpx.AsyncClient() as client:
        text.codec.template_error = InvalidRequest("roles must alternate", field="messages")
        refused = await client.post(server.url + CHAT, json={"messages": [USER]})
        text.codec.template_error = ValueError("secret path")  # type: ignore[assignment]
        broken = await client.post(server.url + CHAT, json={"messages": [USER]})
        text.codec.template_error = None
        after = await client.post(server.url + CHAT, json={"messages": [USER]})

    assert refused.status_code == 422 and refused.json()["error"]["message"] == "roles must alternate"
    assert broken.status_code == 500 and "secret" not in broken.text
    assert after.status_code == 200


async def test_what_changes_nothing_is_accepted() -> None:
    """Fields of OpenAI's own books, nulls everywhere, content in parts, empty lists."""
    body = {
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "kind"}]},
            {"role": "assistant", "content": None, "refusal": None},
            USER,
        ],
        "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "temperature": None, "stop": None, "n": None,
        "tools": [], "functions": None, "parallel_tool_calls": True, "tool_choice": "auto", "logit_bias": None,
        "response_format": {"type": "text"}, "stream_options": None, "reasoning_effort": None, "modalities": ["text"],
    }  # fmt: skip
    async with serving() as server, httpx.AsyncClient() as client:
        answer = await client.post(server.url + CHAT, json=body)

    assert answer.status_code == 200
    assert b"system\nbe kind" in bytes(token for token in server.text.seen[0].prompt_ids if token < 256)


async def test_the_documents_show_the_text_endpoints() -> None:
    """Their examples can be sent as they are."""
    async with serving() as server, httpx.AsyncClient() as client:
        document = (await client.get(server.url + "/openapi.json")).json()
        statuses = []
        for path in (CHAT, COMPLETIONS):
            takes = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            statuses.append((await client.post(server.url + path, json=takes["example"])).status_code)
            assert takes["schema"]["$ref"].rsplit("/", 1)[1] in document["components"]["schemas"]

    assert statuses == [200, 200]


def test_every_code_has_a_type() -> None:
    """A new code cannot be added without deciding how OpenAI's clients see it."""
    assert set(TYPE) == set(Code)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "messages", "prompt", "model", "n", "stop", "tools", "tool_choice", "response_format", "structured_outputs", "logit_bias",
    "stream", "stream_options", "logprobs", "top_logprobs", "max_tokens", "temperature", "seed", "user", "echo", "deadline_ms",
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_no_body_makes_more_than_a_refusal(fields: dict[str, Any]) -> None:
    """Whatever JSON comes, the answer is a job or a refusal of ours."""
    for job in (ChatJob, CompletionJob):
        for defaults in ({}, {"messages": [USER], "prompt": "x"}):
            try:
                job(json.dumps({**defaults, **fields}).encode(), TextRequestLimits())
            except ServeError as error:
                assert error.code in (Code.INVALID_ARGUMENT, Code.MALFORMED)
                assert error.field and error.message


def test_no_name_of_a_schema_means_two_things() -> None:
    """The documents of all products share one list of schemas: whoever adds to it changes none of the others'."""
    everything = document("1", ("a", "b"), False, text_model="writer", products=[add_copy])
    parts = [
        document("1", ("a", "b"), False),
        document("1", None, False, text_model="writer"),
        document("1", None, False, products=[add_copy]),
    ]
    whole = everything["components"]["schemas"]

    changed = [
        name
        for part in parts
        for name, schema in part["components"]["schemas"].items()
        if whole[name] != schema
    ]
    assert changed == []
