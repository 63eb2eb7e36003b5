"""Servers on the loopback for these tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from loopback import Answer, Background

from loadtest.client import Target


@pytest.fixture
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.stop()


@pytest.fixture
def http_server(background: Background) -> Callable[[Answer], Target]:
    """Start an HTTP server that answers each request body as the test's function says; None closes the connection."""

    def start(respond: Answer) -> Target:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    lengths = [
                        line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                    ]
                    body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
                    said = respond(head + body)
                    if said is None:
                        break
                    writer.write(said)
                    await writer.drain()
                    if b"connection: close" in said.lower():
                        break
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = background.do(asyncio.start_server(talk, "127.0.0.1", 0))

        async def close() -> None:
            server.close()

        background.closes(close)
        return Target("http", "127.0.0.1", server.sockets[0].getsockname()[1], "/v1/recommendations")

    return start
