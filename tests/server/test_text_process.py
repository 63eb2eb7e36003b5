"""``python -m server`` as a process of its own, told to stop while texts are on their way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tests.server.serving import until
from tests.server.text_serving import MESSAGES, TextServing, serving


@contextlib.asynccontextmanager
async def process(
    there: TextServing, repository: Path, drain_s: float
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A server whose texts are written by ``there``; its base URL."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")},
        "VITRINE_TEXT_ENGINE": "upstream",
        "VITRINE_TEXT_UPSTREAM_URL": f"{there.url}/v1",
        "VITRINE_REPOSITORY": str(repository),
        "VITRINE_HTTP_PORT": "0",
        "VITRINE_METRICS_PORT": "0",
        "VITRINE_GRPC": "false",
        "VITRINE_DRAIN_S": str(drain_s),
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server", stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert running.stdout is not None
    try:
        while found := await running.stdout.readline():
            match = re.search(rb"HTTP +(http:[^ ]+)", found)
            if match:
                yield running, match.group(1).decode()
                return
        raise AssertionError("it did not start")
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def test_sigterm_lets_a_stream_finish_within_the_limit(tmp_path: Path) -> None:
    """The stream is read to its end, new texts are refused meanwhile, and the process ends well."""
    async with serving() as there, process(there, tmp_path, 10.0) as (running, url):
        there.text.hold_after = 4
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            stream = await client.chat.completions.create(model="writer", messages=MESSAGES, stream=True)
            await until(lambda: len(there.text.live) == 1)
            running.send_signal(signal.SIGTERM)
            refused = None
            while refused is None:
                try:
                    late = await client.chat.completions.create(
                        model="writer", messages=MESSAGES, stream=True
                    )
                    await late.close()
                except openai.InternalServerError as error:
                    refused = error
            there.text.go_on()
            said = "".join([piece.choices[0].delta.content or "" async for piece in stream])
        code = await running.wait()

    assert said == "echo: a blue mug" and refused.status_code == 503
    assert code == 0


async def test_sigterm_ends_what_takes_longer_with_the_error_event(tmp_path: Path) -> None:
    """After the limit the stream says why it ends; the process ends well, and the other server's text is let go."""
    async with serving() as there, process(there, tmp_path, 0.2) as (running, url):
        there.text.hold_after = 4
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            stream = await client.chat.completions.create(model="writer", messages=MESSAGES, stream=True)
            said = ""
            with pytest.raises(openai.APIError) as caught:
                async for piece in stream:
                    said += piece.choices[0].delta.content or ""
                    if said == "echo":
                        running.send_signal(signal.SIGTERM)
        code = await running.wait()
        await until(lambda: not there.text.live)

    assert said == "echo" and "stopping" in caught.value.message
    assert code == 0
