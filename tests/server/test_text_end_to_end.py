"""``python -m server`` over a published text version with random weights: real tokenizer, engine, batcher and wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from server.artifacts.releases import Releases
from tests.server.text_published import CONTEXT, MODEL, TinyText

MUG: list[Any] = [
    {"role": "system", "content": "You write product copy for a shop that sells mugs, cups and bowls."},
    {"role": "user", "content": "a blue mug"},
]
LIMIT_S = 60.0


class Running:
    """One server process."""

    def __init__(self, process: asyncio.subprocess.Process, lines: list[str]) -> None:
        self.process = process
        told = "\n".join(lines)
        found = {name: re.search(rf"{name} +(http:[^ \n]+)", told) for name in ("HTTP", "metrics")}
        self.url = found["HTTP"].group(1) if found["HTTP"] else ""
        self.metrics_url = found["metrics"].group(1) if found["metrics"] else ""

    def client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="x", max_retries=0, timeout=LIMIT_S)


@contextlib.asynccontextmanager
async def process(repository: Path, **settings: str) -> AsyncIterator[Running]:
    """A server over a repository, until the block ends."""
    told = {
        "REPOSITORY": str(repository), "HTTP_PORT": "0", "METRICS_PORT": "0", "GRPC": "false", "TEXT_THREADS": "1",
        "RELOAD_INTERVAL_S": "0.1", "DRAIN_S": "5", **{name.upper(): value for name, value in settings.items()},
    }  # fmt: skip
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")},
        **{f"VITRINE_{name}": value for name, value in told.items()},
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert running.stdout is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            lines: list[str] = []
            while line := await running.stdout.readline():
                lines.append(line.decode())
                if "metrics" in lines[-1]:
                    break
            else:
                raise AssertionError("it did not start")
            yield Running(running, lines)
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def test_a_published_model_is_served_whole(tiny_text: TinyText) -> None:
    """Whole, streamed, seeded, several, stopped, constrained, with logprobs, counted: by one process and OpenAI's client."""
    one_pool = str(
        CONTEXT // 2
    )  # or the costs of two pools, which are noise at this size, choose where a text goes
    async with process(tiny_text.repository, text_max_context=one_pool) as server, server.client() as client:
        ask = client.chat.completions.create
        greedy: dict[str, Any] = {"model": MODEL, "messages": MUG, "temperature": 0, "max_tokens": 24}
        first = await ask(**greedy)
        again = await ask(**greedy)
        stream = await ask(**greedy, stream=True, stream_options={"include_usage": True})
        pieces = [piece async for piece in stream]
        together = await asyncio.gather(*(ask(**greedy) for _ in range(12)))
        seeded = await asyncio.gather(*(ask(**{**greedy, "temperature": 1.5}, seed=11) for _ in range(3)))
        other = await ask(**{**greedy, "temperature": 1.5}, seed=12)
        several = await ask(**{**greedy, "temperature": 1.5, "max_tokens": 8}, n=3, seed=11)
        told = await ask(**greedy, logprobs=True, top_logprobs=3)
        models = [model async for model in client.models.list()]
        async with httpx.AsyncClient() as plain:
            ready = await plain.get(f"{server.url}/readyz")
            metrics = (await plain.get(server.metrics_url)).text

    text = first.choices[0].message.content
    assert text and first.choices[0].finish_reason == "length"
    assert first.usage is not None and again.usage is not None
    assert first.usage.completion_tokens == 24 and first.usage.prompt_tokens > 4
    assert again.choices[0].message.content == text
    assert again.usage.prompt_tokens_details is not None
    assert (again.usage.prompt_tokens_details.cached_tokens or 0) > 0
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == text
    assert pieces[-1].usage is not None and pieces[-1].usage.completion_tokens == 24
    assert [answer.choices[0].message.content for answer in together] == [text] * 12
    assert len({answer.choices[0].message.content for answer in seeded}) == 1
    assert other.choices[0].message.content != seeded[0].choices[0].message.content
    assert len({choice.message.content for choice in several.choices}) == 3
    content = told.choices[0].logprobs and told.choices[0].logprobs.content
    assert content is not None and len(content) == 24
    assert bytes(byte for one in content for byte in one.bytes or []).decode("utf-8", "replace") == text
    assert all(
        one.logprob <= 0 and one.top_logprobs[0].logprob == pytest.approx(one.logprob) for one in content
    )
    assert [
        (model.id, model.model_extra and model.model_extra["limits"]["max_context"]) for model in models
    ] == [(MODEL, CONTEXT // 2)]
    assert ready.status_code == 200
    output = re.search(rf'vitrine_tokens_total{{kind="output",model="{MODEL}"}} (\S+)', metrics)
    assert output is not None and float(output.group(1)) >= 24 * 19
    assert re.search(rf'vitrine_time_to_first_token_seconds_count{{model="{MODEL}"}} 2\d', metrics)
    assert re.search(rf'vitrine_prefix_hit_tokens_total{{model="{MODEL}"}} [1-9]', metrics)


async def test_stops_and_forms_hold_on_random_weights(tiny_text: TinyText) -> None:
    """A stop string is met and not shown; choices, regular expressions, schemas and tools hold whatever the weights say."""
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "hot": {"type": "boolean"}},
        "required": ["colour", "hot"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "paint", "parameters": schema}}
    async with process(tiny_text.repository) as server, server.client() as client:
        ask = client.chat.completions.create
        plain: dict[str, Any] = {"model": MODEL, "messages": MUG, "seed": 1, "max_tokens": 200}
        free = await ask(**{**plain, "max_tokens": 24})
        said = free.choices[0].message.content or ""
        stop = said[len(said) // 2 : len(said) // 2 + 3]
        stopped = await ask(**{**plain, "max_tokens": 24}, stop=[stop])
        choice = await ask(**plain, extra_body={"structured_outputs": {"choice": ["red", "blue"]}})
        regex = await ask(**plain, extra_body={"structured_outputs": {"regex": "[0-9]{3} ml"}})
        form: Any = {"type": "json_schema", "json_schema": {"name": "mug", "schema": schema}}
        shaped = await ask(**plain, response_format=form)
        called = await ask(**plain, tools=[tool], tool_choice="required", parallel_tool_calls=False)  # type: ignore[list-item]
        bomb: Any = {
            "type": "json_schema",
            "json_schema": {"name": "b", "schema": {"type": "array", "maxItems": 10**9, "minItems": 10**9}},
        }
        with contextlib.suppress(openai.APIStatusError):
            await ask(**plain, response_format=bomb)
        with pytest.raises(openai.UnprocessableEntityError) as wrong:
            await ask(
                **plain,
                response_format={"type": "json_schema", "json_schema": {"name": "b", "schema": {"type": 7}}},
            )
        after = await ask(**{**plain, "max_tokens": 24})

    shown = stopped.choices[0].message.content or ""
    assert stop not in shown and said.startswith(shown) and stopped.choices[0].finish_reason == "stop"
    assert choice.choices[0].message.content in ("red", "blue") and choice.choices[0].finish_reason == "stop"
    assert re.fullmatch("[0-9]{3} ml", regex.choices[0].message.content or "")
    assert set(json.loads(shaped.choices[0].message.content or "")) == {"colour", "hot"}
    calls: Any = called.choices[0].message.tool_calls
    assert called.choices[0].finish_reason == "tool_calls" and calls[0].function.name == "paint"
    assert json.loads(calls[0].function.arguments)["colour"] in ("red", "blue")
    assert wrong.value.type == "invalid_request_error" and wrong.value.message
    assert after.choices[0].message.content == said


async def test_what_does_not_fit_is_refused_with_both_numbers(tiny_text: TinyText) -> None:
    """A prompt over the context, and an answer that would run over it, say their numbers; the rest goes to the end."""
    async with process(tiny_text.repository) as server, server.client() as client:
        ask = client.completions.create
        with pytest.raises(openai.UnprocessableEntityError) as long:
            await ask(model=MODEL, prompt="\x01" * (2 * CONTEXT))
        with pytest.raises(openai.UnprocessableEntityError) as much:
            await ask(model=MODEL, prompt="a mug", max_tokens=CONTEXT)
        full = await client.chat.completions.create(
            model=MODEL, messages=MUG, temperature=0, extra_body={"ignore_eos": True}
        )

    assert re.search(rf"has \d+ tokens, the model's context is {CONTEXT}", long.value.message)
    assert f"max_tokens is {CONTEXT}" in much.value.message and "ask for at most" in much.value.message
    assert full.usage is not None and full.usage.total_tokens == CONTEXT
    assert full.choices[0].finish_reason == "length"


async def test_fifty_streams_of_which_a_third_is_cancelled(tiny_text: TinyText) -> None:
    """Those who stay get the text that they get alone; afterwards no slot is in use and nothing waits."""
    async with (
        process(tiny_text.repository, text_first_token_ms="600000") as server,
        server.client() as client,
    ):

        async def read(number: int) -> str | None:
            stream = await client.chat.completions.create(
                model=MODEL, messages=MUG, stream=True, seed=number % 5, max_tokens=40
            )
            said = ""
            async for piece in stream:
                said += piece.choices[0].delta.content or ""
                if number % 3 == 0 and len(said) > 8:
                    await stream.close()
                    return None
            return said

        alone = await read(1)
        said = await asyncio.gather(*(read(number) for number in range(50)))
        seeds: dict[int, set[str]] = {}
        for number, one in enumerate(said):
            if one is not None:
                seeds.setdefault(number % 5, set()).add(one)
        async with httpx.AsyncClient() as plain:
            while True:
                metrics = (await plain.get(server.metrics_url)).text
                if "vitrine_text_in_flight 0.0" in metrics:
                    break

    assert all((one is None) == (number % 3 == 0) for number, one in enumerate(said))
    assert all(len(texts) == 1 for texts in seeds.values()) and seeds[1] == {alone}
    assert re.search(rf'vitrine_kv_slots_in_use{{model="{MODEL}"}} 0.0', metrics)
    assert re.search(rf'vitrine_texts_waiting{{model="{MODEL}"}} 0.0', metrics)


async def test_a_new_version_takes_over_while_texts_are_written(tiny_text: TinyText, tmp_path: Path) -> None:
    """A stream that was begun with version 1 ends as it would have; texts after the swap are of version 2."""
    repository = tmp_path / "repository"
    shutil.copytree(tiny_text.repository, repository)
    async with process(repository) as server, server.client() as client:
        ask = client.chat.completions.create
        long: dict[str, Any] = {
            "model": MODEL,
            "messages": MUG,
            "temperature": 0,
            "extra_body": {"ignore_eos": True},
        }
        alone = await ask(**long, max_tokens=400)
        stream = await ask(**long, max_tokens=400, stream=True)
        said = [(await anext(stream)).choices[0].delta.content or ""]
        await asyncio.to_thread(Releases(repository=repository).publish, tiny_text.staging, MODEL)
        said += [piece.choices[0].delta.content or "" async for piece in stream]
        async with httpx.AsyncClient() as plain:
            while (await plain.get(f"{server.url}/v1/models/{MODEL}")).json()["version"] != "2":
                await asyncio.sleep(0.02)
        after = await ask(**long, max_tokens=5)

    assert "".join(said) == alone.choices[0].message.content
    assert after.system_fingerprint == f"{MODEL}:2:onnxruntime:fp32"


async def test_sigterm_ends_a_long_text_with_the_error_event(tiny_text: TinyText) -> None:
    """A stream that outlasts the drain limit says so, and the process ends with status 0."""
    async with process(tiny_text.repository, drain_s="0.2") as server, server.client() as client:
        streams = [
            await client.completions.create(
                model=MODEL, prompt="a mug", max_tokens=490, stream=True, extra_body={"ignore_eos": True}
            )
            for _ in range(6)
        ]
        server.process.send_signal(signal.SIGTERM)

        async def read(stream: Any) -> str:
            try:
                async for _ in stream:
                    pass
            except openai.APIError as error:
                return error.message
            return "whole"

        ends = await asyncio.gather(*map(read, streams))
        code = await server.process.wait()

    assert code == 0
    assert all(end == "whole" or "stop" in end for end in ends)


async def test_another_vitrine_writes_the_same_text(tiny_text: TinyText, tmp_path: Path) -> None:
    """A server whose texts are written by a second one gives its text, its form, its usage and its refusals."""
    async with (
        process(tiny_text.repository) as there,
        there.client() as direct,
        process(tmp_path, text_engine="upstream", text_upstream_url=f"{there.url}/v1") as here,
        here.client() as client,
    ):
        greedy: dict[str, Any] = {"model": MODEL, "messages": MUG, "temperature": 0, "max_tokens": 24}
        wanted = await direct.chat.completions.create(**greedy)
        given = await client.chat.completions.create(**greedy)
        stream = await client.chat.completions.create(**greedy, stream=True)
        streamed = [piece.choices[0].delta.content or "" async for piece in stream]
        shaped = await client.chat.completions.create(
            **{**greedy, "max_tokens": 200},
            extra_body={"structured_outputs": {"choice": ["red", "blue"]}},
        )
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            await client.chat.completions.create(
                **{**greedy, "messages": [{"role": "user", "content": "x" * 9000}]}
            )

    assert wanted.usage is not None and given.usage is not None
    assert given.choices[0].message.content == wanted.choices[0].message.content == "".join(streamed)
    assert given.usage.completion_tokens == 24 and given.usage.prompt_tokens == wanted.usage.prompt_tokens
    assert shaped.choices[0].message.content in ("red", "blue")
    assert given.system_fingerprint == f"{MODEL}:1:upstream:unknown"
    assert f"context is {CONTEXT}" in refused.value.message
